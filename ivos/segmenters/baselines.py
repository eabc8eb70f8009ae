"""Baselines for comparisons with a trained network; they follow :class:`ivos.engine.Segmenter`."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ivos.engine.frames import Frames, as_frames
from ivos.engine.padding import Padding
from ivos.engine.thresholding import to_labels
from ivos.interaction import Stroke, interaction_channels, rasterise
from ivos.networks import ATNet


class DilatedStrokes:
    """A segmenter that uses dilated strokes as the masks of the annotated frames; other frames stay empty.

    Args:
        diameter: Diameter of the brush, relative to the frame's shorter side.
    """

    def __init__(self, diameter: float = 0.1) -> None:
        self.diameter = diameter

    def start(self, frames: Frames, num_objects: int) -> None:
        """Begin a video; see :meth:`ivos.engine.Segmenter.start`."""
        frames = as_frames(frames)
        self._masks = np.zeros(frames.shape[:3], np.uint8)
        side = max(1, round(self.diameter * min(frames.shape[1:3])))
        self._brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))

    def interact(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """Draw the strokes on the frame's mask; see :meth:`ivos.engine.Segmenter.interact`."""
        mask = self._masks[frame]
        for stroke in strokes:
            drawn = (rasterise([stroke], *mask.shape) > 0).astype(np.uint8)
            mask[cv2.dilate(drawn, self._brush) > 0] = stroke["object_id"]
        return self._masks.copy()


class CopiedMask:
    """A segmenter that copies A-Net's mask of the nearest annotated frame to every frame, without T-Net.

    Args:
        network: The network whose A-Net segments annotated frames.
    """

    def __init__(self, network: ATNet) -> None:
        self.network = network.eval()

    def start(self, frames: Frames, num_objects: int) -> None:
        """Begin a video; see :meth:`ivos.engine.Segmenter.start`."""
        frames = as_frames(frames)
        self._frames, self._num_objects = frames, num_objects
        self._padding = Padding.to_multiple_of_32(*frames.shape[1:3])
        self._masks = np.zeros(frames.shape[:3], np.uint8)
        self._strokes: dict[int, list[Stroke]] = {}

    @torch.inference_mode()
    def interact(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """Segment the annotated frame and copy its mask; see :meth:`ivos.engine.Segmenter.interact`."""
        previous = self._masks[frame] if self._strokes else None
        drawn = self._strokes.setdefault(frame, [])
        drawn.extend(strokes)
        height, width = self._frames.shape[1:3]
        channels = interaction_channels(
            drawn, previous, self._num_objects, height, width, self.network.negatives_everywhere
        )
        image = self._padding.pad(self._frames[frame, None].transpose(0, 3, 1, 2))
        device = self.network.mean.device
        images, interaction = (
            torch.from_numpy(np.ascontiguousarray(array)).to(device)
            for array in (image, self._padding.pad(channels))
        )
        logits = self.network.annotate(self.network.normalise(images), interaction)
        self._masks[frame] = to_labels(self._padding.crop(logits.sigmoid()[:, 0])).cpu().numpy()
        copy_nearest(self._masks, self._strokes)
        return self._masks.copy()


def copy_nearest(masks: NDArray[np.uint8], annotated: Iterable[int]) -> None:
    """Replace each mask of [T, h, w] in place by the mask of the nearest annotated frame.

    Of two annotated frames at the same distance, the earlier one is used.
    """
    ordered = sorted(annotated)
    for t in range(len(masks)):
        masks[t] = masks[min(ordered, key=lambda a: abs(a - t))]
