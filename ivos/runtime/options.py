"""Rules for the values of options, for use in annotations.

The parameter that receives an option declares its range, such as ``Annotated[int, whole(1)]``, and
:mod:`ivos.runtime.signatures` checks the options of a run against these annotations.
"""

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Rule:
    """Rule that the value of an option must satisfy.

    Attributes:
        holds: Function that returns whether a value satisfies the rule.
        words: Description of the valid values, which completes the message "must be ...".
        inner: Class or function (or its name) whose options a mapping contains; None without one.
        each: Class or function whose options each value of a mapping contains; None without one.
    """

    holds: Callable[[Any], bool]
    words: str
    inner: Callable[..., Any] | str | None = None
    each: Callable[..., Any] | str | None = None

    def __or__(self, other: "Rule") -> "Rule":
        return Rule(
            lambda value: self.holds(value) or other.holds(value),
            f"{self.words}, or {other.words}",
            self.inner or other.inner,
            self.each or other.each,
        )


def is_whole(value: Any) -> bool:
    """Return whether a value is an integer; true and false are not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether a value is an integer or a finite float."""
    return is_whole(value) or (isinstance(value, numbers.Real) and math.isfinite(value))


def whole(low: int, high: int | None = None) -> Rule:
    """Return the rule for a whole number from ``low`` to ``high``, both included."""
    words = f"a whole number from {low}" + ("" if high is None else f" to {high}")
    return Rule(lambda v: is_whole(v) and v >= low and (high is None or v <= high), words)


def number(low: float = -math.inf, high: float = math.inf) -> Rule:
    """Return the rule for a finite number from ``low`` to ``high``, both included."""
    ends = [f"from {low:g}" * (low > -math.inf), f"up to {high:g}" * (high < math.inf)]
    words = " ".join(["a number", *filter(None, ends)])
    return Rule(lambda v: is_number(v) and low <= v <= high, words)


def above(low: float, high: float = math.inf) -> Rule:
    """Return the rule for a finite number above ``low`` and up to ``high``."""
    words = f"a number above {low:g}" + ("" if high == math.inf else f", up to {high:g}")
    return Rule(lambda v: is_number(v) and low < v <= high, words)


def one_of(*values: Any) -> Rule:
    """Return the rule for one of the given values, with the same type."""
    words = "one of " + ", ".join(map(str, values))
    return Rule(lambda v: any(type(v) is type(one) and v == one for one in values), words)


NULL = Rule(lambda value: value is None, "null")
SWITCH = Rule(lambda value: isinstance(value, bool), "true or false")
TEXT = Rule(lambda value: isinstance(value, str) and bool(value.strip()), "a text")
MAPPING = Rule(lambda value: isinstance(value, dict), "a mapping")
MAX_WORKERS = 256  # upper limit of processes, because more can make a machine unresponsive

Seed = Annotated[int, whole(0, 2**32 - 1)]
NonNegative = Annotated[float, number(0)]
GibOrNull = Annotated[float | None, NULL | above(0)]
Share = Annotated[float, number(0, 1)]
Text = Annotated[str, TEXT]
TextOrNull = Annotated[str | None, NULL | TEXT]
Part = dict[str, Any]
"""Part of a configuration with a ``_target_``, the class or function that it creates."""


def options_of(target: Callable[..., Any] | str) -> Rule:
    """Return the rule for a mapping with the options of a class or function (or its name)."""
    return replace(MAPPING, inner=target)


class Options:
    """Base class of the dataclasses that list the options of a program, or of a part without a ``_target_``.

    Attributes:
        open: Whether other options are allowed, such as those that experiments define for interpolation.
    """

    open: ClassVar[bool] = False


def options_go_to(target: Callable[..., Any]) -> Callable[[F], F]:
    """Declare that the ``**options`` of a function are the options of another class or function."""

    def marked(function: F) -> F:
        vars(function)["options_of"] = target
        return function

    return marked


def shown(value: Any) -> str:
    """Return a value as text in the notation of YAML, shortened if it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
