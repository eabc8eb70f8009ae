"""What the processes of a distributed run agree on beyond Lightning: batch norm, and sharded networks."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.utils._pytree import register_pytree_node

from ivos.networks import ATNet, FrameFeatures
from ivos.networks.backbone import SEBottleneck

# FSDP looks for tensors in what a module takes and returns; it has to know this class to look inside.
register_pytree_node(
    FrameFeatures,
    lambda features: (list(vars(features).values()), list(vars(features))),
    lambda values, names: FrameFeatures(**dict(zip(names, values, strict=True))),
)


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


def shard(network: ATNet, mesh: DeviceMesh) -> None:
    """Share the parameters out over processes (FSDP2), in place; the optimiser's state follows them.

    Args:
        network: on every process the same.
        mesh: nodes x devices of a node. Nodes hold copies of each other, the devices of a node a part each.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    if mesh.shape[0] == 1:
        assert mesh.mesh_dim_names is not None
        mesh = mesh[mesh.mesh_dim_names[1]]
    for part in (network.anet, network.tnet):
        for module in part.modules():
            if isinstance(module, SEBottleneck):
                fully_shard(module, mesh=mesh)
        fully_shard(part, mesh=mesh)
    register_fsdp_forward_method(network.tnet, "features")


def is_sharded(network: nn.Module) -> bool:
    """Whether each process holds a part of the parameters only."""
    return any(isinstance(parameter, DTensor) for parameter in network.parameters())


def whole(network: ATNet) -> ATNet:
    """The network itself, or, where it is sharded, a whole copy of it; all processes have to ask for that."""
    if not is_sharded(network):
        return network
    state = {
        key: value.full_tensor() if isinstance(value, DTensor) else value
        for key, value in network.state_dict().items()
    }
    copy = ATNet(**network.config).to(network.mean.device)
    copy.load_state_dict(state)
    return copy.eval()
