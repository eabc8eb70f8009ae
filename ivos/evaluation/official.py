"""What is left to davisinteractive: the official summary of a report. The one module that imports it.

The package (GPL-3.0) is the extra ``davis``; see LICENSE for what that means.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ivos.evaluation import davisinteractive_compat as davisinteractive_mend
from ivos.runtime.errors import UserError
from ivos.session import Metric, SessionSettings
from ivos.video.video import Video

davisinteractive_mend.install()

try:
    from davisinteractive.dataset import Davis
    from davisinteractive.evaluation import EvaluationService
except ModuleNotFoundError as error:
    raise UserError(
        f'the official summary needs davisinteractive ({error}); install it: pip install "ivos[davis]"'
    ) from error


class _Service(EvaluationService):  # type: ignore[misc]
    """The official service, as far as it makes a summary, on any data set."""

    def __init__(self, videos: Sequence[Video], metric: Metric, settings: SessionSettings) -> None:
        self.sequences = [video.name for video in videos]
        self.metric_to_optimize, self.time_threshold = metric, settings.time_threshold
        self.max_t, self.max_i = settings.max_time, settings.max_interactions
        self.avg_nb_objects = float(np.mean([video.num_objects for video in videos]))


def summarise(
    report: pd.DataFrame, videos: Sequence[Video], metric: Metric, settings: SessionSettings
) -> dict[str, Any]:
    """The official summary of an official report.

    Returns:
        ``auc``, ``metric_at_threshold`` and ``curve``, as in the official ``summary.json``.
    """
    with _counts(videos):
        summary: dict[str, Any] = _Service(videos, metric, settings).summarize_report(report)
    return summary


@contextlib.contextmanager
def _counts(videos: Iterable[Video]) -> Iterator[None]:
    """Lend davisinteractive our counts: it looks them up in one table for the whole process."""
    official = Davis.dataset
    names = ("num_frames", "num_objects", "num_scribbles")
    Davis.dataset = {video.name: {name: getattr(video, name) for name in names} for video in videos}
    try:
        yield
    finally:
        Davis.dataset = official
