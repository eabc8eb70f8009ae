"""Tests of what a training run logs, read back from its files."""

import copy
import signal
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ivos.engine import ATNetSegmenter
from ivos.runtime.errors import UserError
from ivos.runtime.lightning_loggers import CSVLogger, WandbLogger
from ivos.runtime.loggers import git_revision
from ivos.training.callbacks import LearningCurve, Performance
from ivos.training.pictures import local_transfer_picture, sessions_picture
from ivos.training.validation import simulate_session
from tests.support.tiny import MODEL, ROOT, clips, main, stage, train
from tests.support.wandb_records import OfflineRun


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def logged(root, tmp_path_factory):
    """A run of two stages and a session, logged in all ways."""
    place = tmp_path_factory.mktemp("run")
    status, out, errors = train(
        place, f"data.root={root}", f"hydra.run.dir={place / 'run'}", "logger=[csv,tensorboard,wandb]",
        "checkpoint_artifacts=true", "session.max_interactions=1", "trainer.log_every_n_steps=1", *MODEL,
        *stage("anet", **{"trainer.max_epochs": 2}), *stage("tnet", **{"data.samples.num_frames": 3}),
    )  # fmt: skip
    assert status == 0, errors
    return SimpleNamespace(folder=place / "run", place=place, out=out, errors=errors)


def test_a_line_says_that_wandb_is_offline_and_nothing_else_is_said(logged):
    lines = logged.errors.strip().splitlines()
    assert len(lines) == 1, logged.errors
    assert "not logged in" in lines[0]
    assert "offline" in lines[0]
    assert "INFO" not in logged.out
    assert not (logged.place / "lightning_logs").exists()
    assert not (logged.place / "wandb").exists()


def test_csv(logged):
    for name, steps in (("anet", 4), ("tnet", 2)):
        rows = pd.read_csv(logged.folder / name / "metrics.csv")
        assert rows.dropna(subset="train/loss")["step"].tolist() == list(range(steps))
        assert rows["lr-AdamW"].dropna().gt(0).all()
        assert rows["speed/samples_per_second"].dropna().between(0.01, 1e4).all()
        assert rows["speed/waiting_for_data"].dropna().between(0, 1).all()
        assert rows["memory/process_gib"].dropna().between(0.05, 50).all()
        assert len(rows["val/J"].dropna()) == steps // 2
        pictures = sorted((logged.folder / name / "pictures").iterdir())
        assert [path.name for path in pictures] == [
            f"val_sessions_{step:06d}.png" for step in range(2, steps + 1, 2)
        ]
        known = yaml.safe_load((logged.folder / name / "hparams.yaml").read_text())
        assert known["model"]["width"] == 4
        assert known["git"] == (git_revision() or "unknown")
    session = pd.read_csv(logged.folder / "session" / "metrics.csv")
    scores = pd.read_csv(logged.folder / "session" / "scores.csv", index_col=0)
    assert session["J_round_1"].item() == pytest.approx(scores.loc["trained", "round 1"])


