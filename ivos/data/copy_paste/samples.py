"""Mini-sequences of copy-paste clips, which are rendered while training asks for them.

A clip shows a backdrop (a picture, with pieces of other pictures in it) through a moving camera, and objects
that move before it. An object is made of several materials, each a piece of a picture at any scale and of any
tint: a patch with an outline and materials of its own, a region of a picture along its edges, or a jointed
figure; where the pictures have masks, an object can also be cut out of a picture. Every object moves
smoothly, is deformed by a smooth flow that changes with time, and may hide another; some look like the
annotated object and are background.

Nothing is stored on disk: a clip is a function of its numbers, and takes milliseconds.
"""

import itertools
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ivos.data.batches import MiniSequence
from ivos.data.copy_paste.clip import render
from ivos.data.copy_paste.config import CopyPasteConfig
from ivos.data.copy_paste.pictures import Pictures
from ivos.data.training import TrainingData
from ivos.interaction.simulate import SimulatedUser
from ivos.runtime.options import Seed, whole
from ivos.video.files import DataError

_NEGATIVE_FOR_OTHERS = 0.6
"""Share of the samples whose objects' strokes are negative strokes of the others, where users keep these."""

__all__ = ["CopyPasteConfig", "CopyPasteData", "CopyPasteSamples", "Pictures", "render"]


class CopyPasteSamples(Dataset[MiniSequence]):
    """An endless data set of mini-sequences of copy-paste clips, each a function of (seed, number).

    Each sample is a clip whose first frame is annotated. The objects that are large enough on the first frame
    are candidates for annotation; the others are background.

    Args:
        pictures: The pictures of which clips are made.
        spec: The settings of the clips.
        num_frames: T, the number of frames of a sample.
        window: The frames after the annotated one are drawn from so many, at least T - 1; None: they follow
            without gaps.
        size: Height and width of the frames, multiples of 32.
        max_objects: Largest number of objects of a sample.
        min_area: Smallest area in pixels of an object that can be annotated.
        user: The simulated user that draws the strokes.
        seed: The seed of the data set.

    Raises:
        DataError: The size or the number of frames is not possible.
    """

    def __init__(
        self,
        pictures: Pictures,
        spec: CopyPasteConfig | None = None,
        num_frames: int = 1,
        window: int | None = None,
        size: tuple[int, int] = (128, 128),
        max_objects: Annotated[int, whole(1)] = 1,
        min_area: Annotated[int, whole(0)] = 48,
        user: SimulatedUser | None = None,
        seed: Seed = 0,
    ) -> None:
        if any(side % 32 or side <= 0 for side in size):
            raise DataError(f"size: multiples of 32 are needed, got {list(size)}")
        self.pictures, self.spec, self.num_frames = pictures, spec or CopyPasteConfig(), num_frames
        self.window = num_frames - 1 if window is None else window
        if not 1 <= num_frames <= self.window + 1:
            raise DataError(
                f"num_frames={num_frames}: with window={window}, 1 to {self.window + 1} are possible"
            )
        self.size = (int(size[0]), int(size[1]))
        self.max_objects, self.min_area, self.seed = max_objects, min_area, seed
        self.user = user or SimulatedUser()

    def __getitem__(self, number: int) -> MiniSequence:
        """Return the mini-sequence of a number; see the class."""
        for attempt in itertools.count():  # on the first frame of a clip all objects may be hidden
            rng = np.random.default_rng([self.seed, number, attempt])
            steps = rng.permutation(self.window)[: self.num_frames - 1] + 1
            times = [0, *sorted(steps.tolist())]
            frames, labels = render(self.pictures, self.spec, self.size, times, rng)
            areas = np.bincount(labels[0].ravel(), minlength=2)[1:]
            shown = 1 + np.flatnonzero((areas >= self.min_area) & (areas < 0.8 * labels[0].size))
            if len(shown):
                break
        objects = rng.permutation(shown)[: self.max_objects]
        masks = np.stack([labels == label for label in objects]).astype(np.uint8)
        interaction = np.stack([self.user(mask[0], rng) for mask in masks])
        if self.user.negatives_everywhere and rng.random() < _NEGATIVE_FOR_OTHERS:
            interaction = negative_for_others(interaction)
        return {
            "name": f"pasted {self.seed}-{number}, objects {objects.tolist()}",
            "frames": frames,
            "masks": masks,
            "interaction": interaction,
        }


def negative_for_others(interaction: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return interaction channels in which each object's positive strokes are negative ones of the others.

    This is what a user who annotates several objects on one frame gives a network that sees negative strokes
    in the first round, too.

    Args:
        interaction: previous mask, positive and negative strokes of each object, [N, 3, h, w].

    Returns:
        The same shape; the input is unchanged.
    """
    together = interaction.copy()
    for index in range(len(interaction)):
        others = np.delete(interaction[:, 1], index, axis=0)
        if len(others):
            together[index, 2] = np.maximum(together[index, 2], others.max(axis=0))
    return together


class CopyPasteData(TrainingData):
    """Training on copy-paste clips, validation on videos.

    Args:
        train: The pictures.
        samples: Makes samples of pictures: :class:`CopyPasteSamples` with all arguments except its pictures.
        options: See :class:`ivos.data.training.TrainingData`.
    """

    def __init__(
        self, train: Pictures, samples: Callable[[Pictures], CopyPasteSamples], **options: Any
    ) -> None:
        super().__init__(train=train, samples=samples, **options)  # type: ignore[arg-type]

    def _mini_sequences(self, videos: Any, name: str = "") -> Any:
        return self.samples(videos)
