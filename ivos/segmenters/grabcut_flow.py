"""Segmenters without learned weights, which use GrabCut and optical flow of OpenCV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.engine.adoption import check_adoption
from ivos.engine.frames import Frames, as_frames
from ivos.engine.optical_flow import Floats, Image, OpticalFlow, Quality, as_layers, one_hot, pairs_of_passes
from ivos.interaction import PromptKind, Stroke, check_strokes, rasterise
from ivos.runtime.options import NULL, number, whole
from ivos.runtime.signatures import check_options
from ivos.segmenters.baselines import copy_nearest

Labels = NDArray[np.uint8]  # [h, w]

_REACH, _CORRECTS, _MARGIN = 1 / 5, 1 / 12, 1.6  # extent of a stroke of a single point; see cut_out


@dataclass
class _State:
    """The state of a video between rounds; h and w are the working size."""

    full_size: tuple[int, int]  # (height, width) of the original frames
    images: list[Image]
    flow: OpticalFlow
    num_objects: int
    probabilities: NDArray[np.float16]  # [T, h, w, N]
    strokes: dict[int, list[Stroke]] = field(default_factory=dict)  # strokes by annotated frame
    adopted: dict[int, Labels] = field(default_factory=dict)  # adopted labels at full size, by frame


class CopySegmenter:
    """A segmenter that copies the mask of the nearest annotated frame to every frame.

    Annotated frames are segmented by :func:`cut_out`. Of two annotated frames at the same distance, the
    earlier one is copied. The class follows :class:`ivos.engine.Segmenter`.
    """

    prompts: ClassVar[tuple[PromptKind, ...]] = ("strokes", "masks")

    def start(self, frames: Frames, num_objects: int) -> None:
        """Begin a video; see :meth:`ivos.engine.Segmenter.start`."""
        frames = as_frames(frames)
        self._frames, self._num_objects = frames, num_objects
        self._masks = np.zeros(frames.shape[:3], np.uint8)
        self._strokes: dict[int, list[Stroke]] = {}
        self._adopted: dict[int, Labels] = {}

    def interact(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """Segment the annotated frame and copy its mask; see :meth:`ivos.engine.Segmenter.interact`."""
        mask = self.preview(frame, strokes)
        self._strokes.setdefault(frame, []).extend(strokes)
        if strokes:
            self._adopted.pop(frame, None)
        self._masks[frame] = mask
        copy_nearest(self._masks, self._strokes)
        return self._masks.copy()

    def preview(self, frame: int, strokes: Sequence[Stroke]) -> Labels:
        """Return the labels of the frame alone; see :meth:`ivos.engine.LiveSegmenter.preview`."""
        check_strokes(strokes, self._num_objects)
        if not strokes and frame in self._adopted:
            return self._adopted[frame].copy()
        previous = self._masks[frame] if self._strokes else None
        drawn = [*self._strokes.get(frame, []), *strokes]
        return cut_out(self._frames[frame], drawn, self._num_objects, previous)

    def adopt(self, frame: int, labels: Labels, objects: Sequence[int] | None = None) -> Labels:
        """Give a frame exactly these labels; see :meth:`ivos.engine.AdoptingSegmenter.adopt`."""
        given = check_adoption(frame, labels, objects, self._masks.shape, self._num_objects)
        mask = given.over(self._masks[frame])
        self._masks[frame] = self._adopted[frame] = mask
        self._strokes[frame] = []
        return mask.copy()


class FlowSegmenter:
    """A segmenter that propagates masks by optical flow, without any network.

    The annotated frame is segmented by :func:`cut_out`. Its objects are propagated frame by frame in both
    directions, up to the next annotated frame on either side. A new frame has three reference frames: the
    previous frame of the pass, the one before that, and the annotated frame. Each pixel gets the weighted
    mean of the probabilities that DIS optical flow carries to it from the reference frames. A weight depends
    on the similarity of the colours at both ends of the flow, and on the agreement of forward and backward
    flow. In a band along the outline, a guided filter (He et al., 2010) aligns the result with the edges of
    the image. Between two annotated frames the two passes are blended linearly by distance. The class follows
    :class:`ivos.engine.Segmenter`.

    Args:
        short_side: Largest shorter side of the working size in pixels, to which larger frames are reduced;
            None for the original size.
        flow: Quality of the flow: ``fine`` (at full resolution) or ``fast`` (the preset of DIS).
        colour_scale: Mean difference of colours (Lab) at which a weight has fallen to 1/e.
        flow_scale: Difference between forward and backward flow, in pixels, at which a weight has fallen to
            1/e.
        band: Half the width of the band that is refined, in pixels; 0 for no refinement.
        softness: Regularisation of the guided filter, as a variance of colours in [0, 1].

    Raises:
        UserError: An option has a value that is not possible.
    """

    prompts: ClassVar[tuple[PromptKind, ...]] = ("strokes", "masks")

    def __init__(
        self,
        short_side: Annotated[int | None, NULL | whole(16)] = 240,
        flow: Quality = "fine",
        colour_scale: Annotated[float, number(1e-6)] = 6.0,
        flow_scale: Annotated[float, number(1e-6)] = 2.0,
        band: Annotated[int, whole(0)] = 4,
        softness: Annotated[float, number(1e-12)] = 1e-3,
    ) -> None:
        options: dict[str, object] = {
            "short_side": short_side, "flow": flow, "colour_scale": colour_scale,
            "flow_scale": flow_scale, "band": band, "softness": softness,
        }  # fmt: skip
        check_options(options, FlowSegmenter, "segmenter")
        self.short_side, self.flow = short_side, flow
        self.colour_scale, self.flow_scale = colour_scale, flow_scale
        self.band, self.softness = band, softness

    def start(self, frames: Frames, num_objects: int) -> None:
        """Begin a video; see :meth:`ivos.engine.Segmenter.start`."""
        frames = as_frames(frames)
        height, width = frames.shape[1:3]
        scale = min(1.0, (self.short_side or height) / min(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        images = [cv2.resize(f, size, interpolation=cv2.INTER_AREA) if scale < 1 else f for f in frames]
        before: _State | None = getattr(self, "_video", None)
        small = [np.asarray(image, np.uint8) for image in images]
        self._video = _State(
            full_size=(height, width),
            images=small,
            flow=OpticalFlow(
                small,
                self.flow,
                self.colour_scale,
                self.flow_scale,
                self.band,
                self.softness,
                None if before is None else before.flow,  # reused if the same video is started again
            ),
            num_objects=num_objects,
            probabilities=np.zeros((len(frames), size[1], size[0], num_objects), np.float16),
        )

    def interact(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """Segment the annotated frame and propagate it; see :meth:`ivos.engine.Segmenter.interact`."""
        video = self._video
        if strokes or frame not in video.adopted:
            mask = self._cut(frame, strokes)
            video.adopted.pop(frame, None)
            video.strokes.setdefault(frame, []).extend(strokes)
            video.probabilities[frame] = one_hot(mask, video.num_objects)
        self._propagate(frame)
        return np.stack([self._mask(t) for t in range(len(video.images))])

    def preview(self, frame: int, strokes: Sequence[Stroke]) -> Labels:
        """Return the labels of the frame alone; see :meth:`ivos.engine.LiveSegmenter.preview`."""
        if not strokes and frame in self._video.adopted:
            return self._video.adopted[frame].copy()
        return self._at_full_size(one_hot(self._cut(frame, strokes), self._video.num_objects))

    def adopt(self, frame: int, labels: Labels, objects: Sequence[int] | None = None) -> Labels:
        """Give a frame exactly these labels; see :meth:`ivos.engine.AdoptingSegmenter.adopt`."""
        video = self._video
        given = check_adoption(
            frame, labels, objects, (len(video.images), *video.full_size), video.num_objects
        )
        mask = video.adopted[frame] = given.over(self._mask(frame))
        size = video.images[frame].shape[1::-1]
        small = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
        video.probabilities[frame] = one_hot(small, video.num_objects)
        video.strokes[frame] = []
        return mask.copy()

    def _mask(self, frame: int) -> Labels:
        """Return the present labels of a frame, at full size."""
        if frame in self._video.adopted:
            return self._video.adopted[frame]
        return self._at_full_size(self._video.probabilities[frame])

    def _cut(self, frame: int, strokes: Sequence[Stroke]) -> Labels:
        """Return the labels of an annotated frame after new strokes, at the working size."""
        video = self._video
        check_strokes(strokes, video.num_objects)
        previous = _most_probable(video.probabilities[frame]) if video.strokes else None
        drawn = [*video.strokes.get(frame, []), *strokes]
        return cut_out(video.images[frame], drawn, video.num_objects, previous)

    def _at_full_size(self, probabilities: NDArray[np.generic]) -> Labels:
        """Return labels at the frames' original size from probabilities [h, w, N]."""
        height, width = self._video.full_size
        return _most_probable(as_layers(cv2.resize(np.asarray(probabilities, np.float32), (width, height))))

    def _propagate(self, frame: int) -> None:
        """Propagate from a newly annotated frame to both sides, up to the next annotated frames."""
        video = self._video
        annotated, last = sorted(video.strokes), len(video.images) - 1
        before = max((a for a in annotated if a < frame), default=None)
        after = min((a for a in annotated if a > frame), default=None)
        self._interval(before, frame, range(0 if before is None else before + 1, frame))
        self._interval(frame, after, range(frame + 1, last + 1 if after is None else after))

    def _interval(self, left: int | None, right: int | None, inside: range) -> None:
        """Segment the frames between two annotated frames, or before the first or after the last of them."""
        forward = {} if left is None else self._pass(left, inside)
        backward = {} if right is None else self._pass(right, inside[::-1])
        for t in inside:
            if left is None or right is None:
                self._video.probabilities[t] = forward[t] if right is None else backward[t]
            else:
                share = (t - left) / (right - left)
                self._video.probabilities[t] = (1 - share) * forward[t] + share * backward[t]

    def _pass(self, source: int, targets: Sequence[int]) -> dict[int, Floats]:
        """Return the probabilities [h, w, N] of target frames, which are computed one after the other.

        Args:
            source: The annotated frame at which the pass begins.
            targets: The frames of the pass in order.
        """
        video = self._video
        video.flow.expect(pairs_of_passes(source, [targets]))
        done = {source: np.asarray(video.probabilities[source], np.float32)}
        order = [source]
        for t in targets:
            total, weights = self._carried(t, source, order, done)
            done[t] = video.flow.refine(t, np.asarray(total / weights[..., None], np.float32))
            order.append(t)
        return done

    def _carried(
        self, target: int, source: int, order: Sequence[int], done: Mapping[int, Floats]
    ) -> tuple[Floats, Floats]:
        """Return the weighted sum [h, w, N] of the probabilities for a target, and the sum of weights [h, w].

        Args:
            target: The next frame of a pass.
            source: The annotated frame at which the pass began.
            order: The finished frames of the pass in order, beginning with the source.
            done: The probabilities [h, w, N] of the finished frames.
        """
        return self._video.flow.carry(target, {r: done[r] for r in {source, *order[-2:]}})


