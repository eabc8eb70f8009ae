"""Draw the same examples by hypothesis in every run, and damage files and JSON."""

import json
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ivos.runtime.command_line import user_error


def counts(number, more=10):
    """Give a test its number of examples, and its long form (IVOS_LONG_TESTS=1) ``more`` times as many."""
    marks = (pytest.mark.slow, pytest.mark.long)
    return pytest.mark.parametrize("examples", [number, pytest.param(more * number, marks=marks)])


def explore(check, strategy, examples):
    """Call a check with drawn examples; hypothesis reduces a failing example to a small one."""

    @settings(
        max_examples=examples, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(drawn=strategy)
    def explored(drawn):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(drawn)

    explored()


def refused(error, *said):
    """Check that an error is reported as a mistake of the user, without a traceback, and names the cause."""
    told = user_error(error)
    assert told is not None, repr(error)
    assert "Traceback" not in str(told)
    assert "\n" not in str(told).split("\n  ")[0]
    for text in said:
        assert str(text) in str(told)
    return True


NUMBERS = st.one_of(
    st.integers(-3, 3), st.sampled_from([10**30, -(10**400), 2**32, 0.5, 1.0, 1e-320, 1e300]),
    st.floats(allow_nan=True, allow_infinity=True),
)  # fmt: skip
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=5))
KEYS = st.text(max_size=5)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def places(content, path=()):
    """Yield the path of every value in nested lists and dictionaries."""
    yield path
    if isinstance(content, dict | list):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in items:
            yield from places(value, (*path, key))


def replaced(content, path, value):
    """Return the content with another value at a path; a key whose new value is None is removed."""
    if not path:
        return value
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


@st.composite
def changed(draw, content, values=VALUES):
    """Draw a content in which up to three values are replaced."""
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(list(places(content))))
        content = replaced(content, path, draw(values))
    return content


@st.composite
def damaged(draw, content: bytes):
    """Draw bytes of which up to two parts are cut, zeroed, doubled, flipped or replaced."""
    for _ in range(draw(st.integers(0, 2))):
        first = draw(st.integers(0, max(0, len(content) - 1)))
        last = min(len(content), first + draw(st.sampled_from([1, 2, 4, 16, 64, 1 << 20])))
        part = content[first:last]
        kind = draw(st.sampled_from(["cut", "drop", "zero", "double", "flip", "other"]))
        part = {
            "cut": b"", "drop": b"", "zero": bytes(len(part)), "double": 2 * part,
            "flip": part[:1].translate(bytes(b ^ 1 << draw(st.integers(0, 7)) for b in range(256))) + part[1:]
            if kind == "flip" else b"", "other": draw(st.binary(max_size=8)) if kind == "other" else b"",
        }[kind]  # fmt: skip
        content = content[:first] + part + (b"" if kind == "cut" else content[last:])
    return content


def as_json(content):
    """Return the content as JSON as Python writes it, including NaN and Infinity."""
    return json.dumps(content).encode()
