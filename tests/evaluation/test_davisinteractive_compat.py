"""davisinteractive under the patched import."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ivos.evaluation import davisinteractive_compat

SPEC = importlib.util.find_spec("davisinteractive")
if SPEC is None:
    pytest.skip("davisinteractive is not installed", allow_module_level=True)
SOURCES = Path(SPEC.origin).parent


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_numpy_is_left_alone():
    """The same names mean the same things before and after all of ivos and davisinteractive is imported."""
    code = """
import networkx, numpy, pandas, scipy.special, skimage.morphology
modules = [numpy, networkx, pandas, skimage.morphology]
before = [dict(vars(module)) for module in modules]
import ivos.evaluation.official, ivos.engine, ivos.interaction.robot
import davisinteractive.session, davisinteractive.evaluation, davisinteractive.utils.visualization
for module, names in zip(modules, before):
    now = vars(module)
    changed = [name for name in names if now.get(name) is not names[name]]
    added = [name for name in now.keys() - names.keys() if not hasattr(now[name], "__path__")]
    assert not changed and not set(added) & {"int", "float", "bool", "object", "trapz"}, (changed, added)
print(hasattr(numpy, "int"), hasattr(numpy, "float"))
"""
    assert run(code) == "False False"


def test_every_module_imports():
    code = """
from ivos.evaluation import davisinteractive_compat
davisinteractive_compat.install()
import importlib, pkgutil, davisinteractive
names = [m.name for m in pkgutil.walk_packages(davisinteractive.__path__, "davisinteractive.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    assert int(run(code).splitlines()[-1]) >= 30


def test_no_module_is_left_with_what_numpy_dropped():
    """By their trees, not by patterns: no source of the package takes a name from NumPy that is not there."""
    checked = 0
    for path in sorted(SOURCES.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCES).with_suffix("").parts)
        tree = ast.parse(davisinteractive_compat.patched(module, path.read_text()))
        taken = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np"
        }
        assert not [name for name in taken if not hasattr(np, name)], module
        checked += bool(taken)
    assert checked > 10


def test_the_overlay_of_a_mask():
    davisinteractive_compat.install()
    from davisinteractive.utils.visualization import overlay_mask

    picture, mask = np.full((4, 5, 3), 100, np.uint8), np.eye(4, 5, dtype=np.uint8)
    assert overlay_mask(picture, mask)[0, 0].tolist() == [50 + 64, 50, 50]
    assert overlay_mask(picture, mask)[0, 1].tolist() == [100, 100, 100]


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_the_summary_of_a_session_that_ran_out_of_time(rounds, monkeypatch):
    """Rounds that are missing count as the last that is there, or as 0."""
    davisinteractive_compat.install()
    from davisinteractive.dataset import Davis
    from davisinteractive.evaluation import EvaluationService
    from davisinteractive.storage import LocalStorage

    monkeypatch.setattr(Davis, "dataset", {"bear": {"num_frames": 3, "num_objects": 2, "num_scribbles": 1}})
    monkeypatch.setattr(Davis, "sets", {"val": ["bear"]})
    monkeypatch.setattr(EvaluationService, "__init__", lambda self: None)
    service, storage = EvaluationService(), LocalStorage()
    service.sequences, service.max_i, service.max_t = ["bear"], 3, 10
    service.avg_nb_objects, service.time_threshold, service.metric_to_optimize = 2, 60, "J"
    for number in range(rounds):
        J = [0.25 * (number + 1)] * 6
        storage.store_interactions_results(
            "", "", "bear", 1, number + 1, 4.5, [1, 2] * 3, [0, 0, 1, 1, 2, 2], J, J
        )
    summary = service.summarize_report(storage.get_report(""))
    assert summary["curve"]["J"] == [0, *[0.25, 0.5][:rounds], *[[0, 0.25, 0.5][rounds]] * (4 - rounds)]
    assert summary["curve"]["time"] == [0, *[4.5, 9][:rounds], *[4.5 * rounds] * (3 - rounds), 20]


def test_official_modules_work(golden):
    """The official scorer, robot and stroke tools themselves, not only what ivos builds on them."""
    davisinteractive_compat.install()
    from davisinteractive.metrics import batched_f_measure, batched_jaccard
    from davisinteractive.robot import InteractiveScribblesRobot
    from davisinteractive.utils.operations import bezier_curve, bresenham
    from davisinteractive.utils.scribbles import annotated_frames, scribbles2mask

    arrays = golden("davis")
    gt, pred, number = (arrays[f"moving/{name}"] for name in ("gt", "pred", "num_objects"))
    for metric, key in ((batched_jaccard, "J"), (batched_f_measure, "F")):
        found = metric(gt, pred, average_over_objects=False, nb_objects=int(number))
        assert np.abs(found - arrays[f"moving/{key}"]).max() <= 1e-12
    drawn = InteractiveScribblesRobot(0.2).interact("moving", pred[:2], gt[:2], nb_objects=3)
    assert len(annotated_frames(drawn)) == 1
    mask = scribbles2mask(drawn, gt.shape[1:])
    assert set(np.unique(mask)) <= {-1, 0, 1, 2, 3}
    assert bresenham(np.array([[0, 0], [3, 1]])).tolist() == [[0, 0], [1, 0], [2, 1], [3, 1]]
    assert bezier_curve(np.array([[0.0, 0.0], [1.0, 1.0]]), 3).tolist() == [[1, 1], [0.5, 0.5], [0, 0]]


def test_official_session_on_its_own_table(tmp_path, real_data, monkeypatch):
    """DavisInteractiveSession as shipped, with a table cut down to the real sample."""
    davisinteractive_compat.install()
    from davisinteractive.dataset import Davis
    from davisinteractive.session import DavisInteractiveSession

    entry = {"num_frames": 2, "num_objects": 1, "num_scribbles": 1, "image_size": [854, 480]}
    monkeypatch.setattr(Davis, "dataset", {"bear": entry})
    monkeypatch.setattr(Davis, "sets", {"train": ["bear"]})
    truth = Davis(str(real_data / "davis")).load_annotations("bear")
    with DavisInteractiveSession(
        davis_root=str(real_data / "davis"),
        subset="train",
        max_nb_interactions=2,
        metric_to_optimize="J",
        report_save_dir=str(tmp_path),
        user_key="me",
    ) as session:
        while session.next():
            name, _, _ = session.get_scribbles()
            assert name == "bear"
            session.submit_masks(truth)
        assert session.get_report()["jaccard"].tolist() == [1.0] * 4
        assert session.get_global_summary()["curve"]["J"] == [0, 1, 1, 1]


def test_a_patch_that_finds_nothing_is_an_error(monkeypatch):
    patches = {**davisinteractive_compat.PATCHES, "utils.mask": [("no such text", "", "nothing")]}
    monkeypatch.setattr(davisinteractive_compat, "PATCHES", patches)
    davisinteractive_compat.install()
    monkeypatch.delitem(sys.modules, "davisinteractive.utils.mask", raising=False)
    with pytest.raises(ImportError, match=r"utils\.mask: cannot patch .*davisinteractive==1\.0\.4"):
        import davisinteractive.utils.mask  # noqa: F401


def test_one_module_imports_it():
    """Whoever trains, draws strokes or scores needs no davisinteractive (GPL-3.0)."""
    package = Path(__file__).parents[2] / "ivos"
    found = set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            if any(name.split(".")[0] == "davisinteractive" for name in names):
                found.add(file.relative_to(package).as_posix())
    assert found == {"evaluation/official.py"}
