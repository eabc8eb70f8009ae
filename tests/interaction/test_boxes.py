"""Boxes as prompts: what they are, and what they become for segmenters of strokes or clicks."""

import numpy as np
import pytest

from ivos.interaction.boxes import BoxError, check_boxes, strokes_from_boxes
from ivos.interaction.clicks import translate

BOX = {"box": [0.2, 0.0, 0.6, 0.5], "object_id": 2}
STROKE = {"path": [[0.1, 0.2]], "object_id": 1}
CLICK = {"point": [0.5, 0.5], "positive": False, "object_id": 1}


def test_a_box_as_strokes_lies_inside_and_on_its_edges():
    inside, *edges = strokes_from_boxes([BOX])
    assert inside["object_id"] == 2
    path = np.array(inside["path"])
    assert np.allclose([path.min(0), path.max(0)], [(0.3, 0.125), (0.5, 0.375)])
    assert [one["object_id"] for one in edges] == [0, 0, 0]  # none along the frame's own border
    assert edges[0]["path"] == [[0.2, 0.0], [0.2, 0.5]]


def test_a_box_for_segmenters_that_take_it_or_not():
    prompts = [STROKE, BOX, CLICK]
    assert translate(prompts, {"strokes", "clicks", "boxes"}) == [BOX, STROKE, CLICK]
    clicks = translate([BOX], {"clicks"})
    assert clicks == [{"point": [0.4, 0.25], "positive": True, "object_id": 2}]
    assert translate([BOX], {"strokes"}) == strokes_from_boxes([BOX])
    assert translate([BOX, CLICK], {"clicks", "boxes"}) == [BOX, CLICK]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"box": [0.2, 0, 0.2, 1]}, "left < right"),
        ({"box": [0.2, 0, 1.2, 1]}, "left < right"),
        ({"box": [0, 1]}, "must be .left, top, right, bottom."),
        ({"object_id": 0}, "must be 1, 2"),
        ({"object_id": 3}, "object 3, but the highest object number is 2"),
    ],
)
def test_malformed_boxes_are_named(change, message):
    check_boxes([BOX], 2)
    with pytest.raises(BoxError, match=f"box 1 .*{message}"):
        check_boxes([BOX, {**BOX, **change}], 2)
