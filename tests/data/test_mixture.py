"""Tests of mixtures of data sets, clips made of single images, and samples read from disk."""

import functools
from collections import Counter

import numpy as np
import pytest

import ivos.video.video
from ivos.data.datasets.davis import DavisFolder
from ivos.data.datasets.default import folder_or_mixture
from ivos.data.datasets.mixture import Mixture
from ivos.data.datasets.sbd import SBD
from ivos.data.datasets.youtube_vos import YouTubeVOS
from ivos.data.synthetic.stills import StillMotion
from ivos.data.training import MiniSequences, NumberedLoader, TrainingData
from ivos.interaction.simulate import SimulatedUser
from ivos.video.files import DataError

partial = functools.partial


def tiny(videos, **options):
    return MiniSequences(videos, **{"num_frames": 1, "window": 7, "crop": 32, "zoom": (0.5, 2), **options})


def training_data(train, val=None, **options):
    samples = options.pop("samples", tiny)
    data = TrainingData(train, val, samples, **{"batch_size": 2, "num_batches": 3, **options})
    data.setup("fit")
    return data


@pytest.fixture
def sets(davis, youtube_vos, sbd):
    return {
        "sbd": partial(SBD, root=sbd),
        "davis": partial(DavisFolder, root=davis, split="train"),
        "youtube_vos": partial(YouTubeVOS, root=youtube_vos),
    }


def test_sets_are_drawn_from_by_weight(sets):
    mixture = Mixture(sets, {"sbd": 1, "davis": 2, "youtube_vos": 5})
    points = SimulatedUser(correction_prob=0, point_prob=1)  # is fast
    samples = training_data(mixture, samples=partial(tiny, user=points)).train_dataloader().dataset
    drawn = Counter(samples[n]["name"].split(":")[0] for n in range(400))
    expected = {"sbd": 50, "davis": 100, "youtube_vos": 250}
    assert all(abs(drawn[name] - count) < 40 for name, count in expected.items()), drawn


def test_a_mixtures_sample_is_a_function_of_seed_and_number(sets):
    def names(seed, **options):
        mixture = Mixture(sets, {"sbd": 1, "davis": 1, "youtube_vos": 1})
        data = training_data(mixture, samples=partial(tiny, seed=seed), **options)
        return [name for batch in data.train_dataloader() for name in batch["names"]]

    assert names(0) == names(0, num_workers=2) == names(0, memory_mib=0)
    assert names(0) != names(1)


def test_a_set_of_weight_0_is_not_opened(sets):
    sets["sbd"] = partial(SBD, root=None)
    mixture = Mixture(sets, {"sbd": 0, "davis": 1, "youtube_vos": 1})
    assert list(mixture.parts) == ["davis", "youtube_vos"]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"sbd": 1, "davis": 1}, "unpaired: youtube_vos"),
        ({"sbd": 1, "davis": 1, "youtube_vos": 1, "coco": 1}, "unpaired: coco"),
        ({"sbd": 1, "davis": -1, "youtube_vos": 1}, "weights must be 0 or more"),
        ({"sbd": 0, "davis": 0, "youtube_vos": 0}, "weights must be 0 or more"),
    ],
)
def test_impossible_weights(sets, weights, message):
    with pytest.raises(DataError, match=message):
        Mixture(sets, weights)


def test_the_faults_of_all_sets_come_at_once(sets, sbd, youtube_vos, truncate):
    truncate(sbd / "benchmark_RELEASE/dataset/img/2008_000000.jpg")
    truncate(youtube_vos / "train/Annotations/video0/00000.png")
    sets["davis"] = partial(DavisFolder, root=None)
    with pytest.raises(DataError) as error:
        Mixture(sets, {"sbd": 1, "davis": 1, "youtube_vos": 1})
    text = str(error.value)
    for words in (
        "img/2008_000000.jpg: unreadable",
        "data.davis_root=FOLDER",
        "video0/00000.png: unreadable",
    ):
        assert words in text


def test_one_folder_can_take_the_mixtures_place(sets, davis):
    weights = {"sbd": 1, "davis": 1, "youtube_vos": 1}
    alone = {name: partial(each.func, root=davis if name == "davis" else None) for name, each in sets.items()}
    folder = partial(DavisFolder, split="train")
    assert repr(folder_or_mixture(davis, folder, alone, weights)) == repr(DavisFolder(davis, "train"))
    assert isinstance(folder_or_mixture(None, folder, sets, weights), Mixture)
    with pytest.raises(
        DataError, match=r"are also named for sbd, youtube_vos; name DAVIS by data\.davis_root"
    ):
        folder_or_mixture(davis, folder, {**sets, "davis": alone["davis"]}, weights)


