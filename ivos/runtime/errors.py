"""Errors that the user can correct, and recognition of out-of-memory errors of all libraries."""

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
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)


def listing(names: Iterable[object]) -> str:
    """Join names for a message, sorted; names after the twentieth are replaced by their total number."""
    ordered = sorted(names, key=str)
    more = f", ... ({len(ordered)} in all)" if len(ordered) > _SHOWN else ""
    return ", ".join(map(str, ordered[:_SHOWN])) + more
