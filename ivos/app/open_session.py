"""A session while it is open: its state, the pages that are connected to it, and the messages they send.

All of it runs on the event loop's thread. An event is on disk before it counts and before it is acknowledged.
"""

import asyncio
from dataclasses import asdict
from typing import Any

from ivos.app import messages
from ivos.app.jobs import SessionJobs
from ivos.app.messages import Message
from ivos.app.pages import SUCCESSION_SECONDS, Page, Pages
from ivos.app.recorder import Recorder
from ivos.app.session import Refused, Session
from ivos.app.worker import Worker, one_line
from ivos.app.workspace import Workspace
from ivos.runtime.errors import UserError


class OpenSession:
    """A session that pages can connect to.

    Args:
        workspace: its folder.
        worker: runs its jobs.
        num_objects: objects that a new session begins with.
        study: options of a user study that concern the page; None where there is none.
    """

    def __init__(
        self, workspace: Workspace, worker: Worker, num_objects: int = 1, study: dict[str, Any] | None = None
    ) -> None:
        self.workspace, self.name = workspace, workspace.name
        self.num_objects, self.study = num_objects, study
        self.pages = Pages()
        self.recorder = Recorder(workspace, Session(0), self._complain)
        self.jobs = SessionJobs(
            self.recorder, worker, self.pages, self.broadcast_state, study=study is not None
        )
        in_place = workspace.source.num_frames if workspace.source.in_place else 0
        self.num_ready = workspace.metadata.num_frames or in_place or 0  # frames that can be shown
        self.exporting = ""

    @property
    def session(self) -> Session:
        """The session's state."""
        return self.recorder.session

    # Opening

    async def open(self) -> None:
        """Decode the video where that was not done before, and restore the session from its journal."""
        loop = asyncio.get_running_loop()

        def count(done: int) -> None:
            loop.call_soon_threadsafe(self._count, done)

        try:
            await asyncio.to_thread(self.workspace.prepare, count)
            self.recorder.session = await asyncio.to_thread(self.workspace.recover)
            if not self.session.objects:
                for number in range(1, self.num_objects + 1):
                    self.recorder.record({"type": "add_object", "number": number})
            begun = [event for event in self.session.study if event["event"] != "resume"]
            if begun and begun[-1]["event"] != "satisfied":
                self.recorder.record({"type": "study", "event": "resume", "at": 0})
        except (UserError, OSError) as error:
            self.jobs.set_failure(one_line(error))
            return
        self.num_ready = self.session.num_frames
        self.session.apply({"type": "loaded"})
        self.jobs.restore()
        if self.session.pending:
            self.jobs.refresh_preview()
        for page in self.pages:
            self._welcome(page)

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
        """Add a page that has connected, or connected again."""
        self.pages.add(page, hello.page)
        self._welcome(page)

    def leave(self, page: Page) -> None:
        """Remove a page whose connection has ended; if it wrote and stays away, another page writes."""
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
                "num_frames": metadata.num_frames or self.workspace.source.num_frames,
                "ready": self.num_ready,
                "study": self.study,
                "max_points": messages.MAX_POINTS,
            }
        )
        if self.session.strokes:
            page.send({"type": "strokes", "strokes": list(self.session.strokes.values())})
        page.send(lambda: self._state(page), "state")
        self.jobs.welcome(page)

    def _state(self, page: Page) -> dict[str, Any]:
        """Return a snapshot of everything but the points of strokes and the masks."""
        session, jobs = self.session, self.jobs
        rounds = [
            {
                "number": one.number,
                "frame": one.frame,
                "strokes": one.strokes,
                "reach": one.reach,
                "planned": one.planned,
                "status": one.status,
                "confidence": [[frame, value] for frame, value in sorted(one.confidence.items())],
            }
            for one in session.active
        ]
        return {
            "type": "state",
            "phase": session.phase,
            "role": page.role,
            "failure": session.failure,
            "notice": jobs.notice,
            "can_preview": jobs.can_preview,
            "can_redo": bool(session.redoable),
            "objects": [asdict(one) for one in session.objects.values()],
            "pending": session.pending,
            "rounds": rounds,
            "shown": _run_lengths(session.shown()),
            "previewed": jobs.preview[0] if jobs.preview else None,
            "exporting": self.exporting,
            "satisfied": any(event["event"] == "satisfied" for event in session.study),
            "saved": self.recorder.saved,
        }

    def broadcast_state(self) -> None:
        """Send all pages a new snapshot."""
        for page in self.pages:
            page.send(lambda page=page: self._state(page), "state")  # type: ignore[misc]

    def _complain(self, message: str) -> None:
        self.pages.broadcast({"type": "error", "seq": -1, "message": message})

    # Messages

    def handle(self, page: Page, message: Message) -> None:
        """Do what a page asks for.

        Raises:
            UserError: it cannot be done, and why; nothing has changed.
        """
        if isinstance(message, messages.TakeOver):
            self.pages.make_writer(page)
            self.broadcast_state()
            return
        if page.role != "writer":
            raise Refused("another page writes; take over first")
        if not self.session.loaded:
            raise Refused("the video is still being read")
        getattr(self, f"_handle_{type(message).__name__.lower()}")(message)
        self.broadcast_state()

    def _handle_drawstroke(self, message: messages.DrawStroke) -> None:
        if message.id in self.session.strokes:  # sent again, because its acknowledgement was lost
            return
        stroke = {name: value for name, value in vars(message).items() if name != "seq"}
        self.recorder.record({"type": "stroke", **stroke})
        self.pages.broadcast({"type": "strokes", "strokes": [self.session.strokes[message.id]]})
        self.jobs.ask_preview(message.frame)

    def _handle_undo(self, message: messages.Undo) -> None:
        if self.session.pending:
            frame = self.session.strokes[self.session.pending[-1]]["frame"]
            self.recorder.record({"type": "undo_stroke"})
            self.jobs.ask_preview(frame)
        else:
            self._undo_round()

    def _handle_undoround(self, message: messages.UndoRound) -> None:
        self._undo_round()

    def _undo_round(self) -> None:
        self.recorder.record({"type": "undo_round"})
        self.jobs.refresh_preview()

    def _handle_redo(self, message: messages.Redo) -> None:
        self.session.check({"type": "redo"})
        what, key = self.session.redoable[-1]
        self.recorder.record({"type": "redo"})
        if what == "stroke":
            self.jobs.ask_preview(self.session.strokes[str(key)]["frame"])
        else:
            self.jobs.refresh_preview()

    def _handle_propagate(self, message: messages.Propagate) -> None:
        session = self.session
        if session.failure:
            raise Refused(f"the network is not at work: {session.failure}")
        number = len(session.rounds) + 1
        event = {
            "type": "round_begin",
            "round": number,
            "frame": message.frame,
            "strokes": session.pending_on(message.frame),
        }
        self.recorder.record(event)
        self.jobs.run_round(number)

    def _handle_continue(self, message: messages.Continue) -> None:
        self.session.check({"type": "continue"})
        number = self.session.active[-1].number
        self.recorder.record({"type": "continue"})
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
        self.recorder.record({"type": "remove_object", "number": message.number})
        self.jobs.refresh_preview()

    def _handle_study(self, message: messages.Study) -> None:
        if self.study is None:
            raise Refused("this is no user study")
        event = {"type": "study", "event": message.event, "at": message.at}
        self.recorder.record({**event, "round": len(self.session.active)})
        if message.event == "satisfied":
            self.pages.broadcast({"type": "satisfied"})

    def _handle_retry(self, message: messages.Retry) -> None:
        if not self.session.failure:
            raise Refused("nothing has failed")
        self.jobs.set_failure("")
        self.jobs.restore()

    def _handle_hello(self, message: messages.Hello) -> None:
        raise Refused("hello comes once, first of a connection")


def _run_lengths(values: list[int]) -> list[list[int]]:
    """Return values as run lengths [[value, count], ...]."""
    runs: list[list[int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1][1] += 1
        else:
            runs.append([value, 1])
    return runs
