"""Operations on existing masks: copying, filling between frames, deleting and swapping objects."""

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ivos.app.interpolation import Interpolation
from ivos.app.locks import ranges
from ivos.app.masks import SessionMasks
from ivos.app.messages import Operation
from ivos.app.pixels import protect
from ivos.app.session import Event, Refused, Session

Labels = NDArray[np.uint8]


def plan(session: Session, message: Operation) -> tuple[list[int], Event]:
    """Return the frames that an operation changes, and its event.

    Raises:
        Refused: The operation names frames or objects that do not exist, or there is no frame to change.
    """
    last = session.num_frames - 1
    if not 0 <= message.lo <= message.hi <= last or message.frame > last:
        raise Refused(f"frames {message.lo} to {message.hi}: the video has frames 0 to {last}")
    for number in (message.object, message.other):
        if number and (number not in session.objects or session.objects[number].removed):
            raise Refused(f"there is no object {number}")
    if message.kind in ("delete", "swap") and not message.object:
        raise Refused(f"{message.kind}: name an object")
    if message.kind == "swap" and message.object == message.other:
        raise Refused("swap: name two objects")
    if message.kind == "fill" and message.hi - message.lo < 2:
        raise Refused("fill: choose a range, or a frame between two that you have annotated")
    kept = {message.frame} if message.kind == "copy" else set(_keys(session, message))
    frames = [
        frame
        for frame in range(message.lo, message.hi + 1)
        if not session.locks.is_locked(frame, 0) and frame not in kept
    ]
    if not frames:
        raise Refused("all these frames are annotated or locked; unlock them first")
    event = {
        "type": "operation",
        "round": len(session.rounds) + 1,
        "kind": message.kind,
        "frame": message.frame,
        "frames": ranges(frames),
        "object": message.object,
        "other": message.other,
        "annotated": message.kind != "fill",  # later rounds may change interpolated masks
    }
    session.check(event)
    return frames, event


def _keys(session: Session, message: Operation) -> list[int]:
    """Return the key frames of a ``fill``: the ends of the range and the annotated frames in it."""
    if message.kind != "fill":
        return []
    between = range(message.lo + 1, message.hi)
    return [message.lo, *(frame for frame in between if session.is_annotated(frame)), message.hi]


def run(
    session: Session, masks: SessionMasks, message: Operation, frames: list[int]
) -> Iterator[tuple[int, Labels]]:
    """Yield the labels [h, w] of the frames that an operation changes."""
    if message.kind == "fill":
        yield from _fill(session, masks, _keys(session, message), frames)
        return
    source = masks.current(message.frame)
    for frame in frames:
        current = masks.current(frame)
        changed = current.copy()
        if message.kind == "copy":
            changed = source.copy() if not message.object else _replace(current, source, message.object)
        elif message.kind == "delete":
            changed[current == message.object] = 0
        else:
            changed[current == message.object] = message.other
            changed[current == message.other] = message.object
        yield frame, protect(current, changed, session.locks.objects_on(frame))


def _fill(
    session: Session, masks: SessionMasks, keys: list[int], frames: list[int]
) -> Iterator[tuple[int, Labels]]:
    """Yield the masks of frames between key frames, by interpolation."""
    for low, high in itertools.pairwise(keys):
        inside = [frame for frame in frames if low < frame < high]
        if not inside:
            continue
        between = Interpolation(masks.current(low), masks.current(high))
        for frame in inside:
            labels = between.at((frame - low) / (high - low))
            yield frame, protect(masks.current(frame), labels, session.locks.objects_on(frame))


def _replace(current: Labels, source: Labels, number: int) -> Labels:
    """Return the labels `current` in which the pixels of one object are those of the labels `source`."""
    changed = current.copy()
    changed[current == number] = 0
    changed[source == number] = number
    return changed
