"""Mini-sequences of copy-paste clips, which are rendered during training.

A clip shows a backdrop and moving objects in front of it through a moving camera. The backdrop is a picture
with pasted pieces of other pictures. An object is a patch with a random outline and random materials, a
region of a picture along its edges, a jointed figure, or, if there are masks or cut-outs, a real object.
Materials are pieces of pictures with random scale and tint. Every object moves smoothly, is deformed by a
smooth flow that varies over time, and may occlude another. Some objects look like an annotated object but are
background.

Clips are not stored on disk: a clip is a function of the seed and its number and takes milliseconds to
render.
"""

import itertools
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from torch.utils.data import Dataset

from ivos.data.batches import MiniSequence
from ivos.data.copy_paste.clip import render
from ivos.data.copy_paste.config import CopyPasteConfig
from ivos.data.copy_paste.pictures import Pictures
from ivos.data.training import TrainingData
from ivos.interaction.simulate import SimulatedUser
from ivos.runtime.options import Seed, whole
from ivos.video.files import DataError

__all__ = ["CopyPasteConfig", "CopyPasteData", "CopyPasteSamples", "Pictures", "render"]


class CopyPasteSamples(Dataset[MiniSequence]):
    """An endless data set of mini-sequences of copy-paste clips, each a function of the seed and its number.

    The first frame of each sample is annotated. Objects that are large enough on the first frame can be
    annotated; the others are background.

    Args:
        pictures: Pictures of which the clips are composed.
        spec: Settings of the clips.
        num_frames: Number of frames T of a sample.
        window: Number of frames after the annotated one from which the other T - 1 are drawn; None uses
            consecutive frames.
        size: Height and width of the frames, multiples of 32.
        max_objects: Largest number of objects of a sample.
        min_area: Smallest area in pixels of an object that can be annotated.
        user: Simulated user who draws the strokes.
        seed: Seed of the data set.

    Raises:
        DataError: The size or the number of frames is invalid.
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
            raise DataError(f"size: height and width must be multiples of 32, got {list(size)}")
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
        """Return the mini-sequence with this number."""
        for attempt in itertools.count():  # until a clip shows an object on its first frame
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
        return {
            "name": f"pasted {self.seed}-{number}, objects {objects.tolist()}",
            "frames": frames,
            "masks": masks,
            "interaction": self.user.annotate(masks[:, 0], rng),
        }


class CopyPasteData(TrainingData):
    """Data module that trains on copy-paste clips and validates on videos.

    Args:
        train: Pictures for the training clips.
        samples: Function that creates the data set from pictures, such as :class:`CopyPasteSamples` with all
            other arguments set.
        options: See :class:`ivos.data.training.TrainingData`.
    """

    def __init__(
        self, train: Pictures, samples: Callable[[Pictures], CopyPasteSamples], **options: Any
    ) -> None:
        super().__init__(train=train, samples=samples, **options)  # type: ignore[arg-type]

    def _mini_sequences(self, videos: Any, name: str = "") -> Any:
        return self.samples(videos)
