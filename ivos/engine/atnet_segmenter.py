"""The segmenter with A-Net and T-Net: annotation, propagation and blending in rounds on one video."""

import contextlib
from collections.abc import Generator, Iterator, Sequence
from itertools import chain
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivos.engine.adoption import AdoptedLabels, check_adoption
from ivos.engine.feature_store import GIB, HostPool, budget, zeros
from ivos.engine.frame_features import FrameFeatureCache, frames_per_batch
from ivos.engine.frames import Frames, as_frames
from ivos.engine.memory_runner import MemoryPropagator, MemoryRunner
from ivos.engine.network_runner import CompileMode, NetworkRunner, Precision
from ivos.engine.optical_flow import OpticalFlow
from ivos.engine.padding import Padding
from ivos.engine.plan import Plan, plan_round
from ivos.engine.propagation import Propagator
from ivos.engine.resizing import Resizing, check_short_side
from ivos.engine.state import Annotation, MemoryAnnotation, RoundRecord, VideoState
from ivos.interaction import PromptKind, Stroke, check_strokes
from ivos.networks import ATNet, MemoryATNet
from ivos.runtime.errors import UserError, is_out_of_memory
from ivos.runtime.machine import free_memory, recycle_memory
from ivos.runtime.options import NULL, GibOrNull, NonNegative, whole
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.runtime.signatures import check_options

MAX_OBJECTS = 254
# The frames are copied to the device if they take at most this share of its memory budget.
_SHARE_OF_FRAMES = 1 / 4


