"""Tests of the networks on frozen features: stroke maps, memory read, label propagation."""

import pytest
import torch

from ivos.networks import load
from ivos.networks.atnet import create_network
from ivos.networks.memory import (
    RADIUS,
    TEMPERATURE,
    TOP_K,
    MemoryATNet,
    others_of,
    read,
    stroke_maps,
)
from ivos.runtime.errors import UserError


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return MemoryATNet().eval()


def unit(*shape):
    return torch.nn.functional.normalize(torch.randn(*shape), dim=1)


def test_stroke_maps_against_loops():
    torch.manual_seed(0)
    key = unit(1, 6, 4, 5)[0]
    strokes = torch.zeros(2, 2, 4, 5, dtype=torch.bool)
    strokes[0, 0, 1, 2] = strokes[0, 0, 3, 4] = strokes[0, 1, 0, 0] = True
    maps = stroke_maps(key, strokes[:, 0], strokes[:, 1])
    assert maps.shape == (2, 8, 4, 5)
    assert not maps[1].any()  # an object without strokes
    for row in range(4):
        for column in range(5):
            to = [(1, 2), (3, 4)]
            cosines = [float(key[:, row, column] @ key[:, y, x]) for y, x in to]
            distances = [((row - y) ** 2 + (column - x) ** 2) ** 0.5 / 4 for y, x in to]
            expected = [max(cosines), max(c - d for c, d in zip(cosines, distances, strict=True))]
            expected[1] = max(expected[1], -1)
            expected += [float(torch.exp(torch.tensor(-4 * min(distances)))), 1.0]
            torch.testing.assert_close(maps[0, :4, row, column], torch.tensor(expected))


def test_the_read_against_loops():
    torch.manual_seed(0)
    height, width = 3, 2 * RADIUS + 4
    target, keys = unit(1, 4, height, width), [unit(1, 4, height, width) for _ in range(2)]
    values = [torch.rand(2, 3, height, width) for _ in range(2)]
    found = read(target, keys, values)
    assert found.shape == (2, 4, height, width)
    for row, column in [(0, 0), (2, width - 1), (1, RADIUS + 1)]:
        near = [
            (float(target[0, :, row, column] @ key[0, :, y, x]), value[:, :, y, x])
            for key, value in zip(keys, values, strict=True)
            for y in range(height)
            for x in range(width)
            if abs(x - column) <= RADIUS and abs(y - row) <= RADIUS
        ]
        best = sorted(near, key=lambda pair: -pair[0])[:TOP_K]
        weights = torch.softmax(torch.tensor([similarity for similarity, _ in best]) / TEMPERATURE, 0)
        expected = sum(w * value for w, (_, value) in zip(weights, best, strict=True))
        torch.testing.assert_close(found[:, :3, row, column], expected)
        torch.testing.assert_close(found[:, 3, row, column], torch.full((2,), best[0][0]))


@torch.no_grad()
def test_t_net_reads_all_frames_and_the_annotated_ones(network, monkeypatch):
    """Both reads share their similarities; each equals a read of its own frames alone."""
    torch.manual_seed(1)
    images = torch.rand(4, 3, 64, 96)
    features = network.features(images)
    each = [type(features)(*(v[i : i + 1] for v in vars(features).values())) for i in range(4)]
    masks = torch.rand(4, 2, 1, 32, 48)
    memory = [
        network.tnet.remember(one, mask, others_of(mask, 1)) for one, mask in zip(each, masks, strict=True)
    ]
    given = []
    monkeypatch.setattr(network.tnet, "decode", lambda *arguments: given.append(arguments))
    network.tnet(each[0], each[3], masks[3], memory[1:3], memory[3:])
    network.tnet(each[0], each[2], masks[2], memory[1:3], [])
    for (_, all_read, of_annotated, _), frames in zip(given, (memory[1:], memory[1:3]), strict=True):
        for found, chosen in ((all_read, frames), (of_annotated, memory[1:3])):
            expected = read(each[0].key, [f.key for f in chosen], [f.values() for f in chosen])
            torch.testing.assert_close(found, expected)