def cut_out(
    image: Image, strokes: Sequence[Stroke], num_objects: int, previous: Labels | None = None
) -> Labels:
    """Segment the objects of one frame by GrabCut (Rother et al., 2004), each against everything else.

    A stroke of a single point, which a click is converted to, does not show the object's size. Around such a
    point, pixels within a fifth of the frame's shorter side are marked as probable foreground; within a
    twelfth, if the object already has a mask that lacks the point. Pixels up to 1.6 times this distance are
    marked as possible foreground. If there are such points, only components that are connected with a stroke
    or with the previous mask are kept.

    Args:
        image: Frame RGB [h, w, 3].
        strokes: All strokes drawn on the frame.
        num_objects: Number of objects N.
        previous: Labels of the frame before these strokes; None in the first round.

    Returns:
        Labels [h, w]; a pixel in the masks of several objects belongs to the object whose strokes are
        nearest.
    """
    height, width = image.shape[:2]
    drawn, points = np.full((height, width), -1, np.int16), np.zeros((height, width), bool)
    for stroke in strokes:
        pixels = rasterise([stroke], height, width) > 0.3
        drawn[pixels], points[pixels] = stroke["object_id"], len(stroke["path"]) == 1
    labels, nearest = np.zeros((height, width), np.uint8), np.full((height, width), np.inf, np.float32)
    bgr = np.ascontiguousarray(image[..., ::-1])
    for label in range(1, num_objects + 1):
        own, before = drawn == label, None if previous is None else previous == label
        if not own.any() and (before is None or not before.any()):
            continue
        inside = _grab_cut(bgr, own, own & points, (drawn >= 0) & ~own, before)
        anchor = own if own.any() else inside
        distance = _distance(anchor)
        taken = inside & (distance < nearest)
        labels[taken], nearest[taken] = label, distance[taken]
    for label in range(num_objects + 1):
        labels[drawn == label] = label
    return labels


