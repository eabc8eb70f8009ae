"""Small videos in DAVIS layout: discs that move over noise."""

import json
from pathlib import Path

import cv2
import numpy as np

from ivos.video.palette import write_labels

TINY = ["checkpoint=untrained", "model.width=4", "model.depths=[1,1,1,1]", "model.decoder_width=8"]


def draw(root: Path, name: str, size=(50, 40), frames=3, objects=2, scribbles=(0,), split="val") -> None:
    """Discs that wander over noise; one scribble file for each frame index in ``scribbles``."""
    rng = np.random.default_rng(len(name))
    (images := root / "JPEGImages/480p" / name).mkdir(parents=True)
    (masks := root / "Annotations/480p" / name).mkdir(parents=True)
    (lists := root / "ImageSets/2017").mkdir(parents=True, exist_ok=True)
    with (lists / f"{split}.txt").open("a") as file:
        file.write(f"{name}\n")
    width, height = size
    yx = np.indices((height, width))
    for t in range(frames):
        labels = np.zeros((height, width), np.uint8)
        for label in range(1, objects + 1):
            centre = height / 2 + t, width * label / (objects + 1) + 2 * t
            labels[(yx[0] - centre[0]) ** 2 + (yx[1] - centre[1]) ** 2 < (height / 5) ** 2] = label
        frame = np.where(
            labels[..., None] > 0, labels[..., None] * 80, rng.integers(0, 60, (height, width, 3))
        )
        cv2.imwrite(str(images / f"{t:05d}.jpg"), frame.astype(np.uint8))
        write_labels(masks / f"{t:05d}.png", labels)
    for number, annotated in enumerate(scribbles, start=1):
        (folder := root / "Scribbles" / name).mkdir(parents=True, exist_ok=True)
        strokes = [
            {"path": [[x := label / (objects + 1), 0.5], [x + 0.05, 0.55]], "object_id": label}
            for label in range(1, objects + 1)
        ]
        content = [strokes if t == annotated else [] for t in range(frames)]
        path = folder / f"{number:03d}.json"
        path.write_text(json.dumps({"scribbles": content, "sequence": name}))
