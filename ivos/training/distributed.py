"""Exchange of values, names and batch-norm statistics between the processes of a distributed run."""

import torch
import torch.distributed as dist
from torch import Tensor, nn


def gather(values: Tensor) -> Tensor:
    """Gather values [K] from all processes to all processes, as [processes, K]."""
    if not dist.is_initialized():
        return values[None]
    gathered = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, values.contiguous())
    return torch.stack(gathered)


def gather_names(names: list[str]) -> list[str]:
    """Gather names from all processes to all processes, as one list."""
    if not dist.is_initialized():
        return names
    gathered: list[list[str]] = [[]] * dist.get_world_size()
    dist.all_gather_object(gathered, names)
    return [name for each in gathered for name in each]


@torch.no_grad()
def average_statistics(network: nn.Module) -> None:
    """Average the running means and variances of batch norms in training mode over the processes.

    The processes see different samples. The averaged running mean equals that of a single process that sees
    all samples; the averaged variance lacks the variance between the means of the processes.
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
        # .data, because autograd must not see this change; the backward pass uses the batch's statistics.
        buffer.data.copy_(value)
