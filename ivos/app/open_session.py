"""A workspace while it is open: its session, the pages that look at it, and the jobs it gives the worker.

All of it runs on the event loop's thread. An event is on disk before it counts and before it is acknowledged.
"""

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ivos.app import messages
from ivos.app.journal import JournalError
from ivos.app.messages import MASK, PREVIEW, Message, pack_labels, pack_mask
from ivos.app.session import Event, Refused, Session
from ivos.app.worker import CompletedRound, Job, Worker, one_line
from ivos.app.workspace import Workspace
from ivos.runtime.errors import UserError

log = logging.getLogger(__name__)

_AWAY = 3.0  # seconds that the page that writes may be gone before another takes its place
_CACHED = 64 << 20  # bytes of packed masks kept in memory
_WAITING = 20_000  # messages that a page may be behind before it is sent away; masks count once a frame
Payload = str | bytes | dict[str, Any]


@dataclass(eq=False)
class Page:
    """A browser page that is connected; what it is to be told waits here, so that a slow one delays nobody.

    A newer message of the same key takes the place of an older one that has not gone out.
    """

    id: str = field(default_factory=lambda: secrets.token_urlsafe(8))
    role: Literal["writer", "reader"] = "reader"
    waiting: "OrderedDict[Any, Callable[[], Payload] | Payload]" = field(default_factory=OrderedDict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    lost: bool = False  # too far behind, or replaced
    _number: int = 0

    def tell(self, content: "Callable[[], Payload] | Payload", key: Any = None) -> None:
        """Queue a message; a callable is asked for it when it goes out."""
        if key is None:
            self._number += 1
            key = ("message", self._number)
        self.waiting.pop(key, None)
        self.waiting[key] = content
        self.lost = self.lost or len(self.waiting) > _WAITING
        self.wake.set()

    def leave(self) -> None:
        """End its connection."""
        self.lost = True
        self.wake.set()

    async def pump(self, send: Callable[[Payload], Awaitable[None]]) -> None:
        """Send what waits, in order, until the page is lost."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            while self.waiting and not self.lost:
                _, content = self.waiting.popitem(last=False)
                await send(content() if callable(content) else content)
            if self.lost:
                return


class OpenSession:
    """An open workspace.

    Args:
        workspace: its folder.
        worker: runs its jobs.
        num_objects: objects that a new session begins with.
        study: options of a user study that concern the page; None where there is none.
    """

    def __init__(
        self, workspace: Workspace, worker: Worker, num_objects: int = 1, study: dict[str, Any] | None = None
    ) -> None:
        self.workspace, self.worker = workspace, worker
        self.num_objects, self.study = num_objects, study
        self.name = workspace.name
        self.session = Session(0)
        self.pages: list[Page] = []
        in_place = workspace.source.num_frames if workspace.source.in_place else 0
        self.ready = workspace.facts.num_frames or in_place or 0  # frames that are there
        self.can_preview = True
        self.exporting = ""
        self.preview: tuple[int, bytes] | None = None  # frame and packed labels
        self.notice = ""  # what the last restoring has found
        self._unsaved: list[Event] = []
        self._masks: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._kept = 0
        self._total = 0
        self._done = 0
        self._continued: int | None = None
        self._began = 0.0
        self._sent = 0  # of the preview asked for last
        self._preview_seconds = 0.0

    # Opening

    async def open(self) -> None:
        """Have the frames at hand and the session as it was."""
        loop = asyncio.get_running_loop()

        def count(done: int) -> None:
            loop.call_soon_threadsafe(self._count, done)

        try:
            await asyncio.to_thread(self.workspace.prepare, count)
            self.session = await asyncio.to_thread(self.workspace.recover)
            if not self.session.objects:
                for number in range(1, self.num_objects + 1):
                    self._record({"type": "add_object", "number": number})
            begun = [event for event in self.session.study if event["event"] != "resume"]
            if begun and begun[-1]["event"] != "satisfied":
                self._record({"type": "study", "event": "resume", "at": 0})
        except (UserError, OSError) as error:
            self._fail(one_line(error))
            return
        self.ready = self.session.num_frames
        self.session.apply({"type": "loaded"})
        self._restore()
        if self.session.pending:
            self._ask_preview(self.session.strokes[self.session.pending[-1]]["frame"])
        for page in self.pages:
            self._welcome(page)

    def _count(self, done: int) -> None:
        self.ready = done
        self.tell_all(
            {"type": "loading", "ready": done, "total": self.workspace.source.num_frames}, "loading"
        )

    def _restore(self) -> None:
        self.session.apply({"type": "restore", "busy": True})
        self.worker.submit(self._job("restore"))

    def close(self) -> None:
        """Let go of the folder."""
        for page in list(self.pages):
            page.leave()
        self.workspace.close()

    # Pages

    def join(self, page: Page, hello: messages.Hello) -> None:
        """A page has connected, or the one it was before has come back."""
        for old in list(self.pages):
            if hello.page and old.id == hello.page:  # its connection is dead, though that is not noticed yet
                page.role = old.role
                self.pages.remove(old)
                old.leave()
        page.id = hello.page or page.id
        if not any(other.role == "writer" for other in self.pages):
            page.role = "writer"
        self.pages.append(page)
        self._welcome(page)

    def part(self, page: Page) -> None:
        """A page is gone."""
        if page in self.pages:
            self.pages.remove(page)
            if page.role == "writer":
                asyncio.get_running_loop().call_later(_AWAY, self._succeed)

    def _succeed(self) -> None:
        """Where the page that wrote has not come back, the one that has looked on longest writes."""
        if self.pages and not any(page.role == "writer" for page in self.pages):
            self.pages[0].role = "writer"
            self.tell_state()

    def _welcome(self, page: Page) -> None:
        workspace, session = self.workspace, self.session
        facts = workspace.facts
        page.tell(
            {
                "type": "welcome",
                "page": page.id,
                "name": self.name,
                "id": facts.id,
                "frames_id": facts.source["fingerprint"][:16],
                "size": list(workspace.size),
                "rate": facts.rate,
                "times": list(facts.times),
                "num_frames": facts.num_frames or workspace.source.num_frames,
                "ready": self.ready,
                "study": self.study,
                "max_points": messages.MAX_POINTS,
            }
        )
        if session.strokes:
            page.tell({"type": "strokes", "strokes": list(session.strokes.values())})
        page.tell(lambda: self._state(page), "state")
        if self.preview:
            page.tell(self._preview_message(), "preview")
        if session.open_round:
            self._tell_progress(page)

    def _state(self, page: Page) -> dict[str, Any]:
        """A snapshot of all but the strokes' points and the masks."""
        session = self.session
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
            "notice": self.notice,
            "can_preview": self.can_preview,
            "can_redo": bool(session.redoable),
            "objects": [asdict(one) for one in session.objects.values()],
            "pending": session.pending,
            "rounds": rounds,
            "shown": _runs(session.shown()),
            "previewed": self.preview[0] if self.preview else None,
            "exporting": self.exporting,
            "satisfied": any(event["event"] == "satisfied" for event in session.study),
            "saved": not self._unsaved,
        }

    def tell_state(self) -> None:
        """All pages get a new snapshot."""
        for page in self.pages:
            page.tell(lambda page=page: self._state(page), "state")  # type: ignore[misc]

    def tell_all(self, content: dict[str, Any], key: Any = None) -> None:
        """All pages get a message."""
        for page in self.pages:
            page.tell(content, key)

    # Messages

    def take(self, page: Page, message: Message) -> None:
        """Do what a page asks for.

        Raises:
            UserError: it cannot be done, and why; nothing has changed.
        """
        if isinstance(message, messages.TakeOver):
            for other in self.pages:
                other.role = "reader"
            page.role = "writer"
            self.tell_state()
            return
        if page.role != "writer":
            raise Refused("another page writes; take over first")
        if not self.session.loaded:
            raise Refused("the video is still being read")
        getattr(self, f"_take_{type(message).__name__.lower()}")(message)
        self.tell_state()

    def _take_drawstroke(self, message: messages.DrawStroke) -> None:
        if message.id in self.session.strokes:  # sent again, for its acknowledgement was lost
            return
        stroke = {name: value for name, value in vars(message).items() if name != "seq"}
        self._record({"type": "stroke", **stroke})
        self.tell_all({"type": "strokes", "strokes": [self.session.strokes[message.id]]})
        self._ask_preview(message.frame)

    def _take_undo(self, message: messages.Undo) -> None:
        if self.session.pending:
            frame = self.session.strokes[self.session.pending[-1]]["frame"]
            self._record({"type": "undo_stroke"})
            self._ask_preview(frame)
        else:
            self._undo_round()

    def _take_undoround(self, message: messages.UndoRound) -> None:
        self._undo_round()

    def _undo_round(self) -> None:
        self._record({"type": "undo_round"})
        self._after_rounds_changed()

    def _take_redo(self, message: messages.Redo) -> None:
        self.session.check({"type": "redo"})
        what, key = self.session.redoable[-1]
        self._record({"type": "redo"})
        if what == "stroke":
            self._ask_preview(self.session.strokes[str(key)]["frame"])
        else:
            self._after_rounds_changed()

    def _after_rounds_changed(self) -> None:
        """The engine follows when it has time; a preview rests on the rounds."""
        pending = self.session.pending
        if pending:
            self._ask_preview(self.session.strokes[pending[-1]]["frame"])
        else:
            self._drop_preview()

    def _take_propagate(self, message: messages.Propagate) -> None:
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
        self._record(event)
        self._run_round(number)

    def _take_continue(self, message: messages.Continue) -> None:
        self.session.check({"type": "continue"})
        number = self.session.active[-1].number
        self._record({"type": "continue"})
        self._run_round(number)

    def _run_round(self, number: int) -> None:
        self._drop_preview()
        one = self.session.rounds[number - 1]
        job = self._job("propagate", before=number)
        job.frame, job.number, job.num_objects = one.frame, number, one.num_objects
        job.strokes = tuple(self.session.strokes[key] for key in one.strokes)  # type: ignore[misc]
        self._total = self._done = 0
        self._began = time.time()
        self.worker.submit(job)
        self.tell_all({"type": "begin", "round": number, "frame": one.frame})

    def _take_stop(self, message: messages.Stop) -> None:
        if not self.session.open_round:
            raise Refused("no round is being propagated")
        self.worker.stop(self.name)

    def _take_addobject(self, message: messages.AddObject) -> None:
        number = self.session.num_objects + 1
        self._record({"type": "add_object", "number": number, "name": message.name})

    def _take_changeobject(self, message: messages.ChangeObject) -> None:
        self._record({"type": "object", **{k: v for k, v in vars(message).items() if k != "seq"}})

    def _take_removeobject(self, message: messages.RemoveObject) -> None:
        self._record({"type": "remove_object", "number": message.number})
        self._after_rounds_changed()

    def _take_study(self, message: messages.Study) -> None:
        if self.study is None:
            raise Refused("this is no user study")
        self._record(
            {"type": "study", "event": message.event, "at": message.at, "round": len(self.session.active)}
        )
        if message.event == "satisfied":
            self.tell_all({"type": "satisfied"})

    def _take_retry(self, message: messages.Retry) -> None:
        if not self.session.failure:
            raise Refused("nothing has failed")
        self._fail("")
        self._restore()

    def _take_hello(self, message: messages.Hello) -> None:
        raise Refused("hello comes once, first of a connection")

    # Jobs and their reports

    def _job(self, kind: Literal["restore", "preview", "propagate"], before: int | None = None) -> Job:
        rounds = [one for one in self.session.active if before is None or one.number < before]
        history = tuple(
            CompletedRound(
                one.number,
                one.frame,
                tuple(self.session.strokes[key] for key in one.strokes),  # type: ignore[misc]
                one.num_objects,
                one.reach if one.status == "stopped" else None,
            )
            for one in rounds
            if one.status != "open"
        )
        return Job(kind, self.workspace, history, self.session.num_objects)

    def _ask_preview(self, frame: int) -> None:
        keys = self.session.pending_on(frame)
        if not keys or not self.can_preview:
            self._drop_preview()
            return
        if self.preview and self.preview[0] != frame:
            self.preview = None
        job = self._job("preview")
        job.frame = frame
        job.strokes = tuple(self.session.strokes[key] for key in keys)  # type: ignore[misc]
        self._sent += 1
        job.number = self._sent
        self.session.apply({"type": "preview", "busy": True})
        # After what is told now has gone out: the network takes all processors.
        asyncio.get_running_loop().call_soon(self.worker.submit, job)

    def _drop_preview(self) -> None:
        self._sent += 1  # one that is at work comes too late
        self.worker.cancel_preview(self.name)
        self.session.apply({"type": "preview", "busy": False})
        self.preview = None

    def report(self, report: dict[str, Any]) -> None:
        """Something the worker has done."""
        getattr(self, f"_report_{report['type']}")(report)

    def _report_restored(self, report: dict[str, Any]) -> None:
        self.session.apply({"type": "restore", "busy": False})
        self.can_preview = report["can_preview"]
        if report["differing"]:
            self.notice = (
                f"{report['differing']} pixels of masks that were made again differ from the saved ones, "
                "which stay"
            )
            log.warning("%s: %s", self.name, self.notice)
        self.tell_state()

    def _report_preview(self, report: dict[str, Any]) -> None:
        if report["round"] != self._sent:
            return
        self.session.apply({"type": "preview", "busy": False})
        if report["data"]:
            self.preview = report["frame"], report["data"]
            for page in self.pages:
                page.tell(self._preview_message(), "preview")
            if self.study is not None:
                self._record({"type": "study", "event": "preview", "at": 0, "seconds": report["seconds"]})
        self.tell_state()

    def _preview_message(self) -> bytes:
        assert self.preview is not None
        frame, data = self.preview
        return pack_mask(PREVIEW, 0, frame, self.workspace.size, data)

    def _report_planned(self, report: dict[str, Any]) -> None:
        low, high = report["planned"]
        self._total = high - low + 1
        self.session.apply({"type": "planned", "round": report["round"], "planned": (low, high)})
        self.tell_state()

    def _report_mask(self, report: dict[str, Any]) -> None:
        number, frame = report["round"], report["frame"]
        self.session.apply({"type": "reached", "round": number, "frame": frame})
        self._done += 1
        self._cache(number, frame, report["data"])
        for page in self.pages:
            page.tell(lambda: self._mask_message(number, frame), ("mask", frame))

    def _mask_message(self, number: int, frame: int) -> bytes:
        data = self.mask(number, frame)
        return pack_mask(MASK, number, frame, self.workspace.size, data, self._done, self._total)

    def _tell_progress(self, page: Page) -> None:
        one = self.session.open_round
        if one is not None:
            page.tell({"type": "begin", "round": one.number, "frame": one.frame})

    def _report_end(self, report: dict[str, Any]) -> None:
        self._end_round(report["round"], (report["lo"], report["hi"]), report["complete"], report)
        self.tell_all({"type": "end", "round": report["round"], "complete": report["complete"]})
        self.tell_state()

    def _end_round(
        self, number: int, reach: tuple[int, int], complete: bool, report: dict[str, Any] | None = None
    ) -> None:
        report = report or {}
        event: Event = {
            "type": "round_end",
            "round": number,
            "lo": reach[0],
            "hi": reach[1],
            "complete": complete,
            "planned": self.session.rounds[number - 1].planned,
            "confidence": report.get("confidence"),
            "seconds": round(report.get("seconds", 0.0), 3),
            "network_seconds": round(report.get("network_seconds", 0.0), 3),
            "server_seconds": round(time.time() - self._began, 3),
        }
        self._record_anyway(event)
        if self.session.pending:
            self._after_rounds_changed()

    def _report_failed(self, report: dict[str, Any]) -> None:
        message, one = report["message"], self.session.open_round
        if report["failed"] == "propagate" and one is not None:
            if one.reach:
                self._end_round(one.number, one.reach, complete=False)
            else:
                self._record_anyway({"type": "round_abort", "round": one.number})
            self.tell_all({"type": "end", "round": one.number, "complete": False})
            self.tell_all({"type": "error", "seq": -1, "message": f"round {one.number}: {message}"})
        elif report["failed"] == "preview":
            if report["round"] == self._sent:
                self.session.apply({"type": "preview", "busy": False})
            self.tell_all({"type": "error", "seq": -1, "message": f"preview: {message}"})
        else:
            self.session.apply({"type": "restore", "busy": False})
            self._fail(message)
        self.tell_state()

    def _fail(self, message: str) -> None:
        self.session.apply({"type": "failure", "message": message})
        if message:
            log.error("%s: %s", self.name, message)
            print(f"error: {self.name}: {message}", flush=True)
        self.tell_state()

    # What is kept

    def _record(self, *events: Event) -> None:
        """Events count once they are on disk."""
        for event in events:
            self.session.check(event)
        self.workspace.journal.append(*self._unsaved, *events)
        self._unsaved.clear()
        for event in events:
            self.session.apply(event)

    def _record_anyway(self, event: Event) -> None:
        """Of what has happened already: it counts, and goes to disk before the next event at the latest."""
        try:
            self._record(event)
        except JournalError as error:
            self.session.apply(event)
            self._unsaved.append(event)
            self.tell_all({"type": "error", "seq": -1, "message": str(error)})

    def mask(self, number: int, frame: int) -> bytes:
        """Packed labels of a frame in a round.

        Raises:
            DataError: there are none.
        """
        key = number, frame
        if key not in self._masks:
            self._cache(number, frame, pack_labels(self.workspace.read_mask(number, frame)))
        self._masks.move_to_end(key)
        return self._masks[key]

    def _cache(self, number: int, frame: int, data: bytes) -> None:
        old = self._masks.pop((number, frame), b"")
        self._masks[number, frame] = data
        self._kept += len(data) - len(old)
        while self._kept > _CACHED and len(self._masks) > 1:
            self._kept -= len(self._masks.popitem(last=False)[1])


def _runs(values: list[int]) -> list[list[int]]:
    """Run lengths: [value, count], ..."""
    runs: list[list[int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1][1] += 1
        else:
            runs.append([value, 1])
    return runs
