"""Check a data set without changing it: ``uv run -m ivos.data.tools.check SET FOLDER``.

The command prints the number of videos, frames and objects and every fault; its exit status is 1 if there is
a fault.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import get_args

from rich.console import Console
from rich.table import Table

from ivos.data.datasets.davis import DavisFolder
from ivos.data.datasets.sav import SAV
from ivos.data.datasets.sbd import SBD
from ivos.data.datasets.segment_folders import ESD, EndoVis, VIPSeg, VirtualKITTI
from ivos.data.datasets.static_images import Stills
from ivos.data.datasets.video_folders import Kind as FoldersKind
from ivos.data.datasets.video_folders import VideoFolders
from ivos.data.datasets.video_instances import Kind as InstancesKind
from ivos.data.datasets.video_instances import VideoInstances
from ivos.data.datasets.youtube_vos import YouTubeVOS
from ivos.video.files import DataError, by
from ivos.video.index import Index
from ivos.video.video import VideoSet

_READERS: dict[str, Callable[..., VideoSet]] = {
    "youtube_vos": YouTubeVOS,
    "sbd": SBD,
    "sav": SAV,
    "stills": lambda root, split, index: Stills(root, split=split, index=index),
    "endovis": EndoVis,
    "esd": ESD,
    "vipseg": VIPSeg,
    "vkitti2": VirtualKITTI,
    **{kind.lower(): partial(VideoFolders, kind) for kind in get_args(FoldersKind)},
    **{kind.lower().replace("-", "_"): partial(VideoInstances, kind) for kind in get_args(InstancesKind)},
}
"""Functions that open each data set except DAVIS, from its root, a split and ``index=``."""

_SPLITS = {
    "youtube_vos": ["train"],
    "bl30k": ["train"],
    "mose": ["train", "valid"],
    "sav": ["val", "test"],
    "stills": ["all"],
    "pumavos": ["all"],
    "endovis": ["train", "test"],
    "esd": ["train", "test"],
    "vkitti2": ["all"],
}


@dataclass
class Finding:
    """Result of checking one split: its videos, or an error."""

    split: str
    videos: VideoSet | None = None
    error: DataError | None = None

    @property
    def num_faults(self) -> int:
        """Number of faults."""
        return max(1, len(self.error.problems)) if self.error else 0


def look(open_set: Callable[[str], VideoSet], splits: Iterable[str]) -> list[Finding]:
    """Open each split and return its videos or its error."""
    findings = []
    for split in splits:
        try:
            findings.append(Finding(split, videos=open_set(split)))
        except DataError as error:
            findings.append(Finding(split, error=error))
    return findings


def table(findings: Iterable[Finding]) -> Table:
    """Return a table with a row for each split; it counts frames with masks and fits into 80 columns."""
    result = Table()
    for column in ("split", "videos", "frames", "objects", "faults"):
        result.add_column(column, justify="left" if column == "split" else "right", no_wrap=column != "split")
    result.add_column("sizes", overflow="fold")
    for finding in findings:
        *counts, sizes = ["-"] * 4 if finding.videos is None else _figures(finding.videos)
        result.add_row(finding.split, *counts, str(finding.num_faults), sizes)
    return result


def _figures(videos: VideoSet) -> list[str]:
    frames = sum(video.num_frames for video in videos)
    objects = sum(int((video.areas > 0).any(0).sum()) for video in videos)
    sizes = Counter(video.size for video in videos).most_common()
    named = [f"{count} of {by(size)}" for size, count in sizes[:3]]
    more = [f"{len(sizes) - 3} other sizes"] if len(sizes) > 3 else []
    return [f"{len(videos):,}", f"{frames:,}", f"{objects:,}", "\n".join(named + more)]


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    description = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m ivos.data.tools.check", description=description)
    parser.add_argument("set", choices=["davis", *_READERS])
    parser.add_argument("root", help="folder of the data set")
    parser.add_argument(
        "--split", nargs="+", help="splits to check; default: train and val, or the splits that the set has"
    )
    parser.add_argument(
        "--resolution", default="480p", help="resolution of DAVIS: 480p (default) or Full-Resolution"
    )
    parser.add_argument("--year", default="2017", help="folder of DAVIS' lists of videos (default: 2017)")
    parser.add_argument(
        "--keep-index",
        action="store_true",
        help="store the result in an index, so that training does not check the files again",
    )
    chosen = parser.parse_args(arguments)
    index: Index = chosen.keep_index

    def open_set(split: str) -> VideoSet:
        if chosen.set == "davis":
            return DavisFolder(chosen.root, split, None, chosen.year, chosen.resolution, index=index)
        return _READERS[chosen.set](chosen.root, split, index=index)

    splits = chosen.split or _SPLITS.get(chosen.set, ["train", "val"])
    findings = look(open_set, splits)
    console = Console(highlight=False, markup=False)
    console.print(table(findings))
    told = {(f.error.headline, f.error.problems): f.num_faults for f in findings if f.error}
    for headline, problems in told:  # an error of all splits is printed once
        console.print("\n  ".join([headline, *problems]), soft_wrap=True)
    faults = sum(told.values())
    console.print(f"{chosen.root}: {faults or 'no'} fault{'' if faults == 1 else 's'}", soft_wrap=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
