"""Make a network whose masks and numbers differ enough to reveal mistakes."""

import torch
from torch import nn

from ivos.networks import ATNet, MemoryATNet


def lively(**changes) -> ATNet:
    """A small network with batch-norm statistics that matter and masks that are neither empty nor full."""
    torch.manual_seed(0)
    network = ATNet(**{"width": 16, "depths": (1, 2, 1, 1), "decoder_width": 64, **changes})
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.8, 1.2)
    for part in (network.anet, network.tnet):
        part.decoder.head[-1].weight.data *= 8
        part.decoder.head[-1].bias.data += 1.4
    return network.eval()


def lively_memory() -> MemoryATNet:
    """A network on a frozen encoder whose decoders change the masks that they start from."""
    torch.manual_seed(0)
    network = MemoryATNet()
    for part in (network.anet, network.tnet):
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.data.add_(0.02 * torch.randn_like(module.weight))
    return network.eval()
