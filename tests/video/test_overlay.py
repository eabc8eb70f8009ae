"""Tests of drawing masks and strokes on pictures."""

import numpy as np
import pytest

from ivos.interaction.drawing import draw_strokes
from ivos.video.overlay import overlay
from ivos.video.palette import PALETTE, bright

FRAME = np.full((40, 60, 3), 100, np.uint8)


def test_masks_are_tinted_and_outlined():
    labels = np.zeros((40, 60), np.uint8)
    labels[10:20, 10:30], labels[25:35, 40:50] = 2, 255
    picture = overlay(FRAME, labels)
    assert picture[15, 20].tolist() == (0.5 * PALETTE[2] + 50).astype(int).tolist()
    assert picture[10, 10].tolist() == list(bright(PALETTE[2])) == [0, 255, 0]
    assert (picture[labels != 2] == 100).all()  # the background, void
    assert (FRAME == 100).all()
    palette = PALETTE.copy()
    palette[2] = 200, 100, 0
    assert overlay(FRAME, labels, palette)[15, 20].tolist() == [150, 100, 50]


def test_strokes_have_a_rim():
    strokes = [
        {"path": [[0.1, 0.25], [0.9, 0.25]], "object_id": 1},
        {"path": [[0.1, 0.75], [0.9, 0.75]], "object_id": 0},
        {"path": [[0.5, 0.5]], "object_id": 1},
    ]
    picture = draw_strokes(FRAME, strokes)
    rows = {10: (255, 0, 0), 8: (255,) * 3, 30: (255,) * 3, 28: (0,) * 3, 0: (100,) * 3}
    for row, colour in rows.items():
        assert picture[row, 20].tolist() == pytest.approx(list(colour), abs=90), row  # lines have soft edges
    assert (FRAME == 100).all()
    palette = PALETTE.copy()
    palette[1] = 0, 0, 50
    assert draw_strokes(FRAME, strokes, palette)[10, 20].tolist() == pytest.approx([0, 0, 255], abs=90)
    assert np.array_equal(draw_strokes(FRAME, []), FRAME)
