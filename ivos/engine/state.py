"""The state of a video between rounds, and the restoring of an earlier state."""

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

_PENDING = 64 << 20  # maximum bytes of labels on the device that are not copied to the CPU yet


@dataclass
class UndoSnapshot:
    """Copies of the frames that a round has changed, from before that round."""

    probabilities: dict[int, Tensor | None] = field(default_factory=dict)  # [N, H, W]; None: all zero
    masks: dict[int, NDArray[np.uint8]] = field(default_factory=dict)  # [h, w]
    size: int = 0  # bytes
    complete: bool = True  # False if the copies did not fit into memory and have been dropped

    def drop(self) -> int:
        """Release all copies and return the number of bytes freed."""
        freed, self.size, self.complete = self.size, 0, False
        self.probabilities, self.masks = {}, {}
        return freed


@dataclass
class RoundRecord:
    """Record of a round or an adoption: its input, with which it can be repeated, and its annotation.

    Attributes:
        frame: The annotated frame.
        strokes: Strokes drawn in this round.
        num_objects: Number of objects during the round.
        reach: First and last frame that the round has reached so far.
        annotation: Annotation that the round adds to T-Net's memory; None if it only propagated an adopted
            frame.
        adopted: The adopted labels; None if this is a round.
        before: Copies of the changed frames from before the round.
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

    key: Tensor  # feature r5 of the frame [1, 32w, H/16, W/16]
    value: Tensor  # projected object features [N, 32w, H/16, W/16]


@dataclass
class Annotation:
    """The result of A-Net for a frame and its strokes."""

    frame: int
    strokes: list[Stroke]  # all strokes on the frame, of all rounds
    probability: Tensor  # [N, 1, H, W]
    value: Tensor  # projected object features [N, 32w, H/16, W/16]


@dataclass
class VideoState:
    """The state of one video between rounds.

    In shapes, h and w are the networks' working size, and H and W the padded size (multiples of 32).
    """

    frames: NDArray[np.uint8]  # [T, h, w, 3] RGB
    padding: Padding
    num_objects: int
    probabilities: Tensor  # float32 [T, N, H, W]
    masks: NDArray[np.uint8]  # [T, h, w]
    grant: int  # memory budget in bytes for probabilities and stores on the device
    host_room: int  # memory budget in bytes for features of a GPU in CPU memory
    undo_room: int  # remaining memory in bytes for undo snapshots
    resizing: Resizing | None = None  # None if the networks work at the frames' own size
    flow: OpticalFlow | None = None  # None if optical flow is not used
    video: Tensor | None = None  # frames on a GPU [T, h, w, 3]; None on a CPU or without enough memory
    host_pays: bool | None = None  # whether copying features is faster than computing them; None: unknown
    features: TensorStore | None = None  # FrameFeatures by frame; created with the first features
    transfers: TensorStore | None = None  # global transfer, summed over annotations, by target frame
    recent: dict[int, FrameFeatures] = field(default_factory=dict)  # features held for the next step
    summed: dict[int, int] = field(default_factory=dict)  # number of annotations in each sum in `transfers`
    rounds: list[RoundRecord] = field(default_factory=list)
    preview: Annotation | None = None  # A-Net's latest result; None after a change of the state
    pending: dict[int, Tensor] = field(default_factory=dict)  # labels [h, w] not copied to `masks` yet
    stale: bool = False  # whether `rounds` must be run again, because the state could not be restored
    certainty: NDArray[np.float32] = field(init=False)  # [T], see `confidence`; NaN: to be computed
    full_masks: NDArray[np.uint8] = field(init=False)  # labels at the frames' own size [T, ...]
    outdated: set[int] = field(default_factory=set)  # frames whose `full_masks` must be computed again

    def __post_init__(self) -> None:
        self.certainty = np.full(len(self.frames), np.nan, np.float32)
        self.full_masks = self.masks
        if self.resizing is not None:
            self.full_masks = np.zeros((len(self.frames), *self.resizing.full_size), np.uint8)

    @property
    def annotated(self) -> list[int]:
        """The annotated frame of each round, in order, with repetitions."""
        return [record.frame for record in self.rounds]

    def drawn(self, frame: int) -> list[Stroke]:
        """Return all strokes drawn on a frame since its latest adoption, or since the start."""
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
        """Return a frame's adopted labels; None without an adoption or if strokes were drawn after it."""
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
        """Return the objects' probabilities in a frame [N, H, W], as a writable view."""
        return self.probabilities[frame, : self.num_objects]

    def on_device(self, frame: int, device: torch.device) -> Tensor:
        """Return the objects' probabilities in a frame [N, H, W] on a device; they must not be changed.

        Those of a long video are in CPU memory also if the networks are on a GPU.
        """
        return self.of(frame).to(device)

    def room_for_stores(self) -> int:
        """Return how many bytes of the budget remain for the stores, after frames and probabilities.

        Probabilities in a memory-mapped file do not count.
        """
        elements = self.probabilities.numel()
        frames = 0 if self.video is None else self.video.numel()
        return self.grant - frames - (0 if self.mapped(elements) else 4 * elements)

    def give_up(self, number: int) -> None:
        """Reduce the budgets of the stores by ``number`` bytes (a negative number extends them).

        The store of transfers is reduced first.
        """
        if self.features is None or self.transfers is None:
            return  # the stores are created later with the remaining budget
        share = min(number, max(0, self.transfers.free["device"]))
        self.transfers.shrink(share)
        self.features.shrink(number - share)

    def mapped(self, elements: int) -> bool:
        """Return whether a tensor of probabilities of this size is kept in a memory-mapped file."""
        return 4 * elements > self.grant // 2

    def remember(self, frame: int) -> None:
        """Copy a frame's state for undo if memory allows; snapshots of older rounds are dropped first."""
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
        """Convert padded probabilities [N, H, W] of a frame to labels uint8 [h, w]."""
        return to_labels(self.padding.crop(probabilities))

    def full_probabilities(self, frame: int) -> Tensor:
        """Return a frame's current probabilities [N, ...] at the frame's own size, on their device."""
        found = self.padding.crop(self.of(frame))
        if self.resizing is None:
            return found
        found = self.resizing.enlarged(found)
        adopted = self.adopted(frame)
        if adopted is None:
            return found
        return adopted.applied(found, torch.from_numpy(adopted.labels).to(found.device))

    def full_labels(self, probabilities: Tensor) -> NDArray[np.uint8]:
        """Convert padded probabilities [N, H, W] of a frame to labels at the frame's own size."""
        found = self.padding.crop(probabilities)
        return to_labels(found if self.resizing is None else self.resizing.enlarged(found)).cpu().numpy()

    def full_mask(self, frame: int) -> NDArray[np.uint8]:
        """Return the current labels of a frame at its own size, without a copy."""
        if self.resizing is None:
            self.fetch()
        elif frame in self.outdated:
            self.outdated.remove(frame)
            self.full_masks[frame] = to_labels(self.full_probabilities(frame)).cpu().numpy()
        return self.full_masks[frame]

    def all_full_masks(self) -> NDArray[np.uint8]:
        """Return a copy of the labels of all frames at their own size, uint8 [T, ...].

        Only changed frames are enlarged, and their labels are copied from the device in large batches.
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
        """Update the labels of a frame from its probabilities."""
        self.pending[frame] = self.labels(self.of(frame))
        self._changed(frame)
        if len(self.pending) * self.masks[frame].size > _PENDING:
            self.fetch()

    def _changed(self, frame: int) -> None:
        """Mark the results derived from a frame's probabilities as outdated."""
        self.certainty[frame] = np.nan
        if self.resizing is not None:
            self.outdated.add(frame)

    def fetch(self) -> None:
        """Copy all pending labels from the device to the masks at once."""
        if self.pending:
            labels = torch.stack(list(self.pending.values())).cpu().numpy()
            self.masks[list(self.pending)] = labels
            self.pending.clear()

    def pop_round(self) -> None:
        """Restore the state before the latest round, or mark the state stale without an undo snapshot."""
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
        """Restore the initial state without rounds; image features are kept."""
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
        """Release a frame's stored sum of the global transfer."""
        del self.summed[frame]
        if self.transfers is not None:
            self.transfers.drop(frame)

    def confidence(self) -> NDArray[np.float32]:
        """Return the confidence of each frame; see :meth:`ivos.engine.LiveSegmenter.confidence`."""
        for frame in np.flatnonzero(np.isnan(self.certainty)).tolist():
            reached = self.reached(frame)
            self.certainty[frame] = confidence(self.padding.crop(self.of(frame))) if reached else 0
        return self.certainty.copy()


def _reach(rounds: list[RoundRecord], frame: int) -> bool:
    return any(record.reach[0] <= frame <= record.reach[1] for record in rounds)


def confidence(probabilities: Tensor) -> float:
    """Return the confidence of a frame's probabilities [N, h, w] in [0, 1]: the minimum over its objects.

    The confidence of an object is the intersection over union of its masks at the thresholds 0.8 and 0.2,
    that is, the number of pixels above 0.8 divided by the number above 0.2. It resembles the stability score
    of Segment Anything (Kirillov et al., ICCV 2023), which is defined on logits. One ten-thousandth of the
    frame's pixels is added to both counts, so that a certainly absent object has confidence 1 and small
    specks have little influence.
    """
    speck = probabilities[0].numel() / 10_000
    sure, possible = ((probabilities > t).flatten(1).sum(1) + speck for t in (THRESHOLD, 1 - THRESHOLD))
    return float((sure / possible).min())
