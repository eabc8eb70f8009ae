"""Comparison of a resumed run's options with those with which its stages were started."""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from ivos.runtime.config import resolved
from ivos.runtime.errors import UserError
from ivos.runtime.files import write_text
from ivos.training.checkpoints import LAST

SETTINGS, FINAL = "settings.json", "final.ckpt"
_TRAINER = (
    "accumulate_grad_batches",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "precision",
    "sync_batchnorm",
)
_NO_EFFECT = {"execution", "num_workers", "memory_mib", "index"}  # options without effect on the weights
_PLACES = {"root", "folder", "cache_dir", "backgrounds", "sprites"}  # locations, because data may be moved


def record(cfg: DictConfig, name: str, folder: Path) -> None:
    """Write the options of a stage to ``settings.json`` in its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / SETTINGS, json.dumps(_settings(cfg, name), indent=1) + "\n")


def is_done(cfg: DictConfig, name: str, folder: Path) -> bool:
    """Return whether a stage has been trained for as many epochs as the configuration asks for."""
    if not (folder / FINAL).exists():
        return False
    begun = _recorded(folder)
    return begun is None or _settings(cfg, name)[_epochs(name)] <= begun[_epochs(name)]


def check_settings(cfg: DictConfig, folder: Path) -> None:
    """Check that the options of a resumed run are compatible with those with which it was started.

    A stage can be continued with more epochs, unless its learning-rate schedule depends on the number of its
    steps, or a later stage has already started from its result. Options that do not change the weights, such
    as loggers, loader processes or the folder of the data, may differ.

    Args:
        cfg: Configuration of the resumed run.
        folder: Folder of the run.

    Raises:
        UserError: Options are incompatible; the message has one line for each.
    """
    faults: list[str] = []
    names = list(map(str, cfg.stages))
    for number, name in enumerate(names):
        place = folder / name
        if (begun := _recorded(place)) is None:
            continue
        now, epochs = _settings(cfg, name), _epochs(name)
        faults += [
            f"{key}={_shown(now.get(key))}: stage {name} was started with {_shown(begun.get(key))}"
            for key in sorted({*begun, *now})
            if key != epochs and begun.get(key) != now.get(key)
        ]
        if now[epochs] != begun[epochs]:
            later = [other for other in names[number + 1 :] if _has_begun(folder / other)]
            if fault := _fault_of_epochs(cfg, name, place, now[epochs] > begun[epochs], later):
                faults.append(f"{epochs}={now[epochs]}: {fault}")
    if faults:
        headline = (
            f"{folder}: cannot be resumed with different options; use the original ones, or start a new run"
        )
        raise UserError("\n  ".join([headline, *faults]))


def counts_steps(make_scheduler: Callable[..., Any] | None) -> bool:
    """Return whether a learning-rate schedule depends on the total number of optimiser steps."""
    return make_scheduler is not None and "total_steps" in inspect.signature(make_scheduler).parameters


def _fault_of_epochs(cfg: DictConfig, name: str, folder: Path, more: bool, later: list[str]) -> str:
    """Return why a stage cannot continue to a different number of epochs; empty if it can."""
    done = (folder / FINAL).exists()
    if not more and done:
        return f"stage {name} has already been trained for more epochs"
    if counts_steps(instantiate(cfg.stages[name].module.scheduler)):
        return f"the learning-rate schedule of stage {name} was planned for a different number of epochs"
    if done and later:
        return f"stage {later[0]} has already started from the result of stage {name}"
    if done and not (folder / LAST).exists():
        return f"stage {name} has no {LAST} from which it could continue"
    return ""


def _settings(cfg: DictConfig, name: str) -> dict[str, Any]:
    """Return the options that the weights of a stage depend on, by their full names."""
    average = cfg.callbacks.get("ema")
    kept = {
        "seed": cfg.seed,
        "model": resolved(cfg.model),
        "trainer": {key: cfg.trainer.get(key) for key in _TRAINER},
        "callbacks": {"ema": resolved(average) if average else None},
        "stages": {name: resolved(cfg.stages[name])},
    }
    found: dict[str, Any] = json.loads(json.dumps(dict(_flat(kept)), default=str))  # as JSON gives it back
    return found


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in options.items():
        if str(key) in _NO_EFFECT | _PLACES or str(key).endswith("_root"):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _recorded(folder: Path) -> dict[str, Any] | None:
    """Return the options with which a stage was started; None if it was not started or lacks the record."""
    path = folder / SETTINGS
    if not _has_begun(folder):
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path}: damaged; delete it to resume without a comparison of options") from error
    if not isinstance(found, dict) or _epochs(folder.name) not in found:
        raise UserError(f"{path}: not the options of stage {folder.name}; delete it to resume without them")
    return found


def _has_begun(folder: Path) -> bool:
    return any((folder / name).exists() for name in (LAST, FINAL))


def _epochs(name: str) -> str:
    return f"stages.{name}.trainer.max_epochs"


def _shown(value: Any) -> str:
    return json.dumps(value).strip('"')
