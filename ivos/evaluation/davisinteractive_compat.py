"""Makes ``davisinteractive`` 1.0.4 (2020) import and run on current NumPy, NetworkX and pandas.

:func:`install` puts a finder in front of Python's own that touches that one package: each module's source
is mended by :data:`MENDS` as it is read, so nothing is added to NumPy's, NetworkX's or pandas' namespaces,
no file on disk changes and no stale bytecode is used. A mend whose text is no longer found is an error, so
that another release of the package cannot be half mended in silence.
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
"""What NumPy 1.24 dropped: other names of Python's own types. They are those types again in every module."""

# Module -> (pattern, replacement, what it mends).
MENDS: dict[str, list[tuple[str, str, str]]] = {
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
            "pandas 2.1 takes the column types of an empty frame over, and they are no numbers",
        ),
    ],
    "evaluation.service": [
        (
            r"'object_id'\]\)\.mean\(\)",
            "'object_id']).mean(numeric_only=True)",
            "pandas 2.0 no longer leaves the text column session_id out of a mean by itself",
        ),
        (
            r"df = df\.reindex\(index\)",
            "df = df.reindex(index).astype(float)",
            "the columns of a report without a row are no numbers, which pandas 2 does not guess any more",
        ),
        (
            r"prev_result = result_iter\.values",
            "prev_result = result_iter.to_numpy(float, copy=True)",
            "pandas 3 hands out arrays that cannot be written to, and this one is",
        ),
        (r"\bnp\.trapz\b", "np.trapezoid", "NumPy 2.0 renamed this function"),
        (
            r"metric\.argsort\(\)",
            "metric.argsort(kind='stable')",
            "the default sort orders equal metrics by processor, and with them the frame to annotate",
        ),
    ],
}


def mended(module: str, source: str) -> str:
    """The source of a module of the package, as it has to be.

    Args:
        module: its name within the package, such as ``robot.interactive_robot``.
        source: what is on disk.

    Raises:
        ImportError: what is to be mended is not there: this is another release.
    """
    source = ALIASES.sub(r"\1", source)
    for pattern, replacement, reason in MENDS.get(module, []):
        source, count = re.subn(pattern, replacement, source)
        if not count:
            raise ImportError(
                f"{PACKAGE}.{module}: cannot mend ({reason}): {pattern!r} not found; "
                f"install davisinteractive==1.0.4",
                name=f"{PACKAGE}.{module}",
            )
    return source


class _MendingLoader(importlib.machinery.SourceFileLoader):
    """Compiles the mended source afresh; the bytecode cache on disk is neither read nor written."""

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        source = mended(fullname.removeprefix(PACKAGE + "."), self.get_data(path).decode("utf-8"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # "\mathcal" in a docstring
            return compile(source, path, "exec", dont_inherit=True)


class _MendingFinder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != PACKAGE and not fullname.startswith(PACKAGE + "."):
            return None
        spec: Any = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _MendingLoader(fullname, spec.origin)
        return spec


def install() -> None:
    """Make every later import of ``davisinteractive`` a mended one (once; later calls do nothing)."""
    if not any(isinstance(finder, _MendingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _MendingFinder())
