"""The user in the loop of training: what A-Net is shown after somebody has corrected a prediction."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ivos.interaction.raster import join_channels
from ivos.interaction.simulate import SimulatedUser


def correct(
    user: SimulatedUser,
    predicted: Tensor,
    masks: Tensor,
    interaction: Tensor,
    rngs: Sequence[np.random.Generator],
) -> Tensor:
    """A-Net's channels after a user has corrected a prediction.

    Args:
        user: draws the strokes.
        predicted: bool [M, 1, H, W].
        masks: ground truth uint8 [M, 1, H, W].
        interaction: the channels so far [M, 3, H, W], whose strokes are kept.
        rngs: the user's randomness, M of them.
    """
    faulty, truth = predicted[:, 0].cpu().numpy().astype(np.uint8), masks[:, 0].cpu().numpy()
    drawn = np.stack(
        [
            user.channels(user.correct(f, t, rng), f, t.shape)
            for f, t, rng in zip(faulty, truth, rngs, strict=True)
        ]
    )
    strokes = np.maximum(drawn[:, 1:], interaction[:, 1:].cpu().numpy())
    channels = join_channels(drawn[:, 0], strokes[:, 0], strokes[:, 1])
    return torch.from_numpy(channels).to(interaction)
