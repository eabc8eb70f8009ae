"""Settings of the interactive session."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from ivos.interaction.robot import Robot
from ivos.runtime.errors import UserError
from ivos.runtime.options import Seed, above, options_of, whole
from ivos.runtime.signatures import check_fields

Metric = Literal["J", "F", "J_AND_F"]


@dataclass(frozen=True)
class SessionSettings:
    """Settings of the DAVIS interactive protocol.

    Attributes:
        metric: Metric that determines the worst frame; with several metrics, each has its own session.
        max_interactions: Number of rounds per sample, 1 to 16 (the limit of the protocol).
        max_time: Time limit in seconds per object and sample, up to 600 (the limit of the protocol); None for
            no limit.
        time_threshold: Time in seconds at which ``metric_at_threshold`` is interpolated on the curve.
        seed: Seed of the robot's tie-breaks, combined with sequence, scribble and round.
        robot: Parameters of :class:`ivos.interaction.robot.Robot`, as in conf/session/robot.

    Raises:
        UserError: A value is out of range; the message names the option.
    """

    metric: Metric | Sequence[Metric] = "J_AND_F"
    max_interactions: Annotated[int, whole(1, 16)] = 8
    max_time: Annotated[float, above(0, 600)] | None = 240
    time_threshold: Annotated[float, above(0)] = 60
    seed: Seed = 0
    robot: Annotated[dict[str, Any], options_of(Robot)] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, "session")
        if not self.metrics:
            raise UserError("session.metric: names none; give J, F or J_AND_F")
        if len(set(self.metrics)) < len(self.metrics):
            raise UserError(f"session.metric: {list(self.metrics)} contains a metric twice")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics, each once."""
        return (self.metric,) if isinstance(self.metric, str) else tuple(self.metric)
