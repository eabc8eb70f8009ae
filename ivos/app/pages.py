"""The browser pages that are connected to a session, each with a queue of messages to be sent."""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

SUCCESSION_SECONDS = 3.0
"""Seconds for which the writer may be disconnected before another page becomes the writer."""

# Most queued messages before a page is disconnected; all masks of the same frame count as one message.
_MAX_WAITING = 20_000
Payload = str | bytes | dict[str, Any]
Content = Callable[[], Payload] | Payload


@dataclass(eq=False)
class Page:
    """A connected browser page with its queue of messages, so that a slow page does not delay others.

    Attributes:
        id: Name that the server gave to the page; a page keeps it when it reconnects.
        role: "writer" for the one page that may change the session, "reader" for all others.
        waiting: Messages that have not been sent yet, by their keys.
        wake: Event that is set when there is something to send.
        changed_rounds: Numbers of the rounds that have changed since the page was sent their descriptions.
        changed_frames: First and last frame for which the page may not know which round or edit they show.
        sent: Parts of the state that were sent last; a part is sent again only when it has changed.
        lost: Whether the page has to be disconnected, because its queue is too long or it was replaced.
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
        """Record rounds and frames that the next message of the state has to describe."""
        self.changed_rounds.update(rounds)
        if frames and self.changed_frames:
            frames = min(frames[0], self.changed_frames[0]), max(frames[1], self.changed_frames[1])
        self.changed_frames = frames or self.changed_frames

    def send(self, content: Content, key: Any = None) -> None:
        """Queue a message.

        Args:
            content: The message, or a function that returns the message when it is sent.
            key: Key of the message; it replaces a message of the same key that is still queued.
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
        """Send the queued messages in order until the page has to be disconnected."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            while self.waiting and not self.lost:
                _, content = self.waiting.popitem(last=False)
                await send(content() if callable(content) else content)
            if self.lost:
                return


class Pages(list[Page]):
    """The pages of a session, at most one of which is the writer."""

    def broadcast(self, content: dict[str, Any], key: Any = None) -> None:
        """Queue a message for all pages."""
        for page in self:
            page.send(content, key)

    def add(self, page: Page, former_id: str = "") -> None:
        """Add a page that has connected or reconnected.

        Args:
            page: The page of the new connection.
            former_id: Name of the page if it was connected before. Its former connection is closed, in case
                the server has not noticed its end yet.
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
        """Whether one of the pages is the writer."""
        return any(page.role == "writer" for page in self)

    def make_writer(self, page: Page) -> None:
        """Make a page the writer, and all others readers."""
        for other in self:
            other.role = "reader"
        page.role = "writer"
