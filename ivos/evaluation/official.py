"""The official summary of a report, computed by the package davisinteractive.

No other module imports this package (GPL-3.0), which the extra ``davis`` installs; LICENSE explains the
consequences. Without the package, :mod:`ivos.evaluation.summary` computes the same numbers.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ivos.evaluation import davisinteractive_compat
from ivos.runtime.errors import UserError
from ivos.session import Metric, SessionSettings
from ivos.video.video import Video

davisinteractive_compat.install()

try:
    from davisinteractive.dataset import Davis
    from davisinteractive.evaluation import EvaluationService
except ModuleNotFoundError as error:
    raise UserError(
        f"the official summary needs the package davisinteractive ({error}); docs/guides/evaluation.md "
        "explains its installation"
    ) from error


class _Service(EvaluationService):  # type: ignore[misc]
    """The part of the official service that computes a summary, for any data set."""

    def __init__(self, videos: Sequence[Video], metric: Metric, settings: SessionSettings) -> None:
        self.sequences = [video.name for video in videos]
        self.metric_to_optimize, self.time_threshold = metric, settings.time_threshold
        self.max_t, self.max_i = settings.max_time, settings.max_interactions
        self.avg_nb_objects = float(np.mean([video.num_objects for video in videos]))


def summarise(
    report: pd.DataFrame, videos: Sequence[Video], metric: Metric, settings: SessionSettings
) -> dict[str, Any]:
    """Return the official summary of an official report.

    Returns:
        The entries ``auc``, ``metric_at_threshold`` and ``curve``, as in the official ``summary.json``.
    """
    with _counts(videos):
        summary: dict[str, Any] = _Service(videos, metric, settings).summarize_report(report)
    return summary


@contextlib.contextmanager
def _counts(videos: Iterable[Video]) -> Iterator[None]:
    """Return a context in which davisinteractive's global table of counts describes the given videos."""
    official = Davis.dataset
    names = ("num_frames", "num_objects", "num_scribbles")
    Davis.dataset = {video.name: {name: getattr(video, name) for name in names} for video in videos}
    try:
        yield
    finally:
        Davis.dataset = official
