"""Tests of a session of three rounds against the released system."""

import json
from unittest import mock

import numpy as np
import pytest

from ivos.engine import ATNetSegmenter


@pytest.fixture(scope="module")
def session(golden, golden_network):
    """The golden session run by ours: arrays, masks and probabilities per round, calls of the encoder."""
    arrays = golden("session")
    segmenter = ATNetSegmenter(golden_network)
    encoder = golden_network.tnet.encoder
    with mock.patch.object(encoder, "forward", wraps=encoder.forward) as counted:
        segmenter.start(arrays["frames"], int(arrays["num_objects"]))
        rounds = []
        for frame, strokes in json.loads(str(arrays["rounds"])):
            masks = segmenter.interact(frame, strokes)
            rounds.append((masks, segmenter._video.probabilities.clone().numpy()))
        public = segmenter.probabilities
    return arrays, rounds, counted.call_count, public


@pytest.mark.parametrize("number", [1, 2, 3])
def test_probabilities(session, number):
    arrays, rounds, _, _ = session
    assert np.abs(rounds[number - 1][1] - arrays[f"probabilities_{number}"]).max() < 5e-5  # allowed: 1e-3


@pytest.mark.parametrize("number", [1, 2, 3])
def test_masks(session, number):
    arrays, rounds, _, _ = session
    masks, expected = rounds[number - 1][0], arrays[f"masks_{number}"]
    assert masks.dtype == np.uint8
    assert masks.shape == expected.shape
    assert (masks != expected).mean() <= 0.0005


def test_image_features_once_per_frame_and_video(session):
    arrays, _, calls, _ = session
    assert calls <= len(arrays["frames"])


def test_padding_and_public_probabilities(session):
    arrays, rounds, _, public = session
    (top, bottom), (left, right) = arrays["pad"]
    assert np.array_equal(public, rounds[-1][1][..., top : -bottom or None, left : -right or None])
