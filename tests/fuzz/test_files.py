"""Tests that damaged files are read correctly or refused in one line that names them."""

import io
import json

import cv2
import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st
from PIL import Image

from ivos.data.datasets.youtube_vos import read_meta
from ivos.evaluation.report import round_rows
from ivos.evaluation.run_folder import RunFolder
from ivos.interaction import interaction_channels, read_scribbles
from ivos.networks import ATNet, load
from ivos.runtime.errors import UserError
from ivos.runtime.sweeps import read_scores
from ivos.session import ScoredRound, all_samples
from ivos.video.files import inspect_file, read_frame, read_mask
from ivos.video.names import name_fault, read_list
from ivos.video.palette import write_labels
from ivos.video.video import Video

from .exploring import as_json, changed, counts, damaged, explore, refused

STROKE = {"path": [[0.1, 0.5], [0.25, 1]], "object_id": 1, "start_time": 3}
SCRIBBLES = {"scribbles": [[STROKE, STROKE | {"object_id": 0}], []], "sequence": "cat"}


@counts(150)
def test_scribbles(examples, tmp_path):
    path = tmp_path / "001.json"

    def check(content):
        path.write_bytes(content)
        try:
            found = read_scribbles(path, "cat", 2, 1)
        except UserError as error:
            return refused(error, path)
        assert found["sequence"] == "cat"
        strokes = [stroke for frame in found["scribbles"] for stroke in frame]
        assert len(found["scribbles"]) == 2
        assert all(stroke["object_id"] in (0, 1) for stroke in strokes)
        points = [coordinate for stroke in strokes for point in stroke["path"] for coordinate in point]
        assert all(0 <= coordinate <= 1 for coordinate in points)
        for frame in found["scribbles"]:  # the run takes what the check took
            channels = interaction_channels(frame, None, 1, 8, 8)
            assert np.isfinite(channels).all()

    explore(check, changed(SCRIBBLES).map(as_json) | damaged(as_json(SCRIBBLES)), examples=examples)


def pictures():
    """PNG files of small pictures of all kinds, by Pillow."""

    def encoded(drawn):
        mode, size, seed, options = drawn
        values = np.random.default_rng(seed).integers(0, 4, (size[1], size[0])).astype(np.uint8)
        image = Image.fromarray(values)
        if mode == "P":
            image.putpalette(list(range(48)))
        else:
            image = image.convert(mode)
        options = options if mode in ("P", "L") else {}
        image.save(content := io.BytesIO(), "PNG", **options)
        return content.getvalue()

    sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
    options = st.sampled_from([{}, {"optimize": True}, {"bits": 2}, {"transparency": 0}])
    modes = st.sampled_from(["P", "L", "1", "RGB", "RGBA", "LA", "I;16"])
    return st.tuples(modes, sizes, st.integers(0, 9), options).map(encoded)


@counts(120)
def test_masks(examples, tmp_path):
    path, labels = tmp_path / "mask.png", np.random.default_rng(0).integers(0, 3, (11, 17)).astype(np.uint8)
    write_labels(path, labels)
    whole = path.read_bytes()

    def check(drawn):
        of_these, content = drawn
        path.write_bytes(content)
        info = inspect_file(path, "mask")
        try:
            found = read_mask(path)
        except UserError as error:
            refused(error, path)
            assert info.problem  # what the check has accepted is not refused in the run
            return
        if not info.problem:
            counted = np.bincount(found.ravel(), minlength=256)
            assert info.size == found.shape[::-1]
            assert dict(info.areas) == {label: counted[label] for label in np.flatnonzero(counted)}
        if of_these and not info.problem:  # damage that shows, or none
            assert np.array_equal(found, labels)

    of_others = pictures() | pictures().flatmap(damaged)
    drawn = st.tuples(st.just(True), damaged(whole)) | st.tuples(st.just(False), of_others)
    explore(check, drawn, examples=examples)


@counts(60)
def test_frames(examples, tmp_path):
    path = tmp_path / "frame.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (16, 24, 3)).astype(np.uint8)
    jpeg = cv2.imencode(".jpg", noise)[1].tobytes()

    def check(content):
        path.write_bytes(content)
        info = inspect_file(path, "frame")
        try:
            found = read_frame(path)
        except UserError as error:
            refused(error, path)
            assert info.problem
            return
        if not info.problem:
            assert found.shape == (*info.size[::-1], 3)

    explore(check, damaged(jpeg) | pictures(), examples=examples)


@counts(150)
def test_lists(examples, tmp_path):
    path = tmp_path / "val.txt"

    def check(content):
        path.write_bytes(content)
        try:
            names = read_list(path)
        except UserError as error:
            return refused(error, path)
        assert not any(map(name_fault, names))
        assert all((tmp_path / name).parent == tmp_path for name in names)
        assert names == [line.strip() for line in content.decode("utf-8-sig").split("\n") if line.strip()]

    lines = st.lists(
        st.sampled_from(["cat", "my cat", "../cat", "/etc", "", "c\0t", "cät", "x" * 300]) | st.text()
    )
    encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"])
    texts = st.builds(lambda one, code: "\n".join(one).encode(code, "replace"), lines, encodings)
    explore(check, texts | st.binary(max_size=30), examples=examples)


META = {"videos": {"cat": {"objects": {"1": {"category": "cat", "frames": ["00000", "00005"]}}}}}


