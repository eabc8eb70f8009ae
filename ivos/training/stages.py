"""The stages of training as LightningModules: A-Net, then T-Net with A-Net frozen, then both together."""

import copy
import inspect
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from ivos.engine import ATNetSegmenter, plan_round
from ivos.errors import UserError
from ivos.interaction.samples import Batch, Clip
from ivos.interaction.simulate import SimulatedUser
from ivos.networks import ATNet, load, load_imagenet
from ivos.training import processes
from ivos.training.losses import SegmentationLoss, jaccard, local_transfer_loss
from ivos.training.sequence import Sequences, run
from ivos.training.validation import SessionResult, figure_names, simulate_session


class NotFiniteError(UserError):
    """A loss or a gradient that is not a number, or infinite; training has stopped before the step."""

    everywhere = True  # all processes raise it, one has to say so


class Stage(pl.LightningModule):
    """What the stages share: which parts learn, the optimiser, checks, validation.

    The parts of the network that a stage does not train are frozen, their batch norms' statistics included.

    Args:
        network: A-Net and T-Net; trained in place.
        trains: beginnings of the names of the parameters that learn.
        optimizer: makes the optimiser from the parameters that learn.
        scheduler: makes the learning rate's schedule from the optimiser; None keeps it constant. If it has an
            argument ``total_steps`` that is not given, it gets the number of optimiser steps of the run.
        scheduler_interval: whether the schedule counts steps or epochs.
        loss: of the logits.
        weights: a checkpoint to start from, of this width and depth; None starts from `network` as it is.
        imagenet: torchvision's ResNet-50 weights for the encoders that learn: a file, or ``download``.
        freeze_batch_norm: keep the statistics of all batch norms as they are.
        dropout: keep the network's dropout; a small network that trains for minutes learns faster without.
        channels_last: keep weights and images in the memory order that convolutions prefer.
        compile: run the networks through ``torch.compile``.
        checkpointing: trade time for memory: no activations are kept inside the networks.
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
        scheduler_interval: Literal["step", "epoch"] = "epoch",
        loss: SegmentationLoss | None = None,
        weights: str | Path | None = None,
        imagenet: str | Path | None = None,
        freeze_batch_norm: bool = False,
        dropout: bool = True,
        channels_last: bool = False,
        compile: bool = False,
        checkpointing: bool = False,
        validation_rounds: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.trains = tuple(trains)
        if imagenet is not None:
            for part in (network.anet, network.tnet):
                if any(
                    self.learns(name)
                    for name, p in network.named_parameters()
                    if p is part.encoder.stem.weight
                ):
                    load_imagenet(part.encoder, imagenet)
        if weights is not None:
            start_from(network, weights)
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.loss = loss or SegmentationLoss()
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.freeze_batch_norm = freeze_batch_norm
        self.dropout = dropout
        self.checkpointing = checkpointing
        self.validation_rounds = validation_rounds
        self.seed = seed
        self.names: list[str] = []  # of the batch at work
        self.number = 0  # of the batch at work, in all epochs
        self.figures = nn.ModuleDict({name: MeanMetric() for name in figure_names(validation_rounds)})
        self.segmenter: ATNetSegmenter | None = None  # in validation
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(self.learns(name))
        if compile:
            network.anet.compile()
            network.tnet.compile()
            network.tnet.features = torch.compile(network.tnet.features)  # type: ignore[method-assign]

    def learns(self, name: str) -> bool:
        """Whether this stage trains the network's parameter of that name."""
        return name.startswith(self.trains)

    def train(self, mode: bool = True) -> "Stage":
        """Training mode for what learns; the rest stays in eval mode."""
        super().train(mode)
        if mode:
            for name, module in self.network.named_modules():
                frozen = isinstance(module, nn.modules.batchnorm._BatchNorm) and self.freeze_batch_norm
                frozen |= isinstance(module, nn.Dropout) and not self.dropout
                if name and (frozen or not self._has_learning_part(name)):
                    module.train(False)
        return self

    def _has_learning_part(self, module: str) -> bool:
        return any(f"{module}.".startswith(part) or part.startswith(f"{module}.") for part in self.trains)

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, and figures to log."""
        raise NotImplementedError

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule over the parameters that learn."""
        optimizer = self.make_optimizer(p for p in self.parameters() if p.requires_grad)
        if self.make_scheduler is None:
            return optimizer
        options = {}
        if "total_steps" in inspect.signature(self.make_scheduler).parameters:
            given = getattr(self.make_scheduler, "keywords", {}).get("total_steps")
            options["total_steps"] = given or int(self.trainer.estimated_stepping_batches)
        schedule = {
            "scheduler": self.make_scheduler(optimizer, **options),
            "interval": self.scheduler_interval,
        }
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def configure_model(self) -> None:
        """Shard the network where the strategy asks for it (conf/strategy/fsdp.yaml)."""
        mesh = self.device_mesh
        if mesh is None or processes.is_sharded(self.network):
            return
        if any(isinstance(callback, WeightAveraging) for callback in self.trainer.callbacks):  # type: ignore[attr-defined]
            raise UserError("callbacks=ema: averages need whole networks; choose strategy=ddp")
        processes.shard(self.network, mesh)

    def on_fit_start(self) -> None:
        """Lightning leaves modules in the mode they were handed over in."""
        self.train()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed what happens inside the step by its number."""
        self.names = batch["names"]
        self.number = self.trainer.fit_loop.epoch_loop.total_batch_idx
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
        loss, figures = self.losses(batch)
        weight = self._weight(batch, loss)
        size = {"batch_size": len(batch["names"]), "sync_dist": self.trainer.world_size > 1}
        self.log("train/loss", weight * loss.detach(), prog_bar=True, **size)  # type: ignore[arg-type]
        self.log_dict({f"train/{name}": weight * value.detach() for name, value in figures.items()}, **size)  # type: ignore[arg-type]
        return weight * loss

    def _weight(self, batch: Batch, loss: Tensor) -> Tensor | float:
        """What makes the processes' mean of their means over masks the mean over all of their masks.

        Raises:
            NotFiniteError: in all processes, where the loss of one is not finite.
        """
        mine = torch.stack([loss.detach().float(), loss.new_tensor(len(batch["image"])).float()])
        losses, counts = processes.gather(mine).unbind(1)
        if not torch.isfinite(losses).all():
            names = self.names if not torch.isfinite(loss) else []
            self._stop(f"the loss is {next(x for x in losses.tolist() if not math.isfinite(x))}", names)
        return counts.new_tensor(len(batch["image"])) / counts.mean() if len(counts) > 1 else 1.0

    def on_after_backward(self) -> None:
        """Batch norms that are not synchronised keep the same statistics in all processes all the same."""
        if self.trainer.world_size > 1:
            processes.average_statistics(self.network)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """A gradient that is not finite would spoil the weights (with fp16's scaler it is expected)."""
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            return
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        if not torch.isfinite(norm):
            self._stop(f"the gradient's norm is {norm.item()}", self.names)

    def _stop(self, what: str, names: list[str]) -> None:
        """Stop all processes, with one message; all of them have to come here."""
        names = processes.gather_names(names)
        written = [getattr(callback, "best_model_path", "") for callback in self.trainer.checkpoint_callbacks]
        raise NotFiniteError(
            f"training stopped before step {self.global_step + 1} of {type(self).__name__}: {what}\n"
            f"  batch: {'; '.join(names)}\n"
            f"  checkpoints before it: {', '.join(filter(None, written)) or 'none was due yet'}"
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Clips stay where they are; the segmenter moves what it needs."""
        if isinstance(batch, Clip):
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_validation_model_train(self) -> None:
        """After validation."""
        self.train()

    def on_validation_epoch_start(self) -> None:
        """Judge the whole network; see :func:`ivos.training.processes.whole`."""
        self.segmenter = ATNetSegmenter(processes.whole(self.network))

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
        for name, value in result.figures().items():
            self.figures[name].update(value)  # type: ignore[operator]
        return {"session": result}

    def on_validation_epoch_end(self) -> None:
        """Log the figures' means over the clips of all processes."""
        self.segmenter = None
        for name, metric in self.figures.items():
            value = metric.compute()  # type: ignore[operator]
            metric.reset()  # type: ignore[operator]
            if not torch.isnan(value):  # of no frame: the propagated ones of single frames
                self.log(f"val/{name}", value, prog_bar=name == "J", sync_dist=True)

    def validation_clip(self, clip: Clip) -> Clip:
        """The part of a clip that this stage can be judged by."""
        return clip

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what :func:`ivos.networks.load` needs, so that any checkpoint can be evaluated as it is."""
        checkpoint["ivos"] = {"network": self.network.config, "processes": self.trainer.world_size}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Samples are numbered by process.

        Raises:
            UserError: the run was begun with another network or another number of processes.
        """
        theirs, ours = checkpoint["ivos"]["network"], self.network.config
        if different := [name for name in ours if _plain(theirs.get(name)) != _plain(ours[name])]:
            was = ", ".join(f"model.{name}={_plain(theirs.get(name))}" for name in different)
            raise UserError(f"the run was begun with another network; resume it with {was}")
        begun, now = checkpoint["ivos"].get("processes", 1), self.trainer.world_size
        if begun != now:
            raise UserError(
                f"the run was begun with {begun} processes, now there are {now}: samples would be repeated "
                "or left out; resume it with as many (trainer.devices, trainer.num_nodes)"
            )


class ANetStage(Stage):
    """A-Net alone, on single frames: strokes to mask.

    The converter is left out: what it computes goes to T-Net alone, so it learns in T-Net's stage. Its batch
    norms' statistics settle here.

    Args:
        network: see :class:`Stage`.
        loop_rounds: times that the network predicts and a simulated user corrects it before the prediction
            that is learned from; 0 leaves corrections to the data's deformed masks.
        loop_share: share of the batches that this happens to.
        user: the simulated user in the loop.
        threshold: probability above which a prediction counts as object for that user.
        options: see :class:`Stage`.
    """

    def __init__(
        self,
        network: ATNet,
        loop_rounds: int = 0,
        loop_share: float = 1.0,
        user: SimulatedUser | None = None,
        threshold: float = 0.8,
        **options: Any,
    ) -> None:
        super().__init__(network, ("anet.encoder.", "anet.decoder."), **options)
        self.loop_rounds, self.loop_share, self.threshold = loop_rounds, loop_share, threshold
        self.user = user or SimulatedUser()

    def train(self, mode: bool = True) -> "ANetStage":
        """The converter's batch norms take statistics, though nothing in it learns yet."""
        super().train(mode)
        self.network.anet.converter.train(mode and not self.freeze_batch_norm)
        return self

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy on the annotated frame."""
        images = self.network.normalise(batch["frames"][:, 0])[batch["image"]]
        masks, interaction = batch["masks"][:, 0], batch["interaction"]
        chance = np.random.default_rng([self.seed, self.number]).random()  # the same in all processes
        if self.loop_rounds and chance < self.loop_share:
            rngs = self.randomness(batch)
            for _ in range(self.loop_rounds):
                interaction = self._corrected(images, masks, interaction, rngs)
        options = {"network": self.network, "checkpointing": self.checkpointing}
        logits, _ = run(self.network.anet, images, interaction, **options)  # type: ignore[arg-type]
        return self.loss(logits, masks), {"J": jaccard(logits, masks).mean()}

    @torch.no_grad()
    def _corrected(
        self, images: Tensor, masks: Tensor, interaction: Tensor, rngs: list[np.random.Generator]
    ) -> Tensor:
        """The channels after the network has predicted and the user has answered."""
        self.network.anet.eval()
        logits, _ = self.network.anet(images, interaction)
        self.train()
        return correct(self.user, logits.sigmoid() > self.threshold, masks, interaction, rngs)

    def validation_clip(self, clip: Clip) -> Clip:
        """The frame that is annotated first."""
        return clip.only(clip.first_frame)


class TNetStage(Stage):
    """T-Net on mini-sequences, A-Net frozen: the first frame's mask goes from frame to frame.

    Args:
        network: see :class:`Stage`.
        local_weight: weight of the local transfer's mean squared error.
        mask_gradient: let the gradient through the mask that goes from frame to frame.
        train_converter: train the converter, the part of A-Net that works for T-Net alone (no other stage but
            the joint one does); its batch norms keep their statistics like all of A-Net's.
        whiten_local: start the local projection from :func:`whiten_local`, with that sharpness; None leaves
            it as it is.
        options: see :class:`Stage`.
    """

    def __init__(
        self,
        network: ATNet,
        local_weight: float = 0.1,
        mask_gradient: bool = True,
        train_converter: bool = True,
        whiten_local: float | None = None,
        **options: Any,
    ) -> None:
        converter = ("anet.converter.",) if train_converter and network.tnet.use_global else ()
        super().__init__(network, ("tnet.", *converter), **options)
        self.local_weight, self.mask_gradient = local_weight, mask_gradient
        self.whiten_local = whiten_local

    def setup(self, stage: str) -> None:
        """Begin with a local transfer that sees something; a checkpoint to resume from is loaded later."""
        if stage == "fit" and self.whiten_local is not None:
            samples = self.trainer.datamodule.first_samples(32)  # type: ignore[attr-defined]
            whiten_local(self.network, samples["frames"], self.whiten_local)

    def train(self, mode: bool = True) -> "TNetStage":
        """A-Net stays in eval mode as a whole."""
        super().train(mode)
        self.network.anet.train(False)
        return self

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy and the local transfer's error, means over the frames that follow."""
        sequences = Sequences(self.network, batch, not self.mask_gradient, self.checkpointing)
        logits, objects = sequences.annotate(0, batch["interaction"])
        mask = logits.sigmoid().detach()
        targets = range(1, sequences.num_frames)
        entropy, error, quality = [], [], []
        for target, logits, local in sequences.propagate(0, mask, targets, [0], [objects]):
            truth = batch["masks"][:, target]
            entropy.append(self.loss(logits, truth))
            error.append(local_transfer_loss(local, truth))
            quality.append(jaccard(logits, truth).mean())
        figures = {"J": mean(quality), "cross_entropy": mean(entropy), "local_error": mean(error)}
        return mean(entropy) + self.local_weight * mean(error), figures


class JointStage(Stage):
    """Both networks together through the rounds of a session on a mini-sequence (beyond the paper).

    In each round the frame that is worst so far in the batch of all processes is corrected by a simulated
    user, A-Net answers, and T-Net carries the answer in both directions with the memory of all rounds, as the
    engine does. The gradient does not pass from round to round through masks, but does through the memory.

    Args:
        network: see :class:`Stage`.
        rounds: of a mini-sequence.
        local_weight: weight of the local transfer's mean squared error.
        mask_gradient: let the gradient through the mask that goes from frame to frame.
        user: the simulated user of the later rounds.
        threshold: probability above which a prediction counts as object for that user.
        options: see :class:`Stage`.
    """

    def __init__(
        self,
        network: ATNet,
        rounds: int = 3,
        local_weight: float = 0.1,
        mask_gradient: bool = True,
        user: SimulatedUser | None = None,
        threshold: float = 0.8,
        **options: Any,
    ) -> None:
        converter = ("anet.converter.",) if network.tnet.use_global else ()  # else nobody asks for it
        super().__init__(network, ("anet.encoder.", "anet.decoder.", *converter, "tnet."), **options)
        self.rounds, self.threshold, self.user = rounds, threshold, user or SimulatedUser()
        self.local_weight, self.mask_gradient = local_weight, mask_gradient

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of both networks and the local transfer's error, means over frames and rounds."""
        sequences = Sequences(self.network, batch, not self.mask_gradient, self.checkpointing)
        masks, interaction, frame = batch["masks"], batch["interaction"], 0
        rngs = self.randomness(batch)
        state = torch.zeros(masks.shape, device=masks.device)  # blended probabilities [M, T, 1, H, W]
        annotated: list[int] = []
        objects: list[Tensor] = []
        annotation, propagation, error, figures = [], [], [], {}
        for number in range(1, min(self.rounds, sequences.num_frames) + 1):
            if annotated:
                frame = self._worst_frame(state > self.threshold, masks, annotated)
                channels = torch.zeros_like(interaction)  # the frame is new: no strokes on it yet
                faulty = state[:, frame] > self.threshold
                interaction = correct(self.user, faulty, masks[:, frame], channels, rngs)
            plan = plan_round(frame, annotated, sequences.num_frames)
            logits, converted = sequences.annotate(frame, interaction)
            annotated.append(frame)
            objects.append(converted)
            annotation.append(self.loss(logits, masks[:, frame]))
            state[:, frame] = mask = logits.detach().float().sigmoid()
            for targets in (plan.backward, plan.forward):
                for target, logits, local in sequences.propagate(frame, mask, targets, annotated, objects):
                    propagation.append(self.loss(logits, masks[:, target]))
                    error.append(local_transfer_loss(local, masks[:, target]))
                    new = logits.detach().float().sigmoid()
                    state[:, target] = torch.lerp(state[:, target], new, plan.weights[target])
            figures[f"J_round_{number}"] = jaccard(state.flatten(0, 1).logit(), masks.flatten(0, 1)).mean()
        figures |= {"cross_entropy": mean(annotation + propagation), "local_error": mean(error)}
        return mean(annotation) + mean(propagation) + self.local_weight * mean(error), figures

    def _worst_frame(self, predicted: Tensor, masks: Tensor, annotated: list[int]) -> int:
        """The frame [0, T) not yet annotated whose mean J over all processes' [M, T, 1, H, W] is lowest."""
        quality = jaccard(predicted.flatten(0, 1).float().logit(), masks.flatten(0, 1))
        total = processes.gather(quality.view(masks.shape[:2]).sum(0)).sum(0)
        total[annotated] = torch.inf
        return int(total.argmin())


def mean(values: list[Tensor]) -> Tensor:
    """Mean of scalars; 0 of none."""
    return torch.stack(values).mean() if values else torch.zeros(())


def correct(
    user: SimulatedUser,
    predicted: Tensor,
    masks: Tensor,
    interaction: Tensor,
    rngs: list[np.random.Generator],
) -> Tensor:
    """A-Net's channels after a user has corrected a prediction.

    Args:
        user: draws the strokes.
        predicted: bool [M, 1, H, W].
        masks: ground truth uint8 [M, 1, H, W].
        interaction: the channels so far [M, 3, H, W], whose strokes are kept.
        rngs: the user's randomness, M of them.
    """
    faulty, truth = predicted[:, 0].cpu().numpy().astype(np.uint8), masks[:, 0].cpu().numpy()
    drawn = [
        user.channels(user.correct(f, t, rng), f, t.shape)
        for f, t, rng in zip(faulty, truth, rngs, strict=True)
    ]
    channels = torch.from_numpy(np.stack(drawn)).to(interaction)
    previous = channels[:, :1]
    strokes = torch.maximum(channels[:, 1:], interaction[:, 1:])
    return torch.cat([previous, strokes[:, :1], strokes[:, 1:] * previous], dim=1)


@torch.no_grad()
def whiten_local(network: ATNet, frames: Tensor, sharpness: float) -> None:
    """Let T-Net's local projection whiten the feature that it projects, in place.

    The features that an untrained projection gives are so alike that the local transfer begins as a mean over
    the neighbourhood, from which it learns slowly. White features (zero mean, no correlation between
    channels, ZCA) are alike only where the images are.

    Args:
        network: A-Net and T-Net.
        frames: some images, uint8 RGB [B, T, 3, H, W].
        sharpness: factor of the dot products before the local transfer's softmax; about 20 for a single peak.
    """
    tnet = network.tnet
    encoder = copy.deepcopy(tnet.encoder).train()  # as in training, but its statistics are not to move
    r2 = encoder(network.normalise(frames.flatten(0, 1).to(network.mean.device)))[0]
    samples = r2.transpose(0, 1).flatten(1).double()  # [C, pixels]
    variances, axes = torch.linalg.eigh(torch.cov(samples))
    scale = (variances + 0.01 * variances.mean()).rsqrt()  # weak directions are noise
    whiten = sharpness**0.5 * axes @ torch.diag(scale) @ axes.T
    tnet.local_projection.weight.copy_(whiten[:, :, None, None])
    assert tnet.local_projection.bias is not None
    tnet.local_projection.bias.copy_(-whiten @ samples.mean(1))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value


def start_from(network: ATNet, path: str | Path) -> None:
    """Copy the weights of a checkpoint into a network of the same width, depth and kind of softmax.

    Raises:
        UserError: the checkpoint is of another network; the message names both.
    """
    source = load(path)
    kept = ("width", "depths", "decoder_width", "normalize")
    theirs, ours = ({key: _plain(each.config[key]) for key in kept} for each in (source, network))
    if theirs != ours:
        raise UserError(f"{path}: a checkpoint of {theirs}, but the model to train is {ours}: set model.*")
    network.load_state_dict(source.state_dict())
