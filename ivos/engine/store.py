"""Where a video's features are kept between rounds, and how much memory that may take."""

import ctypes
import os
import sys
import tempfile
from collections.abc import Hashable

import torch
from torch import Tensor

from ivos.errors import UserError

GIB = 1 << 30
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


class TensorStore:
    """Tensors by key: on a device while they fit its budget, then in CPU memory, then not at all.

    What is kept stays kept: a video is swept from end to end, and with that order of use a store that drops
    its oldest for its newest would never find anything.

    Args:
        device: where the tensors are used.
        device_bytes: how much may stay there.
        host_bytes: how much may wait in pinned CPU memory behind a GPU.
    """

    def __init__(self, device: torch.device, device_bytes: int, host_bytes: int = 0) -> None:
        self.device = device
        self.free = {"device": device_bytes, "host": host_bytes}
        self._kept: dict[Hashable, tuple[str, tuple[Tensor, ...]]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def get(self, key: Hashable) -> tuple[Tensor, ...] | None:
        """What was put under the key, on the device; None where it was not kept."""
        if key not in self._kept:
            return None
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in self._kept[key][1])

    def put(self, key: Hashable, tensors: tuple[Tensor, ...]) -> None:
        """Keep tensors of the device if there is room, instead of what the key held before."""
        if key in self._kept:
            place, old = self._kept.pop(key)
            self.free[place] += size_of(old)
        size = size_of(tensors)
        for place in ("device", "host"):
            if size <= self.free[place]:
                self.free[place] -= size
                self._kept[key] = place, tensors if place == "device" else tuple(map(_pinned, tensors))
                return


def size_of(tensors: tuple[Tensor, ...]) -> int:
    """Bytes of the tensors' elements."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _pinned(tensor: Tensor) -> Tensor:
    host = torch.empty_like(tensor, device="cpu", pin_memory=True)
    return host.copy_(tensor)


def budget(option: str, gib: float | None, device: torch.device) -> int:
    """Bytes that an option grants on a device; None grants half of what is free there now.

    Raises:
        UserError: the option is not above 0.
    """
    if gib is not None:
        if not gib > 0:
            raise UserError(f"{option}: must be above 0 GiB (or null: half of what is free), got {gib}")
        return int(gib * GIB)
    return (torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()) // 2


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
                f"({error.strerror}); grant more (segmenter.memory_gib), or set TMPDIR to a larger disk"
            ) from error
        return torch.from_file(file.name, shared=True, size=elements).view(shape)
