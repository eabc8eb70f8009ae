"""The round procedure of A-Net and T-Net."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivos.engine.padding import Padding
from ivos.engine.plan import plan_round
from ivos.engine.store import FeatureStore
from ivos.interaction import Stroke, check_strokes, interaction_channels
from ivos.networks import ATNet, FrameFeatures

THRESHOLD = 0.8  # a pixel goes to its most probable object where that exceeds this, else to the background


@dataclass
class Video:
    """The state of one video between rounds (H, W: padded size, multiples of 32)."""

    frames: NDArray[np.uint8]  # [T, h, w, 3] RGB
    padding: Padding
    num_objects: int
    features: FeatureStore[FrameFeatures]
    probabilities: Tensor  # float32 [T, N, H, W], on the CPU
    masks: NDArray[np.uint8]  # [T, h, w]
    strokes: dict[int, list[Stroke]] = field(default_factory=dict)  # all ever drawn, by frame
    annotated: list[int] = field(default_factory=list)  # frame of each round, repeats kept
    objects: list[Tensor] = field(default_factory=list)  # object feature of each round [N, 32w, H/16, W/16]


class ATNetSegmenter:
    """Segments a video interactively with A-Net and T-Net (follows :class:`ivos.engine.Segmenter`).

    Memory per video: 4 bytes x N x H x W per frame for the probabilities, and T-Net's image features, about
    90 MB per frame at 480p for the full-size network, on the network's device.

    Args:
        network: what runs; it is put into eval mode. Move it to a GPU before or after, as you like.
    """

    def __init__(self, network: ATNet) -> None:
        self.network = network.eval()
        self._video: Video | None = None

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Probabilities of the objects after the last round, float32 [T, N, h, w]."""
        video = self._started()
        return video.padding.crop(video.probabilities).numpy()

    def start(self, frames: NDArray[np.uint8], num_objects: int) -> None:
        """Begin a video; see :meth:`Segmenter.start`."""
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
            raise ValueError(f"frames: uint8 [T, h, w, 3] is needed, got {frames.dtype} {list(frames.shape)}")
        if not 1 <= num_objects <= 254:
            raise ValueError(f"num_objects: 1 to 254 are possible, got {num_objects}")
        padding = Padding.to_multiple_of_32(*frames.shape[1:3])
        size = (len(frames), num_objects, *padding.padded_size)
        self._video = Video(
            frames=frames,
            padding=padding,
            num_objects=num_objects,
            features=FeatureStore(self._image_features),
            probabilities=torch.zeros(size),
            masks=np.zeros(frames.shape[:3], np.uint8),
        )

    @torch.inference_mode()
    def interact(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """Run a round; see :meth:`Segmenter.interact`."""
        video = self._started()
        if not 0 <= frame < len(video.frames):
            raise ValueError(f"frame: the video has frames 0 to {len(video.frames) - 1}, got {frame}")
        check_strokes(strokes, video.num_objects)
        plan = plan_round(frame, video.annotated, len(video.frames))

        annotated_probability = self._annotate(frame, strokes)
        video.probabilities[frame] = annotated_probability[:, 0].cpu()
        for frames in (plan.backward, plan.forward):
            for target, new in self._propagate(frame, annotated_probability, frames):
                weight = plan.weights[target]
                video.probabilities[target].mul_(1 - weight).add_(new[:, 0].cpu(), alpha=weight)
        self._update_masks(plan.start, plan.end)
        return video.masks.copy()

    def _annotate(self, frame: int, strokes: Sequence[Stroke]) -> Tensor:
        """A-Net on a frame with all its strokes: probabilities [N, 1, H, W]; the frame joins the memory."""
        video = self._started()
        drawn = video.strokes.setdefault(frame, [])
        drawn.extend(strokes)
        previous = video.masks[frame] if video.annotated else None
        channels = interaction_channels(drawn, previous, video.num_objects, *video.masks.shape[1:])
        interaction = self._to_device(video.padding.pad(channels))
        logits, object_feature = self.network.anet(self._image(frame), interaction)
        video.annotated.append(frame)
        video.objects.append(object_feature)
        return logits.sigmoid()

    def _propagate(
        self, source: int, probability: Tensor, targets: Iterable[int]
    ) -> Iterable[tuple[int, Tensor]]:
        """T-Net from frame to frame: yields each target with its probabilities [N, 1, H, W]."""
        video = self._started()
        annotated = torch.stack([video.features[frame].r5 for frame in video.annotated], dim=1)
        objects = torch.stack(video.objects, dim=1)
        for target in targets:
            logits, _ = self.network.tnet(
                video.features[target], video.features[source], probability, annotated, objects
            )
            source, probability = target, logits.sigmoid()
            yield target, probability

    def _update_masks(self, start: int, end: int) -> None:
        """Give each pixel of frames start..end to its most probable object, the lowest number on a tie."""
        video = self._started()
        best, label = video.padding.crop(video.probabilities[start : end + 1]).max(dim=1)
        video.masks[start : end + 1] = torch.where(best > THRESHOLD, label + 1, 0).numpy()

    def _image(self, frame: int) -> Tensor:
        video = self._started()
        image = video.padding.pad(video.frames[frame].transpose(2, 0, 1))
        return self.network.normalise(self._to_device(image)[None])

    def _image_features(self, frame: int) -> FrameFeatures:
        return self.network.tnet.features(self._image(frame))

    def _to_device(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self.network.mean.device)

    def _started(self) -> Video:
        if self._video is None:
            raise RuntimeError("no video: call start(frames, num_objects) first")
        return self._video
