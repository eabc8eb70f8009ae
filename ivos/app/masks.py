"""The masks that a session shows: rounds on disk, with the user's edits drawn over them."""

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ivos.app.pixels import draw_runs
from ivos.app.session import Edit, Session, Shown
from ivos.app.workspace import Workspace

Labels = NDArray[np.uint8]
_KEPT = 24  # edited masks that are kept in memory, by their latest edits


class SessionMasks:
    """The masks of a session, whatever they are made of.

    Args:
        workspace: has the masks of rounds.
        session: returns the present state.
    """

    def __init__(self, workspace: Workspace, session: Callable[[], Session]) -> None:
        self.workspace, self._session = workspace, session
        self._edited: OrderedDict[str, Labels] = OrderedDict()
        self._lock = threading.Lock()  # masks are read in threads, too

    def current(self, frame: int) -> Labels:
        """Return the labels uint8 [h, w] that a frame shows, with removed and merged objects as they were."""
        return self.read(self._session().shown_on(frame), frame)

    def displayed(self, frame: int) -> Labels:
        """Return the labels uint8 [h, w] that a frame shows, without removed objects and with merged ones."""
        session = self._session()
        return display(self.current(frame), session)

    def read(self, shown: Shown, frame: int) -> Labels:
        """Return the labels uint8 [h, w] of a round (0: none) on a frame, or up to an edit.

        Raises:
            DataError: the round has no mask of the frame.
            KeyError: there is no such edit on the frame.
        """
        if isinstance(shown, int):
            return self.workspace.read_mask(shown, frame)
        with self._lock:
            if shown in self._edited:
                self._edited.move_to_end(shown)
                return self._edited[shown].copy()
        session = self._session()
        edit = session.edits[shown]
        if edit.frame != frame:
            raise KeyError(shown)
        labels = draw_chain(self.workspace, self._chain_to(session, edit))
        self._keep(shown, labels)
        return labels.copy()

    def drawn(self, edit: Edit, base: Labels) -> None:
        """Keep the mask after a new edit, which was drawn over `base`."""
        labels = base.copy()
        draw_runs(labels, edit.runs, edit.label)
        self._keep(edit.id, labels)

    def _keep(self, key: str, labels: Labels) -> None:
        with self._lock:
            self._edited[key] = labels
            self._edited.move_to_end(key)
            while len(self._edited) > _KEPT:
                self._edited.popitem(last=False)

    def _chain_to(self, session: Session, edit: Edit) -> list[Edit]:
        """Return the edits that a mask consists of; undone ones that led to it are part of it."""
        drawn = session.drawn_on(edit.frame)
        active = [one for one in drawn if one.over == edit.over and one.order <= edit.order]
        return [one for one in active if one.id == edit.id or one.id not in session.undone_edits]


def draw_chain(workspace: Workspace, chain: list[Edit]) -> Labels:
    """Return the labels uint8 [h, w] of a frame after edits over a round or over a saved preview."""
    start = max((index for index, one in enumerate(chain) if one.preview), default=0)
    first = chain[start]
    if first.preview:
        labels = workspace.read_base(first.id)
    else:
        labels = workspace.read_mask(first.over, first.frame)
    for one in chain[start:]:
        draw_runs(labels, one.runs, one.label)
    return labels


def display(labels: Labels, session: Session) -> Labels:
    """Return labels with removed objects as background, and merged ones as those they were merged into."""
    table = np.arange(256, dtype=np.uint8)
    for number in session.objects:
        table[number] = session.display_label(number)
    return table[labels]
