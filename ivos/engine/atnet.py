"""The round procedure of A-Net and T-Net."""

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivos.engine.fast import fast_copy, has_nnpack
from ivos.engine.padding import Padding
from ivos.engine.plan import Plan, plan_round
from ivos.engine.store import GIB, TensorStore, budget, free_memory, recycle_memory, size_of, zeros
from ivos.errors import UserError
from ivos.interaction import Stroke, check_strokes, interaction_channels
from ivos.networks import ANet, ATNet, FrameFeatures, similarity, spread

THRESHOLD = 0.8  # a pixel goes to its most probable object where that exceeds this, else to the background

Precision = Literal["float32", "bfloat16", "float16"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]


@dataclass
class Video:
    """The state of one video between rounds (H, W: padded size, multiples of 32)."""

    frames: NDArray[np.uint8]  # [T, h, w, 3] RGB
    padding: Padding
    num_objects: int
    probabilities: Tensor  # float32 [T, N, H, W]
    masks: NDArray[np.uint8]  # [T, h, w]
    room: tuple[int, int]  # bytes for the two stores on the device, and in CPU memory behind a GPU
    features: TensorStore | None = None  # FrameFeatures by frame; made with the first of them
    transfers: TensorStore | None = None  # by frame, the sum over annotations of the global transfer
    recent: dict[int, FrameFeatures] = field(default_factory=dict)  # those of the step at work
    summed: dict[int, int] = field(default_factory=dict)  # by frame, how many annotations are in that sum
    strokes: dict[int, list[Stroke]] = field(default_factory=dict)  # all ever drawn, by frame
    annotated: list[int] = field(default_factory=list)  # frame of each round, repeats kept
    keys: list[Tensor] = field(default_factory=list)  # their r5 [1, 32w, H/16, W/16]
    values: list[Tensor] = field(default_factory=list)  # their objects' features, projected [N, 32w, ...]


@dataclass
class _Walk:
    """Propagation in one direction: where it stands, and where it is still to go."""

    source: int
    probability: Tensor  # of the source [N, 1, H, W]
    targets: deque[int]


