"""What the stages share: which parts learn, the optimiser, the step of several processes, validation."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from ivos.data.batches import Batch
from ivos.engine import ATNetSegmenter
from ivos.networks import ATNet
from ivos.runtime.errors import UserError
from ivos.training import distributed
from ivos.training.execution import fused
from ivos.training.finiteness import NonFiniteGuard, scales_the_loss
from ivos.training.initialisation import plain
from ivos.training.losses import SegmentationLoss
from ivos.training.validation import SessionResult, metric_names, simulate_session
from ivos.video.clip import Clip


class Stage(pl.LightningModule):
    """A part of the training: the parameters it trains, and the loss that a subclass defines for them.

    The parts of the network that a stage does not train are frozen, their batch norms' statistics included.
    What a stage begins with is :mod:`ivos.training.initialisation`'s, how its networks run
    :mod:`ivos.training.execution`'s.

    Args:
        network: A-Net and T-Net; trained in place.
        trains: beginnings of the names of the parameters that learn.
        optimizer: makes the optimiser from the parameters that learn.
        scheduler: makes the learning rate's schedule from the optimiser; None keeps it constant. One with an
            argument ``total_steps`` counts optimiser steps, and gets their number unless it is given; any
            other counts epochs.
        loss: of the logits.
        freeze_batch_norm: keep the statistics of all batch norms as they are.
        dropout: keep the network's dropout; a small network that trains for minutes learns faster without.
        validation_rounds: rounds of the sessions on held-out clips.
        seed: of the randomness inside a step, together with the step's number, so that a run that was killed
            goes on as if it had not been. Users in the loop are seeded by the sample's place in the batch of
            all processes, too, so that processes change nothing; dropout by the process.
    """

    def __init__(
        self,
        network: ATNet,
        trains: tuple[str, ...],
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        loss: SegmentationLoss | None = None,
        freeze_batch_norm: bool = False,
        dropout: bool = True,
        validation_rounds: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self.trains = tuple(trains)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.loss = loss or SegmentationLoss()
        self.freeze_batch_norm, self.dropout = freeze_batch_norm, dropout
        self.validation_rounds, self.seed = validation_rounds, seed
        self.checkpointing = False  # see ivos.training.execution
        self.number = 0  # of the batch at work, in all epochs
        self.finite = NonFiniteGuard()
        self.metrics = nn.ModuleDict({name: MeanMetric() for name in metric_names(validation_rounds)})
        self.segmenter: ATNetSegmenter | None = None  # in validation
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(self.learns(name))

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, and metrics to log."""
        raise NotImplementedError

    def validation_clip(self, clip: Clip) -> Clip:
        """The part of a clip that this stage can be judged by."""
        return clip

    # What learns

    def learns(self, name: str) -> bool:
        """Whether this stage trains the network's parameter of that name."""
        return name.startswith(self.trains)

    def train(self, mode: bool = True) -> "Stage":
        """Training mode for what learns; the rest stays in eval mode."""
        super().train(mode)
        if mode:
            for name, module in self.network.named_modules():
                frozen = isinstance(module, _BatchNorm) and self.freeze_batch_norm
                frozen |= isinstance(module, nn.Dropout) and not self.dropout
                if name and (frozen or not self._has_learning_part(name)):
                    module.train(False)
        return self

    def _has_learning_part(self, module: str) -> bool:
        return any(f"{module}.".startswith(part) or part.startswith(f"{module}.") for part in self.trains)

    def on_fit_start(self) -> None:
        """Lightning leaves modules in the mode they were handed over in."""
        self.train()

    def on_validation_model_train(self) -> None:
        """After validation."""
        self.train()

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule over the parameters that learn."""
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        one_kernel = not scales_the_loss(self.trainer) and fused(self.make_optimizer, self.device)
        optimizer = self.make_optimizer(learning, **({"fused": True} if one_kernel else {}))
        if self.make_scheduler is None:
            return optimizer
        if "total_steps" not in inspect.signature(self.make_scheduler).parameters:
            schedule = {"scheduler": self.make_scheduler(optimizer), "interval": "epoch"}
        else:
            given = getattr(self.make_scheduler, "keywords", {}).get("total_steps")
            steps = given or int(self.trainer.estimated_stepping_batches)
            schedule = {"scheduler": self.make_scheduler(optimizer, total_steps=steps), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    # A step

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed what happens inside the step by its number."""
        self.number = self.trainer.fit_loop.epoch_loop.total_batch_idx
        self.finite.begin(self.global_step + 1, batch["names"])
        torch.manual_seed(
            int(np.random.SeedSequence([self.seed, self.number, self.global_rank]).generate_state(1)[0])
        )

    def randomness(self, batch: Batch) -> list[np.random.Generator]:
        """A generator for each of the M masks, by its sample's place in the batch of all processes."""
        first = self.global_rank * len(batch["names"])
        images = batch["image"].tolist()
        places = [(first + image, images[:m].count(image)) for m, image in enumerate(images)]
        return [np.random.default_rng([self.seed, self.number, *place]) for place in places]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One batch."""
        loss, metrics = self.losses(batch)
        weight = self._weight(batch, loss)
        size = {"batch_size": len(batch["names"]), "sync_dist": self.trainer.world_size > 1}
        self.log("train/loss", weight * loss.detach(), **size)  # type: ignore[arg-type]
        self.log_dict({f"train/{name}": weight * value.detach() for name, value in metrics.items()}, **size)  # type: ignore[arg-type]
        return weight * loss

    def _weight(self, batch: Batch, loss: Tensor) -> Tensor | float:
        """What makes the processes' mean of their means over masks the mean over all of their masks.

        Raises:
            NotFiniteError: in all processes, where the loss of one is not finite.
        """
        mine = torch.full((2,), float(len(batch["image"])), device=loss.device)
        mine[0] = loss.detach()
        losses, counts = distributed.gather(mine).unbind(1)
        self.finite.check_loss(losses, self)
        return mine[1] / counts.mean() if len(counts) > 1 else 1.0

    def on_after_backward(self) -> None:
        """Batch norms that are not synchronised keep the same statistics in all processes all the same."""
        if self.trainer.world_size > 1:
            distributed.average_statistics(self.network)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Take no step with a gradient that is not finite; see :class:`NonFiniteGuard`."""
        self.finite.check_gradient(optimizer, self)

    def on_train_end(self) -> None:
        """What has not been looked at yet."""
        self.finite.look(self)

    # Validation

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Clips stay where they are; the segmenter moves what it needs."""
        if isinstance(batch, Clip):
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_validation_epoch_start(self) -> None:
        """Judge the network as the engine runs it."""
        self.finite.look(self)
        self.segmenter = ATNetSegmenter(self.network)

    def validation_step(self, clip: Clip | None, batch_idx: int) -> dict[str, SessionResult] | None:  # type: ignore[override]
        """A small session on a held-out clip, which the callbacks get as ``session``.

        Where the clips do not come out even, a process gets None for the last one: all processes have to do
        the same number of steps.
        """
        if clip is None:
            return None
        assert self.segmenter is not None
        result = simulate_session(
            self.segmenter, self.validation_clip(clip), self.validation_rounds, self.seed
        )
        for name, value in result.metrics().items():
            self.metrics[name].update(value)  # type: ignore[operator]
        return {"session": result}

    def on_validation_epoch_end(self) -> None:
        """Log the metrics' means over the clips of all processes."""
        self.segmenter = None
        for name, metric in self.metrics.items():
            value = metric.compute()  # type: ignore[operator]
            metric.reset()  # type: ignore[operator]
            if not torch.isnan(value):  # of no frame: the propagated ones of single frames
                self.log(f"val/{name}", value, sync_dist=True)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what :func:`ivos.networks.load` needs, so that any checkpoint can be evaluated as it is."""
        self.finite.look(self)
        checkpoint["ivos"] = {**self.network.about, "processes": self.trainer.world_size}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Samples are numbered by process.

        Raises:
            UserError: the run was begun with another network or another number of processes.
        """
        theirs, ours = checkpoint["ivos"]["network"], self.network.config
        if different := [name for name in ours if plain(theirs.get(name)) != plain(ours[name])]:
            was = ", ".join(f"model.{name}={plain(theirs.get(name))}" for name in different)
            raise UserError(f"the run was begun with another network; resume it with {was}")
        begun, now = checkpoint["ivos"].get("processes", 1), self.trainer.world_size
        if begun != now:
            raise UserError(
                f"the run was begun with {begun} processes, now there are {now}: samples would be repeated "
                "or left out; resume it with as many (trainer.devices, trainer.num_nodes)"
            )
