"""Clicks, the rules by which simulated users click, and conversion between clicks and strokes.

Coordinates follow the convention of strokes: the pixel (x, y) of a frame of w x h is ``[x / w, y / h]``.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, TypeGuard, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.interaction.boxes import Box, centres, is_box, strokes_from_boxes
from ivos.interaction.strokes import Stroke
from ivos.runtime.errors import UserError
from ivos.video.labels import VOID

ClickRule = Literal["S1", "S2"]
PromptKind = Literal["strokes", "clicks", "boxes", "masks"]


class Click(TypedDict):
    """A point that is on an object (positive) or not on it (negative).

    ``point``: [x, y] in relative coordinates from 0 to 1.
    ``positive``: Whether the object is at this point. A negative click does not tell which other object is.
    ``object_id``: Number of the object, 1..N.
    """

    point: list[float]
    positive: bool
    object_id: int


Prompt = Stroke | Click | Box


class ErrorCentre(NamedTuple):
    """The pixel at the centre of the largest error in a prediction of one object.

    ``missing`` is true if the prediction lacks the object there, and false if the prediction is superfluous.
    """

    x: int
    y: int
    missing: bool


class ClickError(UserError):
    """The error for clicks that cannot be used; the message names the click and the reason."""


def is_click(prompt: Any) -> TypeGuard[Click]:
    """Return whether a prompt is a click."""
    return isinstance(prompt, dict) and "point" in prompt


def check_clicks(clicks: Sequence[Any], num_objects: int | None = None) -> None:
    """Check that clicks are well-formed.

    Args:
        clicks: The values to check, which should be of type :class:`Click`.
        num_objects: Highest ``object_id`` that is allowed; None for any.

    Raises:
        ClickError: A click is malformed.
    """
    for index, click in enumerate(clicks):
        if not isinstance(click, dict) or not {"point", "positive", "object_id"} <= set(click):
            raise ClickError(f"click {index} is not an object with 'point', 'positive' and 'object_id'")
        number = click["object_id"]
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ClickError(f"click {index} has object_id {number!r}; it must be 1, 2, ...")
        if num_objects is not None and number > num_objects:
            raise ClickError(
                f"click {index} is for object {number}, but the highest object number is {num_objects}"
            )
        if not isinstance(click["positive"], bool):
            raise ClickError(f"click {index} has positive {click['positive']!r}; it must be true or false")
        try:
            x, y = (float(value) for value in click["point"])
        except (TypeError, ValueError) as error:
            raise ClickError(f"click {index} has a point {click['point']!r}; it must be [x, y]") from error
        if not (math.isfinite(x) and math.isfinite(y) and 0 <= x <= 1 and 0 <= y <= 1):
            raise ClickError(f"click {index} has a point {[x, y]} outside [0, 1]")


def error_centre(ground_truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> ErrorCentre | None:
    """Return the next click on an object by the rule of SAM 2 and RITM: the deepest wrong pixel.

    The depth of a wrong pixel is its Euclidean distance to the nearest pixel that does not have the same kind
    of error (missing or superfluous); pixels outside the frame count as correct. The deepest missing pixel is
    clicked if it is deeper than the deepest superfluous one, else the deepest superfluous pixel. Of several
    equally deep pixels, the first one in row-major order is clicked. For an empty prediction, the result is
    the centre of the object.

    Args:
        ground_truth: Mask [h, w] of the object.
        prediction: Predicted mask [h, w] of the object.

    Returns:
        The click, or None if there is no error. (SAM 2's own function returns a negative click at (0, 0)
        then.)
    """
    missing, superfluous = ground_truth & ~prediction, prediction & ~ground_truth
    depth_missing, y_missing, x_missing = _deepest(missing)
    depth_superfluous, y_superfluous, x_superfluous = _deepest(superfluous)
    if depth_missing > depth_superfluous:
        return ErrorCentre(x_missing, y_missing, True)
    if depth_superfluous:
        return ErrorCentre(x_superfluous, y_superfluous, False)
    return None


def _deepest(region: NDArray[np.bool_]) -> tuple[float, int, int]:
    """Return depth, row and column of a region's deepest pixel; the depth of an empty region is 0.

    The distance transform is computed on the whole padded frame, because the last digits of the float32
    depths depend on the position. A crop would order equal depths differently from SAM 2's function.
    """
    if not region.any():
        return 0.0, 0, 0
    padded = np.pad(region.view(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(depth[row, column]), int(row), int(column)


def click_on_error(
    ground_truth: NDArray[np.integer], prediction: NDArray[np.integer], object_id: int
) -> Click | None:
    """Return the next click on an object by SAM 2's rule (:func:`error_centre`); void pixels are never wrong.

    Args:
        ground_truth: Labels [h, w]; pixels of label 255 (void) belong to no object and get no click.
        prediction: Labels [h, w].
        object_id: Number of the object, 1..N.
    """
    predicted = (prediction == object_id) & (ground_truth != VOID)
    centre = error_centre(ground_truth == object_id, predicted)
    return None if centre is None else _click(centre.x, centre.y, centre.missing, object_id, prediction.shape)


def clicks_on_errors(
    ground_truth: NDArray[np.integer],
    prediction: NDArray[np.integer],
    num_objects: int,
    limit: int = 3,
    min_area: int = 100,
) -> list[Click]:
    """Return clicks by CiVOS' rule S3: the centres of the pixels that survive the most erosions of an error.

    An error mask consists of an object's missing pixels (positive clicks) or of its superfluous pixels
    (negative clicks). It is eroded repeatedly by a cross of five pixels, and the pixels of the last non-empty
    mask are divided into connected components. The first ``limit`` components in row-major order are
    considered. Each is clicked at the pixel nearest to its mean, if the connected region of the error around
    this pixel has at least ``min_area`` pixels.

    Args:
        ground_truth: Labels [h, w]; pixels of label 255 (void) belong to no object and get no click.
        prediction: Labels [h, w]; all zeros yield clicks on the objects themselves.
        num_objects: Number of objects N.
        limit: Largest number of positive clicks of an object, and of its negative clicks.
        min_area: Smallest number of pixels of an error region that is clicked.
    """
    clicks: list[Click] = []
    for object_id in range(1, num_objects + 1):
        true = ground_truth == object_id
        predicted = (prediction == object_id) & (ground_truth != VOID)
        for positive, error in ((True, true & ~predicted), (False, predicted & ~true)):
            for x, y in _eroded_centres(error, limit, min_area):
                clicks.append(_click(x, y, positive, object_id, error.shape))
    return clicks


def _eroded_centres(error: NDArray[np.bool_], limit: int, min_area: int) -> list[tuple[int, int]]:
    """Return the centres (x, y) of the components that survive the most erosions; see clicks_on_errors."""
    if not error.any():
        return []
    padded = np.pad(error.view(np.uint8), 1)
    # The city-block distance equals the number of erosions by a cross that a pixel survives, plus one.
    erosions = cv2.distanceTransform(padded, cv2.DIST_L1, 3)[1:-1, 1:-1]
    survivors = (erosions == erosions.max()).astype(np.uint8)
    regions, sizes = _components(error.view(np.uint8))
    pieces, _ = _components(survivors)
    first = np.unique(pieces, return_index=True)
    order = [label for _, label in sorted(zip(first[1], first[0], strict=True)) if label]
    centres = []
    for label in order[:limit]:
        rows, columns = np.nonzero(pieces == label)
        nearest = ((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2).argmin()
        y, x = int(rows[nearest]), int(columns[nearest])
        if sizes[regions[y, x]] >= min_area:
            centres.append((x, y))
    return centres


def _components(mask: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the 8-connected components [h, w] of a mask, and the number of pixels of each."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    return np.asarray(pieces, np.int32), np.asarray(stats[:, cv2.CC_STAT_AREA], np.int32)


def clicks_from_strokes(strokes: Sequence[Stroke], rule: ClickRule = "S2", limit: int = 3) -> list[Click]:
    """Convert strokes to clicks by CiVOS' rules S1 and S2.

    A stroke is represented by its point nearest to the mean of its points. Each object gets positive clicks
    at its own points. The points of all other objects and of the background become negative clicks of the
    object: by S1 only if there is a stroke of the background, by S2 always.

    Args:
        strokes: Strokes of one frame and round.
        rule: S1 for one point per object, from all of its strokes together; S2 for one point per stroke.
        limit: Largest number of points of an object, for S2.
    """
    points: dict[int, list[NDArray[np.float64]]] = {}
    for stroke in strokes:
        points.setdefault(stroke["object_id"], []).append(np.asarray(stroke["path"], np.float64))
    chosen = {
        label: [_middle(path) for path in (paths[:limit] if rule == "S2" else [np.concatenate(paths)])]
        for label, paths in sorted(points.items())
    }
    with_negatives = rule == "S2" or 0 in chosen
    clicks: list[Click] = []
    for object_id in filter(None, chosen):
        for label, middles in chosen.items():
            if label == object_id or with_negatives:
                own = label == object_id
                clicks += [{"point": point, "positive": own, "object_id": object_id} for point in middles]
    return clicks


def _middle(path: NDArray[np.float64]) -> list[float]:
    nearest: list[float] = path[((path - path.mean(axis=0)) ** 2).sum(axis=1).argmin()].tolist()
    return nearest


def strokes_from_clicks(clicks: Iterable[Click], radius: float = 0.0, aspect: float = 1.0) -> list[Stroke]:
    """Convert clicks to strokes, either of one point each, which the brush draws as a disc, or to rings.

    A positive click becomes a stroke of its object. A negative click becomes a stroke of the background,
    unless another object has a positive click at the same point, whose stroke already excludes this object.

    Args:
        clicks: Clicks of one frame and round.
        radius: Radius of a circular stroke around the point, as a fraction of the frame's height; 0 for a
            stroke of one point.
        aspect: Width of the frame divided by its height.
    """
    clicks = list(clicks)
    taken = {tuple(click["point"]) for click in clicks if click["positive"]}
    strokes: list[Stroke] = []
    for click in clicks:
        path = _ring(click["point"], radius, aspect) if radius > 0 else [list(click["point"])]
        if click["positive"]:
            strokes.append({"path": path, "object_id": click["object_id"]})
        elif tuple(click["point"]) not in taken:
            taken.add(tuple(click["point"]))
            strokes.append({"path": path, "object_id": 0})
    return strokes


def _ring(point: Sequence[float], radius: float, aspect: float, corners: int = 24) -> list[list[float]]:
    """Return a closed path around a point, clipped to the frame."""
    angles = 2 * np.pi * np.arange(corners + 1) / corners
    x = np.clip(point[0] + radius / aspect * np.cos(angles), 0, 1)
    y = np.clip(point[1] + radius * np.sin(angles), 0, 1)
    path: list[list[float]] = np.stack([x, y], axis=1).tolist()
    return path


def understood_prompts(segmenter: object) -> frozenset[PromptKind]:
    """Return the kinds of prompts that a segmenter accepts: its attribute ``prompts``, by default strokes.

    Raises:
        UserError: The attribute contains an unknown kind, or no kind.
    """
    named = getattr(segmenter, "prompts", "strokes")
    kinds = frozenset([named] if isinstance(named, str) else named)
    if not kinds or not kinds <= set(get_args(PromptKind)):
        raise UserError(
            f"{type(segmenter).__name__}.prompts: one or more of {', '.join(get_args(PromptKind))} are "
            f"needed, got {named!r}"
        )
    return kinds


def click_radius(segmenter: object) -> float:
    """Return the radius of the ring to which a later click is converted for a segmenter of strokes.

    Returns:
        The segmenter's attribute ``click_radius``, as a fraction of the frame's height. The radius is 0 (a
        point) for a segmenter without the attribute, and for a segmenter that accepts clicks.

    Raises:
        UserError: The attribute is not a number from 0 to 0.5.
    """
    radius = getattr(segmenter, "click_radius", 0.0)
    if isinstance(radius, bool) or not isinstance(radius, (int, float)) or not 0 <= radius <= 0.5:
        raise UserError(f"{type(segmenter).__name__}.click_radius: a number from 0 to 0.5, got {radius!r}")
    return 0.0 if "clicks" in understood_prompts(segmenter) else float(radius)


def translate(
    prompts: Sequence[Prompt],
    kinds: Iterable[PromptKind],
    rule: ClickRule = "S2",
    limit: int = 3,
    radius: float = 0.0,
    aspect: float = 1.0,
) -> list[Any]:
    """Convert prompts to the kinds that a segmenter accepts.

    Args:
        prompts: Prompts of one frame and round.
        kinds: Kinds that the segmenter accepts; prompts of these kinds are not converted.
        rule: Rule by which strokes are converted to clicks; see :func:`clicks_from_strokes`.
        limit: Largest number of points of an object; see :func:`clicks_from_strokes`.
        radius: Radius of the ring to which a click is converted; see :func:`strokes_from_clicks`.
        aspect: Width of the frame divided by its height; see :func:`strokes_from_clicks`.
    """
    kinds = frozenset(kinds)
    boxes = [prompt for prompt in prompts if is_box(prompt)]
    clicks = [prompt for prompt in prompts if is_click(prompt)]
    strokes: list[Stroke] = [one for one in prompts if not is_click(one) and not is_box(one)]  # type: ignore[misc]
    kept: list[Any] = boxes if "boxes" in kinds else []
    if boxes and not kept and ("strokes" in kinds or "clicks" not in kinds):
        strokes += strokes_from_boxes(boxes)
    elif boxes and not kept:
        clicks += [{"point": point, "positive": True, "object_id": k} for point, k in centres(boxes)]
    if "clicks" not in kinds:
        return kept + strokes + strokes_from_clicks(clicks, radius, aspect)
    if "strokes" not in kinds:
        return kept + clicks_from_strokes(strokes, rule, limit) + clicks
    return kept + strokes + clicks if boxes else list(prompts)


def _click(x: int, y: int, positive: bool, object_id: int, shape: tuple[int, ...]) -> Click:
    point = [x / shape[1], y / shape[0]]
    return {"point": point, "positive": positive, "object_id": object_id}
