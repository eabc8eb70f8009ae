"""A segmenter without a network, which draws a disc around the last point of an object's last stroke.

It drifts by a pixel a frame, and has all verbs of a live segmenter. `delay` seconds are spent on each frame;
with `hold`, a number and a path, a round waits before that many frames are exceeded while the file is there;
it does not start while there is a file `refuse`.
"""

import time
from pathlib import Path

import numpy as np

from ivos.runtime.errors import UserError


class Fake:
    def __init__(self, delay=0.0, radius=8, fail_at=None, hold=None, refuse=None):
        self.delay, self.radius, self.fail_at, self.hold = delay, radius, fail_at, hold
        self.refuse = refuse

    def start(self, frames, num_objects):
        if self.refuse and Path(self.refuse).exists():
            raise UserError("checkpoint=x.pt: no such file")
        self.shape, self.num_objects = frames.shape[:3], num_objects
        self.masks = np.zeros(self.shape, np.uint8)
        self.before, self.drawn, self.adopted = [], {}, {}

    def _frame(self, frame, source, strokes):
        labels = np.zeros(self.shape[1:], np.uint8)
        y, x = np.mgrid[: self.shape[1], : self.shape[2]]
        for stroke in strokes:
            px, py = stroke["path"][-1]
            inside = (x - px * self.shape[2] - (frame - source)) ** 2 + (y - py * self.shape[1]) ** 2
            labels[inside < self.radius**2] = stroke["object_id"]
        return labels

    def adopt(self, frame, labels):
        self._remember()
        self.adopted[frame] = self.masks[frame] = labels.copy()

    def _remember(self):
        drawn = {key: list(value) for key, value in self.drawn.items()}
        self.before.append((self.masks.copy(), drawn, dict(self.adopted)))

    def _moved(self, frame, source):
        return np.roll(self.adopted[source], frame - source, axis=1)

    def preview(self, frame, strokes):
        return self._frame(frame, frame, [*self.drawn.get(frame, []), *strokes])

    def planned(self, frame):
        return 0, self.shape[0] - 1

    def propagate(self, frame, strokes, reach=None):
        low, high = reach or (0, self.shape[0] - 1)
        self._remember()
        self.drawn.setdefault(frame, []).extend(strokes)
        for count, t in enumerate(sorted(range(low, high + 1), key=lambda t: abs(t - frame))):
            while self.hold and count >= self.hold[0] and Path(self.hold[1]).exists():
                time.sleep(0.01)
            if self.fail_at is not None and abs(t - frame) == self.fail_at:
                self.fail_at = None
                raise MemoryError
            time.sleep(self.delay)
            adopted = not strokes and frame in self.adopted
            self.masks[t] = self._moved(t, frame) if adopted else self._frame(t, frame, self.drawn[frame])
            yield t, self.masks[t]

    def interact(self, frame, strokes):
        for _ in self.propagate(frame, strokes):
            pass
        return self.masks.copy()

    def undo(self):
        if not self.before:
            raise UserError("undo: there is no round")
        self.masks, self.drawn, self.adopted = self.before.pop()
        return self.masks

    def add_object(self):
        self.num_objects += 1
        return self.num_objects

    def confidence(self):
        return np.linspace(1, 0.4, self.shape[0], dtype=np.float32)


class Clicker(Fake):
    """Takes clicks and boxes: a click is a disc, or takes one away from its object; a box is filled."""

    prompts = ("clicks", "boxes")

    def _frame(self, frame, source, prompts):
        labels = np.zeros(self.shape[1:], np.uint8)
        y, x = np.mgrid[: self.shape[1], : self.shape[2]]
        x, y = (x - (frame - source)) / self.shape[2], y / self.shape[1]
        for one in prompts:
            number = one["object_id"]
            if "box" in one:
                left, top, right, bottom = one["box"]
                labels[(left <= x) & (x < right) & (top <= y) & (y < bottom)] = number
                continue
            px, py = one["point"]
            near = (x - px) ** 2 + (y - py) ** 2 < 0.01
            labels[near & ((labels == number) | one["positive"])] = number if one["positive"] else 0
        return labels


class Plain:
    """Only what every segmenter has."""

    def __init__(self, **options):
        self.fake = Fake(**options)

    def start(self, frames, num_objects):
        self.fake.start(frames, num_objects)

    def interact(self, frame, strokes):
        return self.fake.interact(frame, strokes)
