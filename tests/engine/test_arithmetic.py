"""Tests of the precision of float32 operations during a round, and that it is restored afterwards."""

import pytest

from tests.support.forked import run_code

CODE = """
import torch
from ivos.engine.arithmetic import tf32

def asked(function):
    try:
        return function()
    except RuntimeError:
        return "inconsistent"

b = torch.backends
def older():
    return [asked(lambda: b.cudnn.allow_tf32), asked(lambda: b.cuda.matmul.allow_tf32),
            asked(torch.get_float32_matmul_precision)]

def newer():
    if not hasattr(b.cudnn, "conv"):
        return []
    switches = (b.cudnn.conv, b.cudnn.rnn, b.cuda.matmul, b.mkldnn.matmul, b.mkldnn.conv, b)
    return [x.fp32_precision for x in switches]

exec({before!r})
state = older(), newer()
for allowed in (False, True):
    try:
        with tf32(allowed):
            assert older() == [allowed, allowed, "high" if allowed else "highest"], older()
            if newer():
                assert newer()[:3] == ["tf32" if allowed else "ieee"] * 3, newer()
            raise KeyError
    except KeyError:
        pass
    if "inconsistent" in state[0]:
        assert newer() == state[1], (newer(), state)
    else:
        assert (older(), newer()) == state, (older(), newer(), state)
print("done")
"""
BEFORE = [
    "pass",
    "b.cudnn.allow_tf32 = False; b.cuda.matmul.allow_tf32 = True",
    "torch.set_float32_matmul_precision('medium')",
    "b.cuda.matmul.fp32_precision = 'tf32'; b.cudnn.conv.fp32_precision = 'ieee'",
    "b.fp32_precision = 'tf32'",
]


@pytest.mark.slow
@pytest.mark.parametrize("before", BEFORE)
def test_tf32_is_set_and_restored(before, tmp_path):
    """Whichever of PyTorch's two sets of switches was used before; in a process of its own."""
    if "fp32_precision" in before:
        torch = pytest.importorskip("torch")
        if not hasattr(torch.backends.cudnn, "conv"):
            pytest.skip("a PyTorch without the newer switches")
    status, output = run_code(CODE.replace("{before!r}", repr(before)), tmp_path)
    assert (status, output) == (0, "done\n")
