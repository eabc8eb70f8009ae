"""Optical flow between any two frames of a video and the propagation of masks by it, with OpenCV."""

import functools
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, zip_longest
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.runtime.errors import UserError
from ivos.runtime.machine import cores

Image = NDArray[np.uint8]  # RGB [h, w, 3]
Floats = NDArray[np.float32]
Quality = Literal["fine", "fast"]
Pair = tuple[int, int]  # two frames: the flow's start and its end

_KEPT = 1 << 30  # bytes of flows in the cache: 1300 flows of 432x240
_AHEAD = 3  # flows per thread that are computed ahead of their use
_SMALLEST = 12  # minimum shorter side of frames in pixels
# Smaller sides are padded to these numbers of pixels, because OpenCV raises an error or crashes otherwise.
_PADDED = {"fine": _SMALLEST, "fast": 32}


class OpticalFlow:
    """DIS optical flow (Kroeger et al., 2016) between frames of a video, computed on demand and cached.

    A pool of threads computes flows ahead of their use (:meth:`expect`), each thread with its own DIS object.
    The result does not depend on the thread that computes it.

    Args:
        images: The frames, uint8 RGB [h, w, 3].
        quality: ``fine`` (finest scale of one pixel) or ``fast`` (OpenCV's preset of that name).
        colour_scale: Mean colour difference (Lab) at which a reference frame's weight has fallen to 1/e.
        flow_scale: Forward-backward error of the flow in pixels at which the weight has fallen to 1/e.
        band: Half the width of the band in which :meth:`refine` aligns outlines, in pixels; 0 disables it.
        softness: Regularisation of the guided filter in :meth:`refine`, a variance of colours in [0, 1].
        before: Optical flow of an earlier video; its cached flows are reused if the frames are equal.

    Raises:
        UserError: The frames are too small for optical flow.
    """

    def __init__(
        self,
        images: Sequence[Image],
        quality: Quality = "fine",
        colour_scale: float = 6.0,
        flow_scale: float = 2.0,
        band: int = 4,
        softness: float = 1e-3,
        before: "OpticalFlow | None" = None,
    ) -> None:
        if min(images[0].shape[:2]) < _SMALLEST:
            raise UserError(
                f"optical flow needs {_SMALLEST} pixels or more on each side of a frame, "
                f"these have {images[0].shape[1]}x{images[0].shape[0]}; enlarge the frames, or choose "
                "segmenter=atnet with segmenter.flow=false"
            )
        # Two alternating directions each need the colours of a target and of three reference frames.
        self.colours = functools.lru_cache(maxsize=8)(lambda frame: _lab(images[frame]))
        self.grey = [np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8) for image in images]
        self.colour_scale, self.flow_scale = colour_scale, flow_scale
        self.band, self.softness = band, softness
        self._flows: OrderedDict[tuple[int, int], Floats] = OrderedDict()
        if before is not None and _same(before.grey, self.grey):
            self._flows = before._flows
        self._quality = quality
        self._own = threading.local()  # the DIS object of each thread
        self._pool: ThreadPoolExecutor | None = None
        self._expected: deque[Pair] = deque()
        self._coming: dict[Pair, Future[Floats]] = {}

    def expect(self, pairs: Iterable[Pair]) -> None:
        """Set the pairs of frames whose flows a pool of threads computes ahead, in the given order.

        Only a few flows are computed ahead of the latest one used, so that little work is wasted if a round
        is stopped, and flows are not evicted before their use. Earlier expected pairs are discarded.
        """
        for future in self._coming.values():
            future.cancel()
        self._coming, self._expected = {}, deque(pairs)
        self._compute_ahead()

    def _compute_ahead(self) -> None:
        threads = cores()
        while self._expected and len(self._coming) < _AHEAD * threads:
            pair = self._expected.popleft()
            if pair not in self._flows and pair not in self._coming:
                self._pool = self._pool or ThreadPoolExecutor(threads, "flow")
                self._coming[pair] = self._pool.submit(self._computed, *pair)

    def _computed(self, start: int, end: int) -> Floats:
        if not hasattr(self._own, "dis"):
            self._own.dis = _dis(self._quality)
        height, width = self.grey[0].shape
        below, right = (max(0, _PADDED[self._quality] - side) for side in (height, width))
        pair = [
            cv2.copyMakeBorder(self.grey[frame], 0, below, 0, right, cv2.BORDER_REPLICATE)
            for frame in (start, end)
        ]
        nothing = np.zeros((*pair[0].shape, 2), np.float32)
        return np.asarray(self._own.dis.calc(*pair, nothing), np.float32)[:height, :width]

    def carry(self, target: int, references: Mapping[int, Floats]) -> tuple[Floats, Floats]:
        """Warp layers of reference frames to the target frame and sum them with confidence weights.

        The weight of a reference frame at a pixel decreases with the colour difference between the two ends
        of the flow vector, and with the forward-backward error of the flow.

        Args:
            target: Index of the target frame.
            references: Layers [h, w, N] of each reference frame, by frame index.

        Returns:
            The weighted sum of the warped layers [h, w, N], and the sum of the weights [h, w]; each weight is
            at most about 1.
        """
        total: Floats = np.zeros_like(next(iter(references.values())))
        weights: Floats = np.full(total.shape[:2], 1e-9, np.float32)
        for reference, layers in references.items():
            there, back = self.between(target, reference), self.between(reference, target)
            mismatch = np.linalg.norm(there + warp(back, there), axis=2)
            colour = np.abs(warp(self.colours(reference), there) - self.colours(target)).sum(axis=2)
            doubt = cv2.blur(colour / self.colour_scale + mismatch / self.flow_scale, (7, 7))
            weight = np.exp(-doubt) + 1e-6 / abs(target - reference)
            total += weight[..., None] * as_layers(warp(layers, there))
            weights += weight
        return total, weights

    def between(self, start: int, end: int) -> Floats:
        """Return the flow from one frame to another, displacements (x, y) in pixels [h, w, 2]."""
        flows, pair = self._flows, (start, end)
        if pair not in flows:
            coming = self._coming.pop(pair, None)
            flows[pair] = self._computed(start, end) if coming is None else coming.result()
            while len(flows) > 4 and len(flows) * flows[pair].nbytes > _KEPT:
                flows.popitem(last=False)
            self._compute_ahead()
        flows.move_to_end(pair)
        return flows[pair]

    def refine(self, target: int, layers: Floats) -> Floats:
        """Align the outlines of layers [h, w, N] in [0, 1] with image edges.

        A guided filter (He et al., 2010) changes the values in a band along the outlines.
        """
        if not self.band:
            return layers
        guide = _Guide(np.asarray(self.colours(target) / 100, np.float32), self.band, self.softness)
        refined = np.empty_like(layers)
        for index in range(layers.shape[2]):
            refined[..., index] = guide.filter(layers[..., index])
        return refined.clip(0, 1)