@accept_former_keywords(
    together="batch_directions", lookahead="feature_batch_size", memory_gib="device_cache_gib"
)
class ATNetSegmenter:
    """Segments a video interactively with A-Net and T-Net (follows :class:`ivos.engine.LiveSegmenter`).

    Image features are computed once for each frame, and the global transfer once for each pair of an
    annotation and a frame. Both are kept within a memory budget and are computed again if they exceed it.

    Args:
        network: The network to run. When its weights are changed in place or moved to another device, the
            change takes effect at the next :meth:`start`.
        precision: Data type of the networks' arithmetic; the affinity of the global transfer is always
            float32.
        tf32: Whether float32 convolutions and matrix products on a GPU use TF32, which is several times
            faster but does not reproduce the released results exactly. PyTorch's global setting is ignored.
        winograd: Whether 3x3 convolutions use Winograd's algorithm, which needs a CPU, float32,
            channels_last=False and a PyTorch with NNPACK; None uses it if these conditions hold.
        channels_last: Whether images and weights use PyTorch's channels-last memory format, which is faster
            on some GPUs.
        compile: Mode of ``torch.compile``, such as ``default`` or ``reduce-overhead`` (CUDA graphs); None
            disables compilation.
        batch_directions: Whether the forward and the backward propagation step are computed as one batch;
            None does so on a GPU, where it is faster.
        feature_batch_size: Number of frames whose image features are computed as one batch; None uses 4 on a
            GPU, else 1. The same frames always form a batch, so that results are repeatable.
        device_cache_gib: Memory on the network's device for features and probabilities; None uses half of the
            free memory.
        host_memory_gib: CPU memory for features of a network on a GPU. None uses half of the free memory, or
            none if a measurement at the start of each video shows that computing features again is faster
            than copying them.
        undo_gib: CPU memory for :meth:`undo`; without it, :meth:`undo` runs the earlier rounds again.
        flow: Whether optical flow also propagates the masks at each step; T-Net then decides where the flow
            is unreliable. ``trained`` follows the setting stored with the weights. This is not part of the
            paper.
        short_side: Size in pixels to which the shorter side of larger frames is reduced for the networks;
            masks and probabilities are returned at the frames' own size. ``trained`` uses the size stored
            with the weights, or the frames' own size if none is stored. None uses the frames' own size.

    Raises:
        UserError: An option has an invalid value.
    """

    prompts: ClassVar[tuple[PromptKind, ...]] = ("strokes", "masks")

    def __init__(
        self,
        network: ATNet,
        precision: Precision = "float32",
        tf32: bool = False,
        winograd: bool | None = None,
        channels_last: bool = False,
        compile: CompileMode | None = None,
        batch_directions: bool | None = None,
        feature_batch_size: Annotated[int | None, NULL | whole(1)] = None,
        device_cache_gib: GibOrNull = None,
        host_memory_gib: GibOrNull = None,
        undo_gib: NonNegative = 0,
        flow: bool | Literal["trained"] = "trained",
        short_side: int | Literal["trained"] | None = "trained",
    ) -> None:
        make = MemoryRunner if isinstance(network, MemoryATNet) else NetworkRunner
        self._networks = make(network, precision, tf32, winograd, channels_last, compile)
        options: dict[str, object] = {
            "feature_batch_size": feature_batch_size, "device_cache_gib": device_cache_gib,
            "host_memory_gib": host_memory_gib, "undo_gib": undo_gib, "flow": flow,
        }  # fmt: skip
        check_options(options, ATNetSegmenter, "segmenter")
        chosen_side = network.short_side if short_side == "trained" else short_side
        check_short_side(chosen_side)
        self.short_side = chosen_side
        self.batch_directions = batch_directions
        self.feature_batch_size = feature_batch_size
        self.device_cache_gib = device_cache_gib
        self.host_memory_gib = host_memory_gib
        self.undo_gib = undo_gib
        self.flow = bool(network.flow) if flow == "trained" else flow
        self.click_radius = network.click_radius
        self._pool = HostPool()
        self._video: VideoState | None = None
        self._features: FrameFeatureCache | None = None  # image features of the current video
        self._running: Generator[int, None, None] | None = None  # the round in progress

    @property
    def network(self) -> ATNet:
        """The network that was passed to the constructor."""
        return self._networks.network

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """The objects' probabilities after the last round, float32 [T, N, h, w].

        For a network on a CPU that works at the frames' own size, this is a view of the internal state,
        because a copy would take gigabytes for a long video. The view must not be written to and is valid
        until the next round.
        """
        video = self._current()
        if video.resizing is None:
            return video.padding.crop(video.probabilities[:, : video.num_objects]).cpu().numpy()
        return np.stack([video.full_probabilities(t).cpu().numpy() for t in range(len(video.frames))])

    def probabilities_of(self, frame: int) -> NDArray[np.float32]:
        """Return the objects' probabilities in one frame, float32 [N, h, w], also during a round."""
        return self._current().full_probabilities(frame).cpu().numpy()

    def planned(self, frame: int) -> tuple[int, int]:
        """Return the range of frames that a round would change; see :meth:`LiveSegmenter.planned`."""
        video = self._current()
        plan = plan_round(frame, video.annotated, len(video.frames))
        return plan.start, plan.end

    def confidence(self) -> NDArray[np.float32]:
        """Return how certain the masks are, float32 [T]; see :meth:`LiveSegmenter.confidence`."""
        return self._current().confidence()

    def start(self, frames: Frames, num_objects: int) -> None:
        """Begin a video; see :meth:`Segmenter.start`.

        Raises:
            UserError: The masks do not fit into memory.
            ValueError: The frames are not uint8 [T, h, w, 3], or the number of objects is not possible.
        """
        frames = as_frames(frames)
        if not 1 <= num_objects <= MAX_OBJECTS:
            raise ValueError(f"num_objects: 1 to {MAX_OBJECTS} are possible, got {num_objects}")
        self._end_round()
        if self._video is not None and self._video.features is not None:
            self._video.features.clear()
        before = self._video.flow if self._video else None
        self._video = self._features = None  # free their memory before the budgets are computed
        if self._device.type == "cpu":
            recycle_memory()
        _check_memory(frames)
        self._networks.refresh()
        height, width = frames.shape[1:3]
        resizing = Resizing.to_short_side(height, width, self.short_side)
        small = frames if resizing is None else resizing.reduced(frames)
        self._video = self._new_state(small, num_objects, resizing, before)
        batch_size = frames_per_batch(self.feature_batch_size, self._device)
        self._features = FrameFeatureCache(self._networks, self._video, self._pool, batch_size)
        room = self._video.room_for_stores() * _SHARE_OF_FRAMES
        if self._device.type != "cpu" and small.nbytes <= room:
            self._video.video = torch.empty(small.shape, dtype=torch.uint8, device=self._device)
            for index, image in enumerate(small):
                self._video.video[index] = torch.from_numpy(image.copy())

    def _new_state(
        self,
        frames: NDArray[np.uint8],
        num_objects: int,
        resizing: Resizing | None,
        earlier: OpticalFlow | None,
    ) -> VideoState:
        """Return the initial state of a video; computed flows are reused if the earlier video is the same."""
        padding = Padding.to_multiple_of_32(*frames.shape[1:3])
        grant = budget(self.device_cache_gib, self._device)
        host_room = 0
        if self._device.type != "cpu":
            spare = self._pool.spare_bytes()
            host_room = budget(self.host_memory_gib, torch.device("cpu"), spare=spare)
        size = (len(frames), num_objects, *padding.padded_size)
        return VideoState(
            frames=frames,
            padding=padding,
            num_objects=num_objects,
            probabilities=zeros(size, self._device, grant // 2),
            masks=np.zeros(frames.shape[:3], np.uint8),
            grant=grant,
            host_room=host_room,
            undo_room=int(self.undo_gib * GIB),
            host_pays=None if self.host_memory_gib is None else True,
            resizing=resizing,
            flow=OpticalFlow(list(frames), self.network.flow_quality, before=earlier) if self.flow else None,
        )

    def interact(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """Run a complete round; see :meth:`Segmenter.interact`."""
        video = self._current()
        for _ in self._begin(video, frame, strokes):
            pass
        return self._masks(video)

    def preview(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """Return A-Net's labels of a frame; the state is unchanged; see :meth:`LiveSegmenter.preview`."""
        video = self._current()
        probability = self._previewed(video, frame, strokes)
        with self._networks.arithmetic():
            return video.full_labels(probability)

    def preview_probabilities(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.float32]:
        """Return the objects' probabilities behind the labels of :meth:`preview`, float32 [N, h, w]."""
        video = self._current()
        small = video.padding.crop(self._previewed(video, frame, strokes))
        return (small if video.resizing is None else video.resizing.enlarged(small)).cpu().numpy()

    def _previewed(self, video: VideoState, frame: int, strokes: Sequence[Stroke]) -> Tensor:
        _check(video, frame, strokes)
        if not strokes and video.adopted(frame) is not None:
            return video.of(frame)
        with self._computing():
            return self._annotation(frame, strokes).probability[:, 0]

    def adopt(
        self, frame: int, labels: NDArray[np.uint8], objects: Sequence[int] | None = None
    ) -> NDArray[np.uint8]:
        """Set the labels of a frame; see :meth:`ivos.engine.AdoptingSegmenter.adopt`."""
        video = self._current()
        adopted = check_adoption(
            frame, labels, objects, (len(video.frames), *video.full_masks.shape[1:]), video.num_objects
        )
        self._end_round()
        before = len(video.rounds)
        try:
            with self._computing():
                self._adopt(video, frame, adopted)
                return video.full_mask(frame).copy()
        except BaseException:
            if len(video.rounds) > before:
                with self._networks.arithmetic():
                    video.pop_round()
            raise

    def _adopt(self, video: VideoState, frame: int, adopted: AdoptedLabels) -> None:
        """Set the frame's probabilities and add the frame to the annotations.

        A-Net computes the object features from the new labels as previous mask and no strokes.
        """
        adopted = adopted.merged(video.adopted(frame))
        small = adopted.labels if video.resizing is None else video.resizing.reduced_labels(adopted.labels)
        padded = self._frame_features().padded(small)
        probabilities = adopted.applied(video.on_device(frame, self._device), padded)
        key = self._networks.key(self._frame_features().get([frame])[0])
        mask = video.labels(probabilities).cpu().numpy()
        _, value = self._anet(frame, self._networks.channels([], mask, video.num_objects, mask.shape))
        annotation = MemoryAnnotation(key, value.clone())
        self._complete_values()
        video.preview = None
        video.rounds.append(
            RoundRecord(frame, [], video.num_objects, (frame, frame), annotation, adopted=adopted)
        )
        video.remember(frame)
        video.of(frame).copy_(probabilities)
        video.label(frame)

    def propagate(
        self, frame: int, strokes: Sequence[Stroke], reach: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Run a round frame by frame; see :meth:`LiveSegmenter.propagate`."""
        video = self._current()
        _check(video, frame, strokes, reach)
        return self._stream(video, frame, _copied(strokes), reach)

    def _stream(
        self, video: VideoState, frame: int, strokes: list[Stroke], reach: tuple[int, int] | None
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        with contextlib.closing(self._begin(video, frame, strokes, reach)) as steps:
            for target in steps:
                with self._networks.arithmetic():
                    labels = video.full_mask(target).copy()
                yield target, labels

    def undo(self) -> NDArray[np.uint8]:
        """Undo the latest round; see :meth:`LiveSegmenter.undo`."""
        video = self._current()
        self._end_round()
        if not video.rounds:
            raise ValueError("undo: there is no round to undo")
        with self._networks.arithmetic():
            video.pop_round()
        return self._masks(self._current())

    def add_object(self) -> int:
        """Add an object from the next round on; see :meth:`LiveSegmenter.add_object`."""
        video = self._current()
        self._end_round()
        if video.num_objects == MAX_OBJECTS:
            raise ValueError(f"add_object: the video already has {MAX_OBJECTS} objects, the maximum")
        old = video.probabilities
        frames, objects, *size = old.shape
        with self._networks.arithmetic():
            room = video.room_for_stores()
            video.probabilities = zeros((frames, objects + 1, *size), self._device, video.grant // 2)
            video.probabilities[:, :objects] = old
            for target in list(video.summed):  # the sums have the former number of objects
                video.forget_transfer(target)
            video.give_up(room - video.room_for_stores())
        video.num_objects += 1
        video.preview = None
        return video.num_objects

    def _begin(
        self,
        video: VideoState,
        frame: int,
        strokes: Sequence[Stroke],
        reach: tuple[int, int] | None = None,
    ) -> Generator[int, None, None]:
        """Return a generator that runs a round and yields each frame after its labels have been updated."""
        _check(video, frame, strokes, reach)
        self._end_round()
        if video is not self._video:
            raise RuntimeError("propagate: another video has been started in the meantime")
        self._running = self._round(video, frame, _copied(strokes), reach)
        return self._running

    def _end_round(self) -> None:
        """Stop the round in progress, if there is one; frames that it has reached keep their new masks."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def _round(
        self, video: VideoState, frame: int, strokes: list[Stroke], reach: tuple[int, int] | None
    ) -> Generator[int, None, None]:
        """Annotate a frame, propagate its masks, blend them into the old ones and update the labels.

        Closing the generator early keeps the frames reached so far; an error undoes the whole round. No
        context such as inference mode or autocast is active at a yield, because it would also apply to the
        caller.
        """
        plan, before = plan_round(frame, video.annotated, len(video.frames)), len(video.rounds)
        first, last = reach or (plan.start, plan.end)
        try:
            with self._computing():
                probability = self._annotate(frame, strokes)
            propagated = self._propagate(plan, probability, (max(first, plan.start), min(last, plan.end)))
            for target, new in chain([(frame, probability)], propagated):
                with self._computing():
                    self._blend(plan, target, new)
                yield target
        except GeneratorExit:
            raise
        except BaseException:
            if len(video.rounds) > before:
                with self._networks.arithmetic():
                    video.pop_round()
            raise

    def _annotate(self, frame: int, strokes: list[Stroke]) -> Tensor:
        """Run A-Net on a frame with all its strokes and add the frame to the annotations.

        An adopted frame without new strokes keeps its labels and is not added again.

        Returns:
            The objects' probabilities [N, 1, H, W].
        """
        video = self._started()
        if not strokes and video.adopted(frame) is not None:
            video.rounds.append(RoundRecord(frame, [], video.num_objects, (frame, frame), annotation=None))
            return video.on_device(frame, self._device)[:, None].clone()
        key = self._networks.key(self._frame_features().get([frame])[0])
        annotation = self._annotation(frame, strokes)
        self._complete_values()
        video.preview = None
        memory = MemoryAnnotation(key, annotation.value)
        video.rounds.append(RoundRecord(frame, strokes, video.num_objects, (frame, frame), memory))
        return annotation.probability

    def _annotation(self, frame: int, strokes: Sequence[Stroke]) -> Annotation:
        """Return A-Net's result for a frame with all its strokes; the latest result is cached."""
        video = self._started()
        drawn = [*video.drawn(frame), *_copied(strokes)]
        latest = video.preview
        if latest is None or (latest.frame, latest.strokes) != (frame, drawn):
            video.fetch()
            previous = video.masks[frame] if video.rounds else None
            channels = self._networks.channels(drawn, previous, video.num_objects, video.masks.shape[1:])
            logits, values = self._anet(frame, channels)
            latest = Annotation(frame, drawn, logits.float().sigmoid(), values.clone())
            video.preview = latest
        return latest

    def _anet(self, frame: int, channels: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Run A-Net on a frame with interaction channels [N, 3, h, w].

        Returns:
            Logits [N, 1, H, W] and projected object features.
        """
        return self._networks.annotate(self._frame_features(), frame, channels)

    def _complete_values(self) -> None:
        """Compute object features on earlier annotated frames for objects that were added later.

        For these frames, the added objects have no strokes and empty previous masks.
        """
        video = self._started()
        for number, record in enumerate(video.rounds):
            annotation = record.annotation
            if annotation is not None and (missing := video.num_objects - len(annotation.value)):
                channels = np.zeros((missing, 3, *video.masks.shape[1:]), np.float32)
                channels[:, 0] = 0.5 if number == 0 and record.adopted is None else 0
                new = self._anet(record.frame, channels)[1]
                annotation.value = torch.cat([annotation.value, new])

    def _propagate(
        self, plan: Plan, probability: Tensor, reach: tuple[int, int]
    ) -> Iterator[tuple[int, Tensor]]:
        """Propagate in both directions alternately; yield each frame and its probabilities [N, 1, H, W]."""
        batched = self._device.type == "cuda" if self.batch_directions is None else self.batch_directions
        kind = MemoryPropagator if isinstance(self._networks, MemoryRunner) else Propagator
        propagator = kind(self._networks, self._started(), self._frame_features(), batched)
        passes = propagator.passes(plan, probability, reach)
        while groups := propagator.next_groups(passes):
            for group in groups:
                with self._computing():
                    found = propagator.step(group)
                    propagator.release(passes)
                for target, new in found:
                    if reach[0] <= target <= reach[1]:
                        yield target, new

    def _blend(self, plan: Plan, frame: int, new: Tensor) -> None:
        """Blend a frame's new probabilities [N, 1, H, W] into its old ones and update its labels.

        The new probabilities are used alone for the annotated frame, and, once a frame has been adopted, for
        frames that no earlier round has reached, because these have no old probabilities.
        """
        video = self._started()
        record = video.rounds[-1]
        video.remember(frame)
        adoptions = any(one.adopted is not None for one in video.rounds)
        if frame == plan.annotated or (adoptions and not video.reached_before(frame)):
            video.of(frame).copy_(new[:, 0])
        else:
            plan.blend(frame, video.of(frame), new[:, 0])
        record.reach = (min(record.reach[0], frame), max(record.reach[1], frame))
        video.label(frame)

    @property
    def _device(self) -> torch.device:
        return self._networks.device

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        """Return a context with the networks' arithmetic that reports out-of-memory errors in one line."""
        with self._networks.arithmetic(), _out_of_memory_in_one_line():
            yield

    def _masks(self, video: VideoState) -> NDArray[np.uint8]:
        """Return a copy of all masks at the frames' own size [T, h, w]."""
        with self._networks.arithmetic():
            return video.all_full_masks()

    def _started(self) -> VideoState:
        if self._video is None:
            raise RuntimeError("no video: call start(frames, num_objects) first")
        return self._video

    def _frame_features(self) -> FrameFeatureCache:
        assert self._features is not None  # made with the video's state
        return self._features

    def _current(self) -> VideoState:
        """Return the state after all rounds, which are run again if an undo could not restore the state."""
        video = self._started()
        if not video.stale:
            return video
        rounds, objects = list(video.rounds), video.num_objects
        try:
            with self._networks.arithmetic():
                video.clear()
            for record in rounds:
                video.num_objects = record.num_objects
                if record.adopted is not None:
                    with self._computing():
                        self._adopt(video, record.frame, record.adopted)
                    continue
                for _ in self._begin(video, record.frame, record.strokes, record.reach):
                    pass
                video.fetch()
            video.stale = False
        finally:
            video.num_objects = objects
            if video.stale:
                video.rounds = rounds
        return video


def _check_memory(frames: NDArray[np.uint8]) -> None:
    """Raise an error if a video's masks and the copy of them that is returned do not fit into memory."""
    needed, free = 2 * frames[..., 0].size, free_memory()
    if needed > free:
        raise UserError(
            f"a video of {len(frames)} frames of {frames.shape[2]}x{frames.shape[1]} needs "
            f"{needed / GIB:.1f} GiB for its masks, but only {free / GIB:.1f} GiB are free; split the video"
        )


def _check(
    video: VideoState, frame: int, strokes: Sequence[Stroke], reach: tuple[int, int] | None = None
) -> None:
    """Check the arguments of a round before any computation; the error message names the argument."""
    if not 0 <= frame < len(video.frames):
        raise ValueError(f"frame: the video has frames 0 to {len(video.frames) - 1}, got {frame}")
    if reach is not None and not reach[0] <= frame <= reach[1]:
        raise ValueError(f"reach: {tuple(reach)} does not contain the annotated frame {frame}")
    check_strokes(strokes, video.num_objects)


def _copied(strokes: Sequence[Stroke]) -> list[Stroke]:
    """Return deep copies of strokes without additional keys, so that the caller cannot change them."""
    return [
        {"path": [[float(x), float(y)] for x, y in stroke["path"]], "object_id": stroke["object_id"]}
        for stroke in strokes
    ]


@contextlib.contextmanager
def _out_of_memory_in_one_line() -> Iterator[None]:
    """Return a context that replaces an out-of-memory error by one line with options that save memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            "out of memory in a round, which has been undone; earlier rounds are kept. Lower "
            "segmenter.device_cache_gib (memory between rounds) or segmenter.feature_batch_size, set "
            "segmenter.batch_directions=false or segmenter.precision=bfloat16, or use fewer objects"
        ) from error