def test_tensorboard(logged):
    events = EventAccumulator(str(logged.folder / "tnet"))
    events.Reload()
    assert {"train/loss", "val/J", "lr-AdamW", "speed/samples_per_second"} <= set(events.Tags()["scalars"])
    rows = pd.read_csv(logged.folder / "tnet" / "metrics.csv").dropna(subset="train/loss")
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(rows["train/loss"])
    (picture,) = events.Images("val/sessions")
    decoded = cv2.imdecode(np.frombuffer(picture.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decoded, cv2.imread(str(logged.folder / "tnet/pictures/val_sessions_000002.png")))
    session = EventAccumulator(str(logged.folder / "session"))
    session.Reload()
    assert "session" not in session.Tags()["scalars"]
    (table,) = session.Tensors("scores/text_summary")
    assert b"annotated mask copied" in table.tensor_proto.string_val[0]


def test_wandb(logged):
    run = OfflineRun(logged.folder / "wandb")  # one for both stages and the session
    assert run.id == (logged.folder / "wandb_id.txt").read_text().strip()
    config = run.config()
    assert config["model"]["width"] == 4
    assert config["git"] == (git_revision() or "unknown")
    for name in ("anet", "tnet"):
        rows = pd.read_csv(logged.folder / name / "metrics.csv").dropna(subset="train/loss")
        found = {
            row["trainer/global_step"]: row[key] for row in run.rows() if (key := f"{name}/train/loss") in row
        }
        assert found == pytest.approx(dict(zip(rows["step"], rows["train/loss"], strict=True)))
        assert any(f"{name}/lr-AdamW" in row for row in run.rows())
        pictures = run.media(f"{name}/val/sessions", "filenames")
        ours = sorted((logged.folder / name / "pictures").iterdir())
        assert len(pictures) == len(ours)
        assert np.array_equal(np.asarray(Image.open(pictures[-1])), np.asarray(Image.open(ours[-1])))
        assert run.artifacts()[f"{name}-{run.id}"] == ("model", {"best.ckpt", "final.ckpt"})
    (table,) = run.media("session/scores")
    content = yaml.safe_load(table.read_text())
    assert content["columns"] == ["segmenter", "round 1", "propagated 1"]
    assert [row[0] for row in content["data"]][:2] == ["trained", "untrained"]
    (score,) = [row["session/J"] for row in run.rows() if "session/J" in row]
    assert score == pytest.approx(content["data"][0][1])


ANET = ("experiment=anet", *MODEL, "trainer.log_every_n_steps=1", "callbacks.last.every_n_train_steps=4")


@pytest.mark.slow
def test_a_killed_run_goes_on_with_its_log(root, tmp_path):
    """Every step once, the same numbers as undisturbed, the same W&B run."""
    options = (
        f"data.root={root}",
        *ANET,
        *stage("anet", **{"data.num_batches": 10, "trainer.max_epochs": 2}),
    )
    status, _, errors = train(tmp_path, f"hydra.run.dir={tmp_path / 'whole'}", *options)
    assert status == 0, errors

    options = (f"hydra.run.dir={tmp_path / 'killed'}", *options, "logger=[csv,wandb]")
    moment = ("+callbacks.killed._target_=tests.support.two.Killed", "+callbacks.killed.step=15")
    status, _, errors = train(tmp_path, *options, *moment)  # beyond a checkpoint
    assert status == -signal.SIGKILL, errors
    log = (tmp_path / "killed" / "anet" / "metrics.csv").read_text()
    assert log.count("\n") > 2 * 13  # learning rate and figures: two rows a step
    identity = (tmp_path / "killed" / "wandb_id.txt").read_text()
    status, _, errors = train(tmp_path, *options, "resume=true")
    assert status == 0, errors

    whole, resumed = (pd.read_csv(tmp_path / run / "anet" / "metrics.csv") for run in ("whole", "killed"))
    for name in ("train/loss", "val/J", "lr-Adam"):
        one, other = (rows.dropna(subset=name) for rows in (whole, resumed))
        assert one["step"].tolist() == other["step"].tolist(), name
        assert one[name].tolist() == pytest.approx(other[name].tolist()), name
    assert (tmp_path / "killed" / "wandb_id.txt").read_text() == identity
    parts = list((tmp_path / "killed" / "wandb").glob(f"offline-run-*-{identity.strip()}"))
    assert len(parts) == 2


def test_rows_after_the_checkpoint_are_replaced_and_a_torn_line_is_dropped(tmp_path):
    first = CSVLogger(tmp_path, "", "", flush_logs_every_n_steps=1)
    for step in range(5):
        first.log_metrics({"a": step}, step)
    path = tmp_path / "metrics.csv"
    path.write_text(path.read_text() + "17")  # killed within a line
    second = CSVLogger(tmp_path, "", "", flush_logs_every_n_steps=1)
    second.log_hyperparams({"x": 1})
    second.log_metrics({"a": 30.0, "b": 1.0}, 3)
    second.log_metrics({"b": 2.0}, 4)
    rows = pd.read_csv(path)
    assert rows["step"].tolist() == [0, 1, 2, 3, 4]
    assert rows["a"].tolist()[:4] == [0, 1, 2, 30]
    assert rows["b"].tolist()[3:] == [1, 2]


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """Nobody is logged in to W&B."""
    for name in ("WANDB_API_KEY", "WANDB_RUN_ID", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv(
        "WANDB_X_DISABLE_VIEWER", "true"
    )  # else whose a key is would be asked for, and waited for
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "of_wandb"))
    import wandb

    wandb.teardown()
    yield
    wandb.teardown()


def test_modes_of_wandb(nobody, tmp_path, monkeypatch, capsys):
    offline = WandbLogger(tmp_path / "run", tmp_path / "run")
    assert offline._wandb_init["mode"] == "offline"
    assert "not logged in" in capsys.readouterr().err
    disabled = WandbLogger(tmp_path / "off", tmp_path / "off", mode="disabled")
    disabled.log_metrics({"a": 1.0}, 0)
    disabled.experiment.finish()
    assert not (tmp_path / "off" / "wandb").exists()
    assert not capsys.readouterr().err
    with pytest.raises(UserError, match=r"logger\.wandb\.mode: 'on' is not one of online, offline, disabled"):
        WandbLogger(tmp_path, tmp_path, mode="on")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    online = WandbLogger(tmp_path / "run", tmp_path / "run" / "anet")  # nothing is sent before it logs
    assert online._wandb_init["mode"] == "online"
    assert online._wandb_init["resume"] == "allow"
    assert online.version == offline.version
    assert online._prefix == "anet"


