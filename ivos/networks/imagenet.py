"""Initialisation of the encoders with torchvision's ImageNet weights of ResNet-50."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ivos.networks.backbone import Backbone
from ivos.networks.checkpoint import CheckpointError, read

URL = "https://download.pytorch.org/models/resnet50-0676ba61.pth"


def load_imagenet(encoder: Backbone, source: str | Path) -> list[str]:
    """Copy ResNet weights into an encoder's stages; the stem and the SE layers keep their weights.

    Args:
        encoder: A :class:`Backbone` with the width and depths of ResNet-50.
        source: The file ``resnet50-*.pth`` of torchvision, or ``download`` to fetch it into torch's hub
            cache.

    Returns:
        The names of the parameters and buffers that were set.

    Raises:
        CheckpointError: The weights do not fit this encoder; the message lists the keys.
    """
    state: Mapping[str, Any]
    if str(source) == "download":
        state = torch.hub.load_state_dict_from_url(
            URL, map_location="cpu", check_hash=True, weights_only=True
        )
    else:
        state = read(source)
    own = encoder.state_dict()
    fresh = (".squeeze.", ".excite.")
    wanted = [key for key in own if key.startswith("stages.") and not any(part in key for part in fresh)]
    found: dict[str, Tensor] = {}
    wrong = []
    for key in wanted:
        value = state.get(_torchvision_name(key))
        if value is None and key.endswith("num_batches_tracked"):
            continue  # files from before PyTorch 0.4.1 lack these counters
        if value is None or value.shape != own[key].shape:
            shape = "missing" if value is None else f"{tuple(value.shape)} instead of {tuple(own[key].shape)}"
            wrong.append(f"{_torchvision_name(key)} ({shape})")
        else:
            found[key] = value
    if wrong:
        raise CheckpointError(f"{source}: not ImageNet weights for this encoder: {', '.join(wrong)}")
    encoder.load_state_dict(found, strict=False)
    return list(found)


def _torchvision_name(key: str) -> str:
    """Rename a parameter, such as ``stages.0.2.shortcut.0.weight`` to ``layer1.2.downsample.0.weight``."""
    _, stage, rest = key.split(".", 2)
    return f"layer{int(stage) + 1}.{rest.replace('shortcut.', 'downsample.')}"
