"""The thread that owns PyTorch and runs the jobs of all sessions in the order in which they come."""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ivos.app.messages import pack_labels
from ivos.app.pixels import merge_annotation, protect
from ivos.app.prompts import Kinds, prompts_of, within_boxes
from ivos.app.workspace import Workspace
from ivos.interaction import Stroke
from ivos.interaction.clicks import understood_prompts
from ivos.runtime.errors import UserError, is_out_of_memory

if TYPE_CHECKING:
    from ivos.engine import Segmenter  # imports PyTorch, which this module must not

log = logging.getLogger(__name__)

Labels = NDArray[np.uint8]
Post = Callable[[str, dict[str, Any]], None]
_NO_MORE: tuple[int, Labels | None] = (-1, None)
_OPTIONAL = ("propagate", "planned", "preview", "adopt", "undo", "add_object", "confidence")
"""Methods of a live segmenter that others may lack; start and interact are what every segmenter has."""
_UNWRITTEN = 16  # masks that may wait for the disk before the network does


@dataclass(frozen=True)
class CompletedRound:
    """A round that the segmenter has to have run before a job."""

    number: int
    frame: int
    strokes: tuple[Stroke, ...]
    num_objects: int
    reach: tuple[int, int] | None = None
    adopted: bool = False  # the network was given the mask of its frame, which is on disk
    guarded: frozenset[int] = frozenset()  # frames whose masks on disk are not only the network's
    merged: bool = False  # nor is that of its own frame, though the network has not been given it


@dataclass(eq=False)
class Job:
    """A task for a workspace, on the part of the video that has `frame`.

    ``restore`` runs the rounds of `history` in the segmenter. ``preview`` does so and then computes the mask
    of the strokes' frame. ``propagate`` does so and then runs the strokes as the round `number`.
    `guards` has, by frames, the round that a frame shows and the objects that are locked on it.
    """

    kind: Literal["restore", "preview", "propagate"]
    workspace: Workspace
    history: tuple[CompletedRound, ...]
    num_objects: int
    frame: int = 0
    strokes: tuple[Stroke, ...] = ()
    number: int = 0
    current: Labels | None = None  # the labels that the strokes' frame shows
    locked: tuple[int, ...] = ()  # objects that are locked on it
    adopt: bool = False  # start from `current`, which the user has drawn or imported
    limits: tuple[int, int] | None = None  # propagate no further
    differing: int = 0  # pixels that a restore has found to differ so far
    alone: bool = False  # the other frames are not there yet
    adopted: bool = False  # whether the network was given the mask of the frame
    merged: bool = False  # whether the frame's mask on disk is not the network's own
    guards: dict[int, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    guarded: frozenset[int] = frozenset()  # all frames with locked objects, as the round's event has them
    written: tuple[int, int] | None = None  # first and last frame that a continued round has masks of
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass
class _Live:
    """A segmenter with the video that it works on and the rounds that it has run."""

    segmenter: Any
    num_objects: int
    low: int = 0  # the first frame of its part of the video
    applied: list[CompletedRound] = field(default_factory=list)
    verbs: frozenset[str] = field(init=False)  # the methods of _OPTIONAL that the segmenter has

    def __post_init__(self) -> None:
        self.verbs = frozenset(name for name in _OPTIONAL if hasattr(self.segmenter, name))

    def preview(self, frame: int, strokes: Sequence[Stroke]) -> Labels:
        """Return the labels that the segmenter alone gives to a frame with these strokes."""
        prompts = prompts_of(strokes, self.kinds)
        return np.asarray(self.segmenter.preview(frame - self.low, prompts), np.uint8)

    def steps(
        self, frame: int, strokes: Sequence[Stroke], reach: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, Labels]]:
        """Run a round frame by frame, or all frames at once where the segmenter cannot do that."""
        low, prompts = self.low, prompts_of(strokes, self.kinds)
        within = None if reach is None else (reach[0] - low, reach[1] - low)
        if "propagate" in self.verbs:
            return self._moved(self.segmenter.propagate(frame - low, prompts, within))
        masks = self.segmenter.interact(frame - low, prompts)
        first, last = within or (0, len(masks) - 1)
        order = sorted(range(first, last + 1), key=lambda t: abs(t + low - frame))
        return iter([(t + low, np.asarray(masks[t], np.uint8)) for t in order])

    def _moved(self, steps: Iterator[tuple[int, Labels]]) -> Iterator[tuple[int, Labels]]:
        try:
            for frame, labels in steps:
                yield frame + self.low, labels
        finally:
            close = getattr(steps, "close", None)
            if close is not None:
                close()

    def planned(self, job: Job) -> tuple[int, int]:
        """Return the first and the last frame that a job's round goes to."""
        low, high = job.workspace.part(job.frame)
        if "planned" in self.verbs:
            first, last = self.segmenter.planned(job.frame - self.low)
            low, high = first + self.low, last + self.low
        return (low, high) if job.limits is None else (max(low, job.limits[0]), min(high, job.limits[1]))

    def confidence(self, reach: tuple[int, int]) -> list[float] | None:
        """Return the confidence in [0, 1] of the frames of a reach; None where the segmenter has none."""
        if "confidence" not in self.verbs:
            return None
        found = self.segmenter.confidence()[reach[0] - self.low : reach[1] + 1 - self.low]
        return [round(float(value), 3) for value in found]

    @property
    def kinds(self) -> Kinds:
        """The kinds of prompts that the segmenter takes."""
        return understood_prompts(self.segmenter)


