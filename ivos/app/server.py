"""The HTTP and WebSocket server of the annotation app, and the start-up of its parts."""

import asyncio
import contextlib
import json
import logging
import re
import socket
import threading
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from ivos.app import messages
from ivos.app.access import Access
from ivos.app.export import FORMATS, Export, archive, export
from ivos.app.importing import MAX_BYTES
from ivos.app.open_session import OpenSession
from ivos.app.pages import Page, Payload
from ivos.app.worker import Worker, one_line
from ivos.app.workspace import Workspace
from ivos.runtime.errors import UserError
from ivos.video.files import DataError

if TYPE_CHECKING:
    from ivos.engine import Segmenter

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_IMPORT_DELAY = 3.0  # seconds after which PyTorch is imported even if no page has connected


@dataclass
class Settings:
    """Address and access control of the server, and initial settings of its sessions.

    Attributes:
        host: Address on which the server listens.
        port: Port on which the server listens; 0 for any free port.
        token: Access token; see :mod:`ivos.app.access`.
        allowed_hosts: Host names under which browsers may address the server.
        open_browser: Whether to open the page in a browser on this machine.
        num_objects: Initial number of objects of a new session, by the name of the workspace; the default is
            1.
        study: Options of a user study that the page needs, by the name of the workspace.
        after_study: Function that is called in a thread when a participant is satisfied with a video.
        classes: Names that the page offers for objects.
        find_new: Function that returns the workspaces of videos added since the last call. Its argument is
            the set of the names of the known workspaces.
        upload: Function that creates a workspace from an uploaded file. Its arguments are the file's name,
            its content and the names of the known workspaces. None if uploads are not allowed.
        max_upload: Largest size of an upload in bytes.
    """

    token: str
    host: str = "127.0.0.1"
    port: int = 8765
    allowed_hosts: Sequence[str] = ()
    open_browser: bool = False
    num_objects: dict[str, int] = field(default_factory=dict)
    study: dict[str, dict[str, Any]] = field(default_factory=dict)
    after_study: Callable[[Workspace], None] | None = None
    classes: Sequence[str] = ()
    find_new: Callable[[set[str]], list[Workspace]] | None = None
    upload: Callable[[str, bytes, set[str]], Workspace] | None = None
    max_upload: int = 2 << 30


