"""Settings of the interactive session."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from ivos.runtime.errors import UserError
from ivos.runtime.options import NULL, SEED, Rule, above, check_options, is_number, number, whole

Metric = Literal["J", "F", "J_AND_F"]

_RULES = {
    "session.max_interactions": whole(1, 16),
    "session.max_time": above(0, 600) | NULL,
    "session.time_threshold": above(0),
    "session.seed": SEED,
    "session.robot.kernel_size": Rule(lambda v: is_number(v) and 0 <= v < 1, "a number from 0 to below 1"),
    "session.robot.max_kernel_radius": number(0),
    "session.robot.min_nb_nodes": whole(1),
    "session.robot.nb_points": whole(1, 1000),
}


@dataclass(frozen=True)
class SessionSettings:
    """Settings of the DAVIS interactive protocol.

    Attributes:
        metric: the measure that chooses the worst frame; with several, each has a session of its own.
        max_interactions: rounds per sample, 1 to 16 (the limit of the protocol).
        max_time: seconds per object and sample, up to 600 (the limit of the protocol); None for no limit.
        time_threshold: the time in seconds at which ``metric_at_threshold`` is read off the curve.
        seed: seeds the robot's tie-breaks, together with sequence, scribble and round.
        robot: parameters of :class:`ivos.interaction.robot.Robot`, as in conf/session/robot.

    Raises:
        UserError: a value is out of range; the message names the option.
    """

    metric: Metric | Sequence[Metric] = "J_AND_F"
    max_interactions: int = 8
    max_time: float | None = 240
    time_threshold: float = 60
    seed: int = 0
    robot: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for metric in self.metrics or ("",):
            check_metric(metric)
        if len(set(self.metrics)) < len(self.metrics):
            raise UserError(f"session.metric: {list(self.metrics)} names one twice")
        check_options({"session": asdict(self)}, _RULES)
        known = [name.removeprefix("session.robot.") for name in _RULES if name.startswith("session.robot.")]
        for name in self.robot:
            if name not in known:
                raise UserError(f"session.robot.{name}: no such parameter; there are: {', '.join(known)}")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics, each once."""
        return (self.metric,) if isinstance(self.metric, str) else tuple(self.metric)


def check_metric(metric: str) -> None:
    """Check the name of a metric.

    Raises:
        UserError: there is no such metric.
    """
    if metric not in get_args(Metric):
        raise UserError(f"session.metric: {metric!r} is none of {', '.join(get_args(Metric))}")
