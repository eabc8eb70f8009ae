"""Look at a data set and change nothing: ``uv run -m ivos.data.tools.check SET FOLDER``.

Prints what there is and every fault, and ends with status 1 if there is one.
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
from ivos.data.datasets.static_images import Stills
from ivos.data.datasets.video_folders import LAYOUTS, Kind, VideoFolders
from ivos.data.datasets.youtube_vos import YouTubeVOS
from ivos.video.files import DataError, by
from ivos.video.index import Index
from ivos.video.video import VideoSet

_SPLITS = {
    "youtube_vos": ["train"],
    "bl30k": ["train"],
    "mose": ["train", "valid"],
    "sav": ["val", "test"],
    "stills": ["all"],
}


@dataclass
class Finding:
    """What a look at one split has found: its videos, or what is wrong."""

    split: str
    videos: VideoSet | None = None
    error: DataError | None = None

    @property
    def num_faults(self) -> int:
        """How much is wrong."""
        return max(1, len(self.error.problems)) if self.error else 0


def look(open_set: Callable[[str], VideoSet], splits: Iterable[str]) -> list[Finding]:
    """Open each split; an error is a finding."""
    findings = []
    for split in splits:
        try:
            findings.append(Finding(split, videos=open_set(split)))
        except DataError as error:
            findings.append(Finding(split, error=error))
    return findings


def table(findings: Iterable[Finding]) -> Table:
    """Return a row for each split, at most 80 columns wide; frames are those with masks."""
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


def _video_folders(kind: Kind, root: str, index: Index, split: str) -> VideoSet:
    return VideoFolders(kind, root, split, index=index)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    description = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m ivos.data.tools.check", description=description)
    names = ["davis", "youtube_vos", "sbd", "sav", "stills", *(kind.lower() for kind in LAYOUTS)]
    parser.add_argument("set", choices=names)
    parser.add_argument("root", help="the set's folder")
    parser.add_argument("--split", nargs="+", help="default: train and val, or what there is of the set")
    parser.add_argument("--resolution", default="480p", help="of DAVIS: 480p (default) or Full-Resolution")
    parser.add_argument("--year", default="2017", help="of DAVIS: the folder of the lists (default: 2017)")
    parser.add_argument(
        "--keep-index",
        action="store_true",
        help="keep what is found out, so that training need not look again",
    )
    chosen = parser.parse_args(arguments)
    index: Index = chosen.keep_index
    openers: dict[str, Callable[[str], VideoSet]] = {
        "davis": lambda split: DavisFolder(
            chosen.root, split, None, chosen.year, chosen.resolution, index=index
        ),
        "youtube_vos": lambda split: YouTubeVOS(chosen.root, split, index=index),
        "sbd": lambda split: SBD(chosen.root, split, index=index),
        "sav": lambda split: SAV(chosen.root, split, index=index),
        "stills": lambda split: Stills(chosen.root, split=split, index=index),
    }
    for kind in get_args(Kind):
        openers[kind.lower()] = partial(_video_folders, kind, chosen.root, index)
    splits = chosen.split or _SPLITS.get(chosen.set, ["train", "val"])
    findings = look(openers[chosen.set], splits)
    console = Console(highlight=False, markup=False)
    console.print(table(findings))
    told = {(f.error.headline, f.error.problems): f.num_faults for f in findings if f.error}
    for headline, problems in told:  # what is wrong with all splits is told once
        console.print("\n  ".join([headline, *problems]), soft_wrap=True)
    faults = sum(told.values())
    console.print(f"{chosen.root}: {faults or 'no'} fault{'' if faults == 1 else 's'}", soft_wrap=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
