"""Losses of A-Net and T-Net."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ivos.networks.decoder import resize
from ivos.runtime.options import Share, number
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.video.labels import VOID


@accept_former_keywords(balance="class_balance")
class SegmentationLoss(nn.Module):
    """Class-balanced cross-entropy, with optional Dice loss and loss of the hardest pixels.

    The weight of a class in a mask is (pixels / pixels of the class) to the power of `class_balance`. The
    weighted mean is taken over each mask, then the mean over the masks. With `class_balance` 1, object and
    background have the same total weight for any object size, as in the paper; with 0, every pixel has the
    same weight. For a mask with only one class, the loss is the mean over that class; a mask of void pixels
    only contributes 0.

    Args:
        class_balance: Exponent of the class weights, 0 to 1.
        dice: Weight of the soft Dice loss (0 in the paper).
        hard: Weight of the mean cross-entropy over the eighth of each mask's pixels with the largest
            cross-entropy (0 in the paper).
    """

    def __init__(
        self, class_balance: Share = 1.0, dice: Annotated[float, number(0)] = 0.0, hard: float = 0.0
    ) -> None:
        super().__init__()
        self.class_balance = class_balance
        self.dice = dice
        self.hard = hard

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            logits: Predicted logits [M, 1, H, W].
            masks: True masks, uint8 [M, 1, H, W] (0, 1, 255 void).
        """
        logits, masks = logits.float().flatten(1), masks.flatten(1)
        valid = (masks != VOID).float()
        truth = (masks == 1).float()
        positives = truth.sum(1, keepdim=True)
        pixels = valid.sum(1, keepdim=True)
        share = torch.where(masks == 1, positives, pixels - positives) / pixels.clamp(min=1)
        weight = valid * share.clamp(min=1e-8) ** -self.class_balance
        each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        loss = ((weight * each).sum(1) / weight.sum(1).clamp(min=1)).mean()
        if self.hard:
            loss = loss + self.hard * (valid * each).topk(max(1, each.shape[1] // 8), dim=1).values.mean()
        if self.dice:
            loss = loss + self.dice * dice_loss(logits.sigmoid() * valid, truth)
        return loss


def dice_loss(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Return the soft Dice loss (Milletari et al., 2016) of probabilities and masks [M, P].

    Numerator and denominator are smoothed by one pixel.
    """
    overlap = 2 * (probabilities * truth).sum(1) + 1
    return (1 - overlap / (probabilities.square().sum(1) + truth.sum(1) + 1)).mean()


def local_transfer_loss(local: Tensor, masks: Tensor) -> Tensor:
    """Return the mean squared error between the local transfer and the masks reduced to its size.

    Pixels of a reduced mask to which a void pixel contributes are ignored. The mean is taken over each mask,
    then over the masks, as in :class:`SegmentationLoss`; a mask of void pixels only contributes 0.

    Args:
        local: The local transfer [M, 1, h, w].
        masks: True masks, uint8 [M, 1, H, W] (0, 1, 255 void).
    """
    valid = (resize((masks != VOID).float(), local.shape[-2:]) == 1).flatten(1)
    small = resize((masks == 1).float(), local.shape[-2:])
    error = (local.float() - small).square().flatten(1)
    return ((error * valid).sum(1) / valid.sum(1).clamp(min=1)).mean()


def global_transfer_loss(weights: Tensor, masks: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy of the annotated frame's masks, transferred by the global transfer's weights.

    Every position of the target frame takes the mean of the annotated frame's mask, weighted by the global
    transfer. This loss trains r5 to match corresponding positions, which it does not learn through the
    decoder alone.

    Args:
        weights: Affinity (:func:`ivos.networks.affinity`) for each mask [M, h w, h w].
        masks: Masks of the annotated frame, uint8 [M, 1, H, W] (0, 1, 255 void).
        target: Masks of the target frame, uint8 [M, 1, H, W]; positions that contain a void pixel are
            ignored.
    """
    height, width = masks.shape[-2:]
    side = round((height * width / weights.shape[-1]) ** 0.5)
    size = (height // side, width // side)
    given = F.adaptive_avg_pool2d((masks == 1).float(), size).flatten(1)
    wanted = F.adaptive_avg_pool2d((target == 1).float(), size).flatten(1)
    valid = (F.adaptive_max_pool2d((target == VOID).float(), size) == 0).flatten(1)
    moved = (given[:, None] @ weights.float()).squeeze(1)
    share = (moved / (weights.float().sum(1) + 1e-4)).clamp(1e-4, 1 - 1e-4)
    each = F.binary_cross_entropy(share, wanted, reduction="none") * valid
    return each.sum(1).mean() / valid.shape[1]


def iou(predicted: Tensor, masks: Tensor) -> Tensor:
    """Return the intersection over union of predicted and true masks [M].

    This is the metric of training steps: objects are evaluated independently, void pixels are ignored, and
    two empty masks have IoU 1. Validation and sessions use J of label maps (:mod:`ivos.metrics`) instead.

    Args:
        predicted: Predicted masks, bool [M, 1, H, W].
        masks: True masks, uint8 [M, 1, H, W] (0, 1, 255 void).
    """
    valid = masks != VOID
    predicted, truth = predicted & valid, (masks == 1) & valid
    intersection = (predicted & truth).flatten(1).sum(1).float()
    union = (predicted | truth).flatten(1).sum(1).float()
    return torch.where(union == 0, 1.0, intersection / union.clamp(min=1))


def mean(values: list[Tensor]) -> Tensor:
    """Return the mean of scalars, or 0 for an empty list."""
    return torch.stack(values).mean() if values else torch.zeros(())
