"""Errors that the user can correct, and recognition of out-of-memory errors of all libraries."""

import contextlib
import sys
from collections.abc import Iterable

_SHOWN = 20  # most names that a message lists
_OUT_OF_MEMORY = (  # all parts are in lower case
    "allocate memory",  # PyTorch's allocator on a CPU
    "not enough memory",  # the same on Windows
    "out of memory",  # CUDA, HIP, XPU, MPS and NCCL
    "out_of_memory",  # error names of CUDA's driver and of NVRTC, as cuda-core reports them
    "cudaerrormemoryallocation",
    "hiperroroutofmemory",
    "status_alloc_failed",  # cuDNN, cuBLAS, cuSOLVER, cuSPARSE, hipBLAS
    "allocation_failed",  # cuDNN 9: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
    "cufft_alloc_failed",
    "miopenstatusallocfailed",
    "rocblas_status_memory_error",
    "invalid buffer size",  # MPS: the buffer exceeds the largest size allowed
)
"""Parts of the messages of RuntimeErrors that libraries raise when they run out of memory."""
_PERHAPS_OUT_OF_MEMORY = (
    "unable to find an engine to execute this computation",  # no memory for the workspace of a convolution
    "unable to find a valid cudnn algorithm",  # the same in earlier versions of PyTorch
    "status_not_initialized",  # no memory for the handle of cuBLAS or cuDNN
)
"""Parts of messages that have other causes, too, unless the memory of the GPU is nearly full."""
_FULL = 0.1  # a GPU counts as nearly full if at most this share of its memory is free


class UserError(ValueError):
    """Bad input or settings; the message names the file or option, and how to correct it.

    The command-line programs print the message without a traceback. Any other exception is a defect of ivos.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports that CPU or GPU memory is exhausted.

    The error may be Python's MemoryError or PyTorch's OutOfMemoryError. Libraries that PyTorch calls (cuDNN,
    cuBLAS and others) and the kernels of ivos raise a plain RuntimeError, which is recognised by its message.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    if not isinstance(error, RuntimeError):
        return False
    if any(words in text for words in _OUT_OF_MEMORY):
        return True
    return any(words in text for words in _PERHAPS_OUT_OF_MEMORY) and _gpu_is_full()


def _gpu_is_full() -> bool:
    """Return whether hardly any memory of the current GPU is free or held by PyTorch without being used."""
    torch = sys.modules.get("torch")  # not imported here, because the import takes seconds
    with contextlib.suppress(RuntimeError):  # such as on a GPU that has failed
        if torch is not None and torch.cuda.is_available():
            from ivos.runtime.machine import free_gpu_memory  # not at the top: errors are imported first

            free, total = free_gpu_memory()
            return free <= _FULL * total
    return False


def listing(names: Iterable[object]) -> str:
    """Join names for a message, sorted; names after the twentieth are replaced by their total number."""
    ordered = sorted(names, key=str)
    more = f", ... ({len(ordered)} in all)" if len(ordered) > _SHOWN else ""
    return ", ".join(map(str, ordered[:_SHOWN])) + more
