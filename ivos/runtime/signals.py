"""Handling of SIGTERM, SIGINT, SIGHUP and SIGUSR1: an orderly end, and the command that continues the run.

A signal ends the program at the next moment where no result is lost, and the program prints how to continue.
The exit status is 128 plus the signal's number, as in a shell: 143 after SIGTERM, 130 after SIGINT (Ctrl-C),
129 after SIGHUP (the terminal was closed). So a scheduler never takes an unfinished run for a finished one.
SIGUSR1 is handled only under SLURM, where ``--signal=USR1@60`` sends it before a job is ended; the exit
status is then 138.
"""

import contextlib
import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import NoReturn

from ivos.runtime.command_line import is_first_process

SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
)
# Seconds within which several signals count as one, because Ctrl-C reaches a process twice: from the terminal
# and from its parent.
ONE = 2.0


class Stopped(SystemExit):
    """The exception that ends the program after a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class _State:
    received: int | None = None  # number of the first signal
    when = 0.0  # time of the last signal, by time.monotonic()
    raised = False  # whether Stopped was raised, so that the program is about to end
    waits = False  # whether the current work calls stop() itself when it can be continued from there
    forward: Callable[[int], None] | None = None  # sends a signal to the processes that this one has started
    how: Callable[[int], str] | None = None  # returns the message on how to continue after a signal


def received() -> int | None:
    """Return the number of the signal that this process has received, or None."""
    return _State.received


def stop() -> None:
    """End the program if it has received a signal.

    Raises:
        Stopped: A signal was received.
    """
    if _State.received is not None:
        _State.raised = True
        raise Stopped(_State.received)


def note(number: int = signal.SIGTERM) -> None:
    """Record that another process of the run received a signal, so that this process ends, too."""
    _State.received = _State.received or number


def take_over(forward: Callable[[int], None] | None = None) -> None:
    """Install the signal handlers of this module in place of others (Lightning's, submitit's).

    Args:
        forward: Function that sends a signal on to the processes that this one has started.
    """
    if threading.current_thread() is threading.main_thread():
        _State.forward = forward
        for number in SIGNALS:
            if _is_ours(number):
                signal.signal(number, _handle)


def _is_ours(number: int) -> bool:
    """Return whether this module should handle a signal.

    SIGHUP is handled unless it is ignored (nohup). SIGUSR1 is handled under SLURM unless another handler is
    installed. All other signals of :data:`SIGNALS` are handled.
    """
    handler = signal.getsignal(number)
    name = signal.Signals(number).name
    if name == "SIGHUP":
        return handler is not signal.SIG_IGN
    if name == "SIGUSR1":
        return "SLURM_JOB_ID" in os.environ and handler in (signal.SIG_DFL, _handle)
    return True


def leave(number: int) -> NoReturn:
    """End the process at once for a signal; other threads call this if the main thread hangs."""
    _say(number)
    os._exit(_status(number))


def wait(waits: bool) -> None:
    """Set whether a signal lets the current work continue until it calls :func:`stop` itself."""
    _State.waits = waits


def _handle(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if _State.received is not None and now - _State.when < ONE:
        return
    again, _State.when = _State.received is not None, now
    _State.received = _State.received or number
    if again and _State.raised:  # exit at once: this is safe, since files are replaced atomically
        os._exit(128 + number)
    if _State.forward is not None and not again:
        _State.forward(number)
    if again or not _State.waits:
        stop()


@contextlib.contextmanager
def ending_well(folder: str, option: str = "hydra.run.dir") -> Iterator[None]:
    """Handle the signals in the ``with`` block; after a signal, print how to continue the run.

    Args:
        folder: Folder of the run.
        option: Name of the option for the folder of a run.

    Raises:
        SystemExit: A signal was received; the exit status is that of the signal.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _State.received, _State.raised, _State.waits = None, False, False
    _State.how = lambda number: (
        f"ended by {signal.Signals(number).name}; go on with: {resuming(sys.argv, folder, option)}"
    )
    take_over()
    try:
        yield
        stop()  # in case Stopped was raised but swallowed, as in a ``__del__`` method
    except (SystemExit, Exception) as ended:
        if _State.received is None:
            raise
        if isinstance(ended, Exception):  # a follow-up error: another process ended for the same signal first
            logging.getLogger(__name__).info("after a signal", exc_info=ended)
        _say(_State.received)
        raise SystemExit(_status(_State.received)) from None
    finally:
        _State.forward = _State.how = None
        if threading.current_thread() is threading.main_thread():
            for number_, handler in before.items():
                signal.signal(number_, handler)


def _say(number: int) -> None:
    if is_first_process() and _State.how is not None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"\nerror: {_State.how(number)}", file=sys.stderr, flush=True)


def _status(number: int) -> int:
    """Return the exit status after a signal.

    The status is 0 in a process that Lightning started: otherwise Lightning would kill the process of rank 0,
    which may still be writing.
    """
    return 0 if not is_first_process() and started_by_lightning() else 128 + number


def resuming(command: Sequence[str], folder: str, option: str = "hydra.run.dir") -> str:
    """Return the command line that continues a run.

    >>> resuming(["train.py", "experiment=anet", "resume=false"], "runs/a b")
    "train.py experiment=anet resume=true 'hydra.run.dir=runs/a b'"
    """
    own = ("resume=", f"{option}=")
    kept = [each for each in command if not each.startswith(own)]
    return shlex.join([*kept, "resume=true", f"{option}={folder}"])


def started_by_lightning() -> bool:
    """Return whether Lightning starts the other processes of a run, not torchrun or SLURM."""
    others = ("TORCHELASTIC_RUN_ID", "SLURM_PROCID")
    return not any(name in os.environ for name in others)
