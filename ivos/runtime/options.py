"""Rules for options: what a value may be, checked before any work, for all options that a pattern names."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from ivos.runtime.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Rule:
    """What an option may be.

    Attributes:
        holds: whether a value is right.
        words: what it must be, as it is said after "must be".
    """

    holds: Callable[[Any], bool]
    words: str

    def __or__(self, other: "Rule") -> "Rule":
        return Rule(lambda value: self.holds(value) or other.holds(value), f"{self.words}, or {other.words}")


def is_whole(value: Any) -> bool:
    """Whether a value is an integer (true and false are none)."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite integer or float."""
    return is_whole(value) or (isinstance(value, float) and math.isfinite(value))


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
SEED = whole(0, 2**32 - 1)
MAX_WORKERS = 256  # processes; more take a machine down before they help


def pairs(rule: Rule) -> Rule:
    """Two values of a kind, the first not above the second."""
    words = f"[low, high], each {rule.words}"
    return Rule(
        lambda v: isinstance(v, list) and len(v) == 2 and all(map(rule.holds, v)) and v[0] <= v[1], words
    )


def options_go_to(target: Callable[..., Any]) -> Callable[[F], F]:
    """Mark a function whose ``**options`` are those of another target, for :mod:`ivos.runtime.signatures`."""

    def marked(function: F) -> F:
        vars(function)["options_of"] = target
        return function

    return marked


def check_options(options: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Hold options against rules, see :func:`option_faults`.

    Raises:
        UserError: all options that break a rule, a line each.
    """
    if faults := option_faults(options, rules):
        raise UserError("\n  ".join(faults.values()))


def option_faults(options: Mapping[str, Any], rules: Mapping[str, Rule]) -> dict[str, str]:
    """Return the options that break a rule, by name, each with its message.

    Args:
        options: nested, as a configuration is composed (resolved, plain containers).
        rules: by the option's name, in which ``*`` stands for any part: ``stages.*.data.batch_size``. Rules
            for options that are absent are ignored.
    """
    return {
        name: f"{name}: must be {rule.words}, got {shown(value)}"
        for name, value in _flat(options)
        for pattern, rule in rules.items()
        if fnmatchcase(name, pattern) and not rule.holds(value)
    }


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in options.items():
        name = f"{prefix}{key}"
        yield name, value
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")


def shown(value: Any) -> str:
    """Return a value as it is written in YAML, shortened if it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