def _grab_cut(
    bgr: Image,
    own: NDArray[np.bool_],
    points: NDArray[np.bool_],
    others: NDArray[np.bool_],
    previous: NDArray[np.bool_] | None,
) -> NDArray[np.bool_]:
    """Segment one object by GrabCut.

    Pixels far from the object's strokes and from its previous mask are background.

    Args:
        bgr: Frame BGR [h, w, 3].
        own: Pixels [h, w] of the object's strokes.
        points: Pixels [h, w] of those of the object's strokes that consist of a single point.
        others: Pixels [h, w] of the strokes of other objects and of the background.
        previous: The object's previous mask [h, w]; None in the first round.

    Returns:
        The object's mask [h, w].
    """
    near, probable, context = _surroundings(own, points, previous)
    marks = np.full(own.shape, cv2.GC_BGD, np.uint8)
    marks[near] = cv2.GC_PR_BGD
    if previous is not None:
        marks[previous] = cv2.GC_PR_FGD
    marks[probable & (marks == cv2.GC_PR_BGD)] = cv2.GC_PR_FGD
    marks[others], marks[own] = cv2.GC_BGD, cv2.GC_FGD
    foreground = (marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)
    inside = np.count_nonzero(foreground[context])
    if min(inside, foreground[context].size - inside) < 10:  # too few pixels for GrabCut's five Gaussians
        return np.asarray(foreground)
    cut = np.ascontiguousarray(marks[context])
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # seed of the k-means clustering that initialises GrabCut's Gaussians
    cv2.grabCut(np.ascontiguousarray(bgr[context]), cut, (0, 0, 1, 1), *models, 5, cv2.GC_INIT_WITH_MASK)
    foreground[:] = False
    foreground[context] = (cut == cv2.GC_FGD) | (cut == cv2.GC_PR_FGD)
    if points.any():
        _, pieces = cv2.connectedComponents(foreground.view(np.uint8))
        foreground &= np.isin(pieces, pieces[own if previous is None else own | previous])
    return np.asarray(foreground)


