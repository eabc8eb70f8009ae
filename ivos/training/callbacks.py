"""Callbacks that report on a stage: progress in the terminal, learning curve, speed and memory use."""

import time
from collections import deque
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from ivos.runtime.files import replacing
from ivos.runtime.machine import peak_memory_gib
from ivos.runtime.options import options_go_to

CURVES = ("train/loss", "train/iou")  # metrics of the learning curve that are logged at every step
SHOWN = (*CURVES, "val/J")  # metrics shown with the progress


@options_go_to(ModelCheckpoint)
def best_checkpoint(
    dirpath: str | Path, monitor: str = "val/J", mode: Literal["min", "max"] = "max", **options: Any
) -> ModelCheckpoint:
    """Return a callback that keeps the checkpoint with the best value of a metric as ``best.ckpt``.

    Args:
        dirpath: Folder of the checkpoint.
        monitor: Name of the metric.
        mode: Whether the smallest or the largest value is the best.
        options: Options of :class:`pytorch_lightning.callbacks.ModelCheckpoint`.
    """
    fixed = {"filename": "best", "enable_version_counter": False, **options}
    return ModelCheckpoint(dirpath, monitor=monitor, mode=mode, **fixed)


@options_go_to(ModelCheckpoint)
def last_checkpoint(dirpath: str | Path, every_n_train_steps: int = 199, **options: Any) -> ModelCheckpoint:
    """Return a callback that writes the latest checkpoint every few steps as ``last.ckpt``.

    Args:
        dirpath: Folder of the checkpoint.
        every_n_train_steps: Number of steps between checkpoints.
        options: Options of :class:`pytorch_lightning.callbacks.ModelCheckpoint`.
    """
    fixed = {"filename": "last", "enable_version_counter": False, **options}
    return ModelCheckpoint(dirpath, every_n_train_steps=every_n_train_steps, **fixed)


def progress(every: int | None = None) -> Callback:
    """Return a progress bar, or a callback that prints one line per epoch if the output is not a terminal.

    Args:
        every: See :class:`ProgressBars`.
    """
    return ProgressBars(every, leave=True) if Console().is_terminal else ProgressLines()


