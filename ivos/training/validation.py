"""Validation: small interactive sessions on held-out clips, driven by the robot."""

from dataclasses import dataclass, field

import numpy as np

from ivos.engine import Segmenter
from ivos.interaction.robot import Robot
from ivos.session import DavisProtocol, RobotUser, Round, Sample, mean_over, run_session
from ivos.video.clip import Clip


@dataclass
class SessionResult:
    """A session on a clip."""

    clip: Clip
    rounds: list[Round] = field(default_factory=list)

    def metrics(self) -> dict[str, float]:
        """What is logged as ``val/...``: J as DAVIS defines it, of label masks.

        That is: a pixel goes to its most probable object where that probability exceeds 0.8, else to the
        background (:func:`ivos.engine.thresholding.to_labels`), an object's mask is scored by intersection
        over union with the true one (:func:`ivos.metrics.jaccard`), and what the truth leaves void counts as
        background. Frames before an object's begin, on which nothing is known of it, are left out.

        ``J`` is the mean over all frames and rounds. The others are J after the first and after the last
        round, of annotated and of propagated frames apart. Propagated frames are those never annotated up to
        that round; where there are none, their metrics are left out.
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
    """All that :meth:`SessionResult.metrics` may hold after that many rounds."""
    numbers = sorted({1, rounds})
    return ["J", *(f"J_{which}_round_{n}" for n in numbers for which in ("annotated", "propagated"))]


def simulate_session(
    segmenter: Segmenter, clip: Clip, rounds: int, seed: int, robot: Robot | None = None
) -> SessionResult:
    """A DAVIS session on a clip, on J and without a limit of time; see :class:`ivos.session.DavisProtocol`.

    Args:
        segmenter: what is judged.
        clip: the video and its ground truth.
        rounds: how many.
        seed: of the robot's tie-breaks, together with the clip's name and the round.
        robot: what draws; None: with its default numbers.
    """
    sample = Sample(clip)
    user = RobotUser(sample, robot or Robot(), seed)
    protocol = DavisProtocol(sample, user, "J", rounds, f_measure=False)
    return SessionResult(clip, list(run_session(segmenter, sample, protocol)))
