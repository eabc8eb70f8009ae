"""Events of a session, which are in the journal on disk before they count."""

import itertools
import time
from collections.abc import Callable

from ivos.app.journal import JournalError
from ivos.app.session import Event, Session
from ivos.app.workspace import Workspace

LONGEST_PAUSE = 60.0  # seconds between two events that count as work


class Recorder:
    """A session together with the journal that it is kept in.

    Attributes:
        seconds: spent on the session so far; longer pauses between events count as a minute each.

    Args:
        workspace: has the journal.
        session: the state that the journal's events lead to.
        complain: is called with one line where an event that cannot be refused could not be saved yet.
    """

    def __init__(self, workspace: Workspace, session: Session, complain: Callable[[str], None]) -> None:
        self.workspace, self.session = workspace, session
        self._complain = complain
        self._unsaved: list[Event] = []
        times = [line["time"] for line in workspace.journal.lines if "time" in line]
        self._latest = 0.0
        self.seconds = sum(min(b - a, LONGEST_PAUSE) for a, b in itertools.pairwise(times) if b > a)

    @property
    def saved(self) -> bool:
        """Whether all events are on disk."""
        return not self._unsaved

    def record(self, *events: Event) -> None:
        """Write events to the journal, then apply them to the session.

        Raises:
            Refused: one does not fit the session; nothing was written.
            JournalError: they cannot be written; nothing has changed.
        """
        for event in events:
            self.session.check(event)
        self.workspace.journal.append(*self._unsaved, *events)
        now = time.time()
        self.seconds += min(now - self._latest, LONGEST_PAUSE) if self._latest else 0
        self._latest = now
        self._unsaved.clear()
        for event in events:
            self.session.apply(event)

    def record_fact(self, event: Event) -> None:
        """Record what has happened already, such as the end of a round.

        It counts even where it cannot be written; then it is written before the next event.
        """
        try:
            self.record(event)
        except JournalError as error:
            self.session.apply(event)
            self._unsaved.append(event)
            self._complain(str(error))
