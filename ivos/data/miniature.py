"""Small data sets in the layouts of YouTube-VOS and SBD, for tests and benchmarks of their readers.

:func:`ivos.data.synthetic.write_davis` writes a data set in DAVIS layout.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.video.labels import VOID
from ivos.video.palette import write_labels

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # frames RGB [T, h, w, 3] and labels [T, h, w]


def write_youtube_vos(root: str | Path, clips: Iterable[Pair], split: str = "train") -> Path:
    """Write clips in the layout of YouTube-VOS, as videos ``video0``, ``video1``, ...

    Frame t has the number 5t, because YouTube-VOS has a mask on every fifth frame. For each object,
    ``meta.json`` lists the frames from the first to the last that show it.

    Returns:
        ``root``.
    """
    folder, videos = Path(root) / split, {}
    for index, (frames, labels) in enumerate(clips):
        name = f"video{index}"
        names = [f"{5 * t:05d}" for t in range(len(frames))]
        for stem, frame, mask in zip(names, frames, labels, strict=True):
            _write_image(folder / "JPEGImages" / name / f"{stem}.jpg", frame)
            path = folder / "Annotations" / name / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_labels(path, mask)
        objects = {}
        for label in sorted(set(np.unique(labels).tolist()) - {0, VOID}):
            shown = np.flatnonzero((labels == label).any((1, 2)))
            objects[str(label)] = {"category": "figure", "frames": names[shown[0] : shown[-1] + 1]}
        videos[name] = {"objects": objects}
    (folder / "meta.json").write_text(json.dumps({"videos": videos}))
    return Path(root)


def write_sbd(root: str | Path, images: Iterable[Pair], split: str = "train") -> Path:
    """Write the first frames of clips in the layout of SBD, as images ``2008_000000``, ``2008_000001``, ...

    Returns:
        ``root``.
    """
    from scipy.io import savemat

    folder, names = Path(root) / "benchmark_RELEASE" / "dataset", []
    (folder / "inst").mkdir(parents=True, exist_ok=True)
    for index, (frames, labels) in enumerate(images):
        names.append(f"2008_{index:06d}")
        _write_image(folder / "img" / f"{names[-1]}.jpg", frames[0])
        savemat(folder / "inst" / f"{names[-1]}.mat", {"GTinst": _instances(labels[0])}, do_compression=True)
    (folder / f"{split}.txt").write_text("\n".join(names) + "\n")
    return Path(root)


def _instances(labels: NDArray[np.uint8]) -> dict[str, object]:
    """Return SBD's struct: segmentation, sparse matrices of the instances' boundaries, and categories."""
    from scipy.sparse import csc_matrix

    present = sorted(set(np.unique(labels).tolist()) - {0, VOID})
    boundaries = np.empty((len(present), 1), object)
    for row, label in enumerate(present):
        mask = (labels == label).astype(np.uint8)
        boundaries[row, 0] = csc_matrix(mask - cv2.erode(mask, np.ones((3, 3), np.uint8)), dtype=float)
    categories = np.ones((len(present), 1), np.uint8)
    return {"Segmentation": labels, "Boundaries": boundaries, "Categories": categories}


def _write_image(path: Path, frame: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
