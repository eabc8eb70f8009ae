"""What depends on the operating system: memory, cores, disk space, locks and processes.

This is the only module that uses names which exist on POSIX systems or on Linux alone (``fcntl``,
``resource``, ``os.posix_fallocate``, ``os.sched_getaffinity``, ``prctl``). Each function says what it does
elsewhere.
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
"""Whether files can be locked here in the ways of :func:`lock`."""

_GIB = 1 << 30
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def cores() -> int:
    """Return how many of the machine's cores this process may use; all of them where it cannot be known."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int:
    """Return how many bytes of CPU memory are available without swapping."""
    return int(psutil.virtual_memory().available)


def peak_memory_gib() -> float:
    """Return the largest resident size that this process has had, as the operating system reports it."""
    if resource is not None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB, on macOS in bytes
        return float(peak / (_GIB if sys.platform == "darwin" else 1 << 20))
    used = psutil.Process().memory_info()
    return float(getattr(used, "peak_wset", used.rss) / _GIB)


def recycle_memory() -> None:
    """Return freed CPU memory to the system now, and keep what is freed later for the next tensors.

    The C library returns every large block as soon as it is freed, and the system clears it page by page for
    the next tensor, which takes a third of the time of a round with several objects. Does nothing where the C
    library is not glibc.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
        if libc.mallopt(_M_MMAP_THRESHOLD, _GIB):  # glibc before 2.35 accepts 32 MiB at most
            libc.mallopt(_M_TRIM_THRESHOLD, _GIB)


def reserve_space(descriptor: int, size: int) -> None:
    """Give an open temporary file a size in bytes, with the space on the disk reserved for it.

    Where space cannot be reserved, the free space is checked once.

    Raises:
        OSError: The disk has not so much space.
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
    """Lock an open file until it is closed; does nothing where files cannot be locked (:data:`CAN_LOCK`).

    Args:
        file: the open file, or its descriptor.
        shared: whether other processes may hold a shared lock, too.
        wait: whether to wait for others to release theirs.

    Raises:
        BlockingIOError: Another process holds a lock that excludes this one.
    """
    if fcntl is not None:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)


def own_process_group() -> None:
    """Put this process into a group of its own, so that the terminal's signals do not reach it (POSIX)."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


def end_with_parent(yes: bool = True) -> None:
    """Have this process killed when its parent ends in any way, or no longer; does so on Linux only.

    It has to be called by the main thread.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if yes else 0)
