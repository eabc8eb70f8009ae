"""Detection of options that have no effect in the chosen combination.

An option of the command line without effect is an error. The file of an experiment may set options for
configuration groups other than the chosen ones: options that the chosen group does not have are removed with
a note, and options that it ignores stay without a message.
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
"""For an option or a part of the configuration: whether it has an effect, and what to do if it has none."""

_FOLDER = re.compile(r"data\.(\w+_)?root|pictures|cutouts")
"""Options of train.py that only have an effect through the data sets that interpolate them."""


def synthetic_effect(cfg: DictConfig) -> tuple[bool, str]:
    """Return whether the options of the clip generator have an effect, and what to do if they have none."""
    makes = [str(part._target_).rpartition(".")[2] for _, part in _parts(cfg) if part.get("root") is None]
    reason = "no chosen data set is synthetic; omit it, or choose data=synthetic"
    return bool({"open_synthetic", "folder_or_synthetic"} & set(makes)), reason


def ignores(unused: Callable[[Mapping[str, Any]], Mapping[str, str]]) -> Callable[[F], F]:
    """Declare that a function ignores some of its options, depending on others.

    Args:
        unused: Function of the options by name that returns the names of the ignored options, each with the
            remedy for the user.
    """

    def marked(function: F) -> F:
        vars(function)["ignores"] = unused
        return function

    return marked


def given_options(overrides: Sequence[str]) -> dict[str, str]:
    """Return the options of the command line with their values as text.

    Args:
        overrides: Overrides of a Hydra job, such as ``data.train.num_clips=3``, ``++model.width=4`` and
            ``data@data.val=davis``.
    """
    pairs = (override.lstrip("+").partition("=") for override in overrides if not override.startswith("~"))
    return {name: value for name, _, value in pairs}


def leave_out_foreign(cfg: DictConfig, given: Mapping[str, str]) -> None:
    """Delete options of an experiment that the chosen configuration groups do not have, and report them.

    For example, ``experiment=quickstart`` sets ``data.train.num_clips``, which ``data=davis`` does not have.

    Args:
        cfg: Configuration. It is modified.
        given: Options of the command line; see :func:`given_options`.
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
        except Exception:  # option_faults reports targets that cannot be imported
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
    """Return a message for each option of the command line that has no effect.

    Args:
        cfg: Configuration.
        given: Options of the command line; see :func:`given_options`.
        effects: Effects of the program's options; see :data:`Effects`.
    """
    reasons = {name: reason for name, (used, reason) in effects.items() if not used}
    for name, part in _parts(cfg):
        reasons |= {f"{name}.{key}": reason for key, reason in _ignored(part).items()}
    for name in filter(_FOLDER.fullmatch, given if "stages" in cfg else ()):
        if not _is_referred_to(cfg, name):
            reasons[name] = "no chosen data set takes it; omit it, or choose another by data=SET"
    found = []
    for option, value in given.items():
        name = option.rpartition("@")[2].replace("/", ".")
        reason = next((why for part, why in reasons.items() if f"{name}.".startswith(f"{part}.")), None)
        if reason:
            found.append(f"{option}={value}: has no effect: {reason}")
    return found


def remedy(option: str, configs: str) -> str:
    """Return the choices of a configuration group that have an option which the chosen one lacks, as text.

    The text is empty if no choice has the option.

    Args:
        option: Full name of the option, such as ``protocol.clicks``.
        configs: Folder of the configurations.
    """
    group, _, key = option.partition(".")
    key = key.rpartition(".")[2]
    having = []
    for path in sorted(Path(configs, group).glob("*.yaml")):
        if key in OmegaConf.load(path):
            having.append(f"{group}={path.stem}")
    return f"; it belongs to {listing(having)}" if having else ""


def _ignored(part: DictConfig) -> Mapping[str, str]:
    """Return the options that a part of a configuration ignores, each with the remedy for the user."""
    try:
        unused = getattr(get_object(str(part._target_)), "ignores", None)
    except Exception:  # option_faults reports targets that cannot be imported
        return {}
    found: Mapping[str, str] = {} if unused is None else unused(OmegaConf.to_container(part, resolve=True))
    return found


def _parts(cfg: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """Yield the name and the configuration of each data set; data sets may ignore options."""
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
    """Return whether an option is interpolated into a data set, directly or through another option."""
    last = option.rpartition(".")[2]
    pattern = re.compile(rf"\$\{{(?:oc\.select:)?(?:{re.escape(option)}|\.+{re.escape(last)})\b")
    for name, text in _interpolations(cfg.get("data")):
        if not pattern.search(text) or name in (option, *seen):
            continue
        if not _FOLDER.fullmatch(name) or _is_referred_to(cfg, name, (*seen, option)):
            return True
    return False


def _interpolations(node: Any, name: str = "data") -> Iterator[tuple[str, str]]:
    """Yield the full name of each option with an interpolation, and the text of the interpolation."""
    raw: Any = OmegaConf.to_container(node, resolve=False) if isinstance(node, DictConfig) else node
    for key, value in raw.items() if isinstance(raw, dict) else ():
        if isinstance(value, dict):
            yield from _interpolations(value, f"{name}.{key}")
        elif isinstance(value, str) and "${" in value:
            yield f"{name}.{key}", value
