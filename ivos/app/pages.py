"""The browser pages that are connected to a session, and what waits to be sent to each of them."""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

SUCCESSION_SECONDS = 3.0
"""How long the page that writes may be disconnected before another page writes."""

_MAX_WAITING = 20_000  # messages a page may be behind before it is disconnected; a frame's masks count once
Payload = str | bytes | dict[str, Any]
Content = Callable[[], Payload] | Payload


@dataclass(eq=False)
class Page:
    """A connected browser page with its queue of messages, so that a slow page does not delay others.

    Attributes:
        id: the name that the server gave the page; it survives a lost connection.
        role: one page writes, all others only read.
        waiting: messages that have not been sent, by their keys.
        wake: set when there is something to send.
        changed_rounds: numbers of the rounds whose present description the page does not have.
        changed_frames: the first and the last frame of which the page may not know what they show.
        sent: the parts of the state that were sent last and are only sent again when they have changed.
        lost: whether the page is too far behind or was replaced, and has to be disconnected.
    """

    id: str = field(default_factory=lambda: secrets.token_urlsafe(8))
    role: Literal["writer", "reader"] = "reader"
    waiting: "OrderedDict[Any, Content]" = field(default_factory=OrderedDict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    changed_rounds: set[int] = field(default_factory=set)
    changed_frames: tuple[int, int] | None = None
    sent: dict[str, Any] = field(default_factory=dict)
    lost: bool = False
    _number: int = 0

    def note_changes(self, rounds: Iterable[int], frames: tuple[int, int] | None) -> None:
        """Note rounds and frames that the next state has to describe."""
        self.changed_rounds.update(rounds)
        if frames and self.changed_frames:
            frames = min(frames[0], self.changed_frames[0]), max(frames[1], self.changed_frames[1])
        self.changed_frames = frames or self.changed_frames

    def send(self, content: Content, key: Any = None) -> None:
        """Queue a message.

        Args:
            content: the message, or a function that is called for it when it is sent.
            key: a newer message of the same key replaces an older one that is still waiting.
        """
        if key is None:
            self._number += 1
            key = ("message", self._number)
        self.waiting.pop(key, None)
        self.waiting[key] = content
        self.lost = self.lost or len(self.waiting) > _MAX_WAITING
        self.wake.set()

    def disconnect(self) -> None:
        """End the connection."""
        self.lost = True
        self.wake.set()

    async def send_waiting(self, send: Callable[[Payload], Awaitable[None]]) -> None:
        """Send what waits, in order, until the page is lost."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            while self.waiting and not self.lost:
                _, content = self.waiting.popitem(last=False)
                await send(content() if callable(content) else content)
            if self.lost:
                return


class Pages(list[Page]):
    """The pages of a session, at most one of which writes."""

    def broadcast(self, content: dict[str, Any], key: Any = None) -> None:
        """Queue a message for all pages."""
        for page in self:
            page.send(content, key)

    def add(self, page: Page, former_id: str = "") -> None:
        """Add a page that has connected, or connected again.

        Args:
            page: the new connection.
            former_id: the name of the page if it was connected before; its former connection is dead, even
                where the server has not noticed that yet.
        """
        for other in list(self):
            if former_id and other.id == former_id:
                page.role = other.role
                self.remove(other)
                other.disconnect()
        page.id = former_id or page.id
        if not self.has_writer:
            page.role = "writer"
        self.append(page)

    @property
    def has_writer(self) -> bool:
        """Whether a page writes."""
        return any(page.role == "writer" for page in self)

    def make_writer(self, page: Page) -> None:
        """Let a page write, and all others read."""
        for other in self:
            other.role = "reader"
        page.role = "writer"
