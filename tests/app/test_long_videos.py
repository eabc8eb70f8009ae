"""Videos that take long: drawing while they are decoded, parts of very long ones, pictures left out."""

import json
import shutil

import cv2
import numpy as np
import pytest

from ivos.app.messages import unpack_labels
from ivos.app.session import Session
from ivos.app.workspace import Workspace
from ivos.video.reader import open_source
from ivos.video.writer import write_video
from tests.support import wire

SIZE = (96, 64)
FRAME = 96 * 64 * 3


def labels_of(server, one, frame):
    shown = one.shown[frame]
    if not shown:
        return np.zeros(SIZE[::-1], np.uint8)
    _, _, body = wire.request(server, f"/w/clip/masks/{one.facts['id']}/{shown}/{frame}")
    return unpack_labels(body, SIZE)


# Drawing while the rest is decoded


@pytest.fixture(params=[".mp4", ".webm"])  # a header that has the number of frames, and one that has not
def film(tmp_path, request):
    pictures = [np.full((64, 96, 3), 20 * t, np.uint8) for t in range(8)]
    return write_video(tmp_path / f"clip{request.param}", pictures)


def test_drawing_begins_while_the_rest_is_decoded(serve, tmp_path, film):
    root = tmp_path / "ws"
    root.mkdir()
    (root / "wait").touch()
    server = serve(root=str(root), videos=[str(film)], slow_decoding=3)
    one = wire.Client(server).phase("decoding")
    one.until(lambda each: each.facts["num_frames"] == 8)
    wait_for_frame(server, 2)
    assert one.stroke("a", 1, 0.5) == ""
    one.until(lambda each: (0, 1) in each.masks)  # a preview
    assert unpack_labels(one.masks[0, 1], SIZE)[32, 48] == 1
    assert "frame 6 is still being read" in one.stroke("b", 6, 0.5)
    assert one.ask("edit", id="e", frame=0, label=1, runs=[100, 50], base=0) == ""
    assert one.ask("add_object", name="ball") == ""
    assert one.stroke("c", 1, 0.2, 2) == ""
    assert one.ask("undo") == ""
    assert "still being read" in one.ask("propagate", frame=1)
    assert "still being read" in one.ask("operation", kind="copy", frame=0, lo=1, hi=2)
    server.restart()  # in the middle of it
    one = wire.Client(server).phase("decoding")
    assert one.state["pending"] == ["a"]
    (root / "wait").unlink()
    one.phase("idle", "drawing").until(lambda each: each.state["previewed"] == 1)
    assert [value for value, _ in one.state["shown"]] == ["e", 0]
    assert one.ask("propagate", frame=1) == ""
    one.until(lambda each: "end" in each.heard).phase("drawing")
    assert labels_of(server, one, 7)[32, 54] == 1


def wait_for_frame(server, frame):
    """Wait until a frame can be shown."""
    listed = json.loads(wire.request(server, "/sessions")[2])
    path = f"/w/clip/frames/{listed[0]['frames_id']}/{frame}.jpg"
    while wire.request(server, path)[0] != 200:
        pass


def test_a_session_takes_the_number_of_frames_that_there_are():
    session = Session(10)
    session.apply({"type": "add_object", "number": 1})
    session.apply({"type": "edit", "id": "e", "frame": 2, "label": 1, "runs": [0, 1], "over": 0})
    session.resize(6)
    assert session.shown() == [0, 0, "e", 0, 0, 0]
    assert session.changed_frames == (0, 5)


# Parts of very long videos


def test_a_very_long_video_is_propagated_in_parts(serve, tmp_path, clip):
    sizes = {"WHOLE": 11 * FRAME, "PART": 5 * FRAME}
    server = serve(root=str(tmp_path), videos=[str(clip)], sizes=sizes)  # parts of four frames
    one = wire.Client(server).phase("idle")
    assert one.stroke("a", 5, 0.5) == ""
    one.until(lambda each: (0, 5) in each.masks)
    assert one.ask("propagate", frame=5) == ""
    one.until(lambda each: "end" in each.heard).phase("idle")
    assert one.state["shown"] == [[0, 4], [1, 4], [0, 4]]
    assert one.state["rounds"][0]["status"] == "complete"
    assert labels_of(server, one, 7)[32, 50] == 1
    assert one.stroke("b", 11, 0.3) == ""
    assert one.ask("propagate", frame=11, lo=2, hi=11) == ""
    one.until(lambda each: each.heard.count("end") == 2).phase("idle")
    assert one.state["shown"] == [[0, 4], [1, 4], [2, 4]]
    sure = one.state["rounds"][1]["confidence"]
    assert [frame for frame, _ in sure] == [8, 9, 10, 11]
    assert "do not contain" in one.ask("propagate", frame=11, lo=0, hi=2)
    server.restart()
    one = wire.Client(server).phase("idle")
    assert one.state["notice"] == ""
    assert one.ask("undo") == ""
    assert one.state["shown"] == [[0, 4], [1, 4], [0, 4]]
    assert one.stroke("c", 4, 0.7, 1) == ""
    assert one.ask("propagate", frame=4) == ""
    one.until(lambda each: "end" in each.heard).phase("idle")
    assert one.state["shown"] == [[0, 4], [3, 4], [0, 4]]
    assert one.state["failure"] == ""


