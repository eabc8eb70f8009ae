"""Tests of exports, which are read back by the programs that they are made for."""

import json
import os

import av
import cv2
import numpy as np
import pytest

from ivos.app.export import Export, export
from ivos.app.workspace import Workspace
from ivos.data.datasets.davis import DavisFolder
from ivos.interaction import read_scribbles
from ivos.video.reader import open_source
from ivos.video.run_lengths import decode_runs, encode_runs


def truth(frame):
    labels = np.zeros((64, 96), np.uint8)
    labels[10:30, 10 + frame : 40 + frame] = 1
    labels[40:50, 50:70] = 2
    labels[55:60, 5:15] = 3
    return labels


@pytest.fixture
def job(tmp_path, clip):
    """Three objects, the second removed; masks on all frames but the last."""
    workspace = Workspace(tmp_path / "clip", open_source(clip))
    workspace.prepare()
    session = workspace.recover()
    for number in (1, 2, 3):
        workspace.record(session, {"type": "add_object", "number": number})
    for key, number in (("a", 1), ("b", 2), ("c", 3), ("d", 0)):
        stroke = {"id": key, "frame": 2, "path": [[0.2, 0.3], [0.25, 0.3]], "object_id": number}
        workspace.record(session, {"type": "stroke", **stroke, "start_time": 1.0, "end_time": 2.0})
    workspace.record(
        session, {"type": "round_begin", "round": 1, "frame": 2, "strokes": ["a", "b", "c", "d"]}
    )
    for frame in range(11):
        workspace.write_mask(1, frame, truth(frame))
    workspace.record(session, {"type": "round_end", "round": 1, "lo": 0, "hi": 10, "complete": False})
    workspace.record(session, {"type": "remove_object", "number": 2})
    yield Export.of(workspace, session)
    workspace.close()


def write(kind, job):
    steps = []
    path, warning = export(kind, job, lambda done, total: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1]
    return path, warning


def test_davis_layout_is_opened_by_evaluations_own_reader(job):
    path, warning = write("davis", job)
    assert warning == ""
    assert path.suffix == ".zip"
    (video,) = DavisFolder(job.workspace.folder / "exports" / "davis", index=False)
    assert (video.name, video.num_frames, video.num_objects, video.num_scribbles) == ("clip", 12, 2, 1)
    labels = video.load_annotations()
    for frame in range(11):  # numbered without gaps
        assert (labels[frame] == np.select([truth(frame) == 1, truth(frame) == 3], [1, 2], 0)).all()
    assert not labels[11].any()
    assert (video.load_frames() == job.workspace.read_frames()).all()
    strokes = read_scribbles(video.scribbles[0], "clip", 12, 2)["scribbles"][2]
    assert [one["object_id"] for one in strokes] == [1, 2, 0]


def test_an_object_that_appears_late_is_warned_of(job):
    job.workspace.mask_file(1, 0).unlink()
    job.workspace.write_mask(1, 0, np.where(truth(0) == 3, 0, truth(0)).astype(np.uint8))
    assert "Object 3: not on the first frame" in write("davis", job)[1]


def test_exporting_again_replaces_what_was_there(job):
    write("davis", job)
    write("davis", job)
    names = sorted(os.listdir(job.workspace.folder / "exports"))
    assert names == ["clip-davis.zip", "davis"]


def test_what_a_killed_server_had_not_finished_is_removed_when_its_video_is_opened_again(tmp_path, clip):
    folder = tmp_path / "clip"
    Workspace(folder, open_source(clip)).close()
    (folder / "exports" / "clip-davis.zip").write_bytes(b"finished")
    (folder / "exports" / ".davis-killed.tmp" / "frames").mkdir(parents=True)
    (folder / "exports" / ".clip-davis.12-0123abcd.tmp.zip").write_bytes(b"")
    (folder / "bases" / ".e1.12-0123abcd.tmp.png").write_bytes(b"")
    (folder / ".workspace.12-0123abcd.tmp.json").write_bytes(b"")
    Workspace(folder, open_source(clip)).close()
    assert os.listdir(folder / "exports") == ["clip-davis.zip"]
    assert not os.listdir(folder / "bases")
    assert not [path for path in folder.glob(".*") if ".tmp" in path.name]


def test_coco_json(job):
    path, _ = write("coco", job)
    content = json.loads(path.read_text())
    assert [one["name"] for one in content["categories"]] == ["Object 1", "Object 3"]
    assert len(content["images"]) == 12
    assert len(content["annotations"]) == 22
    for one in content["annotations"]:
        expected = truth(one["image_id"]) == one["category_id"]
        mask = decode_runs(one["segmentation"])
        assert (mask == expected).all()
        assert one["area"] == expected.sum()
        x, y, width, height = one["bbox"]
        assert expected[y : y + height, x : x + width].sum() == one["area"]


@pytest.mark.parametrize(
    ("mask", "text"),
    [  # as pycocotools 2.0 writes them
        (np.eye(3, dtype=bool), "013000"),
        (np.zeros((4, 5), bool), "d0"),
        (np.ones((4, 5), bool), "0d0"),
    ],
)
def test_run_lengths_are_cocos(mask, text):
    assert encode_runs(mask) == text
    assert (decode_runs({"size": mask.shape, "counts": text}) == mask).all()


def test_run_lengths_come_back():
    rng = np.random.default_rng(0)
    for size in ((1, 1), (7, 3), (64, 96), (480, 854)):
        for share in (0.02, 0.5, 0.98):
            mask = cv2.blur(rng.random(size), (5, 5)) < share
            assert (decode_runs({"size": size, "counts": encode_runs(mask)}) == mask).all()


def test_the_overlay_video_has_the_sources_frames_and_rate(job):
    path, _ = write("video", job)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.average_rate == 24
    assert len(frames) == 12
    plain = job.workspace.read_frames()
    inside = truth(5) == 1
    changed = np.abs(frames[5][:64, :96].astype(int) - plain[5]).sum(axis=-1)
    assert changed[inside].mean() > 5 * changed[truth(5) == 0].mean()


def test_an_overlay_of_a_variable_rate_keeps_the_times(job):
    job.workspace.metadata.times = tuple(t * t / 50 for t in range(12))
    path, _ = write("video", job)
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx(job.workspace.metadata.times, abs=2e-3)


def test_strokes(job):
    path, _ = write("scribbles", job)
    strokes = read_scribbles(path, "clip", 12)["scribbles"][2]
    assert [one["object_id"] for one in strokes] == [1, 3, 0]
    assert strokes[0]["end_time"] == 2.0
    assert json.loads(path.read_text())["rounds"][0]["reach"] == [0, 10]
