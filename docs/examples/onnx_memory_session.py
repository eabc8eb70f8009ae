"""The session of :mod:`onnx_session` with an exported memory network (``model.transfer=memory``).

ivos-export base --output base-onnx
python onnx_memory_session.py base-onnx frames.npy strokes.json masks.npy
"""

import json
import sys
from pathlib import Path

import numpy as np
from onnx_session import Array, Session


class MemorySession(Session):
    """An interactive session on one video, with the memory network; see :class:`onnx_session.Session`."""

    def annotate(self, frame: int, channels: Array) -> Array:
        """Return A-Net's probabilities [N, 1, H, W]."""
        channels = self.with_coarse_masks(frame, channels)
        return self.run_anet(self.of_image(frame), channels)

    def with_coarse_masks(self, frame: int, channels: Array) -> Array:
        """Replace previous masks that are unknown by A-Net's result at half the size, [N, 3, H, W]."""
        previous, positive = channels[:, 0].max((1, 2)), channels[:, 1].max((1, 2))
        unknown = (previous <= 0.5) & (positive > 0.5)
        if not unknown.any():
            return channels
        image, strokes = in_blocks(self.image(frame)).mean((3, 5)), in_blocks(channels).max((3, 5))
        strokes[:, 0] = 0.5
        found = self.run_anet(self.run("features", image=image), strokes[unknown])
        odds = self.about["threshold"] / (1 - self.about["threshold"])
        coarse = found / (found + odds * (1 - found))  # from the threshold of the file to 0.5
        channels = channels.copy()
        channels[unknown, 0] = coarse[:, 0].repeat(2, axis=1).repeat(2, axis=2)
        return channels

    def run_anet(self, of: dict[str, Array], channels: Array) -> Array:
        """Return A-Net's probabilities [N, 1, H, W] for an image with given features."""
        maps = np.stack([self.stroke_maps(of["key"], strokes) for strokes in channels[:, 1:]])
        return self.run("anet", interaction=channels, stroke_maps=maps, **of)

    def stroke_maps(self, key: Array, strokes: Array) -> Array:
        """Compare an image with an object's positive and negative strokes [2, H, W]; return [8, H/8, W/8]."""
        height, width = key.shape[-2:]
        maps = np.zeros((2, 4, height, width), np.float32)
        cells = strokes.reshape(2, height, 8, width, 8).max(axis=(2, 4)) > 0.5
        for sign, pixels in enumerate(map(np.flatnonzero, cells)):
            if len(pixels):
                maps[sign] = self.run("stroke_map", key=key, pixels=pixels)
        return maps.reshape(8, height, width)

    def begin_round(self) -> None:
        """Compute the memory of all annotated frames again, because their probabilities may have changed."""
        self.memory = {
            frame: self.remember(frame, self.probabilities[frame][:, None]) for frame in set(self.annotated)
        }

    def begin_direction(self) -> None:
        """Clear the memory of recent frames."""
        self.recent = []

    def remember(self, frame: int, mask: Array) -> tuple[Array, Array]:
        """Return the memory entry (key and values) of a frame with probabilities [N, 1, H, W]."""
        of = self.of_image(frame)
        return of["key"], self.run("remember", mask=mask, **of)

    def read(self, key: Array, memory: list[tuple[Array, Array]]) -> Array:
        """Read the memory entries of several frames for the target frame's key."""
        keys, values = np.concatenate([key for key, _ in memory]), np.stack([one for _, one in memory])
        return self.run("read", target=key, keys=keys, values=values)

    def propagate(self, target: int, source: int, mask: Array) -> Array:
        """Return T-Net's probabilities [N, 1, H, W] in a frame from those in the previous frame."""
        if source not in self.memory:
            self.recent = [*self.recent, self.remember(source, mask)][-self.about["recent"] :]
        of, previous = self.of_image(target), self.of_image(source)["local"]
        near = sorted(self.memory, key=lambda frame: (abs(frame - target), frame))[: self.about["annotated"]]
        annotated = [self.memory[frame] for frame in near]
        moved = self.run("local_transfer", target=of["local"], previous=previous, mask=mask)
        first = self.read(of["key"], annotated)
        both = self.read(of["key"], annotated + self.recent) if self.recent else first
        return self.run("decoder", read=both, read_annotated=first, moved_mask=moved, **of)


def in_blocks(maps: Array) -> Array:
    """Divide maps [N, C, H, W] into blocks of 2x2 pixels [N, C, H/2, 2, W/2, 2]."""
    count, channels, height, width = maps.shape
    return maps.reshape(count, channels, height // 2, 2, width // 2, 2)


if __name__ == "__main__":
    folder, frames, rounds, masks = sys.argv[1:]
    rounds = json.loads(Path(rounds).read_text())
    numbers = [stroke["object_id"] for _, strokes in rounds for stroke in strokes]
    session = MemorySession(folder, np.load(frames), max(1, *numbers))
    for frame, strokes in rounds:
        session.interact(frame, strokes)
    np.save(masks, session.masks)