def test_parts_are_even_and_cover_the_video(tmp_path, clip, monkeypatch):
    from ivos.app import workspace

    one = Workspace(tmp_path / "clip", open_source(clip))
    one.prepare()
    assert one.part(7) == (0, 11)
    monkeypatch.setattr(workspace, "WHOLE", FRAME)
    for most in (1, 2, 3, 5, 7, 11):
        monkeypatch.setattr(workspace, "PART", most * FRAME)
        parts = {one.part(frame) for frame in range(12)}
        assert all(low <= frame <= high for frame in range(12) for low, high in [one.part(frame)])
        assert sorted(t for low, high in parts for t in range(low, high + 1)) == list(range(12))
        assert max(high - low + 1 for low, high in parts) <= most
    assert one.read_frames((3, 4)).shape == (2, 64, 96, 3)
    one.close()


# Pictures that cannot be read


def pictures(folder, faulty=(2,)):
    folder.mkdir()
    for t in range(5):
        content = cv2.imencode(".png", np.full((64, 96, 3), 40 * t, np.uint8))[1].tobytes()
        (folder / f"p{t}.png").write_bytes(content[: len(content) // 2] if t in faulty else content)
    return folder


@pytest.mark.parametrize("content", ["half", "nothing"])
def test_the_user_can_go_on_without_pictures_that_cannot_be_read(serve, tmp_path, content):
    folder = pictures(tmp_path / "clip")
    if content == "nothing":
        (folder / "p2.png").write_bytes(b"")
    server = serve(root=str(tmp_path / "ws"), videos=[str(folder)])
    one = wire.Client(server).phase("failed")
    assert "4 of 5 pictures can be read; these cannot: p2.png" in one.state["failure"]
    assert one.state["can_go_on"]
    assert one.ask("retry") == ""  # nothing was replaced
    one.until(lambda each: each.state["failure"] == "").phase("failed")
    assert one.ask("retry", leave_out=True) == ""
    one.phase("idle")
    assert one.facts["num_frames"] == 4
    assert one.state["notice"].startswith("clip: 1 of 5 pictures could not be read and are left out: p2.png")
    server.restart()
    one = wire.Client(server).phase("idle")
    assert one.state["shown"] == [[0, 4]]
    assert "left out" in one.state["notice"]
    origin = {"Origin": f"http://127.0.0.1:{server.port}"}
    assert one.stroke("a", 2, 0.5) == ""
    assert one.ask("propagate", frame=2) == ""
    one.until(lambda each: "end" in each.heard)
    assert wire.request(server, "/w/clip/export", "POST", '{"format": "coco"}', **origin)[0] == 202
    one.until(lambda each: "exported" in each.heard)
    exported = json.loads((tmp_path / "ws" / "clip" / "exports" / "clip-coco.json").read_text())
    assert [image["file_name"] for image in exported["images"]] == ["p0.jpg", "p1.jpg", "p3.jpg", "p4.jpg"]


def test_replaced_pictures_are_read_and_none_at_all_is_an_end(serve, tmp_path):
    folder = pictures(tmp_path / "clip")
    server = serve(root=str(tmp_path / "ws"), videos=[str(folder)])
    one = wire.Client(server).phase("failed")
    shutil.copy(folder / "p1.png", folder / "p2.png")
    assert one.ask("retry") == ""
    one.phase("idle")
    assert one.state["shown"] == [[0, 5]]
    assert one.state["notice"] == ""
    other = pictures(tmp_path / "clip2", faulty=range(5))
    server = serve(root=str(tmp_path / "ws2"), videos=[str(other)])
    one = wire.Client(server, "clip2").phase("failed")
    assert "0 of 5 pictures can be read" in one.state["failure"]
    assert not one.state["can_go_on"]


def test_a_corrupt_jpeg_among_those_used_in_place_is_found(serve, tmp_path, clip):
    folder = tmp_path / "clip"
    shutil.copytree(clip, folder)
    content = (folder / "00003.jpg").read_bytes()
    (folder / "00003.jpg").write_bytes(content[: len(content) // 2])
    server = serve(root=str(tmp_path / "ws"), videos=[str(folder)])
    one = wire.Client(server).phase("failed")
    assert "11 of 12 pictures can be read; these cannot: 00003.jpg" in one.state["failure"]
    assert one.ask("retry", leave_out=True) == ""
    one.phase("idle")
    assert one.facts["num_frames"] == 11


# Pictures of many bits


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pictures_of_16_bits_keep_their_greys_in_frames_and_exports(tmp_path, suffix):
    from ivos.app.export import Export, export
    from ivos.video.files import read_frame

    folder = tmp_path / "clip"
    folder.mkdir()
    ramp = np.repeat(np.linspace(0, 65535, 96).astype(np.uint16)[None], 64, axis=0)
    for t in range(2):
        cv2.imwrite(str(folder / f"{t}{suffix}"), ramp if t else np.stack([ramp] * 3, -1))
    one = Workspace(tmp_path / "ws", open_source(folder))
    one.prepare()
    session = one.recover()
    for frame in range(2):
        shown = read_frame(one.frame_file(frame))
        assert np.abs(shown[30, :, 0].astype(int) - np.linspace(0, 255, 96)).max() < 5
    session.apply({"type": "add_object", "number": 1})
    export("davis", Export.of(one, session), lambda done, total: None)
    copied = read_frame(one.folder / "exports/davis/JPEGImages/480p/ws/0.jpg")
    assert np.abs(copied[30, :, 0].astype(int) - np.linspace(0, 255, 96)).max() < 5
    one.close()


def test_pictures_of_floating_point_values_are_refused_in_one_line(serve, tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    for t in range(3):
        cv2.imwrite(str(folder / f"{t}.tif"), np.full((64, 96), 0.5, np.float32))
    server = serve(root=str(tmp_path / "ws"), videos=[str(folder)])
    one = wire.Client(server).phase("failed")
    assert "0 of 3 pictures can be read" in one.state["failure"]
    assert "a picture of 32-bit values; save it with 8 or 16 bits" in one.state["failure"]
    assert "\n" not in one.state["failure"]
