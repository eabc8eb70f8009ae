"""What the command-line programs share: how they report the user's errors, and what they leave unsaid."""

import contextlib
import errno
import hashlib
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from ivos.runtime.errors import UserError

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
    """The folder of the configurations: in the wheel a part of the package, in a checkout beside it."""
    packaged = Path(__file__).parents[1] / "conf"
    return str(packaged if packaged.is_dir() else Path(__file__).parents[2] / "conf")


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
    cause = user_error(ended.exc_value) if ended.exc_value else None
    if cause is None:
        threading.__excepthook__(ended)
        return
    print(f"error: {cause}", file=sys.stderr, flush=True)
    os._exit(2)  # all that is on disk is whole at any moment


def user_error(error: BaseException) -> UserError | None:
    """The :class:`UserError` behind an exception, if there is one: Hydra wraps what a constructor raises.

    A disk that is full, or fails, is the user's to mend, too, whatever was written.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        if isinstance(cause, OSError) and cause.errno in _DISK:
            what = cause.filename or f"a file in {_folder()}"
            return UserError(
                f"{what}: cannot be written ({cause.strerror}); see to it, then go on with resume=true"
            )
        cause = cause.__cause__
    return cause


def _folder() -> str:
    """What a run writes to."""
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
    """The digest of a file's content, in hexadecimal."""
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
