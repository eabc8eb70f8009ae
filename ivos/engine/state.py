"""The state of a video between rounds, and the return to an earlier one."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivos.engine.adoption import AdoptedLabels
from ivos.engine.feature_store import TensorStore
from ivos.engine.optical_flow import OpticalFlow
from ivos.engine.padding import Padding
from ivos.engine.resizing import Resizing
from ivos.engine.thresholding import THRESHOLD, to_labels
from ivos.interaction import Stroke
from ivos.networks import FrameFeatures

_PENDING = 64 << 20  # bytes of labels that may wait on the device


@dataclass
class UndoSnapshot:
    """The frames that a round has changed, as they were before that round."""

    probabilities: dict[int, Tensor | None] = field(default_factory=dict)  # [N, H, W]; None: all zero
    masks: dict[int, NDArray[np.uint8]] = field(default_factory=dict)  # [h, w]
    size: int = 0  # bytes
    complete: bool = True  # False: there was no room, nothing is kept

    def drop(self) -> int:
        """Release everything that is kept, and return how many bytes that frees."""
        freed, self.size, self.complete = self.size, 0, False
        self.probabilities, self.masks = {}, {}
        return freed


@dataclass
class RoundRecord:
    """A round or an adoption as it was run: the input that repeats it, and its annotation for T-Net.

    Attributes:
        frame: the annotated frame.
        strokes: the strokes drawn in this round.
        num_objects: the number of objects when it was run.
        reach: the first and the last frame that it has reached so far.
        annotation: what it adds to the memory of T-Net; None: it only propagated an adopted frame.
        adopted: the labels that the frame was given, if this is an adoption.
        before: the frames that it changed, as they were.
    """

    frame: int
    strokes: list[Stroke]
    num_objects: int
    reach: tuple[int, int]
    annotation: "MemoryAnnotation | None"
    adopted: AdoptedLabels | None = None
    before: UndoSnapshot = field(default_factory=UndoSnapshot)


@dataclass
class MemoryAnnotation:
    """An annotated frame in the memory of T-Net."""

    key: Tensor  # the frame's r5 [1, 32w, H/16, W/16]
    value: Tensor  # its objects' features, projected [N, 32w, H/16, W/16]


@dataclass
class Annotation:
    """The result of A-Net for a frame and its strokes."""

    frame: int
    strokes: list[Stroke]  # all on the frame
    probability: Tensor  # [N, 1, H, W]
    value: Tensor  # objects' features, projected [N, 32w, H/16, W/16]


@dataclass
class VideoState:
    """The state of one video between rounds.

    h and w are the size that the networks work at, H and W the padded size (multiples of 32).
    """

    frames: NDArray[np.uint8]  # [T, h, w, 3] RGB
    padding: Padding
    num_objects: int
    probabilities: Tensor  # float32 [T, N, H, W]
    masks: NDArray[np.uint8]  # [T, h, w]
    grant: int  # bytes for probabilities and stores on the device
    host_room: int  # bytes for features in CPU memory behind a GPU
    undo_room: int  # bytes left for what undo goes back to
    resizing: Resizing | None = None  # where the frames were given at a larger size
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
    full_masks: NDArray[np.uint8] = field(init=False)  # labels at the frames' own size [T, ...]
    outdated: set[int] = field(default_factory=set)  # frames whose `full_masks` are to be computed again

    def __post_init__(self) -> None:
        self.certainty = np.full(len(self.frames), np.nan, np.float32)
        self.full_masks = self.masks
        if self.resizing is not None:
            self.full_masks = np.zeros((len(self.frames), *self.resizing.full_size), np.uint8)

    @property
    def annotated(self) -> list[int]:
        """The frame of each round, in order, repetitions included."""
        return [record.frame for record in self.rounds]

    def drawn(self, frame: int) -> list[Stroke]:
        """Return all strokes drawn on a frame so far; after an adoption, those drawn since."""
        strokes: list[Stroke] = []
        for record in self.rounds:
            if record.frame == frame:
                strokes = [] if record.adopted else [*strokes, *record.strokes]
        return strokes

    @property
    def annotations(self) -> list[MemoryAnnotation]:
        """The annotations in the memory of T-Net, in the order of the rounds."""
        return [record.annotation for record in self.rounds if record.annotation is not None]

    def adopted(self, frame: int) -> AdoptedLabels | None:
        """Return the labels that a frame was given; None where nothing was, or strokes were drawn since."""
        found = None
        for record in self.rounds:
            if record.frame == frame and record.annotation is not None:
                found = record.adopted
        return found

    def reached(self, frame: int) -> bool:
        """Return whether a round has reached a frame."""
        return _reach(self.rounds, frame)

    def reached_before(self, frame: int) -> bool:
        """Return whether a round before the latest one has reached a frame."""
        return _reach(self.rounds[:-1], frame)

    def of(self, frame: int) -> Tensor:
        """Return the objects' probabilities in a frame [N, H, W], a view that may be written to."""
        return self.probabilities[frame, : self.num_objects]

    def room_for_stores(self) -> int:
        """Return how many bytes of the granted memory remain beside frames and probabilities.

        Probabilities in a mapped file take none of it.
        """
        elements = self.probabilities.numel()
        frames = 0 if self.video is None else self.video.numel()
        return self.grant - frames - (0 if self.mapped(elements) else 4 * elements)

    def give_up(self, number: int) -> None:
        """Reduce the memory of the stores by so many bytes (or extend it, if negative), transfers first."""
        if self.features is None or self.transfers is None:
            return  # they are made later, with what remains
        share = min(number, max(0, self.transfers.free["device"]))
        self.transfers.shrink(share)
        self.features.shrink(number - share)

    def mapped(self, elements: int) -> bool:
        """Return whether so many probabilities are kept in a mapped file instead of on the device."""
        return 4 * elements > self.grant // 2

    def remember(self, frame: int) -> None:
        """Keep a frame as it is for undo, while there is memory; the latest round has precedence."""
        record = self.rounds[-1]
        if not record.before.complete:
            return
        probabilities = self.of(frame) if self.reached_before(frame) else None
        mask = self.masks[frame]
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
        """Return labels uint8 [h, w] of a frame from its padded probabilities [N, H, W]."""
        return to_labels(self.padding.crop(probabilities))

    def full_probabilities(self, frame: int) -> Tensor:
        """Return a frame's present probabilities at the full size [N, ...] on their device."""
        found = self.padding.crop(self.of(frame))
        if self.resizing is None:
            return found
        found = self.resizing.enlarged(found)
        adopted = self.adopted(frame)
        if adopted is None:
            return found
        return adopted.applied(found, torch.from_numpy(adopted.labels).to(found.device))

    def full_labels(self, probabilities: Tensor) -> NDArray[np.uint8]:
        """Return a frame's labels at the frames' own size from its padded probabilities [N, H, W]."""
        found = self.padding.crop(probabilities)
        return to_labels(found if self.resizing is None else self.resizing.enlarged(found)).cpu().numpy()

    def full_mask(self, frame: int) -> NDArray[np.uint8]:
        """Return the labels of a frame at the frames' own size, as they are now; not a copy."""
        if self.resizing is None:
            self.fetch()
        elif frame in self.outdated:
            self.outdated.remove(frame)
            self.full_masks[frame] = to_labels(self.full_probabilities(frame)).cpu().numpy()
        return self.full_masks[frame]

    def all_full_masks(self) -> NDArray[np.uint8]:
        """Return the labels of all frames at the frames' own size, a copy uint8 [T, ...].

        Only frames that have changed are enlarged, and their labels leave the device many at a time.
        """
        self.fetch()
        changed = sorted(self.outdated)
        number = max(1, _PENDING // self.full_masks[0].size)
        for start in range(0, len(changed), number):
            part = changed[start : start + number]
            labels = [to_labels(self.full_probabilities(frame)) for frame in part]
            self.full_masks[part] = torch.stack(labels).cpu().numpy()
        self.outdated.clear()
        return self.full_masks.copy()

    def label(self, frame: int) -> None:
        """Give each pixel of a frame to its most probable object, the lowest number on a tie."""
        self.pending[frame] = self.labels(self.of(frame))
        self._changed(frame)
        if len(self.pending) * self.masks[frame].size > _PENDING:
            self.fetch()

    def _changed(self, frame: int) -> None:
        """Have what follows from a frame's probabilities computed again when it is asked for."""
        self.certainty[frame] = np.nan
        if self.resizing is not None:
            self.outdated.add(frame)

    def fetch(self) -> None:
        """Transfer the labels that wait on the device into the masks, all at once."""
        if self.pending:
            labels = torch.stack(list(self.pending.values())).cpu().numpy()
            self.masks[list(self.pending)] = labels
            self.pending.clear()

    def pop_round(self) -> None:
        """Return to the state before the latest round, or mark the state stale where it was not kept."""
        record = self.rounds.pop()
        self.pending.clear()
        self.preview = None
        annotations = len(self.annotations)
        for frame in [frame for frame, number in self.summed.items() if number > annotations]:
            self.forget_transfer(frame)
        if not record.before.complete:
            self.stale = True
            return
        for frame, mask in record.before.masks.items():
            self.masks[frame] = mask
            self._changed(frame)
            self.probabilities[frame].zero_()
            old = record.before.probabilities[frame]
            if old is not None:
                self.probabilities[frame, : len(old)] = old.to(self.probabilities)
        self.undo_room += record.before.drop()

    def clear(self) -> None:
        """Return to a video without rounds; what depends on images alone is kept."""
        while self.rounds:
            self.undo_room += self.rounds.pop().before.drop()
        self.probabilities.zero_()
        self.masks[:] = 0
        self.full_masks[:] = 0
        self.outdated.clear()
        self.certainty[:] = np.nan
        self.pending.clear()
        self.preview = None
        for frame in list(self.summed):
            self.forget_transfer(frame)

    def forget_transfer(self, frame: int) -> None:
        """Release a frame's sum of the global transfer."""
        del self.summed[frame]
        if self.transfers is not None:
            self.transfers.drop(frame)

    def confidence(self) -> NDArray[np.float32]:
        """Return how certain each frame is; see :meth:`ivos.engine.LiveSegmenter.confidence`."""
        for frame in np.flatnonzero(np.isnan(self.certainty)).tolist():
            reached = self.reached(frame)
            self.certainty[frame] = confidence(self.padding.crop(self.of(frame))) if reached else 0
        return self.certainty.copy()


def _reach(rounds: list[RoundRecord], frame: int) -> bool:
    return any(record.reach[0] <= frame <= record.reach[1] for record in rounds)


def confidence(probabilities: Tensor) -> float:
    """Return how certain a frame's probabilities [N, h, w] are, in [0, 1]: the least certain object's value.

    An object's value is the share of pixels above 0.8 among those above 0.2. One ten-thousandth of the frame
    is added to both counts, so that an object that is nowhere likely counts as certainly absent, and specks
    have little influence. It is the intersection over union of the masks at the two thresholds, like the
    stability score of Segment Anything (Kirillov et al., ICCV 2023), which is defined on logits.
    """
    speck = probabilities[0].numel() / 10_000
    sure, possible = ((probabilities > t).flatten(1).sum(1) + speck for t in (THRESHOLD, 1 - THRESHOLD))
    return float((sure / possible).min())
