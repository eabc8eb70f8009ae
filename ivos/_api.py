"""The functions that ``import ivos`` offers; imports that take long are inside the functions."""

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
    checkpoint: str | Path | ATNet = "small", *, device: str | torch.device | None = None, **options: Any
) -> ATNetSegmenter:
    """Build the segmenter that ``evaluate.py`` and ``annotate.py`` use, with the weights' own settings.

    Args:
        checkpoint: the name of weights that come with ivos (:func:`ivos.networks.shipped_names`), a
            checkpoint file (the authors' released one or one written by ivos), ``untrained``, or a network.
        device: where the network runs, such as ``cuda`` or ``cpu``; None: a CUDA device or an Apple GPU where
            there is one, else the CPU.
        options: keyword arguments of :class:`ivos.ATNetSegmenter`, such as ``undo_gib=1``.

    Returns:
        the segmenter; call its method ``start`` next.

    Raises:
        UserError: There is no such checkpoint or device, or an option has a value that is not possible.
    """
    from ivos.engine import ATNetSegmenter
    from ivos.engine.devices import choose_device
    from ivos.networks import ATNet, load

    network = checkpoint if isinstance(checkpoint, ATNet) else load(checkpoint)
    return ATNetSegmenter(network.to(choose_device(device)), **options)


def read_video(path: str | Path, sequence: str | None = None) -> NDArray[np.uint8]:
    """Read all frames of a video into memory.

    Args:
        path: a video file, a folder of pictures, or a folder in DAVIS layout.
        sequence: the sequence of a folder in DAVIS layout; None where it has only one.

    Returns:
        frames uint8 RGB [T, h, w, 3]; a camera's rotation is applied.

    Raises:
        DataError: There is no video that can be read; the message names the file.
    """
    from ivos.video.reader import open_source

    return np.stack([frame for frame, _ in open_source(path, sequence).decode()])


def save_masks(
    folder: str | Path, masks: NDArray[np.uint8], names: Sequence[str] | None = None
) -> list[Path]:
    """Write masks as PNG files whose pixels are object numbers and whose palette is that of DAVIS.

    Args:
        folder: where the files are written; it is made if it does not exist.
        masks: labels uint8 [T, h, w]: 0 background, 1..N objects.
        names: the files' names without suffix, T of them; None: 00000, 00001, ...

    Returns:
        the files, in order.

    Raises:
        ValueError: The masks are not uint8 [T, h, w], or there is another number of names.
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
        video: a video file, a folder of pictures, or frames: uint8 RGB [T, h, w, 3] or a list of [h, w, 3].
        masks: labels uint8 [h, w] by frame, or a PNG file or a folder of them (see ``ivos-segment --help``).
        strokes: strokes by frame, or a DAVIS scribble file.
        clicks: clicks by frame, or a JSON file of them.
        segmenter: None: that of :func:`build_segmenter`.
        options: of :func:`build_segmenter`, such as ``checkpoint="net.pt"`` or ``device="cpu"``.

    Returns:
        labels uint8 [T, h, w], with the objects' numbers of the prompts.

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
        segmenter: what is evaluated; any object with the methods of :class:`ivos.Segmenter`.
        videos: the videos, such as those of :class:`ivos.data.datasets.davis.DavisFolder`; or a folder in
            DAVIS layout, whose subset ``val`` is taken.
        folder: where report.csv, summary.json, rounds.csv and curve.png are written; None: nowhere.
        settings: of the session; None: those of ``evaluate.py``.
        protocol: None: the DAVIS interactive session.
        trainer: whose test loop runs the evaluation, on several processes where it has them; None: on one.
        options: further arguments of :func:`ivos.evaluation.evaluate`, such as ``save_masks=True``. By
            default PyTorch runs in one thread, as in ``evaluate.py``, so that numbers can be repeated.

    Returns:
        the summary of each metric, as in summary.json.

    Raises:
        UserError: Videos or settings cannot be used, or the folder holds a run with other settings.
    """
    import pytorch_lightning as pl

    from ivos.data.datasets.davis import DavisFolder
    from ivos.evaluation import evaluate as run
    from ivos.session import SessionSettings

    chosen = DavisFolder(videos) if isinstance(videos, str | Path) else videos
    if settings is None:
        settings = SessionSettings(robot={"min_nb_nodes": 0})
    if trainer is None:
        trainer = pl.Trainer(
            logger=False, enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False
        )
    with tempfile.TemporaryDirectory(prefix="ivos-") as temporary:
        return run(
            segmenter, chosen, settings, folder or temporary, trainer, protocol=protocol,
            **{"threads": 1, **options},
        )  # fmt: skip
