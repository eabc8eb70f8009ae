"""What a stage shows: its progress in the terminal, its learning curve as a picture, its speed and memory."""

import resource
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pytorch_lightning.callbacks import Callback, RichProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from ivos.runtime.files import replacing

CURVES = ("train/loss", "train/iou")  # drawn from every step
SHOWN = (*CURVES, "val/J")  # beside the progress


def progress(every: int = 10) -> Callback:
    """A rich progress bar, or, where the output is no terminal, a line for each epoch.

    Args:
        every: steps from one look at the metrics to the next.
    """
    return ProgressBars(every, leave=True) if Console().is_terminal else ProgressLines()


class ProgressBars(RichProgressBar):
    """Lightning's, with epochs counted from 1, and metrics that are asked for now and then.

    Args:
        every: steps from one look at the metrics to the next.
        options: see :class:`pytorch_lightning.callbacks.RichProgressBar`.
    """

    def __init__(self, every: int = 10, **options: Any) -> None:
        super().__init__(**options)
        self._every = max(every, 1)
        self._metrics: dict[str, str] = {}

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Those of now and then: a look at a number makes the CPU wait for a GPU."""
        if trainer.global_step % self._every == 0 or not self._metrics:
            self._metrics |= shown(trainer)
        return {name.partition("/")[2]: value for name, value in self._metrics.items()}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What validation found is there."""
        self._metrics |= shown(trainer)
        super().on_validation_end(trainer, pl_module)

    def configure_columns(self, trainer: pl.Trainer) -> list[ProgressColumn]:
        """As many as 80 characters have room for."""
        return [
            TextColumn("{task.description}"),
            BarColumn(bar_width=8),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        ]

    def _get_train_description(self, current_epoch: int) -> str:
        text = f"Epoch {current_epoch + 1} of {self.trainer.max_epochs}"
        return f"{text:{len(self.validation_description)}}"  # of one width with the bar below


class PartsTable(Callback):
    """Prints the network's parts, their sizes, and whether this stage trains them."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print."""
        parts: dict[str, list[int]] = {}  # parameters: all, those that learn
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
    """A line for each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(highlight=False)
        self._enabled = True

    def disable(self) -> None:
        """Say nothing."""
        self._enabled = False

    def enable(self) -> None:
        """Say something."""
        self._enabled = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Epoch, and all that is known about it."""
        if not self._enabled or not trainer.is_global_zero:
            return
        metrics = " ".join(f"{name} {value}" for name, value in shown(trainer).items())
        epoch = f"{type(pl_module).__name__} {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self._console.print(f"{epoch}, step {trainer.global_step}: {metrics}", soft_wrap=True)


def shown(trainer: pl.Trainer) -> dict[str, str]:
    """The metrics that there are of those beside the progress, in the fewest characters."""
    known = trainer.callback_metrics
    return {name: f"{float(known[name]):.3f}" for name in SHOWN if name in known}


class Performance(Callback):
    """Logs speed and memory.

    ``speed/samples_per_second``: of all processes, time for data included and for validation not;
    ``speed/waiting_for_data``: the share of that time in which there was no batch yet, 0 to 1;
    ``memory/process_gib``: the most that this process has held so far, loader processes not included;
    ``memory/gpu_gib``: the most that tensors have taken on its GPU so far.

    Args:
        every: batches that speed is taken over.
    """

    def __init__(self, every: int = 10) -> None:
        self._every = max(every, 1)
        # seconds, of these waiting, samples
        self._batches: deque[tuple[float, float, int]] = deque(maxlen=self._every)
        self._end: float | None = None  # of the batch before
        self._start = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Loader processes start now: the first wait counts, too."""
        self._end = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A batch is there."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A batch is done."""
        now = time.perf_counter()
        begun = self._start if self._end is None else self._end
        samples = len(batch["names"]) * trainer.world_size
        self._batches.append((now - begun, self._start - begun, samples))
        if (batch_idx + 1) % self._every == 0:  # a number of ours on a GPU's log makes the CPU wait for it
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
        """What comes now is no waiting."""
        self._end = None


def peak_memory_gib() -> float:
    """The largest resident size that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


class LearningCurve(Callback):
    """Draws loss, IoU in training and J in validation against steps; goes on with a resumed run's curve.

    Args:
        path: of the picture.
        every: steps that are averaged into one point.
    """

    def __init__(self, path: str | Path, every: int = 10) -> None:
        self.path, self.every = Path(path), every
        self.points: dict[str, list[list[float]]] = {}  # by metric: [step, value]
        self._recent: dict[str, list[Tensor]] = {}  # scalars, where the network is

    def state_dict(self) -> dict[str, Any]:
        """What has been drawn so far."""
        return {"points": self.points, "recent": {n: _floats(v) for n, v in self._recent.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.points = state_dict["points"]
        self._recent = {n: [torch.tensor(v) for v in values] for n, values in state_dict["recent"].items()}

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Gather the metrics of a step."""
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
        """Gather the metrics of a validation."""
        if not trainer.sanity_checking:
            for name, value in trainer.callback_metrics.items():
                if name.startswith("val/"):
                    self.points.setdefault(name, []).append([trainer.global_step, float(value)])

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw."""
        if trainer.is_global_zero and self.points:
            self.draw()

    def draw(self) -> None:
        """Write the picture."""
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
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as aside:
            figure.savefig(aside, dpi=110)


def _floats(values: list[Tensor]) -> list[float]:
    """Scalars' values, by one look at their device."""
    found: list[float] = torch.stack(values).tolist() if values else []
    return found


def _style(name: str) -> dict[str, Any]:
    """Training thin, validation with dots; annotated frames drawn through, propagated ones dashed."""
    if not name.startswith("val/"):
        return {"color": "tab:blue", "linewidth": 1, "alpha": 0.8}
    if "_round_" not in name:
        return {"color": "black", "linewidth": 2, "marker": "o"}
    line = "--" if "propagated" in name else "-"
    colour = "tab:orange" if name.endswith("_round_1") else "tab:red"
    return {"color": colour, "linewidth": 1.2, "marker": "o", "linestyle": line}
