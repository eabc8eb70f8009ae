"""Tests of the content of training samples, and that a sample depends on its number alone."""

import os
from types import SimpleNamespace

import albumentations as A
import cv2
import numpy as np
import pytest
import torch

from ivos.data.batches import collate
from ivos.data.datasets.davis import DavisFolder
from ivos.data.synthetic import SyntheticSpec, render_clip, write_davis
from ivos.data.training import MiniSequences, NumberedLoader, TrainingData
from ivos.data.training.loader import workers_for
from ivos.video.clip import Clip
from ivos.video.files import DataError

AUGMENT = (A.HorizontalFlip(p=0.5), A.Affine(rotate=(-20, 20), fill_mask=255, p=1.0), A.ColorJitter(p=0.5))


@pytest.fixture(scope="module")
def clips():
    spec = SyntheticSpec(num_clips=2, num_frames=8, width=96, height=64, min_objects=2)
    return [Clip(str(i), *(pair := render_clip(spec, i)), int(pair[1][0].max())) for i in range(2)]


def samples(clips, **options):
    return MiniSequences(clips, **{"crop": 64, "augment": AUGMENT, "zoom": (0.7, 1.4), **options})


def equal(one, other):
    return all(np.array_equal(one[key], other[key]) for key in one)


def counting_clip(num_frames, size=(64, 64)):
    """Frame t and the object on it are of grey level 10 t; the object is everything right of the middle."""
    frames = np.zeros((num_frames, *size, 3), np.uint8) + np.arange(num_frames, dtype=np.uint8)[
        :, None, None, None
    ] * np.uint8(10)
    labels = np.zeros((num_frames, *size), np.uint8)
    labels[:, :, size[1] // 2 :] = 1
    return Clip("counting", frames, labels, 1)


def test_a_sample_is_a_function_of_seed_and_number(clips):
    one, again, other = samples(clips), samples(clips), samples(clips, seed=1)
    assert all(equal(one[n], again[n]) for n in (7, 0, 7, 3))
    assert not equal(one[7], one[8])
    assert not equal(one[7], other[7])


def test_shapes_and_values(clips):
    data = samples(clips, max_objects=2)
    batch = collate([data[n] for n in range(6)])
    count = len(batch["image"])
    assert batch["frames"].shape == (6, 5, 3, 64, 64)
    assert batch["masks"].shape == (count, 5, 1, 64, 64)
    assert batch["interaction"].shape == (count, 3, 64, 64)
    assert 6 < count <= 12
    assert batch["image"].unique().tolist() == list(range(6))
    assert set(batch["masks"].unique().tolist()) == {0, 1, 255}
    assert (batch["masks"][:, 0] == 1).flatten(1).any(1).all()
    assert batch["interaction"][:, 1:].flatten(1).any(1).all()


def test_frames_follow_each_other_in_one_direction_within_the_window():
    data = samples([counting_clip(20)], num_frames=4, window=6, augment=(), zoom=(1, 1))
    directions = set()
    for number in range(40):
        shown = data[number]["frames"][:, 0, 0, 0].astype(int) // 10
        steps = np.diff(shown)
        assert (steps > 0).all() or (steps < 0).all()
        assert abs(shown[-1] - shown[0]) <= 6
        directions.add(np.sign(steps[0]))
    assert directions == {1, -1}


def test_all_frames_and_masks_are_augmented_alike():
    """The picture is its own mask, so that they have to stay equal."""
    clip = counting_clip(8)
    clip.frames[:] = clip.labels[..., None] * 200
    geometry = AUGMENT[:2]
    data = samples([clip], augment=geometry)
    moved = set()
    for number in range(10):
        sample = data[number]
        seen, mask = sample["frames"][..., 0], sample["masks"][0]
        assert (seen == seen[0]).all()
        assert (mask == mask[0]).all()
        known = mask[0] != 255
        assert ((seen[0] > 100) == (mask[0] == 1))[known].mean() > 0.95  # but for interpolated borders
        moved.add(seen[0].tobytes())
    assert len(moved) == 10


def test_a_crop_larger_than_the_frame_is_filled_up_with_void(clips):
    sample = samples(clips, crop=128, zoom=(1, 1), augment=())[0]
    outside = (sample["masks"] == 255).all((0, 1))
    assert outside.sum() == 128 * 128 - 96 * 64
    assert not sample["frames"][:, outside].any()


def test_void_stays_void_and_gets_no_stroke():
    clip = counting_clip(3)
    clip.labels[:, :32] = 255
    for number in range(10):
        sample = samples([clip], num_frames=1, window=0, augment=(), zoom=(1, 1))[number]
        assert (sample["masks"][0, 0, :32] == 255).all()
        assert not sample["interaction"][0, 1, :24].any()


def test_an_object_that_vanishes_leaves_empty_masks():
    clip = counting_clip(8)
    clip.labels[4:] = 0
    data = samples([clip], num_frames=5, window=7, augment=(), zoom=(1, 1))
    for number in range(10):
        masks = data[number]["masks"][0]
        assert masks[0].any()
        assert not masks[-1].any()


def test_frames_without_objects_are_never_annotated():
    clip = counting_clip(8)
    clip.labels[:7] = 0
    data = samples([clip], num_frames=1, window=0, augment=(), zoom=(1, 1))
    assert all(data[n]["frames"][0, 0, 0, 0] == 70 for n in range(10))


def test_a_clip_shorter_than_a_sample_is_left_out_with_a_word(caplog):
    short = counting_clip(3)
    data = samples([counting_clip(9), short], num_frames=5)
    assert len(data.videos) == 1
    assert "1 of 2 clips are not used" in caplog.text
    with pytest.raises(DataError, match=r"none of [0-9]+ has 5 consecutive frames"):
        samples([short], num_frames=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 100}, "multiple of 32"),
        ({"num_frames": 9, "window": 7}, "1 to 8 are possible"),
        ({"zoom": (1.5, 1.0)}, "zoom"),
    ],
)
def test_impossible_options_are_named(clips, options, message):
    with pytest.raises(DataError, match=message):
        samples(clips, **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_goes_on_within_an_epoch_whatever_the_workers(clips, workers):
    data = samples(clips)
    whole = NumberedLoader(data, batch_size=2, num_batches=4)
    expected = [*whole, *whole]
    loader = NumberedLoader(data, batch_size=2, num_batches=4, num_workers=workers)
    running = iter(loader)
    for _ in range(3):
        next(running)
    resumed = NumberedLoader(data, batch_size=2, num_batches=4, num_workers=workers)
    resumed.load_state_dict(loader.state_dict())
    rest = [*resumed, *resumed]
    assert len(rest) == 5
    for batch, right in zip(rest, expected[3:], strict=True):
        assert batch["names"] == right["names"]
        assert torch.equal(batch["frames"], right["frames"])
        assert torch.equal(batch["interaction"], right["interaction"])


def test_processes_share_the_samples_out(clips):
    data = samples(clips)
    single = next(iter(NumberedLoader(data, 4, 1)))["names"]
    shares = [next(iter(NumberedLoader(data, 2, 1, rank, 2)))["names"] for rank in (0, 1)]
    assert shares[0] + shares[1] == single


@pytest.mark.parametrize("memory_mib", [0, 512])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_processes_share_the_validation_clips_out(world_size, memory_mib, tmp_path):
    folder = write_davis(SyntheticSpec(num_clips=5, num_frames=2, width=64, height=64), tmp_path, "val", 1)
    videos = DavisFolder(folder)
    options = {"batch_size": 1, "num_batches": 1, "memory_mib": memory_mib}
    data = TrainingData(videos, videos, lambda clips: samples(clips, num_frames=1), **options)
    data.setup("fit")
    shares = []
    for rank in range(world_size):
        data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)
        shares.append(list(data.val_dataloader()))
    assert {len(share) for share in shares} == {-(-5 // world_size)}  # a turn without a clip is None
    names = [clip.name for share in shares for clip in share if clip]
    assert sorted(names) == [f"val-{i:04d}" for i in range(5)]
    assert all(share[:-1] == [clip for clip in share[:-1] if clip] for share in shares)


@pytest.mark.timeout(120)
def test_loader_processes_start_after_opencv_has_used_threads(tmp_path):
    """They are forked, and OpenCV's threads, which are not, must not be waited for."""
    folder = write_davis(SyntheticSpec(num_clips=1, num_frames=2, width=64, height=64), tmp_path, "val", 1)
    options = {"batch_size": 1, "num_batches": 2, "num_workers": 1}
    data = TrainingData(DavisFolder(folder), None, lambda clips: samples(clips, num_frames=1), **options)
    data.setup("fit")
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        cv2.GaussianBlur(np.random.rand(2000, 2000), (31, 31), 9)
        loader = data.train_dataloader()
        assert len([*loader, *loader]) == 4
    finally:
        cv2.setNumThreads(threads)


def test_loader_processes_follow_the_machine(monkeypatch):
    def of(cores, *arguments):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        return workers_for(*arguments)

    assert [of(cores, False, 1) for cores in (1, 2, 8, 64)] == [1, 1, 2, 16]
    assert [of(cores, True, 1) for cores in (1, 2, 8, 64)] == [1, 1, 7, 16]
    assert of(32, True, 4) == 7
