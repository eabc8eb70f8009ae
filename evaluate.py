"""Evaluate by the DAVIS interactive protocol: ``uv run evaluate.py checkpoint=FILE data.root=FOLDER``."""

from pathlib import Path
from typing import Any, cast

import hydra
import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from ivos import loggers
from ivos.cli import agree_on_start_time, is_first_process, quiet_libraries, reported, sha256
from ivos.errors import UserError
from ivos.evaluation import RunFolder, evaluate, report_folders, summary_table
from ivos.networks import load


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Compose, check, run, show."""
    console = Console(highlight=False, quiet=not is_first_process())
    quiet_libraries()
    with reported():
        folder = HydraConfig.get().runtime.output_dir
        settings = instantiate(cfg.session, _convert_="all")
        check_resume(cfg)
        if is_first_process():  # before anything is loaded; the others would find what this one began
            report_folders(folder, settings, cfg.resume)
        pl.seed_everything(settings.seed, verbose=False)
        if cfg.checkpoint:
            network = load(cfg.checkpoint)
            console.print(f"Network: {cfg.checkpoint}")
        else:
            network = instantiate(cfg.model)
            console.print("Network: UNTRAINED, for there is no checkpoint=FILE; expect scores near zero.")
        videos = instantiate(cfg.data)
        console.print(f"Data: {videos.root}, {videos.subset}: {len(videos)} sequences")
        logged = [instantiate(options) for options in cfg.logger.values() if options]
        trainer = instantiate(cfg.trainer, _partial_=True)(logger=logged)
        segmenter = instantiate(cfg.segmenter, network)
        if cfg.resume:
            for place in report_folders(folder, settings, resume=True).values():
                run = RunFolder(place, videos)
                if not run.remaining():
                    console.print(f"All {len(run.all)} samples are done; writing the reports again: {place}")
        options = {name: cfg[name] for name in ("save_masks", "save_overlays", "resume")}
        facts = what_counts(cfg, videos.root)
        with loggers.closing():
            loggers.log_configuration(logged, cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True)))
            summaries = evaluate(segmenter, videos, settings, folder, trainer, facts=facts, **options)
    console.print(summary_table(summaries))
    console.print(f"Report, summary, rounds and curve: {folder}", soft_wrap=True)


def check_resume(cfg: DictConfig) -> None:
    """Without a folder's name, a new one is made, with nothing in it to go on with."""
    named = any(override.startswith("hydra.run.dir=") for override in HydraConfig.get().overrides.hydra)
    if cfg.resume and not named:
        raise UserError("resume=true: name the folder of the run to go on with: hydra.run.dir=FOLDER")


def what_counts(cfg: DictConfig, root: str | Path) -> dict[str, Any]:
    """What the numbers depend on besides the session's settings; see :func:`ivos.evaluation.evaluate`."""
    facts: dict[str, Any] = {"checkpoint": cfg.checkpoint and f"sha256 {sha256(cfg.checkpoint)}"}
    for group in ("segmenter",) if cfg.checkpoint else ("segmenter", "model"):
        options = cast(dict[str, Any], OmegaConf.to_container(cfg[group], resolve=True))
        facts |= {f"{group}.{name}": value for name, value in options.items() if "memory" not in name}
    facts |= {f"data.{name}": cfg.data[name] for name in ("subset", "year", "resolution") if name in cfg.data}
    facts["data.root"] = str(Path(root).resolve())
    return facts


if __name__ == "__main__":
    agree_on_start_time()
    main()
