"""Tests of the rules for options."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml

from ivos.app.main import AnnotationOptions
from ivos.evaluation.run import EvaluationOptions
from ivos.runtime.command_line import configs
from ivos.runtime.errors import UserError
from ivos.runtime.options import NULL, SWITCH, TEXT, Options, Seed, above, number, one_of, whole
from ivos.runtime.signatures import check_options, rule_of, rules_of
from ivos.training.checks import TrainingOptions

SEED = rule_of(Seed)

RIGHT = [
    (whole(0), 0), (whole(1, 3), 3), (SEED, 2**32 - 1), (number(0, 1), 1), (number(), -1.5), (above(0), 1e-9),
    (SWITCH, False), (TEXT, "a"), (NULL, None), (NULL | whole(1), None), (NULL | whole(1), 1),
    (one_of("J", "F"), "F"),
]  # fmt: skip
WRONG = [
    (whole(0), True), (whole(0), -1), (whole(1, 3), 4), (whole(0), 1.0), (whole(0), "1"), (SEED, 2**32),
    (number(0, 1), math.nan), (number(0, 1), math.inf), (above(0), 0), (above(0), math.inf),
    (above(0), False),
    (SWITCH, "off"), (SWITCH, 1), (TEXT, ""), (TEXT, " "), (TEXT, 3), (NULL | whole(1), 0),
    (one_of(0, 1), False),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "value"), RIGHT)
def test_right_values(rule, value):
    check_options({"b": value}, holding(rule), "a")


def holding(rule):
    def made(b: Annotated[Any, rule]): ...

    return made


@pytest.mark.parametrize(("rule", "value"), WRONG)
def test_wrong_values(rule, value):
    with pytest.raises(UserError, match=r"^a\.b: must be .*, got "):
        check_options({"b": value}, holding(rule), "a")


@dataclass
class Stage(Options):
    batch_size: Annotated[int, whole(1)]


@dataclass
class Program(Options):
    stages: dict[str, Stage]
    nowhere: bool


def test_an_annotation_is_about_all_parts_of_a_mapping_and_all_that_are_wrong_are_told():
    options = {
        "stages": {"anet": {"batch_size": 0}, "tnet": {"batch_size": None}, "joint": {"batch_size": 2}}
    }
    with pytest.raises(UserError) as told:
        check_options(options, Program)
    assert str(told.value).split("\n  ") == [
        "stages.anet.batch_size: must be a whole number from 1, got 0",
        "stages.tnet.batch_size: must be a whole number from 1, got null",
    ]


@pytest.mark.parametrize(
    ("program", "options"),
    [("train", TrainingOptions), ("evaluate", EvaluationOptions), ("annotate", AnnotationOptions)],
)
def test_the_dataclass_of_a_program_lists_the_options_of_its_file(program, options):
    listed = yaml.safe_load((Path(configs()) / f"{program}.yaml").read_text())
    groups = {name for each in listed["defaults"] if isinstance(each, dict) for name in each}
    groups = {name.rpartition("@")[2].partition(".")[0].removeprefix("optional ") for name in groups}
    groups -= {"experiment", "debug", "sweep", "strategy"}  # which belong to no part of the options
    groups = {name for name in groups if not name.startswith("override ")}
    assert set(rules_of(options)[0]) == groups | set(listed) - {"defaults", "hydra"}
