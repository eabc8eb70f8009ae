"""Tests that the similarities of the global transfer are exact in every precision of the network."""

import pytest
import torch

from ivos.networks import affinity, global_transfer, readout


@pytest.fixture
def features():
    """Of two frames: dot products in the thousands that differ by little, as a trained network's."""
    generator = torch.Generator().manual_seed(3)
    common = 5 * torch.randn(64, 1, 1, generator=generator)
    first, second = common + 0.1 * torch.randn(2, 2, 64, 6, 7, generator=generator)
    return first, second


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_it_float32(features, dtype):
    products = features[0].flatten(2).transpose(1, 2) @ features[1].flatten(2)
    assert products.max() > 1000
    plain = affinity(*features)
    with torch.autocast("cpu", dtype):
        found = affinity(*features)
    assert found.dtype == torch.float32
    assert torch.equal(found, plain)
    rounded = torch.softmax(products.to(torch.bfloat16).float(), 2)  # what autocast would make of it
    assert (rounded - plain).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_features_are_multiplied_in_float32(features, dtype):
    first, second = (one.to(dtype) for one in features)
    found = affinity(first, second)
    assert torch.equal(found, affinity(first.float(), second.float()))
    values = torch.randn(4, 16, 6, 7).to(dtype)
    moved = readout(values, found)
    assert moved.dtype == dtype
    torch.testing.assert_close(moved.float(), readout(values.float(), found), rtol=2e-2, atol=2e-2)


def test_float64_stays(features):
    first, second = (one.double() for one in features)
    assert affinity(first, second).dtype == torch.float64
    moved = global_transfer(first[:, None], torch.randn(4, 1, 16, 6, 7).double(), second)
    assert moved.dtype == torch.float64


def test_gradient_under_autocast_is_that_of_float32(features):
    def gradient(enabled):
        first, second = (one.clone().requires_grad_() for one in features)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            weights = affinity(first, second)
        return torch.autograd.grad((weights * torch.arange(42)).sum(), (first, second))

    for one, other in zip(gradient(True), gradient(False), strict=True):
        assert other.abs().max() > 0
        assert torch.equal(one, other)