def pairs_of_passes(source: int, passes: Sequence[Sequence[int]]) -> Iterator[Pair]:
    """Return the pairs of frames whose flows alternating passes use, in the order of their use.

    Each target frame uses the flows to and from the source frame and the two previous frames of its pass.

    Args:
        source: Frame from which all passes start.
        passes: Target frames of each pass, in order.
    """
    by_pass = [[list(_pairs(source, targets, index)) for index in range(len(targets))] for targets in passes]
    return chain.from_iterable(chain.from_iterable(zip_longest(*by_pass, fillvalue=())))


def _pairs(source: int, targets: Sequence[int], index: int) -> Iterator[Pair]:
    target = targets[index]
    for reference in (source, *targets[max(0, index - 2) : index]):
        yield target, reference
        yield reference, target


def _dis(quality: Quality) -> Any:
    """Return a DIS object, which must not be used by two threads at the same time."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    if quality == "fine":
        dis.setFinestScale(0)
        dis.setPatchStride(3)
        dis.setGradientDescentIterations(25)
        dis.setVariationalRefinementIterations(5)
    return dis


def _same(one: list[Image], other: list[Image]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _lab(image: Image) -> Floats:
    return np.asarray(cv2.cvtColor(np.asarray(image / 255, np.float32), cv2.COLOR_RGB2LAB), np.float32)


def as_layers(image: NDArray[np.generic]) -> Floats:
    """Restore the last axis of an array [h, w, 1], which OpenCV drops."""
    return np.asarray(image if image.ndim == 3 else image[..., None], np.float32)


def one_hot(labels: Image, num_objects: int) -> NDArray[np.bool_]:
    """Convert labels [h, w] to one-hot layers [h, w, N]."""
    return np.asarray(labels[..., None] == np.arange(1, num_objects + 1))


def warp(image: Floats, flow: Floats) -> Floats:
    """Warp an image [h, w, ...] backward: each pixel takes the value at the end of its flow vector."""
    height, width = flow.shape[:2]
    columns = np.asarray(flow[..., 0] + np.arange(width), np.float32)
    rows = np.asarray(flow[..., 1] + np.arange(height)[:, None], np.float32)
    layers = as_layers(image)
    four = [layers[..., i : i + 4] for i in range(0, layers.shape[2], 4)]  # remap takes four channels
    parts = [
        as_layers(cv2.remap(part, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
        for part in four
    ]
    warped = np.concatenate(parts, axis=2)
    return warped if image.ndim == 3 else np.asarray(warped[..., 0])


class _Guide:
    """Guided filter (He et al., 2010) with a colour image as guide."""

    def __init__(self, guide: Floats, radius: int, softness: float) -> None:
        self.guide, self.side = guide, 2 * radius + 1
        self.mean = self._box(guide)
        pairs = [(i, j) for i in range(3) for j in range(i, 3)]
        products = self._box(np.stack([guide[..., i] * guide[..., j] for i, j in pairs[:3]], -1))
        rest = self._box(np.stack([guide[..., i] * guide[..., j] for i, j in pairs[3:]], -1))
        covariance = np.empty((*guide.shape, 3), np.float32)
        for (i, j), product in zip(
            pairs, np.moveaxis(np.concatenate([products, rest], -1), -1, 0), strict=True
        ):
            covariance[..., i, j] = covariance[..., j, i] = product - self.mean[..., i] * self.mean[..., j]
        self.inverse = _inverse(covariance + softness * np.eye(3, dtype=np.float32))

    def _box(self, image: Floats) -> Floats:
        return np.asarray(cv2.blur(image, (self.side, self.side)), np.float32)

    def filter(self, target: Floats) -> Floats:
        """Return the target [h, w] with its edges aligned with those of the guide."""
        mean = self._box(target)
        covariance = self._box(self.guide * target[..., None]) - self.mean * mean[..., None]
        slope = np.einsum("hwij,hwj->hwi", self.inverse, covariance)
        offset = mean - (slope * self.mean).sum(axis=-1)
        return np.asarray((self._box(slope) * self.guide).sum(axis=-1) + self._box(offset), np.float32)


def _inverse(matrices: Floats) -> Floats:
    """Return the inverses of symmetric matrices [h, w, 3, 3] by their adjugates."""
    first, second, third = np.moveaxis(matrices, 2, 0)
    rows = [np.cross(second, third), np.cross(third, first), np.cross(first, second)]
    determinant = (first * rows[0]).sum(axis=-1)
    return np.asarray(np.stack(rows, axis=2) / determinant[..., None, None], np.float32)
