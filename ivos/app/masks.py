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
_KEPT = 24  # most edited masks that are kept in memory


class SessionMasks:
    """The masks of a session, read from rounds and edits.

    Args:
        workspace: Workspace with the masks of the rounds.
        session: Function that returns the present state of the session.
    """

    def __init__(self, workspace: Workspace, session: Callable[[], Session]) -> None:
        self.workspace, self._session = workspace, session
        # Masks after edits, by the id of the latest edit.
        self._edited: OrderedDict[str, Labels] = OrderedDict()
        self._lock = threading.Lock()  # needed because several threads read masks

    def current(self, frame: int) -> Labels:
        """Return the labels uint8 [h, w] of a frame before objects are removed or merged."""
        return self.read(self._session().shown_on(frame), frame)

    def displayed(self, frame: int) -> Labels:
        """Return the labels uint8 [h, w] of a frame after objects are removed and merged."""
        session = self._session()
        return display(self.current(frame), session)

    def read(self, shown: Shown, frame: int) -> Labels:
        """Return the labels uint8 [h, w] of a frame in a round, or after an edit and the edits before it.

        Args:
            shown: Number of the round, 0 for no round, or id of the edit.
            frame: Frame of the mask.

        Raises:
            DataError: The round has no mask of the frame.
            KeyError: The edit does not exist, or belongs to another frame.
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
        """Compute the mask after a new edit over the labels `base`, and keep it in memory."""
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
        """Return an edit and the earlier edits that are part of its mask.

        These are the edits over the same round that are not undone; `edit` itself may be undone.
        """
        drawn = session.drawn_on(edit.frame)
        active = [one for one in drawn if one.over == edit.over and one.order <= edit.order]
        return [one for one in active if one.id == edit.id or one.id not in session.undone_edits]


def draw_chain(workspace: Workspace, chain: list[Edit]) -> Labels:
    """Return the labels uint8 [h, w] of a frame after a list of edits.

    The edits are drawn over the mask of their round, or over a preview if it was saved with one of them.
    """
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
    """Return labels in which removed objects are background and merged objects have their target's label."""
    table = np.arange(256, dtype=np.uint8)
    for number in session.objects:
        table[number] = session.display_label(number)
    return table[labels]
