"""Set-up of child processes, so that they end with the program and do not handle the terminal's signals."""

import multiprocessing
import os
import signal

from ivos.runtime.machine import end_with_parent, own_process_group
from ivos.runtime.signals import SIGNALS, started_by_lightning

_PARENT = "IVOS_PARENT"  # environment variable: PID of the process that Lightning starts the other ranks from


def be_a_worker(*_: object) -> None:
    """Initialise a worker process of a pool or a data loader, so that only its parent can end it.

    The worker moves to its own process group, because Ctrl-C and schedulers signal the whole group of the
    parent, and the parent still needs its workers to finish the current step. When the parent ends, the
    kernel kills the worker.
    """
    own_process_group()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)  # a forked worker has inherited the parent's handlers
    end_with_parent()
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # the parent ended before ``end_with_parent`` was called
        os._exit(1)


def join_the_program() -> None:
    """Tie a process that Lightning has started to the process of rank 0, so that both end together.

    The function covers the time until :class:`ivos.runtime.process_watchdog.ProcessWatchdog` watches the
    processes. In the process of rank 0 it only records the PID, for the processes that Lightning will start.
    """
    first = os.environ.get(_PARENT)
    if first is not None and started_by_lightning() and int(os.environ.get("LOCAL_RANK", 0)) > 0:
        end_with_parent()
        if str(os.getppid()) != first:
            raise SystemExit(1)
    os.environ[_PARENT] = str(os.getpid())
