"""Tests of the content of a wheel and of what its core needs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """The wheel's files, as an installation has them."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(folder)
    return folder


def run(site, code, **environment):
    """Run code against the installed files, in a folder of no checkout."""
    command = [sys.executable, "-c", code]
    variables = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run(command, cwd=site.parent, env=variables, capture_output=True, text=True)


def test_a_wheel_installs_one_name(site):
    assert {path.name.split("-")[0] for path in site.iterdir()} == {"ivos"}
    for inside in ("py.typed", "kernels/correlation.cu", "conf/train.yaml", "conf/evaluate.yaml"):
        assert (site / "ivos" / inside).is_file()
    assert not list((site / "ivos").rglob("__pycache__"))


def test_the_core_needs_little(site):
    """The rest belongs to extras."""
    blocked = ("PIL", "albumentations", "av", "davisinteractive", "filelock", "hydra", "matplotlib",
               "networkx", "omegaconf", "pandas", "pytorch_lightning", "rich", "scipy", "skimage",
               "torchmetrics", "wandb")  # fmt: skip
    code = f"""
import sys
for name in {blocked}:
    sys.modules[name] = None
import numpy as np
from ivos import kernels
from ivos.engine import ATNetSegmenter
from ivos.metrics import f_measure, jaccard
from ivos.networks import ATNet
assert kernels.__file__.startswith({str(site)!r}), kernels.__file__
segmenter = ATNetSegmenter(ATNet(width=4, depths=[1, 1, 1, 1], decoder_width=8))
segmenter.start(np.zeros((2, 40, 60, 3), np.uint8), 1)
masks = segmenter.interact(0, [{{"path": [[0.2, 0.2], [0.5, 0.5]], "object_id": 1}}])
print(jaccard(masks, masks, 1).shape, f_measure(masks, masks, 1).shape)
"""
    done = run(site, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "(2, 1) (2, 1)"


def test_other_packages_of_the_folders_names_win():
    """A checkout's kernels/, data/ and conf/ are no packages: others of these names are found beside them."""
    for folder in ("kernels", "data", "conf"):
        assert not list((ROOT / folder).rglob("*.py"))


@pytest.mark.slow
def test_nothing_of_cuda_is_needed_or_imported_without_a_gpu():
    """A session without the packages that PyTorch's CPU build lacks, and without those that compile kernels.

    PyTorch's CUDA build imports ``cuda.bindings`` and ``triton`` itself where they are there.
    """
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("cuda", "triton", "nvidia"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import numpy as np, torch
torch.cuda.is_available = lambda: False
import ivos
import ivos.app.main, ivos.data.training
segmenter = ivos.build_segmenter("untrained")
segmenter.start(np.zeros((2, 40, 60, 3), np.uint8), 1)
segmenter.interact(0, [{"path": [[0.2, 0.2], [0.5, 0.5]], "object_id": 1}])
heavy = ("cuda", "cupy", "nvidia", "triton", "albumentations", "timm")
print([name for name in sys.modules if name.split(".")[0] in heavy])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("program", ["annotate.py", "evaluate.py", "train.py"])
@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["nosuch.option=1"]])
def test_nothing_heavy_is_imported_before_the_options_are_known(program, arguments, tmp_path):
    """Help, and an error in an option's name, come within a second or two."""
    heavy = ["torch", "pytorch_lightning", "pandas", "matplotlib", "skimage", "wandb", "albumentations"]
    heavy += ["cv2"] * (program != "annotate.py")  # whose page is there before the rest is imported
    code = f"""
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in {heavy}:
            raise AssertionError(f"{{name}} is imported")
sys.meta_path.insert(0, Refuse())
sys.argv = {[program, *arguments]}
runpy.run_path({str(ROOT / program)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "is imported" not in done.stderr
    assert (done.returncode == 0) == (arguments != ["nosuch.option=1"]), done.stderr
    if done.returncode:
        assert "Could not override 'nosuch.option'" in done.stderr
