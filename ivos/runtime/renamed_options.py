"""Accept options by the names they had in version 0.1, for one version.

The table holds every renamed option. The programs apply it to their command line and to the composed
configuration, so that old commands and users' own configuration files keep working; each former name that is
used is reported in one line with the present one.
"""

import functools
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

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
}
"""The last part of an option's present name, by its former full name, in which ``*`` stands for any parts."""


def present_name(option: str) -> str:
    """Return the present name of an option that may have been renamed."""
    for pattern, new in RENAMED_OPTIONS.items():
        if fnmatchcase(option, pattern):
            parent, dot, _ = option.rpartition(".")
            return f"{parent}{dot}{new}"
    return option


def rename_overrides(overrides: Sequence[str]) -> list[str]:
    """Return command-line overrides with present names, and report former ones.

    Args:
        overrides: the arguments of a Hydra program, such as ``+stages.anet.module.loop_rounds=1``.
    """
    renamed = []
    for override in overrides:
        key, equals, value = override.partition("=")
        option = key.lstrip("+~")
        new = present_name(option)
        if new != option and not override.startswith("-"):
            _report(option, new)
            override = f"{key[: len(key) - len(option)]}{new}{equals}{value}"
        renamed.append(override)
    return renamed


def rename_options(cfg: "DictConfig") -> None:
    """Give the options of a composed configuration their present names, in place, and report former ones."""
    from omegaconf import open_dict

    for option, node in list(_options(cfg)):
        new = present_name(option)
        if new != option:
            _report(option, new)
            old_key, new_key = option.rpartition(".")[2], new.rpartition(".")[2]
            with open_dict(node):
                node._set_item_impl(new_key, node._get_node(old_key))
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
        names: the present name by the former one.
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
    from ivos.runtime.command_line import is_first_process

    if is_first_process():
        print(
            f"note: the option {old} has been renamed to {new}; the old name works in this version only",
            file=sys.stderr,
        )
