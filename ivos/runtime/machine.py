"""Functions that depend on the operating system: memory, cores, disk space, locks and processes.

This is the only module that uses functions which exist only on POSIX systems or only on Linux (``fcntl``,
``resource``, ``os.posix_fallocate``, ``os.sched_getaffinity``, ``prctl``). The docstring of each function
describes what it does on other systems.
"""

import ctypes
import errno
import os
import shutil
import signal
import sys
import tempfile
from typing import IO, Any

import psutil

fcntl: Any
resource: Any
try:
    import fcntl
    import resource
except ImportError:  # not a POSIX system
    fcntl = resource = None

CAN_LOCK = fcntl is not None
"""Whether :func:`lock` can lock files on this operating system."""

_GIB = 1 << 30
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def cores() -> int:
    """Return how many CPU cores this process may use; all cores where the system does not report it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int:
    """Return how many bytes of CPU memory are available without swapping."""
    return int(psutil.virtual_memory().available)


def free_gpu_memory(device: Any = None) -> tuple[int, int]:
    """Return the free and the total memory of a GPU in bytes.

    Memory that PyTorch's caching allocator holds without using it counts as free.

    Args:
        device: The GPU, as PyTorch denotes it; None stands for the current one.
    """
    import torch  # not at the top, because the import takes seconds

    free, total = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device), total


def peak_memory_gib() -> float:
    """Return the largest resident size that this process has had, as the operating system reports it."""
    if resource is not None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # the unit is KiB, or bytes on macOS
        return float(peak / (_GIB if sys.platform == "darwin" else 1 << 20))
    used = psutil.Process().memory_info()
    return float(getattr(used, "peak_wset", used.rss) / _GIB)


def recycle_memory() -> None:
    """Return freed CPU memory to the system once, and let the C library reuse all memory freed later.

    By default glibc returns every large block to the system as soon as it is freed, and the system has to
    zero the pages of the next tensor. This takes a third of the time of a round with several objects. The
    function does nothing where the C library is not glibc.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
        if libc.mallopt(_M_MMAP_THRESHOLD, _GIB):  # glibc before 2.35 accepts 32 MiB at most
            libc.mallopt(_M_TRIM_THRESHOLD, _GIB)


def reserve_space(descriptor: int, size: int) -> None:
    """Extend an open temporary file to a size in bytes, and reserve the disk space for it.

    On systems that cannot reserve space, the free space is checked once.

    Raises:
        OSError: The disk does not have enough free space.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    if shutil.disk_usage(tempfile.gettempdir()).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.truncate(descriptor, size)


def write_at(descriptor: int, data: bytes, offset: int) -> int:
    """Write to an open file at an offset in bytes, and return how many bytes were written."""
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.write(descriptor, data)


def lock(file: IO[Any] | int, shared: bool = False, wait: bool = False) -> None:
    """Lock an open file until it is closed; do nothing where files cannot be locked (:data:`CAN_LOCK`).

    Args:
        file: The open file, or its descriptor.
        shared: Whether other processes may hold a shared lock, too.
        wait: Whether to wait for others to release theirs.

    Raises:
        BlockingIOError: Another process holds a lock that excludes this one.
    """
    if fcntl is not None:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)


def own_process_group() -> None:
    """Move this process to its own process group, so that Ctrl-C in a terminal does not reach it (POSIX)."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


def end_with_parent(yes: bool = True) -> None:
    """Let the kernel kill this process when its parent ends for any reason (Linux only).

    The function has to be called by the main thread.

    Args:
        yes: False revokes an earlier call.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if yes else 0)
