"""Recording of a session's events: each is written to the journal before it is applied to the session."""

import itertools
import time
from collections.abc import Callable

from ivos.app.journal import JournalError
from ivos.app.session import Event, Session
from ivos.app.workspace import Workspace

LONGEST_PAUSE = 60.0  # most seconds between two events that count as working time


class Recorder:
    """A session together with its journal.

    Attributes:
        seconds: Working time in seconds so far; a pause of more than a minute between events counts as a
            minute.

    Args:
        workspace: Workspace with the journal.
        session: State of the session after the events of the journal.
        complain: Function that is called with an error message if :meth:`record_fact` cannot write its event.
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
            Refused: An event is not possible in the present state; no event was written or applied.
            JournalError: The events cannot be written; no event was applied.
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
        """Record an event that has already happened, such as the end of a round.

        If the event cannot be written to the journal, it is applied to the session nevertheless, and written
        before the next event.
        """
        try:
            self.record(event)
        except JournalError as error:
            self.session.apply(event)
            self._unsaved.append(event)
            self._complain(str(error))
