"""Interactive video object segmentation with A-Net and T-Net: annotate, segment, evaluate and train.

Everything in ``__all__`` is public and stays compatible between minor versions; modules and names that begin
with an underscore are private. Each public name is imported on its first use, so that ``import ivos`` is fast
and does not import PyTorch.

Example::

    import ivos

    frames = ivos.read_video("video.mp4")  # uint8 RGB [T, h, w, 3]
    segmenter = ivos.build_segmenter("base")
    segmenter.start(frames, num_objects=1)
    masks = segmenter.interact(0, [{"path": [[0.4, 0.5], [0.5, 0.6]], "object_id": 1}])  # uint8 [T, h, w]
    ivos.save_masks("masks", masks)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ivos import _renamed_modules

if TYPE_CHECKING:
    from ivos._api import build_segmenter, evaluate, read_video, save_masks, segment
    from ivos.engine.atnet_segmenter import ATNetSegmenter
    from ivos.engine.protocols import LiveSegmenter, Segmenter
    from ivos.metrics import f_measure, jaccard
    from ivos.networks import load

    __version__: str

_MODULES = {
    "ATNetSegmenter": "ivos.engine.atnet_segmenter",
    "LiveSegmenter": "ivos.engine.protocols",
    "Segmenter": "ivos.engine.protocols",
    "build_segmenter": "ivos._api",
    "evaluate": "ivos._api",
    "f_measure": "ivos.metrics",
    "jaccard": "ivos.metrics",
    "load": "ivos.networks",
    "read_video": "ivos._api",
    "save_masks": "ivos._api",
    "segment": "ivos._api",
}

__all__ = [
    "ATNetSegmenter",
    "LiveSegmenter",
    "Segmenter",
    "__version__",
    "build_segmenter",
    "evaluate",
    "f_measure",
    "jaccard",
    "load",
    "read_video",
    "save_masks",
    "segment",
]

_renamed_modules.install()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    """Return the installed version, or ``0+unknown`` if ivos runs from source without installation."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ivos")
    except PackageNotFoundError:
        return "0+unknown"
