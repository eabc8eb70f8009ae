"""Tests that the out-of-memory errors of Python, NumPy and PyTorch are recognised."""

import numpy as np
import pytest
import torch

from ivos.runtime.errors import is_out_of_memory


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_real_request_for_too_much(library):
    request = {
        "numpy": lambda: np.ones(1 << 60, np.uint8),
        "torch": lambda: torch.empty(1 << 60, dtype=torch.uint8),
    }
    with pytest.raises((MemoryError, RuntimeError)) as error:
        request[library]()
    assert is_out_of_memory(error.value)


MESSAGES = [
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
    "CUDA driver error: out of memory",
    "cudaErrorMemoryAllocation: out of memory",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
    "cuFFT error: CUFFT_ALLOC_FAILED",
    "CUDA kernel local_transfer (torch.float32) failed on cuda:0: CUDA_ERROR_OUT_OF_MEMORY: The API call "
    "failed because it was unable to allocate enough memory or other resources",
    "NVRTC cannot compile correlation for sm_90, torch.float16: NVRTC_ERROR_OUT_OF_MEMORY",
    "HIP out of memory. Tried to allocate 20.00 MiB",
    "HIP error: out of memory",
    "hipErrorOutOfMemory",
    "CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`",
    "MIOpen Error: miopenStatusAllocFailed",
    "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB, max allowed: 9.07 GB)",
    "Invalid buffer size: 24.00 GiB",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 4096 bytes.",
]


def test_the_class_of_pytorch_s_gpus():
    assert is_out_of_memory(torch.OutOfMemoryError("any"))


@pytest.mark.parametrize("message", MESSAGES)
def test_what_libraries_of_a_gpu_say(message):
    assert is_out_of_memory(RuntimeError(message))


OTHERS = [
    "shapes differ",
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
    "CUDA error: an illegal memory access was encountered",
    "CUDA kernel correlation (torch.float32) failed on cuda:0: CUDA_ERROR_INVALID_VALUE: an argument",
    "out of resource: shared memory, Required: 270336, Hardware limit: 232448",
]


@pytest.mark.parametrize(
    "error", [*map(RuntimeError, OTHERS), ValueError("out of memory"), KeyError(1)], ids=str
)
def test_other_errors_are_other_errors(error):
    assert not is_out_of_memory(error)
