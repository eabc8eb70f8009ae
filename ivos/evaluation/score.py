"""Score folders of masks: ``python -m ivos.evaluation.score PREDICTIONS GROUND_TRUTH``.

Either folder has a folder for each sequence, in one of two layouts::

    bear/00000.png         labels as palette indices (DAVIS)
    bear/000/00000.png     a mask for each object, non-zero where it is (SA-V)

Objects that overlap, as SA-V's do, are each scored whole, on the frames that it has masks of. J, F, their
recall and decay are those of davis2017-evaluation; void (255) counts as background, as there. Written are its
``global_results-SUBSET.csv`` and ``per-sequence_results-SUBSET.csv``, and vos-benchmark's ``results.csv``.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivos.metrics import GroundTruth
from ivos.runtime.errors import UserError
from ivos.runtime.files import write_text
from ivos.runtime.machine import cores
from ivos.runtime.subprocesses import be_a_worker
from ivos.video.files import DataError, by, listing, natural_order
from ivos.video.labels import VOID, object_labels, renumber

GLOBAL_COLUMNS = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")


class Statistics(NamedTuple):
    """Of a measure over the frames of one object."""

    mean: float
    recall: float
    decay: float


@dataclass(frozen=True)
class ObjectScore:
    """J and F of one object of a sequence, with how many frames have been scored."""

    sequence: str
    number: int
    jaccard: Statistics
    f_measure: Statistics
    frames: int


class _Job(NamedTuple):
    name: str
    predictions: Path
    truth: Path
    ends: bool


def statistics(values: NDArray[np.float64]) -> Statistics:
    """Mean, recall and decay of a measure (Perazzi et al., 2016), as davis2017-evaluation computes them.

    Recall is the share of frames above 0.5. For decay the frames are cut at five places, evenly spread and
    rounded, the ends belonging to both neighbours; it is the mean of the first quarter less that of the last.

    Args:
        values: of each frame [T].

    >>> statistics(np.array([1.0, 0.8, 0.6, 0.4, 0.2]))
    Statistics(mean=0.6, recall=0.6, decay=0.6)
    """
    cuts = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(int)
    first, last = values[cuts[0] : cuts[1] + 1], values[cuts[3] : cuts[4] + 1]
    mean, recall = float(values.mean()), float((values > 0.5).mean())
    return Statistics(mean, recall, float(np.round(first.mean() - last.mean(), 15)))


def score(
    predictions: str | Path, truth: str | Path, ends: bool = False, processes: int | None = None
) -> list[ObjectScore]:
    """Score the sequences of a folder.

    Args:
        predictions: a folder of sequences, in either layout; frames are named as the ground truth's.
        truth: likewise; its sequences, frames and objects are those that count.
        ends: score the first and the last frame of a sequence too.
        processes: how many work at it; None for one on each core.

    Returns:
        a score of each object, ordered by sequence and number.

    Raises:
        DataError: all that does not fit, every offending file named.
    """
    predictions, truth = Path(predictions), Path(truth)
    for folder in (predictions, truth):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
    names = sorted(path.name for path in truth.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise DataError(f"{truth}: no sequences (folders of masks)")
    missing = [f"{predictions / name}: missing" for name in names if not (predictions / name).is_dir()]
    jobs = [_Job(name, predictions / name, truth / name, ends) for name in names]
    there = [job for job in jobs if job.predictions.is_dir()]
    there.sort(key=lambda job: -len(list(job.truth.rglob("*.png"))))  # the longest first
    workers = min(processes or cores(), len(there))
    if workers > 1:
        with ProcessPoolExecutor(workers, initializer=be_a_worker) as pool:
            found = list(pool.map(_score_sequence, there))
    else:
        found = [_score_sequence(job) for job in there]
    problems = missing + [problem for _, faults in found for problem in faults]
    if problems:
        raise DataError(f"{predictions} cannot be scored by {truth}", sorted(problems))
    return sorted((one for scores, _ in found for one in scores), key=lambda o: (o.sequence, o.number))


class _Masks(NamedTuple):
    """A sequence's masks, by the names of its frames: of all objects, or of each by its label."""

    together: dict[str, NDArray[np.uint8]]
    apart: dict[int, dict[str, NDArray[np.uint8]]]  # non-zero where the object is; SA-V's may overlap

    def frames(self, label: int) -> dict[str, NDArray[np.uint8]]:
        """One object's masks."""
        if self.apart:
            return self.apart.get(label, {})
        return {name: (mask == label).view(np.uint8) for name, mask in self.together.items()}

    def names(self, label: int) -> list[str]:
        """The frames that there is a mask of an object of."""
        return sorted(self.apart.get(label, {}) if self.apart else self.together, key=natural_order)

    @property
    def all(self) -> dict[str, NDArray[np.uint8]]:
        """Every file's mask by its path within the sequence, without the suffix."""
        found = dict(self.together)
        for label, masks in self.apart.items():
            found |= {f"{label - 1:03d}/{name}": mask for name, mask in masks.items()}
        return found

    @property
    def labels(self) -> list[int]:
        """Of the objects that have a pixel."""
        if self.apart:
            return [
                label for label, masks in self.apart.items() if any(mask.any() for mask in masks.values())
            ]
        seen = {label for mask in self.together.values() for label in _labels(mask)}
        return sorted(seen - {0, VOID})