@pytest.mark.parametrize("content", [b"", b"\n", b"a b\n", b"a/b", b"\xff", b"a" * 200], ids=repr)
def test_an_id_that_is_none_is_a_clear_line(content, nobody, tmp_path):
    note = tmp_path / "wandb_id.txt"
    note.write_bytes(content)
    with pytest.raises(UserError, match=rf"{note}: not the id of a W&B run; .* delete the file"):
        WandbLogger(tmp_path, tmp_path, mode="offline")
    assert note.read_bytes() == content
    note.write_text("0a1b2c3d\n")
    assert WandbLogger(tmp_path, tmp_path, mode="offline").version == "0a1b2c3d"


@pytest.mark.parametrize("place", ["wandb", "data", "cache"])
def test_a_folder_that_wandb_cannot_write_is_found_at_the_start(place, nobody, tmp_path, monkeypatch):
    for name in ("data", "cache"):
        monkeypatch.setenv(f"WANDB_{name.upper()}_DIR", str(tmp_path / name))
    (tmp_path / place).write_text("a file in its place")
    with pytest.raises(
        UserError, match=rf"W&B: {tmp_path / place} cannot be written \(.*\); set WANDB_DATA_DIR"
    ):
        WandbLogger(tmp_path, tmp_path, mode="offline")
    assert WandbLogger(tmp_path, tmp_path, mode="disabled")


def test_a_log_that_is_damaged(tmp_path):
    """What a loss of power leaves: lines of zeros, half a line; and a file that is somebody else's."""
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"a,step\n0.5,0\n0.25,1\n" + bytes(30) + b"\n0.125\n,\n0.1,2")
    log = CSVLogger(tmp_path, "", "", flush_logs_every_n_steps=1)
    log.log_metrics({"a": 0.75}, 2)
    assert pd.read_csv(path).to_dict("list") == {"a": [0.5, 0.25, 0.75], "step": [0, 1, 2]}
    path.write_text("name,size\ndisc,3\n")
    with pytest.raises(UserError, match=rf"{path}: no column 'step'"):
        CSVLogger(tmp_path, "", "").log_metrics({"a": 1.0}, 0)
    assert path.read_text() == "name,size\ndisc,3\n"


def test_the_revision_is_that_of_the_checkout():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    asked = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    assert git_revision().removesuffix("-dirty") == asked.stdout.strip()


@pytest.mark.parametrize("program", ["train", "evaluate"])
@pytest.mark.parametrize("choice", ["none", "csv", "tensorboard", "wandb", "[csv,tensorboard,wandb]"])
def test_loggers_are_choices(program, choice):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose(program, overrides=[f"logger={choice}"])
    assert sorted(cfg.logger) == sorted(choice.strip("[]").split(","))


@pytest.mark.slow
def test_without_a_logger_a_run_still_leaves_its_checkpoints(root, tmp_path):
    status, _, errors = train(
        tmp_path,
        f"data.root={root}",
        f"hydra.run.dir={tmp_path / 'run'}",
        "logger=none",
        *ANET,
        *stage("anet"),
    )
    assert status == 0, errors
    assert {"best.ckpt", "final.ckpt", "curve.png", "settings.json"} == {
        p.name for p in (tmp_path / "run/anet").iterdir()
    }


def test_artifacts_without_wandb_are_refused(tmp_path, monkeypatch, capsys):
    status, errors = main(
        monkeypatch, capsys, f"hydra.run.dir={tmp_path / 'run'}", "checkpoint_artifacts=true"
    )
    assert status == 2
    assert errors.strip().splitlines() == [
        "error: checkpoint_artifacts=true: only W&B stores artifacts; add it: logger=[csv,wandb]"
    ]


class Truth:
    """A segmenter that knows the answer."""

    def __init__(self, clip):
        self.clip = clip

    def start(self, frames, num_objects):
        pass

    def interact(self, frame, strokes):
        return self.clip.labels


