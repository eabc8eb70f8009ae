"""The default augmentation of mini-sequences."""

import albumentations as A
import numpy as np
import pytest

from ivos.data.training import default_augmentation

FORMER = [
    A.HorizontalFlip(p=0.5),
    A.Affine(rotate=[-15, 15], shear=[-8, 8], scale=[0.9, 1.1], fill_mask=255, p=0.8),
    A.ColorJitter(brightness=[0.8, 1.2], contrast=[0.8, 1.2], saturation=[0.8, 1.2], hue=[-0.5, 0.5], p=0.5),
]
"""The list that configurations of version 0.1 had."""


def test_the_default_is_what_the_configuration_listed_before():
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    mask = (image[..., 0] > 128).astype(np.uint8)
    found, expected = (A.Compose(steps, seed=1) for steps in (default_augmentation(), FORMER))
    for _ in range(8):
        ours, theirs = (augment(image=image, mask=mask) for augment in (found, expected))
        assert all((ours[name] == theirs[name]).all() for name in ("image", "mask"))


@pytest.mark.parametrize("name", ["flip", "affine", "colour"])
def test_each_step_can_be_left_out(name):
    steps = {"flip": A.HorizontalFlip, "affine": A.Affine, "colour": A.ColorJitter}
    for step in default_augmentation(**{f"{name}_prob": 0}):
        assert (step.p == 0) == isinstance(step, steps[name])
