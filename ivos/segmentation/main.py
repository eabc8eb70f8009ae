"""The program ``ivos-segment``, which segments whole videos from masks, strokes or clicks on some frames."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ivos.runtime.errors import UserError

if TYPE_CHECKING:
    from ivos.engine import Segmenter
    from ivos.segmentation.prompts import VideoFrames, VideoPrompts
    from ivos.video.reader import Source

SEGMENTERS = ("atnet", "flow", "copy", "sam2")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser("ivos-segment", description=__doc__)
    made.add_argument(
        "videos", nargs="+", type=Path, metavar="VIDEO",
        help="a video file, a folder of pictures, a folder in DAVIS layout (all its sequences), a folder of "
        "videos, or a text file that lists videos",
    )  # fmt: skip
    prompts = made.add_mutually_exclusive_group(required=True)
    prompts.add_argument(
        "--masks", type=Path, metavar="FOLDER_OR_PNG",
        help="a PNG for the first frame, a folder of PNGs named like the frames, or a folder of such folders",
    )  # fmt: skip
    prompts.add_argument(
        "--strokes", type=Path, metavar="JSON", help="a DAVIS scribble file, or a folder of such files"
    )
    prompts.add_argument(
        "--clicks", type=Path, metavar="JSON", help="a file of clicks, or a folder of such files"
    )
    made.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER",
        help="folder of the masks, which are written to FOLDER/VIDEO/FRAME.png",
    )  # fmt: skip
    made.add_argument(
        "--sequences", nargs="+", metavar="NAME",
        help="sequences of a folder in DAVIS layout; all by default",
    )  # fmt: skip
    made.add_argument("--segmenter", choices=SEGMENTERS, default="atnet")
    made.add_argument(
        "--checkpoint", metavar="NAME_OR_FILE",
        help="weights: a name or a file for atnet (default: base), a folder or a name on the hub for sam2",
    )  # fmt: skip
    made.add_argument("--download", action="store_true", help="download the weights of sam2 from the hub")
    made.add_argument("--device", help="device, such as cuda or cpu; by default a GPU if there is one")
    made.add_argument("--resume", action="store_true", help="skip videos whose masks exist already")
    made.add_argument(
        "--overlay", action="store_true", help="also write a video of the frames with their masks"
    )
    made.add_argument("--coco", action="store_true", help="also write the masks as COCO JSON")
    made.add_argument("--quiet", action="store_true", help="do not show a progress bar")
    return made


def main(arguments: list[str] | None = None) -> None:
    """Run the program; an error that the user can correct is printed in one line, with exit status 2."""
    options = parser().parse_args(arguments)
    try:
        segment_all(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def segment_all(options: argparse.Namespace) -> None:
    """Segment every video of the command line.

    Raises:
        UserError: A video, a prompt or the checkpoint cannot be used, or results exist already.
    """
    from ivos.segmentation.job import prompts_of, segment_source

    sources = _named(options)
    finished = [name for name in sources if (options.output / name).exists()]
    if finished and not options.resume:
        raise UserError(
            f"{options.output / finished[0]}: exists already; add --resume, or name another folder"
        )
    left = {name: source for name, source in sources.items() if name not in finished}
    segmenter = _segmenter(options) if left else None

    def read(frames: "VideoFrames") -> "VideoPrompts":
        return prompts_of(frames, options.masks, options.strokes, options.clicks)

    for number, (name, source) in enumerate(left.items(), start=1):
        assert segmenter is not None
        with _Bar(f"{name} ({number} of {len(left)})", options.quiet) as bar:
            folder = segment_source(
                segmenter, source, read, options.output, name,
                make_overlay=options.overlay, make_coco=options.coco, progress=bar.show,
            )  # fmt: skip
        print(folder)


def _named(options: argparse.Namespace) -> "dict[str, Source]":
    """Open the videos of the command line, and return them by the names of their results."""
    from ivos.video.folders import all_videos
    from ivos.video.reader import davis_sequences, is_davis, open_source

    found: dict[str, Source] = {}
    for path in [video for given in options.videos for video in all_videos(given)]:
        sequences = options.sequences or (davis_sequences(path) if is_davis(path) else [None])
        for sequence in sequences:
            source = open_source(path, sequence)
            if source.name in found:
                raise UserError(
                    f"{path} and {found[source.name].path} are both called {source.name}; rename one"
                )
            found[source.name] = source
    return found


def _segmenter(options: argparse.Namespace) -> "Segmenter":
    if options.segmenter == "atnet":
        from ivos._api import build_segmenter

        return build_segmenter(options.checkpoint or "base", device=options.device)
    if options.segmenter == "sam2":
        from ivos.engine.devices import choose_device
        from ivos.segmenters.sam2 import Sam2Segmenter

        if options.checkpoint is None:
            raise UserError("--checkpoint: name a folder or a model of the hub, for --segmenter sam2")
        device = None if options.device is None else str(choose_device(options.device))
        made = Sam2Segmenter(options.checkpoint, options.download, device)
        return cast("Segmenter", made)  # prompts are converted to the clicks and boxes that it accepts
    from ivos.segmenters import CopySegmenter, FlowSegmenter

    return FlowSegmenter() if options.segmenter == "flow" else CopySegmenter()


class _Bar:
    """A progress bar on standard error, which is shown only on a terminal."""

    def __init__(self, title: str, quiet: bool) -> None:
        self.title, self.quiet = title, quiet or not sys.stderr.isatty()

    def __enter__(self) -> "_Bar":
        return self

    def show(self, done: int, of: int) -> None:
        """Draw the bar for the given numbers of finished and of all frames."""
        if not self.quiet:
            filled = 30 * done // of
            print(
                f"\r{self.title} [{'#' * filled}{'.' * (30 - filled)}] {done}/{of}", end="", file=sys.stderr
            )

    def __exit__(self, *_: object) -> None:
        if not self.quiet:
            print(file=sys.stderr)


if __name__ == "__main__":
    main()
