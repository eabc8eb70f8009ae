"""Masks between two masks."""

import numpy as np

from ivos.app.interpolation import Interpolation

Y, X = np.mgrid[:120, :160]


def disc(x, y, radius, label=1):
    return (((X - x) ** 2 + (Y - y) ** 2 <= radius**2) * label).astype(np.uint8)


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def test_an_object_moves_and_grows_evenly():
    between = Interpolation(disc(30, 40, 10), disc(110, 80, 30))
    assert (between.at(0) == disc(30, 40, 10)).all()
    assert (between.at(1) == disc(110, 80, 30)).all()
    for share in (0.25, 0.5, 0.75):
        expected = disc(30 + 80 * share, 40 + 40 * share, 10 + 20 * share)
        assert iou(between.at(share) > 0, expected > 0) > 0.95, share


def test_an_object_that_one_mask_lacks_shrinks_to_nothing():
    between = Interpolation(disc(60, 60, 20), np.zeros_like(disc(0, 0, 1)))
    areas = [int(between.at(share).sum()) for share in (0, 0.25, 0.5, 0.75, 1)]
    assert areas[0] == disc(60, 60, 20).sum()
    assert areas == sorted(areas, reverse=True)
    assert areas[-1] == 0
    assert abs(areas[2] / areas[0] - 0.25) < 0.05


def test_objects_keep_to_themselves_and_to_the_frame():
    first = disc(20, 60, 18) + disc(140, 60, 18, 2)
    last = disc(140, 20, 18) + disc(20, 110, 18, 2)  # partly outside
    middle = Interpolation(first, last).at(0.5)
    assert set(np.unique(middle)) == {0, 1, 2}
    assert iou(middle == 1, disc(80, 40, 18) > 0) > 0.9
    assert not Interpolation(np.zeros((5, 5), np.uint8), np.zeros((5, 5), np.uint8)).at(0.5).any()
