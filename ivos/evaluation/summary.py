"""The summary of a report: AUC, the metric at the time threshold and the curve of the DAVIS session.

If davisinteractive is installed (the extra ``davis``), it computes the summary. Otherwise this module
computes the same numbers from their definition: rounds that a sample did not reach have the metric of its
last round and take no time. The curve is the mean over samples and objects against the mean accumulated time,
from 0 at time 0 to the time-out. AUC is the area under the curve by the trapezoidal rule, divided by the
time-out.
"""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd

from ivos.evaluation.report import COLUMN
from ivos.session import Metric, SessionSettings
from ivos.video.video import Video

OFFICIAL, OWN = "davisinteractive", "ivos"


def summarise(
    report: pd.DataFrame, videos: Sequence[Video], metric: Metric, settings: SessionSettings
) -> dict[str, Any]:
    """Return the summary of an official report, computed by davisinteractive if it is installed.

    Args:
        report: Official report of all samples.
        videos: The sequences.
        metric: Metric of the session.
        settings: Settings of the session.

    Returns:
        The entries ``auc``, ``metric_at_threshold`` and ``curve``, as in the official ``summary.json``, and
        ``computed_by``: ``davisinteractive`` or ``ivos``.
    """
    if not _is_installed("davisinteractive"):
        return {**own_summary(report, videos, metric, settings), "computed_by": OWN}
    from ivos.evaluation import official

    return {**official.summarise(report, videos, metric, settings), "computed_by": OFFICIAL}


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # sys.modules contains an object without an import spec
        return False


def own_summary(
    report: pd.DataFrame, videos: Sequence[Video], metric: Metric, settings: SessionSettings
) -> dict[str, Any]:
    """Compute ``auc``, ``metric_at_threshold`` and ``curve`` from their definitions."""
    keys = ["sequence", "scribble_idx", "interaction", "object_id"]
    columns = [COLUMN[metric], "timing"]
    reached = report.groupby(keys)[columns].mean() if len(report) else pd.DataFrame(columns=columns)
    rounds = pd.DataFrame(_all_rounds(reached, videos, settings.max_interactions), columns=[*keys, *columns])
    value = rounds.groupby("interaction")[COLUMN[metric]].mean()
    seconds = rounds.groupby(["sequence", "scribble_idx", "interaction"])["timing"].mean()
    time = seconds.groupby("interaction").mean().cumsum()
    if settings.max_time:
        end = float(np.mean([video.num_objects for video in videos])) * settings.max_time
    else:
        end = settings.max_interactions * float(reached["timing"].max())
    x = np.array([0.0, *time, end])
    y = np.array([0.0, *value, value.iloc[-1]])
    return {
        "auc": float(np.trapezoid(y, x=x) / x.max()) if x.max() else 0.0,
        "metric_at_threshold": {
            "threshold": settings.time_threshold,
            metric: float(np.interp(settings.time_threshold, x, y)),
        },
        "curve": {"time": x.tolist(), metric: y.tolist()},
    }


def _all_rounds(
    reached: pd.DataFrame, videos: Sequence[Video], max_rounds: int
) -> Iterator[tuple[str, int, int, int, float, float]]:
    """Yield sequence, scribble, round, object, value and seconds of every round, reached or not."""
    found = {key: (float(value), float(seconds)) for key, value, seconds in reached.itertuples(name=None)}
    for video in videos:
        objects = range(1, video.num_objects + 1)
        for scribble in range(1, video.num_scribbles + 1):
            values = [0.0] * video.num_objects
            for number in range(1, max_rounds + 1):
                rows = [found.get((video.name, scribble, number, one)) for one in objects]
                seconds = [0.0] * video.num_objects
                if all(row is not None and not np.isnan(row).any() for row in rows):
                    values = [row[0] for row in rows if row is not None]
                    seconds = [row[1] for row in rows if row is not None]
                for one, value, duration in zip(objects, values, seconds, strict=True):
                    yield video.name, scribble, number, one, value, duration
