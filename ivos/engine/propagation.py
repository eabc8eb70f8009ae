"""Propagation of masks with T-Net from the annotated frame to other frames, in both directions."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ivos.engine.flow_fusion import FlowFusion, flow_fusion
from ivos.engine.frame_features import FrameFeatureCache, joined
from ivos.engine.network_runner import NetworkRunner
from ivos.engine.optical_flow import pairs_of_passes
from ivos.engine.plan import Plan
from ivos.engine.state import VideoState
from ivos.engine.thresholding import centred, off_centre
from ivos.networks import FrameFeatures, MemoryFrame, affinity, readout


@dataclass
class PropagationPass:
    """The state of the propagation in one direction.

    Attributes:
        source: Frame reached last; initially the annotated frame.
        probability: The objects' probabilities in the source frame [N, 1, H, W].
        targets: Remaining frames of this direction, the next one first.
        steps: Number of remaining frames that this round computes.
        carried: Layers (:class:`ivos.engine.flow_fusion.FlowFusion`) of the frames from which optical flow
            carries masks: the annotated frame and the latest two frames.
        recent: Memory entries of the latest frames, the newest last; empty for the paper's network.
    """

    source: int
    probability: Tensor
    targets: deque[int]
    steps: int
    carried: dict[int, Any] = field(default_factory=dict)
    recent: list[MemoryFrame] = field(default_factory=list)


class Propagator:
    """Propagates the objects of an annotated frame through a video.

    Args:
        networks: Networks to run.
        video: State of the video.
        features: Cache of the image features of the video's frames.
        batch_directions: Whether the steps of both directions are computed as one batch.
    """

    def __init__(
        self, networks: NetworkRunner, video: VideoState, features: FrameFeatureCache, batch_directions: bool
    ) -> None:
        self.networks, self.video, self.features = networks, video, features
        self.batch_directions = batch_directions
        self.fusion: FlowFusion | None = None
        if video.flow is not None:
            self.fusion = flow_fusion(video.flow, networks.device)

    def passes(self, plan: Plan, probability: Tensor, reach: tuple[int, int]) -> list[PropagationPass]:
        """Return the two passes of a round, backward and forward.

        Args:
            plan: Plan of the round.
            probability: The objects' probabilities in the annotated frame [N, 1, H, W].
            reach: First and last frame to compute.
        """
        steps = [plan.annotated - reach[0], reach[1] - plan.annotated]
        if self.batch_directions and steps[0] == steps[1] + 1:  # a round stopped within a batched step
            steps[1] = min(steps[0], len(plan.forward))
        passes = [
            PropagationPass(plan.annotated, probability, deque(frames), number)
            for frames, number in zip((plan.backward, plan.forward), steps, strict=True)
        ]
        if self.video.flow is not None:
            targets = [list(one.targets)[: one.steps] for one in passes]
            self.video.flow.expect(pairs_of_passes(plan.annotated, targets))
        return passes

    def next_groups(self, passes: Sequence[PropagationPass]) -> list[list[PropagationPass]]:
        """Return the unfinished passes, grouped into batches; empty when all passes are finished."""
        active = [one for one in passes if one.steps]
        if not active:
            return []
        return [active] if self.batch_directions else [[one] for one in active]

    def step(self, passes: Sequence[PropagationPass]) -> list[tuple[int, Tensor]]:
        """Propagate the masks by one frame in each of the given directions.

        Returns:
            Pairs of target frame and the objects' probabilities in it [N, 1, H, W].
        """
        sources = [one.source for one in passes]
        targets = [one.targets.popleft() for one in passes]
        wanted = list(dict.fromkeys([*sources, *targets]))
        features = dict(zip(wanted, self.features.get(wanted), strict=True))
        probabilities = self._tnet_step(passes, targets, features)
        found = []
        for one, frame, new in zip(passes, targets, probabilities.chunk(len(passes)), strict=True):
            fused = self._fused_with_flow(self.fusion, one, frame, new) if self.fusion is not None else new
            one.source, one.probability, one.steps = frame, fused, one.steps - 1
            found.append((frame, fused))
        return found

    def _tnet_step(
        self, passes: Sequence[PropagationPass], targets: Sequence[int], features: dict[int, FrameFeatures]
    ) -> Tensor:
        """Compute T-Net's probabilities in the next frame of each pass.

        This is the one place where a propagation step gets its inputs: the image features of the target
        frames, the annotations of all rounds (:meth:`_global_transfer`), and the image features and the
        probabilities of the frame before each target (``pass.source`` and ``pass.probability``).

        Args:
            passes: The B passes that advance by one frame.
            targets: The next frame of each pass.
            features: Image features of the source and target frames, by frame.

        Returns:
            The objects' probabilities in the target frames, float32 [B N, 1, H, W].
        """
        target = joined([features[frame] for frame in targets])
        moved = torch.cat([self._global_transfer(frame, features[frame]) for frame in targets])
        previous = joined([features[one.source] for one in passes])
        return self.networks.propagate(
            target, moved, previous, torch.cat([one.probability for one in passes])
        )

    def _global_transfer(self, frame: int, target: FrameFeatures) -> Tensor:
        """Return the global transfer to a frame, averaged over all annotated frames, [N, 32w, H/16, W/16].

        The sum over annotations is stored for each frame, so that each round adds only its new annotation.
        """
        video = self.video
        annotations = video.annotations
        if not self.networks.network.tnet.use_global:
            return torch.zeros_like(annotations[0].value)
        assert video.transfers is not None  # made with the first image features
        kept = video.transfers.get(frame)
        if kept and len(kept[0]) < video.num_objects:  # computed before an object was added
            kept = None
        total = kept[0] if kept else torch.zeros_like(annotations[0].value, dtype=torch.float32)
        done = video.summed.get(frame, 0) if kept else 0
        for one in annotations[done:]:
            total = total + readout(one.value.float(), affinity(one.key, target.r5))
        video.transfers.put(frame, (total,))
        video.summed[frame] = len(annotations)
        return total / len(annotations)

    def _fused_with_flow(self, fusion: FlowFusion, one: PropagationPass, target: int, new: Tensor) -> Tensor:
        """Fuse T-Net's probabilities [N, 1, H, W] in a target frame with masks carried by optical flow.

        The flow carries the labels of the annotated frame and the fused layers of the latest two frames.
        """
        video = self.video
        if not one.carried:
            one.carried[one.source] = fusion.layers(video.labels(one.probability[:, 0]), len(new))
        own = centred(video.padding.crop(new[:, 0])).float()
        layers = fusion.fused(target, one.carried, own)
        first, *later = one.carried
        one.carried = {frame: one.carried[frame] for frame in (first, *later[-1:])} | {target: layers}
        fused = new.clone()
        video.padding.crop(fused)[:, 0] = off_centre(fusion.tensor(layers).to(new))
        return fused

    def release(self, passes: Sequence[PropagationPass]) -> None:
        """Release the image features that no pass needs in its next steps.

        Features of frames ahead are kept, because they were computed in the same batch as those of others.
        """
        ahead = self.features.batch_size - 1
        needed = {one.source for one in passes if one.steps}
        needed |= {frame for one in passes if one.steps for frame in list(one.targets)[:ahead]}
        self.features.forget_recent(needed)
