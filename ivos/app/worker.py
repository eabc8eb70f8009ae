"""The worker: a thread that runs the network's jobs of all sessions in the order of submission."""

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
"""Optional methods of a segmenter; only ``start`` and ``interact`` are required."""
_UNWRITTEN = 16  # most masks that may wait to be written before the network has to wait


@dataclass(frozen=True)
class CompletedRound:
    """A round that the segmenter must have run before a job."""

    number: int
    frame: int
    strokes: tuple[Stroke, ...]
    num_objects: int
    reach: tuple[int, int] | None = None
    adopted: bool = (
        False  # whether the network started from the mask of the annotated frame, which is on disk
    )
    guarded: frozenset[int] = frozenset()  # frames with locked objects, whose masks on disk differ for them
    # Whether the mask of the annotated frame on disk differs from the network's own result, although the
    # network was not given this mask.
    merged: bool = False


@dataclass(eq=False)
class Job:
    """A task for a workspace, on the part of the video that contains `frame`.

    A job of any kind first runs those rounds of `history` in the segmenter that it has not run yet. A job of
    kind ``restore`` does nothing else. A job of kind ``preview`` then computes the mask of `frame` for the
    strokes. A job of kind ``propagate`` then runs the strokes as the round `number`.
    """

    kind: Literal["restore", "preview", "propagate"]
    workspace: Workspace
    history: tuple[CompletedRound, ...]
    num_objects: int
    frame: int = 0
    strokes: tuple[Stroke, ...] = ()
    number: int = 0
    current: Labels | None = None  # the labels that `frame` shows
    locked: tuple[int, ...] = ()  # objects that are locked on `frame`
    adopt: bool = False  # whether to start from `current`, which the user has drawn or imported
    limits: tuple[int, int] | None = None  # first and last frame to which to propagate
    differing: int = 0  # number of pixels in which recomputed masks differ from those on disk so far
    alone: bool = False  # whether `frame` is processed as a video of one frame, while the others are decoded
    adopted: bool = False  # whether the network was given the mask of `frame`
    merged: bool = False  # whether the mask of `frame` on disk differs from the network's own result
    # For each frame with locked objects, the round that it shows and the numbers of these objects.
    guards: dict[int, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    guarded: frozenset[int] = frozenset()  # all frames with locked objects, as recorded for the round
    written: tuple[int, int] | None = None  # first and last frame with a mask of the continued round
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass
class _Live:
    """A segmenter in memory, with the part of the video and the rounds that it has processed."""

    segmenter: Any
    num_objects: int
    low: int = 0  # the first frame of its part of the video
    applied: list[CompletedRound] = field(default_factory=list)
    verbs: frozenset[str] = field(init=False)  # the methods of _OPTIONAL that the segmenter has

    def __post_init__(self) -> None:
        self.verbs = frozenset(name for name in _OPTIONAL if hasattr(self.segmenter, name))

    def preview(self, frame: int, strokes: Sequence[Stroke]) -> Labels:
        """Return the labels that the segmenter computes for a frame from strokes."""
        prompts = prompts_of(strokes, self.kinds)
        return np.asarray(self.segmenter.preview(frame - self.low, prompts), np.uint8)

    def steps(
        self, frame: int, strokes: Sequence[Stroke], reach: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, Labels]]:
        """Run a round and yield the labels of each frame.

        The segmenter computes frame by frame if it has the method ``propagate``, else all frames at once.
        """
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
        """Return the first and the last frame to which the round of a job will be propagated."""
        low, high = job.workspace.part(job.frame)
        if "planned" in self.verbs:
            first, last = self.segmenter.planned(job.frame - self.low)
            low, high = first + self.low, last + self.low
        return (low, high) if job.limits is None else (max(low, job.limits[0]), min(high, job.limits[1]))

    def confidence(self, reach: tuple[int, int]) -> list[float] | None:
        """Return the confidence in [0, 1] of each frame of a reach.

        The function returns None if the segmenter does not estimate confidences.
        """
        if "confidence" not in self.verbs:
            return None
        found = self.segmenter.confidence()[reach[0] - self.low : reach[1] + 1 - self.low]
        return [round(float(value), 3) for value in found]

    @property
    def kinds(self) -> Kinds:
        """The kinds of prompts that the segmenter accepts."""
        return understood_prompts(self.segmenter)


