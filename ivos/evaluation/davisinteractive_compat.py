"""Compatibility of ``davisinteractive`` 1.0.4 (2020) with current NumPy, NetworkX and pandas.

:func:`install` adds an import finder for this package, which applies :data:`PATCHES` to the source of each
module while it is imported. The namespaces of NumPy, NetworkX and pandas and the files on disk do not change,
and bytecode caches are not used. A patch whose pattern is not found raises an error, so that a different
release of the package is never partially patched.
"""

import importlib.abc
import importlib.machinery
import re
import sys
import types
import warnings
from collections.abc import Sequence
from typing import Any

PACKAGE = "davisinteractive"

ALIASES = re.compile(r"\bnp\.(int|bool|float|object|str)\b")
"""Aliases that NumPy 1.24 removed; they are replaced by Python's built-in types of the same names."""

# By module: (pattern, replacement, reason).
PATCHES: dict[str, list[tuple[str, str, str]]] = {
    "robot.interactive_robot": [
        (r"from_scipy_sparse_matrix", "from_scipy_sparse_array", "NetworkX 3.0 renamed this function"),
        (
            r"medial_axis\(mask_\.astype\(bool\)\)",
            "medial_axis(mask_.astype(bool), rng=getattr(self, 'rng', None))",
            "scikit-image 0.19 breaks ties of the medial axis by an unseeded generator",
        ),
    ],
    "storage.local": [
        (
            r"pd\.concat\(\[self\.report, sample\], ignore_index=True\)",
            "sample if self.report.empty else pd.concat([self.report, sample], ignore_index=True)",
            "pandas 2.1 keeps the column types of an empty frame, which are not numeric",
        ),
    ],
    "evaluation.service": [
        (
            r"'object_id'\]\)\.mean\(\)",
            "'object_id']).mean(numeric_only=True)",
            "pandas 2.0 no longer leaves the text column session_id out of a mean",
        ),
        (
            r"df = df\.reindex\(index\)",
            "df = df.reindex(index).astype(float)",
            "pandas 2 no longer converts the columns of a report without rows to numbers",
        ),
        (
            r"prev_result = result_iter\.values",
            "prev_result = result_iter.to_numpy(float, copy=True)",
            "pandas 3 returns read-only arrays, and this one is written to",
        ),
        (r"\bnp\.trapz\b", "np.trapezoid", "NumPy 2.0 renamed this function"),
        (
            r"metric\.argsort\(\)",
            "metric.argsort(kind='stable')",
            "the default sort orders equal metrics, and so the frame to annotate, by processor",
        ),
    ],
}


def patched(module: str, source: str) -> str:
    """Return the patched source of a module of the package.

    Args:
        module: Name of the module within the package, such as ``robot.interactive_robot``.
        source: Source text on disk.

    Raises:
        ImportError: A pattern is not found, because this is a different release of the package.
    """
    source = ALIASES.sub(r"\1", source)
    for pattern, replacement, reason in PATCHES.get(module, []):
        source, count = re.subn(pattern, replacement, source)
        if not count:
            raise ImportError(
                f"{PACKAGE}.{module}: cannot patch ({reason}): {pattern!r} not found; "
                f"install davisinteractive==1.0.4",
                name=f"{PACKAGE}.{module}",
            )
    return source


class _PatchingLoader(importlib.machinery.SourceFileLoader):
    """A loader that compiles the patched source; it neither reads nor writes bytecode on disk."""

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        source = patched(fullname.removeprefix(PACKAGE + "."), self.get_data(path).decode("utf-8"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # "\mathcal" in a docstring
            return compile(source, path, "exec", dont_inherit=True)


class _PatchingFinder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != PACKAGE and not fullname.startswith(PACKAGE + "."):
            return None
        spec: Any = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _PatchingLoader(fullname, spec.origin)
        return spec


def install() -> None:
    """Patch ``davisinteractive`` in every later import; further calls do nothing."""
    if not any(isinstance(finder, _PatchingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PatchingFinder())
