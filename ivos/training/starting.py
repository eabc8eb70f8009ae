"""Where T-Net begins: at what A-Net has learned, with transfers that already transfer something."""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from ivos.networks import ATNet
from ivos.networks.backbone import Backbone


@torch.no_grad()
def tnet_from_anet(network: ATNet, frames: Tensor, spread: float) -> None:
    """Copy A-Net's encoder and decoder into T-Net and let the global transfer carry A-Net's r5, in place.

    The object feature begins as A-Net's r5, and what T-Net's decoder gets begins as the object feature
    moved to the target frame, so that T-Net begins as A-Net decoding on a frame that it was not shown,
    from features carried there. The similarities of an r5 as it comes are of a spread at which the
    softmax over the target's positions gives all to one of them, whichever is brightest, and through
    which no gradient passes; r5 is scaled to a spread from which they can be learned.

    Args:
        network: A-Net trained, T-Net not.
        frames: some images, uint8 RGB [B, T, 3, H, W].
        spread: standard deviation of the similarities of a position with all of another frame's, about 2.
    """
    anet, tnet = network.anet, network.tnet
    state = anet.encoder.state_dict()
    state["stem.weight"] = state["stem.weight"][:, :3]
    tnet.encoder.load_state_dict(state)
    tnet.decoder.load_state_dict(anet.decoder.state_dict())
    _scale_r5(tnet.encoder, spread / similarity_spread(network, frames))
    _begin_as_second_half(anet.converter.fuse)
    _begin_as_second_half(tnet.fuse)


def _begin_as_second_half(fuse: nn.Conv2d) -> None:
    """Let a 1x1 convolution of two features pass the second on, with a little of the first."""
    half = fuse.weight.shape[0]
    fuse.weight[:, :half] *= 0.3
    fuse.weight[:, half:] *= 0.1
    fuse.weight[:, half:] += torch.eye(half)[:, :, None, None]
    if fuse.bias is not None:
        fuse.bias.zero_()


def _scale_r5(encoder: Backbone, factor: float) -> None:
    """Scale dot products of r5 with itself by a factor: all that is added up in it, by its root."""
    for block in encoder.stages[3]:  # type: ignore[union-attr,attr-defined]
        norms = [block.bn3, *(part for part in block.shortcut if isinstance(part, nn.BatchNorm2d))]
        for norm in norms:
            norm.weight *= factor**0.5
            norm.bias *= factor**0.5


@torch.no_grad()
def amplify_local(network: ATNet, gain: float) -> None:
    """Let T-Net's decoder hear the local transfer so many times louder, in place; else it does what it did.

    The local transfer, a number from 0 to 1, is added to all channels of features that grow to tens in
    training, and is lost in them: the decoder learns what the global transfer says first. Here these
    features become smaller and what reads them larger. The decoder is homogeneous between its first
    convolution and its head but for its biases, so without a local transfer no logit changes.

    Args:
        network: A-Net and T-Net.
        gain: the factor; 1 changes nothing.
    """
    decoder = network.tnet.decoder
    entrances = [decoder.reduce[0], decoder.refine3.skip_in, decoder.refine2.skip_in]
    inside = [*decoder.reduce[1:], *decoder.refine3.children(), *decoder.refine2.children()]
    smaller = [*(conv.weight for conv in entrances), *(conv.bias for conv in {*entrances, *inside})]
    for parameter in smaller:
        parameter.div_(gain)
    reads = cast(nn.Conv2d, decoder.head[0]).weight
    reads[:, : reads.shape[1] // 2] *= gain


@torch.no_grad()
def similarity_spread(network: ATNet, frames: Tensor) -> float:
    """Standard deviation over the positions of a frame of their dot products with one of the first frame.

    Args:
        network: whose T-Net's r5 it is, with batch statistics, as in training.
        frames: uint8 RGB [B, T, 3, H, W]; the first and the last of each are matched.
    """
    encoder = copy.deepcopy(network.tnet.encoder).train()
    images = network.normalise(frames[:, [0, -1]].to(network.mean.device))
    r5 = encoder(images.flatten(0, 1)).r5.unflatten(0, images.shape[:2]).flatten(3)
    return float((r5[:, 0].transpose(1, 2) @ r5[:, 1]).std(2).mean())
