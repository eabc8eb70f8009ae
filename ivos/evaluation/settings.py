"""What can be set about a session."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ivos.errors import UserError

Metric = Literal["J", "F", "J_AND_F"]


@dataclass(frozen=True)
class SessionSettings:
    """Settings of the DAVIS interactive protocol; wrong ones are a :class:`UserError` that names the option.

    Attributes:
        metric: what the worst frame is chosen by, or several, each of them a session of its own.
        max_interactions: rounds per sample, 1 to 16 (the limit of the protocol).
        max_time: seconds per object and sample, up to 600 (the limit of the protocol); None for no limit.
        time_threshold: the time in seconds that ``metric_at_threshold`` is about.
        seed: of the robot's tie-breaks, together with sequence, scribble and round.
        robot: parameters of :class:`ivos.interaction.robot.Robot`.
    """

    metric: Metric | Sequence[Metric] = "J_AND_F"
    max_interactions: int = 8
    max_time: float | None = 240
    time_threshold: float = 60
    seed: int = 0
    robot: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = get_args(Metric)
        for metric in self.metrics or ("",):
            if metric not in known:
                raise UserError(f"session.metric: {metric!r} is none of {', '.join(known)}")
        if len(set(self.metrics)) < len(self.metrics):
            raise UserError(f"session.metric: {list(self.metrics)} names one twice")
        self._need("max_interactions", _is_int(self.max_interactions, 1, 16), "a whole number from 1 to 16")
        self._need(
            "max_time",
            self.max_time is None or _is_positive(self.max_time, 600),
            "above 0, up to 600, or null",
        )
        self._need("time_threshold", _is_positive(self.time_threshold), "above 0")
        self._need("seed", _is_int(self.seed, 0), "a whole number from 0")
        self._check_robot()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics, each once."""
        return (self.metric,) if isinstance(self.metric, str) else tuple(self.metric)

    def _need(self, option: str, fine: bool, what: str, value: Any = None) -> None:
        if not fine:
            shown = getattr(self, option) if value is None else value
            raise UserError(f"session.{option}: must be {what}, got {shown!r}")

    def _check_robot(self) -> None:
        fine = {
            "kernel_size": (lambda v: 0 <= v < 1, "from 0 to below 1"),
            "max_kernel_radius": (lambda v: v >= 0, "0 or more"),
            "min_nb_nodes": (lambda v: _is_int(v, 1), "a whole number from 1"),
            "nb_points": (lambda v: _is_int(v, 1, 1000), "a whole number from 1 to 1000"),
        }
        for name, value in self.robot.items():
            if name not in fine:
                raise UserError(f"session.robot.{name}: no such parameter; there are: {', '.join(fine)}")
            check, what = fine[name]
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            self._need(f"robot.{name}", number and check(value), what, value)


def _is_int(value: Any, low: int, high: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_positive(value: Any, high: float = math.inf) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= high
