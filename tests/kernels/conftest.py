"""Run the CUDA source on the CPU: g++ compiles it against stand-ins for the CUDA headers."""

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from ivos.kernels import cuda, ops
from tests.support.shared import run_folder

EMULATION = cuda.SOURCE.with_name("emulation")
REASONS = {1: "no such kernel", 2: "wrong number of arguments", 3: "a barrier that not all threads reach"}


class Emulator:
    """Takes the place of `cuda.launch`: `launched` lists the kernels that ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.libraries: dict[torch.dtype, ctypes.CDLL] = {}
        self.launched: list[str] = []
        self.descending = False

    def library(self, dtype: torch.dtype) -> ctypes.CDLL:
        """The source compiled for this element type; skips the test where the host cannot."""
        if dtype not in self.libraries:
            scalar = cuda.SCALARS[dtype]
            library = self.folder / f"{scalar}.so"
            with FileLock(library.with_suffix(".lock")):
                if not library.exists():
                    self._compile(scalar, library)
            self.libraries[dtype] = ctypes.CDLL(str(library))
        return self.libraries[dtype]

    @staticmethod
    def _compile(scalar: str, library: Path) -> None:
        macros = [
            f"SCALAR={scalar}",
            f'SOURCE="{cuda.SOURCE}"',
            *(f"WITH_{k.upper()}" for k in cuda.KERNELS),
        ]
        command = ["g++", "-std=c++17", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
        command += ["-Wno-unknown-pragmas", f"-I{EMULATION}", *(f"-D{macro}" for macro in macros)]
        done = subprocess.run(
            [*command, str(EMULATION / "run.cpp"), "-o", str(library)], capture_output=True, text=True
        )
        if done.returncode and scalar == cuda.SCALARS[torch.float16] and "_Float16" in done.stderr:
            pytest.skip("this g++ knows no _Float16")
        assert done.returncode == 0, done.stderr

    def launch(
        self, name: str, dtype: torch.dtype, device: torch.device, blocks: int, arguments: list[Any]
    ) -> None:
        """Run the kernel; same arguments as `cuda.launch`."""
        assert device.type == "cpu"
        self.launched.append(name)
        addresses = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(a) for a in arguments))
        failure = self.library(dtype).emulate(
            name.encode(), blocks, cuda.THREADS, addresses, len(arguments), self.descending
        )
        assert failure == 0, f"{name}: {REASONS[failure]}"


@pytest.fixture(scope="session")
def _emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    (folder := run_folder(tmp_path_factory) / "emulation").mkdir(exist_ok=True)
    return Emulator(folder)


@pytest.fixture
def emulator(_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Have the ops run the CUDA kernels, and those on the CPU."""
    monkeypatch.setattr(cuda, "launch", _emulator.launch)
    monkeypatch.setattr(ops, "choose", lambda implementation, tensor: cuda)
    _emulator.launched.clear()
    _emulator.descending = False
    return _emulator
