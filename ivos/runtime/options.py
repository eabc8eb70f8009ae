"""The words in which annotations say what an option may be.

The range of an option stands at the parameter that takes it, ``Annotated[int, whole(1)]``, and
:mod:`ivos.runtime.signatures` holds the options of a run against it.
"""

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Rule:
    """What an option may be.

    Attributes:
        holds: whether a value is right.
        words: what it must be, as it is said after "must be".
        inner: of a mapping: the class or function (or its name) whose options are in it.
        each: of a mapping: the class or function whose options are in each of its values.
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
    """Whether a value is an integer (true and false are none)."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite integer or float."""
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
    """One of these values, of the same type."""
    words = "one of " + ", ".join(map(str, values))
    return Rule(lambda v: any(type(v) is type(one) and v == one for one in values), words)


NULL = Rule(lambda value: value is None, "null")
SWITCH = Rule(lambda value: isinstance(value, bool), "true or false")
TEXT = Rule(lambda value: isinstance(value, str) and bool(value.strip()), "a text")
MAPPING = Rule(lambda value: isinstance(value, dict), "a mapping")
MAX_WORKERS = 256  # processes; more take a machine down before they help

Seed = Annotated[int, whole(0, 2**32 - 1)]
NonNegative = Annotated[float, number(0)]
GibOrNull = Annotated[float | None, NULL | above(0)]
Share = Annotated[float, number(0, 1)]
Text = Annotated[str, TEXT]
TextOrNull = Annotated[str | None, NULL | TEXT]
Part = dict[str, Any]
"""A part of a configuration that names its ``_target_``."""


def options_of(target: Callable[..., Any] | str) -> Rule:
    """Return the rule for a mapping with the options of a class or function, which may be named only."""
    return replace(MAPPING, inner=target)


class Options:
    """Base of the dataclasses whose fields are the options of a program, or of a part without a ``_target_``.

    Attributes:
        open: whether there may be other options, which experiments define for their interpolations.
    """

    open: ClassVar[bool] = False


def options_go_to(target: Callable[..., Any]) -> Callable[[F], F]:
    """Mark a function whose ``**options`` are those of another target, for :mod:`ivos.runtime.signatures`."""

    def marked(function: F) -> F:
        vars(function)["options_of"] = target
        return function

    return marked


def shown(value: Any) -> str:
    """Return a value as it is written in YAML, shortened if it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
