"""The evaluation as a Hydra job: checks of the configuration, sessions, and printed results."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig
from rich.console import Console

from ivos.data.synthetic import open_synthetic
from ivos.engine import Segmenter, takes_network
from ivos.evaluation.evaluation import evaluate
from ivos.evaluation.progress import session_trainer
from ivos.evaluation.report import summary_table
from ivos.evaluation.run_folder import RunFolder, report_folders
from ivos.evaluation.session_callbacks import MasksLayout
from ivos.networks import load
from ivos.networks.shipped import UNTRAINED, weights_file
from ivos.runtime import loggers
from ivos.runtime.command_line import is_first_process, sha256
from ivos.runtime.config import (
    Device,
    accelerator,
    check_resume,
    check_values,
    resolved,
    session_settings,
)
from ivos.runtime.errors import UserError
from ivos.runtime.options import Options, Part, Seed, options_of, whole
from ivos.runtime.signatures import import_from_current_folder
from ivos.runtime.unused_options import Effects, synthetic_effect
from ivos.session import ProtocolFactory, SessionSettings
from ivos.video.video import Video


@dataclass
class EvaluationOptions(Options):
    """The options of evaluate.py, whose values ``conf/evaluate.yaml`` gives; parts have their own."""

    model: Part
    synthetic: Annotated[dict[str, Any], options_of(open_synthetic)]
    data: Part
    session: Part
    protocol: Part
    segmenter: Part
    trainer: Part
    logger: Part
    folder: str
    checkpoint: str | None
    seed: Seed
    device: Device
    resume: bool
    threads: Annotated[int, whole(1, 1024)]
    save_masks: bool
    masks_layout: MasksLayout
    save_overlays: bool


def effects(cfg: DictConfig) -> Effects:
    """Return which options depend on others; see :func:`ivos.runtime.unused_options.unused_faults`."""
    unused = getattr(get_object(cfg.protocol._target_), "unused", {})
    own = f"checkpoint={cfg.checkpoint} determines the network; omit it, or set checkpoint={UNTRAINED}"
    return {
        "model": (cfg.checkpoint == UNTRAINED, own),
        "masks_layout": (cfg.save_masks, "no masks are written; add save_masks=true, or omit it"),
        "synthetic": synthetic_effect(cfg),
        **{f"session.{name}": (False, f"{reason}; omit it") for name, reason in unused.items()},
    }


_MEMORY = ("device_cache_gib", "host_memory_gib")  # options of the segmenter without effect on results


def run(cfg: DictConfig) -> None:
    """Run the evaluation of a Hydra job.

    Raises:
        UserError: The configuration, the data or the checkpoint cannot be used.
    """
    console = Console(highlight=False, markup=False, quiet=not is_first_process())
    folder = Path(HydraConfig.get().runtime.output_dir)
    check_values(cfg, EvaluationOptions, effects)
    settings = session_settings(cfg)
    check_resume(cfg.resume, "hydra.run.dir")
    if is_first_process():  # the other processes would find files that this one has written
        report_folders(folder, settings, cfg.resume)
    pl.seed_everything(settings.seed, verbose=False)
    segmenter = make_segmenter(cfg, console)
    protocol: ProtocolFactory = instantiate(cfg.protocol)
    videos = instantiate(cfg.data)
    console.print(f"Data: {videos.root}, {videos.split}: {len(videos)} sequences", soft_wrap=True)
    logged = [instantiate(options) for options in cfg.logger.values() if options]
    trainer = session_trainer(cfg.trainer, accelerator(cfg), logger=logged)
    if cfg.resume:
        say_what_is_done(folder, settings, protocol.videos(videos), console)
    options = {
        name: cfg[name] for name in ("save_masks", "masks_layout", "save_overlays", "resume", "threads")
    }
    origin = provenance(cfg, videos.root)
    with loggers.closing():
        loggers.log_configuration(logged, resolved(cfg))
        summaries = evaluate(
            segmenter, videos, settings, folder, trainer, provenance=origin, protocol=protocol, **options
        )
    for summary in summaries.values():
        if "masks" in summary:
            console.print(
                "No scores: only first masks of these videos have been published. Masks for the benchmark's "
                f"server: {folder / summary['masks']}",
                soft_wrap=True,
            )
            return
    console.print(summary_table(summaries))
    by = next(iter(summaries.values()))["computed_by"]
    console.print(f"Summary (AUC, value at the threshold, curve) computed by {by}.", soft_wrap=True)
    console.print(f"Report, summary, rounds and curve: {folder}", soft_wrap=True)


def make_segmenter(cfg: DictConfig, console: Console) -> Segmenter:
    """Return the segmenter; if it takes a network, this is that of the checkpoint or an untrained one."""
    try:
        import_from_current_folder()
        make = get_object(cfg.segmenter._target_)
    except ImportError as error:
        raise UserError(
            f"segmenter: {cfg.segmenter._target_} cannot be imported ({_last_cause(error)}); modules of "
            "your own are searched in the current folder and on PYTHONPATH "
            "(docs/guides/own_segmenter.md)"
        ) from error
    if not takes_network(make):
        if any(override.startswith("checkpoint=") for override in HydraConfig.get().overrides.task):
            raise UserError(
                f"checkpoint={cfg.checkpoint}: this segmenter does not use a network of ivos; omit it"
            )
        other: Segmenter = instantiate(cfg.segmenter)
        return other
    if not isinstance(cfg.checkpoint, str) or not cfg.checkpoint.strip():
        raise UserError(
            f"checkpoint={cfg.checkpoint or ''}: is empty (an unset variable?); name a file, or set "
            f"checkpoint={UNTRAINED}"
        )
    if cfg.checkpoint == UNTRAINED:
        network = instantiate(cfg.model)
        console.print("Network: UNTRAINED (checkpoint=FILE); expect scores near zero.", soft_wrap=True)
    else:
        network = load(cfg.checkpoint)
        console.print(f"Network: {cfg.checkpoint}", soft_wrap=True)
    segmenter: Segmenter = instantiate(cfg.segmenter, network)
    return segmenter


def _last_cause(error: BaseException) -> str:
    """Return the original cause of a failed import in one line; Hydra wraps it in its own errors."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())


def say_what_is_done(
    folder: Path, settings: SessionSettings, videos: Sequence[Video], console: Console
) -> None:
    """Print a line for each run whose samples are all complete."""
    for place in report_folders(folder, settings, resume=True).values():
        run = RunFolder(place, videos)
        if not run.remaining():
            console.print(
                f"All {len(run.all)} samples are done; writing the reports again: {place}", soft_wrap=True
            )


def provenance(cfg: DictConfig, root: str | Path) -> dict[str, Any]:
    """Return everything that the results depend on besides the settings, by option name."""
    with_network = takes_network(get_object(cfg.segmenter._target_))
    found = dict[str, Any](checkpoint=None)
    ours = with_network and cfg.checkpoint == UNTRAINED
    if with_network and not ours:
        found["checkpoint"] = f"sha256 {sha256(weights_file(cfg.checkpoint))}"
    for group in ("segmenter", "model") if ours else ("segmenter",):
        options = resolved(cfg[group])
        found |= {f"{group}.{name}": value for name, value in options.items() if name not in _MEMORY}
    known = inspect.signature(get_object(cfg.data._target_)).parameters
    for name in ("split", "year", "resolution"):
        if name in cfg.data or name in known:
            found[f"data.{name}"] = cfg.data.get(name, known[name].default if name in known else None)
    found["data.root"] = str(Path(root).resolve())
    return found
