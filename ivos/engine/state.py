"""The state of a video between rounds, and the way back to an earlier one."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivos.engine.feature_store import TensorStore
from ivos.engine.optical_flow import OpticalFlow
from ivos.engine.padding import Padding
from ivos.engine.thresholding import THRESHOLD, to_labels
from ivos.interaction import Stroke
from ivos.networks import FrameFeatures

_PENDING = 64 << 20  # bytes of labels that may wait on the device


@dataclass
class UndoSnapshot:
    """The frames that a round has changed, as they were before it."""

    probabilities: dict[int, Tensor | None] = field(default_factory=dict)  # [N, H, W]; None: all zero
    masks: dict[int, NDArray[np.uint8]] = field(default_factory=dict)  # [h, w]
    size: int = 0  # bytes
    complete: bool = True  # False: there was no room, nothing is kept

    def drop(self) -> int:
        """Keep nothing any more; returns the bytes that this gives back."""
        freed, self.size, self.complete = self.size, 0, False
        self.probabilities, self.masks = {}, {}
        return freed


@dataclass
class RoundRecord:
    """A round as it was run: what runs it again, and what it gave to the memory of T-Net."""

    frame: int
    strokes: list[Stroke]  # drawn in this round
    num_objects: int  # when it was run
    key: Tensor  # the frame's r5 [1, 32w, H/16, W/16]
    value: Tensor  # its objects' features, projected [N, 32w, H/16, W/16]
    reach: tuple[int, int]  # first and last frame that it has come to so far
    before: UndoSnapshot = field(default_factory=UndoSnapshot)


@dataclass
class Annotation:
    """What A-Net made of a frame and its strokes."""

    frame: int
    strokes: list[Stroke]  # all on the frame
    probability: Tensor  # [N, 1, H, W]
    value: Tensor  # objects' features, projected [N, 32w, H/16, W/16]


@dataclass
class VideoState:
    """The state of one video between rounds (H, W: padded size, multiples of 32)."""

    frames: NDArray[np.uint8]  # [T, h, w, 3] RGB
    padding: Padding
    num_objects: int
    probabilities: Tensor  # float32 [T, N, H, W]
    masks: NDArray[np.uint8]  # [T, h, w]
    grant: int  # bytes for probabilities and stores on the device
    host_room: int  # bytes for features in CPU memory behind a GPU
    undo_room: int  # bytes left for what undo goes back to
    flow: OpticalFlow | None = None  # where it carries masks, too
    video: Tensor | None = None  # the frames on the device [T, h, w, 3], where there is room behind a CPU
    host_pays: bool | None = None  # whether fetching features beats computing them again; None: unknown
    features: TensorStore | None = None  # FrameFeatures by frame; made with the first of them
    transfers: TensorStore | None = None  # by frame, the sum over annotations of the global transfer
    recent: dict[int, FrameFeatures] = field(default_factory=dict)  # those that the next step takes up
    summed: dict[int, int] = field(default_factory=dict)  # by frame, how many annotations are in that sum
    rounds: list[RoundRecord] = field(default_factory=list)
    preview: Annotation | None = None  # the latest, of the state as it is
    pending: dict[int, Tensor] = field(default_factory=dict)  # labels [h, w] that are not in `masks` yet
    stale: bool = False  # whether `rounds` have to be run again: what is here is from another one
    certainty: NDArray[np.float32] = field(init=False)  # [T], see `confidence`; NaN: to be computed

    def __post_init__(self) -> None:
        self.certainty = np.full(len(self.frames), np.nan, np.float32)

    @property
    def annotated(self) -> list[int]:
        """The frame of each round, repeats kept."""
        return [record.frame for record in self.rounds]

    def drawn(self, frame: int) -> list[Stroke]:
        """All strokes ever drawn on a frame."""
        return [stroke for record in self.rounds if record.frame == frame for stroke in record.strokes]

    def reached(self, frame: int) -> bool:
        """Whether a round has come to a frame."""
        return any(record.reach[0] <= frame <= record.reach[1] for record in self.rounds)

    def of(self, frame: int) -> Tensor:
        """The objects' probabilities in a frame [N, H, W], to be changed in place."""
        return self.probabilities[frame, : self.num_objects]

    def room_for_stores(self) -> int:
        """Bytes of the grant that frames and probabilities leave; those in a mapped file take none of it."""
        elements = self.probabilities.numel()
        frames = 0 if self.video is None else self.video.numel()
        return self.grant - frames - (0 if self.mapped(elements) else 4 * elements)

    def give_up(self, number: int) -> None:
        """Have so many bytes less for the stores (or more, if negative); what is needed less goes first."""
        if self.features is None or self.transfers is None:
            return  # they are made with what is left then
        share = min(number, max(0, self.transfers.free["device"]))
        self.transfers.shrink(share)
        self.features.shrink(number - share)

    def mapped(self, elements: int) -> bool:
        """Whether so many probabilities lie in a mapped file rather than on the device."""
        return 4 * elements > self.grant // 2

    def remember(self, frame: int) -> None:
        """Keep a frame as it is for undo, while there is room: the latest round's first."""
        record = self.rounds[-1]
        if not record.before.complete:
            return
        touched = any(each.reach[0] <= frame <= each.reach[1] for each in self.rounds[:-1])
        probabilities, mask = (self.of(frame) if touched else None), self.masks[frame]
        size = mask.nbytes + (4 * probabilities.numel() if probabilities is not None else 0)
        for older in self.rounds[:-1]:
            if size > self.undo_room:
                self.undo_room += older.before.drop()
        if size > self.undo_room:
            self.undo_room += record.before.drop()
            return
        self.undo_room -= size
        record.before.size += size
        record.before.masks[frame] = mask.copy()
        record.before.probabilities[frame] = (
            None if probabilities is None else probabilities.to("cpu", copy=True)
        )

    def labels(self, probabilities: Tensor) -> Tensor:
        """Labels uint8 [h, w] of a frame from its padded probabilities [N, H, W]."""
        return to_labels(self.padding.crop(probabilities))

    def label(self, frame: int) -> None:
        """Give each pixel of a frame to its most probable object, the lowest number on a tie."""
        self.pending[frame] = self.labels(self.of(frame))
        self.certainty[frame] = np.nan
        if len(self.pending) * self.masks[frame].size > _PENDING:
            self.fetch()

    def fetch(self) -> None:
        """Bring the labels that wait on the device into the masks, all at once."""
        if self.pending:
            labels = torch.stack(list(self.pending.values())).cpu().numpy()
            self.masks[list(self.pending)] = labels
            self.pending.clear()

    def pop_round(self) -> None:
        """Go back to the state before the latest round, or, where it was not kept, mark this one stale."""
        record = self.rounds.pop()
        self.pending.clear()
        self.preview = None
        for frame in [frame for frame, number in self.summed.items() if number > len(self.rounds)]:
            self.forget_transfer(frame)
        if not record.before.complete:
            self.stale = True
            return
        for frame, mask in record.before.masks.items():
            self.masks[frame] = mask
            self.certainty[frame] = np.nan
            self.probabilities[frame].zero_()
            old = record.before.probabilities[frame]
            if old is not None:
                self.probabilities[frame, : len(old)] = old.to(self.probabilities)
        self.undo_room += record.before.drop()

    def clear(self) -> None:
        """Back to a video without rounds; what images alone give stays."""
        while self.rounds:
            self.undo_room += self.rounds.pop().before.drop()
        self.probabilities.zero_()
        self.masks[:] = 0
        self.certainty[:] = np.nan
        self.pending.clear()
        self.preview = None
        for frame in list(self.summed):
            self.forget_transfer(frame)

    def forget_transfer(self, frame: int) -> None:
        """Drop a frame's sum of the global transfer."""
        del self.summed[frame]
        if self.transfers is not None:
            self.transfers.drop(frame)

    def confidence(self) -> NDArray[np.float32]:
        """See :meth:`ivos.engine.LiveSegmenter.confidence`."""
        for frame in np.flatnonzero(np.isnan(self.certainty)).tolist():
            reached = self.reached(frame)
            self.certainty[frame] = confidence(self.padding.crop(self.of(frame))) if reached else 0
        return self.certainty.copy()


def confidence(probabilities: Tensor) -> float:
    """How sure a frame's probabilities [N, h, w] are, in [0, 1]: that of the least sure object.

    Of an object it is the share of pixels above 0.8 among those above 0.2, one ten-thousandth of the frame
    added to both counts, so that an object that is nowhere likely is surely absent and specks count little.
    It is the intersection over union of the masks at the two thresholds, as the stability score of Segment
    Anything (Kirillov et al., ICCV 2023) is for logits.
    """
    speck = probabilities[0].numel() / 10_000
    sure, possible = ((probabilities > t).flatten(1).sum(1) + speck for t in (THRESHOLD, 1 - THRESHOLD))
    return float((sure / possible).min())
