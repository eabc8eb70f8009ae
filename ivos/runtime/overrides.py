"""Conversion of command-line arguments into Hydra overrides that mean what the user wrote.

Hydra parses values by its own grammar, in which spaces, parentheses, commas, ``=``, quotes and non-ASCII
letters have a meaning or are errors, and in which ``52350e9012`` is an infinite number. Arguments are
therefore rewritten before Hydra reads them:

- A value that is an existing path, or that the grammar refuses, is taken literally.
- A value of an option for paths is a text unless it is null, a list, a quoted text or an interpolation.
- The elements of an option for names (``data.sequences``) are texts, even where they look like numbers.
- An argument without an option's name is the program's positional argument.
- An option with a dot in its name may be missing from the configuration: the class or function that receives
  the option decides whether it exists.
- In train.py, ``data=SET`` is short for the choice of this set for training, validation and test.
- An option by its former name gets its present name, see :mod:`ivos.runtime.renamed_options`.
"""

import math
import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Sweep
from hydra.errors import HydraException

from ivos.runtime.errors import UserError
from ivos.runtime.renamed_options import present_name, rename_overrides

_PATHS = (
    "video", "checkpoint", "workspace", "pictures", "cutouts", "data.root", "data.*root", "*.folder",
    "*cache_dir", "hydra.run.dir", "hydra.sweep.dir", "segmenter.checkpoint",
)  # fmt: skip
_NAMES = (
    "data.sequences",
    "data.*.sequences",
    "data.videos",
    "data.*.videos",
    "study.sequences",
    "study.participants",
)
_FLAGS_WITH_VALUE = (
    "-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir",
    "-i", "--info", "--experimental-rerun",
)  # fmt: skip
_OVERRIDE = re.compile(r"(?P<sign>\+{0,2}|~)(?P<option>[A-Za-z_][\w./@$:-]*)=(?P<value>.*)", re.DOTALL)
_OPEN_GROUPS = (
    "callbacks", "data", "logger", "model", "protocol", "segmenter", "session", "session_trainer", "stages",
    "trainer",
)  # fmt: skip
_FOLDERS_OF_PICTURES = ("pictures", "cutouts")  # options of train.py that only some experiments list
_ROLES = ("train", "val", "test")
_INFINITE = ("inf", "+inf", "-inf", "nan", "+nan", "-nan")
_ELEMENT = re.compile(r"[^\s,\[\]{}()'\"$]+")


def prepare_overrides(
    arguments: Sequence[str],
    positional: str | None = None,
    roles: bool = False,
    open_groups: Sequence[str] = _OPEN_GROUPS,
) -> list[str]:
    """Return arguments that Hydra reads as the user meant them.

    Args:
        arguments: Arguments of the command line, without the program's name.
        positional: Name of the option that receives the positional arguments, that is, those without an
            option's name. Several positional arguments become a list.
        roles: Whether the program has separate data sets for training, validation and test.
        open_groups: Parts of the configuration whose options are checked by the classes and functions that
            receive them, not by the configuration.

    Raises:
        UserError: An argument is positional, and the program has no positional arguments.
    """
    prepared, paths, is_value = [], list[str](), False
    open_groups = (*open_groups, *(_FOLDERS_OF_PICTURES if roles else ()))
    for argument in arguments:
        if is_value or (argument.startswith("-") and not _exists(argument)):
            is_value = not is_value and argument in _FLAGS_WITH_VALUE
            prepared.append(argument)
        elif _is_positional(argument):
            if positional is None:
                raise UserError(f"{argument}: options are written NAME=VALUE")
            paths.append(_literal(_expanded(argument)))
        else:
            present = [each for one in rename_overrides([argument]) for each in _for_roles(one, roles)]
            prepared += [_opened(_prepared(each), open_groups) for each in present]
    if paths:
        value = paths[0] if len(paths) == 1 else f"[{','.join(paths)}]"
        prepared.append(f"{positional}={value}")
    return prepared


def _is_positional(argument: str) -> bool:
    return _exists(argument) or ("=" not in argument and not argument.startswith(("+", "~")))


