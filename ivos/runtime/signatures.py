"""Options against the signatures that they go to: each is known there, and of the kind that it is said to be.

``_target_`` of a part of a configuration names what is made of it; its parameters and their annotations say
which options there are and what they may be. What YAML 1.1 alone reads as a switch (off, no) is a text here,
as it is in Hydra, and so refused where true or false is needed.
"""

import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from hydra.utils import get_object

from ivos.runtime.errors import UserError
from ivos.runtime.options import NULL, SWITCH, Rule, is_number, is_whole, shown

_MADE = "made by a _target_"
_ANYTHING = Rule(lambda value: True, "anything")
_LISTS = (list, tuple, set, frozenset, Sequence, typing.Iterable)
_PLAIN = (str, int, float, bool, type(None))


def check_signatures(options: Mapping[str, Any]) -> None:
    """Hold all parts of a configuration that name a target against its signature.

    Raises:
        UserError: all options that it does not know or that are of another kind, a line each; or a target
            that cannot be imported.
    """
    if faults := signature_faults(options):
        raise UserError("\n  ".join(faults.values()))


def signature_faults(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the options that their target does not know or that have a wrong type, with messages.

    Args:
        options: nested, as a configuration is composed (resolved, plain containers).

    Raises:
        UserError: there is no such target.
    """
    faults: dict[str, str] = {}
    for name, part in _parts(options):
        faults |= _faults_of(name, part)
    return faults


def _faults_of(name: str, part: Mapping[str, Any]) -> dict[str, str]:
    rules, more = rules_of(_target(name, part["_target_"]))
    given = {key: value for key, value in part.items() if not (key.startswith("_") and key.endswith("_"))}
    faults = {}
    for key, value in given.items():
        option = f"{name}.{key}"
        if key not in rules and not more:
            faults[option] = f"{option}: no such option; there are: {', '.join(rules)}"
        elif key in rules and not _is_made(value) and not rules[key].holds(value):
            faults[option] = f"{option}: must be {rules[key].words}, got {shown(value)}"
    return faults


def rules_of(target: Callable[..., Any]) -> tuple[dict[str, Rule], bool]:
    """Return the rules for a target's parameters by name, and whether it accepts other names, too.

    Keyword arguments that a class passes on are taken from its base classes; those that a function passes on
    are taken from the object that its attribute ``options_of`` names.
    """
    rules: dict[str, Rule] = {}
    for function in _makers(target):
        try:
            signature = inspect.signature(function)
        except (ValueError, TypeError):  # of C
            return rules, True
        hints, ours = _hints(function), function.__module__.startswith("ivos.")
        open_end = False
        for name, parameter in signature.parameters.items():
            if parameter.kind == parameter.VAR_KEYWORD:
                open_end = True
            elif parameter.kind not in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
                rule = rule_of(hints.get(name, Any), lenient=ours)
                optional = parameter.default is None and not rule.holds(None)
                rules.setdefault(name, rule | NULL if optional else rule)
        if not open_end:
            rules.pop("self", None)
            return rules, False
    rules.pop("self", None)
    return rules, True


def rule_of(hint: Any, lenient: bool = False) -> Rule:
    """Return the rule that a type annotation stands for; anything is allowed where it names no YAML type.

    Args:
        hint: the annotation.
        lenient: whether a text may be a whole number, because Hydra reads the name 2017 as a number.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is str and lenient:
        return _NAME
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if origin in (typing.Union, types.UnionType):
        return _one_of_rules([rule_of(argument, lenient) for argument in arguments])
    if origin is typing.Literal:
        return Rule(
            lambda v: any(type(v) is type(one) and v == one for one in arguments),
            "one of " + ", ".join(shown(one) if not isinstance(one, str) else one for one in arguments),
        )
    if origin is typing.Annotated:
        return rule_of(arguments[0], lenient)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        each = [rule_of(argument, lenient) for argument in arguments]
        return Rule(
            lambda v: isinstance(v, list) and len(v) == len(each) and all(map(_allows, each, v)),
            f"a list of {len(each)}, each {each[0].words}",
        )
    if origin in _ORIGINS_OF_LISTS or hint in _ORIGINS_OF_LISTS:
        each_one = rule_of(arguments[0], lenient) if arguments else _ANYTHING
        return Rule(
            lambda v: (
                (isinstance(v, list) and all(_allows(each_one, one) for one in v))
                or (each_one in (_SIMPLE[str], _NAME) and isinstance(v, str))
            ),  # a name for a list of one
            "a list" + ("" if each_one is _ANYTHING else f", each {each_one.words}"),
        )
    if origin in (dict, Mapping, typing.get_origin(Mapping[str, int])) or hint in (dict, Mapping):
        return Rule(lambda v: isinstance(v, dict), "a mapping")
    if isinstance(hint, type) and issubclass(hint, os.PathLike):
        return _PATH
    if isinstance(hint, type) and not _reads_text(hint):
        return Rule(lambda v: not isinstance(v, _PLAIN), _MADE)
    return _ANYTHING


_SIMPLE: dict[Any, Rule] = {
    bool: SWITCH,
    int: Rule(is_whole, "a whole number"),
    float: Rule(is_number, "a number"),
    str: Rule(lambda v: isinstance(v, str), "a text"),
    None: NULL,
    type(None): NULL,
    object: _ANYTHING,
}
_PATH = Rule(lambda v: isinstance(v, str), "a path")
_NAME = Rule(lambda v: isinstance(v, str) or is_whole(v), "a text")
_ORIGINS_OF_LISTS = (*_LISTS, typing.get_origin(Sequence[int]), typing.get_origin(typing.Iterable[int]))


def _allows(rule: Rule, value: Any) -> bool:
    return _is_made(value) or rule.holds(value)


def _one_of_rules(rules: list[Rule]) -> Rule:
    if _ANYTHING in rules:
        return _ANYTHING
    if _PATH in rules:  # which is made of a text alone
        rules = [rule for rule in rules if rule not in (_SIMPLE[str], _NAME)]
    said = [rule for rule in rules if rule.words != _MADE] or rules
    switch = SWITCH in rules  # then a text that is no switch but looks like one is a mistake
    return Rule(
        lambda v: any(rule.holds(v) for rule in rules) and not (switch and _looks_like_switch(v)),
        ", or ".join(dict.fromkeys(rule.words for rule in said)),
    )


def _looks_like_switch(value: Any) -> bool:
    return isinstance(value, str) and value.lower() in ("on", "off", "yes", "no", "y", "n")


def _reads_text(hint: type) -> bool:
    """Whether a class may be given as a plain value."""
    return issubclass(hint, Enum) or hint.__module__ in ("builtins", "numbers", "typing")


def _is_made(value: Any) -> bool:
    """Whether a value is what a target makes, or nothing that is known yet."""
    return isinstance(value, Mapping) and "_target_" in value


def _makers(target: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Whose parameters a target's options are: its own, then of those that it hands the rest on to."""
    if isinstance(target, type):
        made = [base for base in target.__mro__ if "__init__" in vars(base)]
        ours = [i for i, base in enumerate(made) if base.__module__.startswith("ivos.")]
        last = max(ours, default=0)  # beyond our classes their bases are no part of the options
        yield from (vars(base)["__init__"] for base in made[: last + 1] if base is not object)
        return
    yield target
    if (other := getattr(target, "options_of", None)) is not None:
        yield from _makers(other)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # annotations of others that are no names where they stand
        return {}


def _target(name: str, target: Any) -> Callable[..., Any]:
    if not isinstance(target, str):
        raise UserError(f"{name}._target_: must be the name of a class or function, got {shown(target)}")
    import_from_current_folder()
    try:
        found = get_object(target)
    except Exception as error:
        raise UserError(
            f"{name}: {target} cannot be imported ({_last_cause(error)}); a module of your own is looked for "
            "in the current folder and on PYTHONPATH (docs/guides/own_segmenter.md)"
        ) from error
    if not callable(found):
        raise UserError(f"{name}: {target} is no class or function")
    return typing.cast(Callable[..., Any], found)


def import_from_current_folder() -> None:
    """Let modules in the current folder be imported, after all installed ones."""
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)


def _last_cause(error: BaseException) -> str:
    """Return the cause of a failed import in one line; Hydra wraps it in other exceptions."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__


def _parts(options: Any, name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(options, Mapping):
        if "_target_" in options:
            yield name, options
        inner = options.items()
    else:
        inner = enumerate(options) if isinstance(options, list) else ()  # type: ignore[assignment]
    for key, value in inner:
        yield from _parts(value, f"{name}.{key}" if name else str(key))