def test_others_of_takes_the_strongest_other_object_of_the_same_image():
    maps = torch.tensor([0.2, 0.7, 0.5, 0.1, 0.9, 0.3]).view(6, 1, 1, 1)
    assert others_of(maps, 2).flatten().tolist() == pytest.approx([0.7, 0.5, 0.7, 0.9, 0.3, 0.9])
    assert not others_of(maps[:2], 2).any()


@torch.no_grad()
def test_before_training_t_net_is_label_propagation(network):
    images = torch.rand(1, 3, 64, 96).repeat(2, 1, 1, 1)  # the same image twice: masks stay where they are
    features = network.features(images)
    first, second = (type(features)(*(v[i : i + 1] for v in vars(features).values())) for i in range(2))
    mask = torch.zeros(2, 1, 32, 48)
    mask[0, :, 8:24, 8:24] = 1
    mask[1, :, 8:24, 24:40] = 1
    memory = network.tnet.remember(first, mask, others_of(mask, 1))
    logits, propagated = network.tnet(second, first, mask, [memory], [])
    assert logits.shape == mask.shape
    torch.testing.assert_close(logits, torch.logit(propagated.clamp(0.02, 0.98)))
    assert float(((propagated > 0.5).float() - mask).abs().mean()) < 0.05


@torch.no_grad()
def test_a_net_gives_logits_at_half_the_size_for_objects_of_several_images(network):
    features = network.features(torch.rand(2, 3, 64, 96))
    interaction = torch.zeros(6, 3, 64, 96)
    interaction[:, 0] = 0.5
    interaction[:, 1, 20:30, 20:30] = 1
    logits = network.anet(features, interaction)
    assert logits.shape == (6, 1, 32, 48)


@torch.no_grad()
def test_a_net_first_runs_at_half_the_size_for_objects_without_a_previous_mask():
    torch.manual_seed(0)
    network = MemoryATNet().eval()
    torch.nn.init.normal_(network.anet.decoder.head.weight)  # an untrained network answers 0.5 everywhere
    images, interaction = torch.rand(1, 3, 64, 96), torch.zeros(4, 3, 64, 96)
    interaction[:, 1, 20:40, 30:33] = 1  # positive strokes of all objects but the last
    interaction[:, 2, 8, 8] = 1
    interaction[3, 1] = 0
    interaction[0, 0] = 0.5  # first round; object 1 has a previous mask, object 2 has been lost
    interaction[1, 0, 16:48, 24:48] = 1
    found = network.with_coarse_masks(images, interaction)
    assert torch.equal(found[[1, 3]], interaction[[1, 3]])
    assert torch.equal(found[:, 1:], interaction[:, 1:])
    small = torch.nn.functional.max_pool2d(interaction[[0, 2]], 2)
    small[:, 0] = 0.5
    features = network.features(torch.nn.functional.avg_pool2d(images, 2))
    expected = torch.nn.functional.interpolate(
        network.anet(features, small), scale_factor=2.0, mode="bilinear"
    )
    torch.testing.assert_close(found[[0, 2], 0, ::2, ::2], expected[:, 0].sigmoid())
    torch.testing.assert_close(found[[0, 2], 0, 1::2, 1::2], expected[:, 0].sigmoid())
    per_object = network.with_coarse_masks(images.expand(4, -1, -1, -1), interaction)
    torch.testing.assert_close(per_object, found)
    assert torch.equal(network.with_coarse_masks(images, interaction[1:2]), interaction[1:2])


def test_written_and_read_again(network, tmp_path):
    network.short_side, network.flow = 240, False
    network.save(tmp_path / "memory.pt", half=True)
    again = load(tmp_path / "memory.pt")
    assert isinstance(again, MemoryATNet)
    assert (again.short_side, again.flow, again.config) == (240, False, network.config)
    assert not again.encoder.training
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again.features(image).key, network.features(image).key, atol=5e-3, rtol=0)


def test_a_kind_of_transfer_that_does_not_exist_is_one_line():
    with pytest.raises(UserError, match=r"model.transfer: 'none' is neither paper nor memory"):
        create_network("none")
