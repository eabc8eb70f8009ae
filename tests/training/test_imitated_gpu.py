"""Losses of the stages on an imitated GPU, which refuses operations on tensors of both devices."""

import functools

import pytest
import torch

from ivos.training.losses import SegmentationLoss
from ivos.training.stages import ANetStage, JointStage, TNetStage
from tests.support import two
from tests.support.imitated_gpu import GPU, imitated_gpu

STAGES = [
    (ANetStage, {"feedback_rounds": 1}, 1),
    (TNetStage, {"global_weight": 0.3}, 3),
    # A second round indexes by a list, for which PyTorch needs the driver of a GPU.
    (JointStage, {"rounds": 1, "global_weight": 0.3}, 3),
]


def losses(kind, settings, batch, device):
    """Return the loss and the metrics of a batch in mixed precision, as floats."""
    adam, loss = functools.partial(torch.optim.Adam, lr=1e-3), SegmentationLoss(dice=0.5, hard=0.5)
    network = two.no_dropout(two.tiny_network()).to(device)
    stage = kind(network, optimizer=adam, loss=loss, **settings).train()
    there = {key: v.to(device) if isinstance(v, torch.Tensor) else v for key, v in batch.items()}
    with torch.autocast(device.type, torch.bfloat16):
        total, metrics = stage.losses(there)
    assert all(value.device == device for value in (total, *metrics.values()))
    return [total.item(), *(value.item() for value in metrics.values())]


@pytest.mark.parametrize(("kind", "settings", "num_frames"), STAGES)
def test_the_losses_on_a_gpu_are_those_of_a_cpu(kind, settings, num_frames, make_batch):
    batch = make_batch(num_frames)
    expected = losses(kind, settings, batch, torch.device("cpu"))
    with imitated_gpu():
        found = losses(kind, settings, batch, GPU)
    assert found == pytest.approx(expected, rel=0.05, abs=0.02)
