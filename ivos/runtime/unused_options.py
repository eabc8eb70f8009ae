"""Options that have no effect in the chosen combination: an error where the user gave them.

Only options of the command line count. Those that an experiment's file sets may be for another choice: what
the chosen one does not know is left out with a note, and what it ignores is ignored.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict

from ivos.runtime.command_line import is_first_process
from ivos.runtime.errors import listing
from ivos.runtime.signatures import import_from_current_folder, rules_of

F = TypeVar("F", bound=Callable[..., Any])

Effects = Mapping[str, tuple[bool, str]]
"""Of a program: an option or a part of the configuration, whether it has an effect, and what to do if not."""

_FOLDER = re.compile(r"data\.(\w+_)?root|pictures|cutouts")
"""Options of train.py that have an effect through the data sets that refer to them."""


def synthetic_effect(cfg: DictConfig) -> tuple[bool, str]:
    """Return whether the options of the clip generator have an effect, and what to do if not."""
    makes = [str(part._target_).rpartition(".")[2] for _, part in _parts(cfg) if part.get("root") is None]
    reason = "no chosen data set is synthetic; leave it out, or choose data=synthetic"
    return bool({"open_synthetic", "folder_or_synthetic"} & set(makes)), reason


def ignores(unused: Callable[[Mapping[str, Any]], Mapping[str, str]]) -> Callable[[F], F]:
    """Mark a function that ignores some of its options, depending on others.

    Args:
        unused: returns the names of the options that are ignored, each with what the user can do, given the
            options by name.
    """

    def marked(function: F) -> F:
        vars(function)["ignores"] = unused
        return function

    return marked


def given_options(overrides: Sequence[str]) -> dict[str, str]:
    """Return the options that were given on the command line, with their values as they were written.

    Args:
        overrides: of a Hydra job; ``data.train.num_clips=3``, ``++model.width=4``, ``data@data.val=davis``.
    """
    pairs = (override.lstrip("+").partition("=") for override in overrides if not override.startswith("~"))
    return {name: value for name, _, value in pairs}


def leave_out_foreign(cfg: DictConfig, given: Mapping[str, str]) -> None:
    """Delete options of an experiment that the user's choice does not know, in place, and report them.

    With ``experiment=quickstart``, which sets ``data.train.num_clips``, and ``data=davis`` it is that option.

    Args:
        cfg: the configuration.
        given: see :func:`given_options`.
    """
    foreign: list[str] = []
    for choice in given:
        part = choice.rpartition("@")[2]
        node = OmegaConf.select(cfg, part) if re.fullmatch(r"[\w.]+", part) else None
        if not isinstance(node, DictConfig) or node._is_none() or "_target_" not in node:
            continue
        import_from_current_folder()
        try:
            rules, more = rules_of(get_object(str(node._target_)))
        except Exception:  # reported, with its cause, where all targets are checked
            continue
        unknown = [key for key in map(str, node) if key not in rules and not key.startswith("_")]
        unknown = [key for key in unknown if not more and f"{part}.{key}" not in given]
        foreign += [f"{part}.{key}" for key in unknown]
        with open_dict(node):
            for key in unknown:
                del node[key]
    if foreign and is_first_process():
        print(
            f"note: options of the experiment that your choice lacks are left out: {listing(foreign)}",
            file=sys.stderr,
        )


def unused_faults(cfg: DictConfig, given: Mapping[str, str], effects: Effects) -> list[str]:
    """Return a line for each option that was given and has no effect.

    Args:
        cfg: the configuration.
        given: see :func:`given_options`.
        effects: what depends on other options, see :data:`Effects`.
    """
    reasons = {name: reason for name, (used, reason) in effects.items() if not used}
    for name, part in _parts(cfg):
        reasons |= {f"{name}.{key}": reason for key, reason in _ignored(part).items()}
    for name in filter(_FOLDER.fullmatch, given if "stages" in cfg else ()):
        if not _is_referred_to(cfg, name):
            reasons[name] = "no chosen data set takes it; leave it out, or choose another by data=SET"
    found = []
    for option, value in given.items():
        name = option.rpartition("@")[2].replace("/", ".")
        reason = next((why for part, why in reasons.items() if f"{name}.".startswith(f"{part}.")), None)
        if reason:
            found.append(f"{option}={value}: has no effect: {reason}")
    return found


def remedy(option: str, configs: str) -> str:
    """Return which choices of its group have an option that the chosen one lacks; empty if none has.

    Args:
        option: its full name, such as ``protocol.clicks``.
        configs: the folder of the configurations.
    """
    group, _, key = option.partition(".")
    key = key.rpartition(".")[2]
    having = []
    for path in sorted(Path(configs, group).glob("*.yaml")):
        if key in OmegaConf.load(path):
            having.append(f"{group}={path.stem}")
    return f"; it belongs to {listing(having)}" if having else ""


def _ignored(part: DictConfig) -> Mapping[str, str]:
    """Return the options that a part of a configuration ignores, with what the user can do."""
    try:
        unused = getattr(get_object(str(part._target_)), "ignores", None)
    except Exception:  # reported elsewhere
        return {}
    found: Mapping[str, str] = {} if unused is None else unused(OmegaConf.to_container(part, resolve=True))
    return found


def _parts(cfg: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """Yield the parts of the data, which may ignore options, with their names."""
    data = OmegaConf.select(cfg, "data")
    if not isinstance(data, DictConfig):
        return
    if "_target_" in data:
        yield "data", data
    for key in data:
        name = str(key)
        part = None if OmegaConf.is_missing(data, name) else data[name]
        if isinstance(part, DictConfig) and "_target_" in part:
            yield f"data.{name}", part


def _is_referred_to(cfg: DictConfig, option: str, seen: tuple[str, ...] = ()) -> bool:
    """Return whether a data set, or another option that one refers to, is an interpolation of an option."""
    last = option.rpartition(".")[2]
    pattern = re.compile(rf"\$\{{(?:oc\.select:)?(?:{re.escape(option)}|\.+{re.escape(last)})\b")
    for name, text in _interpolations(cfg.get("data")):
        if not pattern.search(text) or name in (option, *seen):
            continue
        if not _FOLDER.fullmatch(name) or _is_referred_to(cfg, name, (*seen, option)):
            return True
    return False


def _interpolations(node: Any, name: str = "data") -> Iterator[tuple[str, str]]:
    """Yield the full name and the text of each interpolation."""
    raw: Any = OmegaConf.to_container(node, resolve=False) if isinstance(node, DictConfig) else node
    for key, value in raw.items() if isinstance(raw, dict) else ():
        if isinstance(value, dict):
            yield from _interpolations(value, f"{name}.{key}")
        elif isinstance(value, str) and "${" in value:
            yield f"{name}.{key}", value
