"""Options held against the annotations of what takes them: each is known there, and may have its value.

An option goes to a parameter of the class or function that ``_target_`` names, or to a field of the
dataclass that lists a program's options (:class:`ivos.runtime.options.Options`). The annotation of the
parameter says what the option may be: its type alone, or a range too, ``Annotated[int, whole(1)]``. What YAML
1.1 alone reads as a switch (off, no) is a text here, as it is in Hydra, and so refused where true or false is
needed.
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
"""Ranges of the options of other packages' classes and of their subclasses, by class and parameter."""


def check_options(options: Any, target: Callable[..., Any] | None = None, name: str = "") -> None:
    """Hold options against annotations, see :func:`option_faults`.

    Raises:
        UserError: all options that cannot be, a line each; or a target that cannot be imported.
    """
    if faults := option_faults(options, target, name):
        raise UserError("\n  ".join(faults.values()))


def check_fields(made: Any, name: str) -> None:
    """Hold the fields of a dataclass that has been made, by Hydra or from Python, against their annotations.

    Args:
        made: the dataclass.
        name: the part of the configuration that it is made of.

    Raises:
        UserError: all fields that cannot be, a line each.
    """
    values = {field.name: getattr(made, field.name) for field in dataclasses.fields(made) if field.init}
    check_options(values, type(made), name)


def option_faults(
    options: Any, target: Callable[..., Any] | str | None = None, name: str = ""
) -> dict[str, str]:
    """Return the options that their target does not know or that may not have their value, with messages.

    Args:
        options: a configuration or a part of it (resolved, plain containers). What names a ``_target_`` in
            it, however deep, is held against that.
        target: the class or function whose options they are, or its name; None: only parts that name one have
            a target. Options that are absent are not missed.
        name: the name of the part.

    Raises:
        UserError: there is no such target.
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
        if key.startswith("_") and key.endswith("_"):  # of Hydra
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
    """Return the rules for a target's parameters by name, and whether it accepts other names, too.

    Keyword arguments that a class passes on are taken from its base classes; those that a function passes on
    are taken from the object that its attribute ``options_of`` names.
    """
    rules: dict[str, Rule] = {}
    more = True
    for function in _makers(target):
        try:
            signature = inspect.signature(function)
        except (ValueError, TypeError):  # of C
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
    """Return the rule that a type annotation stands for; anything is allowed where it names no YAML type.

    Args:
        hint: the annotation.
        lenient: whether a text may be a whole number, because Hydra reads the name 2017 as a number.
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
            ),  # a name for a list of one
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
    if _PATH in rules:  # which is made of a text alone
        rules = [rule for rule in rules if rule not in (_SIMPLE[str], _NAME)]
    if any(rule.holds(None) for rule in rules if rule is not NULL):
        rules = [rule for rule in rules if rule is not NULL]
    said = [rule for rule in rules if rule.words != _MADE] or rules
    switch = SWITCH in rules  # then a text that is no switch but looks like one is a mistake
    return Rule(
        lambda v: any(rule.holds(v) for rule in rules) and not (switch and _looks_like_switch(v)),
        ", or ".join(dict.fromkeys(rule.words for rule in said)),
        next((rule.inner for rule in rules if rule.inner), None),
        next((rule.each for rule in rules if rule.each), None),
    )


def _looks_like_switch(value: Any) -> bool:
    return isinstance(value, str) and value.lower() in ("on", "off", "yes", "no", "y", "n")


def _reads_text(hint: type) -> bool:
    """Whether a class may be given as a plain value."""
    return issubclass(hint, Enum) or hint.__module__ in ("builtins", "numbers", "typing")


def _is_schema(target: Any) -> "typing.TypeGuard[type[Options]]":
    return isinstance(target, type) and issubclass(target, Options)


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
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # annotations of others that are no names where they stand
        return {}


def _imported(name: str, target: Any) -> Callable[..., Any]:
    """Return the class or function that a name stands for, or that is given as it is."""
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
        raise UserError(f"{name}: {target} is no class or function")
    return typing.cast(Callable[..., Any], found)


def get_object(name: str) -> Any:
    """Return the object that a dotted name stands for; the engine needs Hydra for nothing, so not before."""
    from hydra.utils import get_object as imported

    return imported(name)


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
