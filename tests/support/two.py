"""Functions that the processes of the distributed tests run, in a module that can be pickled."""

import functools
import os
import pickle
import queue
import signal
import socket
import traceback

import pytorch_lightning as pl
import torch
from torch import nn

from ivos import kernels
from ivos.data.datasets.davis import DavisFolder
from ivos.data.training import MiniSequences, TrainingData
from ivos.networks import ATNet
from ivos.training.stages import ANetStage, JointStage, NotFiniteError, TNetStage
from tests.support.forked import FORKED

KINDS = {
    "anet": (ANetStage, {"feedback_rounds": 1, "feedback_prob": 0.7}, 1),
    "tnet": (TNetStage, {}, 3),
    "joint": (JointStage, {"rounds": 2}, 3),
}


def run_two(function, *arguments, timeout=300):
    """What ``function(rank, *arguments)`` returns in two processes of one distributed run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = FORKED.Queue()
    ranks = [FORKED.Process(target=_rank, args=(r, port, results, function, arguments)) for r in range(2)]
    for process in ranks:
        process.start()
    found = {}
    try:
        while len(found) < 2:
            rank, value, error = results.get(timeout=timeout)
            assert error is None, error
            found[rank] = pickle.loads(value)
    except queue.Empty:
        raise AssertionError(f"hangs, but for ranks {list(found)}") from None
    finally:
        for process in ranks:
            process.join(5)
            process.kill()
    return [found[0], found[1]]


def _rank(rank, port, results, function, arguments):
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
    }  # fmt: skip
    torch.set_num_threads(1)
    try:
        results.put((rank, pickle.dumps(function(rank, *arguments)), None))
    except BaseException:
        results.put((rank, None, traceback.format_exc()))


class _LocalTransfer(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Conv2d(3, 4, 1)

    def forward(self, target, other, mask):
        return kernels.local_transfer(self.project(target), self.project(other), mask)


def local_transfer_gradients(rank):
    """Gradients of a projection by two processes of a batch each, and by one of both batches."""
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = _LocalTransfer()
    batches = [[torch.randn(1, n, 9, 10) for n in (3, 3, 2)] for _ in range(2)]
    for batch in batches:
        model(*batch).sin().sum().backward()
    expected = [p.grad / 2 for p in model.parameters()]
    model.zero_grad()
    parallel = nn.parallel.DistributedDataParallel(model)
    parallel(*batches[rank]).sin().sum().backward()
    return [p.grad for p in model.parameters()], expected


class Watch(pl.Callback):
    """Writes down the weights after each step, what the batches were, and what validation found."""

    def __init__(self):
        self.found = {"states": [], "names": [], "masks": [], "seeds": [], "losses": [], "figures": {}}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        state = {k: v.detach().clone().numpy() for k, v in module.state_dict().items()}
        self.found["states"].append(state)
        self.found["names"].append(batch["names"])
        self.found["masks"].append(len(batch["image"]))
        self.found["losses"].append(float(trainer.callback_metrics["train/loss"]))
        self.found["seeds"].append(torch.initial_seed())

    def on_validation_end(self, trainer, module):
        self.found["figures"] = {k: float(v) for k, v in trainer.callback_metrics.items()}


def tiny_network():
    """Untrained, but it takes everything for the object, so that J is not 0."""
    torch.manual_seed(0)
    network = ATNet(width=4, depths=[1, 1, 1, 1], decoder_width=8)
    with torch.no_grad():
        for part in (network.anet, network.tnet):
            last = [module for module in part.decoder.modules() if isinstance(module, nn.Conv2d)][-1]
            last.bias.fill_(3.0)
    return network


def no_dropout(network):
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def fit(
    kind, root, processes=1, batch_size=2, batches=2, epochs=1, val_clips=3, dropout=False,
    callbacks=(), trainer=None, checkpoint=None, stage=None, optimizer=None, **options,
):  # fmt: skip
    """A small run: its module, what was watched, its trainer."""
    network = tiny_network() if dropout else no_dropout(tiny_network())
    default, settings, frames = KINDS[kind]
    sgd = functools.partial(torch.optim.SGD, lr=0.02, momentum=0.9)
    module = (stage or default)(
        network, optimizer=optimizer or sgd, validation_rounds=2, seed=3, **{**settings, **options}
    )
    samples = functools.partial(MiniSequences, num_frames=frames, window=3, crop=32, max_objects=2, seed=1)
    val = DavisFolder(root, split="val") if val_clips else None
    data = TrainingData(DavisFolder(root, split="train"), val, samples, batch_size, batches, val_clips)
    watch = Watch()
    made = pl.Trainer(
        accelerator="cpu", devices=processes, max_epochs=epochs, logger=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
        callbacks=[watch, *callbacks], **{"enable_checkpointing": False, **(trainer or {})},
    )  # fmt: skip
    made.fit(module, data, ckpt_path=checkpoint)
    return module, watch.found, made


STILL = {"optimizer": functools.partial(torch.optim.SGD, lr=0.0), "freeze_batch_norm": True, "batches": 1}


def train_all(rank, root):
    """Every kind of stage; batch norm and dropout at work; validation alone."""
    found = {kind: fit(kind, root, processes=2, freeze_batch_norm=True, val_clips=0)[1] for kind in KINDS}
    found["as usual"] = fit("tnet", root, processes=2, dropout=True, val_clips=0)[1]
    for clips in (3, 1):
        for kind in ("anet", "tnet"):
            found[f"{kind} on {clips}"] = fit(kind, root, processes=2, val_clips=clips, **STILL)[1]
    return found


class Poisoned(ANetStage):
    """Not a number in the second step of the second process."""

    def losses(self, batch):
        loss, figures = super().losses(batch)
        poison = self.number == 1 and self.global_rank == 1
        return loss * (torch.nan if poison else 1), figures


def poison(rank, root):
    """The message that ends the run, and this process' batches."""
    try:
        fit("anet", root, processes=2, batches=3, stage=Poisoned, val_clips=0)
    except NotFiniteError as error:
        return str(error)
    return None


class Crash(pl.Callback):
    """Ends the second process in its second step."""

    def __init__(self, how):
        self.how = how

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.global_step == 1:
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError("the disk is on fire")


class Killed(pl.Callback):
    """Kills the process before a step."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
