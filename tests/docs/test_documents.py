"""Tests that every module, path, option and link named in documents and docstrings exists."""

import ast
import os
import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from .reading import (
    CODE,
    ROOT,
    code_blocks,
    code_spans,
    commands,
    configurations,
    docstrings,
    documents,
    files,
    is_file,
    parameters,
    resolves,
)

pytestmark = pytest.mark.xdist_group("docs")  # one process reads the package and composes the configurations
PATH = re.compile(r"(?<![\w/.])(?:docs|conf|ivos|tests|benchmarks|kernels|sweeps|\.ci)/[\w./*-]+")
"""A path from the root of the repository."""

HERE = Path(__file__).parent
FORMER_NAMES = {ROOT / "ivos" / "_renamed_modules.py", ROOT / "tests" / "test_renamed_modules.py"}
FILE = re.compile(r"(?:[\w.-]+/)*[\w-]+\.(?:py|md|yaml|yml|cu|toml|cff|ipynb|svg|js)$")
WRITTEN = {"hparams.yaml", "mine.py", "leaderboard.md"}
"""Files that ivos or a user writes."""


def report(wrong: list[str]) -> None:
    assert not wrong, "\n".join(sorted(set(wrong)))


def test_modules_and_classes():
    wrong = []
    for place, text, path in [*documents(), *docstrings(), *configurations()]:
        if (
            "tests/docs" in place
            or "tests/test_renamed_modules" in place
            or path.name == "_renamed_modules.py"
        ):
            continue
        text = re.sub(r"[\w/.-]*/ivos\b", "", text)
        for name in re.findall(r"(?<![\w./-])ivos(?:\.[A-Za-z_]\w*)+", text):
            if not resolves(name):
                wrong.append(f"{place}: {name}")
    report(wrong)


def test_imports_in_code_blocks():
    wrong = []
    for place, text, _ in documents():
        for language, block in code_blocks(text):
            if language != "python" or "--8<--" in block:
                continue
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ivos"):
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                    wrong += [f"{place}: {name}" for name in names if not resolves(name)]
    report(wrong)


def test_paths():
    names = {os.path.basename(path) for path in files()} | WRITTEN
    wrong = []
    for place, text, path in [*documents(), *docstrings(), *configurations()]:
        if path.parent == HERE:
            continue
        folder = path.parent.relative_to(ROOT).as_posix()
        for found in PATH.findall(re.sub(r"https?://\S+", "", text)):
            found = found.rstrip(".")
            if not is_file(found) and not is_file(os.path.normpath(f"{folder}/{found}")):
                wrong.append(f"{place}: {found}")
        for span in code_spans(text) if path.suffix == ".md" else []:
            if FILE.match(span) and "NAME" not in span and os.path.basename(span) not in names:
                wrong.append(f"{place}: {span}")
    report(wrong)


def test_paths_of_tests_in_the_guarantees():
    """The page of guarantees names tests by their path in ``tests``."""
    text = (ROOT / "docs/reference/reliability.md").read_text()
    named = [span for span in code_spans(text) if span.endswith(".py") and "/" in span]
    assert len(named) > 20
    report([span for span in named if not (ROOT / "tests" / span).is_file()])


def slug(heading: str) -> str:
    """The anchor of a heading, as Python-Markdown and GitHub make it."""
    heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def test_links():
    wrong = []
    for place, text, path in documents():
        plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", plain):
            if re.match(r"[a-z]+:", target):
                continue
            file = path if not target else (path.parent / target).resolve()
            if file.parent == ROOT / "docs/reference/api":  # a page of docs/site_hooks.py
                if file.stem != "index" and not (ROOT / "ivos" / file.stem).is_dir():
                    wrong.append(f"{place}: {target}")
            elif not file.exists():
                wrong.append(f"{place}: {target}")
            elif anchor and anchor not in map(slug, re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)):
                wrong.append(f"{place}: {target}#{anchor}")
    report(wrong)


def leaves(config, prefix=""):
    """Yield the dotted name of every option, of every mapping, and of every parameter of its ``_target_``."""
    target = config.get("_target_") or ""
    if target.startswith("ivos."):
        yield from (f"{prefix}{name}" for name in parameters(target))
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")


@pytest.fixture(scope="module")
def options():
    """The names of all options, in any composition."""
    found = set()

    def add(program, *overrides, **arguments):
        found.update(leaves(OmegaConf.to_container(compose(program, list(overrides), **arguments))))

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        add("annotate")
        add("evaluate", "logger=[csv,tensorboard,wandb]", return_hydra_config=True)
        for path in sorted((ROOT / "conf" / "experiment").glob("*.yaml")):
            add("train", f"experiment={path.stem}")
        everything = ["callbacks=[train,ema,early_stopping]", "strategy=ddp", "logger=[csv,wandb]"]
        add("train", *everything, "sweep=optuna", "hydra/launcher=slurm", return_hydra_config=True)
    GlobalHydra.instance().clear()
    for group in ("data", "protocol", "segmenter", "synthetic"):
        for path in (ROOT / "conf" / group).glob("*.yaml"):
            prefix = "data." if group == "synthetic" else f"{group}."  # the generator is a data set
            found.update(leaves(OmegaConf.to_container(OmegaConf.load(path)), prefix))
    return found


@pytest.fixture(scope="module")
def groups():
    """The configuration groups with their choices."""
    found = {}
    for path in (ROOT / "conf").rglob("*.yaml"):
        found.setdefault(path.parent.relative_to(ROOT / "conf").as_posix(), set()).add(path.stem)
    return found


