"""Tests of scribble files and of drawing strokes on a grid."""

import json
import os
from itertools import pairwise

import cv2
import numpy as np
import pytest

from ivos.interaction import (
    ScribbleError,
    check_strokes,
    interaction_channels,
    rasterise,
    read_scribbles,
    write_scribbles,
)
from ivos.interaction.raster import _polyline


def stroke(*points, object_id=1):
    return {"path": [list(point) for point in points], "object_id": object_id}


def test_there_and_back(tmp_path):
    scribbles = {"scribbles": [[], [stroke((0, 0), (1, 0.25), object_id=2)]], "sequence": "bear"}
    write_scribbles(tmp_path / "001.json", scribbles)
    assert read_scribbles(tmp_path / "001.json", "bear", num_frames=2, num_objects=2) == scribbles


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(sequence="lion"), "drawn on sequence 'lion', not on 'bear'"),
        (lambda s: s["scribbles"].append([]), "lists 2 frames, but the sequence has 1"),
        (lambda s: s["scribbles"][0][0]["path"].append([1.01, 0]), r"frame 0, stroke 0 .* outside \[0, 1\]"),
        (lambda s: s["scribbles"][0][0]["path"].append([0, -0.1]), r"outside \[0, 1\]"),
        (lambda s: s["scribbles"][0][0]["path"].append([float("nan"), 0]), r"outside \[0, 1\]"),
        (lambda s: s["scribbles"][0][0]["path"].append([0.5]), r"must be \[x, y\]"),
        (lambda s: s["scribbles"][0][0].update(path=[]), "empty path"),
        (lambda s: s["scribbles"][0][0].update(object_id=2), "object 2, but the highest object number is 1"),
        (lambda s: s["scribbles"][0][0].update(object_id="1"), "object_id '1'"),
        (lambda s: s["scribbles"][0].append({}), "stroke 1 is not an object"),
        (lambda s: s.update(scribbles={}), "no list 'scribbles'"),
        (lambda s: s["scribbles"][0][0].update(path={"0": [0, 0]}), r"path \{'0': .*\}; it must be a list"),
        (lambda s: s["scribbles"][0][0].update(path="left"), "path 'left'; it must be a list"),
        (lambda s: s["scribbles"][0][0].update(path=None), "path None; it must be a list"),
        (lambda s: s["scribbles"][0][0].update(path=["12"]), r"point '12'; it must be \[x, y\]"),
        (lambda s: s["scribbles"][0][0].update(path=[["0.1", "0.2"]]), r"\['0.1', '0.2'\]; it must be"),
        (lambda s: s["scribbles"][0][0].update(path=[[True, 0]]), r"\[True, 0\]; it must be \[x, y\]"),
        (lambda s: s["scribbles"][0][0].update(path=[{"x": 0, "y": 1}]), "must be"),
        (lambda s: s["scribbles"][0][0].update(path=[[10**400, 0]]), r"1000\d*\.\.\.\d+, 0\] outside"),
        (lambda s: s["scribbles"][0][0].update(path=[[-(10**400), 0]]), "outside"),
        (lambda s: s["scribbles"][0][0].update(path=[[0, float("inf")]]), "outside"),
        (lambda s: s["scribbles"][0][0].update(object_id=10**400), r"for object 1000\d*\.\.\."),
        (lambda s: s["scribbles"][0][0].update(object_id=1.0), "object_id 1.0"),
        (lambda s: s["scribbles"][0][0].update(object_id=True), "object_id True"),
        (lambda s: s["scribbles"][0].append([]), "stroke 1 is not an object"),
        (lambda s: s["scribbles"].__setitem__(0, {}), "frame 0 does not contain a list"),
        (lambda s: s.update(sequence=["bear"]), r"'sequence' is \['bear'\]; it must be a name"),
        (lambda s: s.update(sequence="b" * 10_000), "drawn on sequence 'bbb"),
    ],
)
def test_bad_files_are_named(tmp_path, change, message):
    scribbles = {"scribbles": [[stroke((0, 0))]], "sequence": "bear"}
    change(scribbles)
    path = tmp_path / "001.json"
    path.write_text(json.dumps(scribbles))
    with pytest.raises(ScribbleError, match=message) as error:
        read_scribbles(path, "bear", num_frames=1, num_objects=1)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 200


def test_no_json(tmp_path):
    (tmp_path / "001.json").write_text("{")
    with pytest.raises(ScribbleError, match="not a readable JSON file"):
        read_scribbles(tmp_path / "001.json")


