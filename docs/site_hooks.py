"""Build the pages of the documentation site that come from other files, so that they cannot be out of date.

- The option tables are made from the YAML files in ``conf``: a line such as ``<!-- options: conf/*.yaml -->``
  in a document is replaced by one table for each file.
- The API pages are made from the package tree: one page for each subpackage of ``ivos``.
- A notebook becomes a Markdown page with its outputs.
- Links to files outside of ``docs`` lead to their copy on the site where there is one.
"""

import ast
import base64
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from docstring_markup import to_markdown  # beside this file
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
COPIES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "ivos/networks/weights/base.md": "model_card_base.md",
    "ivos/networks/weights/small.md": "model_card_small.md",
}
"""Documents outside of ``docs`` and their place on the site."""

API = "reference/api"
PREFIXES = {
    "": "",
    "stage": "stages.NAME.",
    "samples": "stages.NAME.data.samples.",
    "optimizer": "stages.NAME.module.optimizer.",
    "scheduler": "stages.NAME.module.scheduler.",
    "session/robot": "session.robot.",
    "segmenter/annotate": "segmenter.",
    "experiment": "",
    "sweep": "",
    "strategy": "trainer.",
}
"""Prefix of option names, for config groups that are not composed under their own name."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the API pages and the notebooks to the navigation."""
    config.nav = [_complete(entry) for entry in config.nav or []]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are generated."""
    for source, target in COPIES.items():
        if (ROOT / source).is_file():
            files.append(File.generated(config, target, content=(ROOT / source).read_text()))
    for page, content in api_pages():
        files.append(File.generated(config, page, content=content))
    for notebook in sorted((ROOT / "docs").rglob("*.ipynb")):
        page = notebook.relative_to(ROOT / "docs").with_suffix(".md").as_posix()
        text, pictures = notebook_page(notebook)
        files.append(File.generated(config, page, content=text))
        for name, picture in pictures.items():
            files.append(File.generated(config, f"{os.path.dirname(page)}/{name}", content=picture))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert the option tables into a page and adapt links to files outside of ``docs``."""
    markdown = re.sub(r"<!-- options: (\S+) -->", lambda found: option_tables(found[1]), markdown)
    source = page.file.src_uri
    origin = next((key for key, value in COPIES.items() if value == source), f"docs/{source}")
    return _links(markdown, origin, source)


def api_pages() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each API page."""
    yield f"{API}/index.md", "# Public interface\n\n::: ivos\n    options: {show_root_heading: false}\n"
    for package in _packages():
        lines = [f"# ivos.{package.name}", ""]
        lines += [_summary(package / "__init__.py"), ""]
        for module in sorted(package.rglob("*.py")):
            name = ".".join(module.relative_to(ROOT).with_suffix("").parts)
            if not any(part.startswith("_") for part in name.split(".")):
                lines += [f"::: {name}", ""]
        yield f"{API}/{package.name}.md", "\n".join(lines)


def option_tables(pattern: str) -> str:
    """Return a table of the options of each YAML file that a pattern names."""
    tables = [_option_table(path) for path in sorted(ROOT.glob(pattern))]
    if not tables:
        raise ValueError(f"no configuration is called {pattern}")
    return "\n\n".join(tables)


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by file name."""
    parts, pictures = [], {}
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            kind = next((kind for kind in ("image/jpeg", "image/png") if kind in data), None)
            if kind:
                name = f"{path.stem}_{len(pictures)}.{kind[6:]}"
                pictures[name] = base64.b64decode("".join(data[kind]))
                parts.append(f"![The picture that this cell shows]({name})")
            else:
                text = "".join(output.get("text", data.get("text/plain", []))).rstrip()
                parts.append(f"```text\n{text}\n```")
    first, *rest = parts
    download = f"This page is a notebook: [{path.name}]({path.name}) runs it on your machine."
    return "\n\n".join([first, download, *rest]) + "\n", pictures


