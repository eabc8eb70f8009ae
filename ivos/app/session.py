"""The state of an annotation session, without any input or output.

Every change is an event, a dictionary with a ``type``. :meth:`Session.apply` handles events both when they
happen and when they are read from the journal, so that a restarted session equals the one that was killed.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from ivos.runtime.errors import UserError

Event = dict[str, Any]
Phase = Literal["loading", "restoring", "failed", "propagating", "previewing", "drawing", "stopped", "idle"]

MAX_OBJECTS = 254
COLOURS = (
    *("#e6483d", "#2f9e44", "#f2b705", "#2f6fed", "#c2409a"),
    *("#12a5b0", "#f2801d", "#8257e6", "#8aa51a", "#a4694b"),
)
"""The colours that objects begin with, one after the other: distinct on most pictures and for most users."""


class Refused(UserError):
    """An event that does not fit the present state; it changes nothing."""


@dataclass
class Object:
    """An object that is annotated; its number is its label in the masks and is never reused."""

    number: int
    name: str
    colour: str
    hidden: bool = False
    removed: bool = False


@dataclass
class Round:
    """The strokes of a round on one frame, and the frames that their propagation has reached."""

    number: int
    frame: int
    strokes: list[str]
    num_objects: int  # N at its beginning
    reach: tuple[int, int] | None = None  # first and last frame with a mask of this round
    planned: tuple[int, int] | None = None  # how far it is to go; None: not known yet
    status: Literal["open", "stopped", "complete"] = "open"
    undone: bool = False
    confidence: dict[int, float] = field(default_factory=dict)  # the network's own, by frame

    def extend(self, frame: int) -> None:
        """Add a frame that has its mask now."""
        low, high = self.reach or (frame, frame)
        self.reach = min(low, frame), max(high, frame)


@dataclass
class Session:
    """A session on a video of `num_frames` frames."""

    num_frames: int
    objects: dict[int, Object] = field(default_factory=dict)
    strokes: dict[str, Event] = field(default_factory=dict)  # all ever drawn, by their ids
    pending: list[str] = field(default_factory=list)  # drawn and in no round yet
    rounds: list[Round] = field(default_factory=list)
    redoable: list[tuple[str, str | int]] = field(default_factory=list)  # ("stroke", id) or ("round", number)
    study: list[Event] = field(default_factory=list)
    # What a restart forgets:
    loaded: bool = False
    previewing: bool = False
    restoring: bool = False
    failure: str = ""

    @property
    def phase(self) -> Phase:
        """The activity that the page shows."""
        checks: list[tuple[bool, Phase]] = [
            (not self.loaded, "loading"),
            (bool(self.failure), "failed"),
            (self.open_round is not None, "propagating"),
            (self.restoring, "restoring"),
            (self.previewing, "previewing"),
            (bool(self.pending), "drawing"),
            (bool(self.active) and self.active[-1].status == "stopped", "stopped"),
        ]
        return next((phase for holds, phase in checks if holds), "idle")

    @property
    def active(self) -> list[Round]:
        """The rounds that count, in order."""
        return [one for one in self.rounds if not one.undone]

    @property
    def open_round(self) -> Round | None:
        """The round that is being propagated."""
        return next((one for one in self.rounds if one.status == "open"), None)

    @property
    def num_objects(self) -> int:
        """N, which includes removed objects."""
        return max(self.objects, default=0)

    @property
    def removed(self) -> list[int]:
        """Objects whose labels count as background."""
        return [one.number for one in self.objects.values() if one.removed]

    def shown(self) -> list[int]:
        """Return the round whose mask each frame shows, the newest that is not undone; 0 for none."""
        shown = [0] * self.num_frames
        for one in self.active:
            if one.reach:
                for frame in range(one.reach[0], one.reach[1] + 1):
                    shown[frame] = one.number
        return shown

    def pending_on(self, frame: int) -> list[str]:
        """Return the ids of the strokes on a frame that are in no round yet."""
        return [key for key in self.pending if self.strokes[key]["frame"] == frame]

    def check(self, event: Event) -> None:
        """Raise :class:`Refused` if an event does not fit the present state."""
        getattr(self, f"_check_{event['type']}", lambda _: None)(event)

    def apply(self, event: Event) -> None:
        """Apply an event completely, or raise :class:`Refused` and change nothing."""
        self.check(event)
        getattr(self, f"_on_{event['type']}")(event)

    # Strokes

    def _check_stroke(self, event: Event) -> None:
        if event["id"] in self.strokes:
            raise Refused(f"stroke {event['id']} is known already")
        if not 0 <= event["frame"] < self.num_frames:
            raise Refused(f"a stroke on frame {event['frame']}: the video has 0 to {self.num_frames - 1}")
        if event["object_id"]:
            self._known(event["object_id"])

    def _on_stroke(self, event: Event) -> None:
        self.strokes[event["id"]] = event
        self.pending.append(event["id"])
        self.redoable.clear()

    def _check_undo_stroke(self, event: Event) -> None:
        if not self.pending:
            raise Refused("there is no stroke to take back")

    def _on_undo_stroke(self, event: Event) -> None:
        self.redoable.append(("stroke", self.pending.pop()))

    def _check_redo(self, event: Event) -> None:
        if not self.redoable:
            raise Refused("there is nothing to bring back")
        if self.redoable[-1][0] == "round" and self.open_round:
            raise Refused("a round is being propagated; stop it first")

    def _on_redo(self, event: Event) -> None:
        what, key = self.redoable.pop()
        if what == "stroke":
            self.pending.append(str(key))
        else:
            self.rounds[int(key) - 1].undone = False

    # Rounds

    def _check_round_begin(self, event: Event) -> None:
        if self.open_round:
            raise Refused("a round is being propagated already")
        if event["round"] != len(self.rounds) + 1:
            raise Refused(f"round {event['round']} does not follow round {len(self.rounds)}")
        if not event["strokes"]:
            raise Refused(f"no new strokes on frame {event['frame']}")
        if any(key not in self.pending for key in event["strokes"]):
            raise Refused(f"round {event['round']} names strokes that are not waiting")

    def _on_round_begin(self, event: Event) -> None:
        chosen = list(event["strokes"])
        self.pending = [key for key in self.pending if key not in chosen]
        self.rounds.append(Round(event["round"], event["frame"], chosen, self.num_objects))
        self.redoable.clear()

    def _check_reached(self, event: Event) -> None:
        self._open(event["round"])

    def _on_reached(self, event: Event) -> None:
        self._open(event["round"]).extend(event["frame"])

    def _on_planned(self, event: Event) -> None:
        self.rounds[event["round"] - 1].planned = tuple(event["planned"])

    def _check_round_end(self, event: Event) -> None:
        self._open(event["round"])

    def _on_round_end(self, event: Event) -> None:
        one = self._open(event["round"])
        one.reach = (event["lo"], event["hi"])
        one.status = "complete" if event["complete"] else "stopped"
        if event.get("planned"):
            one.planned = tuple(event["planned"])
        sure = event.get("confidence") or []
        one.confidence = {event["lo"] + index: value for index, value in enumerate(sure)}

    def _check_round_abort(self, event: Event) -> None:
        self._open(event["round"])

    def _on_round_abort(self, event: Event) -> None:
        """Return the strokes of a round without any mask to the waiting ones."""
        one = self._open(event["round"])
        self.pending = one.strokes + self.pending
        one.strokes, one.status, one.undone, one.reach = [], "stopped", True, None

    def _check_continue(self, event: Event) -> None:
        if self.open_round or not self.active or self.active[-1].status != "stopped":
            raise Refused("there is no stopped round to go on with")

    def _on_continue(self, event: Event) -> None:
        self.active[-1].status = "open"
        self.redoable.clear()

    def _check_undo_round(self, event: Event) -> None:
        if self.open_round:
            raise Refused("a round is being propagated; stop it first")
        if not self.active:
            raise Refused("there is no round to undo")

    def _on_undo_round(self, event: Event) -> None:
        one = self.active[-1]
        one.undone = True
        self.redoable.append(("round", one.number))

    # Objects

    def _check_add_object(self, event: Event) -> None:
        if self.open_round:
            raise Refused("a round is being propagated; stop it first")
        if event["number"] != self.num_objects + 1:
            raise Refused(f"object {event['number']} does not follow object {self.num_objects}")
        if event["number"] > MAX_OBJECTS:
            raise Refused(f"there can be {MAX_OBJECTS} objects at most")

    def _on_add_object(self, event: Event) -> None:
        number = event["number"]
        colour = event.get("colour") or COLOURS[(number - 1) % len(COLOURS)]
        self.objects[number] = Object(number, event.get("name") or f"Object {number}", colour)

    def _check_object(self, event: Event) -> None:
        self._known(event["number"])

    def _on_object(self, event: Event) -> None:
        one = self._known(event["number"])
        for name in ("name", "colour", "hidden"):
            if event.get(name) is not None:
                setattr(one, name, event[name])

    def _check_remove_object(self, event: Event) -> None:
        self._known(event["number"])
        if sum(not one.removed for one in self.objects.values()) < 2:
            raise Refused("the last object stays; rename it instead")

    def _on_remove_object(self, event: Event) -> None:
        number = event["number"]
        self._known(number).removed = True
        self.pending = [key for key in self.pending if self.strokes[key]["object_id"] != number]

    # The rest

    def _on_study(self, event: Event) -> None:
        self.study.append(event)

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
        session: as the journal has it.
        on_disk: from a round's number to the frames whose masks are there.
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
    complete = (low, high) == (0, session.num_frames - 1)
    return [{"type": "round_end", "round": one.number, "lo": low, "hi": high, "complete": complete}]
