"""Tests of how T-Net gets the frames of a batch."""

import pytest
import torch

from ivos.networks import affinity
from ivos.training.losses import global_transfer_loss
from ivos.training.propagation import Propagation


def looked_up(propagation, frame):
    """An object's features as plain indexing of the whole sequences gives them."""
    frames = propagation.batch["frames"]
    features = propagation.network.tnet.features(propagation.network.normalise(frames).flatten(0, 1))
    image = propagation.batch["image"]
    return {
        name: value.unflatten(0, frames.shape[:2])[image, frame] for name, value in vars(features).items()
    }


@pytest.fixture
def batch(make_batch):
    """Of more objects than samples."""
    return with_objects(make_batch(3), [0, 0, 1, 2, 3, 3])


def with_objects(batch, image):
    """The samples' objects, repeated."""
    first = [batch["image"].tolist().index(sample) for sample in image]
    chosen = {name: batch[name][first] for name in ("masks", "interaction")}
    return {**batch, **chosen, "image": torch.tensor(image)}


@pytest.mark.parametrize("single", [False, True], ids=["objects", "one object each"])
def test_features_and_their_gradients_are_those_of_plain_indexing(network, batch, single):
    batch = with_objects(batch, [0, 1, 2, 3]) if single else batch
    network.eval()
    weights = [p for p in network.tnet.parameters() if p.requires_grad]

    def gradient(features_of):
        total = 0
        for frame in range(3):
            for number, value in enumerate(features_of(frame)):
                total = total + (value * (number + frame + 1)).sin().sum()
        return torch.autograd.grad(total, weights, allow_unused=True)

    propagation = Propagation(network, batch)
    for frame in range(3):
        for name, value in looked_up(propagation, frame).items():
            torch.testing.assert_close(getattr(propagation.features(frame), name), value, msg=name)
    found = gradient(lambda frame: vars(propagation.features(frame)).values())
    expected = gradient(lambda frame: looked_up(propagation, frame).values())
    assert any(one is not None and one.abs().max() > 0 for one in expected)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_no_look_up_goes_to_the_whole_sequence(network, batch):
    """Every indexing of all frames would hand back a gradient as large as all frames."""
    network.eval()
    nodes, seen = [Propagation(network, batch).features(1).r5.grad_fn], {}
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen[node] = node.name()
            nodes += [above for above, _ in node.next_functions]
    names = set(seen.values())
    assert "IndexSelectBackward0" in names
    assert "UnbindBackward0" in names
    assert "IndexBackward0" not in names


def test_what_is_come_from_is_looked_up_for_the_local_transfer_only(network, batch):
    network.eval()
    propagation = Propagation(network, batch)
    source = propagation.source(0)
    assert len(source.local) == len(batch["image"])
    assert len(source.r5) == len(batch["frames"])
    logits, objects = propagation.annotate(
        0, torch.zeros(len(batch["image"]), 3, *batch["frames"].shape[-2:])
    )
    plain = network.tnet(
        propagation.features(1), propagation.features(0), logits.sigmoid(),
        propagation.features(0).r5[:, None], objects[:, None],
    )[0]  # fmt: skip
    _, found, _ = next(iter(Propagation(network, batch).propagate(0, logits.sigmoid(), [1], [0], [objects])))
    torch.testing.assert_close(found, plain)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_global_error_is_of_every_object_in_float32(network, batch, precision):
    network.eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision != torch.float32):
        propagation = Propagation(network, batch)
        found = propagation.global_error(2, [0, 1])
        keys = [propagation.features(frame).r5 for frame in range(3)]
    errors = [
        global_transfer_loss(affinity(keys[frame], keys[2]), batch["masks"][:, frame], batch["masks"][:, 2])
        for frame in (0, 1)
    ]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.stack(errors).mean(), rtol=1e-5, atol=1e-6)
