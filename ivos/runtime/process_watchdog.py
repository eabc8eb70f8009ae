"""Detection of lost processes in a run of several processes, by file locks.

Each process of a run holds a lock on a file of its own for as long as it lives, and watches the locks of the
others. The kernel releases a lock when its process ends for any reason, so no message has to be sent. A lost
process is noticed within a second by all processes on the same machine, and by those on other machines if the
shared file system supports locks across machines.

A process takes its own lock with the package filelock. To test whether another process still holds its lock,
a process tries a shared lock (``flock``, the kind that filelock uses on POSIX systems) on a file that must
already exist. filelock cannot do this for two reasons. It would create the file of a finished process again.
It has no shared locks, so that one of two processes testing at the same moment would take the test of the
other for the lock of a live process.
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

INTERVAL = 0.5  # seconds between two checks of the other processes
# Seconds in which this process may end in order after another one received a signal; afterwards it is ended,
# because its main thread may be waiting for the other process forever.
GRACE = 60.0
PATIENCE = 5.0  # seconds to wait until the processes of a killed run have ended


class ProcessWatchdog:
    """A context manager that holds the lock of this process and watches the other processes of the run.

    Every process creates one before any process begins to work. The caller has to ensure that all processes
    have created theirs before :meth:`watch` is called (Lightning's setup is such a barrier).

    Args:
        folder: Folder of the lock files.
        rank: Number of this process.
        processes: Number of processes of the run.
        kept: A clause for the message about a lost process, which states what the run does not lose.

    Raises:
        UserError: A process of another run is active in the folder.
    """

    def __init__(
        self, folder: Path, rank: int, processes: int, kept: str = "The samples completed so far are kept"
    ) -> None:
        self.folder, self.rank, self.kept = folder, rank, kept
        folder.mkdir(parents=True, exist_ok=True)
        self.others = [number for number in range(processes) if number != rank]
        self._watcher: threading.Thread | None = None
        # Numbers of the processes that held their locks at a check. Where the file system does not show locks
        # to other machines, the processes on other machines are never added, and so never count as lost.
        self._seen: set[int] = set()
        self._met: set[int] = set()  # numbers of the processes for whose locks a thread waits
        self._children: list[subprocess.Popen[bytes]] = []  # started processes for whose end a thread waits
        self._done = False  # whether this process has left the context
        self._one_look = threading.Lock()  # lets one thread at a time check the other processes
        self._leaving = 0.0  # time at which another process was seen to end for a signal; 0 before
        self._lock = self._take(rank)
        if rank == 0:  # remove the lock files that an earlier run of more processes has left
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
        """Start the thread that ends this process, with a message, if another process is lost.

        Args:
            after: Function that returns whether all processes have started and hold their locks. Until it
                returns True, a process counts as lost if it ends after it was seen alive, and a missing lock
                file does not mean that its process has finished.
            started: Function that returns the processes that this one has started so far, as the next ranks.
                Their end is noticed even before they hold their locks. Without this, Lightning, which starts
                them, would kill this process without a message.
        """
        if not self.others or not CAN_LOCK or self._watcher:
            return
        if after():
            end_with_parent(False)  # from here on, this process reports the loss of its parent itself
        elif self._is_alive(0):
            self._meet([0])
            end_with_parent(False)
        self._watcher = threading.Thread(target=self._watch, args=(after, started), daemon=True, name="peers")
        self._watcher.start()

    def meet(self) -> None:
        """Record which processes are alive, and notice the end of each of them at once from now on.

        Call this where all processes are known to be alive. Lightning has a watcher of its own, which checks
        the processes that it has started every five seconds, and kills this process without a message; the
        loss therefore has to be noticed before Lightning's next check.
        """
        end_with_parent(False)  # from here on, this process reports the loss of its parent itself
        self._meet([number for number in self.others if CAN_LOCK and self._is_alive(number)])

    def _meet(self, alive: Sequence[int]) -> None:
        """Start a thread for each live process that waits for its lock, and so notices its end at once."""
        met = set(alive) - self._met
        self._met |= met
        self._seen |= met
        for number in met:
            threading.Thread(target=self._await_end, args=(number,), daemon=True).start()

    def _await_child(self, number: int, process: "subprocess.Popen[bytes]") -> None:
        """Wait for the end of a started process; it counts as lost if it ends before it holds its lock.

        Lightning's own watcher does not notice the end while this thread waits for it.
        """
        if process.wait() and number not in self._met and signals.received() is None and not self._done:
            self._end_without([number])

    def _await_end(self, number: int) -> None:
        with contextlib.suppress(FileNotFoundError), self._path(number).open() as file:
            lock(file, shared=True, wait=True)  # returns when the lock is free; filelock has no such wait
        self._look()

    def ask(self) -> None:
        """Check, after an error of this process, whether the loss of another process caused it.

        If another process was lost, this process ends with the message about the loss.
        """
        deadline = time.monotonic() + 10 * INTERVAL
        while self._watcher and time.monotonic() < deadline and signals.received() is None:
            self._look()
            time.sleep(INTERVAL / 10)

    def __enter__(self) -> "ProcessWatchdog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Release the lock of this process and, unless an error was raised, wait for the other processes.

        After an error the lock file is kept, so that this process counts as lost. If the loss of another
        process caused the error, this process ends with the message about that loss.
        """
        if kind is not None and signals.received() is None:
            self.ask()
        if (number := signals.received()) is not None:
            self._path(self.rank).write_text(str(number))  # read by the other processes
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
        """End this process if another was lost; return whether other processes have not left yet."""
        with self._one_look:
            alive = {number: self._is_alive(number) for number in self.others}
            self._seen |= {number for number, living in alive.items() if living}
            lost = [number for number, living in alive.items() if living is False and number in self._seen]
            received = signals.received() or max(map(self._signal_of, lost), default=0)
            if lost and received:  # the processes ended for a signal, so none of them counts as lost
                self._end_with_them(received)
            elif lost:
                self._end_without(lost, alone=not any(alive[n] for n in self.others if n < self.rank))
            return any(living is not None for living in alive.values())

    def _end_without(self, lost: Sequence[int], alone: bool = True) -> NoReturn:
        """End this process because others were lost.

        Args:
            lost: Numbers of the lost processes.
            alone: Whether this process has to report the loss because no other process will.
        """
        if alone:
            print(
                f"\nerror: process {', '.join(map(str, lost))} of {len(self.others) + 1} was lost. "
                f"{self.kept}; go on with resume=true and the same hydra.run.dir.",
                "\033[?25h" if sys.stderr.isatty() else "",  # the progress bar hides the cursor
                file=sys.stderr,
                flush=True,
            )
        os._exit(1)  # the main thread may be in a long computation, or waiting for the lost process

    def _signal_of(self, number: int) -> int:
        """Return the number of the signal that has ended a process, or 0."""
        try:
            return int(self._path(number).read_text() or 0)
        except (OSError, ValueError):  # the process has left, or was killed while it wrote the number
            return 0

    def _end_with_them(self, number: int) -> None:
        """Handle the signal of another process as if this process had received it."""
        if not self._leaving:
            self._leaving = time.monotonic()
            if signals.received() is None:
                os.kill(os.getpid(), number)
        elif time.monotonic() - self._leaving > GRACE:
            signals.leave(number)

    def _is_alive(self, number: int) -> bool | None:
        """Return whether a process is alive, or None if it has left."""
        path = self._path(number)
        try:
            with path.open() as file:
                if not _can_share(file):
                    return True
        except FileNotFoundError:
            return None
        return False if path.exists() else None  # the process may have left just now

    def _take(self, number: int) -> FileLock:
        lock = FileLock(self._path(number), thread_local=False)
        try:
            lock.acquire(timeout=PATIENCE, poll_interval=0.1)
        except Timeout as error:
            raise UserError(
                f"{self.folder.parent}: another run uses this folder; wait until it ends, or end it"
            ) from error
        return lock

    def _path(self, number: int) -> Path:
        return self.folder / f"process-{number}.lock"


def started_by(trainer: Any) -> "list[subprocess.Popen[bytes]]":
    """Return the processes that Lightning has started for a trainer so far."""
    return list(getattr(trainer.strategy.launcher, "procs", []))


def _can_share(file: IO[str]) -> bool:
    """Return whether no process holds the lock of an open file."""
    try:
        lock(file, shared=True)
    except BlockingIOError:
        return False
    return True
