"""Tests that faulty workspaces are refused in one line and sound ones are restored."""

import dataclasses
import json
import os
import shutil

import av
import cv2
import numpy as np
import pytest

from ivos.app.masks import display
from ivos.app.session import Session
from ivos.app.workspace import Workspace, WorkspaceError
from ivos.video.reader import open_source


@pytest.fixture
def workspace(tmp_path, clip):
    one = Workspace(tmp_path / "clip", open_source(clip))
    one.prepare()
    yield one
    one.close()


def reopen(folder, clip):
    one = Workspace(folder, open_source(clip))
    one.prepare()
    return one


def test_a_folder_of_jpegs_is_used_in_place(workspace, clip):
    assert workspace.metadata.num_frames == 12
    assert workspace.frame_file(3) == (clip / "00003.jpg").resolve()
    assert list((workspace.folder / "frames").iterdir()) == []
    assert workspace.read_frames().shape == (12, 64, 96, 3)


def test_the_frames_of_a_long_video_stay_on_disk(workspace, monkeypatch):
    frames = workspace.read_frames()
    monkeypatch.setattr("ivos.app.workspace.IN_MEMORY", 1000)
    mapped = workspace.read_frames()
    assert isinstance(mapped, np.memmap)
    assert (mapped == frames).all()
    assert sorted(path.name for path in workspace.folder.iterdir() if path.is_file()) == [
        *("journal.jsonl", "lock", "workspace.json")
    ]  # the file has no name: nothing is left, however the server ends


def test_frames_for_which_the_disk_has_no_room_are_refused(workspace, monkeypatch):
    monkeypatch.setattr("ivos.app.workspace.IN_MEMORY", 1000)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(WorkspaceError, match=r"12 frames of 96x64 need 0.0 GB .* free disk space"):
        workspace.read_frames()


def test_a_truncated_video_says_how_many_frames_there_are(tmp_path):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height = 96, 64
        for index in range(48):
            picture = np.full((64, 96, 3), 5 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    source = dataclasses.replace(open_source(path), num_frames=60)  # as the header of an MP4 would say
    for _ in range(2):  # it is said again after a restart
        one = Workspace(tmp_path / "workspace", source)
        one.prepare()
        one.close()
        assert "the header gives 60 frames, but only 48 could be read" in one.notice
    assert one.metadata.num_frames == 48


def test_a_thumbnail_needs_no_decoding_of_the_whole_video(workspace):
    picture = cv2.imread(str(workspace.thumbnail()))
    assert picture.shape == (213, 320, 3)


def test_masks_come_back(workspace):
    labels = np.arange(64 * 96, dtype=np.uint8).reshape(64, 96) % 3
    workspace.write_mask(2, 5, labels)
    assert (workspace.read_mask(2, 5) == labels).all()
    assert workspace.masks_of(2) == {5}
    assert not workspace.read_mask(0, 5).any()
    assert workspace.differing(labels, 2, 5) == 0
    assert workspace.differing(np.zeros_like(labels), 2, 5) == np.count_nonzero(labels)


def test_a_round_left_open_is_closed_in_the_journal(tmp_path, workspace, clip):
    folder = workspace.folder
    session = workspace.recover()
    workspace.record(session, {"type": "add_object", "number": 1})
    workspace.record(session, {"type": "stroke", "id": "a", "frame": 4, "path": [[0, 0]], "object_id": 1})
    workspace.record(session, {"type": "round_begin", "round": 1, "frame": 4, "strokes": ["a"]})
    for frame in (4, 3, 5):
        workspace.write_mask(1, frame, np.ones((64, 96), np.uint8))
    workspace.close()
    for _ in range(2):  # the second time nothing is open
        again = reopen(folder, clip)
        recovered = again.recover()
        assert (recovered.rounds[0].reach, recovered.rounds[0].status) == ((3, 5), "stopped")
        again.close()
    workspace._lock, workspace.journal = os.open(folder / "lock", os.O_RDWR), again.journal
    again.journal._handle = os.open(folder / "journal.jsonl", os.O_RDWR)  # closed again by the fixture


def test_one_server_at_a_time(workspace, clip):
    with pytest.raises(WorkspaceError, match=rf"in use by another server \(process {os.getpid()}\)"):
        Workspace(workspace.folder, open_source(clip))


def test_another_video(workspace, clip, tmp_path, write):
    other = write(tmp_path / "other", frames=5)
    shutil.copytree(workspace.folder, tmp_path / "copy")
    with pytest.raises(WorkspaceError, match="belongs to another video"):
        Workspace(tmp_path / "copy", open_source(other))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"version": 99}, "of version 99, but this ivos reads version 1"),
        ({"version": 1}, "not the metadata of a workspace"),
        ([], "not the metadata of a workspace"),
    ],
)
def test_a_workspace_of_another_kind(tmp_path, clip, content, says):
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "workspace.json").write_text(json.dumps(content))
    with pytest.raises(WorkspaceError, match=says):
        Workspace(folder, open_source(clip))


def test_a_journal_that_does_not_fit(workspace):
    workspace.journal.append({"type": "stroke", "id": "a", "frame": 99, "path": [[0, 0]], "object_id": 0})
    workspace.journal.lines = [{"type": "stroke", "id": "a", "frame": 99, "path": [[0, 0]], "object_id": 0}]
    with pytest.raises(WorkspaceError, match="line 1 does not fit the session"):
        workspace.recover()


@pytest.mark.parametrize("name", ["..", "a b", "x;y"])
def test_names_stay_inside_the_root(tmp_path, clip, name):
    with pytest.raises(WorkspaceError, match="can have only letters, digits"):
        Workspace(tmp_path / name, open_source(clip))


def test_a_folder_that_cannot_be_written(tmp_path, clip):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="name a writable folder"):
        Workspace(tmp_path / "file" / "clip", open_source(clip))


def test_removed_objects_become_background():
    session = Session(1)
    for number in (1, 2, 3):
        session.apply({"type": "add_object", "number": number})
    session.apply({"type": "remove_object", "number": 1})
    session.apply({"type": "remove_object", "number": 2, "into": 3})
    labels = np.array([[0, 1, 2, 3, 255]], np.uint8)
    assert display(labels, session).tolist() == [[0, 0, 3, 3, 255]]
