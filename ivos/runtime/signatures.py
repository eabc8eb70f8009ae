"""Checks of options against the annotations of the parameters that receive them.

An option is received by a parameter of the class or function that ``_target_`` names, or by a field of the
dataclass that lists the options of a program (:class:`ivos.runtime.options.Options`). The annotation of the
parameter declares the type and, optionally, the range of the option, such as ``Annotated[int, whole(1)]``.
The words ``on``, ``off``, ``yes`` and ``no``, which are booleans in YAML 1.1, are texts here as in Hydra, and
are refused where a boolean is required.
"""

import dataclasses
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from ivos.runtime.errors import UserError
from ivos.runtime.options import (
    MAPPING,
    NULL,
    SWITCH,
    Options,
    Rule,
    above,
    is_number,
    is_whole,
    number,
    one_of,
    options_of,
    shown,
    whole,
)

_MADE = "made by a _target_"
_ANYTHING = Rule(lambda value: True, "anything")
_LISTS = (list, tuple, set, frozenset, Sequence, typing.Iterable)
_PLAIN = (str, int, float, bool, type(None))

FOREIGN: dict[str, dict[str, Rule]] = {
    "pytorch_lightning.trainer.trainer.Trainer": {
        "devices": whole(1) | one_of("auto"),
        "num_nodes": whole(1),
        "max_epochs": whole(1),
        "gradient_clip_val": NULL | above(0),
        "accumulate_grad_batches": whole(1),
        "log_every_n_steps": whole(1),
    },
    "torch.optim.optimizer.Optimizer": {"lr": above(0), "weight_decay": number(0)},
    "torch.optim.lr_scheduler.LRScheduler": {"max_lr": above(0)},
}
"""Ranges of the parameters of other packages' classes and of their subclasses, by class and parameter."""


def check_options(options: Any, target: Callable[..., Any] | None = None, name: str = "") -> None:
    """Check options against annotations; see :func:`option_faults`.

    Raises:
        UserError: Options are invalid (the message has a line for each), or a target cannot be imported.
    """
    if faults := option_faults(options, target, name):
        raise UserError("\n  ".join(faults.values()))


def check_fields(made: Any, name: str) -> None:
    """Check the fields of an instance of a dataclass against their annotations.

    Args:
        made: Instance of the dataclass.
        name: Part of the configuration that describes the instance, for messages.

    Raises:
        UserError: Fields have invalid values; the message has a line for each.
    """
    values = {field.name: getattr(made, field.name) for field in dataclasses.fields(made) if field.init}
    check_options(values, type(made), name)


def option_faults(
    options: Any, target: Callable[..., Any] | str | None = None, name: str = ""
) -> dict[str, str]:
    """Return a message for each option that does not exist or has an invalid value.

    Args:
        options: Resolved configuration in plain containers, or a part of it. Nested parts with a ``_target_``
            are checked against that target.
        target: Class or function that receives the options, or its name; with None, only parts with a
            ``_target_`` are checked. Options may be absent.
        name: Name of the part.

    Returns:
        The messages by the full name of the option.

    Raises:
        UserError: A target cannot be imported.
    """
    faults: dict[str, str] = {}
    for number_of, one in enumerate(options if isinstance(options, list) else ()):
        faults |= option_faults(one, None, f"{name}.{number_of}")
    if not isinstance(options, Mapping):
        return faults
    target = options.get("_target_", target)
    rules, more = ({}, True) if target is None else rules_of(_imported(name, target))
    for key, value in options.items():
        option, key = f"{name}.{key}" if name else str(key), str(key)
        if key.startswith("_") and key.endswith("_"):  # one of Hydra's own keys
            continue
        if key not in rules and not more:
            faults[option] = f"{option}: no such option; there are: {', '.join(rules)}"
        rule = rules.get(key, _ANYTHING)
        if not _allows(rule, value):
            faults[option] = f"{option}: must be {rule.words}, got {shown(value)}"
        faults |= option_faults(value, rule.inner, option)
        for inner, part in value.items() if rule.each and isinstance(value, Mapping) else ():
            faults |= option_faults(part, rule.each, f"{option}.{inner}")
    return faults


def rules_of(target: Callable[..., Any]) -> tuple[dict[str, Rule], bool]:
    """Return the rules for a target's parameters by name, and whether it accepts other parameters.

    The parameters behind ``**options`` of a class are those of its base classes. Those of a function are the
    parameters of the object in its attribute ``options_of``; see
    :func:`ivos.runtime.options.options_go_to`.
    """
    rules: dict[str, Rule] = {}
    more = True
    for function in _makers(target):
        try:
            signature = inspect.signature(function)
        except (ValueError, TypeError):  # implemented in C
            break
        hints, ours = _hints(function), function.__module__.startswith("ivos.")
        more = False
        for name, parameter in signature.parameters.items():
            if parameter.kind == parameter.VAR_KEYWORD:
                more = True
            elif parameter.kind not in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
                rule = rule_of(hints.get(name, Any), lenient=ours)
                optional = parameter.default is None and not rule.holds(None)
                rules.setdefault(name, rule | NULL if optional else rule)
        if not more:
            break
    rules.pop("self", None)
    for base in target.__mro__ if isinstance(target, type) else ():
        ranges = FOREIGN.get(f"{base.__module__}.{base.__qualname__}", {})
        rules |= {name: rule for name, rule in ranges.items() if name in rules}
    return rules, more or (_is_schema(target) and target.open)


