"""Figures and backdrops from the user's own images."""

import math
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.data.synthetic.config import SyntheticSpec
from ivos.data.synthetic.figures import Figure, Part, random_bends, shadow
from ivos.data.synthetic.motion import Wander
from ivos.data.synthetic.textures import Float
from ivos.video.files import MAX_GREY_LABEL, DataError, read_frame, read_mask
from ivos.video.labels import VOID

_PICTURES = (".jpg", ".jpeg", ".png")


def cut_out(spec: SyntheticSpec, rng: np.random.Generator, label: int, target: float, folder: str) -> Figure:
    """Return a figure made of a random masked object from a folder of sprites."""
    pairs = sprite_files(folder)
    picture, mask = pairs[rng.integers(len(pairs))]
    labels = sprite_labels(picture, mask)
    inside = labels == rng.choice(np.setdiff1d(labels, (0, VOID)))
    x, y, w, h = cv2.boundingRect(inside.astype(np.uint8))
    colour: Float = read_frame(picture)[y : y + h, x : x + w].astype(np.float32) / 255
    cover = inside[y : y + h, x : x + w].astype(np.float32)
    half = 1.08
    frame = math.ceil(max(w, h) * half) + 2
    top, left = (frame - h) // 2, (frame - w) // 2
    border = (top, frame - h - top, left, frame - w - left)
    cover = cv2.copyMakeBorder(cover, *border, cv2.BORDER_CONSTANT, value=0)
    colour = cv2.copyMakeBorder(colour, *border, cv2.BORDER_REPLICATE)
    area = float(cover.mean()) * (2 * half) ** 2
    size = min(target / math.sqrt(area), 0.5)  # otherwise a thin object could exceed the frame
    side = max(8, math.ceil(2 * half * size * min(spec.width, spec.height)))
    image = np.dstack([inpainted_rim(colour, cover), cover])
    smoothing = cv2.INTER_AREA if side < frame else cv2.INTER_LINEAR
    image = cv2.resize(image, (side, side), interpolation=smoothing)
    image = np.ascontiguousarray(image[:, ::-1]) if rng.random() < 0.5 else image
    parts = [shadow(image[..., 3], half, spec.shadows)] if spec.shadows else []
    bends = random_bends(rng, spec.deformation)
    return Figure([*parts, Part(image, half)], label, size, area, Wander(rng, 4), bends, rng.normal(0, 0.2))


def inpainted_rim(colour: Float, cover: Float) -> Float:
    """Replace the colours around an object by the object's own colours.

    Otherwise the old background would be visible at the object's boundary in front of a new one.

    Args:
        colour: The picture [h, w, 3].
        cover: Mask of the object [h, w], 1 on the object, 0 elsewhere.
    """
    near = cv2.GaussianBlur(np.dstack([colour * cover[..., None], cover]), (0, 0), max(cover.shape) / 40)
    spread = near[..., :3] / np.maximum(near[..., 3:], 1e-3)
    return np.asarray(np.where(cover[..., None] > 0, colour, spread), np.float32)


@lru_cache(maxsize=4)
def sprite_files(folder: str) -> list[tuple[Path, Path]]:
    """Return pairs of image and mask files of a sprite folder.

    Raises:
        DataError: A subfolder does not exist or is empty, or an image or a mask has no counterpart.
    """
    images, masks = ({p.stem: p for p in picture_files(Path(folder, name))} for name in ("images", "masks"))
    if images.keys() != masks.keys():
        alone = [f"{images[stem]}: no mask" for stem in sorted(images.keys() - masks.keys())]
        alone += [f"{masks[stem]}: no picture" for stem in sorted(masks.keys() - images.keys())]
        raise DataError(f"sprites in {folder}: pictures or masks without counterpart", alone)
    return [(images[stem], masks[stem]) for stem in sorted(images)]


def sprite_labels(picture: Path, mask: Path) -> NDArray[np.uint8]:
    """Return the labels of a sprite's mask, uint8 [h, w]: 0 is background, 255 void, else an object number.

    Raises:
        DataError: The mask is unreadable, shows no object, or does not have the size of the picture.
    """
    # Lossy (JPEG) masks of some saliency data sets only distinguish light from dark.
    labels = read_mask(mask) if mask.suffix.lower() == ".png" else read_frame(mask).max(-1) // 128 * VOID
    if labels[labels != VOID].max(initial=0) > MAX_GREY_LABEL or not np.setdiff1d(labels, (0, VOID)).size:
        labels = (labels > 127).astype(np.uint8)
    if not np.setdiff1d(labels, (0, VOID)).size:
        raise DataError(f"{mask}: no object")
    if labels.shape != read_frame(picture).shape[:2]:
        raise DataError(f"{mask}: its size differs from that of {picture.name}")
    return labels


@lru_cache(maxsize=4)
def picture_files(folder: Path) -> list[Path]:
    """Return the image files in a folder without its subfolders, sorted by name.

    Raises:
        DataError: The folder does not exist or contains no image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES and p.name[0] != ".")
    if not found:
        raise DataError(f"{folder}: no pictures ({', '.join(_PICTURES)})")
    return found
