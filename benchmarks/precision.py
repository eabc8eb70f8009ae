"""Compare probabilities and masks under the engine's options for speed with those of plain float32.

A session on each clip is run in plain float32 (only with folded batch norms and split heads). The same
strokes are then replayed on the same frames with each option. Differences are computed after the last round,
so that they contain the accumulated differences of all rounds. The option winograd is measured on a CPU only.

    uv run benchmarks/precision.py --checkpoint outputs/train/RUN/tnet/final.ckpt
"""

import argparse
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ivos.data.synthetic import open_synthetic
from ivos.engine import ATNetSegmenter
from ivos.interaction.clicks import translate
from ivos.metrics import jaccard
from ivos.networks import load
from ivos.training.validation import SessionResult, simulate_session
from ivos.video.clip import Clip

PLAIN: dict[str, Any] = {"winograd": False}
OPTIONS: dict[str, dict[str, Any]] = {
    "winograd": {"winograd": True},
    "batch_directions": {"winograd": False, "batch_directions": True},
    "feature_batch_size=4": {"winograd": False, "feature_batch_size": 4},
    "channels_last": {"winograd": False, "channels_last": True},
    "compile=default": {"winograd": False, "compile": "default"},
    "precision=bfloat16": {"precision": "bfloat16"},
    "precision=float16": {"precision": "float16"},
}


def replay(segmenter: ATNetSegmenter, clip: Clip, session: SessionResult) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities and masks after the strokes of a session."""
    segmenter.start(clip.frames, clip.num_objects)
    masks = np.zeros_like(clip.labels)
    for each in session.rounds:
        if each.strokes:
            masks = segmenter.interact(each.frame, translate(each.strokes, ["strokes"]))
    return segmenter.probabilities, masks


def options_for(device: torch.device, chosen: list[str] | None) -> list[str]:
    """Return the names of the options to measure: the chosen ones, or all that the device has.

    Raises:
        SystemExit: the device does not have a chosen option.
    """
    missing = {"winograd"} if device.type != "cpu" else set()
    if refused := missing & set(chosen or []):
        raise SystemExit(f"error: --options {' '.join(refused)}: for a CPU only")
    return chosen or [name for name in OPTIONS if name not in missing]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="checkpoint of a trained network")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument(
        "--options", nargs="+", choices=OPTIONS, help="options to measure; default: all of the device"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    names = options_for(torch.device(arguments.device), arguments.options)
    network = load(arguments.checkpoint).to(arguments.device)
    videos = open_synthetic(num_clips=arguments.clips, num_frames=10, width=128, height=128, max_objects=2)
    clips = [video.load() for video in videos]
    plain = ATNetSegmenter(network, **PLAIN)
    sessions = [simulate_session(plain, clip, arguments.rounds, 0) for clip in clips]
    truth = [replay(plain, clip, session) for clip, session in zip(clips, sessions, strict=True)]
    table = Table(title=f"After {arguments.rounds} rounds on {len(clips)} clips, against plain float32")
    for name in ("option", "largest difference", "mean difference", "pixels changed", "J"):
        table.add_column(name, justify="left" if name == "option" else "right")
    quality = [
        jaccard(c.labels, masks, c.num_objects).mean() for c, (_, masks) in zip(clips, truth, strict=True)
    ]
    table.add_row("none", "", "", "", f"{np.mean(quality):.4f}")
    for name in names:
        segmenter = ATNetSegmenter(network, **OPTIONS[name])
        largest, means, changed, quality = [], [], [], []
        for clip, session, (before, labels) in zip(clips, sessions, truth, strict=True):
            probabilities, masks = replay(segmenter, clip, session)
            difference = np.abs(probabilities - before)
            largest.append(difference.max())
            means.append(difference.mean())
            changed.append((masks != labels).mean())
            quality.append(jaccard(clip.labels, masks, clip.num_objects).mean())
        table.add_row(
            name,
            f"{max(largest):.1e}",
            f"{np.mean(means):.1e}",
            f"{np.mean(changed):.3%}",
            f"{np.mean(quality):.4f}",
        )
    Console(width=100).print(table)
    print(f"{network.mean.device}, torch {torch.__version__}, width {network.config['width']}")


if __name__ == "__main__":
    main()
