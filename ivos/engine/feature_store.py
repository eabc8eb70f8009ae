"""Stores that keep a video's features between rounds, and their memory budgets."""

import atexit
import contextlib
import functools
import os
import tempfile
import time
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from ivos.runtime.errors import UserError
from ivos.runtime.machine import free_gpu_memory, free_memory, reserve_space

GIB = 1 << 30
_SLAB = GIB // 2  # bytes of pinned memory allocated at once
_ALIGNMENT = 64  # bytes


class HostPool:
    """Pool of pinned CPU memory for features of a GPU.

    Memory is allocated in large slabs and reused, because allocation of pinned memory is slow.

    Args:
        pinned: Whether the memory is page-locked, so that copies overlap with computation; needs a GPU.
    """

    def __init__(self, pinned: bool = True) -> None:
        self.pinned = pinned
        self.spare: list[Tensor] = []  # flat buffers of one size

    def spare_bytes(self) -> int:
        """Return how many bytes are allocated and not in use."""
        return sum(buffer.numel() for buffer in self.spare)

    def take(self, size: int, at_most: int) -> Tensor:
        """Return a flat buffer of `size` bytes; allocate at most `at_most` bytes if no buffer is spare."""
        if self.spare and self.spare[0].numel() != size:  # spare buffers of an earlier video of another size
            self.spare = []
        if not self.spare:
            count = max(1, min(_SLAB, at_most) // size)
            slab = torch.empty(count * size, dtype=torch.uint8, pin_memory=self.pinned)
            self.spare = list(slab.split(size))
        return self.spare.pop()

    def give(self, buffer: Tensor) -> None:
        """Return a buffer to the pool."""
        self.spare.append(buffer)


class TensorStore:
    """Store of tensors by key, within a budget on the device and a second budget in CPU memory.

    Tensors that exceed both budgets are not stored. Stored tensors are never evicted for newer ones: a video
    is read from end to end, and in that order of access a store that evicts its oldest entry would never have
    the requested one. Copies to and from CPU memory are asynchronous and ordered by the device's current
    stream.

    Args:
        device: The device that uses the tensors.
        device_bytes: Budget on the device, in bytes.
        host_bytes: Budget of CPU memory for tensors of a GPU, in bytes.
        pool: Pool from which the CPU memory is taken.
    """

    def __init__(
        self, device: torch.device, device_bytes: int, host_bytes: int = 0, pool: HostPool | None = None
    ) -> None:
        self.device = device
        self.free = {"device": device_bytes, "host": host_bytes}
        self.pool = pool or HostPool(pinned=device.type == "cuda")
        self._kept: dict[Hashable, tuple[str, tuple[Tensor, ...], Tensor | None]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def get(self, key: Hashable) -> tuple[Tensor, ...] | None:
        """Return the tensors of a key on the device, or None if they are not stored."""
        if key not in self._kept:
            return None
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in self._kept[key][1])

    def put(self, key: Hashable, tensors: tuple[Tensor, ...]) -> None:
        """Store tensors of the device under a key if the budgets allow; earlier tensors are replaced."""
        self.drop(key)
        if size_of(tensors) <= self.free["device"]:
            self.free["device"] -= size_of(tensors)
            self._kept[key] = "device", tensors, None
        elif (size := _packed_size(tensors)) <= self.free["host"]:
            buffer = self.pool.take(size, self.free["host"])
            self.free["host"] -= size
            self._kept[key] = "host", _packed(tensors, buffer), buffer

    def goes_to_host(self, tensors: tuple[Tensor, ...]) -> bool:
        """Return whether :meth:`put` would store such tensors in CPU memory."""
        return self.free["device"] < size_of(tensors) and _packed_size(tensors) <= self.free["host"]

    def drop(self, key: Hashable) -> None:
        """Remove a key."""
        if key in self._kept:
            place, old, buffer = self._kept.pop(key)
            if buffer is not None:
                self.pool.give(buffer)
            self.free[place] += size_of(old) if buffer is None else buffer.numel()

    def shrink(self, number: int) -> None:
        """Reduce the budget on the device by ``number`` bytes; the latest tensors are removed first."""
        self.free["device"] -= number
        for key, (place, *_) in reversed(list(self._kept.items())):
            if place == "device" and self.free["device"] < 0:
                self.drop(key)

    def clear(self) -> None:
        """Remove all keys."""
        for key in list(self._kept):
            self.drop(key)


def size_of(tensors: tuple[Tensor, ...]) -> int:
    """Return the size of the tensors' elements in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _packed_size(tensors: tuple[Tensor, ...]) -> int:
    """Return the number of bytes of consecutive tensors that each start at a multiple of _ALIGNMENT."""
    return sum(-(-size_of((tensor,)) // _ALIGNMENT) * _ALIGNMENT for tensor in tensors)


def _packed(tensors: tuple[Tensor, ...], buffer: Tensor) -> tuple[Tensor, ...]:
    """Copy dense tensors into a flat buffer of :func:`_packed_size` bytes and return the copies.

    The copies have the strides of the originals.
    """
    copies, start = [], 0
    for tensor in tensors:
        part = buffer[start : start + size_of((tensor,))].view(tensor.dtype)
        strides = torch.empty_like(tensor, device="meta").stride()
        copies.append(part.as_strided(tensor.shape, strides).copy_(tensor, non_blocking=True))
        start += _packed_size((tensor,))
    return tuple(copies)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Measure the seconds that a call takes, including the device's work: the faster of two runs."""
    taken = []
    for _ in range(2):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        taken.append(time.perf_counter() - start)
    return min(taken)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def budget(gib: float | None, device: torch.device, spare: int = 0) -> int:
    """Return the number of bytes that a memory option allows on a device.

    Args:
        gib: Value of the option in GiB; None allows half of the free memory.
        device: The device.
        spare: Number of bytes that are allocated but not in use; they count as free.
    """
    if gib is not None:
        return int(gib * GIB)
    if device.type != "cuda":
        return (free_memory() + spare) // 2
    return (free_gpu_memory(device)[0] + spare) // 2


def zeros(shape: tuple[int, ...], device: torch.device, room: int) -> Tensor:
    """Return float32 zeros on the device, or in a memory-mapped temporary file if they exceed ``room`` bytes.

    The file is unlinked before the function returns (on Windows, at the end of the process), so that the
    system frees its space together with the tensor.

    Args:
        shape: Shape of the tensor.
        device: The device for a tensor of at most ``room`` bytes.
        room: Number of bytes that may be allocated on the device.

    Raises:
        UserError: The folder for temporary files has too little space.
    """
    elements = int(torch.Size(shape).numel())
    if 4 * elements <= room:
        return torch.zeros(shape, device=device)
    descriptor, name = tempfile.mkstemp(prefix="ivos-")
    try:
        reserve_space(descriptor, 4 * elements)  # otherwise a full disk would cause an error during a round
        return torch.from_file(name, shared=True, size=elements).view(shape)
    except OSError as error:
        raise UserError(
            f"{tempfile.gettempdir()}: no space for {4 * elements / GIB:.1f} GiB of probabilities "
            f"({error.strerror}); raise segmenter.device_cache_gib, or set TMPDIR to a larger disk"
        ) from error
    finally:
        os.close(descriptor)
        _remove(name)


def _remove(name: str) -> None:
    """Remove a temporary file now, or at the end of the process if the system cannot remove files in use."""
    try:
        os.unlink(name)
    except PermissionError:  # Windows
        atexit.register(functools.partial(_remove_quietly, name))


def _remove_quietly(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)
