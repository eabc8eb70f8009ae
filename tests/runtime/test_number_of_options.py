"""The number of options of a program's job stays small."""

from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ivos.runtime.command_line import configs

MOST = {"train": 180, "evaluate": 80, "annotate": 40}
"""Leaves of ``--cfg job``, everything counted that it prints: ``_target_`` and ``_partial_``, too."""


def leaves(value: Any, name: str = "") -> Iterator[str]:
    """Yield the name of each value that is no mapping and no list of mappings."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{name}.{key}")
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{name}.{number}")
    else:
        yield name


@pytest.mark.parametrize("program", MOST)
def test_number_of_options(program):
    with initialize_config_dir(configs(), version_base="1.3"):
        found = list(leaves(OmegaConf.to_container(compose(program))))
    assert len(found) <= MOST[program], f"{len(found)} options: {found}"
