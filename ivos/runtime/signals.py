"""SIGTERM, SIGINT, SIGHUP: the program ends where nothing is lost, says how to go on, and exits as is custom.

The exit status is 128 and the signal's number, as that of a shell: 143 after SIGTERM, 130 after SIGINT
(Ctrl-C), 129 after SIGHUP (a terminal closed), so that a scheduler never takes an unfinished run for a
finished one. Under SLURM it is 138 after SIGUSR1, which ``--signal=USR1@60`` sends before a job is ended.
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
ONE = 2.0  # seconds in which signals count as one: Ctrl-C reaches a process itself and through its parent


class Stopped(SystemExit):
    """Raised where the program is to end for a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class _State:
    received: int | None = None  # the signal
    when = 0.0
    raised = False  # and the program is on its way out
    waits = False  # the work at hand ends by itself, at the next moment to go on from
    forward: Callable[[int], None] | None = None  # to the processes that this one has started
    how: Callable[[int], str] | None = None  # to go on


def received() -> int | None:
    """Return the signal that has asked this process to end, or None."""
    return _State.received


def stop() -> None:
    """End for the signal that has come, if one has.

    Raises:
        Stopped: then.
    """
    if _State.received is not None:
        _State.raised = True
        raise Stopped(_State.received)


def note(number: int = signal.SIGTERM) -> None:
    """Another process of the run has got a signal: this one ends, too."""
    _State.received = _State.received or number


def take_over(forward: Callable[[int], None] | None = None) -> None:
    """Handle the signals here, whoever handled them before (Lightning, submitit).

    Args:
        forward: sends a signal on to the processes that this one has started.
    """
    if threading.current_thread() is threading.main_thread():
        _State.forward = forward
        for number in SIGNALS:
            if _is_ours(number):
                signal.signal(number, _handle)


def _is_ours(number: int) -> bool:
    """SIGHUP unless it is ignored (nohup); SIGUSR1 under SLURM, unless another has a use for it."""
    there = signal.getsignal(number)
    name = signal.Signals(number).name
    if name == "SIGHUP":
        return there is not signal.SIG_IGN
    if name == "SIGUSR1":
        return "SLURM_JOB_ID" in os.environ and there in (signal.SIG_DFL, _handle)
    return True


def leave(number: int) -> NoReturn:
    """End the process at once for a signal: from another thread than the main one, should that one hang."""
    _say(number)
    os._exit(_status(number))


def wait(waits: bool) -> None:
    """From now on a signal lets the work at hand go on until it calls :func:`stop`; or no longer."""
    _State.waits = waits


def _handle(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if _State.received is not None and now - _State.when < ONE:
        return
    again, _State.when = _State.received is not None, now
    _State.received = _State.received or number
    if again and _State.raised:  # somebody is in a hurry: all that is on disk is whole at any moment
        os._exit(128 + number)
    if _State.forward is not None and not again:
        _State.forward(number)
    if again or not _State.waits:
        stop()


@contextlib.contextmanager
def ending_well(folder: str, option: str = "hydra.run.dir") -> Iterator[None]:
    """Handle the signals in a block; after one, say how to go on.

    Args:
        folder: of the run.
        option: that names it.

    Raises:
        SystemExit: with the status of the signal.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _State.received, _State.raised, _State.waits = None, False, False
    _State.how = lambda number: (
        f"ended by {signal.Signals(number).name}; go on with: {resuming(sys.argv, folder, option)}"
    )
    take_over()
    try:
        yield
        stop()  # what raised it was swallowed: as where Python cleans up
    except (SystemExit, Exception) as ended:
        if _State.received is None:
            raise
        if isinstance(ended, Exception):  # of having lost another process, which got the signal, too
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
    """0 where Lightning watches, which would kill the first process, and that may be writing."""
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
    """Whether it is Lightning that starts the other processes of a run, not torchrun or SLURM."""
    others = ("TORCHELASTIC_RUN_ID", "SLURM_PROCID")
    return not any(name in os.environ for name in others)
