"""Tests of the rules for options."""

import math

import pytest

from ivos.runtime.errors import UserError
from ivos.runtime.options import NULL, SEED, SWITCH, TEXT, above, check_options, number, one_of, pairs, whole

RIGHT = [
    (whole(0), 0), (whole(1, 3), 3), (SEED, 2**32 - 1), (number(0, 1), 1), (number(), -1.5), (above(0), 1e-9),
    (SWITCH, False), (TEXT, "a"), (NULL, None), (NULL | whole(1), None), (NULL | whole(1), 1),
    (one_of("J", "F"), "F"), (pairs(above(0)), [0.5, 1]),
]  # fmt: skip
WRONG = [
    (whole(0), True), (whole(0), -1), (whole(1, 3), 4), (whole(0), 1.0), (whole(0), "1"), (SEED, 2**32),
    (number(0, 1), math.nan), (number(0, 1), math.inf), (above(0), 0), (above(0), math.inf),
    (above(0), False),
    (SWITCH, "off"), (SWITCH, 1), (TEXT, ""), (TEXT, " "), (TEXT, 3), (NULL | whole(1), 0),
    (one_of(0, 1), False),
    (pairs(above(0)), [1, 0.5]), (pairs(above(0)), [1]), (pairs(above(0)), 1),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "value"), RIGHT)
def test_right_values(rule, value):
    check_options({"a": {"b": value}}, {"a.b": rule})


@pytest.mark.parametrize(("rule", "value"), WRONG)
def test_wrong_values(rule, value):
    with pytest.raises(UserError, match=r"^a\.b: must be .*, got "):
        check_options({"a": {"b": value}}, {"a.b": rule})


def test_a_pattern_names_many_options_and_all_that_are_wrong_are_told():
    options = {
        "stages": {"anet": {"batch_size": 0}, "tnet": {"batch_size": None}, "joint": {"batch_size": 2}}
    }
    with pytest.raises(UserError) as told:
        check_options(options, {"stages.*.batch_size": whole(1), "nowhere": SWITCH})
    assert str(told.value).split("\n  ") == [
        "stages.anet.batch_size: must be a whole number from 1, got 0",
        "stages.tnet.batch_size: must be a whole number from 1, got null",
    ]
