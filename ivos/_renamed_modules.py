"""Import modules by the names they had in version 0.1, for one version.

``import ivos.data.davis`` imports :mod:`ivos.data.datasets.davis` and warns once. Users' configurations name
classes by such paths (``_target_``), so that an old path has to keep working after a module moved.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

RENAMED = {
    "ivos.app.room": "ivos.app.open_session",
    "ivos.data.check": "ivos.data.tools.check",
    "ivos.data.choice": "ivos.data.datasets.default",
    "ivos.data.davis": "ivos.data.datasets.davis",
    "ivos.data.mixture": "ivos.data.datasets.mixture",
    "ivos.data.pasted": "ivos.data.copy_paste.samples",
    "ivos.data.places": "ivos.data.datasets.paths",
    "ivos.data.sav": "ivos.data.datasets.sav",
    "ivos.data.sav_train": "ivos.data.tools.extract_sav_train",
    "ivos.data.sbd": "ivos.data.datasets.sbd",
    "ivos.data.stills": "ivos.data.datasets.static_images",
    "ivos.data.video_folders": "ivos.data.datasets.video_folders",
    "ivos.data.youtube_vos": "ivos.data.datasets.youtube_vos",
    "ivos.engine.atnet": "ivos.engine.atnet_segmenter",
    "ivos.engine.fast": "ivos.engine.fused_layers",
    "ivos.engine.flow": "ivos.engine.optical_flow",
    "ivos.engine.masks": "ivos.engine.thresholding",
    "ivos.engine.segmenter": "ivos.engine.protocols",
    "ivos.engine.store": "ivos.engine.feature_store",
    "ivos.evaluation.davisinteractive_mend": "ivos.evaluation.davisinteractive_compat",
    "ivos.evaluation.loader": "ivos.evaluation.module",
    "ivos.evaluation.peers": "ivos.runtime.process_watchdog",
    "ivos.evaluation.watchers": "ivos.evaluation.session_callbacks",
    "ivos.leaderboard": "ivos.evaluation.leaderboard",
    "ivos.runtime.children": "ivos.runtime.subprocesses",
    "ivos.runtime.composed": "ivos.runtime.config",
    "ivos.segmenters.flow": "ivos.segmenters.grabcut_flow",
    "ivos.segmenters.scaled": "ivos.engine.resized",
    "ivos.session.clicked": "ivos.session.clicks",
    "ivos.session.metrics": "ivos.metrics.arrays",
    "ivos.training.starting": "ivos.training.initialisation",
}
"""The module's name in version 0.1, and its name now."""


class _RenamedModuleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Find a module by its former name and load the module of its present name in its place."""

    def __init__(self) -> None:
        self._specs: dict[ModuleType, importlib.machinery.ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for a former name, None for any other name."""
        if fullname not in RENAMED:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Import the module under its present name."""
        new = RENAMED[spec.name]
        warnings.warn(f"{spec.name} has been renamed to {new}", FutureWarning, stacklevel=2)
        module = importlib.import_module(new)
        self._specs[module] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec, which the import system has replaced by that of the former name."""
        module.__spec__ = self._specs.pop(module)

    def get_code(self, fullname: str) -> object:
        """Return the code of the module, so that ``python -m`` with the former name runs it."""
        spec = importlib.util.find_spec(RENAMED[fullname])
        assert spec is not None
        assert isinstance(spec.loader, importlib.abc.InspectLoader)
        return spec.loader.get_code(RENAMED[fullname])


def install() -> None:
    """Accept the former names from now on."""
    if not any(isinstance(finder, _RenamedModuleFinder) for finder in sys.meta_path):
        sys.meta_path.append(_RenamedModuleFinder())