def rule_of(hint: Any, lenient: bool = False) -> Rule:
    """Return the rule that a type annotation describes.

    An annotation of a type that a configuration cannot contain allows any value.

    Args:
        hint: Annotation.
        lenient: Whether an integer is accepted as text, because Hydra parses a name such as 2017 as a number.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        kind = rule_of(arguments[0], lenient)
        said = next((one for one in arguments[1:] if isinstance(one, Rule)), None)
        if said is None:
            return kind
        return dataclasses.replace(said, inner=said.inner or kind.inner, each=said.each or kind.each)
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
    if _is_schema(hint):
        return options_of(hint)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        each = [rule_of(argument, lenient) for argument in arguments]
        return Rule(
            lambda v: isinstance(v, list | tuple) and len(v) == len(each) and all(map(_allows, each, v)),
            f"a list of {len(each)}, each {each[0].words}",
        )
    if origin in _ORIGINS_OF_LISTS or hint in _ORIGINS_OF_LISTS:
        each_one = rule_of(arguments[0], lenient) if arguments else _ANYTHING
        return Rule(
            lambda v: (
                (isinstance(v, list | tuple) and all(_allows(each_one, one) for one in v))
                or (each_one in (_SIMPLE[str], _NAME) and isinstance(v, str))
            ),  # one name stands for a list of one name
            "a list" + ("" if each_one is _ANYTHING else f", each {each_one.words}"),
        )
    if origin in (dict, Mapping, typing.get_origin(Mapping[str, int])) or hint in (dict, Mapping):
        return dataclasses.replace(MAPPING, each=rule_of(arguments[-1]).inner if arguments else None)
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
_PATH = Rule(lambda v: isinstance(v, str | os.PathLike), "a path")
_NAME = Rule(lambda v: isinstance(v, str) or is_whole(v), "a text")
_ORIGINS_OF_LISTS = (*_LISTS, typing.get_origin(Sequence[int]), typing.get_origin(typing.Iterable[int]))


def _allows(rule: Rule, value: Any) -> bool:
    return _is_made(value) or rule.holds(value)


def _one_of_rules(rules: list[Rule]) -> Rule:
    if _ANYTHING in rules:
        return _ANYTHING
    if _PATH in rules:  # the rule for paths accepts texts
        rules = [rule for rule in rules if rule not in (_SIMPLE[str], _NAME)]
    if any(rule.holds(None) for rule in rules if rule is not NULL):
        rules = [rule for rule in rules if rule is not NULL]
    said = [rule for rule in rules if rule.words != _MADE] or rules
    switch = SWITCH in rules  # then a text such as "off" is a mistake for a boolean
    return Rule(
        lambda v: any(rule.holds(v) for rule in rules) and not (switch and _looks_like_switch(v)),
        ", or ".join(dict.fromkeys(rule.words for rule in said)),
        next((rule.inner for rule in rules if rule.inner), None),
        next((rule.each for rule in rules if rule.each), None),
    )


def _looks_like_switch(value: Any) -> bool:
    return isinstance(value, str) and value.lower() in ("on", "off", "yes", "no", "y", "n")


def _reads_text(hint: type) -> bool:
    """Return whether an instance of a class can be given as a plain value."""
    return issubclass(hint, Enum) or hint.__module__ in ("builtins", "numbers", "typing")


def _is_schema(target: Any) -> "typing.TypeGuard[type[Options]]":
    return isinstance(target, type) and issubclass(target, Options)


def _is_made(value: Any) -> bool:
    """Return whether a value is a part with a ``_target_``, whose instance does not exist yet."""
    return isinstance(value, Mapping) and "_target_" in value


def _makers(target: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Yield the functions that receive a target's options: its own, then those that it passes the rest to."""
    if isinstance(target, type):
        made = [base for base in target.__mro__ if "__init__" in vars(base)]
        ours = [i for i, base in enumerate(made) if base.__module__.startswith("ivos.")]
        last = max(ours, default=0)  # foreign base classes of our classes contribute no options
        yield from (vars(base)["__init__"] for base in made[: last + 1] if base is not object)
        return
    yield target
    if (other := getattr(target, "options_of", None)) is not None:
        yield from _makers(other)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # annotations of other packages with names that cannot be resolved
        return {}


def _imported(name: str, target: Any) -> Callable[..., Any]:
    """Return a class or function that is given directly or by its name."""
    if callable(target):
        return typing.cast(Callable[..., Any], target)
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
        raise UserError(f"{name}: {target} is not a class or function")
    return typing.cast(Callable[..., Any], found)


def get_object(name: str) -> Any:
    """Return the object with a dotted name; only this function needs Hydra."""
    from hydra.utils import get_object as imported

    return imported(name)


def import_from_current_folder() -> None:
    """Add the current folder to the end of the import path, so that installed modules take precedence."""
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)


def _last_cause(error: BaseException) -> str:
    """Return the original cause of a failed import in one line; Hydra wraps it in other exceptions."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__
