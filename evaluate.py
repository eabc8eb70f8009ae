"""Evaluate by the DAVIS interactive protocol: ``uv run evaluate.py checkpoint=FILE data.root=FOLDER``."""

import hydra
import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from ivos.cli import quiet_libraries, reported
from ivos.evaluation import evaluate, report_folders, summary_table
from ivos.networks import load


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Compose, check, run, show."""
    console = Console(highlight=False)
    quiet_libraries()
    with reported():
        folder = HydraConfig.get().runtime.output_dir
        settings = instantiate(cfg.session, _convert_="all")
        report_folders(folder, settings)  # refuses a folder that holds a report before anything is loaded
        pl.seed_everything(settings.seed, verbose=False)
        if cfg.checkpoint:
            network = load(cfg.checkpoint)
            console.print(f"Network: {cfg.checkpoint}")
        else:
            network = instantiate(cfg.model)
            console.print("Network: UNTRAINED, for there is no checkpoint=FILE; expect scores near zero.")
        videos = instantiate(cfg.data)
        console.print(f"Data: {videos.root}, {videos.subset}: {len(videos)} sequences")
        trainer = instantiate(cfg.trainer, logger=instantiate(cfg.logger))
        segmenter = instantiate(cfg.segmenter, network)
        pictures = {"save_masks": cfg.save_masks, "save_overlays": cfg.save_overlays}
        summaries = evaluate(segmenter, videos, settings, folder, trainer, **pictures)
    console.print(summary_table(summaries))
    console.print(f"Report, summary, rounds and curve: {folder}", soft_wrap=True)


if __name__ == "__main__":
    main()