class ATNetSegmenter:
    """Segments a video interactively with A-Net and T-Net (follows :class:`ivos.engine.Segmenter`).

    What depends on an image alone is computed once per frame and video, what depends on an annotation and a
    frame once for the two, and both are kept within the memory granted; beyond it they are computed again.

    Args:
        network: what runs. Weights changed in place or moved to another device count from the next
            :meth:`start` on.
        precision: of the networks' arithmetic; the similarity of the global transfer is float32 in any case.
        winograd: 3x3 convolutions by Winograd's algorithm, which needs a CPU, float32, no channels_last and
            a PyTorch with NNPACK; None for wherever that is so.
        channels_last: the memory order that some GPUs' convolutions prefer.
        compile: a mode of ``torch.compile`` (``default``, ``reduce-overhead`` for CUDA graphs); None: none.
        together: propagate in both directions at once; None for where it pays: on a GPU.
        lookahead: frames whose image features are computed together where they are missing.
        memory_gib: what may be kept on the network's device; None: half of what is free there.
        host_memory_gib: what may be kept in CPU memory behind a GPU; None: half of what is free.
    """

    def __init__(
        self,
        network: ATNet,
        precision: Precision = "float32",
        winograd: bool | None = None,
        channels_last: bool = False,
        compile: CompileMode | None = None,
        together: bool | None = None,
        lookahead: int = 1,
        memory_gib: float | None = None,
        host_memory_gib: float | None = None,
    ) -> None:
        if precision not in get_args(Precision):
            raise UserError(f"segmenter.precision: {precision!r} is none of {', '.join(get_args(Precision))}")
        if compile not in (None, *get_args(CompileMode)):
            raise UserError(f"segmenter.compile: {compile!r} is none of {', '.join(get_args(CompileMode))}")
        if lookahead < 1:
            raise UserError(f"segmenter.lookahead: at least 1 frame, got {lookahead}")
        self.network = network.eval()
        self.precision = precision
        self.winograd = winograd
        self.channels_last = channels_last
        self.compile = compile
        self.together = together
        self.lookahead = lookahead
        self.memory_gib = memory_gib
        self.host_memory_gib = host_memory_gib
        self._video: Video | None = None
        self._fast: ATNet | None = None
        self._fast_of: object = None

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Probabilities of the objects after the last round, float32 [T, N, h, w]."""
        video = self._started()
        return video.padding.crop(video.probabilities).cpu().numpy()

    def start(self, frames: NDArray[np.uint8], num_objects: int) -> None:
        """Begin a video; see :meth:`Segmenter.start`.

        Raises:
            UserError: its masks do not fit into memory.
        """
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
            raise ValueError(f"frames: uint8 [T, h, w, 3] is needed, got {frames.dtype} {list(frames.shape)}")
        if not 1 <= num_objects <= 254:
            raise ValueError(f"num_objects: 1 to 254 are possible, got {num_objects}")
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
        room = budget("segmenter.memory_gib", self.memory_gib, self._device)
        host_room = 0  # behind a CPU there is nothing
        if self._device.type != "cpu":
            host_room = budget("segmenter.host_memory_gib", self.host_memory_gib, torch.device("cpu"))
        size = (len(frames), num_objects, *padding.padded_size)
        probabilities = zeros(size, self._device, room // 2)
        mapped = 4 * probabilities.numel() > room // 2
        self._video = Video(
            frames=frames,
            padding=padding,
            num_objects=num_objects,
            probabilities=probabilities,
            masks=np.zeros(frames.shape[:3], np.uint8),
            room=(room if mapped else room - 4 * probabilities.numel(), host_room),
        )

    @torch.inference_mode()
    def interact(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """Run a round; see :meth:`Segmenter.interact`."""
        video = self._started()
        if not 0 <= frame < len(video.frames):
            raise ValueError(f"frame: the video has frames 0 to {len(video.frames) - 1}, got {frame}")
        check_strokes(strokes, video.num_objects)
        plan = plan_round(frame, video.annotated, len(video.frames))
        with torch.autocast(self._device.type, enabled=False):  # the caller's: `precision` alone decides here
            probability = self._annotate(frame, strokes)
            video.probabilities[frame] = probability[:, 0]
            for target, new in self._propagate(plan, probability):
                blended, weight = video.probabilities[target], plan.weights[target]
                blended.mul_(1 - weight).add_(new[:, 0].to(blended.device), alpha=weight)
            self._update_masks(plan)
        return video.masks.copy()

    def _annotate(self, frame: int, strokes: Sequence[Stroke]) -> Tensor:
        """A-Net on a frame with all its strokes: probabilities [N, 1, H, W]; the frame joins the memory."""
        video = self._started()
        key = self._features([frame])[0].r5
        drawn = [*video.strokes.get(frame, []), *strokes]
        previous = video.masks[frame] if video.annotated else None
        channels = interaction_channels(drawn, previous, video.num_objects, *video.masks.shape[1:])
        interaction = self._to_device(video.padding.pad(channels))
        with self._autocast():
            logits, values = self._networks.anet(self._images([frame]), interaction)
        video.strokes[frame] = drawn
        video.annotated.append(frame)
        video.keys.append(key)
        video.values.append(values.clone())
        return logits.float().sigmoid()

    def _propagate(self, plan: Plan, probability: Tensor) -> Iterator[tuple[int, Tensor]]:
        """T-Net from frame to frame: yields each target with its probabilities [N, 1, H, W]."""
        walks = [
            _Walk(plan.annotated, probability, deque(frames)) for frames in (plan.backward, plan.forward)
        ]
        together = self._device.type == "cuda" if self.together is None else self.together
        for group in [walks] if together else [[walk] for walk in walks]:
            while active := [walk for walk in group if walk.targets]:
                yield from self._step(active)

    def _step(self, walks: list[_Walk]) -> Iterator[tuple[int, Tensor]]:
        """One frame on in each direction."""
        tnet = self._networks.tnet
        sources = [walk.source for walk in walks]
        targets = [walk.targets.popleft() for walk in walks]
        ahead = [frame for walk in walks for frame in list(walk.targets)[: self.lookahead - 1]]
        wanted = list(dict.fromkeys([*sources, *targets, *ahead]))
        features = dict(zip(wanted, self._features(wanted), strict=True))
        target = _joined([features[frame] for frame in targets])
        moved = torch.cat([self._global_transfer(frame, features[frame]) for frame in targets])
        mask = torch.cat([walk.probability for walk in walks])
        with self._autocast():
            local = tnet.local(target, _joined([features[frame] for frame in sources]), mask)
            logits = tnet.decode(target, moved, local)
        for walk, frame, new in zip(walks, targets, logits.float().sigmoid().chunk(len(walks)), strict=True):
            walk.source, walk.probability = frame, new
            yield frame, new

    def _global_transfer(self, frame: int, target: FrameFeatures) -> Tensor:
        """The objects' features on the annotated frames, moved to a frame and averaged, [N, 32w, ...].

        Their sum is kept, so that in each round only the new annotation has to be matched with a frame.
        """
        video, tnet = self._started(), self.network.tnet
        if not tnet.use_global:
            return torch.zeros_like(video.values[0])
        assert video.transfers is not None  # there are image features by now
        kept = video.transfers.get(frame)
        total = kept[0] if kept else torch.zeros_like(video.values[0], dtype=torch.float32)
        done = video.summed.get(frame, 0) if kept else 0
        r5 = target.r5.float()
        for key, value in zip(video.keys[done:], video.values[done:], strict=True):
            total = total + spread(value.float(), similarity(key.float(), r5))
        video.transfers.put(frame, (total,))
        video.summed[frame] = len(video.annotated)
        return total / len(video.annotated)

    def _update_masks(self, plan: Plan) -> None:
        """Give each pixel of the round's frames to its most probable object, the lowest number on a tie."""
        video = self._started()
        for frame in range(plan.start, plan.end + 1):
            best, label = video.padding.crop(video.probabilities[frame]).max(dim=0)
            video.masks[frame] = torch.where(best > THRESHOLD, label + 1, 0).to(torch.uint8).cpu().numpy()

    def _features(self, frames: Sequence[int]) -> list[FrameFeatures]:
        """T-Net's image features of frames, batch 1 each; the missing ones are computed together."""
        video = self._started()
        kept = {frame: video.recent.get(frame) or self._kept(frame) for frame in frames}
        found = {frame: features for frame, features in kept.items() if features}
        if missing := [frame for frame in frames if frame not in found]:
            with self._autocast():
                batch = self._networks.tnet.features(self._images(missing))
            for index, frame in enumerate(missing):
                one = [tensor[index : index + 1].clone() for tensor in vars(batch).values()]
                found[frame] = FrameFeatures(*one)
                self._keep(frame, found[frame])
        video.recent = found
        return [found[frame] for frame in frames]

    def _kept(self, frame: int) -> FrameFeatures | None:
        video = self._started()
        kept = video.features.get(frame) if video.features else None
        return FrameFeatures(*kept) if kept else None

    def _keep(self, frame: int, features: FrameFeatures) -> None:
        """Store a frame's features; the first ones tell how much room all of them take."""
        video, tensors = self._started(), tuple(vars(features).values())
        if video.features is None:
            room, host_room = video.room
            size = size_of(tensors)
            if size > max(room, host_room):
                raise UserError(
                    f"segmenter.memory_gib: {room / GIB:.3f} GiB are left for image features, and those of "
                    f"one frame take {size / GIB:.3f}; grant more"
                )
            of_all = size * len(video.frames)
            video.features = TensorStore(self._device, min(room, of_all), host_room)
            video.transfers = TensorStore(self._device, max(0, room - of_all))
        video.features.put(frame, tensors)

    def _images(self, frames: Sequence[int]) -> Tensor:
        """Normalised RGB [B, 3, H, W] of frames."""
        video = self._started()
        padded = video.padding.pad(video.frames[list(frames)].transpose(0, 3, 1, 2))
        images = self.network.normalise(self._to_device(padded))
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
        fast = fast_copy(self.network, winograd=possible if self.winograd is None else self.winograd)
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

    def _to_device(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device, non_blocking=True)

    def _started(self) -> Video:
        if self._video is None:
            raise RuntimeError("no video: call start(frames, num_objects) first")
        return self._video


def _joined(features: Sequence[FrameFeatures]) -> FrameFeatures:
    """Features of several frames as a batch."""
    if len(features) == 1:
        return features[0]
    return FrameFeatures(*map(torch.cat, zip(*(vars(one).values() for one in features), strict=True)))