def _score_sequence(job: _Job) -> tuple[list[ObjectScore], list[str]]:
    """Scores, or problems."""
    cv2.setNumThreads(1)  # the processes are as many as there are cores
    truth, problems = _read(job.truth)
    predicted, found = _read(job.predictions)
    problems = problems + found
    if not problems and not truth.all:
        problems.append(f"{job.truth}: no masks (*.png)")
    objects: list[int] = []
    if not problems:
        objects = truth.labels
        problems = _misfits(job, objects, truth, predicted)
    objects = [] if problems else objects
    names = {label: truth.names(label) if job.ends else truth.names(label)[1:-1] for label in objects}
    if not problems and (not objects or not all(names.values())):
        what = "no frames between the first and the last" if objects else "no objects"
        problems.append(f"{job.truth}: {what}")
    if problems:
        return [], problems
    if not truth.apart and not predicted.apart:
        chosen = names[objects[0]]
        both = [[masks.together[name] for name in chosen] for masks in (truth, predicted)]
        return _measure(job.name, objects, *both), []
    scores = []
    for label in objects:
        both = [[masks.frames(label)[name] for name in names[label]] for masks in (truth, predicted)]
        (one,) = _measure(job.name, [1], *[[(mask > 0).view(np.uint8) for mask in each] for each in both])
        scores.append(replace(one, number=label))
    return scores, []


def _misfits(job: _Job, objects: Sequence[int], truth: _Masks, predicted: _Masks) -> list[str]:
    """What of the predictions does not fit the ground truth, as lines."""
    problems: list[str] = []
    names = {label: truth.names(label) for label in objects}
    needed = set(truth.together) | {name for each in names.values() for name in each}
    there = set(predicted.together) | {name for masks in predicted.apart.values() for name in masks}
    if lacking := sorted(needed - there):
        problems.append(
            f"{job.predictions}: {len(there)} frames, the ground truth has {len(needed)}; missing: "
            f"{listing(lacking)}"
        )
    strange = sorted(there - needed)
    if strange and not truth.apart:  # SA-V's predictions are of all frames, its ground truth of every fourth
        problems.append(f"{job.predictions}: frames that the ground truth lacks: {listing(strange)}")
    if not problems and predicted.apart:
        for label, frames in names.items():
            folder = job.predictions / f"{label - 1:03d}"
            absent = sorted(set(frames) - set(predicted.names(label)))
            problems += [f"{folder}: missing: {listing(absent)}"] * bool(absent)
    sizes = [mask.shape for mask in truth.all.values()]
    size = max(set(sizes), key=sizes.count)
    for folder, masks in ((job.truth, truth), (job.predictions, predicted)):
        for name, mask in sorted(masks.all.items()):
            if mask.shape != size:
                is_, should = by(mask.shape[::-1]), by(size[::-1])
                problems.append(f"{folder / name}.png: is {is_}, the ground truth is {should}")
    known = set(truth.apart) or set(objects)
    for label in sorted(set(predicted.apart) - known):
        problems.append(f"{job.predictions / f'{label - 1:03d}'}: object {label}, which nobody drew")
    for name, mask in sorted(predicted.together.items()):
        if extra := _labels(mask) - {0} - known:
            problems.append(f"{job.predictions / name}.png: has object {listing(extra)}, which nobody drew")
    return problems


def _labels(mask: NDArray[np.uint8]) -> set[int]:
    """Without sorting its pixels, as np.unique does."""
    return set(cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel().nonzero()[0].tolist())


def _measure(
    name: str, objects: Sequence[int], true: list[NDArray[np.uint8]], predicted: list[NDArray[np.uint8]]
) -> list[ObjectScore]:
    numbers = np.zeros(256, np.uint8)
    numbers[objects] = np.arange(1, len(objects) + 1)
    labels, masks = (
        np.stack([np.asarray(cv2.LUT(mask, numbers), np.uint8) for mask in each])
        for each in (true, predicted)
    )
    truth = GroundTruth(labels, len(objects))
    pairs = zip(objects, truth.jaccard(masks).T, truth.f_measure(masks).T, strict=True)
    return [ObjectScore(name, label, statistics(j), statistics(f), len(j)) for label, j, f in pairs]


