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

# Module -> (pattern, replacement, what it mends).
MENDS: dict[str, list[tuple[str, str, str]]] = {
    "dataset.davis": [
        (r"\bnp\.int\b", "int", "NumPy 1.24 dropped the alias np.int"),
    ],
    "metrics.jaccard": [
        (r"\bnp\.(int|bool|float)\b", r"\1", "NumPy 1.24 dropped the aliases np.int, np.bool and np.float"),
    ],
    "robot.interactive_robot": [
        (r"\bnp\.(int|bool|float)\b", r"\1", "NumPy 1.24 dropped the aliases np.int, np.bool and np.float"),
        (r"from_scipy_sparse_matrix", "from_scipy_sparse_array", "NetworkX 3.0 renamed this function"),
        (
            r"medial_axis\(mask_\.astype\(bool\)\)",
            "medial_axis(mask_.astype(bool), rng=getattr(self, 'rng', None))",
            "scikit-image 0.19 breaks ties of the medial axis by an unseeded generator",
        ),
    ],
    "utils.operations": [
        (r"\bnp\.(int|float)\b", r"\1", "NumPy 1.24 dropped the aliases np.int and np.float"),
    ],
    "utils.scribbles": [
        (r"\bnp\.(int|float)\b", r"\1", "NumPy 1.24 dropped the aliases np.int and np.float"),
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
        (r"\bnp\.float\b", "float", "NumPy 1.24 dropped the alias np.float"),
        (r"\bnp\.trapz\b", "np.trapezoid", "NumPy 2.0 renamed this function"),
        (
            r"metric\.argsort\(\)",
            "metric.argsort(kind='stable')",
            "the default sort orders equal metrics by processor, and with them the frame to annotate",
        ),
    ],
}


class _MendingLoader(importlib.machinery.SourceFileLoader):
    """Compiles the mended source afresh; the bytecode cache on disk is neither read nor written."""

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        source = self.get_data(path).decode("utf-8")
        for pattern, replacement, reason in MENDS.get(fullname.removeprefix(PACKAGE + "."), []):
            source, count = re.subn(pattern, replacement, source)
            if not count:
                raise ImportError(
                    f"{fullname}: cannot mend ({reason}): {pattern!r} not found; "
                    f"install davisinteractive==1.0.4",
                    name=fullname,
                    path=path,
                )
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