def _surroundings(
    own: NDArray[np.bool_], points: NDArray[np.bool_], previous: NDArray[np.bool_] | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], tuple[slice, slice]]:
    """Return the pixels where an object is possible, those where it is probable, and the crop to segment."""
    near, probable, lines = np.zeros_like(own), np.zeros_like(own), own & ~points
    support = lines if previous is None else lines | previous
    if support.any():
        near[_grown(support, 0.2)] = True
    if lines.any():
        longer = max(cv2.boundingRect(lines.view(np.uint8))[2:])
        probable |= _distance(lines) < 0.12 * longer
    fresh = points if previous is None else points & ~previous
    if fresh.any():
        reach = (_REACH if previous is None else _CORRECTS) * min(own.shape)
        distance = _distance(fresh)
        near |= distance < _MARGIN * reach
        probable |= distance < reach
    return near, probable, _grown(near, 0.3) if points.any() else _grown(support, 0.55)


def _distance(mask: NDArray[np.bool_]) -> Floats:
    """Return the distance from every pixel to the nearest pixel of the mask."""
    return np.asarray(cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 5), np.float32)


def _grown(mask: NDArray[np.bool_], share: float) -> tuple[slice, slice]:
    """Return a mask's bounding box, extended on each side by a fraction of its longer side and 8 pixels."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    margin = int(share * max(width, height)) + 8
    return slice(max(0, y - margin), y + height + margin), slice(max(0, x - margin), x + width + margin)


def _most_probable(probabilities: NDArray[np.floating]) -> Labels:
    """Assign each pixel [..., N] to its most probable object if the probability exceeds 0.5, else to 0."""
    best = probabilities.argmax(axis=-1)
    return np.where(probabilities.max(axis=-1) > 0.5, best + 1, 0).astype(np.uint8)