class Worker:
    """A thread that runs jobs on a few segmenters.

    It calls `post(name of the workspace, report)` from its own threads; a report is a dictionary with a
    `type`: ``restored``, ``preview``, ``planned``, ``mask``, ``end``, ``failed``.

    Args:
        make: makes a segmenter; it is called in the worker's thread, so that it may import PyTorch.
        post: receives the reports.
        live: the number of segmenters kept at once. Each keeps the features of its video; a segmenter that
            was dropped is made again by running its rounds again.
    """

    def __init__(self, make: "Callable[[], Segmenter]", post: Post, live: int = 2) -> None:
        self._make, self._post, self._most = make, post, live
        self._jobs: deque[Job] = deque()
        self._wake = threading.Condition()
        self._ending = False
        self._live: OrderedDict[tuple[str, int], _Live] = OrderedDict()  # by name and first frame
        self._early: tuple[str, int, _Live] | None = None  # a frame of a video that is being decoded
        self._running: Job | None = None
        self._writers = ThreadPoolExecutor(4, "masks")  # they wait for the disk, all at once
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._started = False

    def start(self) -> None:
        """Start the thread; jobs that were submitted before wait for it."""
        if not self._started:
            self._started = True
            self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; a preview replaces an older one of the same workspace that is still waiting."""
        with self._wake:
            if job.kind == "preview":
                self._drop(job.workspace.name, "preview")
            running = self._running
            if running is not None and running.kind == "restore" and running.workspace is not job.workspace:
                running.stop.set()  # it goes on when the others are done
            self._jobs.append(job)
            self._wake.notify()

    def cancel_preview(self, name: str) -> None:
        """Drop a preview that is still waiting."""
        with self._wake:
            self._drop(name, "preview")

    def stop(self, name: str) -> None:
        """Stop the round of a workspace after the frame that is being computed."""
        with self._wake:
            for job in [self._running, *self._jobs]:
                if job is not None and job.workspace.name == name and job.kind == "propagate":
                    job.stop.set()

    def end(self, timeout: float = 5) -> None:
        """Stop all jobs and end the thread."""
        with self._wake:
            self._ending = True
            self._jobs.clear()
            if self._running is not None:
                self._running.stop.set()
            self._wake.notify()
        if self._started:
            self._thread.join(timeout)

    def _drop(self, name: str, kind: str) -> None:
        self._jobs = deque(job for job in self._jobs if not (job.kind == kind and job.workspace.name == name))

    def _run(self) -> None:
        while True:
            with self._wake:
                self._running = None
                self._wake.wait_for(lambda: self._jobs or self._ending)
                if self._ending:
                    return
                job = self._running = self._jobs.popleft()
            try:
                getattr(self, f"_{job.kind}")(job)
            except Exception as error:  # the page shows any error, and the thread continues
                self._drop_live(job.workspace.name)  # its state is unknown; its rounds are run again
                if not isinstance(error, (UserError, OSError)) and not is_out_of_memory(error):
                    log.exception("%s of %s failed", job.kind, job.workspace.name)
                self._report(job, "failed", failed=job.kind, message=one_line(error))
                _free()

    def _report(self, job: Job, kind: str, **content: Any) -> None:
        self._post(job.workspace.name, {"type": kind, "round": job.number, **content})

    def _drop_live(self, name: str) -> None:
        self._early = None
        for key in [key for key in self._live if key[0] == name]:
            del self._live[key]

    # Jobs

    def _restore(self, job: Job) -> None:
        begin = time.perf_counter()
        live, differing = self._bring_up(job)
        job.differing += differing
        if job.stop.is_set():
            job.stop.clear()
            self.submit(job)
            return
        differing = job.differing
        seconds = time.perf_counter() - begin
        about = {"can_preview": "preview" in live.verbs, "prompts": sorted(live.kinds)}
        self._report(job, "restored", differing=differing, seconds=seconds, **about)

    def _preview(self, job: Job) -> None:
        live = self._alone(job) if job.alone else self._bring_up(job)[0]
        data, seconds = b"", 0.0
        if "preview" in live.verbs and job.strokes:
            begin = time.perf_counter()
            data = pack_labels(_merge(job, live.kinds, live.preview(job.frame, job.strokes)))
            seconds = time.perf_counter() - begin
        self._report(job, "preview", frame=job.frame, data=data, seconds=seconds)

    def _propagate(self, job: Job) -> None:
        live, _ = self._bring_up(job)
        begin = time.perf_counter()
        planned = live.planned(job)
        steps, annotation = self._annotate(job, live, None if job.limits is None else planned)
        announced = self._announce(job, planned)
        writing: deque[Future[None]] = deque()
        reached: set[int] = set()
        complete = True
        network = 0.0
        try:
            while True:
                asked = time.perf_counter()
                frame, labels = next(steps, _NO_MORE)
                network += time.perf_counter() - asked
                if labels is None:
                    break
                reached.add(frame)
                labels = self._guarded(job, live.kinds, frame, labels, annotation)
                if frame == job.frame and annotation is None:
                    annotation = labels
                    if job.merged != announced:
                        self._announce(job, planned)
                before = writing[-1] if writing else None
                writing.append(self._writers.submit(self._keep, job, frame, labels.copy(), before))
                while len(writing) > _UNWRITTEN or (writing and writing[0].done()):
                    writing.popleft().result()
                if job.stop.is_set() and len(reached) < planned[1] - planned[0] + 1:
                    complete = False
                    break
        finally:
            close = getattr(steps, "close", None)
            if close is not None:
                close()
            wait(writing)  # masks are reported before the end of their round
        for future in writing:
            future.result()
        reach = min(reached), max(reached)
        past = CompletedRound(
            job.number,
            job.frame,
            job.strokes,
            job.num_objects,
            None if complete and job.limits is None else reach,
            job.adopted,
            job.guarded,
            job.merged,
        )
        live.applied.append(past)
        seconds = time.perf_counter() - begin
        sure = live.confidence(reach)
        report = {"lo": reach[0], "hi": reach[1], "complete": complete, "confidence": sure}
        report |= {"adopted": job.adopted, "merged": job.merged}
        self._report(job, "end", **report, seconds=seconds, network_seconds=network)

    def _announce(self, job: Job, planned: tuple[int, int]) -> bool:
        """Report how a round begins, and wait until that is recorded, before its first mask is on disk.

        A server that is killed later knows then which masks the network did not make alone.

        Returns:
            Whether the mask of the annotated frame was said not to be the network's own.
        """
        recorded = threading.Event()
        content = {"planned": planned, "adopted": job.adopted, "merged": job.merged, "recorded": recorded}
        self._report(job, "planned", **content)
        while not recorded.wait(0.1) and not self._ending:
            pass
        return job.merged

    def _annotate(
        self, job: Job, live: _Live, reach: tuple[int, int] | None
    ) -> tuple[Iterator[tuple[int, Labels]], Labels | None]:
        """Begin a round from its strokes, from the mask that the user has drawn, or from both.

        Returns:
            The frames with their labels as they are made, and the mask of the annotated frame if it is not
            the network's own.

        Raises:
            UserError: there are no strokes, and the segmenter cannot continue from a mask.
        """
        wanted = job.current if job.adopt and not job.strokes else None
        if job.strokes and job.current is not None and "preview" in live.verbs:
            network = live.preview(job.frame, job.strokes)
            merged = _merge(job, live.kinds, network)
            job.merged = bool((merged != network).any())
            if (_merge(job, live.kinds, network, cover=False) == network).all():
                # Only pixels under strokes differ.
                return live.steps(job.frame, job.strokes, reach), merged if job.merged else None
            wanted = merged
        if wanted is None:
            return live.steps(job.frame, job.strokes, reach), None
        job.adopted = True
        return self._from_mask(live, job.frame, job.strokes, wanted, reach), wanted

    def _from_mask(
        self,
        live: _Live,
        frame: int,
        strokes: Sequence[Stroke],
        labels: Labels,
        reach: tuple[int, int] | None,
    ) -> Iterator[tuple[int, Labels]]:
        """Propagate a frame's labels; without ``adopt`` the strokes are propagated in their place."""
        if "adopt" in live.verbs:
            live.segmenter.adopt(frame - live.low, labels)
            return live.steps(frame, (), reach)
        if not strokes:
            raise UserError("this segmenter cannot continue from a mask; draw a stroke on the frame, too")
        return live.steps(frame, strokes, reach)

    def _guarded(
        self, job: Job, kinds: Kinds, frame: int, labels: Labels, annotation: Labels | None
    ) -> Labels:
        """Return the labels of a frame with locked objects and with the user's own mask."""
        if frame == job.frame:
            if annotation is not None:
                return annotation
            merged = _merge(job, kinds, labels) if job.strokes else labels
            job.merged = job.merged or bool((merged != labels).any())
            return merged
        if frame in job.guards:
            shown, locked = job.guards[frame]
            return protect(job.workspace.read_mask(shown, frame), labels, locked)
        return labels

    def _keep(self, job: Job, frame: int, labels: Labels, before: "Future[None] | None") -> None:
        """Write a mask to disk, then report it, in the order in which the network made the masks."""
        if job.written is not None and job.written[0] <= frame <= job.written[1]:
            labels = job.workspace.read_mask(job.number, frame)  # the round is continued
        else:
            job.workspace.write_mask(job.number, frame, labels)
        data = pack_labels(labels)
        if before is not None:
            before.result()
        self._report(job, "mask", frame=frame, data=data)

    # Engines

    def _bring_up(self, job: Job) -> tuple[_Live, int]:
        """Bring the workspace's segmenter to the state after the job's history.

        Returns:
            The segmenter, and the number of pixels in which masks that were made again differ from those on
            disk.
        """
        first, last = job.workspace.part(job.frame)
        history = [past for past in job.history if first <= past.frame <= last]
        live = self._open(job, history)
        common = 0
        while common < min(len(live.applied), len(history)) and live.applied[common] == history[common]:
            common += 1
        extra = len(live.applied) - common
        if extra and "undo" in live.verbs:
            for _ in range(extra):
                undone = live.applied.pop()
                for _ in range(2 if undone.adopted and "adopt" in live.verbs else 1):
                    live.segmenter.undo()  # adopting a mask counts as a round of its own
        elif extra:
            live = self._begin(job, live.segmenter, history)
            common = 0
        differing = 0
        for done, past in enumerate(history[common:], start=common):
            if job.kind == "restore":
                if job.stop.is_set():
                    return live, differing
                self._report(job, "restoring", done=done, total=len(history))
            differing += self._replay(job, live, past)
        self._grow(job, live, job.num_objects)
        return live, differing

    def _open(self, job: Job, history: Sequence[CompletedRound]) -> _Live:
        self._early = None
        key = job.workspace.name, job.workspace.part(job.frame)[0]
        if key in self._live:
            self._live.move_to_end(key)
            return self._live[key]
        while len(self._live) >= self._most:
            self._live.popitem(last=False)
            _free()
        return self._begin(job, self._make(), history)

    def _begin(self, job: Job, segmenter: "Segmenter", history: Sequence[CompletedRound]) -> _Live:
        """Start a video; a segmenter that can add objects later begins with those of the first round."""
        part = job.workspace.part(job.frame)
        live = _Live(segmenter, job.num_objects, part[0])
        if history and "add_object" in live.verbs:
            live.num_objects = history[0].num_objects
        live.num_objects = max(live.num_objects, 1)
        segmenter.start(job.workspace.read_frames(part), live.num_objects)
        self._live[job.workspace.name, part[0]] = live
        return live

    def _alone(self, job: Job) -> _Live:
        """Return a segmenter of a video of one frame, for previews while the others are being decoded."""
        name, frame = job.workspace.name, job.frame
        if self._early is None or self._early[:2] != (name, frame):
            segmenter = self._make() if self._early is None else self._early[2].segmenter
            segmenter.start(job.workspace.read_frame(frame)[None], job.num_objects)
            self._early = name, frame, _Live(segmenter, job.num_objects, frame)
        elif self._early[2].num_objects < job.num_objects:
            self._early[2].segmenter.start(job.workspace.read_frame(frame)[None], job.num_objects)
            self._early[2].num_objects = job.num_objects
        return self._early[2]

    def _grow(self, job: Job, live: _Live, num_objects: int) -> None:
        """Add objects until the segmenter has as many as given."""
        if num_objects <= live.num_objects:
            return
        if "add_object" not in live.verbs:
            part = job.workspace.part(job.frame)
            live.segmenter.start(job.workspace.read_frames(part), num_objects)
            behind, live.applied, live.num_objects = live.applied, [], num_objects
            for past in behind:
                self._replay(job, live, past)
            return
        while live.num_objects < num_objects:
            live.segmenter.add_object()
            live.num_objects += 1

    def _replay(self, job: Job, live: _Live, past: CompletedRound) -> int:
        """Run a round again as far as it went, and count the pixels that differ from its masks on disk."""
        self._grow(job, live, past.num_objects)
        differing = 0
        if past.adopted:
            labels = job.workspace.read_mask(past.number, past.frame)
            steps = self._from_mask(live, past.frame, past.strokes, labels, past.reach)
        else:
            steps = live.steps(past.frame, past.strokes, past.reach)
        for frame, labels in steps:
            own = (past.adopted or past.merged) and frame == past.frame
            if frame not in past.guarded and not own:
                differing += job.workspace.differing(labels, past.number, frame)
        live.applied.append(past)
        return differing


def _merge(job: Job, kinds: Kinds, network: Labels, cover: bool = True) -> Labels:
    """Return what a frame's mask becomes by new strokes; see :func:`ivos.app.pixels.merge_annotation`."""
    if job.current is None:
        return network
    if "boxes" not in kinds:
        network = within_boxes(network, job.current, job.strokes)
    return merge_annotation(job.current, network, job.strokes, job.locked, cover)


def one_line(error: BaseException) -> str:
    """Return an error as one line that names the remedy."""
    if is_out_of_memory(error):
        return (
            "out of memory; the round stands where it was. Close other programs, or use "
            "segmenter.device_cache_gib=1 or smaller frames"
        )
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'disk'}: {error.strerror}; nothing is lost, mend it and try again"
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}; the server's log has the rest"


def _free() -> None:
    """Return the memory of a dropped segmenter to the system."""
    import gc
    import sys

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
