"""Tests of exports for other programs and of imports, read and written by independent code."""

import io
import json
import re
import xml.etree.ElementTree as ElementTree
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from ivos.app.export import Export, archive, export
from ivos.app.importing import assign_objects, read_masks
from ivos.app.main import is_project, videos_in
from ivos.app.pixels import find_runs
from ivos.app.session import Session
from ivos.app.workspace import Workspace
from ivos.runtime.errors import UserError
from ivos.video.reader import open_source

SIZE = (96, 64)
NAMES = ["00006", "00011", "00017"]


def truth(frame):
    labels = np.zeros(SIZE[::-1], np.uint8)
    labels[10:30, 10 + frame : 40 + frame] = 1
    labels[40:50, 50:70] = 2
    labels[52:60, 5:15] = 2  # a second part
    return labels


@pytest.fixture
def job(tmp_path, clip):
    """Three frames with names of their own and two objects; the last frame is drawn by hand."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        (folder / f"{name}.jpg").write_bytes((clip / f"{number:05d}.jpg").read_bytes())
    workspace = Workspace(tmp_path / "clip", open_source(folder))
    workspace.prepare()
    session = workspace.recover()
    for number in (1, 2):
        workspace.record(session, {"type": "add_object", "number": number})
    workspace.record(session, {"type": "object", "number": 1, "name": "a & <b>", "label": 7})
    event = {"type": "operation", "round": 1, "kind": "import", "frames": [[0, 1]], "annotated": True}
    workspace.write_masks(1, ((frame, truth(frame)) for frame in (0, 1)))
    workspace.record(session, event)
    for label in (1, 2):
        runs = find_runs(truth(2) == label)
        edit = {"type": "edit", "id": f"e{label}", "frame": 2, "label": label, "runs": runs, "over": 0}
        workspace.record(session, edit)
    yield Export.of(workspace, session, chosen=2)
    workspace.close()


def write(kind, job):
    return export(kind, job, lambda done, total: None)


def test_masks_have_the_sources_names_and_labels(job):
    path, _ = write("masks", job)
    with zipfile.ZipFile(path) as packed:
        assert packed.namelist() == [f"clip/{name}.png" for name in NAMES]
        for frame, name in enumerate(packed.namelist()):
            labels = np.asarray(Image.open(io.BytesIO(packed.read(name))))
            assert (labels == np.array([0, 7, 2], np.uint8)[truth(frame)]).all()


def test_davis_and_coco_have_the_sources_names(job):
    path, _ = write("davis", job)
    with zipfile.ZipFile(path) as packed:
        assert f"Annotations/480p/clip/{NAMES[0]}.png" in packed.namelist()
        assert f"JPEGImages/480p/clip/{NAMES[2]}.jpg" in packed.namelist()
    content = json.loads(write("coco", job)[0].read_text())
    assert [one["file_name"] for one in content["images"]] == [f"{name}.jpg" for name in NAMES]


def test_one_object_in_black_and_white(job):
    path, _ = write("single", job)
    with zipfile.ZipFile(path) as packed:
        for frame, name in enumerate(NAMES):
            pixels = cv2.imdecode(np.frombuffer(packed.read(f"{name}.png"), np.uint8), cv2.IMREAD_UNCHANGED)
            assert (pixels == np.where(truth(frame) == 2, 255, 0)).all()


def test_youtube_vis_is_decoded_by_pycocotools(job):
    from pycocotools import mask as coco

    content = json.loads(write("youtube_vis", job)[0].read_text())
    assert content["videos"][0]["length"] == 3
    assert content["videos"][0]["file_names"][1] == f"clip/{NAMES[1]}.jpg"
    for one in content["annotations"]:
        for frame, runs in enumerate(one["segmentations"]):
            mask = coco.decode({**runs, "counts": runs["counts"].encode()}).astype(bool)
            assert (mask == (truth(frame) == one["category_id"])).all()
            assert one["areas"][frame] == mask.sum()
            assert one["bboxes"][frame] == coco.toBbox({**runs, "counts": runs["counts"].encode()}).tolist()


def test_cvat_masks_are_exact(job):
    root = ElementTree.parse(write("cvat", job)[0]).getroot()
    assert [one.findtext("name") for one in root.iter("label")] == ["a & <b>", "Object 2"]
    for frame, image in enumerate(root.iter("image")):
        assert image.get("name") == f"{NAMES[frame]}.jpg"
        labels = np.zeros(SIZE[::-1], np.uint8)
        for mask in image.iter("mask"):
            left, top, width, height = (int(mask.get(key)) for key in ("left", "top", "width", "height"))
            counts = [int(value) for value in mask.get("rle").split(", ")]
            flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
            part = labels[top : top + height, left : left + width]
            part[flat.reshape(height, width)] = 1 if mask.get("label") == "a & <b>" else 2
        assert (labels == truth(frame)).all()


def drawn(points):
    """A polygon in pixels, drawn at eight times the size by OpenCV: pixels whose centres are inside."""
    canvas = np.zeros((SIZE[1] * 8, SIZE[0] * 8), np.uint8)
    cv2.fillPoly(canvas, [np.round(np.asarray(points) * 8 - 0.5).astype(np.int32)], 1)
    return canvas[4::8, 4::8].astype(bool)


def test_yolo_outlines_give_the_masks_again(job):
    path, warning = write("yolo", job)
    assert "holes" in warning
    with zipfile.ZipFile(path) as packed:
        for frame, name in enumerate(NAMES):
            lines = packed.read(f"labels/{name}.txt").decode().splitlines()
            assert [line.split()[0] for line in lines] == ["0", "1"]
            for line in lines:
                index, *values = line.split()
                points = np.array(values, float).reshape(-1, 2) * SIZE
                found, expected = drawn(points), truth(frame) == int(index) + 1
                assert (found & expected).sum() / (found | expected).sum() > 0.9


def test_label_studio_outlines_give_the_masks_again(job):
    tasks = json.loads(write("label_studio", job)[0].read_text())
    for frame, task in enumerate(tasks):
        for number, name in ((1, "a & <b>"), (2, "Object 2")):
            found = np.zeros(SIZE[::-1], bool)
            for one in task["annotations"][0]["result"]:
                if one["value"]["polygonlabels"] == [name]:
                    found |= drawn(np.array(one["value"]["points"]) / 100 * SIZE)
            assert (found == (truth(frame) == number)).mean() > 0.995


def test_all_videos_in_one_archive(job, tmp_path):
    path = archive("coco", [job], tmp_path / "all.zip")
    with zipfile.ZipFile(path) as packed:
        assert packed.namelist() == ["clip/clip-coco.json"]
        assert packed.testzip() is None


# Import


def png(labels, palette=True):
    image = Image.fromarray(labels)
    if palette:
        image.putpalette([0] * 768)
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def zipped(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return content.getvalue()


def test_an_archive_of_pngs_by_names_and_by_numbers():
    labels = np.array([0, 38, 113], np.uint8)[truth(0)]
    for names in (NAMES, ["frame6", "x_11", "17"]):
        content = zipped({f"Annotations/clip/{name}.png": png(labels) for name in names})
        found = read_masks(content, "masks.zip", NAMES, SIZE)
        assert sorted(found.masks) == [0, 1, 2]
        assert found.labels == [38, 113]
        assert (found.masks[1] == labels).all()


def test_a_single_png_belongs_to_its_frame_or_to_the_one_that_is_shown():
    assert list(read_masks(png(truth(0)), "00011.png", NAMES, SIZE).masks) == [1]
    found = read_masks(png(255 * (truth(0) == 1).astype(np.uint8), palette=False), "mask.png", NAMES, SIZE, 2)
    assert list(found.masks) == [2]
    assert (found.masks[2] == (truth(0) == 1)).all()  # white on black is one object


def test_our_own_coco_json_comes_back(job):
    content = write("coco", job)[0].read_bytes()
    found = read_masks(content, "x.json", NAMES, SIZE)
    assert sorted(found.masks) == [0, 1, 2]
    for frame, labels in found.masks.items():
        assert (labels == truth(frame)).all()
    assert found.names == {1: "a & <b>", 2: "Object 2"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the masks cannot be read"),
        (b"{}", "the masks cannot be read"),
        (b"PK\x03\x04broken", "the masks cannot be read"),
        (png(np.zeros((4, 4), np.uint8)), "the mask has 4x4 pixels, the frames 96x64"),
        (zipped({"99999.png": png(truth(0))}), "no mask belongs to a frame of this video"),
        (b'{"images": [], "annotations": []}', "no mask belongs to a frame"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_one_line(content, says):
    with pytest.raises(UserError, match=re.escape(says)) as error:
        read_masks(content, "file", NAMES, SIZE)
    assert "\n" not in str(error.value)


def test_labels_of_any_spacing_become_objects():
    session = Session(3)
    session.apply({"type": "add_object", "number": 1})
    found = read_masks(png(np.array([0, 38, 113], np.uint8)[truth(0)]), "00006.png", NAMES, SIZE)
    table, events = assign_objects(session, found)
    assert table == {38: 1, 113: 2}
    for event in events:
        session.apply(event)
    assert [one.label for one in session.objects.values()] == [38, 113]
    assert assign_objects(session, found) == (table, [])  # the same labels are the same objects


def test_a_folder_of_videos_is_a_project(tmp_path, write):
    for name in ("b10", "b9", "a"):
        write(tmp_path / "videos" / name, frames=2)
    (tmp_path / "videos" / "notes.txt").write_text("x")
    assert is_project(tmp_path / "videos")
    assert [path.name for path in videos_in(tmp_path / "videos")] == ["a", "b9", "b10"]
    assert not is_project(tmp_path / "videos" / "a")
