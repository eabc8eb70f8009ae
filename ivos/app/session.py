"""The state of an annotation session, without any input or output.

Every change is an event, a dictionary with a ``type``. :meth:`Session.apply` handles events both when they
happen and when they are read from the journal, so that a restarted session equals the one that was killed.

Masks come from two sources. A **round** is a numbered layer of masks on disk. The masks of a round are either
the network's result for the annotations of a frame, or the result of an operation on existing masks (copy,
swap, deletion, import). An **edit** is a set of pixels on a frame to which the user gives a label. An edit
belongs to the round that the frame showed when the edit was drawn. A frame shows its newest round, with the
edits that belong to this round drawn over it.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from ivos.app.locks import Locks
from ivos.runtime.errors import UserError

Event = dict[str, Any]
Phase = Literal[
    "loading", "decoding", "restoring", "failed", "propagating", "previewing", "drawing", "stopped", "idle"
]
Shown = int | str  # what a frame shows: the number of a round, 0 for no round, or the id of the latest edit

MAX_OBJECTS = 254
COLOURS = (
    *("#e6483d", "#2f9e44", "#f2b705", "#2f6fed", "#c2409a"),
    *("#12a5b0", "#f2801d", "#8257e6", "#8aa51a", "#a4694b"),
)
"""The colours of new objects in order, chosen to be distinguishable on most pictures and by most users."""


class Refused(UserError):
    """The error for an event that is not possible in the present state; the state is not changed."""


@dataclass
class Object:
    """An object that is annotated; its number is its label in the masks and is never reused."""

    number: int
    name: str
    colour: str
    hidden: bool = False
    removed: bool = False
    label: int = 0  # label of the object in the imported masks; 0 if it equals its number
    # The object that the pixels of this removed object count for; 0 if they count as background.
    merged_into: int = 0


@dataclass
class Round:
    """A layer of masks: the result of a propagation from one frame, or of an operation on several frames."""

    number: int
    frame: int  # the annotated frame, from which the masks are propagated
    strokes: list[str]
    num_objects: int  # number of objects at the beginning of the round
    # Strokes that the network does not get, because an edit replaced them.
    replaced: frozenset[str] = frozenset()
    reach: tuple[int, int] | None = None  # first and last frame with a mask of this round
    planned: tuple[int, int] | None = None  # first and last frame to propagate to; None if not known yet
    status: Literal["open", "stopped", "complete"] = "open"
    undone: bool = False
    confidence: dict[int, float] = field(default_factory=dict)  # confidence of the network by frame
    kind: str = "propagation"  # "propagation" or the name of an operation
    adopted: bool = False  # whether the network started from the given mask of the annotated frame
    # Whether the mask of the annotated frame differs from the network's own result, although the network was
    # not given this mask.
    merged: bool = False
    limits: tuple[int, int] | None = None  # first and last frame to which the propagation is limited
    kept: set[int] = field(default_factory=set)  # frames within `reach` that keep showing their former masks
    guarded: set[int] = field(default_factory=set)  # frames with locked objects, whose pixels were kept
    annotated: bool = False  # whether all masks of this round count as annotated by the user
    frames: frozenset[int] | None = None  # all frames of an operation; None for a propagation

    def extend(self, frame: int) -> None:
        """Extend the reach to a frame whose mask has been computed."""
        low, high = self.reach or (frame, frame)
        self.reach = min(low, frame), max(high, frame)

    @property
    def used_strokes(self) -> list[str]:
        """The strokes that are passed to the network."""
        return [key for key in self.strokes if key not in self.replaced]

    def covers(self, frame: int) -> bool:
        """Return whether the round has a mask for a frame, and the frame is allowed to show it."""
        if self.reach is None or not self.reach[0] <= frame <= self.reach[1]:
            return False
        return frame not in self.kept and (self.frames is None or frame in self.frames)


@dataclass(frozen=True)
class Edit:
    """Pixels of a frame to which the user has given a label.

    Attributes:
        id: Identifier, chosen by the page.
        frame: Frame on which the edit was drawn.
        label: New label of the pixels, 0 for the background.
        runs: Alternating numbers of skipped and drawn pixels, row by row.
        over: Number of the round that the frame showed when the edit was drawn.
        preview: Whether the edit was drawn over a preview, which was saved with it.
        order: Position in the common order of all strokes and edits.
    """

    id: str
    frame: int
    label: int
    runs: tuple[int, ...]
    over: int
    preview: bool
    order: int


@dataclass
class Session:
    """A session on a video of `num_frames` frames."""

    num_frames: int
    objects: dict[int, Object] = field(default_factory=dict)
    strokes: dict[str, Event] = field(default_factory=dict)  # all strokes by id, including undone ones
    pending: list[str] = field(default_factory=list)  # ids of the strokes that belong to no round yet
    rounds: list[Round] = field(default_factory=list)
    edits: dict[str, Edit] = field(default_factory=dict)  # all edits by id, including undone ones
    undone_edits: set[str] = field(default_factory=set)
    locks: Locks = field(default_factory=Locks)
    # Actions that can be undone, the latest last.
    history: list[tuple[str, Any]] = field(default_factory=list)
    redoable: list[tuple[str, Any]] = field(default_factory=list)
    study: list[Event] = field(default_factory=list)
    done: bool = False  # whether the user has marked the video as done
    # The following attributes are not in the journal, so that a restart resets them.
    loaded: bool = False
    decoding: bool = False  # whether the first frames can be annotated while the others are being decoded
    previewing: bool = False
    restoring: bool = False
    failure: str = ""
    _layers: list[int] = field(default_factory=list)  # the newest round of each frame
    _chains: dict[int, list[str]] = field(default_factory=dict)  # active edits of each frame, in order
    _drawn: dict[int, list[Edit]] = field(default_factory=dict)  # all edits of each frame, in order
    _orders: dict[str, int] = field(default_factory=dict)
    changed_rounds: set[int] = field(default_factory=set, compare=False)
    changed_frames: tuple[int, int] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        self._layers = [0] * self.num_frames

    @property
    def phase(self) -> Phase:
        """The activity that the page shows."""
        checks: list[tuple[bool, Phase]] = [
            (not self.loaded and not self.failure, "decoding" if self.decoding else "loading"),
            (bool(self.failure), "failed"),
            (self.open_round is not None, "propagating"),
            (self.restoring, "restoring"),
            (self.previewing, "previewing"),
            (bool(self.pending) or bool(self.edited_frames), "drawing"),
            (bool(self.active) and self.active[-1].status == "stopped", "stopped"),
        ]
        return next((phase for holds, phase in checks if holds), "idle")

    @property
    def active(self) -> list[Round]:
        """The rounds that are not undone, in order."""
        return [one for one in self.rounds if not one.undone]

    @property
    def open_round(self) -> Round | None:
        """The round that is being propagated."""
        last = self.rounds[-1] if self.rounds else None
        if last is not None and last.status == "open":
            return last
        return next((one for one in reversed(self.rounds) if one.status == "open"), None)

    @property
    def num_objects(self) -> int:
        """The number of objects, including removed objects."""
        return max(self.objects, default=0)

    @property
    def removed(self) -> list[int]:
        """The numbers of the removed objects whose labels count as background."""
        return [one.number for one in self.objects.values() if one.removed and not one.merged_into]

    def display_label(self, number: int) -> int:
        """Return the label that an object's pixels count for, even if the object was merged or removed."""
        seen: set[int] = set()
        while number and number not in seen:
            seen.add(number)
            one = self.objects.get(number)
            if one is None or not one.removed:
                return number
            number = one.merged_into
        return 0

    def resize(self, num_frames: int) -> None:
        """Set the actual number of frames of the video, before the first round."""
        self.num_frames = num_frames
        self._layers = [0] * num_frames
        self._touch(0, num_frames - 1)

    # What frames show

    def layer(self, frame: int) -> int:
        """Return the newest round that a frame shows; 0 for none."""
        return self._layers[frame]

    def chain(self, frame: int) -> list[Edit]:
        """Return the edits that a frame shows, in the order in which they were drawn."""
        layer = self._layers[frame]
        return [one for key in self._chains.get(frame, ()) if (one := self.edits[key]).over == layer]

    def drawn_on(self, frame: int) -> list[Edit]:
        """Return all edits of a frame, including undone ones, in the order in which they were drawn."""
        return list(self._drawn.get(frame, ()))

    def shown_on(self, frame: int) -> Shown:
        """Return the round or the latest edit that a frame shows."""
        for key in reversed(self._chains.get(frame, ())):
            if self.edits[key].over == self._layers[frame]:
                return key
        return self._layers[frame]

    def shown(self) -> list[Shown]:
        """Return for every frame the round or the latest edit that it shows; 0 for none."""
        return self.shown_between(0, self.num_frames - 1)

    def shown_between(self, low: int, high: int) -> list[Shown]:
        """Return for each frame from `low` to `high` the round or the latest edit that it shows."""
        found: list[Shown] = list(self._layers[low : high + 1])
        for frame in self._chains:
            if low <= frame <= high:
                found[frame - low] = self.shown_on(frame)
        return found

    @property
    def edited_frames(self) -> list[int]:
        """The frames with edits that were not propagated yet."""
        return sorted(frame for frame in self._chains if isinstance(self.shown_on(frame), str))

    def is_annotated(self, frame: int) -> bool:
        """Return whether the user has set the mask of a frame: edited, copied, swapped or imported it."""
        layer = self._layers[frame]
        if isinstance(self.shown_on(frame), str):
            return True
        if not layer:
            return False
        one = self.rounds[layer - 1]
        return one.annotated or (one.adopted and one.frame == frame)

    def kept_frames(self, source: int) -> list[int]:
        """Return the frames that a round from `source` does not change.

        These are the locked frames and the frames whose masks the user has set.
        """
        kept = set(self.locks.frames(0))
        kept |= {frame for frame in self._chains if self.is_annotated(frame)}
        for one in self.active:
            if one.adopted and self._layers[one.frame] == one.number:
                kept.add(one.frame)
            if one.annotated and one.reach:
                covered = one.frames or range(one.reach[0], one.reach[1] + 1)
                kept |= {frame for frame in covered if self._layers[frame] == one.number}
        kept.discard(source)
        return sorted(kept)

    def pending_on(self, frame: int) -> list[str]:
        """Return the ids of the strokes on a frame that belong to no round yet."""
        return [key for key in self.pending if self.strokes[key]["frame"] == frame]

    def order(self, key: str) -> int:
        """Return the position of a stroke or an edit in the common order of all strokes and edits."""
        return self._orders.get(key, 0)

    def new_strokes(self, frame: int) -> list[str]:
        """Return the pending strokes on a frame that were drawn after its latest edit."""
        chain = self.chain(frame)
        last = chain[-1].order if chain else -1
        return [key for key in self.pending_on(frame) if self._orders.get(key, 0) > last]

    def _relayer(self, low: int, high: int) -> None:
        """Determine again which round each frame shows, after a round was undone or redone."""
        active = [one for one in reversed(self.rounds) if not one.undone]
        for frame in range(low, high + 1):
            self._layers[frame] = next((one.number for one in active if one.covers(frame)), 0)
        self._touch(low, high)

    def _touch(self, low: int, high: int) -> None:
        if self.changed_frames:
            low, high = min(low, self.changed_frames[0]), max(high, self.changed_frames[1])
        self.changed_frames = low, high

    def _cover(self, one: Round, low: int, high: int) -> None:
        """Let those frames show a round that it covers and that show no newer round."""
        for frame in range(low, high + 1):
            if one.covers(frame) and self._layers[frame] < one.number:
                self._layers[frame] = one.number
        self._touch(low, high)

    # Events

    def check(self, event: Event) -> None:
        """Raise :class:`Refused` if an event does not fit the present state."""
        getattr(self, f"_check_{event['type']}", lambda _: None)(event)

    def apply(self, event: Event) -> None:
        """Apply an event completely, or raise :class:`Refused` and change nothing."""
        self.check(event)
        getattr(self, f"_on_{event['type']}")(event)

    def _drew(self, what: str, key: str) -> None:
        self._orders[key] = len(self._orders)
        self.history.append((what, key))
        self.redoable.clear()

    # Strokes

    def _check_stroke(self, event: Event) -> None:
        if event["id"] in self.strokes:
            raise Refused(f"a stroke with the id {event['id']} exists already")
        self._check_frame(event["frame"], "stroke")
        if event["object_id"]:
            self._known(event["object_id"])
        if event.get("box"):
            (x0, y0), (x1, y1) = event["path"] if len(event["path"]) == 2 else ([0, 0], [0, 0])
            if not event["object_id"] or x0 == x1 or y0 == y1:
                raise Refused("a box needs two opposite corners and an object")

    def _check_frame(self, frame: int, what: str) -> None:
        if not 0 <= frame < self.num_frames:
            article = "an" if what[0] in "aeiou" else "a"
            raise Refused(
                f"{article} {what} on frame {frame}: the video has frames 0 to {self.num_frames - 1}"
            )

    def _on_stroke(self, event: Event) -> None:
        self.strokes[event["id"]] = event
        self.pending.append(event["id"])
        self._drew("stroke", event["id"])

    def _check_undo_stroke(self, event: Event) -> None:
        if not self.pending or event.get("id", self.pending[-1]) not in self.pending:
            raise Refused("there is no stroke to undo")

    def _on_undo_stroke(self, event: Event) -> None:
        key = event.get("id", self.pending[-1])
        self.pending.remove(key)
        self._forget("stroke", key)
        self.redoable.append(("stroke", key))

    def _forget(self, what: str, key: Any) -> None:
        """Remove an action from the history, where it need not be the latest.

        Journals of version 0.1 undo actions in another order.
        """
        if (what, key) in self.history:
            index = len(self.history) - 1 - self.history[::-1].index((what, key))
            del self.history[index]

    # Edits

    def _check_edit(self, event: Event) -> None:
        if event["id"] in self.edits:
            raise Refused(f"an edit with the id {event['id']} exists already")
        self._check_frame(event["frame"], "edit")
        if event["label"]:
            self._known(event["label"])
        if self.locks.is_locked(event["frame"], 0):
            raise Refused(f"frame {event['frame']} is locked; unlock it first")
        if event["over"] != self._layers[event["frame"]]:
            raise Refused("the mask has changed in the meantime; draw again")

    def _on_edit(self, event: Event) -> None:
        frame, key = event["frame"], event["id"]
        one = self.open_round
        if one is not None and event["over"] != one.number:
            one.kept.add(frame)
        self._drew("edit", key)
        order = self._orders[key]
        runs, preview = tuple(event["runs"]), bool(event.get("preview"))
        self.edits[key] = Edit(key, frame, event["label"], runs, event["over"], preview, order)
        self._drawn.setdefault(frame, []).append(self.edits[key])
        self._chains.setdefault(frame, []).append(key)
        self._touch(frame, frame)

    def _undo_edit(self, key: str) -> None:
        frame = self.edits[key].frame
        self.undone_edits.add(key)
        self._chains[frame].remove(key)
        if not self._chains[frame]:
            del self._chains[frame]
        self._touch(frame, frame)

    def _redo_edit(self, key: str) -> None:
        frame = self.edits[key].frame
        self.undone_edits.discard(key)
        self._chains.setdefault(frame, []).append(key)
        self._touch(frame, frame)

    # Undo and redo

    def undoable(self) -> tuple[str, Any] | None:
        """Return what :meth:`undo_event` would undo, or None."""
        return self.history[-1] if self.history else None

    def undo_event(self) -> Event:
        """Return the event that undoes the latest action.

        Raises:
            Refused: There is nothing to undo.
        """
        latest = self.undoable()
        if latest is None:
            raise Refused("there is nothing to undo")
        what, key = latest
        if what == "stroke":
            return {"type": "undo_stroke", "id": key}
        if what == "round":
            return {"type": "undo_round", "round": key}
        return {"type": "undo", "what": what, **({"key": key} if what in ("edit", "operation") else {})}

    def _check_undo(self, event: Event) -> None:
        what, key = self.history[-1] if self.history else ("", None)
        if what != event["what"] or event.get("key", key) != key:
            raise Refused("there is nothing to undo")
        if event["what"] == "operation" and self.open_round:
            raise Refused("a round is being propagated; stop it first")

    def _on_undo(self, event: Event) -> None:
        what, key = self.history.pop()
        getattr(self, f"_undo_{what}")(key)
        self.redoable.append((what, key))

    def _check_redo(self, event: Event) -> None:
        if not self.redoable:
            raise Refused("there is nothing to redo")
        if self.redoable[-1][0] in ("round", "operation") and self.open_round:
            raise Refused("a round is being propagated; stop it first")

    def _on_redo(self, event: Event) -> None:
        what, key = self.redoable.pop()
        if what == "stroke":
            self.pending.append(str(key))
        else:
            getattr(self, f"_redo_{what}")(key)
        self.history.append((what, key))

    # Rounds

    def _check_round_begin(self, event: Event) -> None:
        if self.open_round:
            raise Refused("a round is being propagated already")
        if event["round"] != len(self.rounds) + 1:
            raise Refused(f"round {event['round']} does not follow round {len(self.rounds)}")
        if not event["strokes"] and not event.get("adopted"):
            raise Refused(f"no new strokes on frame {event['frame']}")
        if any(key not in self.pending for key in event["strokes"]):
            raise Refused(f"round {event['round']} contains strokes that are not pending")

    def _on_round_begin(self, event: Event) -> None:
        chosen = list(event["strokes"])
        self.pending = [key for key in self.pending if key not in chosen]
        for key in chosen:
            self._forget("stroke", key)
        limits = event.get("limits")
        one = Round(event["round"], event["frame"], chosen, self.num_objects)
        one.adopted, one.limits = bool(event.get("adopted")), (limits[0], limits[1]) if limits else None
        one.replaced = frozenset(event.get("replaced", ()))
        for low, high in event.get("kept", ()):
            one.kept.update(range(low, high + 1))
        self._guard(one, event)
        self.rounds.append(one)
        self.history.append(("round", one.number))
        self.redoable.clear()
        self.changed_rounds.add(one.number)

    @staticmethod
    def _guard(one: Round, event: Event) -> None:
        """Add the frames with locked objects that an event lists to the guarded frames of a round."""
        for low, high in event.get("guarded", ()):
            one.guarded.update(range(low, high + 1))

    def _check_reached(self, event: Event) -> None:
        self._open(event["round"])

    def _on_reached(self, event: Event) -> None:
        one = self._open(event["round"])
        one.extend(event["frame"])
        self._cover(one, event["frame"], event["frame"])

    def _on_annotated(self, event: Event) -> None:
        """Record whether the network was given the mask of the annotated frame, and whether it was merged."""
        one = self.rounds[event["round"] - 1]
        one.adopted, one.merged = event["adopted"], event["merged"]

    def _on_planned(self, event: Event) -> None:
        self.rounds[event["round"] - 1].planned = tuple(event["planned"])
        self.changed_rounds.add(event["round"])

    def _check_round_end(self, event: Event) -> None:
        self._open(event["round"])

    def _on_round_end(self, event: Event) -> None:
        one = self._open(event["round"])
        one.reach = (event["lo"], event["hi"])
        one.status = "complete" if event["complete"] else "stopped"
        if event.get("planned"):
            one.planned = tuple(event["planned"])
        one.adopted = event.get("adopted", one.adopted)
        one.merged = event.get("merged", one.merged)
        sure = event.get("confidence") or []
        one.confidence = {event["lo"] + index: value for index, value in enumerate(sure)}
        self._cover(one, *one.reach)
        self.changed_rounds.add(one.number)

    def _check_round_abort(self, event: Event) -> None:
        self._open(event["round"])

    def _on_round_abort(self, event: Event) -> None:
        """Make the strokes of a round without any mask pending again."""
        one = self._open(event["round"])
        self.pending = one.strokes + self.pending
        self._forget("round", one.number)
        self.history = [("stroke", key) for key in one.strokes] + self.history
        one.strokes, one.status, one.undone, one.reach = [], "stopped", True, None
        self.changed_rounds.add(one.number)

    def _check_continue(self, event: Event) -> None:
        if self.open_round or not self.active or self.active[-1].status != "stopped":
            raise Refused("there is no stopped round to continue")

    def _on_continue(self, event: Event) -> None:
        self.active[-1].status = "open"
        self._guard(self.active[-1], event)
        self.redoable.clear()
        self.changed_rounds.add(self.active[-1].number)

    def _check_undo_round(self, event: Event) -> None:
        if self.open_round:
            raise Refused("a round is being propagated; stop it first")
        if not self._undoable_round(event):
            raise Refused("there is no round to undo")

    def _undoable_round(self, event: Event) -> Round | None:
        """Return the round that an event undoes, or None; only the latest round can be undone.

        A round that is the result of an operation is undone by another event.
        """
        last = self.active[-1] if self.active else None
        if last is None or event.get("round", last.number) != last.number or last.kind != "propagation":
            return None
        return last

    def _on_undo_round(self, event: Event) -> None:
        one = self._undoable_round(event)
        assert one is not None
        self._set_undone(one, True)
        self._forget("round", one.number)
        self.redoable.append(("round", one.number))

    def _redo_round(self, number: int) -> None:
        self._set_undone(self.rounds[number - 1], False)

    def _set_undone(self, one: Round, undone: bool) -> None:
        one.undone = undone
        if one.reach:
            self._relayer(*one.reach)
        self.changed_rounds.add(one.number)

    # Operations on existing masks

    def _check_operation(self, event: Event) -> None:
        if self.open_round:
            raise Refused("a round is being propagated; stop it first")
        if event["round"] != len(self.rounds) + 1:
            raise Refused(f"round {event['round']} does not follow round {len(self.rounds)}")
        if not event["frames"]:
            raise Refused("there is no frame to change")

    def _on_operation(self, event: Event) -> None:
        frames = frozenset(frame for low, high in event["frames"] for frame in range(low, high + 1))
        one = Round(event["round"], event.get("frame", min(frames)), [], self.num_objects)
        one.kind, one.status, one.annotated = event["kind"], "complete", bool(event.get("annotated"))
        one.reach, one.frames = (min(frames), max(frames)), frames
        self.rounds.append(one)
        self._cover(one, *one.reach)
        self.history.append(("operation", one.number))
        self.redoable.clear()
        self.changed_rounds.add(one.number)

    def _undo_operation(self, number: int) -> None:
        self._set_undone(self.rounds[number - 1], True)

    def _redo_operation(self, number: int) -> None:
        self._set_undone(self.rounds[number - 1], False)

    # Locks

    def _check_lock(self, event: Event) -> None:
        self._check_frame(event["lo"], "lock")
        self._check_frame(event["hi"], "lock")
        if event["object"]:
            self._known(event["object"])

    def _on_lock(self, event: Event) -> None:
        before = self.locks.change(event["lo"], event["hi"], event["object"], event["locked"])
        self.history.append(("lock", (event["object"], before, event["lo"], event["hi"], event["locked"])))
        self.redoable.clear()

    def _undo_lock(self, key: Any) -> None:
        number, before, _, _, _ = key
        self.locks.restore(number, before)

    def _redo_lock(self, key: Any) -> None:
        number, _, low, high, locked = key
        self.locks.change(low, high, number, locked)

    # Objects

    def _check_add_object(self, event: Event) -> None:
        if self.open_round:
            raise Refused("a round is being propagated; stop it first")
        if event["number"] != self.num_objects + 1:
            raise Refused(f"object {event['number']} does not follow object {self.num_objects}")
        if event["number"] > MAX_OBJECTS:
            raise Refused(f"a video can have at most {MAX_OBJECTS} objects")

    def _on_add_object(self, event: Event) -> None:
        number = event["number"]
        colour = event.get("colour") or COLOURS[(number - 1) % len(COLOURS)]
        self.objects[number] = Object(number, event.get("name") or f"Object {number}", colour)

    def _check_object(self, event: Event) -> None:
        self._known(event["number"])

    def _on_object(self, event: Event) -> None:
        one = self._known(event["number"])
        for name in ("name", "colour", "hidden", "label"):
            if event.get(name) is not None:
                setattr(one, name, event[name])

    def _check_remove_object(self, event: Event) -> None:
        self._known(event["number"])
        if event.get("into"):
            self._known(event["into"])
            if event["into"] == event["number"]:
                raise Refused("an object cannot be merged into itself")
        if sum(not one.removed for one in self.objects.values()) < 2:
            raise Refused("the last object cannot be removed; rename it instead")

    def _on_remove_object(self, event: Event) -> None:
        number = event["number"]
        one = self._known(number)
        one.removed, one.merged_into = True, event.get("into", 0)
        dropped = [key for key in self.pending if self.strokes[key]["object_id"] == number]
        self.pending = [key for key in self.pending if key not in dropped]
        for key in dropped:
            self._forget("stroke", key)
        self.history.append(("object", (number, one.merged_into, tuple(dropped))))
        self.redoable.clear()
        self._touch(0, self.num_frames - 1)

    def _undo_object(self, key: Any) -> None:
        number, _, dropped = key
        self.objects[number].removed, self.objects[number].merged_into = False, 0
        self.pending.extend(dropped)
        self.history.extend(("stroke", each) for each in dropped)

    def _redo_object(self, key: Any) -> None:
        number, into, dropped = key
        self.objects[number].removed, self.objects[number].merged_into = True, into
        self.pending = [each for each in self.pending if each not in dropped]
        for each in dropped:
            self._forget("stroke", each)

    # Everything else

    def _on_study(self, event: Event) -> None:
        self.study.append(event)

    def _on_done(self, event: Event) -> None:
        self.done = event["done"]

    def _on_loaded(self, event: Event) -> None:
        self.loaded = True

    def _on_preview(self, event: Event) -> None:
        self.previewing = event["busy"]

    def _on_restore(self, event: Event) -> None:
        self.restoring = event["busy"]

    def _on_failure(self, event: Event) -> None:
        self.failure = event["message"]

    def _known(self, number: int) -> Object:
        one = self.objects.get(number)
        if one is None or one.removed:
            raise Refused(f"there is no object {number}")
        return one

    def _open(self, number: int) -> Round:
        one = self.open_round
        if one is None or one.number != number:
            raise Refused(f"round {number} is not being propagated")
        return one


def interrupted(session: Session, on_disk: Callable[[int], Collection[int]]) -> list[Event]:
    """Return the events that close a round left open by a killed server.

    Args:
        session: Session as restored from the journal.
        on_disk: Function from the number of a round to the frames whose masks are on disk.
    """
    one = session.open_round
    if one is None:
        return []
    there = on_disk(one.number)
    if one.frame not in there:
        return [{"type": "round_abort", "round": one.number}]
    low = high = one.frame
    while low - 1 in there:
        low -= 1
    while high + 1 in there:
        high += 1
    first, last = one.limits or (0, session.num_frames - 1)
    complete = low <= first and high >= last
    return [{"type": "round_end", "round": one.number, "lo": low, "hi": high, "complete": complete}]