def _complete(entry: Any) -> Any:
    """Return one entry of the navigation with the generated pages in it."""
    if isinstance(entry, str):
        return entry.replace(".ipynb", ".md")
    if isinstance(entry, dict):
        return {title: _complete(value) for title, value in entry.items()}
    completed = []
    for part in entry:
        if isinstance(part, dict) and "API" in part.values():
            pages = [f"{API}/index.md", *(f"{API}/{package.name}.md" for package in _packages())]
            part = {next(iter(part)): pages}
        completed.append(_complete(part))
    return completed


def _packages() -> list[Path]:
    """Return the folders of the subpackages of ivos."""
    return sorted(path.parent for path in (ROOT / "ivos").glob("*/__init__.py"))


def _summary(module: Path) -> str:
    """Return a module's docstring, with its markup translated."""
    return to_markdown(ast.get_docstring(ast.parse(module.read_text())) or "")


def _option_table(path: Path) -> str:
    """Return the options of one YAML file as a heading, its leading comment and a table."""
    text = path.read_text()
    lines = text.splitlines()
    relative = path.relative_to(ROOT / "conf")
    group = relative.parent.as_posix() if relative.parent.as_posix() != "." else ""
    prefix = PREFIXES.get(group, f"{group}.")
    choice = f"{group}={relative.stem}" if group else f"{relative.stem}.py"
    parts = [f"### `{choice}`"] if group else []
    parts.append(f"From `conf/{relative.as_posix()}`. {_leading_comment(lines)}")
    node = yaml.compose(text, yaml.SafeLoader)
    rows = list(_rows(node, prefix, lines)) if node else []
    if rows:
        parts.append("\n".join(["| option | default | meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def _leading_comment(lines: list[str]) -> str:
    """Return the comment at the top of a YAML file."""
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            comment.append(line.lstrip("# ").rstrip())
    return _escaped(" ".join(comment))


def _rows(node: yaml.Node, prefix: str, lines: list[str]) -> Iterator[str]:
    """Yield a row for each option below a mapping."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = key.value
        if name in ("defaults", "hydra") or name.startswith(("_", "override ")):
            continue
        if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
            comment = _comment(lines, key.start_mark.line)
            if comment:
                yield f"| `{prefix}{name}` | | {comment} |"
            yield from _rows(value, f"{prefix}{name}.", lines)
            continue
        if isinstance(value, yaml.SequenceNode) and not value.flow_style:  # one line for each item
            default, line = "a list, see the file", key.start_mark.line
        else:
            text = value.start_mark.buffer[value.start_mark.index : value.end_mark.index]
            default, line = f"`{' '.join(text.split())}`".replace("|", "\\|"), value.end_mark.line
        yield f"| `{prefix}{name}` | {default} | {_comment(lines, line)} |"


def _comment(lines: list[str], number: int) -> str:
    """Return the comment at the end of a line, with the lines of comment that continue it."""
    found = re.search(r"(?:^|\s)# ?(.*)$", lines[number])
    if not found:
        return ""
    parts = [found[1].strip()]
    for line in lines[number + 1 :]:
        if not re.match(r"\s+# ", line):
            break
        parts.append(line.strip().lstrip("# "))
    return _escaped(" ".join(parts))


def _escaped(text: str) -> str:
    """Escape a text for a table in Markdown."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def _links(markdown: str, origin: str, page: str) -> str:
    """Return the page with its links to files outside of docs changed to their place on the site."""

    def place(found: re.Match[str]) -> str:
        label, target, anchor = found[1], found[2], found[3] or ""
        if re.match(r"[a-z]+:", target) or not target:
            return found[0]
        path = os.path.normpath(os.path.join(os.path.dirname(origin), target))
        there = COPIES.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if there is None:  # a file that is not on the site
            return label
        there = re.sub(r"\.ipynb$", ".md", there) if label != os.path.basename(target) else there
        return f"[{label}]({os.path.relpath(there, os.path.dirname(page) or '.')}{anchor})"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)#\s]*)(#[^)\s]*)?\)", place, markdown)
