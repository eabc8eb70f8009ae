"""Preparation and execution of the networks for inference: fused layers, precision and compilation."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivos.engine.arithmetic import tf32
from ivos.engine.compilation import compiled, filled, rounded_up
from ivos.engine.fused_layers import fast_copy, has_nnpack
from ivos.interaction import Stroke, interaction_channels
from ivos.networks import ANet, ATNet, FrameFeatures
from ivos.runtime.errors import UserError

if TYPE_CHECKING:
    from ivos.engine.frame_features import FrameFeatureCache

Precision = Literal["float32", "bfloat16", "float16"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]


class NetworkRunner:
    """Runs A-Net and T-Net on images and masks; it holds no state of a video.

    The runner uses a copy of the network with fused layers (:func:`ivos.engine.fused_layers.fast_copy`),
    which :meth:`refresh` rebuilds when the weights have changed. The other methods must be called inside the
    context :meth:`arithmetic`.

    Args:
        network: The network to run.
        precision: Data type of the networks' arithmetic.
        tf32: Whether float32 products on a GPU may be computed in TF32.
        winograd: Whether 3x3 convolutions use Winograd's algorithm; None uses it where it is possible.
        channels_last: Whether images and weights use PyTorch's channels-last memory format.
        compile: Mode of ``torch.compile``, or None for no compilation. Batches of compiled parts are padded
            with zeros to powers of two (:mod:`ivos.engine.compilation`).

    Raises:
        UserError: The precision or the compile mode is unknown.
    """

    def __init__(
        self,
        network: ATNet,
        precision: Precision = "float32",
        tf32: bool = False,
        winograd: bool | None = None,
        channels_last: bool = False,
        compile: CompileMode | None = None,
    ) -> None:
        if precision not in get_args(Precision):
            raise UserError(
                f"segmenter.precision: {precision!r} is not one of {', '.join(get_args(Precision))}"
            )
        if compile not in (None, *get_args(CompileMode)):
            raise UserError(
                f"segmenter.compile: {compile!r} is not one of {', '.join(get_args(CompileMode))}"
            )
        self.network = network.eval()
        self.precision = precision
        self.tf32 = tf32
        self.winograd = winograd
        self.channels_last = channels_last
        self.compile = compile
        self._fused: ATNet | None = None
        self._fused_from: object = None  # identity and version of the weights that were copied

    features_type: ClassVar[type] = FrameFeatures

    @property
    def device(self) -> torch.device:
        """The device of the network's weights."""
        return self.network.mean.device

    @property
    def fused(self) -> ATNet:
        """The copy of the network with fused layers; :meth:`refresh` must have been called before."""
        assert self._fused is not None
        return self._fused

    def refresh(self) -> None:
        """Rebuild the fused copy if the weights or their device have changed.

        Raises:
            UserError: Winograd's algorithm was requested but is not possible with the other settings.
        """
        weights = list(self.network.state_dict(keep_vars=True).values())
        version = [(tensor.data_ptr(), tensor._version, tensor.device) for tensor in weights]
        if version == self._fused_from:
            return
        mean = self.network.mean
        plain = mean.device.type == "cpu" and mean.dtype == torch.float32 and self.precision == "float32"
        possible = plain and not self.channels_last and has_nnpack()
        if self.winograd and not possible:
            raise UserError(
                "segmenter.winograd=true: needs a CPU, float32, channels_last=false and a PyTorch with "
                "NNPACK; set it to null"
            )
        winograd = possible if self.winograd is None else self.winograd
        fused = self._copy_for_inference(winograd)
        if self.channels_last:
            fused = fused.to(memory_format=torch.channels_last)
        self._fused, self._fused_from = fused, version
        if self.compile:
            self._compile()

    def _copy_for_inference(self, winograd: bool) -> ATNet:
        """Return a copy of the network with fused layers, in the chosen precision."""
        return fast_copy(self.network, winograd, getattr(torch, self.precision))

    def _compile(self) -> None:
        """Compile the parts of the fused copy that run at each step."""
        fused = self.fused
        fused.anet = cast(ANet, compiled(fused.anet, self.compile))
        for name in ("features", "decode"):
            setattr(fused.tnet, name, compiled(getattr(fused.tnet, name), self.compile))

    def _batch(self, count: int) -> int:
        """Return the batch size for a number of images or objects; compilation rounds it up."""
        return rounded_up(count) if self.compile else count

    def channels(
        self, strokes: Sequence[Stroke], mask: NDArray[np.uint8] | None, num_objects: int, size: Sequence[int]
    ) -> NDArray[np.float32]:
        """Return A-Net's interaction channels of all objects; see :func:`interaction_channels`.

        Args:
            strokes: All strokes drawn on the frame so far.
            mask: The frame's labels before this round, uint8 [h, w]; None in the first round.
            num_objects: Number of objects N.
            size: Height and width (h, w) of the frame.

        Returns:
            Previous mask, positive and negative strokes of each object [N, 3, h, w].
        """
        everywhere = self.network.negatives_everywhere
        return interaction_channels(strokes, mask, num_objects, size[0], size[1], everywhere)

    def key(self, features: FrameFeatures) -> Tensor:
        """Return the feature of an annotated frame that the global transfer matches [1, 32w, H/16, W/16]."""
        return features.r5

    @contextlib.contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Return a context without gradients and with this runner's precision, overriding the caller's.

        A generator must not yield inside this context, because the settings would also apply to its caller.
        """
        no_autocast = torch.autocast(self.device.type, enabled=False)
        with torch.inference_mode(), no_autocast, tf32(self.tf32):
            yield

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which operations run in :attr:`precision`."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.precision))

    def normalise(self, frames: Tensor) -> Tensor:
        """Return the networks' input from padded uint8 RGB frames [B, 3, H, W]."""
        images = self.network.normalise(frames)
        return images.to(memory_format=torch.channels_last) if self.channels_last else images

    def annotate(
        self, features: "FrameFeatureCache", frame: int, channels: NDArray[np.float32]
    ) -> tuple[Tensor, Tensor]:
        """Run A-Net on one frame with the interaction channels of N objects.

        Args:
            features: Cache that holds the frame's image.
            frame: Index of the frame.
            channels: Previous mask, positive and negative strokes of each object [N, 3, h, w].

        Returns:
            Logits [N, 1, H, W] and the projected object features [N, 32w, H/16, W/16].
        """
        count = len(channels)
        drawn = filled(features.padded(channels), self._batch(count))
        with self.autocast():
            logits, values = self.fused.anet(features.images([frame]), drawn)
        return logits[:count], values[:count]

    def image_features(self, images: Tensor) -> FrameFeatures:
        """Return T-Net's image features of normalised images [B, 3, H, W]."""
        count = len(images)
        with self.autocast():
            features = self.fused.tnet.features(filled(images, self._batch(count)))
        return FrameFeatures(*(tensor[:count] for tensor in vars(features).values()))

    def propagate(
        self, target: FrameFeatures, moved: Tensor, previous: FrameFeatures, probability: Tensor
    ) -> Tensor:
        """Run T-Net's local transfer and decoder: one propagation step for N objects in each of B frames.

        Args:
            target: Image features of the B target frames.
            moved: Object features transferred from the annotated frames to each target by the global
                transfer [B N, 32w, H/16, W/16].
            previous: Image features of the previous frame of each target.
            probability: The objects' probabilities in the previous frames [B N, 1, H, W].

        Returns:
            The objects' probabilities in the target frames, float32 [B N, 1, H, W].
        """
        tnet, frames = self.fused.tnet, len(target.r5)
        count = len(moved) // frames
        batch = self._batch(count)
        with self.autocast():
            local = tnet.local(target, previous, probability)
            if batch > count:
                moved, local = (
                    torch.cat([filled(part, batch) for part in each.chunk(frames)]) for each in (moved, local)
                )
            logits = tnet.decode(target, moved, local)
        if batch > count:
            logits = torch.cat([part[:count] for part in logits.chunk(frames)])
        return logits.float().sigmoid()