class Worker:
    """A thread that runs jobs on a small number of segmenters.

    Args:
        make: Function that creates a segmenter. It is called in the worker's thread, so that it may import
            PyTorch.
        post: Function that receives the name of a workspace and a report about its job. A report is a
            dictionary whose `type` is ``restoring``, ``restored``, ``preview``, ``planned``, ``mask``,
            ``end`` or ``failed``. The function is called from the worker's own threads.
        live: Largest number of segmenters that are kept at the same time. Each keeps the features of its
            video. A segmenter that was dropped is created again when needed, and runs its rounds again.
    """

    def __init__(self, make: "Callable[[], Segmenter]", post: Post, live: int = 2) -> None:
        self._make, self._post, self._most = make, post, live
        self._jobs: deque[Job] = deque()
        self._wake = threading.Condition()
        self._ending = False
        # Segmenters by the name of the workspace and the first frame of their part of the video.
        self._live: OrderedDict[tuple[str, int], _Live] = OrderedDict()
        # Workspace, frame and segmenter of the preview of a video that is still being decoded.
        self._early: tuple[str, int, _Live] | None = None
        self._running: Job | None = None
        self._writers = ThreadPoolExecutor(4, "masks")  # several threads, because each waits for the disk
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._started = False

    def start(self) -> None:
        """Start the thread, which then runs the jobs that were submitted before."""
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
                running.stop.set()  # interrupt the restore; it is submitted again after the waiting jobs
            self._jobs.append(job)
            self._wake.notify()

    def cancel_preview(self, name: str) -> None:
        """Remove the preview of a workspace from the queue."""
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
                self._drop_live(job.workspace.name)  # drop the segmenter, whose state is unknown
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
        """Report how a round begins, and wait until this is recorded in the journal.

        This happens before the first mask of the round is written, so that a server that restarts after a
        kill knows which masks are not the network's own results.

        Returns:
            The reported value of ``merged``.
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
            An iterator over the frames and their labels as the network computes them, and the mask of the
            annotated frame if it is known already and differs from the network's own result.

        Raises:
            UserError: There are no strokes, and the segmenter cannot start from a mask.
        """
        wanted = job.current if job.adopt and not job.strokes else None
        if job.strokes and job.current is not None and "preview" in live.verbs:
            network = live.preview(job.frame, job.strokes)
            merged = _merge(job, live.kinds, network)
            job.merged = bool((merged != network).any())
            if (_merge(job, live.kinds, network, cover=False) == network).all():
                # The merged mask differs from the network's result only under strokes, so that the network
                # can propagate its own result.
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
        """Propagate a frame's labels; a segmenter without ``adopt`` propagates the strokes instead."""
        if "adopt" in live.verbs:
            live.segmenter.adopt(frame - live.low, labels)
            return live.steps(frame, (), reach)
        if not strokes:
            raise UserError("this segmenter cannot start from a mask; draw a stroke on the frame, too")
        return live.steps(frame, strokes, reach)

    def _guarded(
        self, job: Job, kinds: Kinds, frame: int, labels: Labels, annotation: Labels | None
    ) -> Labels:
        """Return the labels of a frame with locked objects and the user's annotation protected."""
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
        """Write a mask to disk, then report it; masks are reported in the order of their computation."""
        if job.written is not None and job.written[0] <= frame <= job.written[1]:
            labels = job.workspace.read_mask(job.number, frame)  # written before the round was stopped
        else:
            job.workspace.write_mask(job.number, frame, labels)
        data = pack_labels(labels)
        if before is not None:
            before.result()
        self._report(job, "mask", frame=frame, data=data)

    # Segmenters

    def _bring_up(self, job: Job) -> tuple[_Live, int]:
        """Bring the workspace's segmenter to the state after the job's history.

        Returns:
            The segmenter, and the number of pixels in which recomputed masks differ from those on disk.
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
                    live.segmenter.undo()  # for the segmenter, adopting a mask is a round of its own
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
        """Start the segmenter on the part of the video that contains the job's frame.

        A segmenter that can add objects later starts with the objects of the first round of the history.
        """
        part = job.workspace.part(job.frame)
        live = _Live(segmenter, job.num_objects, part[0])
        if history and "add_object" in live.verbs:
            live.num_objects = history[0].num_objects
        live.num_objects = max(live.num_objects, 1)
        segmenter.start(job.workspace.read_frames(part), live.num_objects)
        self._live[job.workspace.name, part[0]] = live
        return live

    def _alone(self, job: Job) -> _Live:
        """Return a segmenter that processes one frame as a video, for previews during decoding."""
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
        """Add objects until the segmenter has `num_objects` objects."""
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
        """Run a completed round again, and count the pixels that differ from its masks on disk."""
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
    """Return the mask of the job's frame after its strokes; see :func:`ivos.app.pixels.merge_annotation`."""
    if job.current is None:
        return network
    if "boxes" not in kinds:
        network = within_boxes(network, job.current, job.strokes)
    return merge_annotation(job.current, network, job.strokes, job.locked, cover)


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line, with a remedy."""
    if is_out_of_memory(error):
        return (
            "out of memory; the masks computed so far are kept. Close other programs, or use "
            "segmenter.device_cache_gib=1 or smaller frames"
        )
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'disk'}: {error.strerror}; nothing is lost, correct this and try again"
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}; the server's log has the details"


def _free() -> None:
    """Return the memory of a dropped segmenter to the system."""
    import gc
    import sys

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
