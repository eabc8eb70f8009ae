"""Tests of sweeps: grids, Optuna's studies, W&B's file, and the table over the runs."""

import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import cv2
import optuna
import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ivos.runtime.errors import UserError
from ivos.runtime.sweep_table import summarise, table
from ivos.runtime.sweeps import _retry_interrupted_trials, note_scores, one_run, read_scores
from tests.support.tiny import MODEL, ROOT, clips, main, stage, start, train


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def train_main(monkeypatch, capsys):
    return lambda *arguments: main(monkeypatch, capsys, *arguments)


def tiny(root, folder):
    return ["-m", f"data.root={root}", f"hydra.sweep.dir={folder}", "experiment=anet", *MODEL, *stage("anet")]


def runs_of(folder, scores, failed=(), direction=None):
    """A sweep's folder without the work."""
    for number, score in enumerate(scores):
        (hydra := folder / str(number) / ".hydra").mkdir(parents=True)
        overrides = [
            "experiment=anet",
            f"+a.lr={10.0**-number}",
            f"model={'small' if number % 2 else 'full'}",
        ]
        (hydra / "overrides.yaml").write_text(yaml.safe_dump(overrides))
        (hydra / "config.yaml").write_text("optimized_metric: session/J\n")
        (hydra / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"sweeper": {"direction": direction}}}))
        if score is not None:
            note_scores(folder / str(number), "session", {"J": score, "J_round_1": score / 2})
    for number in failed:
        (folder / str(number) / "error.txt").write_text("out of luck\n")


def test_the_table_of_a_sweep(tmp_path, capsys):
    runs_of(tmp_path, [0.2, 0.5, None, 0.3, None, *[0.1] * 6], failed=[2])
    runs = summarise(tmp_path)
    assert runs["run"].tolist() == ["1", "3", "0", "5", "6", "7", "8", "9", "10", "2", "4"]
    assert runs["status"].tolist() == ["done"] * 9 + ["failed", "unfinished"]
    assert list(runs) == ["run", "status", "a.lr", "model", "session/J", "session/J_round_1"]
    written = pd.read_csv(tmp_path / "sweep.csv")
    assert written["session/J"].tolist()[:3] == [0.5, 0.3, 0.2]
    assert written["a.lr"][0] == 0.1
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == [f"Sweep {tmp_path.name}, by session/J", "a: a.lr", "b: model"]
    assert out[3].split() == ["run", "a", "b", "figure"]
    assert out[4].split() == ["1", "0.1", "small", "0.5000", "best"]
    assert out[5].split() == ["3", "0.001", "small", "0.3000"]
    assert [line.split()[-2:] for line in out[13:15]] == [["-", "failed"], ["-", "unfinished"]]
    assert len({len(line) for line in out[5:13]}) == 1  # columns are straight
    assert "experiment" not in str(out)  # what all runs share is not shown
    picture = cv2.imread(str(tmp_path / "sweep.png"))
    assert picture.shape[1] > 2.5 * picture.shape[0]  # three panels
    assert picture.std() > 10


def test_the_table_has_room_in_80_columns():
    """Long names, many parameters, values of any length; what finds no room is said to be elsewhere."""
    names = [f"stages.anet.module.scheduler.option_{number}" for number in range(9)]
    runs = pd.DataFrame({"run": ["0", "12"], "status": ["done", "unfinished"], "m/J_round_3": [0.5, None]})
    for name in names:
        runs[name] = [0.000123456, "[a,b,c,d,e,f,g,h,i]"]
    lines = table(runs, names, "m/J_round_3")
    assert max(map(len, lines)) <= 80, lines
    assert lines[0] == f"a: {names[0]}"
    assert f"more in sweep.csv: {names[3]}, {names[4]}" in " ".join(lines)
    first, second = (line.split() for line in lines[-2:])
    assert first == ["0", *["0.0001235"] * 3, "0.5000", "best"]
    assert second == ["12", *["[a,b,c,d,e,..."] * 3, "-", "unfinished"]
    assert table(runs, [], "m/J_round_3")[1].split() == ["0", "0.5000", "best"]


def test_damaged_scores_are_a_clear_line(tmp_path):
    runs_of(tmp_path, [0.2, 0.5])
    for content in ("", "[1]", '{"J": "high"}', '{"J": null}', "\0" * 20):
        (tmp_path / "1" / "scores.json").write_text(content)
        with pytest.raises(UserError, match=rf"{tmp_path}/1/scores\.json: not the metrics of a run"):
            summarise(tmp_path)


