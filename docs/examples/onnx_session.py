"""An interactive session with a network exported by ``ivos-export``, with NumPy and ONNX Runtime only.

    ivos-export small --output small-onnx
    python onnx_session.py small-onnx frames.npy strokes.json masks.npy

``frames.npy`` contains uint8 RGB [T, h, w, 3]. ``strokes.json`` is a list of rounds, each [frame, strokes]. A
stroke is {"path": [[x, y], ...], "object_id": 1}, with x and y relative to the frame's width and height;
object 0 is the background.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

Array = np.ndarray
BRUSH = np.array([[0, 0, 1, 0, 0], [1] * 5, [1] * 5, [1] * 5, [0, 0, 1, 0, 0]], bool)
BLUR = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 6.0**2))
BLUR = np.outer(BLUR, BLUR) / BLUR.sum() ** 2


class Session:
    """An interactive session on one video, with the network of the paper.

    Args:
        folder: Folder that ``ivos-export`` has written.
        frames: Frames, uint8 RGB [T, h, w, 3].
        num_objects: Number of objects N.
        threads: Number of threads of ONNX Runtime; 0 uses all cores.
    """

    def __init__(self, folder: str, frames: Array, num_objects: int, threads: int = 0) -> None:
        self.about = json.loads((Path(folder) / "network.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.graphs = {
            name: onnxruntime.InferenceSession(str(Path(folder) / f"{name}.onnx"), options)
            for name in self.about["parts"]
        }
        self.frames, self.num_objects = frames, num_objects
        height, width = frames.shape[1:3]
        rows, columns = 32 - height % 32, 32 - width % 32
        self.sides = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))
        size = height + rows, width + columns
        self.inside = (..., slice(rows // 2, rows // 2 + height), slice(columns // 2, columns // 2 + width))
        self.probabilities = np.zeros((len(frames), num_objects, *size), np.float32)
        self.masks = np.zeros(frames.shape[:3], np.uint8)
        self.strokes = {}  # all strokes, by frame
        self.annotated = []  # annotated frame of each round
        self.annotations = []  # for each round, r5 and the object features of the annotated frame
        self.features = {}  # image features, by frame

    def run(self, part: str, **inputs: Array) -> Any:
        """Run a graph and return its output, or a dictionary of several outputs."""
        graph = self.graphs[part]
        taken = {one.name for one in graph.get_inputs()}
        found = graph.run(None, {name: value for name, value in inputs.items() if name in taken})
        return (
            found[0]
            if len(found) == 1
            else dict(zip(self.about["parts"][part]["outputs"], found, strict=True))
        )

    def pad(self, maps: Array) -> Array:
        """Pad [..., h, w] to [..., H, W], multiples of 32, by reflection."""
        return np.pad(maps, [(0, 0)] * (maps.ndim - 2) + list(self.sides), mode="reflect")

    def image(self, frame: int) -> Array:
        """Return the networks' input for a frame, [1, 3, H, W]."""
        padded = self.pad(self.frames[frame].transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
        mean, std = (np.array(self.about[key], np.float32)[:, None, None] for key in ("mean", "std"))
        return ((padded - mean) / std)[None]

    def of_image(self, frame: int) -> dict[str, Array]:
        """Return the image features of a frame, computed once."""
        if frame not in self.features:
            self.features[frame] = self.run("features", image=self.image(frame))
        return self.features[frame]

    def interact(self, frame: int, strokes: list[dict]) -> Array:
        """Run a round; return the masks uint8 [T, h, w]."""
        drawn = self.strokes.setdefault(frame, [])
        drawn.extend(strokes)
        probability = self.annotate(frame, self.channels(frame, drawn))
        start, end, weights = plan(frame, self.annotated, len(self.frames))
        self.annotated.append(frame)
        self.store(frame, probability, 1.0)
        self.begin_round()
        for targets in (range(frame - 1, start - 1, -1), range(frame + 1, end + 1)):
            source, previous = frame, probability
            self.begin_direction()
            for target in targets:
                previous = self.propagate(target, source, previous)
                self.store(target, previous, weights[target])
                source = target
        return self.masks

    def channels(self, frame: int, drawn: list[dict]) -> Array:
        """Return A-Net's channels: previous mask, positive and negative strokes, [N, 3, H, W]."""
        size, everywhere = self.masks.shape[1:], self.about["negatives_everywhere"]
        channels = np.zeros((self.num_objects, 3, *size), np.float32)
        for index, number in enumerate(range(1, self.num_objects + 1)):
            first = not self.annotated
            mask = np.full(size, 0.5) if first else self.masks[frame] == number
            negative = rasterise([one for one in drawn if one["object_id"] != number], *size)
            if not everywhere:
                negative = negative * (0 if first else mask)
            positive = rasterise([one for one in drawn if one["object_id"] == number], *size)
            channels[index] = mask, positive, negative
        return self.pad(channels)

    def store(self, frame: int, probability: Array, weight: float) -> None:
        """Blend new probabilities [N, 1, H, W] into those of a frame, and update its mask."""
        old = self.probabilities[frame]
        self.probabilities[frame] = old * np.float32(1 - weight) + probability[:, 0] * np.float32(weight)
        inside = self.probabilities[frame][self.inside]
        best = inside.argmax(0)
        self.masks[frame] = np.where(inside.max(0) > np.float32(self.about["threshold"]), best + 1, 0)

    # The following methods depend on the kind of network.

    def annotate(self, frame: int, channels: Array) -> Array:
        """Return A-Net's probabilities [N, 1, H, W] and store the object features."""
        found = self.run("anet", image=self.image(frame), interaction=channels)
        self.annotations.append((self.of_image(frame)["r5"], found["objects"]))
        return found["probability"]

    def begin_round(self) -> None:
        """Stack the features of the annotated frames for the global transfer."""
        self.keys = np.concatenate([key for key, _ in self.annotations])
        self.objects = np.stack([objects for _, objects in self.annotations])

    def begin_direction(self) -> None:
        """Prepare the propagation in one direction, which needs nothing for the network of the paper."""

    def propagate(self, target: int, source: int, mask: Array) -> Array:
        """Return T-Net's probabilities [N, 1, H, W] in a frame from those in the previous frame."""
        of = self.of_image(target)
        moved = self.run("global_transfer", annotated=self.keys, objects=self.objects, target=of["r5"])
        previous = self.of_image(source)["local"]
        moved_mask = self.run("local_transfer", target=of["local"], previous=previous, mask=mask)
        return self.run("decoder", moved=moved, moved_mask=moved_mask, **of)


def plan(annotated: int, earlier: list[int], num_frames: int) -> tuple[int, int, dict[int, float]]:
    """Return the first and the last frame of a round, and the weight of each frame's new result."""
    before = max((frame for frame in earlier if frame < annotated), default=None)
    after = min((frame for frame in earlier if frame > annotated), default=None)
    start = 0 if before is None else annotated - int((annotated - before - 1) * 0.99 + 0.5)
    end = num_frames - 1 if after is None else annotated + int((after - 1 - annotated) * 0.99 + 0.5)
    weights = {}
    for frame in range(start, end + 1):
        near = before if frame < annotated else after
        share = 1 if frame == annotated or near is None else abs(frame - near) / abs(annotated - near)
        weights[frame] = 0.5 + 0.5 * share
    return start, end, weights


def rasterise(strokes: list[dict], height: int, width: int) -> Array:
    """Draw strokes: lines one pixel up and left, dilated by an ellipse of 5x5 and blurred, [h, w]."""
    canvas = np.zeros((height, width), bool)
    for stroke in strokes:
        points = np.round(np.asarray(stroke["path"], float) * (width, height)).astype(int)
        for start, end in zip(points, points[1:] if len(points) > 1 else points, strict=False):
            length = np.abs(end - start)
            major = max(1, length.max())
            steps = np.arange(length.max() + 1)[:, None]
            line = start + np.sign(end - start) * ((2 * length * steps + major) // (2 * major))
            columns, rows = np.clip(line - 1, 0, (width - 1, height - 1)).T
            canvas[rows, columns] = True
    bordered, thick = np.pad(canvas, 2), np.zeros_like(canvas)
    for y, x in zip(*np.nonzero(BRUSH), strict=True):
        thick |= bordered[y : y + height, x : x + width]
    around = np.pad(thick.astype(float), 2, mode="reflect")
    taps = [BLUR[y, x] * around[y : y + height, x : x + width] for y in range(5) for x in range(5)]
    return np.sum(taps, axis=0).astype(np.float32)


if __name__ == "__main__":
    folder, frames, rounds, masks = sys.argv[1:]
    rounds = json.loads(Path(rounds).read_text())
    numbers = [stroke["object_id"] for _, strokes in rounds for stroke in strokes]
    session = Session(folder, np.load(frames), max(1, *numbers))
    for frame, strokes in rounds:
        session.interact(frame, strokes)
    np.save(masks, session.masks)
