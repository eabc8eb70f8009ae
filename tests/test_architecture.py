"""Tests that imports follow the layers of docs/explanation/architecture.md."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ivos"

# What a part may import besides itself and runtime.
BELOW = {
    "runtime": set(),
    "kernels": set(),
    "metrics": set(),
    "video": set(),
    "interaction": {"video"},
    "networks": {"kernels"},
    "engine": {"networks", "kernels", "interaction", "video"},
    "data": {"interaction", "video"},
    "session": {"engine", "interaction", "video", "metrics"},
    "segmenters": {"engine", "networks", "interaction", "video"},
    "segmentation": {"segmenters", "engine", "networks", "interaction", "video", "_api"},
    "export": {"engine", "networks"},
    "evaluation": {"session", "segmenters", "engine", "networks", "data", "interaction", "video", "metrics"},
    "training": {"evaluation", "session", "segmenters", "engine", "networks", "kernels", "data",
                 "interaction", "video", "metrics"},
    "app": {"evaluation", "session", "segmenters", "engine", "networks", "data", "interaction", "video",
            "metrics"},
}  # fmt: skip


def imported(file):
    """The parts of ivos that a file imports, wherever in it, with the line."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "ivos" and len(parts) > 1:
                yield parts[1], node.lineno


@pytest.mark.parametrize("part", sorted(BELOW))
def test_imports_point_one_way(part):
    wrong = [
        f"{file.relative_to(PACKAGE)}:{line} imports {other}"
        for file in sorted((PACKAGE / part).rglob("*.py"))
        for other, line in imported(file)
        if other not in BELOW[part] | {part, "runtime"}
    ]
    assert not wrong, "\n".join(wrong)


def test_every_part_has_its_place():
    there = {path.name for path in PACKAGE.iterdir() if path.is_dir() and list(path.glob("*.py"))}
    assert there <= set(BELOW)


def test_albumentations_is_behind_one_module():
    users = [
        file.relative_to(PACKAGE).as_posix()
        for file in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if (isinstance(node, ast.Import) and any(one.name.startswith("albumentations") for one in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("albumentations"))
    ]
    assert set(users) == {"data/training/augmentation.py"}
