"""Pictures of validation sessions: strokes, ground truth, prediction and local transfer side by side."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from ivos.engine.padding import Padding
from ivos.interaction.clicks import translate
from ivos.interaction.drawing import draw_strokes
from ivos.networks import ATNet
from ivos.runtime.loggers import log_picture
from ivos.session import Round, mean_over
from ivos.training.validation import SessionResult
from ivos.video.overlay import overlay
from ivos.video.palette import PALETTE

Picture = NDArray[np.uint8]
INCHES, PIXELS = 2.3, 256  # longer side of a frame in the figure; smaller frames are enlarged to PIXELS


class ValidationPictures(Callback):
    """Logs pictures of the validation sessions on the first clips of the first process.

    Args:
        clips: Number of clips.
        every_n_epochs: Number of epochs between pictures.
    """

    def __init__(self, clips: int = 3, every_n_epochs: int = 1) -> None:
        self.clips, self.every = clips, every_n_epochs
        self._results: list[SessionResult] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the session of a clip."""
        due = trainer.current_epoch % self.every == 0 and not trainer.sanity_checking
        if due and trainer.is_global_zero and len(self._results) < self.clips:
            self._results.append(outputs["session"])

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Draw and log the sessions, while the network is still in evaluation mode."""
        if self._results:
            network = pl_module.segmenter.network
            picture = sessions_picture(self._results, network)
            log_picture(trainer.loggers, "val/sessions", picture, trainer.global_step)
            self._results = []


def sessions_picture(results: list[SessionResult], network: ATNet) -> Picture:
    """Draw two rows for each session: the frame annotated first, and the worst propagated frame.

    The first row shows the state after the first round, the second one the state after the last round. The
    column of the local transfer shows the masks predicted for the neighbouring frame (towards the annotated
    frame), transferred by T-Net's local transfer. A clip of a single frame has one row without that column.

    Args:
        results: The sessions.
        network: Network that segmented the sessions; it computes the local transfer.

    Returns:
        The picture, uint8 RGB [h, w, 3].
    """
    rows = [row for result in results for row in _rows(result)]
    columns = 3 if all(len(result.clip.frames) == 1 for result in results) else 4
    height, width = results[0].clip.frames.shape[1:3]
    scale = INCHES / max(height, width)
    size = (columns * width * scale + 0.3, len(rows) * (height * scale + 0.28) + 0.3)
    figure = Figure(figsize=size, dpi=130, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, (result, after, frame) in zip(axes, rows, strict=True):
        _draw_row(row, result, after, frame, network)
    for cell, title in zip(
        axes[0], ("frame, strokes", "ground truth", "prediction", "local transfer"), strict=False
    ):
        cell.annotate(
            title,
            (0.5, 1),
            (0, 18),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            weight="bold",
        )
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _rows(result: SessionResult) -> list[tuple[SessionResult, Round, int]]:
    """Return the rounds and frames of a session that are drawn."""
    first, last = result.rounds[0], result.rounds[-1]
    rows = [(result, first, first.frame)]
    quality = mean_over(last.jaccard, axis=1)
    quality[[each.frame for each in result.rounds]] = np.nan
    if not np.isnan(quality).all():
        rows.append((result, last, int(np.nanargmin(quality))))
    return rows


def _draw_row(axes: NDArray[Any], result: SessionResult, after: Round, frame: int, network: ATNet) -> None:
    clip = result.clip
    image, truth, predicted = map(_enlarged, (clip.frames[frame], clip.labels[frame], after.masks[frame]))
    strokes = after.strokes if frame == after.frame else []
    _show(axes[0], draw_strokes(image, translate(strokes, ["strokes"])), f"{clip.name}, frame {frame}")
    _show(axes[1], overlay(image, truth), "")
    quality = f"J {mean_over(after.jaccard[frame]):.2f}"
    _show(axes[2], overlay(image, predicted), f"round {after.number}: {quality}")
    if len(axes) == 4:
        neighbour = _neighbour(frame, after, len(clip.frames))
        if neighbour is None:
            axes[3].axis("off")
            return
        _show(
            axes[3],
            local_transfer_picture(result, after, frame, neighbour, network),
            f"from frame {neighbour}",
        )


def _neighbour(frame: int, after: Round, num_frames: int) -> int | None:
    """Return the neighbour of a frame, towards the annotated frame, from which its mask was propagated."""
    if num_frames == 1:
        return None
    if frame == after.frame:
        return frame - 1 if frame else 1
    return frame - 1 if frame > after.frame else frame + 1


@torch.no_grad()
def local_transfer_picture(
    result: SessionResult, after: Round, frame: int, neighbour: int, network: ATNet
) -> Picture:
    """Draw a neighbouring frame's predicted masks after T-Net's local transfer, in the colours of DAVIS.

    Returns:
        The picture, uint8 RGB [h, w, 3]; black where no mask is transferred to.
    """
    clip, device = result.clip, network.mean.device
    padding = Padding.to_multiple_of_32(*clip.frames.shape[1:3])
    pair = padding.pad(clip.frames[[neighbour, frame]].transpose(0, 3, 1, 2))
    images = network.normalise(torch.from_numpy(pair).to(device))
    objects = np.arange(1, clip.num_objects + 1)[:, None, None, None]
    masks = torch.from_numpy(padding.pad((after.masks[neighbour] == objects).astype(np.float32))).to(device)
    previous, target = (network.features(image[None]) for image in images)
    moved = network.tnet.local(target, previous, masks).float()  # [N, 1, H/4, W/4]
    full = torch.nn.functional.interpolate(moved, images.shape[-2:], mode="bilinear", align_corners=False)
    return _in_colours(padding.crop(full)[:, 0])


def _in_colours(amounts: Tensor) -> Picture:
    """Return the sum of the objects' colours weighted by their amounts [N, h, w] in [0, 1]."""
    colours = PALETTE[1 : len(amounts) + 1].astype(np.float32)
    colours *= 255 / colours.max(axis=1, keepdims=True)
    mixed = np.einsum("nhw,nc->hwc", amounts.clamp(0, 1).cpu().numpy(), colours)
    return mixed.clip(0, 255).astype(np.uint8)


def _enlarged(picture: Picture) -> Picture:
    """Enlarge labels [h, w] or colours [h, w, 3] by a whole number."""
    factor = -(-PIXELS // max(picture.shape[:2]))
    return picture.repeat(factor, 0).repeat(factor, 1)


def _show(axes: Axes, picture: Picture, title: str) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(title, fontsize=8, pad=3)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
