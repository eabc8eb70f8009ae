"""What the command-line programs share: how they report the user's errors, and what they leave unsaid."""

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

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # no fault of the program's

# Said by libraries about what is meant to be as it is.
_NO_NEWS = (
    r"Experiment logs directory .* exists and is not empty",  # the run's own folder, made by Hydra
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"The '?\w+'? dataloader.* does not have many workers",
    r"Found \d+ module\(s\) in eval mode at the start of training",  # of frozen parts
    r"You have overridden `transfer_batch_to_device` in `LightningModule`",
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`",  # so it seems after a resume
    r"Checkpoint directory .* exists and is not empty",
    r"The ``compute`` method of metric MeanMetric was called before",  # a process without a validation clip
)


def configs() -> str:
    """Return the folder of the configurations: inside the package in a wheel, beside it in a checkout."""
    packaged = Path(__file__).parents[1] / "conf"
    return str(packaged if packaged.is_dir() else Path(__file__).parents[2] / "conf")


@contextlib.contextmanager
def composing(positional: str | None = None, **options: Any) -> Iterator[None]:
    """Run a Hydra program with its arguments prepared, and report a wrong option in one line.

    The exit status is then 2. Hydra itself prints several lines, or a traceback, and ends with 1.
    ``HYDRA_FULL_ERROR=1``, set by the user, shows all tracebacks.

    Args:
        positional: the option that arguments without an option's name are for, see
            :func:`ivos.runtime.overrides.prepare_overrides`.
        options: further options of that function.
    """
    with reported():
        sys.argv[1:] = prepare_overrides(sys.argv[1:], positional, **options)
    name, word = "HYDRA_FULL_ERROR", os.environ.get("HYDRA_FULL_ERROR")
    if word == "1":
        yield
        return
    os.environ[name] = "1"  # Hydra hands on what it catches
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
    """Whether an error came out of a job, not out of what Hydra does before it."""
    step, own = error.__traceback__, 0
    while step is not None:
        module, function = step.tb_frame.f_globals.get("__name__", ""), step.tb_frame.f_code.co_name
        own += module.startswith("ivos.") and function not in ("composing", "main")
        step = step.tb_next
    return own > 0


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """End in its message and exit status 2, without a traceback, on a :class:`UserError`."""
    before, threading.excepthook = threading.excepthook, _end_of_a_thread
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


def _end_of_a_thread(ended: threading.ExceptHookArgs) -> None:
    """Another thread that cannot write (TensorBoard's) ends the program, which would wait for it for ever."""
    error = ended.exc_value
    if not isinstance(error, OSError) or error.errno not in _DISK:
        threading.__excepthook__(ended)
        return
    print(f"error: {user_error(error)}", file=sys.stderr, flush=True)
    os._exit(2)  # all that is on disk is whole at any moment


def user_error(error: BaseException) -> UserError | None:
    """Return the error that the user can correct, or None if an exception is a fault of the program.

    The user can correct options that Hydra and OmegaConf refuse, files that cannot be read or written, and a
    full or failing disk. Hydra wraps the exceptions of constructors; the wrapped ones are looked at, too.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        if isinstance(cause, OSError) and cause.errno in _DISK:
            what = cause.filename or f"a file in {_folder()}"
            return UserError(
                f"{what}: cannot be written ({cause.strerror}); see to it, then go on with resume=true"
            )
        cause = cause.__cause__
    return cause or _of_options(error) or _of_files(error)


def _of_options(error: BaseException) -> UserError | None:
    from hydra.errors import HydraException, InstantiationException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        if (file := _of_files(error.__cause__)) is not None:
            return file
        found = re.search(r"full_key: (\S+)", str(error))
        return UserError(f"{found[1] if found else 'options'}: {_line(error.__cause__)}")
    if isinstance(error, HydraException | OmegaConfBaseException):
        override = getattr(error, "override", None)  # of one that cannot be parsed
        return UserError(f"{override}: {_line(error)}" if override else _line(error))
    return None


def _of_files(error: BaseException) -> UserError | None:
    if not isinstance(error, OSError) or not isinstance(error.filename, str | bytes | os.PathLike):
        return None
    return UserError(f"{os.fsdecode(error.filename)}: {error.strerror}")


def _line(error: BaseException) -> str:
    """Return an error as one line, followed by its cause."""
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
    """Whether this is the only process of a run, or the one among several that reads, checks and reports."""
    numbers = ("NODE_RANK", "RANK", "LOCAL_RANK", "SLURM_PROCID")  # of Lightning, torchrun, both, SLURM
    return all(int(os.environ.get(number, 0)) == 0 for number in numbers)


def agree_on_start_time() -> None:
    """Put one start time into ``IVOS_START_TIME`` of all processes that ``torchrun`` or ``srun`` has started.

    A run's folder is named after it. The time is passed on through torchrun's own store; under SLURM the name
    is the job's and the step's.
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
    """Leave libraries their warnings but take their chatter away; of several processes one has the news."""
    logging.raiseExceptions = False  # a log that cannot be written would be a traceback at each line
    if not is_first_process():
        logging.getLogger().setLevel(logging.WARNING)
    for name in ("absl", "pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _NO_NEWS:
        warnings.filterwarnings("ignore", message=message)
