"""Evaluation by interactive sessions in a Lightning test loop, with reports, scores and a leaderboard.

Names are imported on first use, so that the command line is parsed before slow imports.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ivos.evaluation.evaluation import evaluate
    from ivos.evaluation.module import SessionCallback, SessionModule, run_samples
    from ivos.evaluation.progress import SessionProgress
    from ivos.evaluation.report import metrics, summary_table
    from ivos.evaluation.run_folder import RunFolder, report_folders, share_out
    from ivos.metrics import GroundTruth, f_measure, jaccard
    from ivos.session import Metric, SessionSettings

_MODULES = {
    "ivos.evaluation.evaluation": ["evaluate"],
    "ivos.evaluation.module": ["SessionModule", "SessionCallback", "run_samples"],
    "ivos.evaluation.progress": ["SessionProgress"],
    "ivos.evaluation.report": ["metrics", "summary_table"],
    "ivos.evaluation.run_folder": ["RunFolder", "report_folders", "share_out"],
    "ivos.metrics": ["GroundTruth", "f_measure", "jaccard"],
    "ivos.session": ["Metric", "SessionSettings"],
}

__all__ = [
    "GroundTruth",
    "Metric",
    "RunFolder",
    "SessionCallback",
    "SessionModule",
    "SessionProgress",
    "SessionSettings",
    "evaluate",
    "f_measure",
    "jaccard",
    "metrics",
    "report_folders",
    "run_samples",
    "share_out",
    "summary_table",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
