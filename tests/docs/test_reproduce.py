"""The page "Reproduce our numbers": its digits are those of the results, its weights the shipped ones."""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess

import pytest

from .reading import ROOT

PAGE = (ROOT / "docs/experiments/reproduce.md").read_text()
ROW = re.compile(r"^\| `([\w-]+)` \| `([^`]+)` \| (\w+) \| (?:none|`(\w+)`) \| (.+) \|$", re.MULTILINE)
ROWS = {
    name: (command, commit, weights, digits) for name, command, commit, weights, digits in ROW.findall(PAGE)
}
CHOSEN = os.environ.get("IVOS_REPRODUCE_ROW", "check")


def expected(digits):
    return {int(n): float(value) for n, value in re.findall(r"(\d): (\.\d{3})", digits)}


def test_every_row_is_of_the_results():
    results = (ROOT / "docs/results.md").read_text()
    assert len(ROWS) == 10
    for name, (_, _, _, digits) in ROWS.items():
        assert expected(digits)
        if name != "check":
            missing = [value for value in re.findall(r"\.\d{3}", digits) if value not in results]
            assert not missing, f"{name}: {missing} are not in docs/results.md"


def test_weights_are_the_shipped_ones():
    hashes = dict(re.findall(r"^\| `\w+` \| `([\w/.]+)` \| ([0-9a-f]{64}) \|$", PAGE, re.MULTILINE))
    used = {f"ivos/networks/weights/{weights}.safetensors" for *_, weights, _ in ROWS.values() if weights}
    assert set(hashes) == used
    for file, said in hashes.items():
        assert hashlib.sha256((ROOT / file).read_bytes()).hexdigest() == said, file


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="needs the history")
def test_commits_are_in_the_history():
    shallow = ["git", "rev-parse", "--is-shallow-repository"]
    if subprocess.run(shallow, cwd=ROOT, capture_output=True, text=True).stdout.strip() != "false":
        pytest.skip("needs the whole history")
    for name, (_, commit, _, _) in ROWS.items():
        found = subprocess.run(["git", "cat-file", "-t", commit], cwd=ROOT, capture_output=True, text=True)
        assert found.stdout.strip() == "commit", f"{name}: {commit} is no commit"


@pytest.mark.slow
def test_a_row_gives_its_digits(tmp_path):
    """The row that IVOS_REPRODUCE_ROW names, of those that need no data."""
    command, _, _, digits = ROWS[CHOSEN]
    words = shlex.split(command)
    assert words[:3] == ["uv", "run", "evaluate.py"], f"{CHOSEN}: needs data"
    words = ["uv", "run", str(ROOT / "evaluate.py"), *words[3:], f"hydra.run.dir={tmp_path / 'run'}"]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    curve = json.loads((tmp_path / "run/summary.json").read_text())["curve"]["J_AND_F"]
    for number, value in expected(digits).items():
        assert curve[number] == pytest.approx(value, abs=0.005), f"{CHOSEN}, round {number}"
