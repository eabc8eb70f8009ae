"""Turn the reStructuredText of docstrings into the Markdown that the documentation site shows."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:mod|class|func|meth|attr|data|exc):`~?([^`]+)`")
_BLOCK = re.compile(r"::(\s*)$", re.MULTILINE)


class MarkdownDocstrings(griffe.Extension):
    """Replace roles such as ``:class:`` by inline code and ``::`` before a code block by a colon."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite one object's docstring."""
        if obj.docstring:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(text: str) -> str:
    """Return a docstring's text as Markdown."""
    return _BLOCK.sub(r":\1", _ROLE.sub(r"`\1`", text))
