"""An open annotation session: its state, the pages connected to it, and the handling of their messages.

All code of this module runs in the thread of the event loop. An event is written to disk before it is applied
to the session and acknowledged to the page.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivos.app import messages, operations
from ivos.app.importing import assign_objects, read_masks
from ivos.app.jobs import SessionJobs
from ivos.app.locks import ranges
from ivos.app.messages import Message
from ivos.app.pages import SUCCESSION_SECONDS, Page, Pages
from ivos.app.pixels import draw_runs, find_runs
from ivos.app.recorder import Recorder
from ivos.app.session import Event, Refused, Round, Session, Shown
from ivos.app.worker import Worker, one_line
from ivos.app.workspace import UnreadablePictures, Workspace
from ivos.runtime.errors import UserError

_EARLY = (
    messages.DrawStroke,
    messages.DrawEdit,
    messages.Undo,
    messages.Redo,
    messages.AddObject,
    messages.ChangeObject,
    messages.RemoveObject,
)
"""The messages that are accepted while the rest of the video is being decoded."""


class OpenSession:
    """A session that pages can connect to.

    Args:
        workspace: Folder of the session.
        worker: Worker that runs the jobs of the session.
        num_objects: Initial number of objects of a new session.
        study: Options of a user study that the page needs; None outside a study.
        classes: Names that the page offers for objects.
    """

    def __init__(
        self,
        workspace: Workspace,
        worker: Worker,
        num_objects: int = 1,
        study: dict[str, Any] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        self.workspace, self.name = workspace, workspace.name
        self.num_objects, self.study = num_objects, study
        self.classes = list(classes)
        self.pages = Pages()
        self.recorder = Recorder(workspace, Session(0), self._complain)
        self.jobs = SessionJobs(
            self.recorder, worker, self.pages, self.broadcast_state, study=study is not None
        )
        in_place = workspace.source.num_frames if workspace.source.in_place else 0
        self.num_ready = workspace.metadata.num_frames or in_place or 0  # frames that can be shown
        self.exporting = ""
        self._opening: asyncio.Future[None] | None = None
        self.writing = ""  # the operation whose masks are being written
        self.can_go_on = False  # whether the user can continue without the unreadable pictures
        self._leave_out = self._resumed = False

    @property
    def session(self) -> Session:
        """The session's state."""
        return self.recorder.session

    # Opening

    def start_opening(self) -> None:
        """Start opening the session, unless that was done before.

        A session is opened when its first page connects, so that a server with many videos starts fast.
        """
        if self._opening is None:
            self._opening = asyncio.ensure_future(self.open())

    async def open(self) -> None:
        """Decode the video, unless that was done before, and restore the session from its journal."""
        loop = asyncio.get_running_loop()

        def count(done: int) -> None:
            loop.call_soon_threadsafe(self._count, done)

        leave_out, self._leave_out = self._leave_out, False
        try:
            await self._begin_early()
            await asyncio.to_thread(self.workspace.prepare, count, leave_out)
            await self._recover(self.workspace.metadata.num_frames)
            self._begin()
        except (UserError, OSError) as error:
            self.can_go_on = isinstance(error, UnreadablePictures) and error.can_go_on
            self.jobs.set_failure(one_line(error))
            self._opening = None
            return
        self.can_go_on = False
        self.num_ready = self.session.num_frames
        self.session.decoding = False
        self.session.apply({"type": "loaded"})
        self.jobs.restore()
        if self.session.pending:
            self.jobs.refresh_preview()
        for page in self.pages:
            self._welcome(page)

    async def _begin_early(self) -> None:
        """Let the user annotate the first frames while the others are being decoded.

        Nothing has to be done for pictures that are used in place: they are shown at once.
        """
        workspace = self.workspace
        if workspace.metadata.num_frames or workspace.source.in_place:
            return
        expected = await asyncio.to_thread(workspace.count_frames)
        if expected:
            await self._recover(expected)
            self._begin()
            self.session.decoding = True
            for page in self.pages:
                self._welcome(page)

    async def _recover(self, num_frames: int) -> None:
        """Read the journal, or correct the number of frames if the journal was read before.

        Before a video is decoded, its number of frames is only an estimate.
        """
        if not self.session.num_frames:
            self.recorder.session = await asyncio.to_thread(self.workspace.recover, num_frames)
        elif self.session.num_frames != num_frames:
            self.session.resize(num_frames)

    def peek(self) -> None:
        """Read the journal of a video that was decoded before, so that its progress can be listed."""
        if self.workspace.metadata.num_frames and not self.session.num_frames:
            try:
                self.recorder.session = self.workspace.recover()
            except (UserError, OSError) as error:
                self.jobs.set_failure(one_line(error))

    def _begin(self) -> None:
        """Record the first events of a new session, or the continuation of a user study after a restart."""
        if not self.session.objects:
            for number in range(1, self.num_objects + 1):
                self.recorder.record({"type": "add_object", "number": number})
        begun = [event for event in self.session.study if event["event"] != "resume"]
        if begun and not self._resumed and begun[-1]["event"] != "satisfied":
            self.recorder.record({"type": "study", "event": "resume", "at": 0})
        self._resumed = True

    def summary(self) -> dict[str, Any]:
        """Return the summary of this video for the page that lists all videos."""
        session = self.session
        frames = session.num_frames
        reviewed = len(session.locks.frames(0))
        masked = sum(value != 0 for value in session.shown()) if frames else 0
        worked = bool(session.strokes or session.edits or session.rounds)
        satisfied = any(event["event"] == "satisfied" for event in session.study)
        return {
            "name": self.name,
            "frames_id": self.workspace.metadata.source["fingerprint"][:16],
            "num_frames": frames or self.workspace.source.num_frames,
            "rounds": len(session.active),
            "objects": sum(not one.removed for one in session.objects.values()),
            "masked": masked,
            "reviewed": reviewed,
            "seconds": round(self.recorder.seconds),
            "status": "done" if session.done or satisfied else "in work" if worked else "new",
            "done": session.done or satisfied,
            "failure": session.failure,
            "study": self.study,
        }

    def _count(self, done: int) -> None:
        self.num_ready = done
        content = {"type": "loading", "ready": done, "total": self.workspace.source.num_frames}
        self.pages.broadcast(content, "loading")

    def close(self) -> None:
        """Disconnect all pages and release the folder."""
        for page in list(self.pages):
            page.disconnect()
        self.workspace.close()

    # Pages

    def join(self, page: Page, hello: messages.Hello) -> None:
        """Add a page that has connected or reconnected."""
        self.pages.add(page, hello.page)
        self._welcome(page)
        self.start_opening()

    def leave(self, page: Page) -> None:
        """Remove a page whose connection has ended.

        If it was the writer and does not reconnect, another page becomes the writer.
        """
        if page in self.pages:
            self.pages.remove(page)
            if page.role == "writer":
                asyncio.get_running_loop().call_later(SUCCESSION_SECONDS, self._appoint_writer)

    def _appoint_writer(self) -> None:
        if self.pages and not self.pages.has_writer:
            self.pages.make_writer(self.pages[0])
            self.broadcast_state()

    def _welcome(self, page: Page) -> None:
        metadata = self.workspace.metadata
        page.send(
            {
                "type": "welcome",
                "page": page.id,
                "name": self.name,
                "id": metadata.id,
                "frames_id": metadata.source["fingerprint"][:16],
                "size": list(self.workspace.size),
                "rate": metadata.rate,
                "times": list(metadata.times),
                "num_frames": self.session.num_frames or self.workspace.source.num_frames,
                "ready": self.num_ready,
                "study": self.study,
                "max_points": messages.MAX_POINTS,
                "max_runs": messages.MAX_RUNS,
                "classes": self.classes,
            }
        )
        page.sent.clear()
        page.changed_rounds.clear()
        page.note_changes((one.number for one in self.session.rounds), (0, self.session.num_frames - 1))
        if self.session.strokes:
            page.send({"type": "strokes", "strokes": list(self.session.strokes.values())})
        page.send(lambda: self._state(page), "state")
        self.jobs.welcome(page)

    def _state(self, page: Page) -> dict[str, Any]:
        """Return the state for a page, with only the rounds, frames and objects that have changed for it."""
        session, jobs = self.session, self.jobs
        state: dict[str, Any] = {
            "type": "state",
            "phase": session.phase,
            "role": page.role,
            "failure": session.failure,
            "can_go_on": self.can_go_on,
            "notice": jobs.notice or self.workspace.notice,
            "can_preview": jobs.can_preview,
            "prompts": jobs.prompts,
            "undoable": _describe(session.undoable(), session),
            "redoable": _describe(session.redoable[-1] if session.redoable else None, session),
            "pending": session.pending,
            "previewed": jobs.preview[0] if jobs.preview else None,
            "exporting": self.exporting,
            "writing": self.writing,
            "satisfied": any(event["event"] == "satisfied" for event in session.study),
            "done": session.done,
            "saved": self.recorder.saved,
        }
        parts = {
            "objects": [asdict(one) for one in session.objects.values()],
            "locks": session.locks.ranges(),
            "annotated": ranges(session.kept_frames(-1)),
        }
        for name, value in parts.items():
            if page.sent.get(name) != value:
                state[name] = page.sent[name] = value
        if page.changed_rounds:
            numbers = sorted(page.changed_rounds)
            state["rounds"] = [_describe_round(session.rounds[number - 1]) for number in numbers]
            page.changed_rounds.clear()
        if page.changed_frames:
            low, high = page.changed_frames
            state["shown"] = [low, _run_lengths(session.shown_between(low, high))]
            page.changed_frames = None
        return state

    def broadcast_state(self) -> None:
        """Send the changes of the state to all pages."""
        session = self.session
        for page in self.pages:
            page.note_changes(session.changed_rounds, session.changed_frames)
            page.send(lambda page=page: self._state(page), "state")  # type: ignore[misc]
        session.changed_rounds.clear()
        session.changed_frames = None

    def _complain(self, message: str) -> None:
        self.pages.broadcast({"type": "error", "seq": -1, "message": message})

    # Messages

    def handle(self, page: Page, message: Message) -> Awaitable[None] | None:
        """Handle a message of a page.

        Returns:
            An awaitable that has to finish before the message is acknowledged, or None.

        Raises:
            UserError: The request is not possible; the session is not changed.
        """
        if isinstance(message, messages.TakeOver):
            self.pages.make_writer(page)
            self.broadcast_state()
            return None
        if page.role != "writer":
            raise Refused("another page is the writer; take over first")
        if not self.session.loaded:
            self._check_early(message)
        if self.writing and not isinstance(message, messages.Study | messages.ChangeObject):
            raise Refused(f"the masks of {self.writing} are being written; wait a moment")
        work: Awaitable[None] | None = getattr(self, f"_handle_{type(message).__name__.lower()}")(message)
        self.broadcast_state()
        return work

    def _check_early(self, message: Message) -> None:
        """Refuse a message that needs all frames while the video is being decoded."""
        if isinstance(message, messages.Retry) and self.session.failure:
            return
        if not self.session.decoding or self.session.failure or not isinstance(message, _EARLY):
            raise Refused("the video is still being read")
        frame = getattr(message, "frame", 0)
        if frame >= self.num_ready:
            raise Refused(f"frame {frame} is still being read")

    def _handle_drawstroke(self, message: messages.DrawStroke) -> None:
        # A page sends a message again if its acknowledgement was lost.
        if message.id in self.session.strokes:
            return
        stroke = {name: value for name, value in vars(message).items() if name not in ("seq", "box", "of")}
        stroke |= {name: value for name in ("box", "of") if (value := getattr(message, name))}
        self.recorder.record({"type": "stroke", **stroke})
        self.pages.broadcast({"type": "strokes", "strokes": [self.session.strokes[message.id]]})
        self.jobs.ask_preview(message.frame)

    def _handle_drawedit(self, message: messages.DrawEdit) -> None:
        session, frame = self.session, message.frame
        if message.id in session.edits:  # the page sends a message again if its acknowledgement was lost
            return
        event: Event = {
            "type": "edit",
            "id": message.id,
            "frame": frame,
            "label": message.label,
            "runs": message.runs,
            "over": session.layer(frame) if frame < session.num_frames else 0,
        }
        session.check(event)
        base = self._edited_base(message)
        try:
            draw_runs(base.copy(), message.runs, message.label)
        except ValueError as error:
            raise Refused(f"edit: {error}") from error
        locked = session.locks.objects_on(frame)
        if locked:
            event["runs"] = self._unlocked_runs(base, message, locked)
        if isinstance(message.base, str) and message.base.startswith("preview:"):
            event["preview"] = True
            self.workspace.write_base(message.id, base)
        self.recorder.record(event)
        self.jobs.masks.drawn(session.edits[message.id], base)
        if session.pending_on(frame):
            self.jobs.drop_preview()

    def _edited_base(self, message: messages.DrawEdit) -> NDArray[np.uint8]:
        """Return the labels over which an edit is drawn.

        Raises:
            Refused: The page showed other labels when the edit was drawn.
        """
        if isinstance(message.base, str) and message.base.startswith("preview:"):
            labels = self.jobs.preview_labels(message.frame, message.base)
        elif message.base == self.session.shown_on(message.frame):
            labels = self.jobs.masks.current(message.frame)
        else:
            labels = None
        if labels is None:
            raise Refused("the mask has changed in the meantime; draw again")
        return labels

    def _unlocked_runs(
        self, base: NDArray[np.uint8], message: messages.DrawEdit, locked: list[int]
    ) -> list[int]:
        """Return the run lengths of an edit without the pixels of locked objects."""
        drawn = base.copy()
        draw_runs(drawn, message.runs, message.label, locked)
        runs = find_runs(drawn != base)
        if not runs:
            raise Refused("these objects are locked on this frame; unlock them first")
        return runs

    def _handle_lock(self, message: messages.Lock) -> None:
        low, high = sorted((message.lo, message.hi))
        event = {"type": "lock", "lo": low, "hi": high, "object": message.object, "locked": message.locked}
        self.recorder.record(event)

    def _handle_operation(self, message: messages.Operation) -> Awaitable[None]:
        frames, event = operations.plan(self.session, message)
        self.jobs.drop_preview()
        return self._write_operation(message, frames, event)

    async def _write_operation(self, message: messages.Operation, frames: list[int], event: Event) -> None:
        """Write the masks of an operation in a thread, then record its event."""
        self.writing = message.kind
        self.broadcast_state()
        try:
            masks = operations.run(self.session, self.jobs.masks, message, frames)
            await asyncio.to_thread(self.workspace.write_masks, event["round"], masks)
            self.recorder.record(event)
        except OSError as error:
            raise UserError(one_line(error)) from error
        finally:
            self.writing = ""
            self.broadcast_state()

    async def import_masks(self, content: bytes, name: str, shown: int, annotated: bool) -> int:
        """Import the masks of a file, as annotations of the user or as proposals.

        Returns:
            The number of frames whose masks were imported.

        Raises:
            UserError: The masks cannot be read, or the session is busy.
        """
        session = self.session
        if not session.loaded or self.writing or session.open_round:
            raise Refused("the session is busy; wait a moment, or stop the propagation")
        self.writing = "import"
        self.broadcast_state()
        try:
            names = self.workspace.frame_names
            size = self.workspace.size
            imported = await asyncio.to_thread(read_masks, content, name, names, size, shown)
            table, events = assign_objects(session, imported)
            numbers = np.zeros(256, np.uint8)
            for label, number in table.items():
                numbers[label] = number
            frames = [frame for frame in sorted(imported.masks) if not session.locks.is_locked(frame, 0)]
            event: Event = {
                "type": "operation",
                "round": len(session.rounds) + 1,
                "kind": "import",
                "frame": frames[0] if frames else shown,
                "frames": ranges(frames),
                "annotated": annotated,
                "file": name,
            }
            session.check(event)
            masks = ((frame, numbers[imported.masks[frame]]) for frame in frames)
            await asyncio.to_thread(self.workspace.write_masks, event["round"], masks)
            self.recorder.record(*events)
            self.recorder.record(event)
            return len(frames)
        except OSError as error:
            raise UserError(one_line(error)) from error
        finally:
            self.writing = ""
            self.broadcast_state()

    def _handle_undo(self, message: messages.Undo) -> None:
        event = self.session.undo_event()
        self.recorder.record(event)
        self._after_undo(event)

    def _handle_undoround(self, message: messages.UndoRound) -> None:
        self.recorder.record({"type": "undo_round"})
        self.jobs.refresh_preview()

    def _handle_redo(self, message: messages.Redo) -> None:
        self.session.check({"type": "redo"})
        what, key = self.session.redoable[-1]
        self.recorder.record({"type": "redo"})
        self._after_undo({"what": what, "key": key, "id": key})

    def _after_undo(self, event: Event) -> None:
        """Request the preview of the frame of an action that was undone or redone."""
        session = self.session
        if event.get("type") == "undo_stroke" or event.get("what") == "stroke":
            self.jobs.ask_preview(session.strokes[event["id"]]["frame"])
        elif event.get("what") == "edit":
            self.jobs.ask_preview(session.edits[event["key"]].frame)
        else:
            self.jobs.refresh_preview()

    def _handle_propagate(self, message: messages.Propagate) -> None:
        session, frame = self.session, message.frame
        if session.failure:
            raise Refused(f"the network is not available: {session.failure}")
        if frame >= session.num_frames:
            raise Refused(f"frame {frame}: the video has frames 0 to {session.num_frames - 1}")
        number = len(session.rounds) + 1
        event: Event = {
            "type": "round_begin",
            "round": number,
            "frame": frame,
            "strokes": session.pending_on(frame),
        }
        if session.is_annotated(frame) or session.locks.is_locked(frame, 0):
            event["adopted"] = True
        if message.lo is not None or message.hi is not None:
            last = session.num_frames - 1
            low, high = message.lo or 0, last if message.hi is None else min(message.hi, last)
            if not low <= frame <= high:
                raise Refused(f"frames {low} to {high} do not contain frame {frame}")
            event["limits"] = [low, high]
        part = self.workspace.part(frame)
        if part != (0, session.num_frames - 1):  # the network works only on this part of a very long video
            low, high = event.get("limits", part)
            event["limits"] = [max(low, part[0]), min(high, part[1])]
        if kept := session.kept_frames(frame):
            event["kept"] = ranges(kept)
        used = session.new_strokes(frame)
        if replaced := [key for key in event["strokes"] if key not in used]:
            event["replaced"] = replaced
        event |= self._guarded()
        session.check(event)
        self.workspace.remove_masks(number)
        self.recorder.record(event)
        self.jobs.run_round(number)

    def _guarded(self) -> Event:
        """Return the entry of an event that lists the frames with locked objects; empty if there are none."""
        guarded = self.session.locks.frames_with_objects()
        return {"guarded": ranges(guarded)} if guarded else {}

    def _handle_continue(self, message: messages.Continue) -> None:
        self.session.check({"type": "continue"})
        number = self.session.active[-1].number
        self.recorder.record({"type": "continue"} | self._guarded())
        self.jobs.run_round(number)

    def _handle_stop(self, message: messages.Stop) -> None:
        if not self.session.open_round:
            raise Refused("no round is being propagated")
        self.jobs.stop()

    def _handle_addobject(self, message: messages.AddObject) -> None:
        number = self.session.num_objects + 1
        self.recorder.record({"type": "add_object", "number": number, "name": message.name})

    def _handle_changeobject(self, message: messages.ChangeObject) -> None:
        self.recorder.record({"type": "object", **{k: v for k, v in vars(message).items() if k != "seq"}})

    def _handle_removeobject(self, message: messages.RemoveObject) -> None:
        event: Event = {"type": "remove_object", "number": message.number}
        if message.into:
            event["into"] = message.into
        self.recorder.record(event)
        self.jobs.refresh_preview()

    def _handle_study(self, message: messages.Study) -> None:
        if self.study is None:
            raise Refused("this session is not part of a user study")
        event = {"type": "study", "event": message.event, "at": message.at}
        self.recorder.record({**event, "round": len(self.session.active)})
        if message.event == "satisfied":
            self.pages.broadcast({"type": "satisfied"})

    def _handle_done(self, message: messages.Done) -> None:
        self.recorder.record({"type": "done", "done": message.done})

    def _handle_retry(self, message: messages.Retry) -> None:
        if not self.session.failure:
            raise Refused("nothing has failed")
        self.jobs.set_failure("")
        if self.session.loaded:
            self.jobs.restore()
        else:
            self._leave_out = message.leave_out
            self.start_opening()

    def _handle_hello(self, message: messages.Hello) -> None:
        raise Refused("'hello' must be the first message of a connection, and only once")


def _describe(action: tuple[str, Any] | None, session: Session) -> dict[str, Any] | None:
    """Return the kind of an action that can be undone or redone, and its frame, for the page."""
    if action is None:
        return None
    what, key = action
    if what == "stroke":
        return {"what": what, "frame": session.strokes[key]["frame"]}
    if what == "edit":
        return {"what": what, "frame": session.edits[key].frame}
    if what in ("round", "operation"):
        one = session.rounds[key - 1]
        return {"what": what if what == "round" else one.kind, "frame": one.frame}
    return {"what": what}


def _describe_round(one: Round) -> dict[str, Any]:
    return {
        "number": one.number,
        "kind": one.kind,
        "frame": one.frame,
        "strokes": one.strokes,
        "reach": one.reach,
        "planned": one.planned,
        "status": one.status,
        "undone": one.undone,
        "confidence": [[frame, value] for frame, value in sorted(one.confidence.items())],
    }


def _run_lengths(values: list[Shown]) -> list[list[Shown]]:
    """Return the run-length encoding [[value, count], ...] of a list."""
    runs: list[list[Any]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1][1] += 1
        else:
            runs.append([value, 1])
    return runs
