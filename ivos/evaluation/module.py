"""Sessions in a Lightning test loop, whose batches are samples."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from ivos.engine import Segmenter
from ivos.evaluation.loader import sample_loader
from ivos.runtime import signals
from ivos.session import Metric, Protocol, Round, Sample, run_session

MakeProtocol = Callable[[Sample], Protocol]


class SessionCallback:
    """What looks on while sessions are run; the rounds are handed to it as values."""

    def on_sample(self, sample: Sample) -> None:
        """A session begins on a decoded sample."""

    def on_round(self, sample: Sample, scored: Round) -> None:
        """A round is scored."""

    def on_sample_end(self, sample: Sample) -> None:
        """The session is over."""


class SessionModule(pl.LightningModule):
    """Runs a segmenter through a session on each sample.

    Args:
        segmenter: what is evaluated. If it has a module ``network``, Lightning moves that to its device.
        protocol: makes the protocol of a decoded sample.
        metric: what is shown while it runs.
        watchers: what looks on, in this order.
        begin: called once all processes are there, by those that have no sample, too.
        total: samples of all processes together, for those who show progress.
        done: how many of them are done by now, on any process; None: those that this one has done.
        threads: CPU threads of PyTorch in this process while sessions are run, on which the last digits of
            its sums depend; None: as they are.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        protocol: MakeProtocol,
        metric: Metric,
        watchers: Sequence[SessionCallback] = (),
        begin: Callable[[], None] = lambda: None,
        total: int = 0,
        done: Callable[[], int] | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__()
        self.threads, self._threads_before = threads, 0
        self.segmenter, self.protocol, self.metric = segmenter, protocol, metric
        self.watchers, self.begin, self.total = list(watchers), begin, total
        self.results: list[list[Round]] = []
        self.max_rounds = 0  # of the sample at work
        self.done = done or (lambda: len(self.results))
        # With more processes than samples some have nothing to do.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        network = getattr(segmenter, "network", None)
        if isinstance(network, nn.Module):
            self.network = network

    def transfer_batch_to_device(self, batch: Sample, device: Any, dataloader_idx: int) -> Sample:
        """Samples stay on the CPU; the segmenter moves what it needs."""
        return batch

    def setup(self, stage: str) -> None:
        """All processes have come this far, for which Lightning waits; from here on a lost one is missed."""
        self.begin()

    def on_test_start(self) -> None:
        """Signals and threads are this program's, not Lightning's."""
        signals.take_over(getattr(self.trainer.strategy.launcher, "kill", None))
        self._threads_before = torch.get_num_threads()
        if self.threads is not None:  # not before: Lightning sets them as it starts several processes
            torch.set_num_threads(self.threads)

    def on_test_end(self) -> None:
        """PyTorch has the threads that it had."""
        torch.set_num_threads(self._threads_before)

    def test_step(self, sample: Sample, batch_idx: int) -> None:
        """A session on a sample; :attr:`results` has its rounds, without the masks."""
        rounds: list[Round] = []
        protocol = self.protocol(sample)
        self.max_rounds = protocol.max_rounds
        for watcher in self.watchers:
            watcher.on_sample(sample)
        for scored in run_session(self.segmenter, sample, protocol):
            signals.stop()
            for watcher in self.watchers:
                watcher.on_round(sample, scored)
            rounds.append(replace(scored, masks=np.zeros((0, 0, 0), np.uint8)))
        self.results.append(rounds)
        for watcher in self.watchers:
            watcher.on_sample_end(sample)


def run_samples(
    segmenter: Segmenter,
    samples: Sequence[Sample],
    protocol: MakeProtocol,
    trainer: pl.Trainer,
    **options: Any,
) -> list[list[Round]]:
    """Run a session on each sample in a trainer's test loop.

    Args:
        segmenter: what is evaluated.
        samples: of this process.
        protocol: makes the protocol of a decoded sample.
        trainer: whose test loop it is.
        options: of :class:`SessionModule`.

    Returns:
        the rounds of each sample, without their masks.
    """
    module = SessionModule(segmenter, protocol, **options)
    trainer.test(module, sample_loader(samples), verbose=False)
    return module.results
