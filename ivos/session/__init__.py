"""The interactive session, as a loop over rounds, and the protocols that say what is asked in it."""

from ivos.session.clicks import Davis, DavisClicks, ProtocolFactory, Sam2Offline, Sam2Online
from ivos.session.davis import DavisProtocol, RobotUser, User, davis, of_metric
from ivos.session.metrics import mean_over
from ivos.session.rounds import Prompt, Protocol, Round, Scores, run_session
from ivos.session.sample import Sample, all_samples
from ivos.session.settings import Metric, SessionSettings

__all__ = [
    "Davis",
    "DavisClicks",
    "DavisProtocol",
    "Metric",
    "Prompt",
    "Protocol",
    "ProtocolFactory",
    "RobotUser",
    "Round",
    "Sam2Offline",
    "Sam2Online",
    "Sample",
    "Scores",
    "SessionSettings",
    "User",
    "all_samples",
    "davis",
    "mean_over",
    "of_metric",
    "run_session",
]
