"""Corrections by simulated users in the training loop: strokes on errors of the network's own predictions."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivos.interaction.raster import join_channels
from ivos.interaction.simulate import SimulatedUser
from ivos.runtime.errors import UserError
from ivos.runtime.subprocesses import be_a_worker

Drawn = tuple[NDArray[np.float32], np.random.Generator]


class CorrectionPool:
    """Pool of worker processes that compute the corrections of simulated users.

    A correction takes 6 to 21 ms of processor time, so that computing those of a large batch one after
    another would leave a GPU idle for longer than a training step takes. The strokes do not depend on the
    number of processes: the random generator of a mask depends on the mask's place in the batch, and the
    worker process returns its advanced state.

    Without worker processes, corrections are computed in the calling process. The processes start with the
    first correction and end with the training process, whatever ends it. They are spawned, because a fork
    would copy the locks of the training process's threads.
    """

    def __init__(self) -> None:
        self.processes = 0
        self._executor: ProcessPoolExecutor | None = None

    def start(self, processes: int) -> None:
        """Set the number of worker processes; 1 is treated as 0, because a single worker has no benefit."""
        self.close()
        self.processes = processes if processes > 1 else 0

    def close(self) -> None:
        """End the processes."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def __deepcopy__(self, memo: Any) -> "CorrectionPool":
        """Return a pool without processes; a stage is copied for the moving average of its weights."""
        return CorrectionPool()

    def correct(
        self,
        user: SimulatedUser,
        predicted: Tensor,
        masks: Tensor,
        interaction: Tensor,
        rngs: list[np.random.Generator],
    ) -> Tensor:
        """Return A-Net's interaction channels after a user has corrected a prediction.

        Args:
            user: Simulated user who draws the strokes.
            predicted: Predicted masks, bool [M, 1, H, W].
            masks: True masks, uint8 [M, 1, H, W] (0, 1, 255 void).
            interaction: Current interaction channels [M, 3, H, W]; their strokes are kept.
            rngs: Random generator of each of the M masks; advanced in place.

        Raises:
            UserError: A worker process was killed.
        """
        faulty, truth = predicted[:, 0].cpu().numpy().astype(np.uint8), masks[:, 0].cpu().numpy()
        drawn = self._draw(user, faulty, truth, rngs)
        rngs[:] = [rng for _, rng in drawn]
        new = np.stack([channels for channels, _ in drawn])
        strokes = np.maximum(new[:, 1:], interaction[:, 1:].cpu().numpy())
        if user.negatives_everywhere:
            channels = np.concatenate([new[:, :1], strokes], axis=1)
        else:
            channels = join_channels(new[:, 0], strokes[:, 0], strokes[:, 1])
        return torch.from_numpy(channels).to(interaction)

    def _draw(
        self,
        user: SimulatedUser,
        faulty: NDArray[np.uint8],
        truth: NDArray[np.uint8],
        rngs: Sequence[np.random.Generator],
    ) -> list[Drawn]:
        if not self.processes:
            return list(map(user.correction, faulty, truth, rngs))
        if self._executor is None:
            spawn = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self.processes, spawn, be_a_worker)
        try:
            return list(self._executor.map(user.correction, faulty, truth, rngs))
        except BrokenProcessPool as error:
            self.close()
            raise UserError(
                "a process that draws the corrections of simulated users was killed, perhaps for lack of "
                "memory; set a smaller num_workers of the stage's data, and go on with resume=true"
            ) from error
