"""A data loader of numbered mini-sequences that can be resumed at any batch."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from ivos.data.batches import Batch, MiniSequence, collate
from ivos.runtime.errors import UserError
from ivos.runtime.machine import cores
from ivos.runtime.subprocesses import be_a_worker


class NumberedLoader(DataLoader[MiniSequence]):
    """Data loader of numbered samples that resumes at the position of a checkpoint, even within an epoch.

    Args:
        mini_sequences: Data set of mini-sequences, indexed by number.
        batch_size: Number of mini-sequences in a batch.
        num_batches: Number of batches in an epoch.
        rank: Rank of this process.
        world_size: Number of processes, which take consecutive batches in turn.
        options: Options of :class:`torch.utils.data.DataLoader`.
    """

    def __init__(
        self,
        mini_sequences: Dataset[MiniSequence],
        batch_size: int,
        num_batches: int,
        rank: int = 0,
        world_size: int = 1,
        **options: Any,
    ) -> None:
        numbers = _Numbers(batch_size, num_batches, rank, world_size)
        super().__init__(  # type: ignore[misc]
            _Told(mini_sequences),  # type: ignore[arg-type]
            batch_sampler=numbers,
            collate_fn=_collate,
            worker_init_fn=be_a_worker,
            **options,
        )
        self.numbers = numbers

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            self.numbers.done += 1
            yield batch  # type: ignore[misc]

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches that the loader has returned so far."""
        return {"batches_done": self.numbers.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the given number of batches."""
        self.numbers.done = state["batches_done"]


class _Told(Dataset[Any]):
    """Data set that returns a UserError instead of raising it.

    PyTorch would convert an exception of a loader process to a traceback.
    """

    def __init__(self, mini_sequences: Dataset[MiniSequence]) -> None:
        self.mini_sequences = mini_sequences

    def __getitem__(self, number: int) -> MiniSequence | UserError:
        try:
            return self.mini_sequences[number]
        except UserError as error:
            return error


def _collate(samples: Sequence[MiniSequence | UserError]) -> Batch | UserError:
    error = next((sample for sample in samples if isinstance(sample, UserError)), None)
    return error or collate(samples)  # type: ignore[arg-type]


class _Numbers:
    """Sampler of the numbers of the mini-sequences in each remaining batch of an epoch."""

    def __init__(self, batch_size: int, num_batches: int, rank: int, world_size: int) -> None:
        self.batch_size, self.num_batches = batch_size, num_batches
        self.rank, self.world_size = rank, world_size
        self.done = 0  # number of batches returned in all epochs

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        start = self.done
        for batch in range(start, (start // self.num_batches + 1) * self.num_batches):
            first = (batch * self.world_size + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


def workers_for(on_gpu: bool, processes: int) -> int:
    """Return the number of loader processes for each training process of a machine.

    The available cores are divided among the training processes. On a GPU, each loader gets all cores of its
    share but one, up to 16; on a CPU, where the training itself needs the cores, a quarter of its share. The
    number is at least 1.

    Args:
        on_gpu: Whether the training runs on a GPU.
        processes: Number of training processes on this machine.
    """
    share = cores() // max(processes, 1)
    return max(1, min(16, share - 1) if on_gpu else share // 4)
