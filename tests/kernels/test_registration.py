"""Tests of the registration of operators: what it does not import, and operators without a gradient."""

import subprocess
import sys

import pytest
import torch

from ivos.kernels.registration import register_operator

FIRST_CALL = """
import sys, torch
from ivos.kernels import local_transfer
maps = torch.rand(1, 8, 6, 6, requires_grad=True)
local_transfer(maps, maps, torch.rand(1, 1, 6, 6), 2, 1).sum().backward()
sys.exit("torch._dynamo" in sys.modules)
"""


def test_calling_an_operator_does_not_import_the_compiler():
    assert subprocess.run([sys.executable, "-c", FIRST_CALL]).returncode == 0


def _twice(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def test_an_operator_without_a_gradient_says_so_in_the_backward_pass():
    twice = register_operator("twice_without_gradient", _twice, torch.empty_like)
    x = torch.ones(3, requires_grad=True)
    result = twice(x)
    assert torch.equal(result, torch.full((3,), 2.0))
    with pytest.raises(RuntimeError, match="ivos::twice_without_gradient has no gradient"):
        result.sum().backward()
