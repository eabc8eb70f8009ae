"""An imitated GPU: tensors that claim to be on ``cuda:0`` and compute on the CPU.

Like a real GPU, the imitation refuses an operation on tensors of both devices, and counts the operations that
read a value back and thus wait for all pending work of a GPU. There is no backward pass, because PyTorch's
engine of gradients needs the driver of a GPU.
"""

import contextlib
from collections import Counter
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda:0")
_aten = torch.ops.aten
# Operations whose result depends on values in a way that the CPU has to know.
_READING = {_aten._local_scalar_dense, _aten.nonzero, _aten.masked_select, _aten.bincount, _aten.equal}


class GpuTensor(torch.Tensor):
    """A tensor that claims to be on the imitated GPU; ``held`` has its values."""

    @staticmethod
    def __new__(cls, held):
        with torch.inference_mode(False):  # so that views of earlier tensors can be wrapped
            return torch.Tensor._make_wrapper_subclass(
                cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(),
                dtype=held.dtype, layout=held.layout, device=GPU,
            )  # fmt: skip

    def __init__(self, held):
        self.held = held

    def __repr__(self):
        return f"GpuTensor({self.held!r})"

    def tolist(self):
        return self.cpu().tolist()

    def __tensor_flatten__(self):
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner, meta, outer_size, outer_stride):
        return GpuTensor(inner["held"])

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func}: a tensor of the imitated GPU is used outside of imitated_gpu()")


class _Imitation(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls):
        return False  # otherwise PyTorch imports its compiler, which takes seconds

    def __init__(self):
        super().__init__()
        self.reads = Counter()  # number of operations that wait for the GPU, by name

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, torch.Tensor)]
        on_gpu = [each for each in tensors if isinstance(each, GpuTensor)]
        packet = func.overloadpacket
        asked = kwargs.get("device", next((each for each in args if isinstance(each, torch.device)), None))
        if packet is _aten.to and func._overloadname == "other":
            asked = args[1].device
            args = (args[0], args[1].held if isinstance(args[1], GpuTensor) else args[1], *args[2:])
        to_gpu = asked is not None and torch.device(asked).type == "cuda"
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        args = tree_map(lambda x: torch.device("cpu") if isinstance(x, torch.device) else x, args)
        kwargs.pop("pin_memory", None)
        if packet is _aten.copy_:
            if on_gpu and not isinstance(args[0], GpuTensor):
                self.reads["copy_ to the CPU"] += 1
        elif packet in (_aten._to_copy, _aten.to):
            to_gpu = to_gpu or (asked is None and bool(on_gpu))
            if on_gpu and not to_gpu and isinstance(args[0], GpuTensor):
                self.reads["copy to the CPU"] += 1
        else:
            if on_gpu and any(not isinstance(each, GpuTensor) and each.dim() for each in tensors):
                shown = [(str(each.device), tuple(each.shape)) for each in tensors]
                raise RuntimeError(f"{func}: expected all tensors to be on the same device, got {shown}")
            if packet in _READING or (packet in (_aten.index, _aten.index_put_) and _has_mask(args[1])):
                self.reads[packet.__name__] += bool(on_gpu)
            to_gpu = to_gpu or (asked is None and bool(on_gpu))
        held_args, held_kwargs = tree_map(lambda x: x.held if isinstance(x, GpuTensor) else x, (args, kwargs))
        out = func(*held_args, **held_kwargs)
        if packet is _aten.copy_:
            return args[0]
        if not to_gpu:
            return out
        wrapped = tree_map(lambda x: GpuTensor(x) if isinstance(x, torch.Tensor) else x, out)
        moved = packet in (_aten._to_copy, _aten.to)
        return wrapped if moved or not on_gpu else return_and_correct_aliasing(func, args, kwargs, wrapped)


def _has_mask(indices):
    return any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in indices)


@contextlib.contextmanager
def imitated_gpu(free_bytes=1 << 33):
    """Return a context with an imitated GPU; it yields a counter of the operations that wait for the GPU.

    Args:
        free_bytes: Free memory that the GPU claims to have.
    """
    imitation = _Imitation()
    torch._C._ensureCUDADeviceGuardSet()  # without a GPU: a guard that does nothing, as for fake tensors
    patched = {
        "is_available": lambda: True, "_lazy_init": lambda: None, "device_count": lambda: 1,
        "current_device": lambda: 0, "synchronize": lambda device=None: None,
        "mem_get_info": lambda device=None: (free_bytes, free_bytes),
        "memory_reserved": lambda device=None: 0, "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 0, "is_bf16_supported": lambda *_: True,
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        for name, value in patched.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        stack.enter_context(mock.patch.dict("os.environ", {"IVOS_KERNEL": "torch"}))
        # A module that is moved gets new parameters, because a tensor cannot change its class.
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))  # its operators have no CPU kernels
        stack.enter_context(imitation)
        yield imitation.reads
