"""The loop over the rounds of an interactive session: prompt, segment, score.

Validation and evaluation both use :func:`run_session`. A :class:`Protocol` chooses the prompts,
scores the masks and ends the session; a :class:`ivos.engine.Segmenter` computes the masks.
"""

import logging
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ivos.engine import Segmenter
from ivos.interaction import Prompt as StrokeOrClick
from ivos.interaction.clicks import click_radius, translate, understood_prompts
from ivos.runtime.errors import UserError
from ivos.session.sample import Sample
from ivos.video.clip import Clip

log = logging.getLogger(__name__)


class FramePrompts(NamedTuple):
    """The prompts of one round, which are all on one frame."""

    frame: int
    strokes: Sequence[StrokeOrClick]  # strokes or clicks; empty if there is nothing to correct
    labels: NDArray[np.uint8] | None = None  # labels of the frame [h, w], given instead of strokes


class Scores(NamedTuple):
    """J and F of a video's masks; NaN where an object's true position on a frame is unknown."""

    jaccard: NDArray[np.float64]  # [T, N]
    f_measure: NDArray[np.float64] | None = None  # [T, N]; None if the protocol does not compute it


@dataclass(frozen=True, eq=False)
class ScoredRound:
    """A round of a session with its scores.

    Attributes:
        number: Number of the round, from 1.
        frame: The prompted frame.
        strokes: Strokes or clicks on that frame; empty if there was nothing to correct, so that the masks are
            those of the previous round.
        masks: Labels of the whole video after the round, uint8 [T, h, w].
        jaccard: J of the masks, float64 [T, N]; NaN where an object's true position on a frame is unknown.
        f_measure: F of the masks, float64 [T, N], with the same NaN; None if the protocol does not compute
            it.
        seconds: Time of the segmenter; in round 1 it includes the call of ``start``.
        confidence: The segmenter's own estimate of J, float [T] for frames or [T, N] for objects; None if the
            protocol does not use it.
    """

    number: int
    frame: int
    strokes: Sequence[StrokeOrClick]
    masks: NDArray[np.uint8]
    jaccard: NDArray[np.float64]
    f_measure: NDArray[np.float64] | None
    seconds: float
    confidence: NDArray[np.floating] | None = None


class Protocol(typing.Protocol):
    """Interface of the protocol of one sample, which may keep a state such as the prompted frames."""

    @property
    def max_rounds(self) -> int:
        """The largest number of rounds."""

    @property
    def max_seconds(self) -> float | None:
        """Time limit in seconds for all rounds, including scoring and prompting; None for no limit."""

    def first(self) -> FramePrompts:
        """Return the prompts of the first round."""

    def score(self, masks: NDArray[np.uint8]) -> Scores:
        """Score the masks [T, h, w] of a round."""

    def next(self, last: ScoredRound) -> FramePrompts | None:
        """Return the prompts of the next round, or None to end the session."""


def run_session(segmenter: Segmenter, sample: Sample, protocol: Protocol) -> Iterator[ScoredRound]:
    """Run a session on one sample.

    Time is measured by a monotonic clock. As in davisinteractive, the session ends when the time limit is
    exceeded by the segmenter, by scoring or by prompting; masks that are returned after the limit are not
    scored. The caller's time between two rounds does not count.

    Args:
        segmenter: Segmenter that computes the masks.
        sample: A decoded sample (:meth:`Sample.decoded`).
        protocol: Protocol of this sample, which chooses prompts and scores masks.

    Yields:
        Each round after it has been scored.

    Raises:
        UserError: The segmenter fails or does not return labels; the message names it.
    """
    clip, limit = sample.clip, protocol.max_seconds or np.inf
    masks = np.zeros(clip.labels.shape, np.uint8)
    began = monotonic()
    prompt: FramePrompts | None = protocol.first()
    for number in range(1, protocol.max_rounds + 1):
        if prompt is None or monotonic() - began > limit:
            return
        asked = monotonic()
        if number == 1:
            _call(segmenter, "start", f"start of {clip.name}", clip.frames, clip.num_objects)
        if prompt.strokes or prompt.labels is not None:
            prompt, masks = _answer(segmenter, prompt, protocol, masks, clip.num_objects, number > 1)
        answered = monotonic()
        if answered - began > limit:
            return
        seconds = answered - asked
        sure = _confidence(segmenter, clip) if getattr(protocol, "needs_confidence", False) else None
        scores = protocol.score(masks)
        scored = ScoredRound(number, prompt.frame, prompt.strokes, masks, *scores, seconds, sure)
        prompt = protocol.next(scored) if number < protocol.max_rounds else None
        paused = monotonic()
        yield scored
        began += monotonic() - paused


def _confidence(segmenter: Segmenter, clip: Clip) -> NDArray[np.floating]:
    """Return a segmenter's estimate of J after checking its shape and values.

    Raises:
        UserError: The segmenter has no method ``confidence``, or its result is invalid.
    """
    name = f"segmenter {type(segmenter).__name__}"
    if not hasattr(segmenter, "confidence"):
        raise UserError(f"{name}: this protocol needs the method confidence, which is missing")
    sure = np.asarray(_call(segmenter, "confidence", "confidence"))
    shapes = (clip.num_frames,), (clip.num_frames, clip.num_objects)
    if sure.shape not in shapes or sure.dtype.kind != "f" or not ((sure >= 0) & (sure <= 1)).all():
        raise UserError(
            f"{name}: confidence must return floats in [0, 1], {list(shapes[0])} or {list(shapes[1])}"
        )
    return sure


