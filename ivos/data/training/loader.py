"""Batches of mini-sequences by number."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from ivos.data.batches import Batch, MiniSequence, collate
from ivos.runtime.errors import UserError
from ivos.runtime.machine import cores
from ivos.runtime.subprocesses import be_a_worker


class NumberedLoader(DataLoader[MiniSequence]):
    """Batches by number: goes on where it was when a checkpoint was written, within an epoch too.

    Args:
        mini_sequences: by number.
        batch_size: mini-sequences of a batch.
        num_batches: of an epoch.
        rank: which of several processes this is.
        world_size: how many there are; they take turns.
        options: see :class:`torch.utils.data.DataLoader`.
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
        """How far it is."""
        return {"batches_done": self.numbers.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.numbers.done = state["batches_done"]


class _Told(Dataset[Any]):
    """Mini-sequences, or the user's errors instead: PyTorch makes a traceback of what its processes raise."""

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
    """The numbers of the mini-sequences of each batch that is left of an epoch."""

    def __init__(self, batch_size: int, num_batches: int, rank: int, world_size: int) -> None:
        self.batch_size, self.num_batches = batch_size, num_batches
        self.rank, self.world_size = rank, world_size
        self.done = 0  # batches handed out in all epochs

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        start = self.done
        for batch in range(start, (start // self.num_batches + 1) * self.num_batches):
            first = (batch * self.world_size + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


def workers_for(on_gpu: bool, processes: int) -> int:
    """Loader processes for each of the training processes of a machine, by the cores that it grants them.

    Beside a GPU they get all cores but one for each training process, up to 16 each; on a CPU, where training
    itself needs the cores, a quarter of them. There is always one.
    """
    share = cores() // max(processes, 1)
    return max(1, min(16, share - 1) if on_gpu else share // 4)
