"""The round procedure of A-Net and T-Net."""

import contextlib
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivos.engine.arithmetic import tf32
from ivos.engine.feature_store import (
    GIB,
    HostPool,
    TensorStore,
    budget,
    free_memory,
    recycle_memory,
    seconds,
    size_of,
    zeros,
)
from ivos.engine.fused_layers import fast_copy, has_nnpack
from ivos.engine.optical_flow import Floats, OpticalFlow, one_hot
from ivos.engine.padding import Padding
from ivos.engine.plan import Plan, plan_round
from ivos.engine.state import Annotation, RoundRecord, VideoState
from ivos.engine.thresholding import centred, off_centre
from ivos.interaction import Stroke, check_strokes, interaction_channels
from ivos.networks import ANet, ATNet, FrameFeatures, affinity, readout
from ivos.runtime.errors import UserError, is_out_of_memory
from ivos.runtime.renamed_options import accept_former_keywords

Precision = Literal["float32", "bfloat16", "float16"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
MAX_OBJECTS = 254
# The frames themselves stay on the device where they take a quarter of the grant or less.
_SHARE_OF_FRAMES = 4
# What T-Net counts beside what the optical flow carries from three frames, each of which counts up to one.
_OWN = 0.15


@dataclass
class PropagationPass:
    """Propagation in one direction: where it stands, where it may go, and how many steps it takes."""

    source: int
    probability: Tensor  # of the source [N, 1, H, W]
    targets: deque[int]
    steps: int
    carried: dict[int, Floats] = field(default_factory=dict)  # for the flow: where it began, the latest two


@accept_former_keywords(
    together="batch_directions", lookahead="feature_batch_size", memory_gib="device_cache_gib"
)
class ATNetSegmenter:
    """Segments a video interactively with A-Net and T-Net (follows :class:`ivos.engine.LiveSegmenter`).

    What depends on an image alone is computed once per frame and video, what depends on an annotation and a
    frame once for the two, and both are kept within the memory granted; beyond it they are computed again.

    Args:
        network: what runs. Weights changed in place or moved to another device count from the next
            :meth:`start` on.
        precision: of the networks' arithmetic; the affinity of the global transfer is float32 in any case.
        tf32: float32 convolutions and matrix products on a GPU may round their factors to TF32: several times
            faster, and no longer the released numbers. Whatever the caller has set does not count.
        winograd: 3x3 convolutions by Winograd's algorithm, which needs a CPU, float32, no channels_last and
            a PyTorch with NNPACK; None for wherever that is so.
        channels_last: the memory order that some GPUs' convolutions prefer.
        compile: a mode of ``torch.compile`` (``default``, ``reduce-overhead`` for CUDA graphs); None: none.
        batch_directions: one step in either direction is one batch; None for where it pays: on a GPU.
        feature_batch_size: frames whose image features are computed together where they are missing.
        device_cache_gib: what may be kept on the network's device; None: half of what is free there.
        host_memory_gib: what may be kept in CPU memory behind a GPU; None: half of what is free, but nothing
            where computing features again, measured once a video, takes less than fetching them.
        undo_gib: what may be kept in CPU memory for :meth:`undo`, which otherwise runs rounds again.
        flow: let optical flow carry the masks, too, at each step, and T-Net decide where it cannot be
            trusted; ``trained``: if the weights' file says so. Not in the paper; computed on the CPU.
    """

    click_radius = 0.04  # of the frame's height: a click of a later round is a ring, since a dot is too weak

    def __init__(
        self,
        network: ATNet,
        precision: Precision = "float32",
        tf32: bool = False,
        winograd: bool | None = None,
        channels_last: bool = False,
        compile: CompileMode | None = None,
        batch_directions: bool | None = None,
        feature_batch_size: int = 1,
        device_cache_gib: float | None = None,
        host_memory_gib: float | None = None,
        undo_gib: float = 0,
        flow: bool | Literal["trained"] = False,
    ) -> None:
        if precision not in get_args(Precision):
            raise UserError(f"segmenter.precision: {precision!r} is none of {', '.join(get_args(Precision))}")
        if compile not in (None, *get_args(CompileMode)):
            raise UserError(f"segmenter.compile: {compile!r} is none of {', '.join(get_args(CompileMode))}")
        if feature_batch_size < 1:
            raise UserError(f"segmenter.feature_batch_size: at least 1 frame, got {feature_batch_size}")
        if not undo_gib >= 0:
            raise UserError(f"segmenter.undo_gib: at least 0 GiB, got {undo_gib}")
        if not isinstance(flow, bool) and flow != "trained":
            raise UserError(f"segmenter.flow: true, false or trained, got {flow!r}")
        self.network = network.eval()
        self.precision = precision
        self.tf32 = tf32
        self.winograd = winograd
        self.channels_last = channels_last
        self.compile = compile
        self.batch_directions = batch_directions
        self.feature_batch_size = feature_batch_size
        self.device_cache_gib = device_cache_gib
        self.host_memory_gib = host_memory_gib
        self.undo_gib = undo_gib
        self.flow = bool(network.flow) if flow == "trained" else flow
        self._pool = HostPool()
        self._video: VideoState | None = None
        self._open: Generator[int, None, None] | None = None  # the round that runs
        self._fast: ATNet | None = None
        self._fast_of: object = None

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Probabilities of the objects after the last round, float32 [T, N, h, w].

        On a CPU this is the state itself and not a copy (a long video's take gigabytes): only to be read,
        and before the next round.
        """
        video = self._current()
        return video.padding.crop(video.probabilities[:, : video.num_objects]).cpu().numpy()

    def probabilities_of(self, frame: int) -> NDArray[np.float32]:
        """:attr:`probabilities` of one frame, float32 [N, h, w], in the middle of a round, too."""
        video = self._current()
        return video.padding.crop(video.of(frame)).cpu().numpy()

    def planned(self, frame: int) -> tuple[int, int]:
        """How far a round goes; see :meth:`LiveSegmenter.planned`."""
        video = self._current()
        plan = plan_round(frame, video.annotated, len(video.frames))
        return plan.start, plan.end

    def confidence(self) -> NDArray[np.float32]:
        """How sure the masks are, float32 [T]; see :meth:`LiveSegmenter.confidence`."""
        return self._current().confidence()

    def start(self, frames: NDArray[np.uint8], num_objects: int) -> None:
        """Begin a video; see :meth:`Segmenter.start`.

        Raises:
            UserError: its masks do not fit into memory.
        """
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
            raise ValueError(f"frames: uint8 [T, h, w, 3] is needed, got {frames.dtype} {list(frames.shape)}")
        if not 1 <= num_objects <= MAX_OBJECTS:
            raise ValueError(f"num_objects: 1 to {MAX_OBJECTS} are possible, got {num_objects}")
        self._end_round()
        if self._video is not None and self._video.features is not None:
            self._video.features.clear()
        before = self._video.flow if self._video else None
        self._video = None  # its memory counts as free for the next
        if self._device.type == "cpu":
            recycle_memory()
        needed, free = 2 * frames[..., 0].size, free_memory()  # the masks, and the copy that is handed out
        if needed > free:
            raise UserError(
                f"a video of {len(frames)} frames of {frames.shape[2]}x{frames.shape[1]} needs "
                f"{needed / GIB:.1f} GiB for its masks, and {free / GIB:.1f} GiB are free; cut it into parts"
            )
        self._refresh()
        padding = Padding.to_multiple_of_32(*frames.shape[1:3])
        grant = budget("segmenter.device_cache_gib", self.device_cache_gib, self._device)
        host_room = 0  # behind a CPU there is nothing
        if self._device.type != "cpu":
            spare = self._pool.spare_bytes()
            host_room = budget(
                "segmenter.host_memory_gib", self.host_memory_gib, torch.device("cpu"), spare=spare
            )
        size = (len(frames), num_objects, *padding.padded_size)
        self._video = VideoState(
            frames=frames,
            padding=padding,
            num_objects=num_objects,
            probabilities=zeros(size, self._device, grant // 2),
            masks=np.zeros(frames.shape[:3], np.uint8),
            grant=grant,
            host_room=host_room,
            undo_room=int(self.undo_gib * GIB),
            host_pays=None if self.host_memory_gib is None else True,
            flow=OpticalFlow(list(frames), before=before) if self.flow else None,
        )
        if self._device.type != "cpu" and frames.nbytes <= self._video.room_for_stores() // _SHARE_OF_FRAMES:
            self._video.video = torch.empty(frames.shape, dtype=torch.uint8, device=self._device)
            for index, image in enumerate(frames):
                self._video.video[index] = torch.from_numpy(image.copy())

    def interact(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """Run a round; see :meth:`Segmenter.interact`."""
        video = self._current()
        for _ in self._begin(video, frame, strokes):
            pass
        video.fetch()
        return video.masks.copy()

    def preview(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """The frame's labels by A-Net; see :meth:`LiveSegmenter.preview`."""
        video = self._current()
        probability = self._previewed(video, frame, strokes)
        with self._arithmetic():
            return video.labels(probability).cpu().numpy()

    def preview_probabilities(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.float32]:
        """What :meth:`preview` labels: the objects' probabilities in the frame, float32 [N, h, w]."""
        video = self._current()
        return video.padding.crop(self._previewed(video, frame, strokes)).cpu().numpy()

    def _previewed(self, video: VideoState, frame: int, strokes: Sequence[Stroke]) -> Tensor:
        self._check(video, frame, strokes)
        with self._arithmetic(), _one_line():
            return self._annotation(frame, strokes).probability[:, 0]

    def propagate(
        self, frame: int, strokes: Sequence[Stroke], reach: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Run a round frame by frame; see :meth:`LiveSegmenter.propagate`."""
        video = self._current()
        self._check(video, frame, strokes, reach)
        return self._stream(video, frame, _copied(strokes), reach)

    def _stream(
        self, video: VideoState, frame: int, strokes: list[Stroke], reach: tuple[int, int] | None
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        with contextlib.closing(self._begin(video, frame, strokes, reach)) as steps:
            for target in steps:
                video.fetch()
                yield target, video.masks[target].copy()

    def undo(self) -> NDArray[np.uint8]:
        """Take the latest round back; see :meth:`LiveSegmenter.undo`."""
        video = self._current()
        self._end_round()
        if not video.rounds:
            raise ValueError("undo: there is no round to take back")
        with self._arithmetic():
            video.pop_round()
        return self._current().masks.copy()

    def add_object(self) -> int:
        """Have one more object from the next round on; see :meth:`LiveSegmenter.add_object`."""
        video = self._current()
        self._end_round()
        if video.num_objects == MAX_OBJECTS:
            raise ValueError(f"add_object: {MAX_OBJECTS} objects are possible, and all are there")
        old = video.probabilities
        frames, objects, *size = old.shape
        with self._arithmetic():
            room = video.room_for_stores()
            video.probabilities = zeros((frames, objects + 1, *size), self._device, video.grant // 2)
            video.probabilities[:, :objects] = old
            for sums in list(video.summed):  # they have one object less
                video.forget_transfer(sums)
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
        """A round, which runs as it is iterated over: the frames it has come to."""
        self._check(video, frame, strokes, reach)
        self._end_round()
        if video is not self._video:
            raise RuntimeError("propagate: another video has been started since")
        self._open = self._round(video, frame, _copied(strokes), reach)
        return self._open

    def _end_round(self) -> None:
        """A round that somebody began and did not finish ends where it is."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _round(
        self, video: VideoState, frame: int, strokes: list[Stroke], reach: tuple[int, int] | None
    ) -> Generator[int, None, None]:
        """Annotate, propagate, blend, label. Closed early it keeps what it has come to; failing, nothing.

        No context (inference mode, autocast) is open where it yields: they would reach whoever iterates.
        """
        plan, before = plan_round(frame, video.annotated, len(video.frames)), len(video.rounds)
        first, last = reach or (plan.start, plan.end)
        try:
            with self._arithmetic(), _one_line():
                probability = self._annotate(frame, strokes)
            propagated = self._propagate(plan, probability, (max(first, plan.start), min(last, plan.end)))
            for target, new in chain([(frame, probability)], propagated):
                with self._arithmetic(), _one_line():
                    self._take_over(plan, target, new)
                yield target
        except GeneratorExit:
            raise
        except BaseException:
            if len(video.rounds) > before:
                with self._arithmetic():
                    video.pop_round()
            raise

    def _annotate(self, frame: int, strokes: list[Stroke]) -> Tensor:
        """A-Net on a frame with all its strokes: probabilities [N, 1, H, W]; the frame joins the memory."""
        video = self._started()
        key = self._features([frame])[0].r5
        annotation = self._annotation(frame, strokes)
        self._complete_values()
        video.preview = None
        video.rounds.append(
            RoundRecord(frame, strokes, video.num_objects, key, annotation.value, reach=(frame, frame))
        )
        return annotation.probability

    def _annotation(self, frame: int, strokes: Sequence[Stroke]) -> Annotation:
        """A-Net on a frame with all its strokes, unless that is what it was asked last."""
        video = self._started()
        drawn = [*video.drawn(frame), *_copied(strokes)]
        latest = video.preview
        if latest is None or (latest.frame, latest.strokes) != (frame, drawn):
            video.fetch()
            previous = video.masks[frame] if video.rounds else None
            channels = interaction_channels(drawn, previous, video.num_objects, *video.masks.shape[1:])
            logits, values = self._anet(frame, channels)
            latest = Annotation(frame, drawn, logits.float().sigmoid(), values.clone())
            video.preview = latest
        return latest

    def _anet(self, frame: int, channels: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Logits [N, 1, H, W] and projected features of objects, from their channels [N, 3, h, w]."""
        interaction = self._padded(channels)
        with self._autocast():
            return self._networks.anet(self._images([frame]), interaction)

    def _complete_values(self) -> None:
        """Give objects that were added since their features on the frames annotated before.

        They are those of an object on which nothing was drawn and that is nowhere in the previous masks.
        """
        video = self._started()
        for number, record in enumerate(video.rounds):
            if missing := video.num_objects - len(record.value):
                channels = np.zeros((missing, 3, *video.masks.shape[1:]), np.float32)
                channels[:, 0] = 0.5 if number == 0 else 0
                record.value = torch.cat([record.value, self._anet(record.frame, channels)[1]])

    def _propagate(
        self, plan: Plan, probability: Tensor, reach: tuple[int, int]
    ) -> Iterator[tuple[int, Tensor]]:
        """T-Net from frame to frame, in both directions by turns: each target with its [N, 1, H, W]."""
        batched = self._device.type == "cuda" if self.batch_directions is None else self.batch_directions
        steps = [plan.annotated - reach[0], reach[1] - plan.annotated]
        if batched and steps[0] == steps[1] + 1:  # ended between the two of a step: both were computed
            steps[1] = min(steps[0], len(plan.forward))
        walks = [
            PropagationPass(plan.annotated, probability, deque(frames), number)
            for frames, number in zip((plan.backward, plan.forward), steps, strict=True)
        ]
        while active := [walk for walk in walks if walk.steps]:
            for group in [active] if batched else [[walk] for walk in active]:
                with self._arithmetic(), _one_line():
                    found = self._step(group)
                    self._forget(walks)
                for target, new in found:
                    if reach[0] <= target <= reach[1]:
                        yield target, new

    def _step(self, walks: list[PropagationPass]) -> list[tuple[int, Tensor]]:
        """One frame on in each direction: the targets with their probabilities [N, 1, H, W]."""
        tnet = self._networks.tnet
        sources = [walk.source for walk in walks]
        targets = [walk.targets.popleft() for walk in walks]
        ahead = [frame for walk in walks for frame in self._ahead(walk)]
        wanted = list(dict.fromkeys([*sources, *targets, *ahead]))
        features = dict(zip(wanted, self._features(wanted), strict=True))
        target = _joined([features[frame] for frame in targets])
        moved = torch.cat([self._global_transfer(frame, features[frame]) for frame in targets])
        mask = torch.cat([walk.probability for walk in walks])
        with self._autocast():
            local = tnet.local(target, _joined([features[frame] for frame in sources]), mask)
            logits = tnet.decode(target, moved, local)
        found = []
        for walk, frame, new in zip(walks, targets, logits.float().sigmoid().chunk(len(walks)), strict=True):
            fused = self._along(walk, frame, new) if self.flow else new
            walk.source, walk.probability, walk.steps = frame, fused, walk.steps - 1
            found.append((frame, fused))
        return found

    def _along(self, walk: PropagationPass, target: int, new: Tensor) -> Tensor:
        """T-Net's probabilities [N, 1, H, W] of a target together with those that the flow carries there.

        It carries the labels of the annotated frame and what was made of the latest two frames.
        """
        video = self._started()
        assert video.flow is not None
        if not walk.carried:
            labels = video.labels(walk.probability[:, 0]).cpu().numpy()
            walk.carried[walk.source] = one_hot(labels, len(new)).astype(np.float32)
        total, weights = video.flow.carry(target, walk.carried)
        own = centred(video.padding.crop(new[:, 0])).permute(1, 2, 0).float().cpu().numpy()
        mean = (total + _OWN * own) / (weights + _OWN)[..., None]
        layers = video.flow.refine(target, np.asarray(mean, np.float32))
        first, *later = walk.carried
        walk.carried = {frame: walk.carried[frame] for frame in (first, *later[-1:])} | {target: layers}
        taken = off_centre(torch.from_numpy(layers).permute(2, 0, 1).to(new))
        fused = new.clone()
        video.padding.crop(fused)[:, 0] = taken
        return fused

    def _ahead(self, walk: PropagationPass) -> list[int]:
        """Frames after the next target whose features are computed with its own."""
        return list(walk.targets)[: self.feature_batch_size - 1]

    def _forget(self, walks: list[PropagationPass]) -> None:
        """Drop the features at hand that no walk takes up in its next step."""
        video = self._started()
        needed = {frame for walk in walks if walk.steps for frame in (walk.source, *self._ahead(walk))}
        video.recent = {frame: one for frame, one in video.recent.items() if frame in needed}

    def _take_over(self, plan: Plan, frame: int, new: Tensor) -> None:
        """Blend a frame's new probabilities [N, 1, H, W] into its old ones, and label it."""
        video = self._started()
        record = video.rounds[-1]
        video.remember(frame)
        if frame == plan.annotated:
            video.of(frame).copy_(new[:, 0])
        else:
            plan.blend(frame, video.of(frame), new[:, 0])
        record.reach = (min(record.reach[0], frame), max(record.reach[1], frame))
        video.label(frame)

    def _global_transfer(self, frame: int, target: FrameFeatures) -> Tensor:
        """The objects' features on the annotated frames, moved to a frame and averaged, [N, 32w, ...].

        Their sum is kept, so that in each round only the new annotation has to be matched with a frame.
        """
        video, tnet = self._started(), self.network.tnet
        values = [record.value for record in video.rounds]
        if not tnet.use_global:
            return torch.zeros_like(values[0])
        assert video.transfers is not None  # there are image features by now
        kept = video.transfers.get(frame)
        if kept and len(kept[0]) < video.num_objects:  # from before an object was added
            kept = None
        total = kept[0] if kept else torch.zeros_like(values[0], dtype=torch.float32)
        done = video.summed.get(frame, 0) if kept else 0
        for record in video.rounds[done:]:
            total = total + readout(record.value.float(), affinity(record.key, target.r5))
        video.transfers.put(frame, (total,))
        video.summed[frame] = len(video.rounds)
        return total / len(video.rounds)

    def _features(self, frames: Sequence[int]) -> list[FrameFeatures]:
        """T-Net's image features of frames, batch 1 each; missing ones in batches of `feature_batch_size`."""
        video = self._started()
        kept = {frame: video.recent.get(frame) or self._kept(frame) for frame in frames}
        found = {frame: features for frame, features in kept.items() if features}
        missing = [frame for frame in frames if frame not in found]
        for start in range(0, len(missing), self.feature_batch_size):
            part = missing[start : start + self.feature_batch_size]
            batch = self._image_features(part)
            for index, frame in enumerate(part):
                one = [tensor[index : index + 1].clone() for tensor in vars(batch).values()]
                found[frame] = FrameFeatures(*one)
                self._keep(frame, found[frame])
        video.recent.update(found)
        return [found[frame] for frame in frames]

    def _image_features(self, frames: Sequence[int]) -> FrameFeatures:
        with self._autocast():
            return self._networks.tnet.features(self._images(frames))

    def _kept(self, frame: int) -> FrameFeatures | None:
        video = self._started()
        kept = video.features.get(frame) if video.features else None
        return FrameFeatures(*kept) if kept else None

    def _keep(self, frame: int, features: FrameFeatures) -> None:
        """Store a frame's features; the first ones tell how much room all of them take."""
        video, tensors = self._started(), tuple(vars(features).values())
        if video.features is None:
            room, size = video.room_for_stores(), size_of(tensors)
            if size > max(room, video.host_room):
                raise UserError(
                    f"segmenter.device_cache_gib: {room / GIB:.3f} GiB are left for image features, and "
                    f"those of one frame take {size / GIB:.3f}; grant more"
                )
            of_all = size * len(video.frames)
            video.features = TensorStore(self._device, min(room, of_all), video.host_room, self._pool)
            video.transfers = TensorStore(self._device, max(0, room - of_all))
        if video.host_pays is None and video.features.goes_to_host(tensors):
            video.host_pays = self._host_pays(frame, tensors)
            if not video.host_pays:
                video.features.free["host"] = 0
        video.features.put(frame, tensors)

    def _host_pays(self, frame: int, tensors: tuple[Tensor, ...]) -> bool:
        """Whether this GPU has a frame's features back from CPU memory sooner than it computes them.

        At 480p they are 92 MB in float32: 4 ms on a fast bus, against 2 to 30 ms of computing.
        """
        waiting = TensorStore(self._device, 0, self._started().host_room, self._pool)
        waiting.put(frame, tensors)
        fetching = seconds(lambda: waiting.get(frame), self._device)
        waiting.clear()
        return fetching < seconds(lambda: self._image_features([frame]), self._device)

    def _images(self, frames: Sequence[int]) -> Tensor:
        """Normalised RGB [B, 3, H, W] of frames."""
        video = self._started()
        if video.video is None:
            padded = self._padded(video.frames[list(frames)].transpose(0, 3, 1, 2))
        else:
            chosen = torch.stack([video.video[frame] for frame in frames])
            padded = video.padding.pad_tensor(chosen.permute(0, 3, 1, 2))
        images = self.network.normalise(padded)
        return images.to(memory_format=torch.channels_last) if self.channels_last else images

    @property
    def _device(self) -> torch.device:
        return self.network.mean.device

    @property
    def _networks(self) -> ATNet:
        """The network as it runs."""
        assert self._fast is not None
        return self._fast

    def _refresh(self) -> None:
        """Build the fast copy of the network, unless its weights are those of the one at hand."""
        weights = list(self.network.state_dict(keep_vars=True).values())
        version = [(tensor.data_ptr(), tensor._version, tensor.device) for tensor in weights]
        if version == self._fast_of:
            return
        mean = self.network.mean
        plain = mean.device.type == "cpu" and mean.dtype == torch.float32 and self.precision == "float32"
        possible = plain and not self.channels_last and has_nnpack()
        if self.winograd and not possible:
            raise UserError(
                "segmenter.winograd: is for a CPU, float32, channels_last=false and a PyTorch with NNPACK; "
                "leave it null"
            )
        winograd = possible if self.winograd is None else self.winograd
        fast = fast_copy(self.network, winograd, getattr(torch, self.precision))
        if self.channels_last:
            fast = fast.to(memory_format=torch.channels_last)
        if self.compile:
            fast.anet = cast(ANet, torch.compile(fast.anet, mode=self.compile))
            for name in ("features", "decode"):
                setattr(fast.tnet, name, torch.compile(getattr(fast.tnet, name), mode=self.compile))
        self._fast, self._fast_of = fast, version

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, getattr(torch, self.precision))

    def _padded(self, array: NDArray[np.generic]) -> Tensor:
        """[..., h, w] -> [..., H, W] on the device, where a GPU pads by itself."""
        padding = self._started().padding
        if self._device.type == "cpu":
            return torch.from_numpy(np.ascontiguousarray(padding.pad(array)))
        array = np.ascontiguousarray(array)
        return padding.pad_tensor(torch.from_numpy(array).to(self._device, non_blocking=True))

    @contextlib.contextmanager
    def _arithmetic(self) -> Iterator[None]:
        """No gradients; `precision` and `tf32` decide, not the caller's settings. Never open at a yield."""
        no_autocast = torch.autocast(self._device.type, enabled=False)
        with torch.inference_mode(), no_autocast, tf32(self.tf32):
            yield

    def _check(
        self,
        video: VideoState,
        frame: int,
        strokes: Sequence[Stroke],
        reach: tuple[int, int] | None = None,
    ) -> None:
        """Raise an error that names the argument, before anything runs."""
        if not 0 <= frame < len(video.frames):
            raise ValueError(f"frame: the video has frames 0 to {len(video.frames) - 1}, got {frame}")
        if reach is not None and not reach[0] <= frame <= reach[1]:
            raise ValueError(f"reach: {tuple(reach)} does not hold the annotated frame {frame}")
        check_strokes(strokes, video.num_objects)

    def _started(self) -> VideoState:
        if self._video is None:
            raise RuntimeError("no video: call start(frames, num_objects) first")
        return self._video

    def _current(self) -> VideoState:
        """The state after all rounds: where one was taken back that was not kept, they are run again."""
        video = self._started()
        if not video.stale:
            return video
        rounds, objects = list(video.rounds), video.num_objects
        try:
            with self._arithmetic():
                video.clear()
            for record in rounds:
                video.num_objects = record.num_objects
                for _ in self._begin(video, record.frame, record.strokes, record.reach):
                    pass
                video.fetch()
            video.stale = False
        finally:
            video.num_objects = objects
            if video.stale:
                video.rounds = rounds
        return video


def _copied(strokes: Sequence[Stroke]) -> list[Stroke]:
    """Strokes that nobody else can change; of what else they carry nothing is kept."""
    return [
        {"path": [[float(x), float(y)] for x, y in stroke["path"]], "object_id": stroke["object_id"]}
        for stroke in strokes
    ]


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Out of memory is the user's to mend: one line that says how."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            "out of memory in a round, which is taken back; the rounds before it are kept. Lower "
            "segmenter.device_cache_gib (what is kept between rounds) or segmenter.feature_batch_size, set "
            "segmenter.batch_directions=false or segmenter.precision=bfloat16, or have fewer objects"
        ) from error


def _joined(features: Sequence[FrameFeatures]) -> FrameFeatures:
    """Features of several frames as a batch."""
    if len(features) == 1:
        return features[0]
    return FrameFeatures(*map(torch.cat, zip(*(vars(one).values() for one in features), strict=True)))
