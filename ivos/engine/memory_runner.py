"""Inference with the networks on a frozen encoder: A-Net on image features, T-Net with a memory of frames."""

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
"""Maximum number of annotated frames that are read: those nearest in time to the target frame."""


class MemoryRunner(NetworkRunner):
    """Runs a :class:`ivos.networks.MemoryATNet`; see :class:`NetworkRunner`.

    The engine's probabilities have their threshold at 0.8, like those of the released networks, but this
    network's have it at 0.5. The network's output logits are therefore shifted by the log odds of 0.8, and
    probabilities that are its input are converted by :func:`ivos.engine.thresholding.centred`.
    """

    features_type = MemoryFeatures

    @property
    def memory_network(self) -> MemoryATNet:
        """The copy of the network that is used for inference."""
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

        The second tensor is empty, because memory entries are computed from masks during propagation.
        """
        [of_frame] = features.get([frame])
        with self.autocast():
            drawn = self.memory_network.with_coarse_masks(features.images([frame]), features.padded(channels))
            half = self.memory_network.anet(of_frame, drawn)
        logits = twice_as_large(half.float()) + LOG_ODDS
        return logits, logits.new_zeros(len(logits), 0)

    def key(self, features: FrameFeatures | MemoryFeatures) -> Tensor:
        """Return an empty tensor, because memory entries are computed during propagation."""
        assert isinstance(features, MemoryFeatures)
        return features.key.new_zeros(0)

    def image_features(self, images: Tensor) -> MemoryFeatures:  # type: ignore[override]
        """Return the frozen features of images [B, 3, H, W] with values in [0, 1]."""
        with self.autocast():
            return self.memory_network.features(images)

    def remember(self, features: MemoryFeatures, mask: Tensor) -> MemoryFrame:
        """Return the memory entry of a frame.

        Args:
            features: Image features of the frame.
            mask: The objects' probabilities with a threshold of 0.5, [N, 1, H/2, W/2].
        """
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
            The objects' probabilities with the engine's threshold of 0.8, float32 [N, 1, H, W].
        """
        with self.autocast():
            logits, _ = self.memory_network.tnet(target, previous, mask, annotated, recent)
        return (twice_as_large(logits.float()) + LOG_ODDS).sigmoid()


def _in_powers_of_two(decode: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap a guided decoder's forward method so that it pads the batch of objects to a power of two."""

    def padded_decode(image: Sequence[Tensor], guidance: Sequence[Tensor | None]) -> Tensor:
        count = next(len(maps) for maps in guidance if maps is not None)
        batch = rounded_up(count)
        return decode(image, [None if maps is None else filled(maps, batch) for maps in guidance])[:count]

    return padded_decode


class MemoryPropagator(Propagator):
    """Propagates masks with the memory of annotated and recent frames; see :class:`Propagator`."""

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
        """Convert the engine's probabilities [N, 1, H, W] to a threshold of 0.5 and half the size."""
        return F.avg_pool2d(centred(probability), 2)

    def _annotations(self) -> dict[int, MemoryFrame]:
        """Return the memory entry of every annotated frame; they are computed once per round."""
        if not hasattr(self, "_memory"):
            frames = sorted({one.frame for one in self.video.rounds if one.annotation is not None})
            every = cast(list[MemoryFeatures], self.features.get(frames))
            self._memory = {
                frame: self.networks.remember(
                    of_frame, self._half(self.video.on_device(frame, self.networks.device)[:, None])
                )
                for frame, of_frame in zip(frames, every, strict=True)
            }
        return self._memory

    def _annotated(self, target: int) -> list[MemoryFrame]:
        nearest = sorted(self._annotations(), key=lambda frame: (abs(frame - target), frame))
        return [self._annotations()[frame] for frame in nearest[:ANNOTATED]]
