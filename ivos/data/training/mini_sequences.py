"""Mini-sequences cut out of videos, with the strokes of a simulated user."""

import logging
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ivos.data.batches import MiniSequence
from ivos.data.synthetic.stills import StillMotion
from ivos.data.training.augmentation import composed, resizing
from ivos.interaction.simulate import SimulatedUser
from ivos.runtime.options import NULL, Seed, whole
from ivos.video.clip import Clip
from ivos.video.files import DataError
from ivos.video.labels import VOID
from ivos.video.video import Video

log = logging.getLogger(__name__)
_ATTEMPTS = 8


class MiniSequences(Dataset[MiniSequence]):
    """An endless data set of mini-sequences, each a function of the seed and its number.

    A mini-sequence consists of an annotated frame that shows an object and some of the following frames,
    forward or backward in time. Frames without masks are not used. The same square around a pixel of an
    object is cut out of all frames and resized; beyond the border of a frame the image is black and the mask
    void (255). Objects that are not visible on the annotated frame are ignored. An object that disappears
    later has empty masks from then on. Masks are void on frames where the position of an object is unknown
    (``Video.known``).

    Args:
        videos: Videos of which the mini-sequences are cut out; only the needed frames are read.
        num_frames: Number of frames T of a mini-sequence (1 for A-Net, which trains on single frames).
        window: Number of frames after the annotated one from which the others are drawn, at least T - 1; it
            is smaller near the end of a video.
        crop: Side of the square frames of a mini-sequence, in pixels, a multiple of 32.
        zoom: Smallest and largest enlargement.
        short_side: Shorter side in pixels to which the enlargement refers, so that objects have similar sizes
            in data sets of different resolutions; None refers to the frames' own size.
        max_objects: Largest number of objects in a mini-sequence; they are drawn at random.
        min_area: Smallest area in pixels of an object that can be annotated.
        user: Simulated user who draws the strokes.
        augment: Transforms of albumentations that do not change the size; each is applied with the same
            parameters to all frames and masks of a mini-sequence.
        stills: Motion that makes clips of videos with a single frame if T is larger than 1; None ignores
            such videos.
        seed: Seed of the data set.

    Raises:
        DataError: No video is usable, or an argument is invalid.
    """

    def __init__(
        self,
        videos: Sequence[Video | Clip],
        num_frames: int = 5,
        window: int = 7,
        crop: int = 384,
        zoom: tuple[float, float] = (1.0, 1.0),
        short_side: Annotated[int | None, NULL | whole(1)] = None,
        max_objects: Annotated[int, whole(1)] = 1,
        min_area: Annotated[int, whole(0)] = 32,
        user: SimulatedUser | None = None,
        augment: Sequence[Any] = (),
        stills: StillMotion | None = None,
        seed: Seed = 0,
    ) -> None:
        if crop % 32 or crop <= 0:
            raise DataError(f"crop: must be a multiple of 32, got {crop}")
        if not 1 <= num_frames <= window + 1:
            raise DataError(f"num_frames={num_frames}: with window={window}, 1 to {window + 1} are possible")
        if not 0 < zoom[0] <= zoom[1]:
            raise DataError(f"zoom: must be two numbers above 0 in ascending order, got {list(zoom)}")
        self.num_frames, self.window, self.crop, self.zoom = num_frames, window, crop, zoom
        self.short_side, self.max_objects, self.min_area = short_side, max_objects, min_area
        self.stills, self.seed = stills, seed
        self.user = user or SimulatedUser()
        self.resize = resizing(crop)
        self.reduce = resizing(crop, reduce=True)
        self.augment = composed(augment)
        found = [(video, self._starts(video)) for video in videos]
        self.videos = [video for video, starts in found if len(starts)]
        self.starts = [starts for _, starts in found if len(starts)]
        self._report([video for video, starts in found if not len(starts)])

    def _report(self, left_out: list[Video | Clip]) -> None:
        """Warn about the videos that cannot be used; raise an error if no video can be used."""
        total = len(self.videos) + len(left_out)
        if not self.videos and self.num_frames > 1 and {len(video.areas) for video in left_out} == {1}:
            raise DataError(
                f"no clip to train on: all {total} are single images, but {self.num_frames} frames are "
                "needed; train A-Net on them, or make them move for T-Net (data.samples.stills)"
            )
        if not self.videos:
            raise DataError(
                f"no clip to train on: none of {total} has {self.num_frames} consecutive frames whose first "
                f"shows an object of at least {self.min_area} pixels (num_frames, min_area)"
            )
        if left_out:
            log.warning(
                "%d of %d clips are not used, because they have fewer than %d frames or no objects: %s",
                len(left_out), total, self.num_frames, ", ".join(video.name for video in left_out[:5]),
            )  # fmt: skip

    def _starts(self, video: Video | Clip) -> NDArray[np.int64]:
        """Return the possible starts of a mini-sequence: rows of frame and direction (1 or -1)."""
        last = len(video.areas) - 1
        shown = np.flatnonzero((video.areas >= self.min_area).any(1)).tolist()
        if last == 0 and self.stills:
            return np.array([(t, 1) for t in shown], np.int64).reshape(-1, 2)
        rows = [
            (t, direction)
            for t in shown
            for direction, room in ((1, last - t), (-1, t))
            if room >= self.num_frames - 1 and (self.num_frames > 1 or direction == 1)
        ]
        return np.array(rows, np.int64).reshape(-1, 2)

    def __getitem__(self, number: int) -> MiniSequence:
        """Return the mini-sequence with this number."""
        rng = np.random.default_rng([self.seed, number])
        index = int(rng.integers(len(self.videos)))
        video = self.videos[index]
        start, direction = self.starts[index][rng.integers(len(self.starts[index]))].tolist()
        chosen = self._frames(start, direction, len(video.areas), rng)
        visible = 1 + np.flatnonzero(video.areas[start] >= self.min_area)
        whole = video.read(chosen)
        visible = visible[np.isin(visible, whole[1][0])]  # without fully hidden objects
        for _ in range(_ATTEMPTS):  # the augmentation may move the objects out of the frame
            objects = rng.permutation(visible)[: self.max_objects]
            frames, labels = self._view(*whole, int(objects[0]), rng)
            left = [label for label in objects if (labels[0] == label).any()]
            if left:
                break
        objects = np.array(left or objects[:1])
        masks = np.stack([np.where(labels == VOID, VOID, labels == label) for label in objects])
        masks = masks.astype(np.uint8)
        known = video.known[chosen][:, objects - 1].T  # broadcast over the frames of a moving still
        masks[~np.broadcast_to(known, masks.shape[:2])] = VOID
        return {
            "name": f"{video.name}, frames {chosen}, objects {objects.tolist()}",
            "frames": frames,
            "masks": masks,
            "interaction": self.user.annotate(masks[:, 0], rng),
        }

    def _frames(self, start: int, direction: int, length: int, rng: np.random.Generator) -> list[int]:
        if length == 1:
            return [start]
        room = length - 1 - start if direction > 0 else start
        steps = rng.permutation(min(self.window, room))[: self.num_frames - 1] + 1
        return [start, *(start + direction * step for step in sorted(steps.tolist()))]

    def _view(
        self, frames: NDArray[np.uint8], labels: NDArray[np.uint8], label: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return augmented frames [T, S, S, 3] and labels [T, S, S] around an object of the first frame."""
        size = labels.shape[1:]
        zoom = float(np.exp(rng.uniform(*np.log(self.zoom))))
        if self.short_side:
            zoom *= self.short_side / min(size)
        side = max(1, round(self.crop / zoom))
        pixels = np.argwhere(labels[0] == label)
        corner = [
            _corner(int(pixel), side, length, rng)
            for pixel, length in zip(pixels[rng.integers(len(pixels))], size, strict=True)
        ]
        frames, labels = _cut(frames, corner, side, 0), _cut(labels, corner, side, VOID)
        resize = self.reduce if side >= 2 * self.crop else self.resize
        resized = resize(images=frames, masks=labels)
        frames, labels = resized["images"], resized["masks"]
        if len(frames) < self.num_frames and self.stills:
            frames, labels = self.stills(frames[0], labels[0], self.num_frames, rng)
        self.augment.set_random_seed(int(rng.integers(2**31)))
        result = self.augment(images=frames, masks=labels)
        return np.ascontiguousarray(result["images"]), np.ascontiguousarray(result["masks"])


class MixedMiniSequences(Dataset[MiniSequence]):
    """Mini-sequences from several data sets, chosen at random according to weights.

    Each mini-sequence is a function of the seed and its number.

    Args:
        parts: Mini-sequences of each data set, by the set's name.
        weights: Weight of each data set; the sum need not be 1.
        seed: Seed of the choice of data sets.
    """

    def __init__(self, parts: Mapping[str, MiniSequences], weights: Mapping[str, float], seed: int) -> None:
        self.parts, self.seed = dict(parts), seed
        self.shares = np.array([weights[name] for name in parts]) / sum(weights[name] for name in parts)

    def __getitem__(self, number: int) -> MiniSequence:
        """Return the mini-sequence with this number."""
        # The third number makes this draw independent of those in MiniSequences.
        rng = np.random.default_rng([self.seed, number, 1])
        name = list(self.parts)[int(rng.choice(len(self.shares), p=self.shares))]
        drawn = self.parts[name][number]
        drawn["name"] = f"{name}: {drawn['name']}"
        return drawn


def _corner(pixel: int, side: int, size: int, rng: np.random.Generator) -> int:
    """Draw the start of a crop that contains a pixel, along one axis.

    A crop that is smaller than the frame lies inside the frame; a larger one contains the whole frame.
    """
    if side >= size:
        return int(rng.integers(size - side, 1))
    return int(rng.integers(max(0, pixel - side + 1), min(pixel, size - side) + 1))


def _cut(stack: NDArray[np.uint8], corner: Sequence[int], side: int, fill: int) -> NDArray[np.uint8]:
    """Crop [T, h, w, ...] to [T, side, side, ...] from a corner (row, column), possibly outside the frame."""
    result = np.full((len(stack), side, side, *stack.shape[3:]), fill, np.uint8)
    top, left = max(-corner[0], 0), max(-corner[1], 0)
    part = stack[:, max(corner[0], 0) : corner[0] + side, max(corner[1], 0) : corner[1] + side]
    result[:, top : top + part.shape[1], left : left + part.shape[2]] = part
    return result