class Server:
    """A server of annotation sessions.

    Args:
        workspaces: Workspaces to serve.
        make_segmenter: Function that creates a segmenter; see :class:`ivos.app.worker.Worker`.
        settings: Settings of the server.
        live: Largest number of segmenters that are kept in memory at the same time.
    """

    def __init__(
        self,
        workspaces: Sequence[Workspace],
        make_segmenter: "Callable[[], Segmenter]",
        settings: Settings,
        live: int = 2,
    ) -> None:
        self.settings = settings
        self.worker = Worker(make_segmenter, self._post, live)
        self.sessions: dict[str, OpenSession] = {}
        for one in workspaces:
            self.add(one)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._first_page = asyncio.Event()
        self._static = {path.name: path.read_bytes() for path in STATIC.iterdir() if path.suffix in _TYPES}

    def add(self, workspace: Workspace) -> OpenSession:
        """Add a video, also while the server runs."""
        settings, name = self.settings, workspace.name
        count = settings.num_objects.get(name, 1)
        study = settings.study.get(name)
        opened = OpenSession(workspace, self.worker, count, study, settings.classes)
        self.sessions[name] = opened
        opened.peek()
        return opened

    # Running

    def run(self) -> None:
        """Serve until the process is interrupted.

        Raises:
            UserError: The port is in use, or the address does not belong to this machine.
        """
        settings = self.settings
        sock = listen(settings.host, settings.port)
        port = sock.getsockname()[1]
        config = uvicorn.Config(
            self.app(port),
            log_level="warning",
            access_log=False,
            ws="websockets-sansio",
            ws_max_size=messages.MAX_MESSAGE,
            ws_ping_timeout=120.0,  # on a slow connection, masks can delay the answer to a ping
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=2,
            lifespan="on",
        )
        server = uvicorn.Server(config)
        try:
            server.run(sockets=[sock])
        finally:
            self.worker.end()
            for opened in self.sessions.values():
                opened.close()

    def app(self, port: int) -> Starlette:
        """Return the application behind its access control."""
        where = "/w/{name}"
        routes = [
            Route("/", self._home),
            Route("/static/{file}", self._file),
            Route("/sessions", self._list_sessions),
            Route("/upload", self._upload, methods=["POST"]),
            Route("/archive/{kind}", self._archive, methods=["POST"]),
            Route(where + "/", self._page),
            Route(where + "/frames/{id}/{frame:int}.jpg", self._frame),
            Route(where + "/masks/{id}/{shown}/{frame:int}", self._mask),
            Route(where + "/truth", self._truth),
            Route(where + "/export", self._export, methods=["POST"]),
            Route(where + "/thumbnail.jpg", self._thumbnail),
            Route(where + "/import", self._import, methods=["POST"]),
            Route(where + "/exports/{file}", self._exported),
            WebSocketRoute(where + "/ws", self._connect),
        ]
        guard = Middleware(Access, token=self.settings.token, port=port, hosts=self.settings.allowed_hosts)
        self._port = port
        return Starlette(
            routes=routes,
            middleware=[guard],
            lifespan=self._lifespan,
            exception_handlers={HTTPException: _plain},
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self._open_sessions()
        self._start(self._begin_work())
        self._announce()
        yield
        for task in self._tasks:
            task.cancel()
        for opened in self.sessions.values():
            for page in opened.pages:
                page.disconnect()

    def _announce(self) -> None:
        host = self.settings.host
        shown = "127.0.0.1" if host in ("0.0.0.0", "localhost") else f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{self._port}/?token={self.settings.token}"
        print(f"Annotate at {address}", flush=True)
        if self.settings.open_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    def _open_sessions(self) -> None:
        """Open a single video at once; several videos are opened when their first pages connect."""
        if len(self.sessions) == 1:
            next(iter(self.sessions.values())).start_opening()

    async def _begin_work(self) -> None:
        """Start the worker after the first page was served, because importing PyTorch takes seconds."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._first_page.wait(), _IMPORT_DELAY)
            await asyncio.sleep(0.5)
        self.worker.start()

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_log_failure)

    def _post(self, name: str, report: dict[str, Any]) -> None:
        """Hand a report from one of the worker's threads over to the event loop."""
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # the event loop is being closed
                self._loop.call_soon_threadsafe(self._report, name, report)

    def _report(self, name: str, report: dict[str, Any]) -> None:
        self.sessions[name].jobs.report(report)

    # Pages and files

    def _session(self, request: Request | WebSocket) -> OpenSession:
        opened = self.sessions.get(request.path_params["name"])
        if opened is None:
            raise HTTPException(404, "there is no such session")
        return opened

    async def _home(self, request: Request) -> Response:
        if len(self.sessions) == 1:
            return RedirectResponse(f"/w/{next(iter(self.sessions))}/", 303)
        return self._static_file("home.html")

    async def _list_sessions(self, request: Request) -> Response:
        if self.settings.find_new is not None:
            for workspace in await asyncio.to_thread(self.settings.find_new, set(self.sessions)):
                if workspace.name not in self.sessions:
                    self.add(workspace)
        listed = [opened.summary() for opened in self.sessions.values()]
        headers = {"Cache-Control": "no-store", "X-Uploads": "yes" if self.settings.upload else "no"}
        return JSONResponse(listed, headers=headers)

    async def _thumbnail(self, request: Request) -> Response:
        """Send a small picture of the first frame; the video need not be decoded yet."""
        opened = self._session(request)
        try:
            path = await asyncio.to_thread(opened.workspace.thumbnail)
        except (UserError, OSError) as error:
            raise HTTPException(404, one_line(error)) from error
        return FileResponse(path, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    async def _upload(self, request: Request) -> Response:
        """Add a video that the browser uploads, if uploads are allowed."""
        upload = self.settings.upload
        if upload is None:
            raise HTTPException(403, "uploads are off; start the server with uploads=true")
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", request.query_params.get("name", "")).strip(".-")
        if not name:
            raise HTTPException(400, "name: the name of the file is missing")
        content = await _read_body(request, self.settings.max_upload)
        try:
            workspace = await asyncio.to_thread(upload, name, content, set(self.sessions))
        except (UserError, OSError) as error:
            raise HTTPException(400, one_line(error)) from error
        return JSONResponse({"name": self.add(workspace).name}, 201)

    async def _page(self, request: Request) -> Response:
        self._session(request)
        return self._static_file("index.html")

    async def _file(self, request: Request) -> Response:
        return self._static_file(request.path_params["file"])

    def _static_file(self, name: str) -> Response:
        if name not in self._static:
            raise HTTPException(404, "there is no such file")
        headers = {"Cache-Control": "no-cache"}
        return Response(self._static[name], media_type=_TYPES[Path(name).suffix], headers=headers)

    async def _frame(self, request: Request) -> Response:
        opened, frame = self._session(request), request.path_params["frame"]
        metadata = opened.workspace.metadata
        count = metadata.num_frames or opened.workspace.source.num_frames or frame + 1
        if request.path_params["id"] != metadata.source["fingerprint"][:16] or not 0 <= frame < count:
            raise HTTPException(404, "there is no such frame")
        path = opened.workspace.frame_file(frame)
        if not path.exists():
            raise HTTPException(404, "this frame has not been decoded yet")
        forever = {"Cache-Control": "private, max-age=31536000, immutable"}
        return FileResponse(path, media_type="image/jpeg", headers=forever)

    async def _mask(self, request: Request) -> Response:
        opened, params = self._session(request), request.path_params
        session, shown = opened.session, params["shown"]
        is_edit = shown in session.edits
        if not is_edit and (not shown.isascii() or not shown.isdigit() or len(shown) > 9):
            raise HTTPException(404, "there is no such mask")
        if params["id"] != opened.workspace.metadata.id or not (
            is_edit or 1 <= int(shown) <= len(session.rounds)
        ):
            raise HTTPException(404, "there is no such round")
        try:
            key = shown if is_edit else int(shown)
            data = opened.jobs.packed.find((key, params["frame"]))
            if data is None:  # decode in a thread, because all connections would wait for it
                data = await asyncio.to_thread(opened.jobs.mask, key, params["frame"])
        except (DataError, KeyError) as error:
            raise HTTPException(404, "there is no such mask") from error
        headers = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(data, media_type="application/octet-stream", headers=headers)

    async def _truth(self, request: Request) -> Response:
        """Send the ground-truth mask of the first frame, if the user study shows it."""
        opened = self._session(request)
        shown = opened.study and opened.study["show_truth"]
        mask = await asyncio.to_thread(opened.workspace.source.read_mask, 0) if shown else None
        if mask is None:
            raise HTTPException(404, "ground-truth masks are not shown")
        data = messages.pack_labels(mask)
        return Response(data, media_type="application/octet-stream", headers={"Cache-Control": "no-store"})

    # Export

    async def _export(self, request: Request) -> Response:
        opened = self._session(request)
        body = await _read_body(request, 4096)
        try:
            content = json.loads(body)
            kind, chosen = content["format"], content.get("object", 0)
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise HTTPException(400, 'the request must be {"format": NAME}') from error
        if not isinstance(kind, str) or kind not in FORMATS:
            raise HTTPException(400, f"format: not one of {', '.join(FORMATS)}")
        if opened.exporting:
            raise HTTPException(409, "an export is being written already")
        if not opened.session.loaded:
            raise HTTPException(409, "the video is still being read")
        opened.exporting = kind
        opened.broadcast_state()
        self._start(self._write_export(opened, kind, chosen if isinstance(chosen, int) else 0))
        return JSONResponse({"format": kind}, 202)

    async def _import(self, request: Request) -> Response:
        """Import the masks of a file that the page uploads."""
        opened, query = self._session(request), request.query_params
        content = await _read_body(request, MAX_BYTES)
        shown = query.get("frame", "0")
        if not shown.isascii() or not shown.isdigit() or len(shown) > 7:
            raise HTTPException(400, "frame: a whole number is needed")
        try:
            count = await opened.import_masks(
                content, query.get("name", "file")[:200], int(shown), query.get("as") != "proposals"
            )
        except UserError as error:
            raise HTTPException(400, str(error)) from error
        return JSONResponse({"frames": count})

    async def _write_export(self, opened: OpenSession, kind: str, chosen: int) -> None:
        loop = asyncio.get_running_loop()

        def progress(done: int, total: int) -> None:
            content = {"type": "exporting", "format": kind, "done": done, "total": total}
            loop.call_soon_threadsafe(opened.pages.broadcast, content, "exporting")

        try:
            job = Export.of(opened.workspace, opened.session, chosen)
            path, warning = await asyncio.to_thread(export, kind, job, progress)
            where = {"file": path.name, "folder": str(path.parent), "warning": warning}
            opened.pages.broadcast({"type": "exported", "format": kind, **where})
        except Exception as error:  # the page shows the error, and the server continues
            if not isinstance(error, (UserError, OSError)):
                log.exception("export of %s failed", opened.name)
            message = f"export: {one_line(error)}"
            opened.pages.broadcast({"type": "error", "seq": -1, "format": kind, "message": message})
        finally:
            opened.exporting = ""
            opened.broadcast_state()

    async def _exported(self, request: Request) -> Response:
        opened, name = self._session(request), request.path_params["file"]
        there = {p.name: p for p in (opened.workspace.folder / "exports").iterdir() if p.is_file()}
        if name not in there or name.startswith("."):
            raise HTTPException(404, "there is no such export")
        return FileResponse(there[name], filename=name, headers={"Cache-Control": "no-store"})

    async def _archive(self, request: Request) -> Response:
        """Write the exports of all videos with masks into one ZIP file, and send it."""
        kind = request.path_params["kind"]
        if kind not in FORMATS:
            raise HTTPException(404, "there is no such format")
        jobs = [
            Export.of(one.workspace, one.session)
            for one in self.sessions.values()
            if one.session.num_frames and one.session.active
        ]
        if not jobs:
            raise HTTPException(409, "no video has a mask yet")
        folder = jobs[0].workspace.folder.parent
        try:
            path = await asyncio.to_thread(archive, kind, jobs, folder / f"all-{kind}.zip")
        except (UserError, OSError) as error:
            raise HTTPException(500, one_line(error)) from error
        return FileResponse(path, filename=path.name, headers={"Cache-Control": "no-store"})

    # Connections

    async def _connect(self, socket: WebSocket) -> None:
        opened = self.sessions.get(socket.path_params["name"])
        if opened is None:
            await socket.close(1008)
            return
        await socket.accept()
        page = Page()
        pump = asyncio.ensure_future(self._send_waiting(socket, page))
        pump.add_done_callback(_log_failure)
        try:
            while True:
                received = await socket.receive()
                if received["type"] == "websocket.disconnect":
                    break
                text = received.get("text")
                self._handle_text(opened, page, text if text is not None else received.get("bytes") or b"")
        except (WebSocketDisconnect, RuntimeError):  # RuntimeError: _send_waiting closed the socket
            pass
        finally:
            opened.leave(page)
            pump.cancel()

    def _handle_text(self, opened: OpenSession, page: Page, text: str | bytes) -> None:
        try:
            message = messages.parse(text)
            if isinstance(message, messages.Hello) and page not in opened.pages:
                opened.join(page, message)
                self._first_page.set()
            elif page not in opened.pages:
                raise messages.MessageError("the first message of a connection must be 'hello'")
            else:
                work = opened.handle(page, message)
                if isinstance(message, messages.Study) and message.event == "satisfied":
                    self._start(self._score(opened))
                if work is not None:
                    self._start(self._acknowledge(page, message.seq, work))
                    return
            page.send({"type": "ack", "seq": message.seq})
        except Exception as error:  # the page shows any error, and its connection stays
            seq = messages.sequence_number(text) if len(text) <= messages.MAX_MESSAGE else -1
            _send_error(page, seq, error)

    async def _acknowledge(self, page: Page, seq: int, work: Awaitable[None]) -> None:
        """Acknowledge a message after the work that it started is done."""
        try:
            await work
            page.send({"type": "ack", "seq": seq})
        except Exception as error:
            _send_error(page, seq, error)

    async def _score(self, opened: OpenSession) -> None:
        if self.settings.after_study is not None:
            await asyncio.to_thread(self.settings.after_study, opened.workspace)

    async def _send_waiting(self, socket: WebSocket, page: Page) -> None:
        async def send(content: Payload) -> None:
            if isinstance(content, bytes):
                await socket.send_bytes(content)
            else:
                text = content if isinstance(content, str) else json.dumps(content, separators=(",", ":"))
                await socket.send_text(text)

        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await page.send_waiting(send)
            await socket.close(1013)


async def _read_body(request: Request, most: int) -> bytes:
    """Return the body of a request.

    Raises:
        HTTPException: The body has more than `most` bytes; the status is 413.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise HTTPException(413, "the request is too long")
    return bytes(body)


def _send_error(page: Page, seq: int, error: Exception) -> None:
    if not isinstance(error, (UserError, OSError)):
        log.error("a message could not be handled", exc_info=error)
    page.send({"type": "error", "seq": seq, "message": one_line(error)})


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address and port.

    Raises:
        UserError: The port is in use, or the address does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(128)
    except (OSError, OverflowError) as error:
        sock.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"port={port}: cannot listen on {host} at this port ({reason}); port=0 takes any free port"
        ) from error
    return sock


def _plain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(f"error: {error.detail}\n", error.status_code)


def _log_failure(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("a task of the server failed", exc_info=task.exception())
