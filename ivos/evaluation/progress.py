"""Progress of a session: samples done, and the rounds of the one at work."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ivos.evaluation.module import SessionModule
from ivos.evaluation.report import COLUMN, TITLE
from ivos.evaluation.session import Request


class SessionProgress(ProgressBar):
    """Two bars, samples and rounds; where the output is no terminal, one line a sample instead."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console()
        self._bars: Progress | None = None
        self._samples = self._rounds = TaskID(0)
        self._requests: Any = None
        self._total = 0
        self._enabled = True

    def disable(self) -> None:
        """Say nothing."""
        self._enabled = False

    def enable(self) -> None:
        """Say something."""
        self._enabled = True

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bars."""
        assert isinstance(pl_module, SessionModule)
        self._requests = requests = pl_module.requests
        self._total = len(requests.run.all)
        if not trainer.is_global_zero:
            self.disable()
        if self._enabled and self._done():
            self._console.print(
                f"Resumed: {self._done()} of {self._total} samples are done.", highlight=False
            )
        if not self._enabled or not self._console.is_terminal:
            return
        columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn())
        self._bars = Progress(
            *columns, TimeElapsedColumn(), TextColumn("{task.fields[note]}"), console=self._console
        )
        self._samples = self._bars.add_task(f"samples, {TITLE[requests.metric]}", total=self._total, note="")
        self._rounds = self._bars.add_task("rounds", total=requests.settings.max_interactions, note="")
        self._bars.start()

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Request, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """A round begins, perhaps of a new sample."""
        if self._bars:
            name = f"{batch.video.name} ({batch.scribble})"
            self._bars.update(self._rounds, description=name, completed=batch.round - 1)
            self._bars.update(self._samples, completed=self._done())

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Request,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A round is scored."""
        metric, rounds = self._requests.metric, self._requests.settings.max_interactions
        values = self._requests.session.rounds_of(batch.video.name, batch.scribble)[COLUMN[metric]]
        note = f"{TITLE[metric]} " + " ".join(f"{value:.3f}" for value in values)
        done = self._done() + (batch.round == rounds)
        if self._bars:
            self._bars.update(self._rounds, completed=batch.round, note=note)
            self._bars.update(self._samples, completed=done)
        elif self._enabled and batch.round == rounds:
            name = f"{batch.video.name} ({batch.scribble})"
            self._console.print(f"sample {done}/{self._total} {name}: {note}", highlight=False)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bars."""
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the bars, so that the message stands below them, and say that nothing is lost."""
        self._close()
        if self._enabled and self._requests:
            self._console.print(
                f"Stopped with {self._done()} of {self._total} samples complete; resume=true and the same "
                "hydra.run.dir go on from there.",
                highlight=False,
                soft_wrap=True,
            )

    def _close(self) -> None:
        if self._bars:
            self._bars.update(self._samples, completed=self._done())
            self._bars.stop()
            self._bars = None

    def _done(self) -> int:
        """Samples on disk, whichever process did them."""
        return self._total - len(self._requests.run.remaining())
