"""Image features of a video's frames: computed once, kept while there is memory, computed again otherwise."""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivos.engine.feature_store import GIB, HostPool, TensorStore, seconds, size_of
from ivos.engine.network_runner import NetworkRunner
from ivos.engine.state import VideoState
from ivos.networks import FrameFeatures
from ivos.runtime.errors import UserError

_ON_A_GPU = 4  # frames


def frames_per_batch(chosen: int | None, device: torch.device) -> int:
    """Return how many frames' features are computed together: as chosen, else by the device.

    A single frame leaves a GPU waiting for the next of many small operations.
    """
    if chosen is not None:
        return chosen
    return _ON_A_GPU if device.type == "cuda" else 1


class FrameFeatureCache:
    """T-Net's image features of one video by frame.

    Args:
        networks: what computes them.
        video: the state of the video, whose stores keep the features.
        pool: where CPU memory behind a GPU comes from.
        batch_size: how many frames' features are computed together (:meth:`batch_of`).
    """

    def __init__(self, networks: NetworkRunner, video: VideoState, pool: HostPool, batch_size: int) -> None:
        self.networks, self.video, self.pool, self.batch_size = networks, video, pool, batch_size

    def get(self, frames: Sequence[int]) -> list[FrameFeatures]:
        """Return the features of frames, each of batch 1, computing the missing ones."""
        recent = self.video.recent
        for frame in frames:
            if frame not in recent and (kept := self._kept(frame)):
                recent[frame] = kept
        for frame in frames:
            if frame not in recent:
                self._compute(self.batch_of(frame))
        return [recent[frame] for frame in frames]

    def batch_of(self, frame: int) -> range:
        """Return the frames whose features are computed together with those of a frame.

        They are the same whatever is asked for first, so that a session that was shortened, undone or resumed
        gets features of the same bits as an uninterrupted one.
        """
        first = frame - frame % self.batch_size
        return range(first, min(first + self.batch_size, len(self.video.frames)))

    def _compute(self, frames: range) -> None:
        """Compute the features of frames as one batch, hold them for the next steps and keep them."""
        batch, recent, store = self._computed(frames), self.video.recent, self.video.features
        new = {
            frame: type(batch)(*(tensor[index : index + 1].clone() for tensor in vars(batch).values()))
            for index, frame in enumerate(frames)
            if frame not in recent and (store is None or frame not in store)
        }
        recent.update(new)
        for frame, features in new.items():
            self._keep(frame, features)

    def forget_recent(self, needed: Collection[int]) -> None:
        """Release the features that are held for the next step, except those of the frames it needs."""
        self.video.recent = {frame: one for frame, one in self.video.recent.items() if frame in needed}

    def images(self, frames: Sequence[int]) -> Tensor:
        """Return the networks' input for frames, normalised RGB [B, 3, H, W]."""
        video = self.video
        if video.video is None:
            padded = self.padded(video.frames[list(frames)].transpose(0, 3, 1, 2))
        else:
            chosen = torch.stack([video.video[frame] for frame in frames])
            padded = video.padding.pad_tensor(chosen.permute(0, 3, 1, 2))
        return self.networks.normalise(padded)

    def padded(self, array: NDArray[np.generic]) -> Tensor:
        """Return an array [..., h, w] as a padded tensor [..., H, W] on the networks' device.

        A GPU does the padding itself, which transfers fewer bytes.
        """
        padding, device = self.video.padding, self.networks.device
        if device.type == "cpu":
            return torch.from_numpy(np.ascontiguousarray(padding.pad(array)))
        array = np.ascontiguousarray(array)
        return padding.pad_tensor(torch.from_numpy(array).to(device, non_blocking=True))

    def _computed(self, frames: Sequence[int]) -> FrameFeatures:
        return self.networks.image_features(self.images(frames))

    def _kept(self, frame: int) -> FrameFeatures | None:
        kept = self.video.features.get(frame) if self.video.features else None
        return self.networks.features_type(*kept) if kept else None

    def _keep(self, frame: int, features: FrameFeatures) -> None:
        """Store a frame's features; the first call divides the granted memory by their size."""
        video, tensors = self.video, tuple(vars(features).values())
        if video.features is None:
            room, size = video.room_for_stores(), size_of(tensors)
            if size > max(room, video.host_room):
                raise UserError(
                    f"segmenter.device_cache_gib: {room / GIB:.3f} GiB are left for image features, and "
                    f"those of one frame take {size / GIB:.3f}; grant more"
                )
            of_all = size * len(video.frames)
            device = self.networks.device
            video.features = TensorStore(device, min(room, of_all), video.host_room, self.pool)
            video.transfers = TensorStore(device, max(0, room - of_all))
        if video.host_pays is None and video.features.goes_to_host(tensors):
            video.host_pays = self._host_pays(frame, tensors)
            if not video.host_pays:
                video.features.free["host"] = 0
        video.features.put(frame, tensors)

    def _host_pays(self, frame: int, tensors: tuple[Tensor, ...]) -> bool:
        """Measure whether fetching a frame's features from CPU memory is faster than computing them again.

        At 480p the features take 92 MB in float32: 4 ms on a fast bus, against 2 to 30 ms of computing.
        """
        device = self.networks.device
        waiting = TensorStore(device, 0, self.video.host_room, self.pool)
        waiting.put(frame, tensors)
        fetching = seconds(lambda: waiting.get(frame), device)
        waiting.clear()
        batch = self.batch_of(frame)
        return fetching < seconds(lambda: self._computed(batch), device) / len(batch)


def joined(features: Sequence[FrameFeatures]) -> FrameFeatures:
    """Return the features of several frames as one batch."""
    if len(features) == 1:
        return features[0]
    return type(features[0])(*map(torch.cat, zip(*(vars(one).values() for one in features), strict=True)))
