"""J and F, and the DAVIS interactive session in a Lightning test loop."""

from ivos.evaluation.metrics import GroundTruth, f_measure, jaccard
from ivos.evaluation.module import SessionModule, evaluate, report_folders
from ivos.evaluation.progress import SessionProgress
from ivos.evaluation.report import figures, summary_table
from ivos.evaluation.session import Request, Session, SessionRequests, Video
from ivos.evaluation.settings import Metric, SessionSettings

__all__ = [
    "GroundTruth",
    "Metric",
    "Request",
    "Session",
    "SessionModule",
    "SessionProgress",
    "SessionRequests",
    "SessionSettings",
    "Video",
    "evaluate",
    "f_measure",
    "figures",
    "jaccard",
    "report_folders",
    "summary_table",
]