def _for_roles(override: str, roles: bool) -> list[str]:
    """Return the overrides for training, validation and test that a choice of one data set stands for."""
    if not roles or not override.startswith("data=") or override.startswith("data={"):
        return [override]
    name = override.removeprefix("data=")
    training_only = name in ("anet", "tnet", "mixture", "pictures")
    return [f"data@data.{role}={name}" for role in (_ROLES[:1] if training_only else _ROLES)]


def _opened(override: str, open_groups: Sequence[str]) -> str:
    """Put ``++`` before an override if it may add an option that the configuration does not list."""
    found = _OVERRIDE.fullmatch(override)
    if found is None or found["sign"] or {"@", "/", ":"} & set(found["option"]):
        return override
    head, dot, _ = found["option"].partition(".")
    parsed, is_read = _parse(override)
    is_sweep = isinstance(parsed, Sweep) or not is_read
    is_open = head in open_groups and (dot or head in _FOLDERS_OF_PICTURES)
    return f"++{override}" if is_open and not is_sweep else override


def _prepared(override: str) -> str:
    """Return an override whose value is quoted where Hydra would misread it."""
    found = _OVERRIDE.fullmatch(override)
    if found is None:
        return override
    head, option, value = override[: found.start("value")], present_name(found["option"]), found["value"]
    if _matches(option, _NAMES):
        return head + _as_names(value)
    if "${" in value and _exists(_expanded(value)):
        return head + _literal(_expanded(value))
    parsed, is_read = _parse(override)
    if is_read and (str(parsed) == value or not value):
        return override
    if _exists(_expanded(value)):
        return head + _literal(_expanded(value))
    is_list = value.startswith("[") and value.endswith("]")
    elements = value[1:-1].split(",") if is_list and (not is_read or _matches(option, _PATHS)) else []
    if elements and all(map(_exists, map(_expanded, elements))):
        return f"{head}[{','.join(_literal(_expanded(element)) for element in elements)}]"
    is_text = is_read or _matches(option, _PATHS) or not value.startswith(("[", "{"))
    if (not is_read and is_text) or _is_accidental_infinity(parsed, value):
        return head + _quoted(value)
    if (
        _matches(option, _PATHS)
        and isinstance(parsed, int | float | ChoiceSweep)
        and not isinstance(parsed, bool)
    ):
        return head + _quoted(value)
    return override


def _parse(override: str) -> tuple[Any, bool]:
    """Return the value of an override as Hydra parses it, and whether Hydra can parse it.

    The value of a sweep is an object of Hydra's class ``Sweep``.
    """
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return None, False
    return parsed.value(), True


def _is_accidental_infinity(parsed: Any, text: str) -> bool:
    """Return whether digits with an ``e`` among them were read as an infinite number."""
    return isinstance(parsed, float) and not math.isfinite(parsed) and text.lower() not in _INFINITE


def _as_names(value: str) -> str:
    """Return a name or a list of names with every unquoted element quoted."""
    if value in ("null", "") or value.startswith(("'", '"', "$", "{")):
        return value
    if value.startswith("["):
        return (
            _ELEMENT.sub(lambda element: f"'{element[0]}'", value)
            if "'" not in value and '"' not in value
            else value
        )
    return _quoted(_expanded(value) if _exists(_expanded(value)) else value)


def _matches(option: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(option, pattern) for pattern in patterns)


def _quoted(text: str) -> str:
    """Return a text as Hydra's grammar quotes it."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def _literal(path: str) -> str:
    """Return a file's name quoted for Hydra, with ``${`` escaped, so that it is not an interpolation."""
    return _quoted(re.sub(r"(\\*)\$\{", r"\1\1\\${", path))


def _expanded(path: str) -> str:
    """Return a path with ``~`` replaced by the home folder, unless a file with the unexpanded name exists."""
    return path if _exists(path) or not path.startswith("~") else os.path.expanduser(path)


def _exists(path: str) -> bool:
    try:
        return bool(path) and os.path.lexists(path)
    except ValueError:  # a null character
        return False
