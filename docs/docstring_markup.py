"""Turn the reStructuredText of docstrings into the Markdown that the documentation site shows."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:mod|class|func|meth|attr|data|exc):`~?([^`]+)`")
_BLOCK = re.compile(r"::(\s*)$", re.MULTILINE)
_EXAMPLE = re.compile(r"^( *)(>>> .*(?:\n *\S.*)*)$", re.MULTILINE)
_CODE = re.compile(r"(```.*?```|``.*?``|`[^`]*`)", re.DOTALL)


class MarkdownDocstrings(griffe.Extension):
    """Translate the markup of every docstring of a package."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Rewrite the docstrings when the whole package has been read."""
        rewrite(pkg)


def rewrite(thing: griffe.Object) -> None:
    """Rewrite the docstrings of an object and of its members."""
    if thing.docstring:
        thing.docstring.value = to_markdown(thing.docstring.value)
    for member in thing.members.values():
        if isinstance(member, griffe.Object):
            rewrite(member)


def to_markdown(text: str) -> str:
    """Return a docstring's text as Markdown.

    Roles such as ``:class:`` become inline code, ``::`` before a code block becomes a colon, examples with
    prompts become code blocks, and formulas such as ``a[q](x)`` do not become links.
    """
    text = _BLOCK.sub(r":\1", _ROLE.sub(r"`\1`", text))
    text = _EXAMPLE.sub(r"\1```pycon\n\1\2\n\1```", text)
    parts = _CODE.split(text)
    parts[::2] = [re.sub(r"\](?=[(\[])", r"]\\", part) for part in parts[::2]]
    return "".join(parts)
