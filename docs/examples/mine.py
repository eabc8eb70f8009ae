"""A complete segmenter of your own: two methods and, optionally, the kind of prompts that it accepts.

Any class with these two methods can be evaluated. ``segmenter=mine`` is the class Mine of a file mine.py::

    PYTHONPATH=docs/examples uv run evaluate.py segmenter=mine +segmenter.reach=3
"""

import numpy as np


class Mine:
    """Segmenter that assigns a pixel to the object whose clicked colours are most similar to its own.

    Args:
        reach: Factor of the colour distances to objects; a larger factor gives smaller masks.
    """

    prompts = ("clicks",)  # kinds of prompts: "clicks", "strokes" or both; the default is strokes

    def __init__(self, reach: float = 1.0) -> None:
        self.reach = reach

    def start(self, frames: np.ndarray, num_objects: int) -> None:
        """Start a video with uint8 RGB frames [T, h, w, 3] and the objects 1..num_objects."""
        self.frames = frames
        corners = frames[:, [0, 0, -1, -1], [0, -1, 0, -1]].reshape(-1, 3).astype(np.float32)
        self.colours = {0: [corners.mean(axis=0)], **{n + 1: [] for n in range(num_objects)}}

    def interact(self, frame: int, prompts: list) -> np.ndarray:
        """Receive the new clicks of a round, all on one frame, and return labels uint8 [T, h, w]."""
        height, width = self.frames.shape[1:3]
        for click in prompts:
            x = min(round(click["point"][0] * width), width - 1)
            y = min(round(click["point"][1] * height), height - 1)
            number = click["object_id"] if click["positive"] else 0
            self.colours[number].append(self.frames[frame, y, x].astype(np.float32))
        far = np.full((len(self.colours), *self.frames.shape[:3]), np.inf, np.float32)
        for number, colours in self.colours.items():
            for colour in colours:
                distance = np.abs(self.frames - colour).sum(axis=-1)
                far[number] = np.minimum(far[number], distance)
        far[1:] *= self.reach
        return far.argmin(axis=0).astype(np.uint8)