@counts(80)
def test_meta_files(examples, tmp_path):
    path = tmp_path / "meta.json"

    def check(content):
        path.write_bytes(content)
        try:
            videos = read_meta(path)
        except UserError as error:
            return refused(error, path)
        assert not any(map(name_fault, videos))
        assert all(1 <= number <= 254 for objects in videos.values() for number in objects)

    explore(check, changed(META).map(as_json) | damaged(as_json(META)), examples=examples)


def one_video(folder):
    files = tuple(folder / f"{t}.png" for t in range(2))
    return Video("cat", files, files, (), (8, 8), 1, np.ones((2, 1), np.int64))


@counts(60)
def test_reports_of_samples(examples, tmp_path):
    """What is read back is what was written, in every figure."""
    (sample,) = all_samples([one_video(tmp_path)])
    run = RunFolder(tmp_path, [sample.video], 2)
    run.parts.mkdir()
    scores = np.random.default_rng(0).random((2, 2, 1))
    rounds = [
        ScoredRound(number, 0, [], np.zeros((2, 8, 8), np.uint8), scores[0], scores[1], 0.25)
        for number in (1, 2)
    ]
    table = pd.concat([round_rows(sample, each, "seed-0") for each in rounds], ignore_index=True)
    run.note(sample, table)
    run.complete(sample, table)
    path = run.parts / "cat-001.csv"
    whole, expected = path.read_bytes(), run.report()

    def check(content):
        path.write_bytes(content)
        try:
            found = run.report()
        except UserError as error:
            return refused(error, path)
        pd.testing.assert_frame_equal(found, expected, check_exact=True)

    def shuffled(order):
        lines = whole.splitlines(keepends=True)
        return b"".join(lines[index] for index in order)

    orders = st.lists(st.integers(0, len(whole.splitlines()) - 1), max_size=8).map(shuffled)
    cuts = st.integers(0, len(whole)).map(lambda end: whole[:end])
    holes = st.tuples(st.integers(0, len(whole)), st.integers(1, 64)).map(
        lambda hole: whole[: hole[0]] + bytes(min(hole[1], len(whole) - hole[0])) + whole[sum(hole) :]
    )
    explore(check, orders | cuts | holes, examples=examples)


SETTINGS = {"session.metric": "J", "session.seed": 0, "threads": 1, "data.sequences cat": "2 frames"}


@counts(80)
def test_settings_of_a_run(examples, tmp_path):
    run = RunFolder(tmp_path, [])
    path = tmp_path / "session.json"

    def check(content):
        path.write_bytes(content)
        try:
            run.open(SETTINGS)
        except UserError as error:
            return refused(error, tmp_path)
        found = json.loads(content)
        assert {name: found.get(name) for name in found | SETTINGS} == SETTINGS | {
            name: None for name in found if name not in SETTINGS
        }
        assert path.read_bytes() == content

    explore(check, changed(SETTINGS).map(as_json) | damaged(as_json(SETTINGS)), examples=examples)


@counts(40)
def test_scores_of_a_run(examples, tmp_path):
    path = tmp_path / "scores.json"
    scores = {"anet/val/J": 0.5, "session/J": 1}

    def check(content):
        path.write_bytes(content)
        try:
            found = read_scores(tmp_path)
        except UserError as error:
            return refused(error, path)
        assert all(isinstance(value, float) for value in found.values())

    explore(check, changed(scores).map(as_json) | damaged(as_json(scores)), examples=examples)


def tiny():
    torch.manual_seed(0)
    return ATNet(width=1, depths=(1, 1, 1, 1), decoder_width=2)


@counts(20)
def test_damaged_checkpoints(examples, tmp_path):
    """Weights that were loaded are those that were saved, whatever has happened to the file."""
    path = tmp_path / "net.pt"
    (network := tiny()).save(path)
    whole = path.read_bytes()

    def check(content):
        path.write_bytes(content)
        try:
            found = load(path)
        except UserError as error:
            return refused(error, path)
        assert found.config == network.config
        state = network.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in found.state_dict().items())

    explore(check, damaged(whole) | st.binary(max_size=64), examples=examples)


@counts(30)
def test_changed_checkpoints(examples, tmp_path):
    """Whatever stands in it: a network whose numbers are finite, or a line."""
    path = tmp_path / "net.pt"
    tiny().save(path)
    content = torch.load(path, weights_only=True)
    key = "anet.encoder.stem_bn.running_var"
    content["state_dict"] = {key: content["state_dict"].pop(key), **content["state_dict"]}
    small = {"ivos": content["ivos"], "state_dict": {key: torch.ones(1)}}  # shown where it fails
    tensors = st.sampled_from([
        torch.zeros(1), torch.zeros(0), torch.full((1,), torch.nan), -torch.ones(1), torch.ones(1).half(),
        torch.ones(1, dtype=torch.int8), torch.ones(1).to_sparse(), torch.ones(1, device="meta"),
        torch.ones(1, dtype=torch.complex64), torch.ones(1, dtype=torch.bool), torch.ones((1, 1)),
    ])  # fmt: skip
    plain = (
        st.none()
        | st.booleans()
        | st.integers(-3, 3)
        | st.sampled_from(["x", [1, 1, 1, 1], {"a": 1}, {3: 4}, 1e9])
    )

    def check(changes):
        whole = changes
        if isinstance(whole, dict) and isinstance(whole.get("state_dict"), dict):
            whole = whole | {"state_dict": {**content["state_dict"], **whole["state_dict"]}}
        torch.save(whole, path)
        try:
            found = load(path)
        except UserError as error:
            return refused(error, path)
        assert all(value.isfinite().all() for value in found.state_dict().values())
        assert (found.anet.encoder.stem_bn.running_var >= 0).all()

    explore(check, changed(small, tensors | plain), examples=examples)