def test_trials_that_were_cut_off_are_tried_again_and_not_counted(tmp_path):
    """Twice in a row, through Optuna's public interface."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="s")
    space = {"x": optuna.distributions.FloatDistribution(0, 1)}
    study.tell(study.ask(space), 0.5)
    study.tell(study.ask(space), state=optuna.trial.TrialState.FAIL)
    for _ in range(2):
        cut_off = study.ask(space)  # and the process dies
        again = optuna.load_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="s")
        assert _retry_interrupted_trials(again) == 2
        assert again.trials[cut_off.number].state == optuna.trial.TrialState.FAIL
        waiting = again.get_trials(states=[optuna.trial.TrialState.WAITING])
        assert [trial.system_attrs["fixed_params"] for trial in waiting] == [cut_off.params]
        assert _retry_interrupted_trials(again) == 2  # nothing is running any more


def test_importing_the_callbacks_imports_nothing_heavy():
    """Hydra does so at every start, `--help` included."""
    code = (
        "import sys, ivos.runtime.sweeps, ivos.runtime.loggers\n"
        "heavy = 'torch pandas numpy matplotlib optuna pytorch_lightning wandb cv2 rich'.split()\n"
        "assert not [name for name in heavy if name in sys.modules], sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_less_may_be_better(tmp_path):
    runs_of(tmp_path / "told", [0.2, 0.5, 0.1], direction="minimize")
    assert summarise(tmp_path / "told")["run"].tolist() == ["2", "0", "1"]
    runs_of(tmp_path / "asked", [0.2, 0.5, 0.1])
    assert summarise(tmp_path / "asked", minimize=True)["run"].tolist() == ["2", "0", "1"]
    assert summarise(tmp_path / "asked", metric="session/J_round_1")["run"].tolist() == ["1", "0", "2"]


def test_a_table_of_nothing_is_a_clear_line(tmp_path):
    with pytest.raises(UserError, match="no runs of a sweep in this folder"):
        summarise(tmp_path)
    runs_of(tmp_path, [0.2])
    with pytest.raises(UserError, match="no run has 'val/K'; there are: session/J, session/J_round_1"):
        summarise(tmp_path, metric="val/K")


@pytest.mark.slow
def test_a_grid_of_four_in_which_two_fail(root, tmp_path):
    folder = tmp_path / "sweep"
    options = [
        *tiny(root, folder),
        "stages.anet.data.samples.crop=32,65",
        "stages.anet.module.optimizer.lr=1e-3,1e-2",
    ]
    status, out, errors = train(tmp_path, *options)
    assert status == 1
    assert "Traceback" not in errors
    failed = [line for line in errors.splitlines() if line.startswith("error in")]
    assert failed == [f"error in {folder}/{n}: crop: must be a multiple of 32, got 65" for n in (2, 3)]
    assert f"Sweep {folder.name}, by anet/val/J" in out
    runs = pd.read_csv(folder / "sweep.csv").set_index("run")
    assert runs["status"].to_dict() == {0: "done", 1: "done", 2: "failed", 3: "failed"}
    assert runs["stages.anet.module.optimizer.lr"].to_dict() == {0: 1e-3, 1: 1e-2, 2: 1e-3, 3: 1e-2}
    assert all((folder / str(number) / "anet" / "final.ckpt").exists() for number in (0, 1))
    status, out, errors = train(tmp_path, *options, "resume=true")  # the same folders: what is done is kept
    assert out.count("already finished") == 2
    assert status == 1


def study(folder):
    return optuna.load_study(study_name="ivos", storage=f"sqlite:///{folder}/study.db")


@pytest.mark.slow
def test_an_optuna_sweep_goes_on_where_it_was_cut_off(root, tmp_path):
    folder = tmp_path / "sweep"
    search = "stages.anet.module.optimizer.lr=tag(log,interval(1e-4,1e-1))"
    options = [*tiny(root, folder), "sweep=optuna", "hydra.sweeper.n_trials=6", search]
    killed = start(tmp_path, *options)
    while not (folder / "3" / "anet").exists():  # three are done, the fourth has begun
        assert killed.poll() is None, killed.stderr.read()
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    cut_off = study(folder).trials[3].params
    assert len(study(folder).get_trials(states=[optuna.trial.TrialState.COMPLETE])) == 3

    status, out, errors = train(tmp_path, *options)
    assert status == 0, errors
    assert "3 trials done, 3 to go" in out
    trials = study(folder).trials
    done = [trial for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE]
    assert [trial.number for trial in done] == [0, 1, 2, 4, 5, 6]
    assert done[3].params == cut_off  # tried again
    assert len({trial.params["stages.anet.module.optimizer.lr"] for trial in done}) == 6
    for trial in done:  # a trial's folder has its number
        assert trial.value == pytest.approx(read_scores(folder / str(trial.number))["anet/val/J"])
        cfg = OmegaConf.load(folder / str(trial.number) / ".hydra/config.yaml")
        assert cfg.stages.anet.module.optimizer.lr == trial.params["stages.anet.module.optimizer.lr"]
    runs = pd.read_csv(folder / "sweep.csv")
    assert (runs["status"] == "done").sum() == 6

    status, out, errors = train(tmp_path, *options)  # there is nothing left to do
    assert status == 0, errors
    assert "6 trials done, 0 to go" in out
    assert len(study(folder).trials) == len(trials)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["nosuch.option=1,2"], "Could not override 'nosuch.option'."),
        (["sweep=optuna"], "error: sweep=optuna: nothing to search; give a parameter as"),
        (
            ["seed=1,2", "optimized_metric=session/J"],
            "optimized_metric=session/J: no 'session' in this run (score=false); metrics come from: anet\n",
        ),
    ],
)
def test_bad_sweeps_are_a_clear_line(overrides, message, root, tmp_path, train_main):
    status, errors = train_main(*tiny(root, tmp_path / "sweep"), *overrides)
    assert status
    assert message in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("sweep/*/anet"))


def test_a_metric_that_a_run_does_not_have_is_told_with_those_that_it_has(tmp_path, monkeypatch, capsys):
    job = SimpleNamespace(runtime=SimpleNamespace(output_dir=str(tmp_path)))
    monkeypatch.setattr("ivos.runtime.sweeps.HydraConfig.get", lambda: job)
    cfg = OmegaConf.create({"optimized_metric": "anet/val/K", "stages": {"anet": {}}, "score": False})

    def run(cfg):
        note_scores(tmp_path, "anet", {"val/J": 0.25, "val/J_round_1": 0.5})
        return read_scores(tmp_path).get(cfg.optimized_metric)

    assert one_run(run, cfg) is None
    told = "optimized_metric=anet/val/K: no such metric; there are: anet/val/J, anet/val/J_round_1\n"
    assert (tmp_path / "error.txt").read_text() == told
    assert capsys.readouterr().err == f"error in {tmp_path}: {told}"
    cfg.optimized_metric = "anet/val/J"
    assert one_run(run, cfg) == 0.25
    assert not (tmp_path / "error.txt").exists()


def test_what_optuna_searches_in_the_quickstart_exists():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        sweep = compose("train", overrides=["sweep=quickstart"], return_hydra_config=True)
        params = sweep.hydra.sweeper.params
        assert params
        compose("train", overrides=[f"{name}=0.1" for name in params])


def test_the_wandb_sweep_file_makes_commands_that_compose(tmp_path):
    """By wandb's own code: the command that its agent runs, with values from the file's ranges."""
    from wandb.sdk.launch.sweeps import utils

    sweep = yaml.safe_load((ROOT / "sweeps" / "wandb.yaml").read_text())
    assert sweep["method"] in ("bayes", "grid", "random")
    values = {
        name: options.get("values", [options.get("min")])[0] for name, options in sweep["parameters"].items()
    }
    asked = {"program": sweep["program"], "args": {name: {"value": value} for name, value in values.items()}}
    parts = utils.create_sweep_command_args(asked) | {"env": ["/usr/bin/env"], "program": [sweep["program"]]}
    command = []
    for word in utils.create_sweep_command(sweep["command"]):
        command += parts[word[2:-1]] if word.startswith("${") else [word]
    program = command.index("train.py")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=command[program + 1 :])
    assert "wandb" in cfg.logger
    assert sweep["metric"] == {"name": cfg.optimized_metric, "goal": "maximize"}
    for name, value in values.items():
        assert OmegaConf.select(cfg, name) == value


def test_scores_are_gathered_part_by_part(tmp_path):
    note_scores(tmp_path, "anet", {"val/J": 0.25})
    note_scores(tmp_path, "session", {"J": 0.5})
    note_scores(tmp_path, "anet", {"val/J": 0.75})
    assert json.loads((tmp_path / "scores.json").read_text()) == {"anet/val/J": 0.75, "session/J": 0.5}