def test_pictures_show_what_they_should(clips, network):
    before = copy.deepcopy(network.state_dict())
    network.eval()
    perfect = simulate_session(Truth(clips[0]), clips[0], 2, 0)
    poor = simulate_session(ATNetSegmenter(network), clips[0], 2, 0)
    good, bad = sessions_picture([perfect], network), sessions_picture([poor], network)
    assert good.dtype == np.uint8
    width = good.shape[1] // 4
    columns = [good[40:, i * width : (i + 1) * width].astype(int) for i in range(4)]
    coloured = [((c.max(-1) - c.min(-1)) == 255).mean() for c in columns]  # pure colours: strokes, outlines
    assert min(coloured[:3]) > 0.002
    assert sessions_picture([perfect, poor], network).shape[0] > 1.8 * good.shape[0]
    assert np.abs(good[:, : 2 * width].astype(int) - bad[:, : 2 * width]).mean() < 3  # frames and truth agree
    assert np.abs(good[:, 2 * width : 3 * width].astype(int) - bad[:, 2 * width : 3 * width]).mean() > 3
    one = clips[0].only(0)
    alone = sessions_picture([simulate_session(Truth(one), one, 1, 0)], network)
    assert alone.shape[1] < good.shape[1]  # a single frame has no local transfer
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_local_transfer_of_a_full_mask_is_full(clips, network):
    """It averages the neighbour's mask over displacements: of a mask of ones that is one, of zeros zero."""
    result = simulate_session(Truth(clips[0]), clips[0], 1, 0)
    after = result.rounds[0]
    after = replace(after, masks=np.ones_like(after.masks))
    picture = local_transfer_picture(result, after, 3, 2, network.eval())
    assert picture.shape == (64, 64, 3)
    inside = picture[20:44, 20:44]
    assert (inside[..., 0] > 250).all()
    assert (inside[..., 1:] == 0).all()


def test_speed_counts_samples_and_waiting(monkeypatch):
    """Ten samples a batch, a tenth of a second each, half of it waited for."""
    now = [0.0]
    monkeypatch.setattr("ivos.training.callbacks.time.perf_counter", lambda: now[0])
    rows, callback = [], Performance(every=2)
    module = SimpleNamespace(device=torch.device("cpu"), log_dict=lambda figures, **_: rows.append(figures))
    trainer, batch = SimpleNamespace(world_size=2), {"names": ["a"] * 10}
    callback.on_train_epoch_start(trainer, module)
    for number in range(3):
        now[0] += 0.05
        callback.on_train_batch_start(trainer, module, batch, number)
        now[0] += 0.05
        callback.on_train_batch_end(trainer, module, None, batch, number)
    assert rows[-1]["speed/samples_per_second"] == pytest.approx(200)
    assert rows[-1]["speed/waiting_for_data"] == pytest.approx(0.5)


class OnDevice(torch.Tensor):
    """A tensor that, as one on a GPU, cannot be put together with those of the CPU."""

    @classmethod
    def __torch_function__(cls, function, kinds, arguments=(), options=None):
        if function is torch.stack and not all(isinstance(one, OnDevice) for one in arguments[0]):
            raise RuntimeError("Expected all tensors to be on the same device")
        return super().__torch_function__(function, kinds, arguments, options)


def test_a_resumed_curve_goes_on_beside_values_on_a_device(tmp_path):
    curve = LearningCurve(tmp_path / "curve.png", every=4)
    trainer = SimpleNamespace(callback_metrics={}, global_step=0)
    for trainer.global_step in (1, 2):
        trainer.callback_metrics = {"train/loss": torch.tensor(float(trainer.global_step))}
        curve.on_train_batch_end(trainer)
    again = LearningCurve(tmp_path / "curve.png", every=4)
    again.load_state_dict(copy.deepcopy(curve.state_dict()))
    for trainer.global_step in (3, 4):
        trainer.callback_metrics = {
            "train/loss": torch.tensor(float(trainer.global_step)).as_subclass(OnDevice)
        }
        again.on_train_batch_end(trainer)
        assert again.state_dict()["points"].get("train/loss") == (
            [[4, 2.5]] if trainer.global_step == 4 else None
        )


def test_the_curve_is_drawn_and_goes_on_after_a_resume(tmp_path):
    curve = LearningCurve(tmp_path / "curve.png")
    curve.points = {"train/loss": [[10, 1.0], [20, 0.5]], "val/J_propagated_round_1": [[20, 0.4]]}
    again = LearningCurve(tmp_path / "curve.png")
    again.load_state_dict(curve.state_dict())
    again.draw(tmp_path / "curve.png")
    picture = np.asarray(Image.open(tmp_path / "curve.png").convert("RGB")).astype(int)
    assert (np.abs(picture - [255, 127, 14]).sum(-1) < 30).any()  # the dot of validation
