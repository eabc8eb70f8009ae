"""The base class of the stages: trained parameters, optimiser, distributed steps and validation."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import GradClipAlgorithmType
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from ivos.data.batches import Batch
from ivos.engine import ATNetSegmenter
from ivos.networks import ATNet
from ivos.runtime.errors import UserError
from ivos.runtime.options import Seed, whole
from ivos.training import distributed
from ivos.training.corrections import CorrectionPool
from ivos.training.execution import fused
from ivos.training.finiteness import NonFiniteGuard, scales_the_loss
from ivos.training.initialisation import plain
from ivos.training.losses import SegmentationLoss
from ivos.training.resuming import counts_steps
from ivos.training.validation import SessionResult, metric_names, simulate_session
from ivos.video.clip import Clip


class Stage(pl.LightningModule):
    """A stage of the training; subclasses define its trained parameters and its loss.

    The parts of the network that a stage does not train are frozen, including the statistics of their batch
    norms. :mod:`ivos.training.initialisation` sets the weights from which a stage starts;
    :mod:`ivos.training.execution` sets how its networks are executed.

    Args:
        network: A-Net and T-Net; trained in place.
        trains: Prefixes of the names of the trained parameters.
        optimizer: Function that creates the optimiser from the trained parameters.
        scheduler: Function that creates the learning-rate schedule from the optimiser; None keeps the rate
            constant. A schedule with an argument ``total_steps`` advances at each optimiser step, and gets
            their number if it is not configured; any other schedule advances at each epoch.
        loss: Loss of the logits.
        freeze_batch_norm: Whether the running statistics of all batch norms stay unchanged.
        dropout: Whether the network's dropout is active; a small network that is trained for minutes learns
            faster without it.
        validation_rounds: Number of rounds of the validation sessions.
        seed: Seed of the randomness in a step. It is combined with the index of the step, so that a resumed
            run continues as if it had not been interrupted. The randomness of simulated users also depends on
            the sample's place in the batch of all processes, so that it does not depend on the number of
            processes; that of dropout depends on the process.
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
        validation_rounds: Annotated[int, whole(1, 16)] = 3,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self.trains = tuple(trains)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.loss = loss or SegmentationLoss()
        self.freeze_batch_norm, self.dropout = freeze_batch_norm, dropout
        self.validation_rounds, self.seed = validation_rounds, seed
        self.checkpointing = False  # see ivos.training.execution
        self.number = 0  # index of the current batch, counted over all epochs
        self.finite = NonFiniteGuard()
        self.users = CorrectionPool()  # simulated users; it has as many processes as the data loader
        self.metrics = nn.ModuleDict({name: MeanMetric() for name in metric_names(validation_rounds)})
        self.segmenter: ATNetSegmenter | None = None  # set during a validation
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(self.learns(name))

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimise (a scalar) and the metrics to log (scalars by name)."""
        raise NotImplementedError

    def validation_clip(self, clip: Clip) -> Clip:
        """Return the part of a clip on which this stage is validated."""
        return clip

    # Trained parameters

    def learns(self, name: str) -> bool:
        """Return whether this stage trains the parameter with the given name."""
        return name.startswith(self.trains)

    def train(self, mode: bool = True) -> "Stage":
        """Set the trained parts to training mode; the others stay in evaluation mode."""
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
        """Set the modules to their training modes, which Lightning does not change."""
        self.train()
        self.users.start(getattr(getattr(self.trainer, "datamodule", None), "loader_processes", 0))

    def teardown(self, stage: str) -> None:
        """End the processes of the simulated users."""
        self.users.close()

    def on_validation_model_train(self) -> None:
        """Set the modules to their training modes after a validation."""
        self.train()

    def configure_optimizers(self) -> Any:
        """Create the optimiser of the trained parameters and its learning-rate schedule."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        one_kernel = not scales_the_loss(self.trainer) and fused(self.make_optimizer, self.device)
        optimizer = self.make_optimizer(trained, **({"fused": True} if one_kernel else {}))
        if self.make_scheduler is None:
            return optimizer
        if not counts_steps(self.make_scheduler):
            schedule = {"scheduler": self.make_scheduler(optimizer), "interval": "epoch"}
        else:
            given = getattr(self.make_scheduler, "keywords", {}).get("total_steps")
            steps = given or int(self.trainer.estimated_stepping_batches)
            schedule = {"scheduler": self.make_scheduler(optimizer, total_steps=steps), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    # Steps

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the randomness in the step with the index of the batch."""
        self.number = self.trainer.fit_loop.epoch_loop.total_batch_idx
        self.finite.begin(self.global_step + 1, batch["names"])
        torch.manual_seed(
            int(np.random.SeedSequence([self.seed, self.number, self.global_rank]).generate_state(1)[0])
        )

    def randomness(self, batch: Batch) -> list[np.random.Generator]:
        """Return a random generator for each of the M masks.

        Its seed depends on the place of the mask's sample in the batch of all processes.
        """
        first = self.global_rank * len(batch["names"])
        images = batch["image"].tolist()
        places = [(first + image, images[:m].count(image)) for m, image in enumerate(images)]
        return [np.random.default_rng([self.seed, self.number, *place]) for place in places]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, and log it with the stage's metrics."""
        loss, metrics = self.losses(batch)
        weight = self._weight(batch, loss)
        size = {"batch_size": len(batch["names"]), "sync_dist": self.trainer.world_size > 1}
        self.log("train/loss", weight * loss.detach(), **size)  # type: ignore[arg-type]
        self.log_dict({f"train/{name}": weight * value.detach() for name, value in metrics.items()}, **size)  # type: ignore[arg-type]
        return weight * loss

    def _weight(self, batch: Batch, loss: Tensor) -> Tensor | float:
        """Return the weight of this process's loss in the mean over the processes.

        Each process averages over its own masks. With these weights, the mean over the processes is the mean
        over all masks.

        Raises:
            NotFiniteError: The loss of a process is not finite; all processes raise this error.
        """
        mine = torch.full((2,), float(len(batch["image"])), device=loss.device)
        mine[0] = loss.detach()
        losses, counts = distributed.gather(mine).unbind(1)
        self.finite.check_loss(losses, self)
        return mine[1] / counts.mean() if len(counts) > 1 else 1.0

    def on_after_backward(self) -> None:
        """Average the statistics of unsynchronised batch norms, so that they are equal in all processes."""
        if self.trainer.world_size > 1:
            distributed.average_statistics(self.network)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Check that the gradient is finite; see :class:`ivos.training.finiteness.NonFiniteGuard`."""
        self.finite.check_gradient(optimizer, self)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient with the norm that the check for finite gradients has computed.

        Lightning cannot clip for a fused optimiser under mixed precision, because such an optimiser unscales
        the gradient itself. Without a loss scaler, gradients are not scaled and can be clipped.
        """
        if scales_the_loss(self.trainer) or not gradient_clip_val:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if gradient_clip_algorithm == GradClipAlgorithmType.VALUE:
            nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        else:
            nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, self.finite.gradient_norm)

    def on_train_end(self) -> None:
        """Check the batches that have not been checked yet."""
        self.finite.check_pending(self)

    # Validation

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch to the device; a clip stays on the CPU, because the segmenter copies its frames."""
        if isinstance(batch, Clip):
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_validation_epoch_start(self) -> None:
        """Create the segmenter that runs the network in the validation sessions."""
        self.finite.check_pending(self)
        self.segmenter = ATNetSegmenter(self.network, flow=False, short_side=None)

    def validation_step(self, clip: Clip | None, batch_idx: int) -> dict[str, SessionResult] | None:  # type: ignore[override]
        """Run a short session on a held-out clip, and return it to the callbacks as ``session``.

        All processes must run the same number of steps. If the number of clips is not a multiple of the
        number of processes, the last clip of some processes is None.
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
        """Log the means of the metrics over the clips of all processes."""
        self.segmenter = None
        for name, metric in self.metrics.items():
            value = metric.compute()  # type: ignore[operator]
            metric.reset()  # type: ignore[operator]
            if not torch.isnan(value):  # NaN: no frame contributed, such as without propagated frames
                self.log(f"val/{name}", value, sync_dist=True)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the network's configuration, so that :func:`ivos.networks.load` reads training checkpoints."""
        self.finite.check_pending(self)
        checkpoint["ivos"] = {**self.network.about, "processes": self.trainer.world_size}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint belongs to the same network and the same number of processes.

        Samples are numbered by process, so that a different number of processes would repeat or skip samples.

        Raises:
            UserError: The network or the number of processes differs.
        """
        theirs, ours = checkpoint["ivos"]["network"], self.network.config
        if different := [name for name in ours if plain(theirs.get(name)) != plain(ours[name])]:
            was = ", ".join(f"model.{name}={plain(theirs.get(name))}" for name in different)
            raise UserError(f"the run was started with a different network; resume it with {was}")
        begun, now = checkpoint["ivos"].get("processes", 1), self.trainer.world_size
        if begun != now:
            raise UserError(
                f"the run was started with {begun} processes, now there are {now}: samples would be repeated "
                f"or skipped; resume it with {begun} processes (trainer.devices, trainer.num_nodes)"
            )
