"""Validation by small interactive sessions on held-out clips, with the robot as the user."""

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

        A pixel has the label of its most probable object if that probability exceeds 0.8, and else is
        background (:func:`ivos.engine.thresholding.to_labels`). An object's mask is scored by the
        intersection over union with the true mask (:func:`ivos.metrics.jaccard`), in which void pixels count
        as background. Frames before an object appears, for which there is no true mask of it, are left out.

        ``J`` is the mean over all frames and rounds. The others are J after the first and after the last
        round, for annotated and for propagated frames separately. A propagated frame has not been annotated
        up to that round; without any, the metrics of propagated frames are left out.
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
    """Return the names of all metrics that :meth:`SessionResult.metrics` may have after so many rounds."""
    numbers = sorted({1, rounds})
    return ["J", *(f"J_{which}_round_{n}" for n in numbers for which in ("annotated", "propagated"))]


def simulate_session(
    segmenter: Segmenter, clip: Clip, rounds: int, seed: int, robot: Robot | None = None
) -> SessionResult:
    """Run a DAVIS session on a clip, scored by J and without a time limit.

    See :class:`ivos.session.DavisProtocol`.

    Args:
        segmenter: the segmenter to validate.
        clip: the video and its ground truth.
        rounds: number of rounds.
        seed: seed of the robot's tie-breaks, combined with the clip's name and the round.
        robot: draws the strokes; None for the robot with default settings.
    """
    sample = Sample(clip)
    user = RobotUser(sample, robot or Robot(), seed)
    protocol = DavisProtocol(sample, user, "J", rounds, f_measure=False)
    return SessionResult(clip, list(run_session(segmenter, sample, protocol)))
