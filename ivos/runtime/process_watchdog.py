"""The processes that share a run: each holds a lock for as long as it lives, and all watch the others'.

Locks are the kernel's: they go with the process, however it ends, and no message has to get through. So a
lost process is noticed within a second on one machine, and on all that share the folder where the file system
passes locks on.

filelock takes the locks. To look whether another process still holds its own, a shared lock is tried
(``flock``, the kind that filelock's are on POSIX systems) on a file that must be there already. filelock has
neither: it would make the file of a process that has left anew, and of two processes that look at the same
moment one would take the other's look for a sign of life.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from filelock import FileLock, Timeout

from ivos.runtime import signals
from ivos.runtime.errors import UserError
from ivos.runtime.machine import CAN_LOCK, end_with_parent, lock

INTERVAL = 0.5  # seconds between looks at the others
GRACE = 60.0  # seconds to end well after another has got a signal: the main thread may wait for it for ever
PATIENCE = 5.0  # seconds for the processes of a killed run to be gone


class ProcessWatchdog:
    """This process' place among those that share a run, as a context.

    Made by every process before the first of them begins to work; that they have all got there before
    :meth:`watch` is for the caller to see to (Lightning's setup is a barrier).

    Args:
        folder: where the locks are.
        rank: the number of this process.
        processes: how many there are.
        kept: what a run does not lose, for the message about a lost process.

    Raises:
        UserError: a process of another run is at work in the folder.
    """

    def __init__(
        self, folder: Path, rank: int, processes: int, kept: str = "The samples completed so far are kept"
    ) -> None:
        self.folder, self.rank, self.kept = folder, rank, kept
        folder.mkdir(parents=True, exist_ok=True)
        self.others = [number for number in range(processes) if number != rank]
        self._watcher: threading.Thread | None = None
        self._seen: set[int] = set()  # alive; where the file system keeps locks from others, nobody is
        self._met: set[int] = set()
        self._children: list[subprocess.Popen[bytes]] = []  # those whose end is waited for
        self._done = False  # this process has left
        self._one_look = threading.Lock()  # at a time
        self._leaving = 0.0  # when another was seen to end for a signal
        self._lock = self._take(rank)
        if rank == 0:  # what a run of more processes has left
            for path in folder.glob("process-*.lock"):
                number = int(path.stem.removeprefix("process-"))
                if number >= processes:
                    self._take(number).release()
                    path.unlink()

    def watch(
        self,
        after: Callable[[], bool] = lambda: True,
        started: Callable[[], Sequence["subprocess.Popen[bytes]"]] = lambda: (),
    ) -> None:
        """From now on end this process, with a message, should another be lost.

        Args:
            after: whether all processes have started and hold their locks. Until then a process counts as
                lost if it ends after it was seen alive, and it is no sign of a finished run that there is
                none.
            started: the processes that this one has started as the next ranks, as far as they are. Their end
                is noticed even before they hold their locks. Lightning, which starts them, would kill this
                process without a message.
        """
        if not self.others or not CAN_LOCK or self._watcher:
            return
        if after():
            end_with_parent(False)  # the loss of the parent is to be reported from here on
        elif self._is_alive(0):
            self._meet([0])
            end_with_parent(False)
        self._watcher = threading.Thread(target=self._watch, args=(after, started), daemon=True, name="peers")
        self._watcher.start()

    def meet(self) -> None:
        """See who lives, where all are known to: whoever does not live later on was lost.

        From now on that is noticed at once, while Lightning's own watcher, which looks every five seconds at
        the processes that it has started and kills this one without a word, may be about to look.
        """
        end_with_parent(False)  # whose loss has to be told
        self._meet([number for number in self.others if CAN_LOCK and self._is_alive(number)])

    def _meet(self, alive: Sequence[int]) -> None:
        """Notice the end of processes that are alive at once, by a thread that waits for the lock of each."""
        met = set(alive) - self._met
        self._met |= met
        self._seen |= met
        for number in met:
            threading.Thread(target=self._await_end, args=(number,), daemon=True).start()

    def _await_child(self, number: int, process: "subprocess.Popen[bytes]") -> None:
        """Wait for the end of a process that this one has started; before it holds its lock this is a loss.

        Lightning's own watcher does not see the end as long as this thread waits for it.
        """
        if process.wait() and number not in self._met and signals.received() is None and not self._done:
            self._end_without([number])

    def _await_end(self, number: int) -> None:
        with contextlib.suppress(FileNotFoundError), self._path(number).open() as file:
            lock(file, shared=True, wait=True)  # returns when the lock is free; filelock has no such wait
        self._look()

    def ask(self) -> None:
        """After an error of this process: that may be of having lost another. If so, say it and end."""
        deadline = time.monotonic() + 10 * INTERVAL
        while self._watcher and time.monotonic() < deadline and signals.received() is None:
            self._look()
            time.sleep(INTERVAL / 10)

    def __enter__(self) -> "ProcessWatchdog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leave, the work of this process being done, and wait for the others to leave, too.

        After an error this process counts as lost, unless the error is that of having lost another.
        """
        if kind is not None and signals.received() is None:
            self.ask()
        if (number := signals.received()) is not None:
            self._path(self.rank).write_text(str(number))  # for the others
        if kind is None:
            self._path(self.rank).unlink(missing_ok=True)
        self._lock.release()
        self._done = True
        if kind is None:
            self.watch()
            if self._watcher:
                self._watcher.join()

    def _watch(
        self, after: Callable[[], bool], started: Callable[[], Sequence["subprocess.Popen[bytes]"]]
    ) -> None:
        while not after() and not self._done:
            for number, process in enumerate(started(), start=self.rank + 1):
                if process not in self._children:
                    self._children.append(process)
                    threading.Thread(target=self._await_child, args=(number, process), daemon=True).start()
            self._meet([number for number in self.others if self._is_alive(number)])
            self._look()
            time.sleep(INTERVAL / 10)
        while self._look():
            time.sleep(INTERVAL)

    def _look(self) -> bool:
        """End this process if another was lost; whether there are others still."""
        with self._one_look:
            alive = {number: self._is_alive(number) for number in self.others}
            self._seen |= {number for number, living in alive.items() if living}
            lost = [number for number, living in alive.items() if living is False and number in self._seen]
            received = signals.received() or max(map(self._signal_of, lost), default=0)
            if lost and received:  # all end, and none of them is lost
                self._end_with_them(received)
            elif lost:
                self._end_without(lost, alone=not any(alive[n] for n in self.others if n < self.rank))
            return any(living is not None for living in alive.values())

    def _end_without(self, lost: Sequence[int], alone: bool = True) -> NoReturn:
        """End this process, since others were lost.

        Args:
            lost: their numbers.
            alone: whether no other process is going to report it.
        """
        if alone:
            print(
                f"\nerror: process {', '.join(map(str, lost))} of {len(self.others) + 1} was lost. "
                f"{self.kept}; go on with resume=true and the same hydra.run.dir.",
                "\033[?25h" if sys.stderr.isatty() else "",  # the progress bar hides the cursor
                file=sys.stderr,
                flush=True,
            )
        os._exit(1)  # the main thread may be inside a long computation, or wait for the lost one

    def _signal_of(self, number: int) -> int:
        """Return the signal that has ended a process, or 0."""
        try:
            return int(self._path(number).read_text() or 0)
        except (OSError, ValueError):  # it has left, or was killed while it wrote
            return 0

    def _end_with_them(self, number: int) -> None:
        """Handle the signal of another process as if this one had got it."""
        if not self._leaving:
            self._leaving = time.monotonic()
            if signals.received() is None:
                os.kill(os.getpid(), number)
        elif time.monotonic() - self._leaving > GRACE:
            signals.leave(number)

    def _is_alive(self, number: int) -> bool | None:
        """Whether a process lives; None where it has left."""
        path = self._path(number)
        try:
            with path.open() as file:
                if not _can_share(file):
                    return True
        except FileNotFoundError:
            return None
        return False if path.exists() else None  # it may have left just now

    def _take(self, number: int) -> FileLock:
        lock = FileLock(self._path(number), thread_local=False)
        try:
            lock.acquire(timeout=PATIENCE, poll_interval=0.1)
        except Timeout as error:
            raise UserError(
                f"{self.folder.parent}: another run is at work there; wait for its end, or end it"
            ) from error
        return lock

    def _path(self, number: int) -> Path:
        return self.folder / f"process-{number}.lock"


def started_by(trainer: Any) -> "list[subprocess.Popen[bytes]]":
    """Return the processes that Lightning has started for a trainer so far."""
    return list(getattr(trainer.strategy.launcher, "procs", []))


def _can_share(file: IO[str]) -> bool:
    """Whether nobody holds the lock of an open file."""
    try:
        lock(file, shared=True)
    except BlockingIOError:
        return False
    return True
