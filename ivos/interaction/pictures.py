"""Overlays: a frame with its masks in DAVIS colours and the strokes drawn on it; videos of them."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivos.interaction import Stroke
from ivos.interaction.palette import PALETTE


def overlay(
    frame: NDArray[np.uint8], labels: NDArray[np.uint8], strokes: Sequence[Stroke] = ()
) -> NDArray[np.uint8]:
    """Lay masks and strokes over a frame.

    Args:
        frame: RGB [h, w, 3].
        labels: [h, w]; objects are tinted and outlined, 0 and 255 are left as they are.
        strokes: drawn in their object's colour with a white rim (the background's: white, with a black rim).

    Returns:
        RGB uint8 [h, w, 3].
    """
    picture = frame.copy()
    height, width = labels.shape
    shown = (labels > 0) & (labels < 255)
    tinted = 0.5 * frame + 0.5 * PALETTE[labels]
    picture[shown] = tinted[shown].astype(np.uint8)
    for label in np.unique(labels[shown]):
        outlines, _ = cv2.findContours(
            (labels == label).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(picture, outlines, -1, _bright(int(label)), 1)
    thickness = max(1, round(min(height, width) / 160))
    for rim in (True, False):
        for stroke in strokes:
            points = (np.asarray(stroke["path"]) * (width, height)).round().astype(np.int32)
            label = stroke["object_id"]
            inner, outer = (_bright(label), (255, 255, 255)) if label else ((255, 255, 255), (0, 0, 0))
            colour, size = (outer, thickness + 2) if rim else (inner, thickness)
            cv2.polylines(picture, [points], False, colour, size, cv2.LINE_AA)
    return picture


def _bright(label: int) -> tuple[int, int, int]:
    """An object's DAVIS colour at full brightness, so that it stands out from its tinted area."""
    colour = PALETTE[label].astype(float)
    red, green, blue = (colour * 255 / colour.max()).astype(int).tolist()
    return red, green, blue


def write_video(path: Path, pictures: Sequence[Path], rate: float = 10) -> Path:
    """Write a WebM file (VP8, which every browser plays) from picture files of one size.

    Args:
        path: of the video.
        pictures: its frames.
        rate: frames per second.
    """
    with Image.open(pictures[0]) as first:
        odd = [
            side % 2 for side in first.size
        ]  # the codec takes even sizes: the last row, column is repeated
        size = first.width + odd[0], first.height + odd[1]
    with _quiet_stderr():  # where OpenCV writes that it has found the codec under another name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), rate, size)
    if not writer.isOpened():
        raise RuntimeError(f"{path}: OpenCV cannot write WebM here")
    for picture in pictures:
        frame = np.asarray(Image.open(picture).convert("RGB"))[..., ::-1]
        writer.write(np.pad(frame, ((0, odd[1]), (0, odd[0]), (0, 0)), mode="edge"))
    writer.release()
    return path


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Without what C libraries print."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
