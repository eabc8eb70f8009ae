"""Tiny runs of train.py from the command line."""

import os
import subprocess
import sys
from pathlib import Path

import absl.logging
import pytest
from hydra.core.global_hydra import GlobalHydra

from ivos.data.synthetic import SyntheticSpec, synthetic_davis
from ivos.training.main import main as run_command

ROOT = Path(__file__).parents[2]
MODEL = ("model.width=4", "model.depths=[1,1,1,1]", "model.decoder_width=8")


def clips(folder: Path) -> Path:
    """Tiny clips in DAVIS layout."""
    spec = {"num_clips": 2, "num_frames": 4, "width": 64, "height": 64, "min_size": 0.35}
    specs = {split: SyntheticSpec(**spec, stream=split) for split in ("train", "val")}
    return synthetic_davis(folder, specs, num_workers=1)


def stage(name: str, **options: object) -> list[str]:
    """Overrides that make a stage tiny."""
    chosen = {
        "data.samples.crop": 32, "data.batch_size": 2, "data.num_workers": 0, "data.val_clips": 1,
        "module.validation_rounds": 1, "data.num_batches": 2, "trainer.max_epochs": 1, **options,
    }  # fmt: skip
    return [f"stages.{name}.{key}={value}" for key, value in chosen.items()]


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """Start train.py on a machine where nobody is logged in to W&B."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "120", "NETRC": str(folder / "none")}
    environment |= {f"WANDB_{name}_DIR": str(folder / "of_wandb") for name in ("DATA", "CACHE", "CONFIG")}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def train(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run train.py: exit status, output, errors."""
    process = start(folder, *arguments)
    out, errors = process.communicate()
    return process.returncode, out, errors


def main(monkeypatch, capsys, *arguments: str) -> tuple[object, str]:
    """train.py in this process, for what fails before it works: exit status and errors."""
    monkeypatch.setattr("sys.argv", ["train.py", *arguments])
    # Hydra's logging set-up lets absl's handler close the stream it was made on, which would be pytest's own.
    absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit) as stopped:
        run_command()
    return stopped.value.code, capsys.readouterr().err
