"""Tests of the engine without the names of POSIX and on devices without float64."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ivos.engine import ATNetSegmenter
from ivos.engine.devices import choose_device
from ivos.engine.fused_layers import fast_copy
from ivos.networks import ATNet, load
from ivos.runtime.errors import UserError

ROOT = Path(__file__).parents[2]

WITHOUT = """
import os, sys
import psutil, torch  # which have their own ways on each system
for module in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[module] = None
for name in ("sysconf", "posix_fallocate", "sched_getaffinity", "setpgid", "fork", "pread", "pwrite"):
    delattr(os, name)
import builtins
real = builtins.open
def no_proc(path, *more, **options):
    ours = sys._getframe(1).f_globals.get("__name__", "").startswith("ivos")
    if ours and str(path).startswith(("/proc/", "/sys/")):
        raise FileNotFoundError(path)
    return real(path, *more, **options)
"""

SESSION = """
import numpy as np
import torch
import ivos.app.workspace, ivos.runtime.process_watchdog, ivos.runtime.subprocesses
from ivos.runtime.machine import cores, free_memory, peak_memory_gib
from ivos.engine import ATNetSegmenter
from ivos.networks import ATNet
builtins.open = no_proc
torch.manual_seed(0)
network = ATNet(width=4, depths=[1, 1, 1, 1], decoder_width=8)
frames = np.random.default_rng(0).integers(0, 256, (4, 40, 60, 3), np.uint8)
stroke = [{"path": [[0.2, 0.2], [0.5, 0.5]], "object_id": 1}]
results = []
for gib in (None, 0.002):  # in memory, and in a mapped file
    segmenter = ATNetSegmenter(network, device_cache_gib=gib)
    segmenter.start(frames, 20)
    results.append((segmenter.interact(1, stroke), segmenter.probabilities.copy()))
assert all(np.array_equal(*pair) for pair in zip(*results))
assert results[0][1].any()
assert cores() >= 1 and free_memory() > 1e6 and peak_memory_gib() > 0
print("done")
"""


def test_a_session_without_names_of_posix():
    """As on Windows: fcntl, resource, os.sysconf and others are taken away before the first import."""
    done = subprocess.run([sys.executable, "-c", WITHOUT + SESSION], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "done\n", done.stderr


def test_posix_names_are_in_one_module():
    names = ("import fcntl", "import resource", "os.sysconf", "posix_fallocate", "sched_getaffinity",
             "setpgid", "os.pread", "os.pwrite", "ctypes.CDLL(None)")  # fmt: skip
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "ivos").rglob("*.py")
        for name in names
        if path.name != "machine.py" and name in path.read_text()
    }
    assert not found


def test_nothing_of_cuda_is_imported_without_it():
    code = """
import sys
import torch
before = set(sys.modules)  # PyTorch itself imports some
import ivos.engine
from ivos import kernels
loaded = {name for name in sys.modules if name.split(".")[0] in ("cuda", "cupy", "triton", "pynvml")}
assert not loaded - before, loaded - before
"""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr


class NoFloat64(TorchDispatchMode):
    """Refuses tensors of float64 on devices that lack the type."""

    def __init__(self, *devices):
        super().__init__()
        self.devices = devices

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.device.type in self.devices and tensor.dim():
                assert tensor.dtype != torch.float64, function
        return result


def test_an_apple_gpu_meets_no_float64():
    """Folding needs it and runs on the CPU (a network on the meta device stands for one on the GPU)."""
    network = load("untrained")
    with (
        mock.patch.object(ATNet, "cpu", lambda self: self.to_empty(device="cpu")),
        NoFloat64("meta"),
    ):
        assert fast_copy(copy.deepcopy(network).to("meta"), winograd=False).mean.device.type == "meta"
    segmenter = ATNetSegmenter(network, winograd=False)
    segmenter.start(np.zeros((2, 40, 60, 3), np.uint8), 2)
    with NoFloat64("cpu"):
        segmenter.interact(0, [{"path": [[0.2, 0.2], [0.5, 0.5]], "object_id": 1}])
        segmenter.confidence()


def test_the_device_is_chosen(monkeypatch):
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert choose_device(None) == torch.device(expected)
    with pytest.raises(UserError, match="device=gpu0: not available"):
        choose_device("gpu0")
