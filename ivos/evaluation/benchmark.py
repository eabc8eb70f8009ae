"""Run a whole benchmark suite: ``ivos-benchmark CHECKPOINT_OR_SEGMENTER --suite davis|sam2|vos``.

A suite is a list of data sets and protocols (``--list`` prints them). Each pair is one run of
``ivos-evaluate`` in its own folder, ``OUTPUT/DATA_SET/PROTOCOL``. Data sets that are not under ``--root`` are
reported and skipped. Repeating the command continues an interrupted suite. At the end, the leaderboard of all
runs is written to ``OUTPUT/leaderboard``. Data sets for which only first masks have been published (MOSE,
YouTube-VOS) are segmented but not scored.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ivos.evaluation import leaderboard
from ivos.runtime.errors import UserError
from ivos.runtime.files import read_json

SEGMENTERS = ("atnet", "flow", "match", "copy", "sam2", "mine")


@dataclass(frozen=True)
class BenchmarkSet:
    """A data set of a suite.

    Attributes:
        folder: Folder of the data set under the root of all data sets.
        config: Value of the option ``data``.
        splits: Alternative splits, each with a glob pattern that matches a path in the data set if the split
            exists; the first existing split is used.
        first_masks: Whether only first masks have been published. Runs then have no scores, but masks for the
            benchmark's server.
    """

    folder: str
    config: str
    splits: tuple[tuple[str, str], ...]
    first_masks: bool = False

    def find(self, root: Path) -> str | None:
        """Return the first split that exists under the root, or None."""
        place = root / self.folder
        return next((split for split, shown in self.splits if any(place.glob(shown))), None)

    def expected(self, root: Path) -> str:
        """Return the path patterns of the splits, joined by "or", for messages."""
        return " or ".join(str(root / self.folder / shown) for _, shown in self.splits)


SETS = {
    "davis": BenchmarkSet("DAVIS", "davis", (("val", "ImageSets/2017/val.txt"),)),
    "endovis": BenchmarkSet(
        "EndoVis2018",
        "endovis",
        (("test", "[Tt]est*/**/left_frames"), ("train", "**/left_frames")),
    ),
    "esd": BenchmarkSet("ESD", "esd", (("test", "ESD-2"), ("train", "ESD-1"))),
    "lv_vis": BenchmarkSet("LV-VIS", "lv_vis", (("val", "val_instances.json"),)),
    "lvos": BenchmarkSet("LVOS", "lvos", (("valid", "valid/Annotations"), ("val", "val/Annotations"))),
    "mose": BenchmarkSet("MOSE", "mose", (("valid", "valid/Annotations"),), first_masks=True),
    "pumavos": BenchmarkSet("PUMaVOS", "pumavos", (("all", "Annotations"),)),
    "sav": BenchmarkSet("SA-V", "sav", (("val", "sav_val/sav_val.txt"),)),
    "uvo": BenchmarkSet("UVO", "uvo", (("val", "VideoDenseSet/UVO_video_val_dense.json"),)),
    "vipseg": BenchmarkSet("VIPSeg", "vipseg", (("val", "val.txt"),)),
    "vkitti2": BenchmarkSet("VKITTI2", "vkitti2", (("all", "**/instanceSegmentation"),)),
    "vost": BenchmarkSet("VOST", "vost", (("val", "ImageSets/val.txt"),)),
    "youtube_vos": BenchmarkSet(
        "YouTube-VOS", "youtube_vos", (("valid", "valid/meta.json"),), first_masks=True
    ),
}
ZERO_SHOT = ("endovis", "esd", "lvos", "lv_vis", "pumavos", "uvo", "vipseg", "vkitti2", "vost")
"""The nine data sets of the zero-shot evaluation in the papers of SAM 2 and SAM 3."""
SUITES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "davis": (("davis",), ("davis", "davis_clicks", "first_mask")),
    "sam2": (tuple(sorted(("davis", "sav", *ZERO_SHOT))), ("sam2_offline", "sam2_online")),
    "vos": (("davis", "lvos", "mose", "pumavos", "sav", "vost", "youtube_vos"), ("first_mask",)),
}
"""The data sets and the protocols of each suite."""


def segmenter_options(chosen: str) -> list[str]:
    """Return the options of ``ivos-evaluate`` for a segmenter (such as ``sam2:MODEL``) or a checkpoint."""
    name, _, model = chosen.partition(":")
    if name == "sam2" and model:
        return ["segmenter=sam2", f"segmenter.checkpoint={model}"]
    if chosen in SEGMENTERS:
        return [f"segmenter={chosen}"]
    return [f"checkpoint={chosen}"]


def plan(suite: str, root: Path, output: Path) -> tuple[list[tuple[Path, list[str]]], list[str]]:
    """Plan the runs of a suite for the available data sets.

    Returns:
        The folder and the options of each run, and a message for each data set that is not available.
    """
    names, protocols = SUITES[suite]
    runs: list[tuple[Path, list[str]]] = []
    missing: list[str] = []
    for name in names:
        if (split := SETS[name].find(root)) is None:
            missing.append(f"{name}: not found; expected {SETS[name].expected(root)}")
            continue
        data = [f"data={SETS[name].config}", f"data.root={root / SETS[name].folder}", f"data.split={split}"]
        data += ["data.first_masks=true"] * SETS[name].first_masks
        runs += [(output / name / protocol, [*data, f"protocol={protocol}"]) for protocol in protocols]
    return runs, missing


def run_suite(
    suite: str, chosen: str, root: Path, output: Path, devices: int, overrides: Sequence[str] = ()
) -> list[Path]:
    """Run all protocols of a suite, and return the folders of the runs.

    Args:
        suite: Name of the suite.
        chosen: A segmenter's name or a checkpoint.
        root: Folder with the data sets.
        output: Folder for the runs.
        devices: Number of processes of each run.
        overrides: Further options of ``ivos-evaluate``.

    Raises:
        UserError: No data set of the suite is available, or a run failed.
    """
    runs, missing = plan(suite, root, output)
    for line in missing:
        print(line, flush=True)
    if not runs:
        raise UserError(f"no data set of the suite {suite} is under {root} (--root)")
    for number, (folder, options) in enumerate(runs, start=1):
        print(f"[{number}/{len(runs)}] {folder}", flush=True)
        if (folder / "report.csv").exists():
            continue
        command = [
            sys.executable, "-m", "ivos.evaluation.main", f"hydra.run.dir={folder}", "resume=true",
            f"trainer.devices={devices}", *segmenter_options(chosen), *options, *overrides,
        ]  # fmt: skip
        if status := subprocess.run(command).returncode:
            raise UserError(
                f"{folder}: the run ended with exit status {status}; repeat the command to resume the suite"
            )
    return [folder for folder, _ in runs]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="ivos-benchmark", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "segmenter", nargs="?", help=f"{', '.join(SEGMENTERS)}, sam2:MODEL, or a checkpoint's name or file"
    )
    parser.add_argument("--suite", choices=sorted(SUITES), default="davis")
    parser.add_argument(
        "--root", type=Path, default=Path("data"), help="folder with the data sets (default: data)"
    )
    parser.add_argument(
        "--output", type=Path, help="folder for the runs (default: outputs/benchmark/SEGMENTER)"
    )
    parser.add_argument("--devices", type=int, help="processes per run (default: one per GPU, or one)")
    parser.add_argument("--list", action="store_true", help="print the suites and the expected folders")
    options, overrides = parser.parse_known_args(arguments)
    if options.list:
        for suite, (names, protocols) in SUITES.items():
            print(f"{suite}: {', '.join(protocols)}")
            print("".join(f"  {name}: {SETS[name].expected(options.root)}\n" for name in names), end="")
        return 0
    try:
        if options.segmenter is None:
            raise UserError("name a segmenter or a checkpoint; --help lists them")
        if unknown := [each for each in overrides if each.startswith("-") or "=" not in each]:
            raise UserError(f"{unknown[0]}: no such option")
        name = Path(options.segmenter.partition(":")[2] or options.segmenter).name
        output = options.output or Path("outputs/benchmark", name)
        devices = options.devices or _devices()
        folders = run_suite(
            options.suite, options.segmenter, options.root.absolute(), output.absolute(), devices, overrides
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    scored = [folder for folder in folders if "masks" not in read_json(folder / "summary.json")]
    for folder in folders:
        if folder not in scored:
            print(f"{folder}: masks for the server of the benchmark, not scored")
    if not scored:
        return 0
    return leaderboard.main([*map(str, scored), "--output", str(output / "leaderboard")])


def _devices() -> int:
    import torch

    return max(1, torch.cuda.device_count())


if __name__ == "__main__":
    sys.exit(main())
