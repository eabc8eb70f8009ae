"""J and F, and the DAVIS interactive session in a Lightning test loop."""

from ivos.evaluation.module import SessionModule, SessionRequests, evaluate, report_folders
from ivos.evaluation.progress import SessionProgress
from ivos.evaluation.report import figures, summary_table
from ivos.evaluation.run_folder import RunFolder, share_out
from ivos.evaluation.session import Request, Session, Video
from ivos.evaluation.settings import Metric, SessionSettings
from ivos.metrics import GroundTruth, f_measure, jaccard

__all__ = [
    "GroundTruth",
    "Metric",
    "Request",
    "RunFolder",
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
    "share_out",
    "summary_table",
]
