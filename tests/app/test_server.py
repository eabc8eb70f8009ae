"""Tests of the server through the web socket: access, answers, and the state after a kill."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from ivos.app.journal import read_lines
from ivos.app.messages import MAX_POINTS, unpack_labels
from tests.support.wire import Client, request

from .conftest import Process


@pytest.fixture
def server(serve, tmp_path, clip):
    return serve(root=str(tmp_path), videos=[str(clip)], **{"with": {"delay": 0.01}})


@pytest.fixture(scope="module")
def untouched(tmp_path_factory, clip):
    """A server for the tests whose requests are refused or change nothing."""
    server = Process(root=str(tmp_path_factory.mktemp("untouched")), videos=[str(clip)])
    yield server
    server.end()


def test_access(untouched):
    status, _, body = request(untouched, "/", cookie=False)
    assert (status, body.count(b"\n")) == (403, 1)
    assert b"open the address that the server has printed" in body
    assert request(untouched, "/?token=wrong", cookie=False)[0] == 403
    status, headers, _ = request(untouched, f"/w/clip/?token={untouched.token}", cookie=False)
    assert (status, headers["location"]) == (303, "/w/clip/")
    assert f"ivos-{untouched.port}=" in headers["set-cookie"]
    for word in ("httponly", "samesite=lax"):
        assert word in headers["set-cookie"].lower()
    status, headers, _ = request(untouched, "/w/clip/")
    assert status == 200
    assert "default-src 'self'" in headers["content-security-policy"]
    foreign = {"Cookie": f"ivos-{untouched.port + 1}={untouched.token}"}  # another port's
    assert request(untouched, "/w/clip/", cookie=False, **foreign)[0] == 403


def test_cookies_of_other_programs_lock_nobody_out(untouched):
    """Browsers send the cookies of all programs on this host, whatever is in them."""
    for other in ('json={"a": [1, 2]}', "a b=c d", 'x="unclosed', "=;;", "bad\x01=1"):
        cookie = {"Cookie": f"{other}; {untouched.cookie}; {other}"}
        assert request(untouched, "/w/clip/", cookie=False, **cookie)[0] == 200, other


def test_malformed_requests_are_refused_and_not_answered_with_500(untouched):
    origin = {"Origin": f"http://127.0.0.1:{untouched.port}"}
    for body in ('{"format": ["coco"]}', '{"format": {}}', "[]", '"coco"', "9" * 4000, '{"format": null}'):
        assert request(untouched, "/w/clip/export", "POST", body, **origin)[0] == 400, body
    for wrong in ("http://[", "http://]:1", "//[x", "http://127.0.0.1:99999999"):
        assert request(untouched, "/w/clip/export", "POST", "{}", Origin=wrong)[0] == 403, wrong


def test_huge_numbers_are_answered_on_a_connection_that_stays(server):
    one = Client(server).phase("idle")
    for text in ("9" * 400, "1e999", "-" + "9" * 5000):
        one.socket.send('{"type": "study", "seq": 77, "event": "press", "at": ' + text + "}")
        before = one.heard.count("error")
        one.until(lambda client, before=before: client.heard.count("error") > before)
    stroke = {"type": "stroke", "seq": 78, "id": "x", "frame": 0, "object_id": 1, "path": [[10**400, 0.5]]}
    one.socket.send(json.dumps(stroke))
    assert one.stroke("a") == ""


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8765", "", "0.0.0.0"])
def test_foreign_hosts(untouched, host):
    status, _, body = request(untouched, "/w/clip/", Host=host)
    assert status == 403
    assert b"is not allowed; open the address that the server has printed" in body


def test_another_port_in_the_host_is_a_tunnels(untouched):
    assert request(untouched, "/w/clip/", Host="localhost:9000")[0] == 200


def test_foreign_origins(untouched):
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{untouched.port + 1}"):
        with pytest.raises(InvalidStatus) as error:
            Client(untouched, origin=origin)
        assert error.value.response.status_code == 403
        assert request(untouched, "/w/clip/export", "POST", "{}", Origin=origin)[0] == 403
    assert request(untouched, "/w/clip/export", "POST", "{}")[0] == 403  # none at all
    with pytest.raises(InvalidStatus):
        Client(untouched, cookie="ivos-1=x")


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2fserver.py",
        "/static/../server.py",
        "/w/clip/exports/..%2fjournal.jsonl",
        "/w/clip/exports/.token",
        "/w/..%2fclip/",
        "/w/other/",
        "/w/clip/masks/x/1/0",
        "/w/clip/frames/x/0.jpg",
        "/w/clip/truth",
    ],
)
def test_what_is_not_there(untouched, path):
    status, _, body = request(untouched, path)
    assert (status, body.count(b"\n")) == (404, 1) or (status, body) == (404, b"Not Found")


def test_a_session(server, tmp_path):
    one = Client(server).phase("idle")
    facts = one.facts
    assert (facts["num_frames"], facts["size"]) == (12, [96, 64])
    status, headers, body = request(server, f"/w/clip/frames/{facts['frames_id']}/3.jpg")
    assert (status, body[:2]) == (200, b"\xff\xd8")
    assert "immutable" in headers["cache-control"]
    assert one.stroke("a") == ""
    one.until(lambda client: client.state["previewed"] == 0)
    assert one.stroke("a") == ""  # sent again: counts once
    assert one.state["pending"] == ["a"]
    assert one.ask("propagate", frame=5) == "no new strokes on frame 5"
    assert one.ask("propagate", frame=0) == ""
    one.until(lambda client: "end" in client.heard).phase("idle")
    assert sorted(frame for number, frame in one.masks if number == 1) == list(range(12))
    assert one.state["shown"] == [[1, 12]]
    assert [value for _, value in one.state["rounds"][0]["confidence"]][::11] == [1.0, 0.4]
    labels = unpack_labels(one.masks[1, 7], (96, 64))
    assert labels[32, 36] == 1
    _, _, body = request(server, f"/w/clip/masks/{facts['id']}/1/7")
    assert body == one.masks[1, 7]
    one.ask("undo")
    assert one.state["shown"] == [[0, 12]]
    one.ask("redo")
    assert one.state["shown"] == [[1, 12]]
    assert one.ask("add_object", name="ball") == ""
    assert one.stroke("b", 3, 0.6, 2) == ""
    one.ask("propagate", frame=3)
    one.until(lambda client: client.state["shown"] == [[2, 12]]).phase("idle")
    assert unpack_labels(one.masks[2, 3], (96, 64))[32, 58] == 2


def test_stop_keeps_what_was_reached_and_continue_goes_on(serve, tmp_path, clip, held):
    server = serve(root=str(tmp_path), videos=[str(clip)], **{"with": {"hold": held.after(5)}})
    one = Client(server).phase("idle")
    one.stroke("a", 6)
    one.ask("propagate", frame=6)
    one.until(lambda client: len(client.masks) > 3)
    one.ask("stop")
    held.go()
    one.phase("stopped")
    low, high = one.state["rounds"][0]["reach"]
    assert low <= 6 <= high
    assert high - low < 11
    assert one.state["shown"] == [
        [value, count] for value, count in ((0, low), (1, high - low + 1), (0, 11 - high)) if count
    ]
    assert one.ask("continue") == ""
    one.phase("idle")
    assert one.state["shown"] == [[1, 12]]


def test_bad_messages_are_answered_and_change_nothing(server):
    one = Client(server).phase("idle")
    assert "not inside the frame" in one.ask("stroke", id="a", frame=0, path=[[2, 0]], object_id=1)
    assert "0 to 11" in one.ask("stroke", id="a", frame=12, path=[[0, 0]], object_id=1)
    assert "is not one of" in one.ask("format")
    assert "no stopped round" in one.ask("continue")
    assert "'hello' must be the first message of a connection, and only once" in one.ask("hello")
    one.socket.send(b"\x00" * 100)
    one.until(lambda client: client.hear()["type"] == "error")
    one.socket.send("{" + "x" * 1000)
    one.until(lambda client: client.hear()["type"] == "error")
    assert one.state["pending"] == []

    def too_much():
        one.socket.send("x" * 10_000_000)
        one.until(lambda client: False)

    with pytest.raises(ConnectionClosed) as error:
        too_much()
    assert error.value.rcvd is None or error.value.rcvd.code == 1009  # None: reset while it was still sending
    assert Client(server).phase("idle").stroke("b") == ""


def test_hello_comes_first(untouched):
    one = Client.__new__(Client)
    one.socket = connect(
        f"ws://127.0.0.1:{untouched.port}/w/clip/ws",
        additional_headers={"Cookie": untouched.cookie},
        origin=f"http://127.0.0.1:{untouched.port}",
    )
    one.seq, one.heard = 0, []
    assert one.ask("undo") == "the first message of a connection must be 'hello'"


def test_a_second_page_looks_on_until_it_takes_over(server):
    one, two = Client(server).phase("idle"), Client(server).phase("idle")
    assert (one.state["role"], two.state["role"]) == ("writer", "reader")
    assert two.stroke("x") == "another page is the writer; take over first"
    one.stroke("a")
    two.until(lambda client: client.state["pending"] == ["a"])
    two.ask("take_over")
    one.until(lambda client: client.state["role"] == "reader")
    assert two.stroke("b") == ""
    again = Client(server, page=two.facts["page"])  # its connection came back before the old one was missed
    again.phase("drawing", "previewing")
    assert again.state["role"] == "writer"
    again.socket.close()
    two.socket.close()
    one.until(lambda client: client.state["role"] == "writer")  # nobody else is left


def test_out_of_memory_in_a_round_loses_nothing(serve, tmp_path, clip):
    server = serve(root=str(tmp_path), videos=[str(clip)], **{"with": {"fail_at": 4}})
    one = Client(server).phase("idle")
    one.stroke("a", 6)
    one.ask("propagate", frame=6)
    one.until(lambda client: "error" in client.heard).phase("stopped")
    assert one.state["rounds"][0]["reach"] == [3, 9]
    one.ask("continue")  # the fake fails each time it is made; the round stands where it was
    one.until(lambda client: client.heard.count("error") == 2).phase("stopped")
    assert one.state["rounds"][0]["reach"] == [3, 9]


def test_any_segmenter_without_previews(serve, tmp_path, clip):
    server = serve(root=str(tmp_path), videos=[str(clip)], segmenter="Plain")
    one = Client(server).phase("idle")
    one.until(lambda client: client.state["can_preview"] is False)
    one.stroke("a")
    assert one.state["phase"] == "drawing"
    one.ask("propagate", frame=0)
    one.until(lambda client: client.state["shown"] == [[1, 12]]).phase("idle")
    one.ask("undo")
    one.stroke("b", 2)
    one.ask("propagate", frame=2)
    one.until(lambda client: client.state["shown"] == [[2, 12]]).phase("idle")


@pytest.mark.slow
def test_a_client_that_never_reads_keeps_nobody_waiting(server):
    """More is told than any buffer on the way holds; read at last, it has missed nothing that counts."""
    deaf = Client(server).phase("idle")
    one = Client(server).phase("idle")
    one.ask("take_over")
    path = [[0.123456 + i % 7 / 10, 0.234567] for i in range(MAX_POINTS)]
    keys = [f"long{i}" for i in range(30)]
    for key in keys:
        assert one.ask("stroke", id=key, frame=1, path=path, object_id=1) == ""
    one.stroke("a")
    one.ask("propagate", frame=0)
    one.until(lambda client: client.state["shown"] == [[1, 12]]).phase("drawing")
    assert len(json.dumps(path)) * len(keys) > 10e6
    deaf.until(lambda client: client.state["shown"] == [[1, 12]])
    assert deaf.heard.count("strokes") == 31
    assert deaf.heard.count("state") < one.heard.count("state")
    assert {key: deaf.masks[key] for key in one.masks if key[0]} == {
        k: v for k, v in one.masks.items() if k[0]
    }


def test_exports_are_written_and_sent(server):
    one = Client(server).phase("idle")
    one.stroke("a")
    one.ask("propagate", frame=0)
    one.until(lambda client: client.state["shown"] == [[1, 12]]).phase("idle")
    origin = {"Origin": f"http://127.0.0.1:{server.port}"}
    assert request(server, "/w/clip/export", "POST", '{"format": "exe"}', **origin)[0] == 400
    assert request(server, "/w/clip/export", "POST", "{" * 9000, **origin)[0] == 413
    assert request(server, "/w/clip/export", "POST", '{"format": "coco"}', **origin)[0] == 202
    while (message := one.hear())["type"] != "exported":
        pass
    status, headers, body = request(server, f"/w/clip/exports/{message['file']}")
    assert status == 200
    assert "attachment" in headers["content-disposition"]
    assert len(json.loads(body)["images"]) == 12


def test_killed_in_a_round_and_started_again(serve, tmp_path, clip, held):
    server = serve(root=str(tmp_path), videos=[str(clip)], **{"with": {"hold": held.after(5)}})
    one = Client(server).phase("idle")
    one.stroke("a", 6)
    one.stroke("b", 2)
    one.ask("propagate", frame=6)
    one.until(lambda client: len([key for key in client.masks if key[0]]) >= 4)
    seen = {key: value for key, value in one.masks.items() if key[0]}
    server.kill()
    held.go()
    server.start()
    again = Client(server).phase("stopped", "drawing", "previewing")
    assert again.state["pending"] == ["b"]
    low, high = again.state["rounds"][0]["reach"]
    assert all(low <= frame <= high for _, frame in seen)
    for number, frame in seen:
        assert (
            request(server, f"/w/clip/masks/{again.facts['id']}/{number}/{frame}")[2] == seen[number, frame]
        )
    assert again.ask("continue") == ""
    again.until(lambda client: client.state["shown"] == [[1, 12]]).phase("drawing")  # stroke b still waits
    assert again.state["notice"] == ""  # the masks that were made again are those on disk


def test_a_full_disk_is_said_and_nothing_is_lost(serve, tmp_path, clip):
    server = serve(root=str(tmp_path), videos=[str(clip)], full=True)
    one = Client(server).phase("idle")
    one.stroke("a")
    (tmp_path / "full").touch()  # from now on the journal cannot be written
    assert "No space left" in one.stroke("b")
    (tmp_path / "full").unlink()
    assert one.stroke("b") == ""
    assert one.state["pending"] == ["a", "b"]


def test_a_round_that_ends_on_a_full_disk_counts_and_is_saved_later(serve, tmp_path, clip, held):
    options = {"with": {"hold": held.after(4)}}
    server = serve(root=str(tmp_path), videos=[str(clip)], full=True, **options)
    one = Client(server).phase("idle")
    one.stroke("a")
    one.ask("propagate", frame=0)
    one.until(lambda client: len([key for key in client.masks if key[0]]) >= 4)
    (tmp_path / "full").touch()  # only the journal's writing is refused
    held.go()
    one.phase("idle").until(lambda client: client.state["saved"] is False)
    assert one.state["shown"] == [[1, 12]]
    assert "No space left" in one.stroke("b")
    (tmp_path / "full").unlink()
    assert one.stroke("b") == ""
    one.until(lambda client: client.state["saved"])
    kinds = [line["type"] for line in read_lines(tmp_path / "clip" / "journal.jsonl")]
    assert kinds[-2:] == ["round_end", "stroke"]


def test_the_port_is_taken(server, clip, tmp_path):
    options = {"root": str(tmp_path / "other"), "videos": [str(clip)], "port": server.port}
    command = [sys.executable, str(Path(__file__).with_name("serve.py")), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: port={server.port}: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_what_was_annotated_is_evaluated_as_it_is(server, tmp_path):
    """Two objects by messages, exported in DAVIS layout, through evaluate.py by the folder's name alone."""
    one = Client(server).phase("idle")
    assert one.ask("add_object", name="") == ""
    for key, x, number in (("a", 0.3, 1), ("b", 0.7, 2)):
        assert one.stroke(key, 0, x, number) == ""
    assert one.ask("propagate", frame=0) == ""
    one.until(lambda client: client.state["shown"] == [[1, 12]]).phase("idle")
    origin = {"Origin": f"http://127.0.0.1:{server.port}"}
    assert request(server, "/w/clip/export", "POST", '{"format": "davis"}', **origin)[0] == 202
    while (message := one.hear())["type"] != "exported":
        pass
    assert message["warning"] == ""
    program = Path(__file__).parents[2] / "evaluate.py"
    folder = tmp_path / "clip" / "exports" / "davis"
    command = [sys.executable, str(program), "segmenter=copy", f"data.root={folder}"]
    command += ["session.max_interactions=2", f"hydra.run.dir={tmp_path / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(tmp_path / "run" / "rounds.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["sequence"] for row in rows} == {"clip"}