@pytest.mark.parametrize("name", ["sbd", "davis", "youtube_vos"])
@pytest.mark.parametrize("num_frames", [1, 4])
def test_each_set_feeds_either_stage_from_disk_as_from_memory(sets, name, num_frames):
    options = {"num_frames": num_frames, "stills": StillMotion(), "short_side": 48, "max_objects": 2}
    videos = sets[name]()
    disk = tiny(videos, **options)
    memory = tiny([video.load() for video in videos], **options)
    for number in range(8):
        one, other = disk[number], memory[number]
        assert one["frames"].shape == (num_frames, 32, 32, 3)
        assert (one["masks"][:, 0] == 1).any((1, 2)).all()
        assert all(np.array_equal(one[key], other[key]) for key in one)


def test_only_the_frames_of_a_sample_are_read(youtube_vos, monkeypatch):

    read = []
    original = ivos.video.video.read_frame
    monkeypatch.setattr(ivos.video.video, "read_frame", lambda path: read.append(path.name) or original(path))
    samples = (
        training_data(YouTubeVOS(youtube_vos), samples=partial(tiny, num_frames=3), memory_mib=0)
        .train_dataloader()
        .dataset
    )
    assert not read
    samples[0]
    assert len(read) == 3


def test_images_move_smoothly_from_what_they_are():
    labels = np.zeros((64, 64), np.uint8)
    labels[24:40, 24:40] = 1
    frame = np.repeat(labels[..., None] * 200, 3, 2).astype(np.uint8)
    moved = 0.0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        frames, masks = StillMotion(shift=0.05)(frame, labels, 5, rng)
        assert np.array_equal(frames[0], frame)
        assert np.array_equal(masks[0], labels)
        known = masks != 255
        assert ((frames[..., 0] > 100) == (masks == 1))[known].mean() > 0.97
        centres = np.array([np.argwhere(mask == 1).mean(0) for mask in masks])
        steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
        assert steps.max() < 6
        moved += steps.mean()
    assert moved > 5


def test_images_cannot_be_followed_unless_they_move(sbd):
    with pytest.raises(DataError, match="all 2 are single images, but 4 frames are needed"):
        tiny(SBD(sbd), num_frames=4)
    mixture = Mixture({"sbd": partial(SBD, root=sbd)}, {"sbd": 1})
    with pytest.raises(DataError, match=r"sbd: no clip to train on.*\(data\.samples\.stills\)"):
        training_data(mixture, samples=partial(tiny, num_frames=4))


def test_the_short_side_makes_sets_alike(davis):
    """Frames of 64 that are first brought to 32 are frames at half the zoom."""
    videos = DavisFolder(davis, "train")
    brought, zoomed = tiny(videos, zoom=(1, 2), short_side=32), tiny(videos, zoom=(0.5, 1))
    as_they_are = tiny(videos, zoom=(1, 2))
    for number in range(4):
        assert np.array_equal(brought[number]["masks"], zoomed[number]["masks"])
        assert not np.array_equal(brought[number]["masks"], as_they_are[number]["masks"])


@pytest.mark.parametrize("memory_mib", [0, 512])
def test_validation_takes_whole_clips_or_a_stretch_with_the_objects(youtube_vos, clips, memory_mib):
    videos = YouTubeVOS(youtube_vos)

    def validated(**options):
        return list(training_data(videos, videos, memory_mib=memory_mib, **options).val_dataloader())

    whole = validated()
    assert [clip.name for clip in whole] == ["video0", "video1"]
    np.testing.assert_array_equal(whole[1].labels, clips[1][1])
    _, late = validated(val_frames=3)
    np.testing.assert_array_equal(late.labels, clips[1][1][2:5])
    assert [len(clip.labels) for clip in validated(val_frames=100)] == [6, 6]
    assert [clip.name for clip in validated(val_clips=1)] == ["video0"]


def test_full_resolution_and_reductions(davis):
    for kind in ("JPEGImages", "Annotations"):
        (davis / kind / "480p").rename(davis / kind / "Full-Resolution")
    samples = tiny(DavisFolder(davis, "train", resolution="Full-Resolution"), zoom=(0.25, 0.3))
    assert set(np.unique(samples[0]["masks"])) == {0, 1, 255}


def test_loaders_of_processes_share_a_mixture_out(sets):
    samples = training_data(Mixture(sets, dict.fromkeys(sets, 1))).train_dataloader().dataset
    single = [name for batch in NumberedLoader(samples, 4, 2) for name in batch["names"]]
    shares = [[b["names"] for b in NumberedLoader(samples, 2, 2, rank, 2)] for rank in (0, 1)]
    assert [name for pair in zip(*shares, strict=True) for names in pair for name in names] == single
