"""Tests of the folders where data sets are searched, and of the configurations that choose them."""

import dataclasses
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ivos.data.datasets import paths as places
from ivos.data.datasets.davis import DavisFolder
from ivos.data.datasets.mixture import Mixture
from ivos.data.datasets.sbd import SBD
from ivos.data.datasets.youtube_vos import YouTubeVOS
from ivos.data.synthetic import SyntheticSpec
from ivos.runtime.overrides import prepare_overrides
from ivos.video.files import DataError

CONF = Path(__file__).parents[2] / "conf"


def composed(program, *overrides):
    """As the program composes it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(program, prepare_overrides(overrides, roles=program == "train"))


@pytest.fixture
def small(tmp_path):
    """Overrides of clips that are made at once."""
    options = {"num_clips": 1, "num_frames": 2, "width": 64, "height": 64, "max_objects": 1, "num_workers": 1}
    return [f"data.{name}={value}" for name, value in options.items()] + [f"data.cache_dir={tmp_path}"]


def test_sets_are_found_in_the_folder_data(davis, youtube_vos, sbd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for folder, name in ((davis, "DAVIS"), (youtube_vos, "YouTube-VOS"), (sbd, "SBD")):
        (tmp_path / "data" / name).symlink_to(folder)
    assert [len(DavisFolder()), len(YouTubeVOS()), len(SBD())] == [2, 2, 2]
    data = composed("train", "experiment=anet").data
    assert len(instantiate(data.train).parts) == 3
    assert instantiate(data.val).split == "val"
    assert len(instantiate(composed("evaluate", "data=davis").data)) == 2
    assert len(instantiate(composed("evaluate", "data=youtube_vos", "data.split=train").data)) == 2


def test_the_working_folder_comes_before_the_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "CHECKOUT", tmp_path / "checkout")
    (tmp_path / "checkout/data/DAVIS").mkdir(parents=True)
    assert places.folder_of("DAVIS", None, "x") == tmp_path / "checkout/data/DAVIS"
    (tmp_path / "data/DAVIS").mkdir(parents=True)
    assert places.folder_of("DAVIS", None, "x") == Path("data/DAVIS")
    assert places.folder_of("DAVIS", "/named", "x") == Path("/named")


@pytest.mark.parametrize(
    ("make", "place", "option"),
    [(DavisFolder, "data/DAVIS", "data.davis_root"), (SBD, "data/SBD", "data.sbd_root"),
     (YouTubeVOS, "data/YouTube-VOS", "data.youtube_vos_root")],
)  # fmt: skip
def test_a_missing_set_is_told_with_place_and_option(make, place, option):
    with pytest.raises(DataError) as error:
        make()
    assert place in str(error.value)
    assert f"{option}=FOLDER" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="the name of its folder is empty"):
        make("")


@pytest.mark.parametrize("value", [None, True, 4.5])
def test_names_of_folders_and_lists_are_names(value, davis):
    for option in ("split", "year", "resolution"):
        with pytest.raises(DataError, match=rf"data\.{option}: a name is needed"):
            DavisFolder(davis, **{option: value})
    with pytest.raises(DataError, match="not a folder in DAVIS layout"):
        DavisFolder(davis, resolution=480)


def test_every_option_of_the_generator_is_in_its_configuration():
    """The options of a set and those that sets share, which nothing lists a second time."""
    own = OmegaConf.to_container(OmegaConf.load(CONF / "data/synthetic.yaml"))
    shared = OmegaConf.to_container(OmegaConf.load(CONF / "synthetic/default.yaml"))
    spec = dataclasses.asdict(SyntheticSpec())
    del spec["stream"]  # is the split's name
    assert not set(own) & set(shared)
    assert {name: value for name, value in (own | shared).items() if name in spec} == spec
    assert set(shared) - set(spec) == {"cache_dir", "num_workers"}
    assert set(own) - set(spec) == {"_target_", "split", "clips"}


def test_an_option_of_the_generator_for_all_sets_or_for_one():
    cfg = composed("train", "synthetic.noise=0.25", "data.val.noise=0.5", "data.test.num_frames=3")
    assert [cfg.data[role].clips.noise for role in ("train", "val", "test")] == [0.25] * 3
    assert (cfg.data.val.noise, cfg.data.test.num_frames) == (0.5, 3)
    assert "noise" not in cfg.data.train


def test_a_set_for_training_validation_and_test(davis):
    data = composed("train", "experiment=joint", "data=davis", f"data.root={davis}").data
    splits = {role: instantiate(data[role]).split for role in ("train", "val", "test")}
    assert splits == {"train": "train", "val": "val", "test": "val"}
    data = composed("train", "experiment=joint", "data=davis", "data@data.val=youtube_vos").data
    assert data.val._target_.endswith("YouTubeVOS")


def test_evaluation_takes_what_root_names_or_synthetic_clips(davis, small):
    clips = instantiate(composed("evaluate", *small, "data.sequences=[val-0000]").data)
    assert [video.name for video in clips] == ["val-0000"]
    assert clips.root.name.startswith("synthetic-")
    assert instantiate(composed("evaluate", "data=synthetic", *small).data).root == clips.root
    named = composed("evaluate", f"data.root={davis}", "data.split=train", "data.sequences=[train-0001]").data
    assert [video.name for video in instantiate(named)] == ["train-0001"]
    assert instantiate(composed("evaluate", f"data.root={davis}").data).split == "val"
    assert instantiate(composed("evaluate", "data=davis", f"data.root={davis}").data).split == "val"


@pytest.mark.parametrize("experiment", ["quickstart", "anet", "tnet", "joint"])
def test_training_takes_what_root_names(experiment, davis):
    data = composed("train", f"experiment={experiment}", f"data.root={davis}").data
    opened = {name: instantiate(data[name]) for name in ("train", "val", "test")}
    assert all(isinstance(videos, DavisFolder) and videos.root == davis for videos in opened.values())
    assert {name: videos.split for name, videos in opened.items()} == {
        "train": "train", "val": "val", "test": "val",
    }  # fmt: skip


def test_a_mixture_is_a_mixture(davis, youtube_vos, sbd):
    named = [f"data.youtube_vos_root={youtube_vos}", f"data.sbd_root={sbd}"]
    mixture = ["experiment=anet", "data@data.train=anet_mixture", *named]
    opened = instantiate(composed("train", *mixture, f"data.davis_root={davis}").data.train)
    assert isinstance(opened, Mixture)
    assert list(opened.parts) == ["sbd", "davis", "youtube_vos"]
    some = ["data.train.weights.sbd=0", "data.train.sets.davis.split=trainval", f"data.davis_root={davis}"]
    opened = instantiate(composed("train", "experiment=anet", *named, *some).data.train)
    assert {name: len(part.videos) for name, part in opened.parts.items()} == {"davis": 4, "youtube_vos": 2}
