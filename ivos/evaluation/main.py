"""The command ``ivos-evaluate``, which evaluate.py is, too: compose the configuration, evaluate, show.

Nothing heavy is imported before Hydra has composed: help and a misspelt option come at once.
"""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ivos.runtime import signals
from ivos.runtime import subprocesses as children
from ivos.runtime.command_line import agree_on_start_time, composing, configs, quiet_libraries, reported
from ivos.runtime.renamed_options import rename_options


@hydra.main(version_base="1.3", config_path=configs(), config_name="evaluate")
def evaluate(cfg: DictConfig) -> None:
    """An evaluation."""
    rename_options(cfg)
    with signals.ending_well(HydraConfig.get().runtime.output_dir), reported():
        from ivos.evaluation import run

        quiet_libraries()
        run.run(cfg)


def main() -> None:
    """The command line."""
    children.join_the_program()
    signals.take_over()
    agree_on_start_time()
    with composing("checkpoint"):
        evaluate()
