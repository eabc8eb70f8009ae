"""Score folders of masks: ``python -m ivos.evaluation.score PREDICTIONS GROUND_TRUTH``.

Each of the two folders contains one folder per sequence, in one of two layouts::

    bear/00000.png         labels as palette indices (DAVIS)
    bear/000/00000.png     a mask for each object, non-zero on the object (SA-V)

The ground truth may also be the root of a data set or its ``Annotations`` folder. If the data set has lists
of its subsets (``ImageSets``), the sequences of the subset are scored. Overlapping objects, as in SA-V, are
each scored with their full masks, on the frames that have a mask of the object. The official evaluators
differ in the frames and objects that they score; each output file follows one of them
(docs/guides/score_masks.md):

``global_results-SUBSET.csv``, ``per-sequence_results-SUBSET.csv``
    davis2017-evaluation: the objects of the first frame, on all frames except the first and the last. On
    frames where both masks are empty, J = F = 1.
``results.csv``
    vos-benchmark and SA-V's sav_evaluator: all objects, on all frames except the first and the last, starting
    at the first frame on which the ground truth or the prediction has a pixel of the object.

davis2017-evaluation does not support the SA-V layout; for it, all files follow sav_evaluator. Void (255)
counts as background. If the masks of a sequence are binary (0 and 255), 255 is object 1.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.evaluation.mask_folders import (
    FLAT,
    Mask,
    MaskFolder,
    labels_in,
    listed_sequences,
    missing_files,
    truth_folder,
    wrong_sizes,
)
from ivos.metrics import GroundTruth
from ivos.runtime.errors import UserError, listing
from ivos.runtime.files import write_text
from ivos.runtime.machine import cores
from ivos.runtime.subprocesses import be_a_worker
from ivos.video.files import DataError
from ivos.video.labels import VOID

GLOBAL_COLUMNS = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")


class Statistics(NamedTuple):
    """Mean, recall and decay of a measure over the frames of one object."""

    mean: float
    recall: float
    decay: float


class Measures(NamedTuple):
    """J and F of one object, and the number of scored frames."""

    jaccard: Statistics
    f_measure: Statistics
    frames: int


@dataclass(frozen=True)
class ObjectScore:
    """The scores of one object of a sequence by the rules of both evaluators.

    Attributes:
        sequence: Name of the sequence.
        number: Label of the object; in SA-V layout, the number of its folder plus one.
        davis: Scores by the rule of davis2017-evaluation; None if it does not score the object.
        benchmark: Scores by the rule of vos-benchmark; None if the object is not on any scored frame.
        per_object: Whether the ground truth is in SA-V layout.
    """

    sequence: str
    number: int
    davis: Measures | None
    benchmark: Measures | None
    per_object: bool = field(default=False, compare=False)

    @property
    def _measures(self) -> Measures:
        measures = self.benchmark or self.davis
        assert measures is not None
        return measures

    @property
    def jaccard(self) -> Statistics:
        """J by the rule of vos-benchmark, or of davis2017-evaluation if only that scores the object."""
        return self._measures.jaccard

    @property
    def f_measure(self) -> Statistics:
        """F by the rule of vos-benchmark, or of davis2017-evaluation if only that scores the object."""
        return self._measures.f_measure

    @property
    def frames(self) -> int:
        """The number of frames over which :attr:`jaccard` and :attr:`f_measure` are computed."""
        return self._measures.frames


class _Job(NamedTuple):
    name: str
    predictions: Path
    truth: Path
    ends: bool


@dataclass
class _Result:
    """The scores of a sequence, or its problems."""

    scores: list[ObjectScore] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def statistics(values: NDArray[np.float64]) -> Statistics:
    """Return mean, recall and decay of a measure as in davis2017-evaluation (Perazzi et al., 2016).

    Recall is the share of frames with a value above 0.5. Decay is the mean over the first quarter of the
    frames minus the mean over the last. The boundaries of the quarters are evenly spaced and rounded, and a
    frame at a boundary belongs to both quarters.

    Args:
        values: Measure on each frame [T].

    >>> statistics(np.array([1.0, 0.8, 0.6, 0.4, 0.2]))
    Statistics(mean=0.6, recall=0.6, decay=0.6)
    """
    cuts = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(int)
    first, last = values[cuts[0] : cuts[1] + 1], values[cuts[3] : cuts[4] + 1]
    mean, recall = float(values.mean()), float((values > 0.5).mean())
    return Statistics(mean, recall, float(np.round(first.mean() - last.mean(), 15)))


def score(
    predictions: str | Path,
    truth: str | Path,
    ends: bool = False,
    processes: int | None = None,
    *,
    subset: str | None = None,
    sequences: Iterable[str] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[ObjectScore]:
    """Score the sequences of a folder.

    Args:
        predictions: A folder of sequences, in either layout, whose frames have the names of the ground
            truth's frames. Only scored frames are needed and read.
        truth: A folder of sequences, in either layout, or the root of a data set; it determines the
            sequences, frames and objects to score.
        ends: Whether to score also the first and the last frame of each sequence.
        processes: Number of processes; None uses one per core.
        subset: List in ``ImageSets`` whose sequences are scored; None means ``val`` if there is such a list.
        sequences: Names of the sequences to score; None scores those of the subset, or all.
        report: Function that is called with a message about sequences and objects that are not scored.

    Returns:
        The scores of each object, ordered by sequence and number.

    Raises:
        DataError: The folders do not match; the message lists all faults and files concerned.
    """
    predictions, truth = Path(predictions), Path(truth)
    for folder in (predictions, truth):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
    truth = truth_folder(truth, subset or "valid")
    names = _chosen(predictions, truth, subset, sequences, report)
    missing = [f"{predictions / name}: missing" for name in names if not (predictions / name).is_dir()]
    jobs = [_Job(name, predictions / name, truth / name, ends) for name in names]
    there = [job for job in jobs if job.predictions.is_dir()]
    there.sort(key=lambda job: -len(list(job.truth.rglob("*.png"))))  # start with the longest sequences
    workers = min(processes or cores(), len(there))
    if workers > 1:
        with ProcessPoolExecutor(workers, initializer=be_a_worker) as pool:
            results = list(pool.map(_score_sequence, there))
    else:
        results = [_score_sequence(job) for job in there]
    problems = missing + [problem for result in results for problem in result.problems]
    if problems:
        raise DataError(f"{predictions} cannot be scored by {truth}", sorted(problems))
    scores = [one for result in results for one in result.scores]
    late = [f"{one.sequence} {one.number}" for one in scores if one.davis is None]
    if late:
        report(
            f"{len(late)} objects that are not on the first frame are scored in results.csv only, because "
            f"davis2017-evaluation does not score them: {listing(late)}"
        )
    return sorted(scores, key=lambda one: (one.sequence, one.number))


def _chosen(
    predictions: Path,
    truth: Path,
    subset: str | None,
    sequences: Iterable[str] | None,
    report: Callable[[str], None],
) -> list[str]:
    """Return the names of the sequences to score, and report which ones are not scored and why."""
    names = sorted(path.name for path in truth.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise DataError(f"{truth}: no sequences (folders of masks)")
    reason = ""
    if sequences is not None:
        chosen, reason = sorted(set(sequences)), "not in --sequences"
    elif (found := listed_sequences(truth, subset)) is not None:
        chosen, reason = found[1], f"not in {found[0]}; --subset chooses another list"
    else:
        chosen = names
    if unknown := sorted(set(chosen) - set(names)):
        raise DataError(f"{truth} has no sequence {listing(unknown)}; it has: {listing(names)}")
    if not chosen:
        raise DataError(f"{truth}: no sequences are selected")
    if out := sorted(set(names) - set(chosen)):
        report(f"{len(out)} sequences of the ground truth are not scored ({reason}): {listing(out)}")
    extra = sorted(path.name for path in predictions.iterdir() if path.is_dir() and path.name not in chosen)
    if set(extra) & set(names) and not any((predictions / name).is_dir() for name in chosen):
        raise DataError(
            f"{predictions} has none of the sequences to score ({listing(chosen)}); it has: "
            f"{listing(extra)}; select with --subset or --sequences"
        )
    if extra:
        report(f"{len(extra)} sequences of the predictions are not scored: {listing(extra)}")
    return chosen


def _score_sequence(job: _Job) -> _Result:
    """Score a sequence, or collect its problems."""
    cv2.setNumThreads(1)  # there is one process per core
    truth, predictions = MaskFolder.of(job.truth), MaskFolder.of(job.predictions)
    if problems := truth.problems + predictions.problems:
        return _Result(problems=problems)
    true = truth.read({key: truth.frames(key) for key in truth.files})
    if truth.problems:
        return _Result(problems=truth.problems)
    if not any(true.values()):
        return _Result(problems=[f"{job.truth}: no masks (*.png)"])
    _make_binary(true)
    objects = _objects(true)
    if not objects:
        return _Result(problems=[f"{job.truth}: no objects"])
    counted = {label: truth.frames(label) if job.ends else truth.frames(label)[1:-1] for label in objects}
    if not all(counted.values()):
        what = f"{job.truth}: no frames between the first and the last; score these with --ends"
        return _Result(problems=[what])
    if problems := missing_files(truth, predictions, counted):
        return _Result(problems=problems)
    wanted = (
        counted
        if predictions.per_object
        else {FLAT: list(dict.fromkeys(chain.from_iterable(counted.values())))}
    )
    predicted = predictions.read(wanted)
    _make_binary(predicted)
    problems = predictions.problems or _misfits(truth, predictions, true, predicted, objects)
    if problems:
        return _Result(problems=problems)
    return _Result(_measure(job, truth.per_object, true, predicted, counted))


def _make_binary(masks: dict[int, dict[str, Mask]]) -> None:
    """Convert 255 to object 1 if the masks of a sequence in DAVIS layout only contain 0 and 255."""
    flat = masks.get(FLAT, {})
    labels = {label for mask in flat.values() for label in labels_in(mask)}
    if {VOID} <= labels <= {0, VOID}:
        masks[FLAT] = {name: (mask == VOID).astype(np.uint8) for name, mask in flat.items()}


def _objects(true: dict[int, dict[str, Mask]]) -> list[int]:
    """Return the labels of the objects that have a pixel anywhere in the ground truth."""
    if FLAT in true:
        return sorted({label for mask in true[FLAT].values() for label in labels_in(mask)} - {0, VOID})
    return [label for label, masks in sorted(true.items()) if any(mask.any() for mask in masks.values())]


def _misfits(
    truth: MaskFolder,
    predictions: MaskFolder,
    true: dict[int, dict[str, Mask]],
    predicted: dict[int, dict[str, Mask]],
    objects: Sequence[int],
) -> list[str]:
    """Return messages about predictions that do not match the ground truth."""
    by_path = [
        {folder.files[key][name]: mask for key, masks in found.items() for name, mask in masks.items()}
        for folder, found in ((truth, true), (predictions, predicted))
    ]
    problems = wrong_sizes(*by_path)
    known = set(objects) | set(truth.files)
    if predictions.per_object:
        for label in sorted(set(predictions.files) - known):
            problems.append(
                f"{predictions.folder / f'{label - 1:03d}'}: object {label} is not in the ground truth"
            )
    for name, mask in predicted.get(FLAT, {}).items():
        extra = labels_in(mask) - {0} - known
        if VOID in extra:
            problems.append(
                f"{predictions.files[FLAT][name]}: contains the label 255, which is void, not an object"
            )
        if extra := extra - {VOID}:
            problems.append(
                f"{predictions.files[FLAT][name]}: object {listing(extra)} is not in the ground truth"
            )
    return problems


def _measure(
    job: _Job,
    per_object: bool,
    true: dict[int, dict[str, Mask]],
    predicted: dict[int, dict[str, Mask]],
    counted: dict[int, list[str]],
) -> list[ObjectScore]:
    """Compute the scores of every object of a sequence on the scored frames."""
    scores = []
    on_first = max(labels_in(next(iter(true[FLAT].values()))) - {VOID}) if FLAT in true else 0
    if FLAT in true and FLAT in predicted:
        labels = list(counted)
        names = counted[labels[0]]
        stacks = [[masks[FLAT][name] for name in names] for masks in (true, predicted)]
        measured = _jaccard_and_f(labels, *stacks)
    else:
        measured = {}
        for label, names in counted.items():
            stacks = [[_object(masks, label, name) for name in names] for masks in (true, predicted)]
            measured |= {label: _jaccard_and_f([1], *stacks)[1]}
    for label, (jaccard, f_measure, occurs) in measured.items():
        from_first = slice(int(occurs.argmax()), None)
        benchmark = Measures(
            statistics(jaccard[from_first]), statistics(f_measure[from_first]), len(jaccard[from_first])
        )
        davis = Measures(statistics(jaccard), statistics(f_measure), len(jaccard))
        in_truth = occurs.any() and _in_truth(true, label, counted[label])
        scores.append(
            ObjectScore(
                job.name,
                label,
                (benchmark if in_truth else None) if per_object else (davis if label <= on_first else None),
                benchmark if in_truth else None,
                per_object,
            )
        )
    return [one for one in scores if one.davis or one.benchmark]


def _object(masks: dict[int, dict[str, Mask]], label: int, name: str) -> Mask:
    """Return the binary mask [h, w] of one object on a frame, from either layout."""
    if FLAT in masks:
        return (masks[FLAT][name] == label).view(np.uint8)
    return (masks[label][name] > 0).view(np.uint8)


def _in_truth(true: dict[int, dict[str, Mask]], label: int, names: Sequence[str]) -> bool:
    return any(_object(true, label, name).any() for name in names)


def _jaccard_and_f(
    labels: Sequence[int], true: Sequence[Mask], predicted: Sequence[Mask]
) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]]:
    """Return for every object J, F and whether the truth or the prediction has a pixel, each [T]."""
    numbers = np.zeros(256, np.uint8)
    numbers[list(labels)] = np.arange(1, len(labels) + 1)
    true_labels, predicted_labels = (
        np.stack([np.asarray(cv2.LUT(mask, numbers), np.uint8) for mask in each])
        for each in (true, predicted)
    )
    truth = GroundTruth(true_labels, len(labels))
    jaccard, f_measure = truth.jaccard(predicted_labels), truth.f_measure(predicted_labels)
    occurs = np.zeros(jaccard.shape, bool)
    for stack in (true_labels, predicted_labels):
        for frame, mask in enumerate(stack):
            occurs[frame, [number - 1 for number in labels_in(mask) - {0}]] = True
    return {
        label: (jaccard[:, index], f_measure[:, index], occurs[:, index])
        for index, label in enumerate(labels)
    }


def global_results(scores: Sequence[ObjectScore], rule: str = "davis") -> dict[str, float]:
    """Return the means over all objects, with the column names of davis2017-evaluation.

    Args:
        scores: Scores of the objects.
        rule: ``davis`` or ``benchmark``; objects that the rule does not score are ignored.
    """
    measures = [found for one in scores if (found := getattr(one, rule)) is not None]
    j = np.mean([one.jaccard for one in measures], axis=0)
    f = np.mean([one.f_measure for one in measures], axis=0)
    return dict(zip(GLOBAL_COLUMNS, map(float, ((j[0] + f[0]) / 2, *j, *f)), strict=True))


def davis_csvs(scores: Sequence[ObjectScore]) -> tuple[str, str]:
    """Return the two files of davis2017-evaluation: global results and results of each object."""
    total = global_results(scores)
    rows = [
        f"{one.sequence}_{one.number},{one.davis.jaccard.mean:.3f},{one.davis.f_measure.mean:.3f}"
        for one in scores
        if one.davis is not None
    ]
    together = ",".join(total) + "\n" + ",".join(f"{value:.3f}" for value in total.values()) + "\n"
    return together, "\n".join(["Sequence,J-Mean,F-Mean", *rows]) + "\n"


def benchmark_csv(scores: Sequence[ObjectScore]) -> str:
    """Return the file results.csv in the format of vos-benchmark, with values in percent.

    Numbers of objects are their labels, or the numbers of their folders in SA-V layout.
    """
    counted = [(one, one.benchmark) for one in scores if one.benchmark is not None]
    width = max(len("Global score"), *(len(one.sequence) for one in scores))
    total = {name: 100 * value for name, value in global_results(scores, "benchmark").items()}
    lines = [
        f"{'sequence':<{width}},{'obj':>3}, {'J&F':>4}, {'J':>4}, {'F':>4}",
        f"{'Global score':<{width}},{'':>3}, {total['J&F-Mean']:.1f}, {total['J-Mean']:.1f}, "
        f"{total['F-Mean']:.1f}",
    ]
    for one, measures in counted:
        j, f = 100 * measures.jaccard.mean, 100 * measures.f_measure.mean
        number = one.number - one.per_object
        lines.append(f"{one.sequence:<{width}},{number:03}, {(j + f) / 2:>4.1f}, {j:>4.1f}, {f:>4.1f}")
    return "\n".join(lines) + "\n"


def _write(scores: Sequence[ObjectScore], folder: Path, subset: str) -> None:
    """Write the files of results, and remove files of an earlier run that would not match these scores."""
    folder.mkdir(parents=True, exist_ok=True)
    davis = folder / f"global_results-{subset}.csv", folder / f"per-sequence_results-{subset}.csv"
    if any(one.davis for one in scores):
        for path, text in zip(davis, davis_csvs(scores), strict=True):
            write_text(path, text)
        print("By the rule of davis2017-evaluation:")
        print(davis[0].read_text(), end="")
    else:
        for path in davis:
            path.unlink(missing_ok=True)
    if any(one.benchmark for one in scores):
        write_text(folder / "results.csv", benchmark_csv(scores))
        number = sum(one.benchmark is not None for one in scores)
        total = global_results(scores, "benchmark")
        values = ", ".join(f"{name} {total[f'{name}-Mean']:.3f}" for name in ("J&F", "J", "F"))
        print(f"By the rule of vos-benchmark: {values} over {number} objects")
    else:
        (folder / "results.csv").unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ivos.evaluation.score", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "predictions", type=Path, help="folder of predicted masks, with a subfolder for each sequence"
    )
    parser.add_argument(
        "ground_truth",
        type=Path,
        help="folder of true masks (such as DAVIS/Annotations/480p), or the root of a data set",
    )
    parser.add_argument("--ends", action="store_true", help="score the first and the last frames, too")
    parser.add_argument(
        "--subset", help="list ImageSets/.../SUBSET.txt of the sequences to score, also used in file names"
    )
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="names of the sequences to score")
    parser.add_argument("--output", type=Path, help="folder for the results (default: predictions)")
    parser.add_argument("--processes", type=int, help="number of processes (default: one per core)")
    options = parser.parse_args(arguments)
    try:
        if options.processes is not None and options.processes < 1:
            raise UserError(f"--processes: at least 1, got {options.processes}")
        scores = score(
            options.predictions, options.ground_truth, options.ends, options.processes,
            subset=options.subset, sequences=options.sequences,
            report=lambda line: print(line, file=sys.stderr),
        )  # fmt: skip
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _write(scores, options.output or options.predictions, options.subset or "val")
    return 0


if __name__ == "__main__":
    sys.exit(main())
