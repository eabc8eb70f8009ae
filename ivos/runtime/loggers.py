"""Logging of the configuration, pictures, tables, videos and files to the loggers of a run.

Numbers are logged with Lightning's own methods. The W&B logger accepts everything else, too; the TensorBoard
logger accepts pictures and tables; for the CSV logger, pictures are written as PNG files beside
``metrics.csv``. Tables and files are in the run's folder in any case. The loggers themselves are in
:mod:`ivos.runtime.lightning_loggers`. Lightning is imported only when something is logged.
"""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from ivos.runtime.files import write_picture

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from pytorch_lightning.loggers import Logger

P = ParamSpec("P")


def _first_process_only(function: Callable[P, None]) -> Callable[P, None]:
    """Let only the process of rank 0 call a function, by Lightning's ``rank_zero_only``.

    Lightning is imported, and the rank determined, at each call, so that this also holds in processes that
    Lightning forked after this module was imported.
    """

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> None:
        from pytorch_lightning.utilities.rank_zero import rank_zero_only

        rank_zero_only(function)(*args, **kwargs)

    return called


@contextlib.contextmanager
def closing() -> Iterator[None]:
    """Finish the W&B run that was started in the ``with`` block, as failed if the block raised an error."""
    try:
        yield
    except BaseException:
        _finish(1)
        raise
    _finish(0)


def _finish(status: int) -> None:
    if "wandb" in sys.modules:
        import wandb

        if wandb.run is not None:
            wandb.finish(exit_code=status)


def git_revision() -> str | None:
    """Return the git commit of this checkout of ivos, with ``-dirty`` if files were changed.

    Outside a git repository the function returns None.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # git is missing, or refuses a folder of another user
        return None


@_first_process_only
def log_configuration(loggers: Iterable["Logger"], configuration: Mapping[str, Any]) -> None:
    """Log the composed configuration and the git revision."""
    logged = {**configuration, "git": git_revision() or "unknown"}
    for logger in loggers:
        logger.log_hyperparams(logged)


@_first_process_only
def log_picture(
    loggers: Iterable["Logger"], name: str, picture: "NDArray[np.uint8]", step: int | None = None
) -> None:
    """Log a picture, RGB uint8 [h, w, 3]."""
    import numpy as np
    from pytorch_lightning import loggers as lightning

    for logger in loggers:
        if isinstance(logger, lightning.WandbLogger):
            logger.log_image(name, [picture], step)
        elif isinstance(logger, lightning.TensorBoardLogger):
            logger.experiment.add_image(name, picture, step, dataformats="HWC")
        elif isinstance(logger, lightning.CSVLogger):
            number = "" if step is None else f"_{step:06d}"
            path = Path(logger.log_dir, "pictures", f"{name.replace('/', '_')}{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_picture(path, np.ascontiguousarray(picture[..., ::-1]))


@_first_process_only
def log_table(loggers: Iterable["Logger"], name: str, table: "pd.DataFrame") -> None:
    """Log a table, with its index as the first column."""
    from pytorch_lightning import loggers as lightning

    table = table.reset_index()
    columns = [str(column) for column in table.columns]
    for logger in loggers:
        if isinstance(logger, lightning.WandbLogger):
            logger.log_table(name, columns, table.to_numpy(object).tolist())
        elif isinstance(logger, lightning.TensorBoardLogger):
            rows: list[list[Any]] = [columns, ["---"] * len(columns)]
            rows += table.round(4).to_numpy(object).tolist()
            logger.experiment.add_text(name, "\n".join("|".join(map(str, row)) for row in rows))


@_first_process_only
def log_video(loggers: Iterable["Logger"], name: str, path: Path) -> None:
    """Log a WebM file."""
    from pytorch_lightning import loggers as lightning

    for logger in loggers:
        if isinstance(logger, lightning.WandbLogger):
            logger.log_video(name, [str(path)], format=["webm"])


@_first_process_only
def log_files(loggers: Iterable["Logger"], name: str, kind: str, paths: Sequence[Path]) -> None:
    """Log files as a W&B artifact whose name is `name` and the id of the W&B run."""
    from pytorch_lightning import loggers as lightning

    for logger in loggers:
        if isinstance(logger, lightning.WandbLogger):
            import wandb

            artifact = wandb.Artifact(f"{name}-{logger.experiment.id}", type=kind)
            for path in paths:
                artifact.add_file(str(path))
            logger.experiment.log_artifact(artifact)
