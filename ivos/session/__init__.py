"""The interactive session as a loop over rounds, and its protocols with simulated users."""

from ivos.metrics import mean_over
from ivos.session.clicks import Davis, DavisClicks, ProtocolFactory, Sam2Offline, Sam2Online
from ivos.session.confident import DavisConfident
from ivos.session.davis import DavisProtocol, RobotUser, User, davis, of_metric
from ivos.session.first_mask import FirstMask
from ivos.session.recorded import Recorded
from ivos.session.rounds import FramePrompts, Protocol, ScoredRound, Scores, run_session
from ivos.session.sample import Sample, all_samples
from ivos.session.settings import Metric, SessionSettings

__all__ = [
    "Davis",
    "DavisClicks",
    "DavisConfident",
    "DavisProtocol",
    "FirstMask",
    "FramePrompts",
    "Metric",
    "Protocol",
    "ProtocolFactory",
    "Recorded",
    "RobotUser",
    "Sam2Offline",
    "Sam2Online",
    "Sample",
    "ScoredRound",
    "Scores",
    "SessionSettings",
    "User",
    "all_samples",
    "davis",
    "mean_over",
    "of_metric",
    "run_session",
]

Prompt = FramePrompts  # the names of version 0.1, accepted for one version
Round = ScoredRound
