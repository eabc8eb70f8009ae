"""The simulated rounds of a session on a batch of mini-sequences, for joint training of both networks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ivos.data.batches import Batch
from ivos.engine import plan_round
from ivos.interaction.simulate import SimulatedUser
from ivos.training import distributed
from ivos.training.losses import iou, mean
from ivos.training.stages.base import Stage

Annotate = Callable[[int, Tensor], Tensor]
"""Runs A-Net: index of the frame and interaction channels [M, 3, H, W] to logits [M, 1, H, W]."""
Propagate = Callable[[int, Sequence[int], dict[int, Tensor]], Iterator[tuple[int, Tensor]]]
"""Runs T-Net from frame to frame.

The arguments are the index of the frame annotated in this round, the indices of the target frames in order,
and the probabilities [M, 1, H, W] of all annotated frames by index, in the order of annotation. Yields the
index of each target frame and its logits [M, 1, H, W].
"""


@dataclass
class RoundLosses:
    """Losses of the simulated rounds of a batch.

    Attributes:
        annotation: Loss of A-Net in each round.
        propagation: Loss of T-Net in each frame that a round propagates to.
        metrics: Mean IoU of all frames after each round, by name, at a threshold of 0.5 as in all stages.
    """

    annotation: list[Tensor] = field(default_factory=list)
    propagation: list[Tensor] = field(default_factory=list)
    metrics: dict[str, Tensor] = field(default_factory=dict)

    def total(self) -> Tensor:
        """Return the mean loss of A-Net plus the mean loss of T-Net."""
        return mean(self.annotation) + mean(self.propagation)


def simulate_rounds(
    stage: Stage,
    batch: Batch,
    rounds: int,
    user: SimulatedUser,
    threshold: float,
    annotate: Annotate,
    propagate: Propagate,
) -> RoundLosses:
    """Run the rounds of a session on a batch of mini-sequences, and compute the loss of each step.

    In each round after the first, a simulated user corrects the frame with the lowest mean IoU in the batch
    of all processes. The new masks are blended into those of earlier rounds as in the engine. The gradient
    passes through no mask of an annotated frame and through no blended mask.

    Args:
        stage: Stage that is trained; provides the loss, the simulated users' processes and their randomness.
        batch: The mini-sequences, of T frames, with the interaction on frame 0.
        rounds: Number of rounds; there are at most T.
        user: Simulated user of all rounds after the first.
        threshold: Probability above which the simulated user sees a pixel as part of an object.
        annotate: Runs A-Net.
        propagate: Runs T-Net; called twice in each round, for the frames before and after the annotated one.
    """
    masks, interaction, frame = batch["masks"], batch["interaction"], 0
    rngs, found, annotated = stage.randomness(batch), RoundLosses(), list[int]()
    state = torch.zeros(masks.shape, device=masks.device)  # blended probabilities [M, T, 1, H, W]
    for number in range(1, min(rounds, masks.shape[1]) + 1):
        if annotated:
            frame = worst_frame(state > threshold, masks, annotated)
            channels = torch.zeros_like(interaction)  # the frame has no strokes yet
            faulty = state[:, frame] > threshold
            interaction = stage.users.correct(user, faulty, masks[:, frame], channels, rngs)
        plan = plan_round(frame, annotated, masks.shape[1])
        logits = annotate(frame, interaction)
        found.annotation.append(stage.loss(logits, masks[:, frame]))
        state[:, frame] = logits.detach().float().sigmoid()
        annotated.append(frame)
        known = {one: state[:, one].clone() for one in annotated}  # copies, because `state` changes in place
        for targets in (plan.backward, plan.forward):
            for target, logits in propagate(frame, targets, known):
                found.propagation.append(stage.loss(logits, masks[:, target]))
                plan.blend(target, state[:, target], logits.detach().float().sigmoid())
        quality = iou(state.flatten(0, 1) > 0.5, masks.flatten(0, 1))
        found.metrics[f"iou_round_{number}"] = quality.mean()
    return found


def worst_frame(predicted: Tensor, masks: Tensor, annotated: list[int]) -> int:
    """Return the frame with the lowest mean IoU over all processes that has not been annotated yet.

    Args:
        predicted: Predicted masks of this process, bool [M, T, 1, H, W].
        masks: True masks of this process, uint8 [M, T, 1, H, W].
        annotated: Frames annotated so far.
    """
    quality = iou(predicted.flatten(0, 1), masks.flatten(0, 1))
    total = distributed.gather(quality.view(masks.shape[:2]).sum(0)).sum(0)
    total[annotated] = torch.inf
    return int(total.argmin())
