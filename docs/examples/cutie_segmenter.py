"""Cutie (Cheng et al., 2024) as a segmenter of ivos, for protocols that give masks.

Needs the package of https://github.com/hkchengrex/Cutie, which loads its weights itself::

    cp docs/examples/cutie_segmenter.py .
    uv run evaluate.py segmenter=mine segmenter._target_=cutie_segmenter.Cutie protocol=first_mask
"""

import numpy as np
import torch


class Cutie:
    """Segmenter that propagates given masks through the video with Cutie, forward and backward.

    Args:
        size: Shorter side of the frames for Cutie, in pixels; -1 for the frames' own size.
        device: Device of the network; None selects a GPU if there is one.
    """

    prompts = ("masks",)

    def __init__(self, size: int = 480, device: str | None = None) -> None:
        from cutie.inference.inference_core import InferenceCore
        from cutie.utils.get_default_model import get_default_model

        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model, self.core, self.size = get_default_model().to(self.device).eval(), InferenceCore, size

    def start(self, frames: np.ndarray, num_objects: int) -> None:
        """Start a video with frames uint8 RGB [T, h, w, 3] and objects 1..N."""
        self.frames, self.num_objects = frames, num_objects
        self.masks, self.given = np.zeros(frames.shape[:3], np.uint8), {}

    @torch.inference_mode()
    def interact(self, frame: int, prompts: list) -> np.ndarray:
        """Propagate the given labels and return those of the whole video, uint8 [T, h, w]."""
        if prompts:
            raise ValueError("Cutie takes only masks as prompts; use protocol=first_mask")
        first = min(self.given)
        self._carry(range(first, len(self.frames)))
        self._carry(range(first, -1, -1))
        return self.masks.copy()

    def adopt(self, frame: int, labels: np.ndarray) -> np.ndarray:
        """Set the labels of a frame, uint8 [h, w], which the next call of interact propagates."""
        self.given[frame] = labels
        return labels

    def _carry(self, frames: range) -> None:
        """Propagate masks through frames in order; given labels are added to Cutie's memory."""
        tracker = self.core(self.model, cfg=self.model.cfg)
        tracker.max_internal_size = self.size
        for t in frames:
            image = torch.from_numpy(self.frames[t]).permute(2, 0, 1).float().to(self.device) / 255
            if (given := self.given.get(t)) is None:
                probabilities = tracker.step(image)
                self.masks[t] = tracker.output_prob_to_mask(probabilities).cpu().numpy()
                continue
            objects = [int(label) for label in np.unique(given) if label]
            tracker.step(image, torch.from_numpy(given.astype(np.int64)).to(self.device), objects=objects)
            self.masks[t] = given
