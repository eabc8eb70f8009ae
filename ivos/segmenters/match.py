"""A segmenter without training, by GrabCut, optical flow, and matched features of a pretrained encoder."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ivos.engine.devices import choose_device
from ivos.engine.frames import Frames
from ivos.engine.memory_runner import ANNOTATED
from ivos.engine.optical_flow import Floats, Quality
from ivos.engine.padding import Padding
from ivos.networks import MemoryATNet, load
from ivos.networks.memory import RECENT, read
from ivos.runtime.errors import UserError
from ivos.runtime.options import NonNegative
from ivos.runtime.signatures import check_options
from ivos.segmenters.grabcut_flow import FlowSegmenter

_CELL = 4  # side in pixels of a cell; each matched position has the values of 2 x 2 cells


class MatchSegmenter(FlowSegmenter):
    """A segmenter that propagates labels by optical flow and by the similarity of pretrained features.

    The class extends :class:`FlowSegmenter` by one more source of labels. For each position of a frame, the
    most similar positions of the annotated and the latest frames are found by the frozen features of an
    encoder (label propagation, :func:`ivos.networks.memory.read`). The labels at these positions are averaged
    with the labels that the flow carries. The class follows :class:`ivos.engine.Segmenter`.

    Args:
        encoder: Name of shipped weights, or a checkpoint, of a network with a frozen encoder.
        match: Weight of the labels that are found by similarity. The labels carried by the flow have a weight
            of about 1 for each of up to three reference frames.
        short_side: Largest shorter side of the working size in pixels; see :class:`FlowSegmenter`.
        flow: Quality of the flow; see :class:`FlowSegmenter`.
        device: Device of the encoder; None for the best available one.

    Raises:
        UserError: An option has a value that is not possible, or the checkpoint has no frozen encoder.
    """

    def __init__(
        self,
        encoder: str = "base",
        match: NonNegative = 0.3,
        short_side: int | None = 240,
        flow: Quality = "fine",
        device: str | None = None,
    ) -> None:
        super().__init__(short_side, flow)
        check_options({"match": match}, MatchSegmenter, "segmenter")
        network = load(encoder)
        if not isinstance(network, MemoryATNet):
            raise UserError(f"segmenter.encoder: {encoder} has no frozen encoder; choose base, for example")
        self.match = match
        self.device = choose_device(device)
        self.network = network.to(self.device)

    def start(self, frames: Frames, num_objects: int) -> None:
        """Begin a video; see :meth:`ivos.engine.Segmenter.start`."""
        super().start(frames, num_objects)
        self._keys: dict[int, Tensor] = {}
        height, width = self._video.images[0].shape[:2]
        self._padding = Padding.to_multiple_of_32(height, width)

    @torch.inference_mode()
    def _key(self, frame: int) -> Tensor:
        """Return the features by which a frame is matched, [1, C, h/8, w/8], which are computed once."""
        if frame not in self._keys:
            image = self._padding.pad(self._video.images[frame][None].transpose(0, 3, 1, 2))
            pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
            self._keys[frame] = self.network.features(self.network.normalise(pixels)).key
        return self._keys[frame]

    def _value(self, probabilities: Floats) -> Tensor:
        """Convert probabilities [h, w, N] into the values of a memory frame, [N, 4, h/8, w/8]."""
        layers = self._padding.pad(np.ascontiguousarray(probabilities.transpose(2, 0, 1)[:, None]))
        small = F.avg_pool2d(torch.from_numpy(np.ascontiguousarray(layers)).to(self.device), _CELL)
        return F.pixel_unshuffle(small, 2)

    @torch.inference_mode()
    def _read(self, target: int, known: dict[int, Floats]) -> Floats:
        """Return the probabilities [h, w, N] of a frame, read from known frames by similarity."""
        keys = [self._key(frame) for frame in known]
        values = [self._value(np.asarray(one, np.float32)) for one in known.values()]
        found = F.pixel_shuffle(read(self._key(target), keys, values)[:, :4], 2)
        full = F.interpolate(found, scale_factor=float(_CELL), mode="bilinear", align_corners=False)
        return self._padding.crop(full)[:, 0].permute(1, 2, 0).cpu().numpy()  # type: ignore[no-any-return]

    def _carried(
        self, target: int, source: int, order: Sequence[int], done: Mapping[int, Floats]
    ) -> tuple[Floats, Floats]:
        """Add the labels read by similarity to the weighted sum that the flow carries to a target."""
        video = self._video
        total, weights = super()._carried(target, source, order, done)
        nearest = sorted(video.strokes, key=lambda frame: (abs(frame - target), frame))[:ANNOTATED]
        known = {frame: np.asarray(video.probabilities[frame], np.float32) for frame in nearest}
        known |= {frame: done[frame] for frame in order[-RECENT:]}
        return total + self.match * self._read(target, known), weights + self.match
