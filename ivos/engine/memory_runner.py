"""The inference of the networks on a frozen encoder: A-Net on features, T-Net on a memory of frames."""

import copy
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ivos.engine.compilation import compiled, filled, rounded_up
from ivos.engine.frame_features import FrameFeatureCache
from ivos.engine.network_runner import NetworkRunner
from ivos.engine.propagation import PropagationPass, Propagator
from ivos.engine.thresholding import centred
from ivos.networks import FrameFeatures, MemoryATNet, MemoryFeatures, MemoryFrame
from ivos.networks.memory import LOG_ODDS, RECENT, others_of, twice_as_large

ANNOTATED = 6
"""How many annotated frames are read at most: those nearest in time to the target frame."""


class MemoryRunner(NetworkRunner):
    """Runs a :class:`ivos.networks.MemoryATNet`; see :class:`NetworkRunner`.

    The engine's probabilities have their threshold at 0.8, as the released networks' have. Those of this
    network have it at 0.5: its logits are shifted by the logarithm of the odds of 0.8 where they leave it,
    and probabilities are converted back by :func:`ivos.engine.thresholding.centred`.
    """

    features_type = MemoryFeatures

    @property
    def memory_network(self) -> MemoryATNet:
        """The copy of the network that runs."""
        return cast(MemoryATNet, self.fused)

    def _copy_for_inference(self, winograd: bool) -> MemoryATNet:
        network = cast(MemoryATNet, copy.deepcopy(self.network).eval().requires_grad_(False))
        if self.precision != "float32":
            network.to(getattr(torch, self.precision))
        return network

    def _compile(self) -> None:
        for part in (self.memory_network.anet, self.memory_network.tnet):
            part.decoder.forward = _in_powers_of_two(compiled(part.decoder.forward, self.compile))  # type: ignore[method-assign]

    def annotate(
        self, features: FrameFeatureCache, frame: int, channels: NDArray[np.float32]
    ) -> tuple[Tensor, Tensor]:
        """Run A-Net on one frame; see :meth:`NetworkRunner.annotate`.

        The memory of the frame is made from its mask when it is propagated, so that the second tensor is
        empty.
        """
        [of_frame] = features.get([frame])
        with self.autocast():
            half = self.memory_network.anet(of_frame, features.padded(channels))
        logits = twice_as_large(half.float()) + LOG_ODDS
        return logits, logits.new_zeros(len(logits), 0)

    def key(self, features: FrameFeatures | MemoryFeatures) -> Tensor:
        """Return what an annotation keeps of its frame: nothing here, the memory is made when it is read."""
        assert isinstance(features, MemoryFeatures)
        return features.key.new_zeros(0)

    def image_features(self, images: Tensor) -> MemoryFeatures:  # type: ignore[override]
        """Return the frozen features of images in [0, 1], [B, 3, H, W]."""
        with self.autocast():
            return self.memory_network.features(images)

    def remember(self, features: MemoryFeatures, mask: Tensor) -> MemoryFrame:
        """Return the memory of a frame from its objects' probabilities [N, 1, H/2, W/2], even at 0.5."""
        with self.autocast():
            return self.memory_network.tnet.remember(features, mask, others_of(mask, 1))

    def step(
        self,
        target: MemoryFeatures,
        previous: MemoryFeatures,
        mask: Tensor,
        annotated: Sequence[MemoryFrame],
        recent: Sequence[MemoryFrame],
    ) -> Tensor:
        """Run T-Net for one frame; see :meth:`ivos.networks.memory.MemoryTNet.forward`.

        Returns:
            the objects' probabilities as the engine has them, float32 [N, 1, H, W].
        """
        with self.autocast():
            logits, _ = self.memory_network.tnet(target, previous, mask, annotated, recent)
        return (twice_as_large(logits.float()) + LOG_ODDS).sigmoid()


def _in_powers_of_two(decode: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a guided decoder's forward method that fills the batch of one image's objects up with zeros."""

    def filled_up(image: Sequence[Tensor], guidance: Sequence[Tensor | None]) -> Tensor:
        count = next(len(maps) for maps in guidance if maps is not None)
        batch = rounded_up(count)
        return decode(image, [None if maps is None else filled(maps, batch) for maps in guidance])[:count]

    return filled_up


class MemoryPropagator(Propagator):
    """Propagates by reading the memory of annotated and recent frames; see :class:`Propagator`."""

    networks: MemoryRunner

    def _tnet_step(
        self,
        passes: Sequence[PropagationPass],
        targets: Sequence[int],
        features: dict[int, FrameFeatures],
    ) -> Tensor:
        """Compute T-Net's probabilities in the next frame of each pass."""
        found = []
        for one, target in zip(passes, targets, strict=True):
            known = cast(dict[int, MemoryFeatures], features)
            mask = self._half(one.probability)
            if one.source not in self._annotations():
                one.recent.append(self.networks.remember(known[one.source], mask))
                del one.recent[:-RECENT]
            annotated = self._annotated(target)
            found.append(self.networks.step(known[target], known[one.source], mask, annotated, one.recent))
        return torch.cat(found)

    @staticmethod
    def _half(probability: Tensor) -> Tensor:
        """Return probabilities [N, 1, H, W] of the engine as the network's, even at 0.5, at half the size."""
        return F.avg_pool2d(centred(probability), 2)

    def _annotations(self) -> dict[int, MemoryFrame]:
        """Return the memory of every annotated frame, computed once per round."""
        if not hasattr(self, "_memory"):
            frames = sorted({one.frame for one in self.video.rounds if one.annotation is not None})
            every = cast(list[MemoryFeatures], self.features.get(frames))
            self._memory = {
                frame: self.networks.remember(of_frame, self._half(self.video.of(frame)[:, None]))
                for frame, of_frame in zip(frames, every, strict=True)
            }
        return self._memory

    def _annotated(self, target: int) -> list[MemoryFrame]:
        nearest = sorted(self._annotations(), key=lambda frame: (abs(frame - target), frame))
        return [self._annotations()[frame] for frame in nearest[:ANNOTATED]]
