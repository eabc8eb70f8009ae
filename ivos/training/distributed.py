"""Values, names and batch-norm statistics that the processes of a distributed run exchange."""

import torch
import torch.distributed as dist
from torch import Tensor, nn


def gather(values: Tensor) -> Tensor:
    """Return the values [K] of each process, on every process: [processes, K]."""
    if not dist.is_initialized():
        return values[None]
    everyones = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(everyones, values.contiguous())
    return torch.stack(everyones)


def gather_names(names: list[str]) -> list[str]:
    """Return the names of all processes, on every process."""
    if not dist.is_initialized():
        return names
    everyones: list[list[str]] = [[]] * dist.get_world_size()
    dist.all_gather_object(everyones, names)
    return [name for each in everyones for name in each]


@torch.no_grad()
def average_statistics(network: nn.Module) -> None:
    """Set the running means and variances of batch norms in training mode to their mean over the processes.

    The processes see different samples. The mean of the running means equals the running mean of a single
    process that sees all samples; the mean of the variances lacks the variance between the processes' means.
    """
    trained = [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
    ]
    both = [each for module in trained for each in (module.running_mean, module.running_var)]
    buffers = [buffer for buffer in both if buffer is not None]
    if not buffers:
        return
    together = torch.cat(buffers)
    dist.all_reduce(together)
    together /= dist.get_world_size()
    for buffer, value in zip(buffers, together.split([len(buffer) for buffer in buffers]), strict=True):
        buffer.data.copy_(value)  # .data, since the backward pass uses the batch's own statistics