class ProgressBars(RichProgressBar):
    """Lightning's progress bar, with epochs counted from 1 and metrics that are updated every few steps.

    Args:
        every: Number of steps between updates of the metrics; None uses the trainer's ``log_every_n_steps``.
        options: Options of :class:`pytorch_lightning.callbacks.RichProgressBar`.
    """

    def __init__(self, every: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._every = every
        self._metrics: dict[str, str] = {}

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return the metrics; they are updated every few steps only, because reading them waits for a GPU."""
        if trainer.global_step % steps_between(self._every, trainer) == 0 or not self._metrics:
            self._metrics |= shown(trainer)
        return {name.partition("/")[2]: value for name, value in self._metrics.items()}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Update the metrics with the results of the validation."""
        self._metrics |= shown(trainer)
        super().on_validation_end(trainer, pl_module)

    def configure_columns(self, trainer: pl.Trainer) -> list[ProgressColumn]:
        """Return the columns that fit into 80 characters."""
        return [
            TextColumn("{task.description}"),
            BarColumn(bar_width=8),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        ]

    def _get_train_description(self, current_epoch: int) -> str:
        text = f"Epoch {current_epoch + 1} of {self.trainer.max_epochs}"
        return f"{text:{len(self.validation_description)}}"  # aligned with the validation's bar below


def steps_between(every: int | None, trainer: pl.Trainer) -> int:
    """Return the number of steps between reports, at least 1; None means ``log_every_n_steps``."""
    log_every_n_steps: int = getattr(trainer, "log_every_n_steps", 1)
    return max(log_every_n_steps if every is None else every, 1)


class PartsTable(Callback):
    """Prints a table of the network's parts with their sizes and whether this stage trains them."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the table."""
        parts: dict[str, list[int]] = {}  # by part: number of parameters, number of trained parameters
        for name, parameter in pl_module.network.named_parameters():  # type: ignore[operator, union-attr]
            counts = parts.setdefault(".".join(name.split(".")[:2]), [0, 0])
            counts[0] += parameter.numel()
            counts[1] += parameter.numel() * parameter.requires_grad
        if not trainer.is_global_zero:
            return
        table = Table(title=type(pl_module).__name__, title_style="bold")
        table.add_column("part")
        table.add_column("parameters", justify="right")
        table.add_column("in this stage")
        for name, (size, learning) in parts.items():
            table.add_row(name, f"{size:,}", "learns" if learning else "frozen")
        table.add_section()
        total, learning = (sum(counts) for counts in zip(*parts.values(), strict=True))
        table.add_row("all", f"{total:,}", f"{learning:,} learn")
        Console(highlight=False).print(table)


class ProgressLines(pl.callbacks.ProgressBar):
    """Prints a line for each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(highlight=False)
        self._enabled = True

    def disable(self) -> None:
        """Stop printing."""
        self._enabled = False

    def enable(self) -> None:
        """Resume printing."""
        self._enabled = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the epoch's number and its metrics."""
        if not self._enabled or not trainer.is_global_zero:
            return
        metrics = " ".join(f"{name} {value}" for name, value in shown(trainer).items())
        epoch = f"{type(pl_module).__name__} {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self._console.print(f"{epoch}, step {trainer.global_step}: {metrics}", soft_wrap=True)


def shown(trainer: pl.Trainer) -> dict[str, str]:
    """Return the available metrics among :data:`SHOWN`, by name, formatted as text."""
    known = trainer.callback_metrics
    return {name: f"{float(known[name]):.3f}" for name in SHOWN if name in known}


class Performance(Callback):
    """Logs speed and memory use.

    The logged metrics are:

    - ``speed/samples_per_second``: samples of all processes per second; the time includes waiting for data
      but not validation;
    - ``speed/waiting_for_data``: share of that time spent waiting for a batch, 0 to 1;
    - ``memory/process_gib``: peak memory of this process so far, without loader processes;
    - ``memory/gpu_gib``: peak memory of tensors on this process's GPU so far.

    Args:
        every: Number of batches over which speed is averaged; None uses the trainer's ``log_every_n_steps``.
    """

    def __init__(self, every: int | None = None) -> None:
        self._every = every
        # for each batch: total seconds, seconds of waiting for data, number of samples
        self._batches: deque[tuple[float, float, int]] = deque()
        self._end: float | None = None  # time at which the previous batch ended
        self._start = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the measurement, so that it includes waiting for the epoch's first batch."""
        self._end = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Record the time at which the batch is available."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the duration of the batch, and log the speed every few batches."""
        now = time.perf_counter()
        begun = self._start if self._end is None else self._end
        samples = len(batch["names"]) * trainer.world_size
        self._batches.append((now - begun, self._start - begun, samples))
        every = steps_between(self._every, trainer)
        while len(self._batches) > every:
            self._batches.popleft()
        if (batch_idx + 1) % every == 0:  # logging makes the CPU wait for a GPU
            pl_module.log_dict(self._metrics(pl_module.device), batch_size=1)
        self._end = time.perf_counter()

    def _metrics(self, device: torch.device) -> dict[str, float]:
        seconds, waiting, samples = (sum(values) for values in zip(*self._batches, strict=True))
        metrics = {
            "speed/samples_per_second": samples / seconds,
            "speed/waiting_for_data": waiting / seconds,
            "memory/process_gib": peak_memory_gib(),
        }
        if device.type == "cuda":
            metrics["memory/gpu_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        return metrics

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the measurement, because the time of a validation does not count."""
        self._end = None


class LearningCurve(Callback):
    """Plots the training loss, the training IoU and the validation J over the steps, also of resumed runs.

    Args:
        path: File of the plot; None means ``curve.png`` in the trainer's ``default_root_dir``.
        every: Number of steps that are averaged to one point.
    """

    def __init__(self, path: str | Path | None = None, every: int = 10) -> None:
        self.path, self.every = path, every
        self.points: dict[str, list[list[float]]] = {}  # [step, value] pairs by metric
        self._recent: dict[str, list[Tensor | float]] = {}  # tensors on the device; restored values as floats

    def state_dict(self) -> dict[str, Any]:
        """Return the points so far, and the values of the incomplete next point."""
        return {"points": self.points, "recent": {n: _floats(v) for n, v in self._recent.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the points from a checkpoint."""
        self.points = state_dict["points"]
        self._recent = {name: list(values) for name, values in state_dict["recent"].items()}

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Collect the metrics of a step."""
        known = trainer.callback_metrics
        for name in CURVES:
            if name in known:
                self._recent.setdefault(name, []).append(known[name].detach())
        if trainer.global_step % self.every == 0:
            for name, values in self._recent.items():
                mean = sum(_floats(values)) / len(values)
                self.points.setdefault(name, []).append([trainer.global_step, mean])
            self._recent = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Collect the metrics of a validation."""
        if not trainer.sanity_checking:
            for name, value in trainer.callback_metrics.items():
                if name.startswith("val/"):
                    self.points.setdefault(name, []).append([trainer.global_step, float(value)])

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the plot."""
        if trainer.is_global_zero and self.points:
            self.draw(Path(trainer.default_root_dir, "curve.png") if self.path is None else Path(self.path))

    def draw(self, path: Path) -> None:
        """Write the plot to a file."""
        figure = Figure(figsize=(10, 4), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        for name, points in sorted(self.points.items()):
            steps, values = zip(*points, strict=True)
            axes = left if name.endswith("loss") else right
            axes.plot(steps, values, **_style(name), label=name, markersize=4)
        left.set(xlabel="step", ylabel="loss")
        right.set(xlabel="step", ylabel="IoU, J", ylim=(0, 1))
        for axes in (left, right):
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]))
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            if axes.lines:
                axes.legend(fontsize=8, framealpha=0.7, edgecolor="none")
        losses = [value for line in left.lines for value in line.get_ydata()]
        left.set_ylim(0, 1.1 * max(losses, default=1.0))
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as aside:
            figure.savefig(aside, dpi=110)


def _floats(values: list[Tensor | float]) -> list[float]:
    """Convert scalars to floats; tensors are copied from the device together."""
    on_device = [value for value in values if isinstance(value, Tensor)]
    fetched = iter(torch.stack(on_device).tolist() if on_device else [])
    return [next(fetched) if isinstance(value, Tensor) else value for value in values]


def _style(name: str) -> dict[str, Any]:
    """Return a metric's line style: thin for training, dots for validation, dashed for propagated frames."""
    if not name.startswith("val/"):
        return {"color": "tab:blue", "linewidth": 1, "alpha": 0.8}
    if "_round_" not in name:
        return {"color": "black", "linewidth": 2, "marker": "o"}
    line = "--" if "propagated" in name else "-"
    colour = "tab:orange" if name.endswith("_round_1") else "tab:red"
    return {"color": colour, "linewidth": 1.2, "marker": "o", "linestyle": line}
