"""Tests of several videos on one server: their list, and when each is opened."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from ivos.app.messages import unpack_labels
from ivos.video.writer import write_video
from tests.support import wire


@pytest.fixture
def server(serve, tmp_path, write):
    folders = [write(tmp_path / "videos" / name, frames=4) for name in ("a", "b", "c")]
    return serve(root=str(tmp_path / "ws"), videos=[str(folder) for folder in folders])


def listed(server):
    return {one["name"]: one for one in json.loads(wire.request(server, "/sessions")[2])}


def test_videos_are_opened_when_their_first_page_comes(server, tmp_path):
    assert {one["status"] for one in listed(server).values()} == {"new"}
    one = wire.Client(server, "b").phase("idle")
    one.stroke("s")
    one.ask("propagate", frame=0)
    one.until(lambda client: "end" in client.heard).phase("idle")
    found = listed(server)
    assert [found[name]["status"] for name in "abc"] == ["new", "in work", "new"]
    assert (found["b"]["masked"], found["b"]["rounds"], found["b"]["objects"]) == (4, 1, 1)
    assert one.ask("done", done=True) == ""
    assert listed(server)["b"]["status"] == "done"
    server.restart()
    found = listed(server)  # without any page: known from the journals
    assert [found[name]["status"] for name in "abc"] == ["new", "done", "new"]
    assert found["b"]["masked"] == 4
    again = wire.Client(server, "b").phase("idle")
    assert again.state["done"]
    assert again.ask("done", done=False) == ""
    assert listed(server)["b"]["status"] == "in work"


def test_pictures_and_archives_of_all_videos(server):
    status, _, body = wire.request(server, "/w/c/thumbnail.jpg")
    assert (status, body[:2]) == (200, b"\xff\xd8")
    origin = {"Origin": f"http://127.0.0.1:{server.port}"}
    assert wire.request(server, "/archive/coco", "POST", "", **origin)[0] == 409  # no mask yet
    assert wire.request(server, "/archive/exe", "POST", "", **origin)[0] == 404
    assert wire.request(server, "/archive/coco", "POST", "")[0] == 403
    assert wire.request(server, "/upload?name=x.mp4", "POST", "x", **origin)[0] == 403  # uploads are off
    for name in ("a", "b"):
        one = wire.Client(server, name).phase("idle")
        one.stroke("s")
        one.ask("propagate", frame=0)
        one.until(lambda client: "end" in client.heard).phase("idle")
    status, _, body = wire.request(server, "/archive/coco", "POST", "", **origin)
    assert status == 200
    with zipfile.ZipFile(io.BytesIO(body)) as packed:
        assert packed.namelist() == ["a/a-coco.json", "b/b-coco.json"]


def test_videos_are_uploaded_and_refused(serve, tmp_path, write):
    folders = [write(tmp_path / "videos" / name, frames=4) for name in ("a", "b")]
    server = serve(root=str(tmp_path / "ws"), videos=[str(one) for one in folders], uploads=200_000)
    film = write_video(tmp_path / "my film.mp4", [np.full((64, 96, 3), 30 * t, np.uint8) for t in range(5)])
    origin = {"Origin": f"http://127.0.0.1:{server.port}"}

    def upload(name, content):
        status, _, body = wire.request(server, f"/upload?name={name}", "POST", content, **origin)
        return status, body.decode()

    assert upload("my%20film.mp4", film.read_bytes()) == (201, '{"name":"my-film"}')
    assert (tmp_path / "ws" / "uploads" / "my-film.mp4").read_bytes() == film.read_bytes()
    one = wire.Client(server, "my-film").phase("idle")
    assert one.facts["num_frames"] == 5
    assert set(listed(server)) == {"a", "b", "my-film"}
    status, message = upload("my%20film.mp4", film.read_bytes())
    assert status == 400
    assert "a video of this name exists already; rename the file" in message
    assert upload("a.mp4", film.read_bytes())[0] == 400
    status, message = upload("note.mp4", b"no video")
    assert status == 400
    assert "not a readable video" in message
    assert not (tmp_path / "ws" / "uploads" / "note.mp4").exists()
    assert upload("long.mp4", b"x" * 200_001)[0] == 413
    assert upload("", b"x")[0] == upload("../..", b"x")[0] == 400
    assert wire.request(server, "/upload?name=x.mp4", "POST", b"x")[0] == 403  # from another site


def test_videos_that_are_added_to_the_folder_are_found(serve, tmp_path, write):
    folder = tmp_path / "videos"
    for name in ("a", "b"):
        write(folder / name, frames=4)
    server = serve(root=str(tmp_path / "ws"), videos=[str(folder / "a"), str(folder / "b")], uploads=1,
                   project=str(folder))  # fmt: skip
    assert set(listed(server)) == {"a", "b"}
    write(folder / "c", frames=3)
    assert set(listed(server)) == {"a", "b", "c"}
    one = wire.Client(server, "c").phase("idle")
    assert one.facts["num_frames"] == 3


def test_masks_are_imported_from_the_page(server):
    one = wire.Client(server, "a").phase("idle")
    origin = {"Origin": f"http://127.0.0.1:{server.port}"}
    status, _, body = wire.request(server, "/w/a/import?name=x.png", "POST", "no picture", **origin)
    assert status == 400
    assert b"the masks cannot be read" in body
    assert wire.request(server, "/w/a/import?name=x.png&frame=x", "POST", "", **origin)[0] == 400
    assert one.state["shown"] == [[0, 4]]
    labels = np.zeros((64, 96), np.uint8)
    labels[10:20, 10:20] = 40
    image, content = Image.fromarray(labels), io.BytesIO()
    image.putpalette([0] * 768)
    image.save(content, "PNG")
    path = "/w/a/import?name=00002.png&as=annotated"
    assert wire.request(server, path, "POST", content.getvalue(), **origin)[0] == 200
    one.until(lambda client: client.state["shown"] == [[0, 2], [1, 1], [0, 1]])
    assert one.state["objects"][0]["label"] == 40
    _, _, body = wire.request(server, f"/w/a/masks/{one.facts['id']}/1/2")
    assert (unpack_labels(body, (96, 64)) == (labels == 40)).all()
    assert one.ask("propagate", frame=2) == ""  # from the mask, without a stroke
    one.until(lambda client: "end" in client.heard).phase("idle")
    assert one.state["shown"] == [[2, 4]]
