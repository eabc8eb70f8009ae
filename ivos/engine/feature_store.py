"""Where a video's features are kept between rounds, and how much memory that may take."""

import ctypes
import os
import sys
import tempfile
import time
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from ivos.runtime.errors import UserError

GIB = 1 << 30
_SLAB = GIB // 2  # bytes of pinned memory that are asked for at once
_ALIGNMENT = 64  # bytes
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


class HostPool:
    """CPU memory behind a GPU: pinned, which is slow to come by, so it is had in slabs and used again.

    Args:
        pinned: whether the GPU can copy to and from it while others work; it takes a GPU.
    """

    def __init__(self, pinned: bool = True) -> None:
        self.pinned = pinned
        self.spare: list[Tensor] = []  # flat buffers of one size

    def spare_bytes(self) -> int:
        """Bytes that are here and in nobody's use."""
        return sum(buffer.numel() for buffer in self.spare)

    def take(self, size: int, at_most: int) -> Tensor:
        """A flat buffer of `size` bytes; what has to be had anew for it and others is at most `at_most`."""
        if self.spare and self.spare[0].numel() != size:  # from a video of another size
            self.spare = []
        if not self.spare:
            count = max(1, min(_SLAB, at_most) // size)
            slab = torch.empty(count * size, dtype=torch.uint8, pin_memory=self.pinned)
            self.spare = list(slab.split(size))
        return self.spare.pop()

    def give(self, buffer: Tensor) -> None:
        """Have a buffer back."""
        self.spare.append(buffer)


class TensorStore:
    """Tensors by key: on a device while they fit its budget, then in CPU memory, then not at all.

    What is kept stays kept: a video is swept from end to end, and with that order of use a store that drops
    its oldest for its newest would never find anything. Copies to and from CPU memory wait for nobody: they
    are in order with all else on the device's current stream, and the CPU does not look at them.

    Args:
        device: where the tensors are used.
        device_bytes: how much may stay there.
        host_bytes: how much may wait in CPU memory behind a GPU.
        pool: where that memory comes from.
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
        """What was put under the key, on the device; None where it was not kept."""
        if key not in self._kept:
            return None
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in self._kept[key][1])

    def put(self, key: Hashable, tensors: tuple[Tensor, ...]) -> None:
        """Keep tensors of the device if there is room, instead of what the key held before."""
        self.drop(key)
        if size_of(tensors) <= self.free["device"]:
            self.free["device"] -= size_of(tensors)
            self._kept[key] = "device", tensors, None
        elif (size := _packed_size(tensors)) <= self.free["host"]:
            buffer = self.pool.take(size, self.free["host"])
            self.free["host"] -= size
            self._kept[key] = "host", _packed(tensors, buffer), buffer

    def goes_to_host(self, tensors: tuple[Tensor, ...]) -> bool:
        """Whether :meth:`put` would keep such tensors in CPU memory."""
        return self.free["device"] < size_of(tensors) and _packed_size(tensors) <= self.free["host"]

    def drop(self, key: Hashable) -> None:
        """Keep nothing under the key any more."""
        if key in self._kept:
            place, old, buffer = self._kept.pop(key)
            if buffer is not None:
                self.pool.give(buffer)
            self.free[place] += size_of(old) if buffer is None else buffer.numel()

    def shrink(self, number: int) -> None:
        """Take so many bytes of the device's budget back; the last kept goes first."""
        self.free["device"] -= number
        for key, (place, *_) in reversed(list(self._kept.items())):
            if place == "device" and self.free["device"] < 0:
                self.drop(key)

    def clear(self) -> None:
        """Keep nothing any more."""
        for key in list(self._kept):
            self.drop(key)


def size_of(tensors: tuple[Tensor, ...]) -> int:
    """Bytes of the tensors' elements."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _packed_size(tensors: tuple[Tensor, ...]) -> int:
    """Bytes that the tensors take one after another in a buffer, each at a multiple of _ALIGNMENT."""
    return sum(-(-size_of((tensor,)) // _ALIGNMENT) * _ALIGNMENT for tensor in tensors)


def _packed(tensors: tuple[Tensor, ...], buffer: Tensor) -> tuple[Tensor, ...]:
    """Copies of dense tensors, in their memory order, in a flat buffer of :func:`_packed_size` bytes."""
    copies, start = [], 0
    for tensor in tensors:
        part = buffer[start : start + size_of((tensor,))].view(tensor.dtype)
        strides = torch.empty_like(tensor, device="meta").stride()
        copies.append(part.as_strided(tensor.shape, strides).copy_(tensor, non_blocking=True))
        start += _packed_size((tensor,))
    return tuple(copies)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """How long something takes, the device's work included: the better of two runs."""
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


def budget(option: str, gib: float | None, device: torch.device, spare: int = 0) -> int:
    """Bytes that an option grants on a device; None grants half of what is free there now.

    Free is also what PyTorch keeps of a GPU's memory for the next tensor, and `spare`, what we keep.

    Raises:
        UserError: the option is not above 0.
    """
    if gib is not None:
        if not gib > 0:
            raise UserError(f"{option}: must be above 0 GiB (or null: half of what is free), got {gib}")
        return int(gib * GIB)
    if device.type != "cuda":
        return (free_memory() + spare) // 2
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (torch.cuda.mem_get_info(device)[0] + cached + spare) // 2


def free_memory() -> int:
    """Bytes of CPU memory that can be had without swapping."""
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":") for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux: what the machine has
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def recycle_memory() -> None:
    """Give CPU memory that is free in this process back to the system now, and keep what is freed later.

    The C library hands every large block back as soon as it is freed, and the system clears it page by page
    for the next tensor: a third of the time of a round with several objects. Does nothing without glibc.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
        if libc.mallopt(_M_MMAP_THRESHOLD, GIB):  # glibc before 2.35 takes 32 MiB at most
            libc.mallopt(_M_TRIM_THRESHOLD, GIB)


def zeros(shape: tuple[int, ...], device: torch.device, room: int) -> Tensor:
    """float32 zeros on the device; beyond ``room`` bytes, in a temporary file mapped into CPU memory.

    The file has no name any more when this returns; the system frees it with the tensor.

    Raises:
        UserError: the folder for temporary files has no room for it.
    """
    elements = int(torch.Size(shape).numel())
    if 4 * elements <= room:
        return torch.zeros(shape, device=device)
    with tempfile.NamedTemporaryFile(prefix="ivos-") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, 4 * elements)  # a full disk would else show in the middle
        except OSError as error:
            raise UserError(
                f"{tempfile.gettempdir()}: no room for {4 * elements / GIB:.1f} GiB of probabilities "
                f"({error.strerror}); grant more (segmenter.device_cache_gib), or set TMPDIR to a larger disk"
            ) from error
        return torch.from_file(file.name, shared=True, size=elements).view(shape)
