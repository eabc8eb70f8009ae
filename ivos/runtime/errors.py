"""The one kind of error that is the user's to mend, and one that is known by many names."""

from collections.abc import Iterable

_SHOWN = 20  # names in a message
_OUT_OF_MEMORY = (  # in lower case
    "allocate memory",  # PyTorch's allocator on a CPU
    "not enough memory",  # the same on Windows
    "out of memory",  # CUDA, HIP, XPU and MPS; NCCL, too
    "out_of_memory",  # names of CUDA's driver and of NVRTC, as cuda-core says them
    "cudaerrormemoryallocation",
    "hiperroroutofmemory",
    "status_alloc_failed",  # cuDNN, cuBLAS, cuSOLVER, cuSPARSE, hipBLAS
    "allocation_failed",  # cuDNN 9: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
    "cufft_alloc_failed",
    "miopenstatusallocfailed",
    "rocblas_status_memory_error",
    "invalid buffer size",  # MPS: larger than any buffer may be
)
"""What libraries put into the message of a RuntimeError where they get no memory."""


class UserError(ValueError):
    """Bad input or settings: the message names the file or the option and the mend.

    The command-line programs print it as it is, without a traceback; any other error is a defect of ivos.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is out.

    It may be Python's own error, PyTorch's on any device, or that of a library which PyTorch calls (cuDNN,
    cuBLAS and their like), which is a RuntimeError with a message only. Our own kernels raise a RuntimeError
    with the message of the driver.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)


def listing(names: Iterable[object]) -> str:
    """Join names in order for a message, at most twenty of them."""
    ordered = sorted(names, key=str)
    more = f", ... ({len(ordered)} in all)" if len(ordered) > _SHOWN else ""
    return ", ".join(map(str, ordered[:_SHOWN])) + more
