"""The public functions of the package ``ivos``; slow imports happen inside the functions."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pytorch_lightning as pl
    import torch

    from ivos.engine import ATNetSegmenter, Segmenter
    from ivos.engine.frames import Frames
    from ivos.networks import ATNet
    from ivos.session import ProtocolFactory, SessionSettings
    from ivos.video.video import Video


def build_segmenter(
    checkpoint: str | Path | ATNet = "base", *, device: str | torch.device | None = None, **options: Any
) -> ATNetSegmenter:
    """Build the segmenter that ``evaluate.py`` and ``annotate.py`` use.

    The working size and the use of optical flow follow the settings that are stored with the weights, unless
    ``options`` override them.

    Args:
        checkpoint: Name of weights that come with ivos (:func:`ivos.networks.shipped_names`), a checkpoint
            file (the authors' released one or one written by ivos), ``untrained``, or a network.
        device: Device on which the network runs, such as ``cuda`` or ``cpu``; None selects a CUDA device or
            an Apple GPU if there is one, else the CPU.
        options: Keyword arguments of :class:`ivos.ATNetSegmenter`, such as ``undo_gib=1``.

    Returns:
        The segmenter. Call its method ``start`` next.

    Raises:
        UserError: The checkpoint or the device does not exist, or an option has an invalid value.
    """
    from ivos.engine import ATNetSegmenter
    from ivos.engine.devices import choose_device
    from ivos.networks import ATNet, load

    network = checkpoint if isinstance(checkpoint, ATNet) else load(checkpoint)
    return ATNetSegmenter(network.to(choose_device(device)), **options)


def read_video(path: str | Path, sequence: str | None = None) -> NDArray[np.uint8]:
    """Read all frames of a video into memory.

    Args:
        path: A video file, a folder of images, or a folder in DAVIS layout.
        sequence: Name of the sequence to read from a folder in DAVIS layout; None if the folder holds only
            one sequence.

    Returns:
        Frames, uint8 RGB [T, h, w, 3], rotated as the file's metadata says.

    Raises:
        DataError: The path holds no readable video; the message names the file.
    """
    from ivos.video.reader import open_source

    return np.stack([frame for frame, _ in open_source(path, sequence).decode()])


def save_masks(
    folder: str | Path, masks: NDArray[np.uint8], names: Sequence[str] | None = None
) -> list[Path]:
    """Write masks as indexed PNG files with the palette of DAVIS; pixel values are object numbers.

    Args:
        folder: Folder for the files; it is created if it does not exist.
        masks: Labels, uint8 [T, h, w]: 0 is the background, 1..N are the objects.
        names: T file names without suffix; None uses 00000, 00001, ...

    Returns:
        The paths of the files, in the order of the frames.

    Raises:
        ValueError: The masks are not uint8 [T, h, w], or the number of names is not T.
    """
    from ivos.video.palette import write_labels

    if masks.ndim != 3 or masks.dtype != np.uint8:
        raise ValueError(f"masks: uint8 [T, h, w] is needed, got {masks.dtype} {list(masks.shape)}")
    names = [f"{frame:05d}" for frame in range(len(masks))] if names is None else names
    if len(names) != len(masks):
        raise ValueError(f"names: {len(names)} names for {len(masks)} masks")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.png" for name in names]
    for file, labels in zip(files, masks, strict=True):
        write_labels(file, labels)
    return files


def segment(
    video: str | Path | Frames,
    *,
    masks: Mapping[int, NDArray[np.uint8]] | str | Path | None = None,
    strokes: Mapping[int, Sequence[Any]] | str | Path | None = None,
    clicks: Mapping[int, Sequence[Any]] | str | Path | None = None,
    segmenter: Segmenter | None = None,
    **options: Any,
) -> NDArray[np.uint8]:
    """Segment a video from masks, strokes or clicks on some of its frames, as ``ivos-segment`` does.

    Args:
        video: A video file, a folder of images, or frames: uint8 RGB [T, h, w, 3] or a list of [h, w, 3].
        masks: Dictionary from frame index to labels uint8 [h, w], or a PNG file or a folder of PNG files (see
            ``ivos-segment --help``).
        strokes: Dictionary from frame index to strokes, or a DAVIS scribble file.
        clicks: Dictionary from frame index to clicks, or a JSON file of clicks.
        segmenter: Segmenter to run; None builds one with :func:`build_segmenter`.
        options: Arguments of :func:`build_segmenter`, such as ``checkpoint="net.pt"`` or ``device="cpu"``.

    Returns:
        Labels, uint8 [T, h, w]; the object numbers are those of the prompts.

    Raises:
        UserError: The video, the prompts or the checkpoint cannot be used.
    """
    from ivos.engine.frames import as_frames
    from ivos.segmentation.job import frame_names, prompts_of, run
    from ivos.segmentation.prompts import VideoFrames
    from ivos.video.reader import open_source

    if not isinstance(video, str | Path):
        frames, name = as_frames(video), "video"
        names = tuple(f"{t:05d}" for t in range(len(frames)))
    else:
        source = open_source(video)
        frames, name = np.stack([frame for frame, _ in source.decode()]), source.name
        names = frame_names(source, len(frames))
    info = VideoFrames(name, names, (frames.shape[2], frames.shape[1]))
    prompts = prompts_of(info, masks, strokes, clicks)
    return run(segmenter or build_segmenter(**options), frames, prompts)


def evaluate(
    segmenter: Segmenter,
    videos: Sequence[Video] | str | Path,
    folder: str | Path | None = None,
    *,
    settings: SessionSettings | None = None,
    protocol: ProtocolFactory | None = None,
    trainer: pl.Trainer | None = None,
    **options: Any,
) -> dict[str, Mapping[str, Any]]:
    """Evaluate any segmenter on any set of videos by an interactive protocol.

    The extras ``evaluate`` and ``davis`` have to be installed.

    Args:
        segmenter: Segmenter to evaluate: any object with the methods of :class:`ivos.Segmenter`.
        videos: Videos, such as those of :class:`ivos.data.datasets.davis.DavisFolder`; or a folder in DAVIS
            layout, whose subset ``val`` is evaluated.
        folder: Folder for report.csv, summary.json, rounds.csv and curve.png; None writes no files.
        settings: Settings of the interactive session; None uses the defaults of ``evaluate.py``.
        protocol: Interactive protocol; None uses the DAVIS interactive session.
        trainer: Lightning trainer whose test loop runs the evaluation, possibly in several processes; None
            creates one with a single process.
        options: Further arguments of :func:`ivos.evaluation.evaluate`, such as ``save_masks=True``. By
            default PyTorch runs in one thread, as in ``evaluate.py``, so that results are repeatable.

    Returns:
        The summary of each metric, as in summary.json.

    Raises:
        UserError: Videos or settings cannot be used, or the folder holds a run with other settings.
    """
    import pytorch_lightning as pl

    from ivos.data.datasets.davis import DavisFolder
    from ivos.evaluation import evaluate as run
    from ivos.session import SessionSettings

    chosen = DavisFolder(videos) if isinstance(videos, str | Path) else videos
    if settings is None:
        settings = SessionSettings()
    if trainer is None:
        trainer = pl.Trainer(
            logger=False, enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False
        )
    with tempfile.TemporaryDirectory(prefix="ivos-") as temporary:
        return run(
            segmenter, chosen, settings, folder or temporary, trainer, protocol=protocol,
            **{"threads": 1, **options},
        )  # fmt: skip
