"""Names of options in version 0.1, which this version still accepts.

:data:`RENAMED_OPTIONS` holds every renamed option. The programs apply it to their command line and to the
composed configuration, so that old commands and users' own configuration files keep working. Each former name
that is used is reported in one line together with the present name.
"""

import functools
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

from ivos.runtime.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

F = TypeVar("F", bound=Callable[..., Any])

RENAMED_OPTIONS = {
    "data.subset": "split",
    "data.*.subset": "split",
    "stages.*.data.*.subset": "split",
    "segmenter.together": "batch_directions",
    "segmenter.lookahead": "feature_batch_size",
    "segmenter.memory_gib": "device_cache_gib",
    "stages.*.module.loop_rounds": "feedback_rounds",
    "stages.*.module.loop_share": "feedback_prob",
    "stages.*.module.loss.balance": "class_balance",
    "stages.*.data.samples.user.later": "correction_prob",
    "stages.*.data.samples.user.points": "point_prob",
    "optimize": "optimized_metric",
    "weights": "checkpoint",
    "rate": "fps",
    "objects": "num_objects",
    "live": "max_open_videos",
    "undo_gib": "/segmenter.undo_gib",
    "session.seed": "/seed",
    "trainer.accelerator": "/device",
    "session_trainer.accelerator": "/device",
}
"""Present names of renamed options by their former full names.

In a key, ``*`` stands for any parts of a name. A value is the new last part of the name, or after a ``/`` the
new full name.
"""

REMOVED_OPTIONS = {"stages.*.data.samples.user.keep_first": 0.3}
"""Fixed values of options that were removed, by the full names of the options."""

RENAMED_CHOICES = {
    "data": {"anet_mixture": "anet", "tnet_mixture": "tnet", "synthetic_easy": "default"},
    "strategy": {"auto": "null"},
}
"""Present names of the choices of each configuration group by their former names."""

# Further overrides that a former choice of a configuration group implied.
_WITH_CHOICE = {("data", "synthetic_easy"): "synthetic=easy"}


def present_name(option: str) -> str:
    """Return the present name of an option that may have been renamed."""
    for pattern, new in RENAMED_OPTIONS.items():
        if fnmatchcase(option, pattern):
            parent, dot, _ = option.rpartition(".")
            return new[1:] if new.startswith("/") else f"{parent}{dot}{new}"
    return option


def rename_overrides(overrides: Sequence[str]) -> list[str]:
    """Return command-line overrides with former names replaced by present names, and report each of them.

    Args:
        overrides: Arguments of a Hydra program, such as ``+stages.anet.module.loop_rounds=1``.
    """
    renamed = []
    for override in overrides:
        key, equals, value = override.partition("=")
        option = key.lstrip("+~")
        if override.startswith("-") or _is_removed(option, value):
            renamed += [override] if override.startswith("-") else []
            continue
        new = present_name(option)
        if new != option:
            _report(option, new)
            moved = RENAMED_OPTIONS.get(option, "").startswith("/")  # the present option needs no ``+``
            sign = "" if moved else key[: len(key) - len(option)]
            override = f"{sign}{new}{equals}{value}"
        renamed += _renamed_choice(override)
    return renamed


def _renamed_choice(override: str) -> list[str]:
    """Return an override with a former choice of a configuration group replaced by the present choice."""
    key, _, value = override.partition("=")
    group = key.lstrip("+~").partition("@")[0]
    new = RENAMED_CHOICES.get(group, {}).get(value)
    if new is None:
        return [override]
    present = [f"{key}={new}", *filter(None, [_WITH_CHOICE.get((group, value))])]
    _report(override, " ".join(present))
    return present


def _is_removed(option: str, value: object) -> bool:
    """Return whether an option was removed, and report it if so.

    Raises:
        UserError: The option was removed, and `value` differs from its fixed value.
    """
    for pattern, fixed in REMOVED_OPTIONS.items():
        if fnmatchcase(option, pattern):
            if str(value) != str(fixed):
                raise UserError(f"{option}={value}: no longer an option, always {fixed}; omit it")
            _tell(f"the option {option} has been removed: it is always {fixed}")
            return True
    return False


def rename_options(cfg: "DictConfig") -> None:
    """Rename the options of a composed configuration to their present names in place, and report each."""
    from omegaconf import OmegaConf, open_dict

    for option, node in list(_options(cfg)):
        new, old_key = present_name(option), option.rpartition(".")[2]
        if _is_removed(option, node._get_node(old_key)):
            with open_dict(node):
                del node[old_key]
        elif new != option:
            _report(option, new)
            parent, _, new_key = new.rpartition(".")
            there = OmegaConf.select(cfg, parent) if parent else cfg
            with open_dict(node), open_dict(there):
                there._set_item_impl(new_key, node._get_node(old_key))
                del node[old_key]


def _options(cfg: "DictConfig", prefix: str = "") -> Iterator[tuple[str, "DictConfig"]]:
    """Yield the full name of every option with the node that holds it."""
    from omegaconf import DictConfig

    for key in map(str, cfg):
        yield f"{prefix}{key}", cfg
        child = cfg._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
            yield from _options(child, f"{prefix}{key}.")


def accept_former_keywords(**names: str) -> Callable[[F], F]:
    """Let a function or class accept keyword arguments by their former names, with a warning.

    Args:
        names: Present names of parameters by their former names.
    """

    def decorate(target: F) -> F:
        if not isinstance(target, type):
            return _with_former_keywords(target, names)
        target.__init__ = _with_former_keywords(target.__init__, names)  # type: ignore[misc]
        return target

    return decorate


def _with_former_keywords(function: F, names: Mapping[str, str]) -> F:
    @functools.wraps(function)
    def called(*args: Any, **options: Any) -> Any:
        for old in names.keys() & options.keys():
            message = f"the parameter {old} has been renamed to {names[old]}"
            warnings.warn(message, FutureWarning, stacklevel=2)
            options[names[old]] = options.pop(old)
        return function(*args, **options)

    return called  # type: ignore[return-value]


def _report(old: str, new: str) -> None:
    _tell(f"the option {old} has been renamed to {new}; the old name works in this version only")


def _tell(news: str) -> None:
    from ivos.runtime.command_line import is_first_process

    if is_first_process():
        print(f"note: {news}", file=sys.stderr)
