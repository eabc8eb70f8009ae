"""Validation by short interactive sessions on held-out clips, with the robot as the user."""

from dataclasses import dataclass, field

import numpy as np

from ivos.engine import Segmenter
from ivos.interaction.robot import Robot
from ivos.session import DavisProtocol, RobotUser, Round, Sample, mean_over, run_session
from ivos.video.clip import Clip


@dataclass
class SessionResult:
    """The completed rounds of a session on a clip."""

    clip: Clip
    rounds: list[Round] = field(default_factory=list)

    def metrics(self) -> dict[str, float]:
        """Return the metrics that are logged as ``val/...``: J of label masks, as DAVIS defines it.

        A pixel has the label of its most probable object if that probability exceeds 0.8, and is background
        otherwise (:func:`ivos.engine.thresholding.to_labels`). An object's mask is scored by the intersection
        over union with the true mask (:func:`ivos.metrics.jaccard`), in which void pixels count as
        background. Frames before an object's first appearance have no true mask of it and are ignored.

        ``J`` is the mean over all frames and rounds. ``J_annotated_round_N`` and ``J_propagated_round_N`` are
        J after the first and the last round N, over the frames annotated up to that round and over all other
        frames. The latter is missing if all frames have been annotated.
        """
        found = {"J": float(np.mean([mean_over(each.jaccard) for each in self.rounds]))}
        for number in sorted({1, len(self.rounds)}):
            annotated = np.zeros(len(self.clip.frames), bool)
            annotated[[each.frame for each in self.rounds[:number]]] = True
            quality = self.rounds[number - 1].jaccard
            for which, frames in (("annotated", annotated), ("propagated", ~annotated)):
                if not np.isnan(mean := mean_over(quality[frames])):
                    found[f"J_{which}_round_{number}"] = float(mean)
        return found


def metric_names(rounds: int) -> list[str]:
    """Return the names of all metrics of :meth:`SessionResult.metrics` for a number of rounds."""
    numbers = sorted({1, rounds})
    return ["J", *(f"J_{which}_round_{n}" for n in numbers for which in ("annotated", "propagated"))]


def simulate_session(
    segmenter: Segmenter, clip: Clip, rounds: int, seed: int, robot: Robot | None = None
) -> SessionResult:
    """Run a DAVIS session on a clip, scored by J and without a time limit.

    See :class:`ivos.session.DavisProtocol`.

    Args:
        segmenter: Segmenter to validate.
        clip: Video and its ground truth.
        rounds: Number of rounds.
        seed: Seed of the robot's tie-breaks, combined with the clip's name and the round.
        robot: Robot that draws the strokes; None uses default settings.
    """
    sample = Sample(clip)
    user = RobotUser(sample, robot or Robot(), seed)
    protocol = DavisProtocol(sample, user, "J", rounds, f_measure=False)
    return SessionResult(clip, list(run_session(segmenter, sample, protocol)))
