"""Interactive sessions in a Lightning test loop, whose batches are samples."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from ivos.engine import Segmenter
from ivos.runtime import signals
from ivos.session import Metric, Protocol, Sample, ScoredRound, run_session

MakeProtocol = Callable[[Sample], Protocol]


class SessionCallback:
    """Base class of callbacks for the events of sessions."""

    def on_sample(self, sample: Sample) -> None:
        """Handle the start of a session on a decoded sample."""

    def on_round(self, sample: Sample, scored: ScoredRound) -> None:
        """Handle a scored round."""

    def on_sample_end(self, sample: Sample) -> None:
        """Handle the end of a session."""


class DecodedSamples(Dataset[Sample]):
    """Data set of decoded samples; a thread decodes the next sample ahead.

    Consecutive samples of the same video share its frames and masks.

    Args:
        samples: Samples on disk or in memory.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        self._thread = ThreadPoolExecutor(1, "samples")
        self._ahead: dict[int, Future[Sample]] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        future = self._ahead.get(index) or self._thread.submit(self.samples[index].decoded)
        sample = future.result()
        self._ahead = {}
        if index + 1 < len(self):
            following = self.samples[index + 1]
            same = following.video is self.samples[index].video
            clip = sample.clip if same else None
            self._ahead[index + 1] = self._thread.submit(following.decoded, clip)
        return sample


def sample_loader(samples: Sequence[Sample]) -> "DataLoader[Sample]":
    """Return the loader of the samples of this process, in order, for ``Trainer.test``."""
    data = DecodedSamples(samples)
    # With a DistributedSampler, Lightning does not distribute the samples among the processes again.
    in_order: DistributedSampler[Sample] = DistributedSampler(data, num_replicas=1, rank=0, shuffle=False)
    return DataLoader(data, batch_size=None, sampler=in_order)


class SessionModule(pl.LightningModule):
    """Lightning module that runs a session with a segmenter on each sample.

    Its memory does not grow with the number of samples.

    Args:
        segmenter: Segmenter to evaluate. If it has a module ``network``, Lightning moves that to its device.
        protocol: Function that creates the protocol of a decoded sample.
        metric: Metric that is shown in the progress.
        session_callbacks: Callbacks for the events of each session, called in this order.
        begin: Function that every process calls once all processes have started.
        total: Number of samples of all processes together, for progress bars.
        done: Function that returns the number of samples completed by all processes; None counts those of
            this process.
        threads: Number of CPU threads of PyTorch during the sessions, on which rounding depends; None leaves
            it unchanged.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        protocol: MakeProtocol,
        metric: Metric,
        session_callbacks: Sequence[SessionCallback] = (),
        begin: Callable[[], None] = lambda: None,
        total: int = 0,
        done: Callable[[], int] | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__()
        self.threads, self._threads_before = threads, 0
        self.segmenter, self.protocol, self.metric = segmenter, protocol, metric
        self.session_callbacks, self.begin, self.total = list(session_callbacks), begin, total
        self.num_done = 0
        self.max_rounds = 0  # largest number of rounds of the current sample
        self.done = done or (lambda: self.num_done)
        # With more processes than samples some processes have no sample.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        network = getattr(segmenter, "network", None)
        if isinstance(network, nn.Module):
            self.network = network

    def transfer_batch_to_device(self, batch: Sample, device: Any, dataloader_idx: int) -> Sample:
        """Leave samples on the CPU; the segmenter copies what it needs to the device."""
        return batch

    def setup(self, stage: str) -> None:
        """Call ``begin``, after Lightning has waited for all processes."""
        self.begin()

    def on_test_start(self) -> None:
        """Install the program's signal handlers and set the number of threads, which overrides Lightning."""
        signals.take_over(getattr(self.trainer.strategy.launcher, "kill", None))
        self._threads_before = torch.get_num_threads()
        if self.threads is not None:  # Lightning sets the number when it starts several processes
            torch.set_num_threads(self.threads)

    def on_test_end(self) -> None:
        """Restore the number of PyTorch's threads."""
        torch.set_num_threads(self._threads_before)

    def test_step(self, sample: Sample, batch_idx: int) -> None:
        """Run a session on a sample and pass its rounds to the callbacks."""
        protocol = self.protocol(sample)
        self.max_rounds = protocol.max_rounds
        for callback in self.session_callbacks:
            callback.on_sample(sample)
        for scored in run_session(self.segmenter, sample, protocol):
            signals.stop()
            for callback in self.session_callbacks:
                callback.on_round(sample, scored)
        self.num_done += 1
        for callback in self.session_callbacks:
            callback.on_sample_end(sample)


def run_samples(
    segmenter: Segmenter,
    samples: Sequence[Sample],
    protocol: MakeProtocol,
    trainer: pl.Trainer,
    **options: Any,
) -> None:
    """Run a session on each sample in a trainer's test loop.

    Args:
        segmenter: Segmenter to evaluate.
        samples: Samples of this process.
        protocol: Function that creates the protocol of a decoded sample.
        trainer: Trainer whose test loop runs the sessions.
        options: Further arguments of :class:`SessionModule`.
    """
    trainer.test(SessionModule(segmenter, protocol, **options), sample_loader(samples), verbose=False)
