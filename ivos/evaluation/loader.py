"""Samples for a Lightning test loop."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from torch.utils.data import DataLoader, Dataset, DistributedSampler

from ivos.session import Sample


class DecodedSamples(Dataset[Sample]):
    """Samples with frames, masks and first strokes in memory; the one after the one asked for is read ahead.

    Samples of one video that follow each other share its frames and masks.

    Args:
        samples: as they are on disk (or in memory).
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
    """What goes to ``Trainer.test``: the samples of this process, in order."""
    data = DecodedSamples(samples)
    # Lightning leaves a sampler of this kind alone; it would share these samples out once more.
    in_order: DistributedSampler[Sample] = DistributedSampler(data, num_replicas=1, rank=0, shuffle=False)
    return DataLoader(data, batch_size=None, sampler=in_order)
