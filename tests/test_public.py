"""Tests that the public interface is imported quickly, has types, and equals the programs."""

import dataclasses
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

import ivos
from ivos.runtime.command_line import configs
from tests.support.discs import draw
from tests.support.programs import Program

ROOT = Path(__file__).parents[1]
STROKE = {"path": [[0.4, 0.5], [0.5, 0.6]], "object_id": 1}


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    """A folder in DAVIS layout whose frames are larger than the size that the shipped weights ask for."""
    root = tmp_path_factory.mktemp("davis")
    draw(root, "discs", size=(240, 190), frames=3, objects=1)
    scribbles = root / "Scribbles/discs/001.json"
    scribbles.write_text(json.dumps({"sequence": "discs", "scribbles": [[STROKE], [], []]}))
    return root


@pytest.fixture
def one_thread():
    """PyTorch in one thread, as in evaluate.py: another number gives other last digits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_name_is_there_and_documented():
    for name in ivos.__all__:
        found = getattr(ivos, name)
        assert name == "__version__" or inspect.getdoc(found), name
        assert name in dir(ivos)
    assert re.match(r"\d+(\.\d+)*", ivos.__version__)
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        _ = ivos.nosuch


def test_the_import_is_immediate():
    code = """
import sys, time
before = time.process_time()
import ivos
seconds = time.process_time() - before
heavy = {"torch", "numpy", "cv2", "PIL", "hydra", "pytorch_lightning"} & set(sys.modules)
assert not heavy, heavy
assert seconds < 0.3, seconds
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_readmes_snippet_gives_the_masks_of_evaluate(davis, tmp_path, monkeypatch, one_thread):
    """The snippet reads a video, draws a stroke and saves the masks that evaluate.py has after a round."""
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert snippet.count('"video.mp4"') == 1
    assert '{"path": [[0.4, 0.5], [0.5, 0.6]], "object_id": 1}' in snippet
    monkeypatch.chdir(tmp_path)
    exec(snippet.replace('"video.mp4"', repr(str(davis))), {})
    ours = sorted((tmp_path / "masks").glob("*.png"))
    assert [path.name for path in ours] == ["00000.png", "00001.png", "00002.png"]
    masks = np.stack([np.asarray(Image.open(path)) for path in ours])
    assert masks.shape == (3, 190, 240)
    assert set(np.unique(masks)) == {0, 1}
    options = [f"data.root={davis}", "save_masks=true", "session.max_interactions=1", "logger=none"]
    with Program("evaluate.py", [*options, f"hydra.run.dir={tmp_path / 'run'}"], tmp_path) as program:
        assert program.end() == 0, program.said()
    theirs = sorted((tmp_path / "run/masks/001/01/discs").glob("*.png"))
    assert np.array_equal(np.stack([np.asarray(Image.open(path)) for path in theirs]), masks)


class Everything:
    """A segmenter of a user's own."""

    def start(self, frames, num_objects):
        self.shape = frames.shape[:3]

    def interact(self, frame, strokes):
        return np.ones(self.shape, np.uint8)


def test_any_segmenter_over_any_videos(davis, tmp_path):
    from ivos.session import SessionSettings

    settings = SessionSettings(max_interactions=2)
    summaries = ivos.evaluate(Everything(), davis, tmp_path / "run", settings=settings)
    assert list(summaries) == ["J_AND_F"]
    assert 0 < summaries["J_AND_F"]["curve"]["J_AND_F"][-1] < 0.5
    assert (tmp_path / "run/report.csv").is_file()
    again = ivos.evaluate(Everything(), davis, settings=settings)  # equal but for the seconds it took
    assert again["J_AND_F"]["curve"]["J_AND_F"] == summaries["J_AND_F"]["curve"]["J_AND_F"]


def test_the_settings_of_an_evaluation_are_those_of_the_program(monkeypatch):
    import ivos.evaluation
    from ivos.interaction.robot import Robot
    from ivos.runtime.config import session_settings
    from ivos.session import SessionSettings

    given = []
    monkeypatch.setattr(ivos.evaluation, "evaluate", lambda *arguments, **_: given.append(arguments[2]))
    ivos.evaluate(Everything(), [])
    with initialize_config_dir(configs(), version_base="1.3"):
        program = session_settings(compose("evaluate", ["folder=unused"]))
    assert given == [SessionSettings()]
    assert [getattr(Robot(**given[0].robot), name) for name in program.robot] == list(program.robot.values())
    assert dataclasses.replace(given[0], robot=program.robot) == program


def test_videos_and_masks(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{index}.png"), frame[..., ::-1])
    assert np.array_equal(ivos.read_video(tmp_path), frames)
    masks = frames[..., 0] % 3
    files = ivos.save_masks(tmp_path / "out", masks)
    assert [file.name for file in files] == ["00000.png", "00001.png", "00002.png"]
    assert np.array_equal(np.stack([np.asarray(Image.open(file)) for file in files]), masks)
    assert ivos.save_masks(tmp_path / "out", masks[:1], ["bear"]) == [tmp_path / "out/bear.png"]
    with pytest.raises(ValueError, match="2 names for 3 masks"):
        ivos.save_masks(tmp_path / "out", masks, ["a", "b"])
    with pytest.raises(ValueError, match=r"uint8 \[T, h, w\] is needed, got float32"):
        ivos.save_masks(tmp_path / "out", masks.astype(np.float32))


def test_a_built_segmenter_has_the_weights_settings():
    segmenter = ivos.build_segmenter("small", device="cpu", undo_gib=1)
    assert (segmenter.short_side, segmenter.flow, segmenter.undo_gib) == (160, True, 1)
    assert isinstance(segmenter, ivos.LiveSegmenter)
    network = ivos.load("untrained")
    assert ivos.build_segmenter(network, short_side=64, device="cpu").short_side == 64
    with pytest.raises(ValueError, match="device=nosuch: not available"):
        ivos.build_segmenter(network, device="nosuch")


@pytest.mark.slow
def test_the_package_is_typed(tmp_path):
    """The type checker of somebody who uses ivos sees its annotations."""
    assert (ROOT / "ivos/py.typed").is_file()
    script = tmp_path / "use.py"
    script.write_text(
        "import ivos\n\nivos.build_segmenter('small').start('frames', 1)\nreveal_type(ivos.load)\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert 'Argument 1 to "start" of "ATNetSegmenter" has incompatible type "str"' in done.stdout, done.stdout
    assert "ATNet" in done.stdout.split("Revealed type")[1]
