"""EndoVis 2018, ESD, VIPSeg and Virtual KITTI 2 on miniature copies."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from ivos.data.datasets.segment_folders import ESD, EndoVis, VIPSeg, VirtualKITTI
from ivos.data.tools.check import main
from ivos.session.objects import split_objects
from ivos.video.files import DataError
from ivos.video.palette import write_labels

CONF = Path(__file__).parents[2] / "conf"
RED, GREEN, TISSUE = (255, 55, 0), (0, 255, 125), (0, 0, 0)
READERS = {"endovis": EndoVis, "esd": ESD, "vipseg": VIPSeg, "vkitti2": VirtualKITTI}


def picture(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)


def coloured(labels, *colours):
    return np.array([TISSUE, *colours], np.uint8)[labels]


def endovis(root, clips):
    """Two parts, of which one is the test; the classes' list has both of its published forms."""
    classes = [{"name": str(i), "color": [*c, 128], "classid": i} for i, c in enumerate((TISSUE, GREEN, RED))]
    for (frames, labels), folder in zip(clips, ("release_1", "test_data/part"), strict=True):
        for t, (frame, mask) in enumerate(zip(frames, labels, strict=True)):
            picture(root / folder / f"seq_1/left_frames/frame{t:03d}.png", frame)
            picture(root / folder / f"seq_1/labels/frame{t:03d}.png", coloured(mask, RED, GREEN))
            (root / "__MACOSX" / folder / "seq_2/left_frames").mkdir(parents=True, exist_ok=True)
            (root / "__MACOSX" / folder / "seq_2/labels").mkdir(parents=True, exist_ok=True)
    (root / "release_1/labels.json").write_text(json.dumps(classes[::-1]))
    (root / "test_data/labels.json").write_text(json.dumps({"classes": classes}))


def esd(root, clips):
    """Masks by colours in one condition, by labels in the other; not every picture has one."""
    for number, (frames, labels) in enumerate(clips):
        place = root / f"ESD-{number + 1}/2_obj_linear/RGB"
        for t, (frame, mask) in enumerate(zip(frames, labels, strict=True)):
            picture(place / f"images/{t + 9}.png", frame)
            if t == 5:
                continue
            if number:
                (place / "masks").mkdir(parents=True, exist_ok=True)
                write_labels(place / f"masks/{t + 9}.png", mask)
            else:
                picture(place / f"masks/{t + 9}.png", coloured(mask, GREEN, RED))


def vipseg(root, clips):
    """Sixteen bits: a region (5), an instance (6101), void, and a value that is no class."""
    for number, (frames, labels) in enumerate(clips):
        for t, (frame, mask) in enumerate(zip(frames, labels, strict=True)):
            picture(root / f"imgs/{number}_x/{t:08d}.jpg", frame)
            segments = np.choose(mask, [0, 5, 6101]).astype(np.uint16)
            segments[0, :2] = 200
            picture(root / f"panomasks/{number}_x/{t:08d}.png", segments)
        (root / ("train.txt", "val.txt")[number]).write_text(f"{number}_x\n")


def vkitti2(root, clips):
    """Two conditions of a scene; names of pictures and masks differ but for the number."""
    for (frames, labels), condition in zip(clips, ("clone", "fog"), strict=True):
        place = root / "Scene01" / condition / "frames"
        for t, (frame, mask) in enumerate(zip(frames, labels, strict=True)):
            picture(place / f"rgb/Camera_0/rgb_{t:05d}.jpg", frame)
            folder = place / "instanceSegmentation/Camera_0"
            folder.mkdir(parents=True, exist_ok=True)
            write_labels(folder / f"instancegt_{t:05d}.png", np.choose(mask, [0, 3, 90]).astype(np.uint8))


WRITERS = {"endovis": endovis, "esd": esd, "vipseg": vipseg, "vkitti2": vkitti2}


