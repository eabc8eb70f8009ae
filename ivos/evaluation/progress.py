"""Progress display of sessions: completed samples, and rounds of the current sample."""

from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from ivos.evaluation.module import SessionCallback, SessionModule
from ivos.evaluation.report import TITLE
from ivos.runtime.config import make_trainer
from ivos.session import Sample, ScoredRound, mean_over, of_metric


def session_trainer(options: DictConfig, accelerator: str = "auto", **more: Any) -> pl.Trainer:
    """Return a trainer for sessions, with a progress display.

    Args:
        options: Options of the trainer in the configuration.
        accelerator: Kind of device that the trainer uses.
        more: Further options.

    Raises:
        UserError: See :func:`ivos.runtime.config.make_trainer`.
    """
    defaults = {
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "callbacks": [SessionProgress()] if options.get("enable_progress_bar", True) else [],
    }
    defaults = {name: value for name, value in defaults.items() if name not in options}
    return make_trainer(options, accelerator, **defaults, **more)


class SessionProgress(ProgressBar):
    """Shows a bar of samples and a bar of rounds, or one line per sample if the output is not a terminal.

    The bars fit into 80 columns.
    """

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(highlight=False)
        self._view: _View | None = None
        self._enabled = True

    def disable(self) -> None:
        """Disable all output."""
        self._enabled = False

    def enable(self) -> None:
        """Enable the output."""
        self._enabled = True

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bars and follow the module's sessions."""
        if not trainer.is_global_zero:
            self.disable()
        if not self._enabled:
            return
        assert isinstance(pl_module, SessionModule)
        if done := pl_module.done():
            self._say(f"Resumed: {done} of {pl_module.total} samples are done.")
        self._view = (_Bars if self._console.is_terminal else _Lines)(pl_module, self._console)
        pl_module.session_callbacks.append(self._view)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bars."""
        if self._view:
            self._view.close()
            self._view = None

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the bars before the error message, and print how to resume."""
        if self._view:
            self._view.close()
            self._say(
                f"Stopped with {self._view.module.done()} of {self._view.module.total} samples complete; "
                "continue with resume=true and the same hydra.run.dir."
            )
            self._view = None

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)


class _View(SessionCallback):
    def __init__(self, module: SessionModule, console: Console) -> None:
        self.module, self.console, self.title = module, console, TITLE[module.metric]
        self.values: list[float] = []

    def on_sample(self, sample: Sample) -> None:
        self.values = []

    def on_round(self, sample: Sample, scored: ScoredRound) -> None:
        self.values.append(float(mean_over(of_metric(scored, self.module.metric))))

    def close(self) -> None:
        """End the display."""


class _Lines(_View):
    def on_sample_end(self, sample: Sample) -> None:
        values = " ".join(f"{value:.3f}" for value in self.values) or "no round in time"
        line = f"sample {self.module.done()}/{self.module.total} {sample.title}: {self.title} {values}"
        self.console.print(line, soft_wrap=True)


class _Bars(_View):
    def __init__(self, module: SessionModule, console: Console) -> None:
        super().__init__(module, console)
        name = Column(width=24, no_wrap=True, overflow="ellipsis")
        self.bars = Progress(
            TextColumn("{task.description}", table_column=name),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=4)),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", table_column=Column(width=22, no_wrap=True)),
            console=console,
            expand=True,
        )
        self.samples = self.bars.add_task(f"samples, {self.title}", total=module.total, note="")
        self.rounds: TaskID = self.bars.add_task("rounds", total=None, note="")
        self.bars.start()

    def on_sample(self, sample: Sample) -> None:
        super().on_sample(sample)
        rounds = self.module.max_rounds
        self.bars.reset(self.rounds, description=sample.title, total=rounds, completed=0, note="")
        self.bars.update(self.samples, completed=self.module.done())

    def on_round(self, sample: Sample, scored: ScoredRound) -> None:
        super().on_round(sample, scored)
        first, last = self.values[0], self.values[-1]
        note = f"{self.title} {first:.3f}" + (f" to {last:.3f}" if len(self.values) > 1 else "")
        self.bars.update(self.rounds, completed=scored.number, note=note)

    def close(self) -> None:
        self.bars.update(self.samples, completed=self.module.done())
        self.bars.stop()
