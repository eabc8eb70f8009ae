"""The networks against the outputs of the released system for the golden weights."""

import numpy as np
import pytest
import torch

from ivos.kernels import correlation, local_transfer
from ivos.networks import global_transfer


@pytest.fixture(scope="module")
def outputs(golden, golden_network):
    """Every intermediate of the golden file, computed as the released code computes it."""
    arrays = {key: torch.from_numpy(value) for key, value in golden("network").items()}
    net, found = golden_network, {}
    with torch.inference_mode():
        logits, feature = net.anet(arrays["annotated_image"], arrays["interaction"])
        _, feature_2 = net.anet(arrays["target_image"], arrays["interaction_2"])
        annotated = net.tnet.features(arrays["annotated_image"])
        target = net.tnet.features(arrays["target_image"])
        r2, r3, _, r5 = net.tnet.encoder(arrays["target_image"])
        mask = logits.sigmoid()
        found["anet_logits"], found["object_feature"] = logits, feature[:, ::64]
        found["tnet_r2"], found["tnet_r3"], found["tnet_r5"] = r2[:, ::8], r3[:, ::16], r5[:, ::64]
        found["correlation"] = correlation(target.local, annotated.local)
        found["local_transfer"] = net.tnet.local(target, annotated, mask)
        one = annotated.r5[:, None], feature[:, None]
        found["global_transfer"] = global_transfer(*one, target.r5)[:, ::64]
        found["tnet_logits_1"], _ = net.tnet(target, annotated, mask, *one)
        two = torch.stack([annotated.r5, target.r5], 1), torch.stack([feature, feature_2], 1)
        found["tnet_logits_2"], _ = net.tnet(target, annotated, mask, *two)
    return arrays, found


NAMES = [
    *("anet_logits", "object_feature", "tnet_r2", "tnet_r3", "tnet_r5"),
    *("global_transfer", "correlation", "local_transfer", "tnet_logits_1", "tnet_logits_2"),
]


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_released_system(outputs, name):
    arrays, found = outputs
    expected = arrays[name]
    assert found[name].shape == expected.shape
    difference = (found[name] - expected).abs().max() / expected.abs().max()
    assert difference < 1e-5  # the tolerance of the reference is 1e-4


def test_objects_may_come_as_a_batch_of_images(outputs, golden_network):
    """One image for both objects, or the image once per object: the same logits."""
    arrays, found = outputs
    net = golden_network
    twice = lambda x: x.repeat(2, 1, 1, 1)  # noqa: E731
    with torch.inference_mode():
        logits, feature = net.anet(twice(arrays["annotated_image"]), arrays["interaction"])
        annotated = net.tnet.features(twice(arrays["annotated_image"]))
        target = net.tnet.features(twice(arrays["target_image"]))
        out, _ = net.tnet(target, annotated, logits.sigmoid(), annotated.r5[:, None], feature[:, None])
    torch.testing.assert_close(out, found["tnet_logits_1"], atol=1e-3, rtol=1e-4)  # of a range of about 76


def test_rows_is_not_displacements(outputs, golden_network, golden):
    arrays, found = outputs
    with torch.inference_mode():
        a, t = (golden_network.tnet.features(arrays[f"{name}_image"]) for name in ("annotated", "target"))
        small = torch.nn.functional.interpolate(
            found["anet_logits"].sigmoid(), t.local.shape[-2:], mode="bilinear", align_corners=True
        )
        other = local_transfer(t.local, a.local, small.transpose(0, 1)).transpose(0, 1)
    assert np.abs(other - found["local_transfer"]).max() > 1e-2
