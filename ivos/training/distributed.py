"""What the processes of a distributed run agree on beyond Lightning: values, names, batch norm."""

import torch
import torch.distributed as dist
from torch import Tensor, nn


def gather(values: Tensor) -> Tensor:
    """Each process' values [K], on every process: [processes, K]."""
    if not dist.is_initialized():
        return values[None]
    everyones = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(everyones, values.contiguous())
    return torch.stack(everyones)


def gather_names(names: list[str]) -> list[str]:
    """The names that all processes have, on every process."""
    if not dist.is_initialized():
        return names
    everyones: list[list[str]] = [[]] * dist.get_world_size()
    dist.all_gather_object(everyones, names)
    return [name for each in everyones for name in each]


@torch.no_grad()
def average_statistics(network: nn.Module) -> None:
    """Give the batch norms of all processes the mean of their running means and variances.

    Every process has seen other samples. The mean of the running means is what one process would have that
    saw all of them; the mean of the variances leaves out how far the processes' means lie apart.
    """
    learning = [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
    ]
    both = [each for module in learning for each in (module.running_mean, module.running_var)]
    buffers = [buffer for buffer in both if buffer is not None]
    if not buffers:
        return
    together = torch.cat(buffers)
    dist.all_reduce(together)
    together /= dist.get_world_size()
    for buffer, value in zip(buffers, together.split([len(buffer) for buffer in buffers]), strict=True):
        buffer.data.copy_(value)  # by .data: autograd need not know, the backward pass uses the batch's own