OUTPUT = r"\.(?:json|jsonl|csv|db|png|jpg|ckpt|webm|txt)$"
PLUGINS = {"hydra/sweeper", "hydra/sweeper/sampler"}


def is_option(key: str, value: str | None, options: set[str], groups: dict[str, set[str]]) -> bool:
    """Whether an override of the command line means something."""
    if key.startswith("+"):  # an option that a class of the user has
        return key[1:].rpartition(".")[0] in options
    key = key.lstrip("~")
    group = key.split("@")[0]
    if group in PLUGINS:
        return True
    if group in groups and value is not None:
        chosen = re.sub(r"^choice\((.*)\)$|^\[(.*)\]$", r"\1\2", value).split(",")
        return all(one in groups[group] or not re.fullmatch(r"[a-z_0-9]+", one) for one in chosen)
    if key.startswith("hydra."):
        return key in options or key.startswith("hydra.launcher.")
    variants = {re.sub(r"^stages\.NAME\b", f"stages.{stage}", key) for stage in ("anet", "tnet", "joint")}
    variants |= {re.sub(r"^data\.(?:train|val|test)\.", "data.", one) for one in variants}
    return any(one in options or any(known.endswith(f".{one}") for known in options) for one in variants)


def overrides(command: str):
    """Yield key and value of the overrides in a command that runs one of the programs."""
    if not re.search(
        r"(?:^|[\s/])(?:(?:train|evaluate|annotate)\.py|ivos-(?:train|evaluate|annotate))\b", command
    ):
        return
    for word in shlex.split(command.split(" # ")[0].replace("...", ""), comments=True):
        if "=" in word and not word.startswith(("-", "PYTHONPATH", "IVOS_", "CUDA_")):
            yield tuple(word.split("=", 1))


def test_options(options, groups):
    wrong = []
    first = {name.split(".")[0] for name in options} - {"name", "host", "port", "device", "folder"}
    for place, text, _ in documents():
        for command in commands(text):
            for key, value in overrides(command):
                if not is_option(key, value, options, groups):
                    wrong.append(f"{place}: {key}={value}")
        for span in code_spans(text):
            span = span.strip("'")
            found = re.fullmatch(r"([+~]?[a-z_][\w/@]*(?:\.\w+)*)=([^\s=]*)", span)
            if found and re.search(r"True|False|\"|'", span):  # an argument in Python
                continue
            dotted = re.fullmatch(r"[a-z_]+(?:\.\w+)+", span) and not re.search(OUTPUT, span)
            if found or (dotted and span.split(".")[0] in first and not FILE.match(span)):
                key, value = (found[1], found[2]) if found else (span, None)
                if not is_option(key, value, options, groups):
                    wrong.append(f"{place}: {span}")
    report(wrong)


def test_flags_of_tools():
    """``--flag`` after a tool of the package or a benchmark is one of its arguments."""
    wrong, seen = [], 0
    for place, text, _ in documents():
        for command in commands(text):
            tool = re.search(r"-m (ivos(?:\.\w+)+)|(benchmarks/\w+\.py)", command)
            if not tool:
                continue
            seen += 1
            path = ROOT / (tool[2] or f"{tool[1].replace('.', '/')}.py")
            source = path.read_text()
            for flag in re.findall(r"(?<=\s)--[a-z][\w-]*", command[tool.end() :].split(" # ")[0]):
                if flag not in source and flag[2:].replace("-", "_") not in source:
                    wrong.append(f"{place}: {flag} of {path.name}")
    assert seen > 10
    report(wrong)


def test_environment_variables_and_extras():
    sources = [*CODE, ROOT / ".ci" / "run", *(ROOT / "conf").rglob("*.yaml"), *(ROOT / "tests").rglob("*.py")]
    known = set(re.findall(r"IVOS_[A-Z_]+", "\n".join(path.read_text() for path in sources)))
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wrong = []
    for place, text, _ in documents():
        wrong += [f"{place}: {name}" for name in re.findall(r"\bIVOS_[A-Z_]+", text) if name not in known]
        named = re.findall(r"(?:ivos|whl\)?)\[(\w+)\]", text) + re.findall(r"--extra (\w+)", text)
        wrong += [f"{place}: {extra}" for extra in named if extra not in project["optional-dependencies"]]
        programs = re.findall(r"\bivos-(?!\*|VERSION)[a-z]+", text)
        wrong += [f"{place}: {name}" for name in programs if name not in project["scripts"]]
    report(wrong)


def test_the_checks_find_what_is_wrong(options, groups):
    names = {"ivos.engine.ATNetSegmenter": True, "ivos.engine.Nothing": False, "ivos.nothing": False,
             "ivos.video.video.Video.known": True}  # fmt: skip
    assert {name: resolves(name) for name in names} == names
    right = ["session.max_interactions=4", "data@data.val=davis", "callbacks=[train,ema]", "+segmenter.x=1"]
    wrong = [
        "session.rounds_max=4",
        "segmenter=magic",
        "callbacks=[train,magic]",
        "stages.NAME.lr=1",
        "+no.x=1",
    ]
    assert [one for one in right + wrong if is_option(*one.split("="), options, groups)] == right
    assert is_file("conf/segmenter/NAME.yaml")
    assert not is_file("conf/segmenter/NAME.json")
    assert slug("What the numbers mean, in `J` & F") == "what-the-numbers-mean-in-j-f"
    words = list(overrides("uv run evaluate.py data=davis x.y=[1,2] # remark a=b"))
    assert words == [("data", "davis"), ("x.y", "[1,2]")]
