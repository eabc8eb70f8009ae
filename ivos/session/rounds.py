"""The loop of the interactive session: prompt, segment, score, and prompt again.

:func:`run_session` is the only such loop. A :class:`Protocol` chooses the prompts, scores the masks and ends
the session; a :class:`ivos.engine.Segmenter` makes the masks.
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
    """The prompts that a user gives in one round, all of them on one frame."""

    frame: int
    strokes: Sequence[StrokeOrClick]  # strokes or clicks; empty where there is nothing to correct
    labels: NDArray[np.uint8] | None = None  # [h, w]: the frame's labels are given instead


class Scores(NamedTuple):
    """J and F of a video's masks; NaN where the data set does not say where an object is on a frame."""

    jaccard: NDArray[np.float64]  # [T, N]
    f_measure: NDArray[np.float64] | None = None  # [T, N]; None where the protocol does not measure it


@dataclass(frozen=True, eq=False)
class ScoredRound:
    """A round of a session with its scores.

    Attributes:
        number: from 1.
        frame: the frame of the prompts.
        strokes: strokes or clicks on that frame; empty where there was nothing to correct, and the masks are
            then those of the round before.
        masks: labels of the whole video after the round, uint8 [T, h, w].
        jaccard: J of the masks, float64 [T, N]; NaN where an object's place on a frame is not known.
        f_measure: F of the masks, float64 [T, N], NaN as in J; None where the protocol does not measure it.
        seconds: the segmenter's time; in round 1 with its work that is done once for a video.
        confidence: the estimate of J by the segmenter itself, float [T] of frames or [T, N] of objects;
            None where the protocol does not ask for it.
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
    """The course of a session on one sample; made for that sample, it keeps track of the prompted frames."""

    @property
    def max_rounds(self) -> int:
        """The largest number of rounds."""

    @property
    def max_seconds(self) -> float | None:
        """Seconds for all rounds, scoring and prompting included; None for no limit."""

    def first(self) -> FramePrompts:
        """Return the prompts of the first round."""

    def score(self, masks: NDArray[np.uint8]) -> Scores:
        """Score the masks [T, h, w] of a round."""

    def next(self, last: ScoredRound) -> FramePrompts | None:
        """Return the prompts of the round after this one; None to end the session."""


def run_session(segmenter: Segmenter, sample: Sample, protocol: Protocol) -> Iterator[ScoredRound]:
    """Run a session on one sample.

    Time is that of a monotonic clock. As in davisinteractive, masks that come after the limit are not scored
    and end the session; so does a limit that is exceeded by scoring or prompting. The time that the caller
    takes between two rounds does not count.

    Args:
        segmenter: makes the masks.
        sample: a decoded sample (:meth:`Sample.decoded`).
        protocol: chooses prompts and scores masks; made for this sample.

    Yields:
        each round as soon as it is scored.

    Raises:
        UserError: the segmenter fails or returns something other than labels; the message names it.
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
        UserError: the segmenter has no method ``confidence``, or the method returns something else.
    """
    name = f"segmenter {type(segmenter).__name__}"
    if not hasattr(segmenter, "confidence"):
        raise UserError(f"{name}: has no method confidence, and this protocol needs it")
    sure = np.asarray(_call(segmenter, "confidence", "confidence"))
    shapes = (clip.num_frames,), (clip.num_frames, clip.num_objects)
    if sure.shape not in shapes or sure.dtype.kind != "f" or not ((sure >= 0) & (sure <= 1)).all():
        raise UserError(
            f"{name}: confidence has to return floats in [0, 1], {list(shapes[0])} or {list(shapes[1])}"
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
    """Return the masks of a round, and all prompts that the user has given in it.

    A protocol with ``refine(prompt, mask)`` adds prompts after it has seen the frame's new mask. A segmenter
    with ``preview`` returns that mask alone; any other one segments the whole video after each prompt. A
    protocol with ``accept(masks, frame)`` decides which of the new masks count.
    """
    frame, drawn = prompt.frame, list(prompt.strokes)
    if prompt.labels is not None:
        return prompt, _answer_masks(segmenter, prompt, protocol, last.shape, num_objects)
    kinds = understood_prompts(segmenter)
    if kinds == {"masks"}:
        raise UserError(f"segmenter {type(segmenter).__name__}: takes masks alone (protocol=first_mask)")
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
    """Return the masks of a round in which the labels of frames are given.

    A protocol with ``following(masks)`` gives the labels of further frames of the same round.
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
    """Give a segmenter the labels of a frame and return the masks of the video that follow from them."""
    if not hasattr(segmenter, "adopt"):
        raise UserError(
            f"segmenter {type(segmenter).__name__}: takes no masks (it has no method adopt), "
            "and this protocol gives masks"
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
        UserError: the call fails, or the masks are not labels of the right kind; the message names the
            segmenter.
    """
    name = f"segmenter {type(segmenter).__name__}: {verb} on frame {frame}"
    return _checked(
        _call(segmenter, verb, f"{verb} on frame {frame}", frame, prompts), name, shape, num_objects
    )


def _checked(masks: typing.Any, name: str, shape: tuple[int, ...], num_objects: int) -> NDArray[np.uint8]:
    """Return masks after checking their shape, type and values; ``name`` says whose they are."""
    if not isinstance(masks, np.ndarray):
        raise UserError(f"{name} returned {type(masks).__name__}, not an array of labels")
    if masks.shape != shape:
        raise UserError(f"{name} returned masks {list(masks.shape)}, {list(shape)} are needed")
    if masks.dtype.kind == "f" and not np.isfinite(masks).all():
        raise UserError(f"{name} returned masks with NaN or infinity")
    if masks.dtype != np.uint8:
        raise UserError(f"{name} returned masks of {masks.dtype}, uint8 is needed")
    if masks.size and masks.max() > num_objects:
        raise UserError(f"{name} returned object {masks.max()}, and there are {num_objects}")
    return masks


def _call(segmenter: Segmenter, verb: str, what: str, *arguments: typing.Any) -> typing.Any:
    """Call a segmenter's method.

    Raises:
        UserError: the method fails; the message is one line that names the segmenter.
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
