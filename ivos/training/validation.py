"""Validation: small interactive sessions on held-out clips, driven by the robot."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ivos.engine import Segmenter
from ivos.interaction import Stroke
from ivos.interaction.robot import Robot
from ivos.interaction.samples import Clip
from ivos.metrics import GroundTruth


@dataclass
class Round:
    """What happened in a round."""

    frame: int
    strokes: list[Stroke]
    masks: NDArray[np.uint8]  # [T, h, w], after it
    jaccard: NDArray[np.float64]  # [T, N], after it


@dataclass
class SessionResult:
    """A session on a clip."""

    clip: Clip
    rounds: list[Round] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """J after the first and after the last round, of annotated and of propagated frames apart.

        ``J`` is the mean over all frames and rounds. Propagated frames are those never annotated up to that
        round; where there are none, their figures are left out.
        """
        figures = {"J": float(np.mean([each.jaccard.mean() for each in self.rounds]))}
        for number in sorted({1, len(self.rounds)}):
            annotated = np.zeros(len(self.clip.frames), bool)
            annotated[[each.frame for each in self.rounds[:number]]] = True
            quality = self.rounds[number - 1].jaccard
            figures[f"J_annotated_round_{number}"] = float(quality[annotated].mean())
            if not annotated.all():
                figures[f"J_propagated_round_{number}"] = float(quality[~annotated].mean())
        return figures


def figure_names(rounds: int) -> list[str]:
    """All that :meth:`SessionResult.figures` may hold after that many rounds."""
    numbers = sorted({1, rounds})
    return ["J", *(f"J_{which}_round_{n}" for n in numbers for which in ("annotated", "propagated"))]


def simulate_session(segmenter: Segmenter, clip: Clip, rounds: int, seed: int) -> SessionResult:
    """Annotate the first frame, then in each round the worst frame that has had the fewest rounds.

    Args:
        segmenter: what is judged.
        clip: the video and its ground truth.
        rounds: how many at most; the session ends early when there is nothing left to correct.
        seed: of the robot's tie-breaks, together with the clip's name and the round.
    """
    robot, result = Robot(), SessionResult(clip)
    truth = GroundTruth(clip.labels, clip.num_objects)
    masks, frame = np.zeros_like(clip.labels), clip.first_frame
    visits = np.zeros(len(clip.frames), int)
    segmenter.start(clip.frames, clip.num_objects)
    for number in range(rounds):
        strokes = robot.strokes(masks[frame], clip.labels[frame], clip.num_objects, (seed, clip.name, number))
        if strokes:  # else the round repeats the masks
            masks = segmenter.interact(frame, strokes)
        quality = truth.jaccard(masks)
        result.rounds.append(Round(frame, strokes, masks, quality))
        visits[frame] += 1
        frame = int(np.lexsort((quality.mean(1), visits))[0])
    return result