FILES = {
    "100,000 levels": (b"[" * 100_000 + b"]" * 100_000, "too many levels"),
    "900 levels": (b'{"scribbles": ' + b"[" * 900 + b"]" * 900 + b"}", "stroke 0 is not an object"),
    "a point of 900 levels": (
        b'{"scribbles": [[{"object_id": 1, "path": ' + b"[" * 900 + b"]" * 900 + b"}]]}",
        r"has a point \[",
    ),
    "5000 digits": (b'{"scribbles": [[{"object_id": 1, "path": [[1' + b"0" * 5000 + b", 0]]}]]}", "digits"),
    "1e400": (b'{"scribbles": [[{"object_id": 1, "path": [[1e400, 0]]}]]}', "outside"),
    "Latin-1": ('{"sequence": "bär", "scribbles": []}'.encode("latin-1"), "utf-8"),
    "UTF-16": ('{"sequence": "bear", "scribbles": []}'.encode("utf-16"), "utf-8"),
    "nothing": (b"", "not a readable JSON file"),
    "zeros": (bytes(100), "not a readable JSON file"),
    "half": (b'{"scribbles": [[{"object_id": 1, "pa', "not a readable JSON file"),
    "a number": (b"3", "no list 'scribbles'"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_one_line(name, tmp_path):
    content, message = FILES[name]
    path = tmp_path / "001.json"
    path.write_bytes(content)
    with pytest.raises(ScribbleError, match=message) as error:
        read_scribbles(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 200


def test_a_byte_order_mark_and_points_a_hair_outside_are_accepted(tmp_path):
    path = tmp_path / "001.json"
    points = [[1.0000001, 0.5], [-0.004, 1.005], [0.25, 0.75]]
    content = {"scribbles": [[{"path": points, "object_id": 1, "start_time": 3}]], "sequence": "bear"}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    ((found,),) = read_scribbles(path, "bear", 1, 1)["scribbles"]
    assert found == {"path": [[1, 0.5], [0, 1], [0.25, 0.75]], "object_id": 1, "start_time": 3}
    drawn = rasterise(content["scribbles"][0], 48, 64)  # what is drawn without a file is clipped, too
    np.testing.assert_array_equal(drawn, rasterise([found], 48, 64))
    check_strokes(content["scribbles"][0], 1)
    with pytest.raises(ScribbleError, match=r"outside \[0, 1\]"):
        check_strokes([{"path": [[1.006, 0]], "object_id": 1}])


def test_what_is_no_file_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    for name in ("pipe.json", "folder.json"):
        with pytest.raises(ScribbleError, match=rf"{name}: not a file$"):
            read_scribbles(tmp_path / name)
    for name in ("none.json", "n" * 300 + ".json", "folder.json/none.json"):
        with pytest.raises(ScribbleError, match=r"\.json: not readable \("):
            read_scribbles(tmp_path / name)


def test_arrays_and_numbers_of_numpy_are_strokes():
    path = np.array([[0, 0.5], [1, 1]], np.float32)
    check_strokes(
        [{"path": path, "object_id": np.int64(2)}, {"path": ((0, np.float64(1)),), "object_id": 0}], 2
    )
    with pytest.raises(ScribbleError, match=r"stroke 0 has a point \[0.0, 2.0\] outside"):
        check_strokes([{"path": path * [1, 2] + [0, 1], "object_id": 1}])
    with pytest.raises(ScribbleError, match=r"stroke 0 has a point 0\.0; it must be"):
        check_strokes([{"path": path[0].tolist(), "object_id": 1}])


def test_what_is_written_replaces_what_is_there_at_once(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_scribbles(path, {"scribbles": [[]], "sequence": "bear"})
    before = path.read_text()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_scribbles(path, {"scribbles": [[], []], "sequence": "bear"})
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_bad_is_written(tmp_path):
    with pytest.raises(ScribbleError, match="not written: frame 0"):
        write_scribbles(tmp_path / "x.json", {"scribbles": [[stroke((2, 2))]], "sequence": "bear"})
    assert not (tmp_path / "x.json").exists()


def test_lines_are_bresenhams():
    """Against the incremental rule of the specification, written out."""

    def reference(start, end):
        delta = np.subtract(end, start)
        sign, length = np.sign(delta), np.abs(delta)
        major, minor = (0, 1) if length[0] > length[1] else (1, 0)
        d, point, line = 2 * length[minor] - length[major], np.array(start), []
        for _ in range(length[major] + 1):
            line.append(point.tolist())
            if d >= 0:
                point[minor] += sign[minor]
                d -= 2 * length[major]
            d += 2 * length[minor]
            point[major] += sign[major]
        return line

    rng = np.random.default_rng(0)
    for _ in range(300):
        points = rng.integers(0, 30, (rng.integers(2, 6), 2))
        expected = [pixel for pair in pairwise(points) for pixel in reference(*pair)]
        assert _polyline(points).tolist() == expected


def test_a_point_is_drawn_up_and_left_and_clamped():
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)).astype(np.float32)
    canvas = np.zeros((20, 30), np.float32)
    canvas[8:13, 4:9] = brush  # centred on y 10, x 6
    expected = cv2.GaussianBlur(canvas, (5, 5), 6)
    assert np.array_equal(rasterise([stroke((7 / 30, 11 / 20))], 20, 30), expected)
    corner = rasterise([stroke((0, 0))], 20, 30)  # would be at -1, -1
    assert np.array_equal(corner, rasterise([stroke((1 / 30, 1 / 20))], 20, 30))
    assert corner.max() <= 1


def test_channels():
    strokes = [
        stroke((0.2, 0.5), (0.4, 0.5)),
        stroke((0.7, 0.5), object_id=2),
        stroke((0.5, 0.1), object_id=0),
    ]
    first = interaction_channels(strokes, None, 2, 40, 60)
    assert first.shape == (2, 3, 40, 60)
    assert first.dtype == np.float32
    assert (first[:, 0] == 0.5).all()
    assert np.array_equal(first[0, 1], rasterise(strokes[:1], 40, 60))
    assert (first[:, 2] == 0).all()  # no negatives in the first round
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 30:] = 1
    later = interaction_channels(strokes, mask, 2, 40, 60)
    assert np.array_equal(later[0, 0], mask)
    assert np.array_equal(later[0, 2], rasterise(strokes[1:], 40, 60) * mask)
    assert later[0, 2].max() > 0
    assert (later[1, 2] == 0).all()  # object 2 is nowhere, so nothing is taken from it
