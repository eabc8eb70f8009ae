"""The command ``ivos-evaluate``, also called evaluate.py.

Slow imports happen after Hydra has composed the configuration, so that ``--help`` and errors about misspelt
options appear immediately.
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
    """Run the evaluation that the configuration describes."""
    rename_options(cfg)
    with signals.ending_well(HydraConfig.get().runtime.output_dir), reported():
        from ivos.evaluation import run

        quiet_libraries()
        run.run(cfg)


def main() -> None:
    """Run the command line."""
    children.join_the_program()
    signals.take_over()
    agree_on_start_time()
    with composing("checkpoint"):
        evaluate()


if __name__ == "__main__":
    main()
