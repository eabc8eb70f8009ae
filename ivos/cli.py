"""What the command-line programs share: how they report the user's errors, and what they leave unsaid."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator

from ivos.errors import UserError

# Said by libraries about what is meant to be as it is.
_NO_NEWS = (
    r"Experiment logs directory .* exists and is not empty",  # the run's own folder, made by Hydra
    r"Your `IterableDataset` has `__len__` defined",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"The '?\w+'? dataloader.* does not have many workers",
)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """End in its message and exit status 2, without a traceback, on a :class:`UserError`."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__  # Hydra wraps what a constructor raises
        if cause is None:
            raise
        print(f"error: {cause}", file=sys.stderr)
        raise SystemExit(2) from None


def quiet_libraries() -> None:
    """Leave libraries their warnings but take their chatter away."""
    for name in ("absl", "pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _NO_NEWS:
        warnings.filterwarnings("ignore", message=message)
