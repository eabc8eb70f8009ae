"""Tests of the losses against their formulas on small arrays."""

import math

import pytest
import torch

from ivos.training.losses import SegmentationLoss, iou, local_transfer_loss


def masks(*rows):
    return torch.tensor(rows, dtype=torch.uint8).view(len(rows), 1, 1, -1)


def test_balanced_classes_count_the_same():
    logits = torch.tensor([2.0, -1.0, -1.0, -1.0]).view(1, 1, 1, 4)
    found = SegmentationLoss(class_balance=1)(logits, masks([1, 0, 0, 0]))
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_without_balance_every_pixel_counts_the_same():
    logits = torch.tensor([2.0, -1.0, -1.0, -1.0]).view(1, 1, 1, 4)
    found = SegmentationLoss(class_balance=0)(logits, masks([1, 0, 0, 0]))
    expected = (math.log1p(math.exp(-2)) + 3 * math.log1p(math.exp(-1))) / 4
    assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("class_balance", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dice", [0.0, 0.5])
def test_void_counts_for_nothing(class_balance, dice):
    logits = torch.tensor([2.0, -1.0, 0.5, 3.0]).view(1, 1, 1, 4).requires_grad_()
    loss = SegmentationLoss(class_balance, dice)
    loss(logits, masks([1, 0, 0, 255])).backward()
    assert logits.grad.flatten()[3] == 0
    assert (logits.grad.flatten()[:3] != 0).all()
    short = loss(logits[..., :3], masks([1, 0, 0]))
    assert loss(logits, masks([1, 0, 0, 255])).item() == pytest.approx(short.item(), abs=1e-6)


def test_masks_without_objects_or_all_void_are_fine():
    logits = torch.zeros(2, 1, 1, 4, requires_grad=True)
    loss = SegmentationLoss(1.0, 0.5)(logits, masks([0, 0, 0, 0], [255, 255, 255, 255]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    assert (logits.grad[0] > 0).all()
    assert not logits.grad[1].any()


def test_the_local_loss_is_the_mean_square_at_a_quarter_of_the_size():
    truth = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    assert local_transfer_loss(torch.full((1, 1, 2, 2), 0.5), truth).item() == pytest.approx(0.25)
    truth[..., 0, 0] = 255  # reaches one of the four
    local = torch.tensor([[100.0, 0.5], [0.5, 0.5]]).view(1, 1, 2, 2)
    assert local_transfer_loss(local, truth).item() == pytest.approx(0.25)


def test_iou_of_each_mask_leaves_void_out():
    logits = torch.tensor([[5.0, 5, -5, 5], [-5, -5, -5, -5]]).view(2, 1, 1, 4)
    assert iou(logits > 0, masks([1, 0, 1, 255], [0, 0, 0, 0])).tolist() == pytest.approx([1 / 3, 1])
