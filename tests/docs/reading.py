"""Read documents and docstrings, and find the names in them."""

import ast
import fnmatch
import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import griffe

ROOT = Path(__file__).parents[2]
CODE = [*sorted((ROOT / "ivos").rglob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))]
DOCUMENTS = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "data" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "ivos").rglob("*.md")),
]  # fmt: skip
FOLDERS = ("benchmarks", "conf", "data", "docs", "ivos", "kernels", "sweeps", "tests", ".ci", ".github")
CONFIGURATIONS = sorted((ROOT / "conf").rglob("*.yaml"))


NESTED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.If)


class Text(NamedTuple):
    """A piece of text and where it stands."""

    place: str
    text: str
    path: Path


@functools.cache
def package() -> griffe.Object:
    """Return the package ivos as its source says, without importing it."""
    return griffe.load("ivos", search_paths=[str(ROOT)], docstring_parser="google")


def resolves(name: str) -> bool:
    """Whether a dotted name that begins with ``ivos`` is a module, or something in one."""
    thing = package()
    for part in name.split(".")[1:]:
        try:
            thing = thing.members[part] if part in thing.members else thing.inherited_members[part]
            thing = thing.final_target if thing.is_alias else thing
        except (KeyError, griffe.AliasResolutionError):  # not there; a folder of files, such as ivos/conf
            return (ROOT / name.replace(".", "/")).is_dir()
    return True


def parameters(name: str) -> list[str]:
    """Return the names of the parameters of a function or a class of ivos."""
    thing = package()
    for part in name.split(".")[1:]:
        thing = thing.members[part]
        thing = thing.final_target if thing.is_alias else thing
    return [one.name for one in thing.parameters]


@functools.cache
def files() -> frozenset[str]:
    """Return the paths of all files and folders of the repository, from its root."""
    found = {path.name for path in ROOT.iterdir()}
    for folder in FOLDERS:
        for parent, folders, names in os.walk(ROOT / folder):
            relative = os.path.relpath(parent, ROOT)
            found |= {relative, *(f"{relative}/{name}" for name in [*folders, *names])}
    return frozenset(found)


def is_file(pattern: str) -> bool:
    """Whether a path from the root, which may contain ``*`` or NAME, is in the repository."""
    pattern = pattern.rstrip("/").replace("NAME", "*")
    return pattern in files() or ("*" in pattern and bool(fnmatch.filter(files(), pattern)))


def documents() -> Iterator[Text]:
    """Yield the documents."""
    for path in DOCUMENTS:
        yield Text(str(path.relative_to(ROOT)), path.read_text(), path)


@functools.cache
def docstrings() -> list[Text]:
    """Return the docstrings of modules, classes, functions and attributes."""
    found = []
    for path in [*CODE, *sorted((ROOT / "docs").rglob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]:
        bodies = [ast.parse(path.read_text()).body]
        for body in bodies:
            bodies += [node.body for node in body if isinstance(node, NESTED)]
            for node in body:
                value = node.value if isinstance(node, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    found.append(Text(f"{path.relative_to(ROOT)}:{node.lineno}", value.value, path))
    return found


def configurations() -> Iterator[Text]:
    """Yield the YAML files."""
    for path in CONFIGURATIONS:
        yield Text(str(path.relative_to(ROOT)), path.read_text(), path)


def code_blocks(text: str) -> list[tuple[str, str]]:
    """Return language and content of the fenced code blocks of a document."""
    return re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def code_spans(text: str) -> list[str]:
    """Return the inline code of a document, without that in fenced blocks."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def commands(text: str) -> list[str]:
    """Return the shell commands of a document: in blocks, continued lines joined, and inline."""
    lines = []
    for language, block in code_blocks(text):
        if language in ("bash", "", "shell"):
            lines += block.replace("\\\n", " ").splitlines()
    return [line for line in [*lines, *code_spans(text)] if " " in line.strip()]