def _answer(
    segmenter: Segmenter,
    prompt: FramePrompts,
    protocol: Protocol,
    last: NDArray[np.uint8],
    num_objects: int,
    is_correction: bool,
) -> tuple[FramePrompts, NDArray[np.uint8]]:
    """Run the segmenter for one round; return all prompts of the round and the resulting masks.

    A protocol with a method ``refine(prompt, mask)`` adds prompts in view of the frame's new mask. This mask
    is computed by the segmenter's method ``preview``, or else by segmenting the whole video after each
    prompt. A protocol with a method ``accept(masks, frame)`` decides which of the new masks are used.
    """
    frame, drawn = prompt.frame, list(prompt.strokes)
    if prompt.labels is not None:
        return prompt, _answer_masks(segmenter, prompt, protocol, last.shape, num_objects)
    kinds = understood_prompts(segmenter)
    if kinds == {"masks"}:
        raise UserError(
            f"segmenter {type(segmenter).__name__}: takes only masks as prompts; use protocol=first_mask"
        )
    radius, aspect = click_radius(segmenter) if is_correction else 0.0, last.shape[2] / last.shape[1]
    refine, accept = getattr(protocol, "refine", None), getattr(protocol, "accept", None)

    def ask(verb: str, prompts: list[StrokeOrClick], shape: tuple[int, ...]) -> NDArray[np.uint8]:
        understood = translate(prompts, kinds, radius=radius, aspect=aspect)
        return _ask(segmenter, verb, frame, understood, shape, num_objects)

    if refine is not None and hasattr(segmenter, "preview"):
        while more := refine(FramePrompts(frame, drawn), ask("preview", drawn, last.shape[1:])):
            drawn += more.strokes
    masks = ask("interact", drawn, last.shape)
    if refine is not None:
        while more := refine(FramePrompts(frame, drawn), masks[frame]):
            masks = ask("interact", list(more.strokes), last.shape)
            drawn += more.strokes
    return FramePrompts(frame, drawn), masks if accept is None else accept(masks, frame)


def _answer_masks(
    segmenter: Segmenter,
    prompt: FramePrompts,
    protocol: Protocol,
    shape: tuple[int, ...],
    num_objects: int,
) -> NDArray[np.uint8]:
    """Run the segmenter for a round with labels of frames as prompts, and return the resulting masks.

    A protocol with a method ``following(masks)`` gives labels of further frames in the same round.
    """
    following, accept = getattr(protocol, "following", None), getattr(protocol, "accept", None)
    following_prompt: FramePrompts | None = prompt
    while following_prompt is not None and following_prompt.labels is not None:
        masks = _adopt(segmenter, following_prompt.frame, following_prompt.labels, shape, num_objects)
        masks = masks if accept is None else accept(masks, following_prompt.frame)
        following_prompt = None if following is None else following(masks)
    return masks


def _adopt(
    segmenter: Segmenter, frame: int, labels: NDArray[np.uint8], shape: tuple[int, ...], num_objects: int
) -> NDArray[np.uint8]:
    """Pass the labels of a frame to a segmenter, and return the resulting masks of the video."""
    if not hasattr(segmenter, "adopt"):
        raise UserError(
            f"segmenter {type(segmenter).__name__}: this protocol gives masks as prompts, but the segmenter "
            "has no method adopt"
        )
    adopted = _call(segmenter, "adopt", f"adopt on frame {frame}", frame, labels)
    _checked(adopted, f"segmenter {type(segmenter).__name__}: adopt on frame {frame}", shape[1:], num_objects)
    return _ask(segmenter, "interact", frame, [], shape, num_objects)


def _ask(
    segmenter: Segmenter,
    verb: str,
    frame: int,
    prompts: Sequence[typing.Any],
    shape: tuple[int, ...],
    num_objects: int,
) -> NDArray[np.uint8]:
    """Call a segmenter and return its masks after checking shape, type and values.

    Raises:
        UserError: The call fails, or the masks are not valid labels; the message names the segmenter.
    """
    name = f"segmenter {type(segmenter).__name__}: {verb} on frame {frame}"
    return _checked(
        _call(segmenter, verb, f"{verb} on frame {frame}", frame, prompts), name, shape, num_objects
    )


def _checked(masks: typing.Any, name: str, shape: tuple[int, ...], num_objects: int) -> NDArray[np.uint8]:
    """Return masks after checking their shape, type and values; error messages start with ``name``."""
    if not isinstance(masks, np.ndarray):
        raise UserError(f"{name} returned {type(masks).__name__}, not an array of labels")
    if masks.shape != shape:
        raise UserError(f"{name} returned masks {list(masks.shape)}, but {list(shape)} are needed")
    if masks.dtype.kind == "f" and not np.isfinite(masks).all():
        raise UserError(f"{name} returned masks with NaN or infinity")
    if masks.dtype != np.uint8:
        raise UserError(f"{name} returned masks of {masks.dtype}, but uint8 is needed")
    if masks.size and masks.max() > num_objects:
        raise UserError(f"{name} returned object {masks.max()}, but there are only {num_objects} objects")
    return masks


def _call(segmenter: Segmenter, verb: str, what: str, *arguments: typing.Any) -> typing.Any:
    """Call a segmenter's method.

    Raises:
        UserError: The method fails; the message is one line that names the segmenter.
    """
    try:
        return getattr(segmenter, verb)(*arguments)
    except UserError:
        raise
    except Exception as error:
        name = f"segmenter {type(segmenter).__name__}: {what}"
        log.exception("%s failed", name)  # the run's log has the traceback
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{name} failed: {reason}") from error
