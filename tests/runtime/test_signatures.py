"""Tests of options against the parameters of their targets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from ivos.runtime.errors import UserError
from ivos.runtime.options import options_go_to
from ivos.runtime.signatures import check_options, rule_of, rules_of
from ivos.training.losses import SegmentationLoss

RIGHT = [
    (bool, True), (int, 3), (float, 3), (float, 0.5), (str, "a"), (str | Path, "a"), (float | None, None),
    (Literal["a", "b"], "b"), (int | Literal["trained"], "trained"), (tuple[float, float], [1, 2.0]),
    (Sequence[int], [1, 2]), (list[str] | None, None), (Sequence[str], "a"), (dict[str, Any], {"a": 1}),
    (Any, object()), (Sequence[Path], [{"_target_": "x"}]), (bool | str | Path, False),
]  # fmt: skip
WRONG = [
    (bool, "off"), (bool, "no"), (bool, 1), (bool, None), (bool | str | Path, "Off"),
    (int, True), (int, 1.5), (int, "1"),
    (float, float("nan")), (float, "abc"), (str, None), (str, 3), (str | Path, 3), (Literal["a", "b"], "c"),
    (int | Literal["trained"], "x"), (tuple[float, float], [1]), (tuple[float, float], 1),
    (Sequence[int], ["a"]), (list[str] | None, 3), (dict[str, Any], [1]), (type("Rule", (), {}), 3),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "value"), RIGHT)
def test_values_that_an_annotation_allows(hint, value):
    assert rule_of(hint).holds(value)


@pytest.mark.parametrize(("hint", "value"), WRONG)
def test_values_that_it_does_not(hint, value):
    assert not rule_of(hint).holds(value)


class Base:
    def __init__(self, size: int = 3) -> None:
        self.size = size


class Part(Base):
    """Its module has to look like one of ivos for its bases to be asked."""

    __module__ = "ivos.part"

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(**options)


Base.__module__ = "ivos.part"


@options_go_to(Part)
def made(root: str | Path | None = None, **options: Any) -> Part:
    return Part(**options)


def part(**options):
    return {"_target_": f"{__name__}.made", "_partial_": True, **options}


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """This file is no module that could be imported by its name."""
    monkeypatch.setattr("ivos.runtime.signatures.get_object", lambda name: globals()[name.split(".")[-1]])


def test_options_that_are_handed_on_are_known():
    check_options({"a": {"b": [part(root="x", name="y", size=2)]}, "c": 3})


def test_all_that_is_wrong_is_told_in_a_line_each():
    with pytest.raises(UserError) as told:
        check_options({"a": part(size="big", root=3), "b": {"c": [part(sice=3)]}})
    assert str(told.value).split("\n  ") == [
        "a.size: must be a whole number, got 'big'",
        "a.root: must be a path, or null, got 3",
        "b.c.0.sice: no such option; there are: root, name, size",
    ]


@pytest.mark.parametrize(
    ("target", "said"), [(3, r"a\._target_: must be the name"), ("no.such", "a: no.such cannot be imported")]
)
def test_a_target_that_is_none_is_named(target, said):
    with pytest.raises(UserError, match=said):
        check_options({"a": {"_target_": target}})


class Extended(SegmentationLoss):
    """A user's own class that extends one of ivos with an option of its own."""

    def __init__(self, margin: float = 0.5, **options):
        super().__init__(**options)
        self.margin = margin


class Replaced(SegmentationLoss):
    def __init__(self, margin: float = 0.5):
        super().__init__(class_balance=0)


def test_classes_that_extend_ours_with_options(monkeypatch):
    rules, more = rules_of(Extended)
    assert (list(rules), more) == (["margin", "class_balance", "dice", "hard"], False)
    assert list(rules_of(Replaced)[0]) == ["margin"]