@pytest.fixture
def make(tmp_path, clips):
    def write(name):
        WRITERS[name](tmp_path / name, clips)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("name", "split", "clip", "video", "order"),
    [
        ("endovis", "train", 0, "seq_1", (2, 1)),  # the objects are in the order of the classes
        ("endovis", "test", 1, "seq_1", (2, 1)),
        ("esd", "train", 0, "2_obj_linear", (1, 2)),
        ("esd", "test", 1, "2_obj_linear", (1, 2)),
        ("vipseg", "train", 0, "0_x", (1, 2)),
        ("vipseg", "val", 1, "1_x", (1, 2)),
        ("vkitti2", "clone", 0, "Scene01-clone-Camera_0", (1, 2)),
        ("vkitti2", "fog", 1, "Scene01-fog-Camera_0", (1, 2)),
    ],
)
def test_reads_what_is_there(make, clips, name, split, clip, video, order):
    root = make(name)
    (found,) = READERS[name](root, split)
    frames, labels = clips[clip]
    if name == "esd":
        frames, labels = frames[:5], labels[:5]
    assert (found.name, found.size, found.num_frames, found.num_objects) == (video, (80, 64), len(labels), 2)
    expected = np.choose(labels, [0, *order]).astype(np.uint8)
    if name == "vipseg":
        expected[:, 0, :2] = 0
    np.testing.assert_array_equal(found.load_annotations(), expected)
    np.testing.assert_array_equal(found.areas, [[(mask == n).sum() for n in (1, 2)] for mask in expected])
    assert np.abs(found.load_frames().astype(int) - frames).mean() < 12  # but for JPEG
    assert found.known.all()
    for one, number in zip(split_objects([found]), (1, 2), strict=True):
        np.testing.assert_array_equal(one.load_annotations(), expected == number)


@pytest.mark.parametrize("name", WRITERS)
def test_is_a_choice_of_the_programs_and_of_the_check(make, name, capsys):
    root = make(name)
    split = f"data.split={READERS[name].default_split}"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("evaluate", overrides=[f"data={name}", f"data.root={root}", split])
        assert len(instantiate(cfg.data)) == (2 if name == "vkitti2" else 1)
    assert main([name, str(root)]) == 0
    assert "of 80x64" in capsys.readouterr().out


def test_instances_alone(make, clips):
    (video,) = VIPSeg(make("vipseg"), "val", things_only=True)
    np.testing.assert_array_equal(video.load_annotations(), clips[1][1] == 2)


def test_virtual_kitti_in_two_folders(make):
    root = make("vkitti2")
    scene = root / "Scene01"
    for part in ("rgb", "instanceSegmentation"):
        for frames in sorted(scene.glob("*/frames")):
            target = root / f"vkitti_2.0.3_{part}/Scene01" / frames.parent.name / "frames"
            target.mkdir(parents=True)
            (frames / part).rename(target / part)
    for frames in scene.glob("*/frames"):
        frames.rmdir()
        frames.parent.rmdir()
    scene.rmdir()
    assert [video.num_frames for video in VirtualKITTI(root)] == [6, 6]


def test_all_that_is_wrong_is_named(make, truncate):
    root = make("endovis")
    place = root / "release_1/seq_1"
    picture(place / "labels/frame001.png", np.full((64, 80, 3), 7, np.uint8))
    with pytest.raises(DataError, match=r"the colours #070707 are not in labels\.json"):
        EndoVis(root, "train", index=False)
    truncate(place / "labels/frame001.png")
    (place / "left_frames/frame002.png").unlink()
    with pytest.raises(DataError) as error:
        EndoVis(root, "train", index=False)
    stray, unreadable = error.value.problems
    assert stray == "release_1/seq_1/labels/frame002.png: mask without a frame"
    assert "labels/frame001.png: unreadable" in unreadable
    (root / "test_data/labels.json").write_text("{}")
    with pytest.raises(DataError, match="not a list of classes with color and classid"):
        EndoVis(root, "test", index=False)


@pytest.mark.parametrize(
    ("reader", "split", "message"),
    [
        (EndoVis, "val", "no sequences of EndoVis 2018 for split 'val'"),
        (ESD, "val", "ESD has no split 'val'; it has: train, test"),
        (ESD, "test", "is not ESD as released"),
        (VIPSeg, "val", "is not VIPSeg as released"),
        (VirtualKITTI, "snow", "has no condition 'snow'"),
    ],
)
def test_another_folder_is_refused(tmp_path, reader, split, message):
    with pytest.raises(DataError, match=message):
        reader(tmp_path, split)
    with pytest.raises(DataError, match=rf"data/{reader.name}.*{reader.option}=FOLDER"):
        reader()
