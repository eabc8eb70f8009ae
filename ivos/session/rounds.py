"""The interactive session: ask, segment, score, ask again.

:func:`run_session` is the one loop of it. What is asked, how masks are scored and when a session ends is a
:class:`Protocol`'s; what masks are drawn is a :class:`ivos.engine.Segmenter`'s.
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
from ivos.interaction.clicks import translate, understood_prompts
from ivos.runtime.errors import UserError
from ivos.session.sample import Sample

log = logging.getLogger(__name__)


class Prompt(NamedTuple):
    """What a user draws in a round."""

    frame: int
    strokes: Sequence[StrokeOrClick]  # all on that frame; empty where there is nothing to correct


class Scores(NamedTuple):
    """How good the masks of a video are; NaN where an object's place on a frame is not known."""

    jaccard: NDArray[np.float64]  # [T, N]
    f_measure: NDArray[np.float64] | None = None  # [T, N]; None where the protocol does not measure it


@dataclass(frozen=True, eq=False)
class Round:
    """A round of a session, scored.

    Attributes:
        number: from 1.
        frame: the one that was asked about.
        strokes: on it, or clicks; none where there was nothing to correct: the masks are then those of the
            round before.
        masks: labels of the whole video, uint8 [T, h, w], after the round.
        jaccard: J of the masks, float64 [T, N]; NaN where an object's place on a frame is not known.
        f_measure: F, likewise; None where the protocol does not measure it.
        seconds: that the segmenter took, in round 1 with what it does once for a video.
    """

    number: int
    frame: int
    strokes: Sequence[StrokeOrClick]
    masks: NDArray[np.uint8]
    jaccard: NDArray[np.float64]
    f_measure: NDArray[np.float64] | None
    seconds: float


class Protocol(typing.Protocol):
    """A session's course on one sample; it is made for that sample, and remembers what it has asked."""

    @property
    def max_rounds(self) -> int:
        """Rounds, at most."""

    @property
    def max_seconds(self) -> float | None:
        """Seconds for all of them, scoring and asking included; None for no limit."""

    def first(self) -> Prompt:
        """What the first round begins with."""

    def score(self, masks: NDArray[np.uint8]) -> Scores:
        """Score the masks [T, h, w] of a round."""

    def next(self, last: Round) -> Prompt | None:
        """What the round after this one begins with; None to end the session."""


def run_session(segmenter: Segmenter, sample: Sample, protocol: Protocol) -> Iterator[Round]:
    """Run a session on one sample.

    Time is that of a monotonic clock. As in davisinteractive, masks that come after the limit are not scored
    and end the session; so does a limit that is passed by scoring or asking. What happens between a round's
    being yielded and the next one's being asked for counts for nothing.

    Args:
        segmenter: what draws the masks.
        sample: decoded (:meth:`Sample.decoded`).
        protocol: what asks and scores, made for this sample.

    Yields:
        each round, as soon as it is scored.
    """
    clip, limit = sample.clip, protocol.max_seconds or np.inf
    masks = np.zeros(clip.labels.shape, np.uint8)
    began = monotonic()
    prompt: Prompt | None = protocol.first()
    for number in range(1, protocol.max_rounds + 1):
        if prompt is None or monotonic() - began > limit:
            return
        asked = monotonic()
        if number == 1:
            _call(segmenter, "start", f"start of {clip.name}", clip.frames, clip.num_objects)
        if prompt.strokes:
            prompt, masks = _answer(segmenter, prompt, protocol, masks, clip.num_objects)
        answered = monotonic()
        if answered - began > limit:
            return
        scored = Round(number, *prompt, masks, *protocol.score(masks), answered - asked)
        prompt = protocol.next(scored) if number < protocol.max_rounds else None
        paused = monotonic()
        yield scored
        began += monotonic() - paused


def _answer(
    segmenter: Segmenter, prompt: Prompt, protocol: Protocol, last: NDArray[np.uint8], num_objects: int
) -> tuple[Prompt, NDArray[np.uint8]]:
    """A round's masks, with all that the user has drawn in it.

    A protocol with ``refine(prompt, mask)`` adds to the prompt on seeing what the frame's mask has become. A
    segmenter with ``preview`` shows it at once, another one segments the whole video each time. A protocol
    with ``accept(masks, frame)`` says which of the new masks count.
    """
    frame, drawn = prompt.frame, list(prompt.strokes)
    kinds = understood_prompts(segmenter)
    refine, accept = getattr(protocol, "refine", None), getattr(protocol, "accept", None)

    def ask(verb: str, prompts: list[StrokeOrClick], shape: tuple[int, ...]) -> NDArray[np.uint8]:
        return _ask(segmenter, verb, frame, translate(prompts, kinds), shape, num_objects)

    if refine is not None and hasattr(segmenter, "preview"):
        while more := refine(Prompt(frame, drawn), ask("preview", drawn, last.shape[1:])):
            drawn += more.strokes
    masks = ask("interact", drawn, last.shape)
    if refine is not None:
        while more := refine(Prompt(frame, drawn), masks[frame]):
            masks = ask("interact", list(more.strokes), last.shape)
            drawn += more.strokes
    return Prompt(frame, drawn), masks if accept is None else accept(masks, frame)


def _ask(
    segmenter: Segmenter,
    verb: str,
    frame: int,
    prompts: Sequence[typing.Any],
    shape: tuple[int, ...],
    num_objects: int,
) -> NDArray[np.uint8]:
    """Masks of a segmenter, if they are what it owes.

    Raises:
        UserError: it fails, or they are no labels of the right kind; the message names the segmenter.
    """
    name = f"segmenter {type(segmenter).__name__}: {verb} on frame {frame}"
    masks = _call(segmenter, verb, f"{verb} on frame {frame}", frame, prompts)
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
        UserError: it fails, in one line that names the segmenter.
    """
    try:
        return getattr(segmenter, verb)(*arguments)
    except UserError:
        raise
    except Exception as error:
        name = f"segmenter {type(segmenter).__name__}: {what}"
        log.exception("%s failed", name)  # with its traceback, in the run's log
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{name} failed: {reason}") from error
