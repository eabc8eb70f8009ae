"""Memory that is out, as Python, NumPy and PyTorch say it."""

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


def test_what_a_gpu_says():
    assert is_out_of_memory(torch.OutOfMemoryError("any"))
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory"), KeyError(1)])
def test_other_errors_are_other_errors(error):
    assert not is_out_of_memory(error)
