"""Submission of a session's jobs (restoring, previews, rounds) to the worker, and handling of its reports."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ivos.app.mask_cache import MaskCache
from ivos.app.masks import SessionMasks
from ivos.app.messages import MASK, PREVIEW, pack_labels, pack_mask, unpack_labels
from ivos.app.pages import Page, Pages
from ivos.app.recorder import Recorder
from ivos.app.session import Event, Round, Shown
from ivos.app.worker import CompletedRound, Job, Worker

log = logging.getLogger(__name__)


class SessionJobs:
    """The jobs of one session and their results.

    Args:
        recorder: Session and its journal.
        worker: Worker that runs the jobs.
        pages: Pages that receive the results.
        broadcast_state: Function that sends the changes of the session's state to all pages.
        study: Whether the session is part of a user study, in which the seconds of previews are recorded.
    """

    def __init__(
        self,
        recorder: Recorder,
        worker: Worker,
        pages: Pages,
        broadcast_state: Callable[[], None],
        study: bool = False,
    ) -> None:
        self.recorder, self.worker, self.pages = recorder, worker, pages
        self.workspace = recorder.workspace
        self.can_preview = True
        self.prompts = ["strokes"]  # kinds of prompts that the segmenter accepts, known after a restore
        self.preview: tuple[int, bytes] | None = None  # frame and packed labels of the current preview
        self.notice = ""  # message about differences that the last restore has found
        self.masks = SessionMasks(recorder.workspace, lambda: recorder.session)
        self.packed = MaskCache()
        self._broadcast_state, self._study = broadcast_state, study
        self._total = self._done = 0  # numbers of planned and of finished frames of the open round
        self._began = 0.0
        self._latest_preview = 0  # number of the preview that was requested last

    # Submission of jobs

    def restore(self) -> None:
        """Submit a job that runs those rounds again which the segmenter has not run."""
        session = self.recorder.session
        session.apply({"type": "restore", "busy": True})
        job = self._job("restore")
        if session.pending:  # for a very long video, restore the part that the user annotates
            job.frame = session.strokes[session.pending[-1]]["frame"]
        elif job.history:
            job.frame = job.history[-1].frame
        self.worker.submit(job)

    def ask_preview(self, frame: int) -> None:
        """Submit a preview of a frame with its pending strokes, which replaces earlier previews."""
        session = self.recorder.session
        keys = session.new_strokes(frame)
        if not keys or not self.can_preview:
            self.drop_preview()
            return
        if self.preview and self.preview[0] != frame:
            self.preview = None
        job = self._job("preview")
        job.frame, job.alone = frame, not session.loaded
        job.strokes = tuple(session.strokes[key] for key in keys)  # type: ignore[misc]
        job.current, job.locked = self.masks.current(frame), tuple(session.locks.objects_on(frame))
        self._latest_preview += 1
        job.number = self._latest_preview
        session.apply({"type": "preview", "busy": True})
        # Let the event loop send the queued messages first, because the network uses all CPU cores.
        asyncio.get_running_loop().call_soon(self.worker.submit, job)

    def drop_preview(self) -> None:
        """Drop the current preview, and ignore the result of one that is being computed."""
        self._latest_preview += 1
        self.worker.cancel_preview(self.workspace.name)
        self.recorder.session.apply({"type": "preview", "busy": False})
        self.preview = None

    def refresh_preview(self) -> None:
        """Compute the preview again after a change of the rounds on which it depends."""
        session = self.recorder.session
        if session.pending:
            self.ask_preview(session.strokes[session.pending[-1]]["frame"])
        else:
            self.drop_preview()

    def run_round(self, number: int) -> None:
        """Propagate a round that the session has begun or continued."""
        self.drop_preview()
        session = self.recorder.session
        one = session.rounds[number - 1]
        job = self._job("propagate", before=number)
        job.frame, job.number, job.num_objects = one.frame, number, one.num_objects
        job.limits, job.adopt, job.merged = one.limits, one.adopted, one.merged
        job.written, job.guarded = one.reach, frozenset(one.guarded)
        self._annotation(job, one)
        job.guards = {
            frame: (shown, tuple(locked))
            for frame in session.locks.frames_with_objects()
            if (locked := session.locks.objects_on(frame)) and (shown := session.layer(frame)) != number
        }
        self._total = self._done = 0
        self._began = time.time()
        self.worker.submit(job)
        self.pages.broadcast(self.begin_message(number))

    def _annotation(self, job: Job, one: Round) -> None:
        """Set the strokes or the mask from which a job starts its round.

        For a round that is continued and started from a mask, this mask is read from disk.
        """
        session = self.recorder.session
        keys = one.used_strokes
        if one.reach is not None and one.adopted:
            job.current, job.adopt, keys = self.workspace.read_mask(one.number, one.frame), True, []
        elif one.reach is None:
            job.current = self.masks.current(one.frame)
            job.locked = tuple(session.locks.objects_on(one.frame))
            job.adopt = job.adopt or bool(session.chain(one.frame))
        job.strokes = tuple(session.strokes[key] for key in keys)  # type: ignore[misc]

    def stop(self) -> None:
        """Stop the open round after the frame that is being computed."""
        self.worker.stop(self.workspace.name)

    def _job(self, kind: Literal["restore", "preview", "propagate"], before: int | None = None) -> Job:
        session = self.recorder.session
        rounds = [one for one in session.active if before is None or one.number < before]
        history = tuple(
            CompletedRound(
                one.number,
                one.frame,
                tuple(session.strokes[key] for key in one.used_strokes),  # type: ignore[misc]
                one.num_objects,
                one.reach if one.status == "stopped" or one.limits else None,
                one.adopted,
                frozenset(one.guarded),
                one.merged,
            )
            for one in rounds
            if one.status != "open" and one.kind == "propagation"
        )
        return Job(kind, self.workspace, history, session.num_objects)

    # Messages

    def begin_message(self, number: int) -> dict[str, Any]:
        """Return the message that a round has begun."""
        return {"type": "begin", "round": number, "frame": self.recorder.session.rounds[number - 1].frame}

    def preview_message(self) -> bytes:
        """Return the binary message of the current preview, which must exist."""
        assert self.preview is not None
        frame, data = self.preview
        return pack_mask(PREVIEW, self._latest_preview, frame, self.workspace.size, data)

    def preview_labels(self, frame: int, base: str) -> NDArray[np.uint8] | None:
        """Return the labels [h, w] of the preview ``preview:NUMBER``, or None if it is not the latest."""
        if self.preview is None or self.preview[0] != frame or base != f"preview:{self._latest_preview}":
            return None
        return unpack_labels(self.preview[1], self.workspace.size).copy()

    def mask(self, shown: Shown, frame: int) -> bytes:
        """Return the packed labels of a frame in a round, or after an edit and the edits before it.

        Args:
            shown: Number of the round, or id of the edit.
            frame: Frame of the mask.

        Raises:
            DataError: The round has no mask of the frame.
            KeyError: The edit does not exist.
        """
        return self.packed.get((shown, frame), lambda: pack_labels(self.masks.read(shown, frame)))

    def _mask_message(self, number: int, frame: int) -> bytes:
        data = self.mask(number, frame)
        return pack_mask(MASK, number, frame, self.workspace.size, data, self._done, self._total)

    # Reports

    def report(self, report: dict[str, Any]) -> None:
        """Handle a report of the worker by the method for its `type`."""
        getattr(self, f"_report_{report['type']}")(report)

    def _report_restoring(self, report: dict[str, Any]) -> None:
        content = {"type": "restoring", "done": report["done"], "total": report["total"]}
        self.pages.broadcast(content, "restoring")

    def _report_restored(self, report: dict[str, Any]) -> None:
        self.recorder.session.apply({"type": "restore", "busy": False})
        self.can_preview, self.prompts = report["can_preview"], report["prompts"]
        if report["differing"]:
            self.notice = (
                f"{report['differing']} pixels of recomputed masks differ from the saved ones, which are kept"
            )
            log.warning("%s: %s", self.workspace.name, self.notice)
        self._broadcast_state()

    def _report_preview(self, report: dict[str, Any]) -> None:
        if report["round"] != self._latest_preview:
            return
        self.recorder.session.apply({"type": "preview", "busy": False})
        if report["data"]:
            self.preview = report["frame"], report["data"]
            for page in self.pages:
                page.send(self.preview_message(), "preview")
            if self._study:
                event = {"type": "study", "event": "preview", "at": 0, "seconds": report["seconds"]}
                self.recorder.record(event)
        self._broadcast_state()

    def _report_planned(self, report: dict[str, Any]) -> None:
        low, high = report["planned"]
        self._total = high - low + 1
        known = self.recorder.session.rounds[report["round"] - 1]
        try:
            if (report["adopted"], report["merged"]) != (known.adopted, known.merged):
                kind = {"adopted": report["adopted"], "merged": report["merged"]}
                self.recorder.record_fact({"type": "annotated", "round": report["round"], **kind})
        finally:
            report["recorded"].set()
        event = {"type": "planned", "round": report["round"], "planned": (low, high)}
        self.recorder.session.apply(event)
        self._broadcast_state()

    def _report_mask(self, report: dict[str, Any]) -> None:
        number, frame = report["round"], report["frame"]
        self.recorder.session.apply({"type": "reached", "round": number, "frame": frame})
        self._done += 1
        self.packed.put((number, frame), report["data"])
        for page in self.pages:
            page.send(lambda: self._mask_message(number, frame), ("mask", frame))

    def _report_end(self, report: dict[str, Any]) -> None:
        self._end_round(report["round"], (report["lo"], report["hi"]), report["complete"], report)
        self.pages.broadcast({"type": "end", "round": report["round"], "complete": report["complete"]})
        self._broadcast_state()

    def _end_round(
        self, number: int, reach: tuple[int, int], complete: bool, report: dict[str, Any] | None = None
    ) -> None:
        report = report or {}
        session = self.recorder.session
        event: Event = {
            "type": "round_end",
            "round": number,
            "lo": reach[0],
            "hi": reach[1],
            "complete": complete,
            "planned": session.rounds[number - 1].planned,
            "confidence": report.get("confidence"),
            "adopted": report.get("adopted", session.rounds[number - 1].adopted),
            "merged": report.get("merged", session.rounds[number - 1].merged),
            "seconds": round(report.get("seconds", 0.0), 3),
            "network_seconds": round(report.get("network_seconds", 0.0), 3),
            "server_seconds": round(time.time() - self._began, 3),
        }
        self.recorder.record_fact(event)
        if session.pending:
            self.refresh_preview()

    def _report_failed(self, report: dict[str, Any]) -> None:
        session, message = self.recorder.session, report["message"]
        one = session.open_round
        if report["failed"] == "propagate" and one is not None:
            if one.reach:
                self._end_round(one.number, one.reach, complete=False)
            else:
                self.recorder.record_fact({"type": "round_abort", "round": one.number})
            self.pages.broadcast({"type": "end", "round": one.number, "complete": False})
            self._send_error(f"round {one.number}: {message}")
        elif report["failed"] == "preview":
            if report["round"] == self._latest_preview:
                session.apply({"type": "preview", "busy": False})
            self._send_error(f"preview: {message}")
        else:
            session.apply({"type": "restore", "busy": False})
            self.set_failure(message)
        self._broadcast_state()

    def set_failure(self, message: str) -> None:
        """Set the message that the network or the video is not available; an empty message clears it."""
        self.recorder.session.apply({"type": "failure", "message": message})
        if message:
            log.error("%s: %s", self.workspace.name, message)
            print(f"error: {self.workspace.name}: {message}", flush=True)
        self._broadcast_state()

    def _send_error(self, message: str) -> None:
        self.pages.broadcast({"type": "error", "seq": -1, "message": message})

    def welcome(self, page: Page) -> None:
        """Send the current preview and the beginning of the open round to a page that has just connected."""
        if self.preview:
            page.send(self.preview_message(), "preview")
        one = self.recorder.session.open_round
        if one is not None:
            page.send(self.begin_message(one.number))