def _read(folder: Path) -> tuple[_Masks, list[str]]:
    """The masks of a sequence in either layout, and what is wrong with its files."""
    found = _Masks({}, {})
    flat = sorted(path for path in folder.glob("*.png") if not path.name.startswith("."))
    objects = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if flat and objects:
        return found, [f"{folder}: masks beside folders of objects; which of them count?"]
    problems: list[str] = []
    _read_files(flat, found.together, problems)
    file_labels = object_labels(label for mask in found.together.values() for label in _labels(mask))
    if file_labels == (VOID,):  # binary masks
        for name, mask in found.together.items():
            found.together[name] = renumber(mask, file_labels)
    for place in objects:
        if not place.name.isdigit() or not 0 <= int(place.name) < VOID:
            problems.append(f"{place}: not named by an object's number (000, 001, ...)")
            continue
        masks = found.apart.setdefault(int(place.name) + 1, {})  # numbers from 0 in SA-V; labels from 1 here
        _read_files(sorted(place.glob("*.png")), masks, problems)
    return found, problems


def _read_files(paths: Sequence[Path], masks: dict[str, NDArray[np.uint8]], problems: list[str]) -> None:
    for path in paths:
        try:
            with Image.open(path) as image:
                mode, pixels = image.mode, np.asarray(image)
        except (OSError, SyntaxError, ValueError) as error:
            problems.append(f"{path}: unreadable ({getattr(error, 'strerror', None) or error})")
            continue
        if mode in ("P", "L", "1"):
            masks[path.stem] = pixels.astype(np.uint8)
        else:
            problems.append(f"{path}: a {mode} image, not labels with a palette")


def global_results(scores: Sequence[ObjectScore]) -> dict[str, float]:
    """The means over all objects, by davis2017-evaluation's names."""
    j = np.mean([one.jaccard for one in scores], axis=0)
    f = np.mean([one.f_measure for one in scores], axis=0)
    return dict(zip(GLOBAL_COLUMNS, map(float, ((j[0] + f[0]) / 2, *j, *f)), strict=True))


def davis_csvs(scores: Sequence[ObjectScore]) -> tuple[str, str]:
    """davis2017-evaluation's two files: of all, and of each object."""
    total = global_results(scores)
    rows = [f"{one.sequence}_{one.number},{one.jaccard.mean:.3f},{one.f_measure.mean:.3f}" for one in scores]
    together = ",".join(total) + "\n" + ",".join(f"{value:.3f}" for value in total.values()) + "\n"
    return together, "\n".join(["Sequence,J-Mean,F-Mean", *rows]) + "\n"


def benchmark_csv(scores: Sequence[ObjectScore]) -> str:
    """vos-benchmark's results.csv: in percent, padded as there."""
    width = max(len("Global score"), *(len(one.sequence) for one in scores))
    total = {name: 100 * value for name, value in global_results(scores).items()}
    lines = [
        f"{'sequence':<{width}},{'obj':>3}, {'J&F':>4}, {'J':>4}, {'F':>4}",
        f"{'Global score':<{width}},{'':>3}, {total['J&F-Mean']:.1f}, {total['J-Mean']:.1f}, "
        f"{total['F-Mean']:.1f}",
    ]
    for one in scores:
        j, f = 100 * one.jaccard.mean, 100 * one.f_measure.mean
        lines.append(f"{one.sequence:<{width}},{one.number:03}, {(j + f) / 2:>4.1f}, {j:>4.1f}, {f:>4.1f}")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ivos.evaluation.score", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("predictions", type=Path, help="folder with a folder for each sequence")
    parser.add_argument("ground_truth", type=Path, help="likewise, for example DAVIS/Annotations/480p")
    parser.add_argument("--ends", action="store_true", help="score first and last frames too")
    parser.add_argument("--subset", default="val", help="what the files of results are called by (val)")
    parser.add_argument("--output", type=Path, help="where they go (the folder of predictions)")
    parser.add_argument("--processes", type=int, help="how many work at it (one on each core)")
    options = parser.parse_args(arguments)
    try:
        if options.processes is not None and options.processes < 1:
            raise UserError(f"--processes: at least 1, got {options.processes}")
        scores = score(options.predictions, options.ground_truth, options.ends, options.processes)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    place = options.output or options.predictions
    place.mkdir(parents=True, exist_ok=True)
    together, each = davis_csvs(scores)
    write_text(place / f"global_results-{options.subset}.csv", together)
    write_text(place / f"per-sequence_results-{options.subset}.csv", each)
    write_text(place / "results.csv", benchmark_csv(scores))
    print(together, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
