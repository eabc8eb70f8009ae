"""Evaluate segmenters by all protocols on real video, for the leaderboard of docs/experiments/real_video.md.

uv run benchmarks/real_video.py FOLDER OUTPUT [--frames 30] [--lines 240]

FOLDER is in DAVIS layout with a list ``val``. A copy of its first frames at reduced size is written to
OUTPUT/data, each run to OUTPUT/PROTOCOL-SEGMENTER, and the table to OUTPUT/table. The same command continues
an interrupted run.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from ivos.evaluation.leaderboard import main as leaderboard

ROOT = Path(__file__).parents[1]
SEGMENTERS = {
    "flow": ["segmenter=flow"],
    "copy": ["segmenter=copy"],
    "match": ["segmenter=match"],
    "base": ["checkpoint=base"],
    "small": ["checkpoint=small"],
    "untrained": ["checkpoint=untrained"],
}
PROTOCOLS = {  # with the option for the number of rounds, which in SAM 2's protocols are prompted frames
    "davis": "session.max_interactions",
    "davis_clicks": "session.max_interactions",
    "sam2_offline": "protocol.frames",
    "sam2_online": "protocol.frames",
}


def reduce(source: Path, target: Path, frames: int | None, lines: int) -> None:
    """Copy the first frames of all sequences of ``val``, at most ``lines`` pixels high or wide."""
    names = (source / "ImageSets/2017/val.txt").read_text().split()
    for kind, filter_ in (
        ("JPEGImages", Image.Resampling.LANCZOS),
        ("Annotations", Image.Resampling.NEAREST),
    ):
        for name in names:
            (place := target / kind / "480p" / name).mkdir(parents=True, exist_ok=True)
            for path in sorted((source / kind / "480p" / name).iterdir())[:frames]:
                with Image.open(path) as image:
                    scale = min(1.0, lines / min(image.size))
                    size = round(image.width * scale), round(image.height * scale)
                    image.resize(size, filter_).save(place / path.name, quality=95)
    (target / "ImageSets/2017").mkdir(parents=True, exist_ok=True)
    (target / "ImageSets/2017/val.txt").write_text("\n".join(names) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--frames", type=int, help="number of frames of each sequence; default: all")
    parser.add_argument("--lines", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument("--segmenters", nargs="+", choices=SEGMENTERS, default=list(SEGMENTERS))
    chosen = parser.parse_args()
    data = (chosen.output / "data").absolute()
    if not (data / "ImageSets").is_dir():
        reduce(chosen.folder, data, chosen.frames, chosen.lines)
    runs = []
    for protocol in chosen.protocols:
        for segmenter in chosen.segmenters:
            runs.append((chosen.output / f"{protocol}-{segmenter}").absolute())
            options = [
                f"protocol={protocol}",
                *SEGMENTERS[segmenter],
                f"{PROTOCOLS[protocol]}={chosen.rounds}",
            ]
            options += [f"data.root={data}", f"hydra.run.dir={runs[-1]}", "resume=true", "save_overlays=true"]
            if protocol.startswith("davis"):  # a busy machine is no reason to leave rounds out
                options.append("session.max_time=null")
            print(f"{protocol}, {segmenter}", flush=True)
            command = [sys.executable, str(ROOT / "evaluate.py"), "device=cpu", *options]
            subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return leaderboard([*map(str, runs), "--output", str(chosen.output / "table")])


if __name__ == "__main__":
    sys.exit(main())
