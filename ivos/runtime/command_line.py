"""Functions shared by the command-line programs: reports of the user's errors, and silencing of libraries."""

import contextlib
import errno
import hashlib
import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from ivos.runtime.errors import UserError
from ivos.runtime.overrides import prepare_overrides

# Errors of a full or failing disk, which are not defects of the program.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)

# Warnings of libraries about settings that are intended here.
_IGNORED_WARNINGS = (
    r"Experiment logs directory .* exists and is not empty",  # the run's own folder, created by Hydra
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"The '?\w+'? dataloader.* does not have many workers",
    r"Found \d+ module\(s\) in eval mode at the start of training",  # the frozen parts of a network
    r"You have overridden `transfer_batch_to_device` in `LightningModule`",
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`",  # a false alarm after a resume
    r"Checkpoint directory .* exists and is not empty",
    r"The ``compute`` method of metric MeanMetric was called before",  # a process without a validation clip
)


def configs() -> str:
    """Return the folder ``conf``: inside the package if ivos was installed from a wheel, else beside it."""
    packaged = Path(__file__).parents[1] / "conf"
    return str(packaged if packaged.is_dir() else Path(__file__).parents[2] / "conf")


@contextlib.contextmanager
def composing(positional: str | None = None, **options: Any) -> Iterator[None]:
    """Prepare the arguments of a Hydra program, run it, and report a wrong option in one line.

    After a wrong option the exit status is 2. Hydra itself would print several lines, or a traceback, and
    exit with 1. If the user sets ``HYDRA_FULL_ERROR=1``, all tracebacks are shown.

    Args:
        positional: Name of the option that receives the positional arguments; see
            :func:`ivos.runtime.overrides.prepare_overrides`.
        options: Further keyword arguments of ``prepare_overrides``.
    """
    with reported():
        sys.argv[1:] = prepare_overrides(sys.argv[1:], positional, **options)
    name, word = "HYDRA_FULL_ERROR", os.environ.get("HYDRA_FULL_ERROR")
    if word == "1":
        yield
        return
    os.environ[name] = "1"  # makes Hydra re-raise the exceptions that it catches
    try:
        with reported():
            try:
                yield
            except Exception as error:
                if user_error(error) is None and not _is_of_ivos(error):
                    raise UserError(f"the options cannot be composed: {_line(error)}") from error
                raise
    finally:
        os.environ.pop(name)
        if word is not None:
            os.environ[name] = word


def _is_of_ivos(error: BaseException) -> bool:
    """Return whether an error was raised by the program, not by Hydra while it composed the options."""
    step, own = error.__traceback__, 0
    while step is not None:
        module, function = step.tb_frame.f_globals.get("__name__", ""), step.tb_frame.f_code.co_name
        own += module.startswith("ivos.") and function not in ("composing", "main")
        step = step.tb_next
    return own > 0


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Catch a :class:`UserError` in the ``with`` block: print its message and exit with status 2."""
    before, threading.excepthook = threading.excepthook, _exit_if_disk_failed
    try:
        yield
    except Exception as error:
        cause = user_error(error)
        if cause is None:
            raise
        if is_first_process() or not getattr(cause, "everywhere", False):
            print(f"error: {cause}", file=sys.stderr)
        raise SystemExit(2) from None
    finally:
        threading.excepthook = before


def _exit_if_disk_failed(ended: threading.ExceptHookArgs) -> None:
    """End the program if another thread, such as TensorBoard's writer, failed to write to the disk.

    The main thread would otherwise wait for that thread forever.
    """
    error = ended.exc_value
    if not isinstance(error, OSError) or error.errno not in _DISK:
        threading.__excepthook__(ended)
        return
    print(f"error: {user_error(error)}", file=sys.stderr, flush=True)
    os._exit(2)  # safe at any moment, since files are replaced atomically


def user_error(error: BaseException) -> UserError | None:
    """Return the error that the user can correct, or None if an exception is a fault of the program.

    The user can correct options that Hydra and OmegaConf refuse, files that cannot be read or written, and a
    full or failing disk. Hydra wraps exceptions that constructors raise; the wrapped exceptions are
    inspected, too.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        if isinstance(cause, OSError) and cause.errno in _DISK:
            what = cause.filename or f"a file in {_folder()}"
            return UserError(
                f"{what}: cannot be written ({cause.strerror}); correct this, then go on with resume=true"
            )
        cause = cause.__cause__
    return cause or _error_of_options(error) or _error_of_a_file(error)


def _error_of_options(error: BaseException) -> UserError | None:
    from hydra.errors import HydraException, InstantiationException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        if (file_error := _error_of_a_file(error.__cause__)) is not None:
            return file_error
        key = re.search(r"full_key: (\S+)", str(error))
        return UserError(f"{key[1] if key else 'options'}: {_line(error.__cause__)}")
    if isinstance(error, HydraException | OmegaConfBaseException):
        override = getattr(error, "override", None)  # set if Hydra could not parse this override
        return UserError(f"{override}: {_line(error)}" if override else _line(error))
    return None


def _error_of_a_file(error: BaseException) -> UserError | None:
    if not isinstance(error, OSError) or not isinstance(error.filename, str | bytes | os.PathLike):
        return None
    return UserError(f"{os.fsdecode(error.filename)}: {error.strerror}")


def _line(error: BaseException) -> str:
    """Return the message of an error and that of its cause in one line."""
    words = " ".join(str(error).split())
    if isinstance(cause := error.__cause__, Exception) and str(cause) not in str(error):
        words += f" ({' '.join(str(cause).split())})"
    ours = type(error).__module__.partition(".")[0] in ("hydra", "omegaconf")
    return words if ours and words else f"{type(error).__name__}: {words}".rstrip(": ")


def _folder() -> str:
    """Return the folder that the run writes to."""
    from hydra.core.hydra_config import HydraConfig

    return HydraConfig.get().runtime.output_dir if HydraConfig.initialized() else os.getcwd()


def is_first_process() -> bool:
    """Return whether this process has rank 0, and so checks the input and reports for the whole run."""
    # NODE_RANK is set by Lightning, RANK by torchrun, LOCAL_RANK by both, and SLURM_PROCID by SLURM.
    numbers = ("NODE_RANK", "RANK", "LOCAL_RANK", "SLURM_PROCID")
    return all(int(os.environ.get(number, 0)) == 0 for number in numbers)


def agree_on_start_time() -> None:
    """Set ``IVOS_START_TIME`` to the same value in all processes that ``torchrun`` or ``srun`` started.

    The folder of a run is named after this variable. Under torchrun its value is the start time of rank 0,
    which the processes share through torchrun's own store; under SLURM it is made of the ids of the job and
    the job step.
    """
    if "SLURM_PROCID" in os.environ and "RANK" not in os.environ:
        job = f"job-{os.environ['SLURM_JOB_ID']}-{os.environ.get('SLURM_STEP_ID', 0)}"
        os.environ.setdefault("IVOS_START_TIME", job)
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or "IVOS_START_TIME" in os.environ:
        return
    from torch.distributed import TCPStore

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, is_master=False, timeout=timedelta(minutes=5))
    key = f"ivos-start-time-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    if os.environ["RANK"] == "0":
        store.set(key, time.strftime("%Y-%m-%d_%H-%M-%S"))
    os.environ["IVOS_START_TIME"] = store.get(key).decode()


def sha256(path: str | Path) -> str:
    """Return the SHA-256 digest of a file's content in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def quiet_libraries() -> None:
    """Silence the informational messages of libraries but keep their warnings.

    In processes of rank above 0 the program's own informational messages are silenced, too.
    """
    logging.raiseExceptions = False  # else a log file that cannot be written causes a traceback per line
    if not is_first_process():
        logging.getLogger().setLevel(logging.WARNING)
    for name in ("absl", "pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
