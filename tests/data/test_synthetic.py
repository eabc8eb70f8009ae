"""The generator of synthetic video."""

import dataclasses
import json
import multiprocessing
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from filelock import FileLock

import ivos.data.synthetic.davis_writer
from ivos.data.datasets.davis import DavisFolder
from ivos.data.datasets.default import folder_or_synthetic
from ivos.data.synthetic import SyntheticSpec, open_synthetic, render_clip, synthetic_davis, write_davis
from ivos.video.files import DataError
from ivos.video.palette import write_labels

SMALL = SyntheticSpec(num_clips=3, num_frames=4, width=64, height=48, max_objects=2)


def files_of(root):
    return {
        str(p.relative_to(root)): p.read_bytes() if p.suffix != ".json" else json.loads(p.read_text())
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def visible(cache):
    """All there is in a cache folder but the locks."""
    return sorted(path for path in cache.iterdir() if path.name != ".locks")


def without_times(content):
    """The robot notes when it drew a stroke."""
    for strokes in content.get("scribbles", []) if isinstance(content, dict) else []:
        for stroke in strokes:
            stroke.pop("start_time", None), stroke.pop("end_time", None)
    return content


def test_a_clip_is_a_function_of_seed_and_index():
    frames, labels = render_clip(SMALL, 1)
    again = render_clip(dataclasses.replace(SMALL, num_clips=50), 1)
    assert np.array_equal(frames, again[0])
    assert np.array_equal(labels, again[1])
    for other in ({"seed": 1}, {"stream": "val"}):
        assert not np.array_equal(frames, render_clip(dataclasses.replace(SMALL, **other), 1)[0])
    assert not np.array_equal(frames, render_clip(SMALL, 0)[0])


@pytest.mark.parametrize("index", range(6))
def test_clips_are_what_they_should_be(index):
    spec = dataclasses.replace(SMALL, num_clips=6, num_frames=8, max_objects=3, width=96, height=80)
    frames, labels = render_clip(spec, index)
    assert frames.shape == (8, 80, 96, 3)
    assert labels.shape == (8, 80, 96)
    assert frames.dtype == labels.dtype == np.uint8
    first = set(np.unique(labels[0])) - {0}
    assert first == set(range(1, len(first) + 1))
    assert 1 <= len(first) <= 3
    assert set(np.unique(labels)) - {0} == first
    assert frames.std() > 10
    assert (labels[0] != labels[-1]).any()


def test_masks_follow_the_visible_edges():
    """Without blur and noise, colours change across the edges of masks far more than elsewhere."""
    still = dict.fromkeys(("motion_blur", "noise", "defocus", "shadows", "camouflage", "lighting"), 0)
    spec = dataclasses.replace(SMALL, num_clips=12, jpeg_quality=100, occluders=0, **still)
    across, elsewhere = [], []
    for index in range(12):
        frames, labels = render_clip(spec, index)
        for frame, mask in zip(frames.astype(float), labels, strict=True):
            step = np.abs(frame[:, 1:] - frame[:, :-1]).sum(-1)
            edge = mask[:, 1:] != mask[:, :-1]
            near = cv2.dilate(edge.astype(np.uint8), np.ones((3, 5))) > 0
            across.append(step[edge])
            elsewhere.append(step[~near])
    assert np.concatenate(across).mean() > 3 * np.concatenate(elsewhere).mean()


def test_effects_can_be_switched_off():
    off = (
        "motion rotation scaling deformation articulation leaving camera_pan camera_zoom camera_shake "
        "backdrop_motion lighting noise defocus distractors motion_blur"
    )
    spec = dataclasses.replace(SMALL, jpeg_quality=100, **dict.fromkeys(off.split(), 0))
    frames, labels = render_clip(spec, 0)
    assert (frames == frames[0]).all()
    assert (labels == labels[0]).all()


def test_folder_is_the_same_for_any_number_of_workers(tmp_path):
    spec = dataclasses.replace(SMALL, scribbles_per_clip=2)
    one = files_of(write_davis(spec, tmp_path / "one", "val", num_workers=1))
    two = files_of(write_davis(spec, tmp_path / "two", "val", num_workers=2))
    assert {k: without_times(v) for k, v in one.items()} == {k: without_times(v) for k, v in two.items()}
    folder = DavisFolder(tmp_path / "one", "val")  # which checks every file
    assert [video.name for video in folder] == ["val-0000", "val-0001", "val-0002"]
    assert [video.num_scribbles for video in folder] == [2, 2, 2]
    frames, labels = render_clip(spec, 2)
    assert np.array_equal(folder[2].load_annotations(), labels)
    assert np.abs(folder[2].load_frames().astype(float) - frames).mean() < 6  # JPEG


def test_cache_never_meets_stale_clips(tmp_path, capsys):
    train, val = (dataclasses.replace(SMALL, stream=name, num_clips=2) for name in ("train", "val"))
    root = synthetic_davis(tmp_path, {"train": train, "val": val}, num_workers=1)
    assert "Making 2 synthetic clips (val)" in capsys.readouterr().out
    stamp = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    assert synthetic_davis(tmp_path, {"train": train, "val": val}, num_workers=1) == root
    assert capsys.readouterr().out == ""
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == stamp
    assert json.loads((root / "parameters.json").read_text())["val"]["num_frames"] == 4
    other = synthetic_davis(tmp_path, {"train": train, "val": dataclasses.replace(val, noise=0)}, 1)
    assert other != root
    clips = [DavisFolder(root, name)[0].load_frames() for name in ("train", "val")]
    assert not np.array_equal(*clips)
    assert visible(tmp_path) == sorted([root, other])  # nothing half made


def test_a_failure_leaves_no_half_set(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("full")

    monkeypatch.setattr("ivos.data.synthetic.davis_writer._first_strokes", fail)
    with pytest.raises(RuntimeError, match="full"):
        synthetic_davis(tmp_path / "cache", {"val": SMALL}, num_workers=1)
    assert visible(tmp_path / "cache") == []


def test_what_killed_makers_left_behind_is_taken_away(tmp_path):
    """Theirs alone: a set that another is making has its lock."""
    specs = {"val": dataclasses.replace(SMALL, num_clips=1, stream="val")}
    root = synthetic_davis(tmp_path, specs, num_workers=1)
    (tmp_path / f".{root.name}.making/JPEGImages/480p").mkdir(parents=True)
    (tmp_path / ".synthetic-0123456789abcdef.making").mkdir()
    (tmp_path / ".synthetic-fedcba9876543210-x1y2z3a4").mkdir()  # as earlier versions named them
    busy = tmp_path / ".synthetic-00000000ffffffff.making"
    busy.mkdir()
    with FileLock(tmp_path / ".locks/synthetic-00000000ffffffff.lock"):
        other = synthetic_davis(tmp_path, {"val": dataclasses.replace(specs["val"], noise=0)}, 1)
        assert visible(tmp_path) == sorted([root, other, busy])
    shutil.rmtree(root)
    assert synthetic_davis(tmp_path, specs, num_workers=1) == root
    assert visible(tmp_path) == sorted([root, other])


def _make_and_die(folder, specs, started):
    ivos.data.synthetic.davis_writer._first_strokes = lambda *_: started.set() or time.sleep(600)
    synthetic_davis(folder, specs, num_workers=1)


def test_a_maker_that_is_killed_is_followed_by_the_next(tmp_path):
    specs = {"val": dataclasses.replace(SMALL, num_clips=1, stream="val")}
    context = multiprocessing.get_context("fork")
    started = context.Event()
    maker = context.Process(target=_make_and_die, args=(tmp_path, specs, started), daemon=True)
    maker.start()
    assert started.wait(120)
    (half,) = visible(tmp_path)
    assert half.name.endswith(".making")
    maker.kill()
    maker.join()
    assert visible(tmp_path) == [half]
    root = synthetic_davis(tmp_path, specs, num_workers=1)
    assert len(DavisFolder(root, "val")) == 1
    assert visible(tmp_path) == [root]


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/cache: .* cannot be stored here \(.*data\.cache_dir="):
        synthetic_davis(tmp_path / "file/cache", {"val": SMALL}, num_workers=1)


def test_own_pictures(tmp_path):
    sprites, backgrounds = tmp_path / "sprites", tmp_path / "backgrounds"
    for folder in (sprites / "images", sprites / "masks", backgrounds):
        folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    mask = np.zeros((60, 50), np.uint8)
    cv2.circle(mask, (25, 30), 18, 1, -1)
    picture = np.zeros((60, 50, 3), np.uint8)
    picture[mask > 0] = (0, 0, 255)  # a red disc, in BGR
    cv2.imwrite(str(sprites / "images/disc.png"), picture)
    write_labels(sprites / "masks/disc.png", mask)
    cv2.imwrite(str(backgrounds / "green.png"), np.full((90, 120, 3), (0, 200, 0), np.uint8))
    plain = {"noise": 0, "lighting": 0, "shadows": 0, "occluders": 0, "distractors": 0, "jpeg_quality": 100}
    options = {"sprites": str(sprites), "backgrounds": str(backgrounds)}
    spec = dataclasses.replace(SMALL, **options, **plain, motion_blur=0, defocus=0)
    frames, labels = render_clip(spec, int(rng.integers(3)))
    assert frames[labels > 0].mean(0)[0] > 200  # red
    assert frames[labels == 0].mean(0)[1] > 180  # green
    root = synthetic_davis(tmp_path / "cache", {"val": spec}, num_workers=1)
    cv2.imwrite(str(backgrounds / "blue.png"), np.full((90, 120, 3), (200, 0, 0), np.uint8))
    from ivos.data.synthetic.sprites import picture_files

    picture_files.cache_clear()  # as in a new process
    assert synthetic_davis(tmp_path / "cache", {"val": spec}, num_workers=1) != root
    (sprites / "masks/disc.png").rename(sprites / "masks/other.png")
    from ivos.data.synthetic.sprites import sprite_files

    sprite_files.cache_clear()
    with pytest.raises(DataError, match=r"disc\.png: no mask"):
        synthetic_davis(tmp_path / "cache", {"val": dataclasses.replace(spec, seed=5)}, num_workers=1)


def test_open_synthetic(tmp_path):
    small = {"num_clips": 2, "num_frames": 3, "width": 64, "height": 48, "max_objects": 2}
    videos = open_synthetic(cache_dir=tmp_path, num_workers=1, **small)
    assert isinstance(videos, DavisFolder)
    assert [video.size for video in videos] == [(64, 48)] * 2
    one = open_synthetic(cache_dir=tmp_path, sequences=["val-0001"], num_workers=1, **small)
    assert [video.name for video in one] == ["val-0001"]
    assert folder_or_synthetic(videos.root).root == videos.root
    assert folder_or_synthetic(cache_dir=tmp_path, num_workers=1, **small).root == videos.root


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "no split 'test'; it has: train, val"),
        ({"num_clips": 0}, "num_clips: must be a whole number from 1, got 0"),
        ({"num_frames": 2.5}, "num_frames: must be a whole number"),
        ({"motion": "fast"}, "motion: must be a number from 0, got 'fast'"),
        ({"num_workers": 0}, "num_workers: must be null, or a whole number from 1 to 256, got 0"),
        ({"min_objects": 4, "max_objects": 3}, "min_objects: must be a whole number from 1 to 3, got 4"),
        ({"noise": 2}, "noise: must be a number from 0 up to 1, got 2"),
        ({"nonsense": 2}, "nonsense"),
        ({"backgrounds": "/nowhere"}, "/nowhere: no such folder"),
    ],
)
def test_bad_parameters(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        open_synthetic(**{"cache_dir": tmp_path, "num_workers": 1, **options})


def test_windows_hold_all_of_a_figure(monkeypatch):
    """Painting within small windows gives what painting over the whole frame gives."""
    spec = dataclasses.replace(SMALL, deformation=1, articulation=1, occluders=2, distractors=2, leaving=0.5)
    small = [render_clip(spec, index) for index in range(3)]
    monkeypatch.setattr("ivos.data.synthetic.scene._span", lambda middle, radius, limit: slice(0, limit))
    for index, (frames, labels) in enumerate(small):
        whole = render_clip(spec, index)
        assert np.array_equal(frames, whole[0])
        assert np.array_equal(labels, whole[1])


def test_objects_that_find_no_place():
    crowd = dataclasses.replace(SMALL, min_objects=20, max_objects=20, min_size=0.3)
    with pytest.raises(DataError, match="no room for 20 objects of at least 16 pixels in 64x48"):
        render_clip(crowd, 0)
    with pytest.raises(IndexError, match="clip 3 of 3"):
        render_clip(SMALL, 3)


def test_two_that_make_the_same_set_do_not_collide(tmp_path):
    specs = {"val": dataclasses.replace(SMALL, num_clips=2, stream="val")}
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: synthetic_davis(tmp_path, specs, num_workers=1), range(2))
    assert one == two
    assert [video.num_frames for video in DavisFolder(one, "val")] == [4, 4]
    assert visible(tmp_path) == [one]


@pytest.mark.parametrize("value", [255, 1])
def test_sprite_masks_in_grey(tmp_path, value):
    """Masks as saliency sets have them: white (or 1) on black, without a palette."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    mask = np.zeros((40, 30), np.uint8)
    mask[10:30, 5:25] = value
    cv2.imwrite(str(tmp_path / "images/box.jpg"), np.full((40, 30, 3), (0, 0, 250), np.uint8))
    cv2.imwrite(str(tmp_path / "masks/box.png"), mask)
    spec = dataclasses.replace(SMALL, sprites=str(tmp_path), noise=0, lighting=0, shadows=0, occluders=0)
    frames, labels = render_clip(spec, 0)
    assert frames[labels > 0].mean(0)[0] > 180
    cv2.imwrite(str(tmp_path / "masks/box.png"), np.zeros((40, 30), np.uint8))
    with pytest.raises(DataError, match=r"box\.png: no object"):
        render_clip(spec, 0)
    cv2.imwrite(str(tmp_path / "masks/box.png"), mask[:-1])
    with pytest.raises(DataError, match=r"box\.png: its size differs from that of box\.jpg"):
        render_clip(spec, 0)
