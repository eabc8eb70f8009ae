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


@pytest.mark.parametrize(
    "message",
    [
        "GET was unable to find an engine to execute this computation",
        "FIND was unable to find an engine to execute this computation after trying 18 plans.",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    ],
)
@pytest.mark.parametrize(("free", "cached", "full"), [(2, 1, True), (2, 40, False), (60, 1, False)])
def test_messages_with_several_causes_count_if_the_gpu_is_full(message, free, cached, full, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free << 30, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: cached << 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    assert is_out_of_memory(RuntimeError(message)) is full


def test_messages_with_several_causes_do_not_count_without_a_gpu_or_on_one_that_has_failed(monkeypatch):
    error = RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not is_out_of_memory(error)

    def failed(device):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", failed)
    assert not is_out_of_memory(error)
