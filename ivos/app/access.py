"""Access control: the server answers only requests that contain its token and come from its own pages."""

import hmac
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ivos.runtime.errors import UserError

LOCAL = ("localhost", "127.0.0.1", "[::1]")


def token_of(root: Path) -> str:
    """Return the access token for the workspaces in a folder, which stays the same after a restart.

    Raises:
        UserError: The file of the token can neither be read nor created.
    """
    path = root / ".token"
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(handle, "w") as file:
                file.write(secrets.token_urlsafe(24))
        token = path.read_text().strip()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name a writable folder with workspace=FOLDER") from error
    if len(token) < 16:
        raise UserError(f"{path}: does not contain a token; delete the file, and ivos creates a new token")
    return token


class Access:
    """ASGI middleware that checks host, origin and token, and adds the security headers to every answer.

    If the address of a request contains the token, the answer sets a cookie and redirects to the address
    without the token. The name of the cookie contains the server's port, because browsers share cookies
    between ports.

    Browsers send the cookie also when the user follows a link from another site (SameSite=Lax), so that the
    printed address works in a notebook or a chat. A request that changes something also needs an Origin
    header that names this server.

    Args:
        app: The application to protect.
        token: The secret that a request has to contain.
        port: Port on which the server listens; behind a tunnel the browser sees another one.
        hosts: Host names under which browsers may address the server, besides the local ones.
    """

    def __init__(self, app: ASGIApp, token: str, port: int, hosts: Iterable[str] = ()) -> None:
        self.app, self.token, self.cookie = app, token, f"ivos-{port}"
        self.hosts = {*LOCAL, *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with status 403."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        host = headers.get("host", "")
        refusal = self._refusal(scope, headers, host)
        if refusal is not None:
            await self._answer(refusal, scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_headers(host)]
            await send(message)

        await self.app(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: dict[str, str], host: str) -> Response | None:
        if _without_port(host) not in self.hosts:
            return _refuse(
                f"the host {host[:80]!r} is not allowed; open the address that the server has printed, or "
                "start the server with allowed_hosts=[NAME]"
            )
        origin = headers.get("origin")
        unsafe = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if unsafe and (origin is None or _host_of(origin) != host.lower()):
            return _refuse(
                f"a request from the page of another site ({(origin or 'none')[:80]}) is not answered"
            )
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        given = query.pop("token", [""])[-1]
        if given and scope["type"] == "http":
            if not self._knows(given):
                return _refuse("wrong token; open the address that the server has printed")
            target = scope["path"] + (f"?{urlencode(query, doseq=True)}" if query else "")
            answer = RedirectResponse(target if not target.startswith("//") else "/", 303)
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="lax", max_age=90 * 86400)
            return answer
        if not self._knows(_cookie(headers.get("cookie", ""), self.cookie)):
            return _refuse("no token; open the address that the server has printed, which contains ?token=")
        return None

    def _knows(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self.token.encode())

    async def _answer(self, response: Response, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            # The connection is closed before it is accepted, so that the client gets HTTP 403.
            await send({"type": "websocket.close", "code": 1008})
            return
        response.headers["Cache-Control"] = "no-store"
        response.headers["Referrer-Policy"] = "no-referrer"
        await response(scope, receive, send)


def _cookie(header: str, name: str) -> str:
    """Return the value of a cookie, or nothing if it is missing.

    Cookies that other programs on this host have set may be malformed and are skipped.
    """
    for part in header.split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value.strip('"')
    return ""


def _host_of(origin: str) -> str:
    """Return the host and port of an Origin header, or nothing if it is malformed."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _refuse(text: str) -> Response:
    return PlainTextResponse(f"error: {text}\n", 403)


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return (name if port.isdigit() else host).lower()


def _headers(host: str) -> list[tuple[bytes, bytes]]:
    """Return the security headers of every answer.

    They forbid the page to load content from other sites, and other sites to embed the page.
    """
    policy = (
        f"default-src 'self'; img-src 'self' blob: data:; connect-src 'self' ws://{host} wss://{host}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
