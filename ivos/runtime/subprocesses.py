"""Processes that a program starts: none outlives it, and the terminal's signals are the program's alone."""

import multiprocessing
import os
import signal

from ivos.runtime.machine import end_with_parent, own_process_group
from ivos.runtime.signals import SIGNALS, started_by_lightning

_PARENT = "IVOS_PARENT"  # the process that Lightning starts others from


def be_a_worker(*_: object) -> None:
    """Initialise a worker of a pool or a data loader, so that it ends with its parent and by it alone.

    The worker gets a process group of its own, because Ctrl-C and schedulers signal the whole group, and the
    parent needs its workers to finish its current step.
    """
    own_process_group()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)  # forked ones have the program's
    end_with_parent()
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # it has ended already
        os._exit(1)


def join_the_program() -> None:
    """Let a process that Lightning has started end with the process that started it.

    This covers the time until :class:`ivos.runtime.process_watchdog.ProcessWatchdog` watches the processes.
    """
    first = os.environ.get(_PARENT)
    if first is not None and started_by_lightning() and int(os.environ.get("LOCAL_RANK", 0)) > 0:
        end_with_parent()
        if str(os.getppid()) != first:
            raise SystemExit(1)
    os.environ[_PARENT] = str(os.getpid())
