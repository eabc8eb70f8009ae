"""What training begins with: a checkpoint's weights, ImageNet's, a local projection that sees something."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ivos.data.training import TrainingData
from ivos.networks import ATNet, load, load_imagenet
from ivos.runtime.errors import UserError
from ivos.training.starting import amplify_local, tnet_from_anet

WHITENED = 32  # samples whose images tell what is to be whitened or scaled


@dataclass(frozen=True)
class Initialisation:
    """How the part of the network that a stage trains begins, where not as the stage before left it.

    Attributes:
        imagenet: torchvision's ResNet-50 weights for the encoders that learn: a file, or ``download``.
        from_anet: start T-Net from A-Net by :func:`ivos.training.starting.tnet_from_anet`, with that spread
            of the similarities; None leaves it as it is.
        anet_bias: added to A-Net's logits: what its stage's loss holds for even, the rounds, which ask for a
            probability of 0.8, should take for object; None leaves them as they are.
        whiten_local: start the local projection from :func:`whiten_local`, with that sharpness; None leaves
            it as it is.
        local_gain: how much louder the decoder hears the local transfer, by
            :func:`ivos.training.starting.amplify_local`; None leaves it as it is.
    """

    imagenet: str | Path | None = None
    from_anet: float | None = None
    anet_bias: float | None = None
    whiten_local: float | None = None
    local_gain: float | None = None

    def __post_init__(self) -> None:
        """Say what cannot be done before anything is.

        Raises:
            UserError: there is no such file, or no such sharpness.
        """
        if self.imagenet not in (None, "download") and not Path(str(self.imagenet)).is_file():
            raise UserError(f"init.imagenet={self.imagenet}: no such file; or say download")
        for name in ("from_anet", "whiten_local", "local_gain"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"init.{name}={value}: above 0, or null for none")

    def __call__(self, network: ATNet, data: TrainingData) -> None:
        """Set the parameters of a network, in place.

        Args:
            network: whose learning parameters ask for gradients.
            data: what it is going to be trained on.
        """
        if self.imagenet is not None:
            for part in (network.anet, network.tnet):
                if part.encoder.stem.weight.requires_grad:
                    load_imagenet(part.encoder, self.imagenet)
        if self.from_anet is not None:
            data.setup("fit")
            tnet_from_anet(network, data.first_batch(WHITENED)["frames"], self.from_anet)
        if self.anet_bias is not None:
            with torch.no_grad():
                network.anet.decoder.head[-1].bias += self.anet_bias  # type: ignore[operator,assignment]
        if self.whiten_local is not None:
            data.setup("fit")
            whiten_local(network, data.first_batch(WHITENED)["frames"], self.whiten_local)
        if self.local_gain is not None:
            amplify_local(network, self.local_gain)


@torch.no_grad()
def whiten_local(network: ATNet, frames: Tensor, sharpness: float) -> None:
    """Let T-Net's local projection whiten the feature that it projects, in place.

    The features that an untrained projection gives are so alike that the local transfer begins as a mean over
    the neighbourhood, from which it learns slowly. White features (zero mean, no correlation between
    channels, ZCA) are alike only where the images are.

    Args:
        network: A-Net and T-Net.
        frames: some images, uint8 RGB [B, T, 3, H, W].
        sharpness: factor of the dot products before the local transfer's softmax; about 20 for a single peak.
    """
    tnet = network.tnet
    learns = tnet.encoder.stem.weight.requires_grad
    encoder = copy.deepcopy(tnet.encoder).train(learns)  # as in training, but its statistics are not to move
    r2 = encoder(network.normalise(frames.flatten(0, 1).to(network.mean.device)))[0]
    samples = r2.transpose(0, 1).flatten(1).double()  # [C, pixels]
    variances, axes = torch.linalg.eigh(torch.cov(samples))
    scale = (variances + 0.01 * variances.mean()).rsqrt()  # weak directions are noise
    whiten = sharpness**0.5 * axes @ torch.diag(scale) @ axes.T
    tnet.local_projection.weight.copy_(whiten[:, :, None, None])
    assert tnet.local_projection.bias is not None
    tnet.local_projection.bias.copy_(-whiten @ samples.mean(1))


def plain(value: Any) -> Any:
    """A value of a configuration with sequences as lists, so that equal ones compare equal."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value


def start_from(network: ATNet, path: str | Path) -> None:
    """Copy the weights of a checkpoint into a network of the same width, depth and kind of softmax.

    What their file says besides, the size of the frames and whether flow is to help, comes with them, unless
    the network has its own.

    Raises:
        UserError: the checkpoint is of another network; the message names both.
    """
    source = load(path)
    kept = ("width", "depths", "decoder_width", "normalize")
    theirs, ours = ({key: plain(each.config[key]) for key in kept} for each in (source, network))
    if theirs != ours:
        raise UserError(f"{path}: a checkpoint of {theirs}, but the model to train is {ours}: set model.*")
    network.load_state_dict(source.state_dict())
    if network.short_side is None:
        network.short_side = source.short_side
    if network.flow is None:
        network.flow = source.flow
