"""The program ``ivos-train``, also called train.py.

Slow imports happen after Hydra has composed the configuration, so that ``--help`` and errors about misspelt
options appear immediately.
"""

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ivos.runtime import signals
from ivos.runtime import subprocesses as children
from ivos.runtime.command_line import agree_on_start_time, composing, configs, quiet_libraries, reported
from ivos.runtime.renamed_options import rename_options


@hydra.main(version_base="1.3", config_path=configs(), config_name="train")
def train(cfg: DictConfig) -> float | None:
    """Train one run, or one run of a sweep (-m); a sweep continues after a failed run.

    Returns:
        The metric that a sweep optimises, or None if the run does not have it.
    """
    rename_options(cfg)
    job = HydraConfig.get()
    if job.mode == RunMode.MULTIRUN:
        with signals.ending_well(job.sweep.dir, "hydra.sweep.dir"):
            from ivos.runtime import sweeps
            from ivos.training import pipeline

            quiet_libraries()
            return sweeps.one_run(pipeline.run, cfg)
    with signals.ending_well(job.runtime.output_dir), reported():
        from ivos.training import pipeline

        quiet_libraries()
        return pipeline.run(cfg)


def main() -> None:
    """Run the program with the arguments of the command line."""
    children.join_the_program()
    signals.take_over()
    agree_on_start_time()
    with composing(roles=True):
        train()
