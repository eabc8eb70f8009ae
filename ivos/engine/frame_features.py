"""Cache of the image features of a video's frames, limited by a memory budget."""

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

_GPU_BATCH = 4  # default number of frames per batch on a GPU


def frames_per_batch(chosen: int | None, device: torch.device) -> int:
    """Return the number of frames whose features are computed as one batch.

    The default is larger on a GPU, because the operations on a single frame are too small to keep it busy.

    Args:
        chosen: Value of the option; None selects the default for the device.
        device: Device of the networks.
    """
    if chosen is not None:
        return chosen
    return _GPU_BATCH if device.type == "cuda" else 1


class FrameFeatureCache:
    """Cache of T-Net's image features for the frames of one video.

    Args:
        networks: Networks that compute the features.
        video: State of the video, whose stores keep the features.
        pool: Pool of pinned CPU memory for features of a GPU.
        batch_size: Number of frames whose features are computed as one batch (:meth:`batch_of`).
    """

    def __init__(self, networks: NetworkRunner, video: VideoState, pool: HostPool, batch_size: int) -> None:
        self.networks, self.video, self.pool, self.batch_size = networks, video, pool, batch_size

    def get(self, frames: Sequence[int]) -> list[FrameFeatures]:
        """Return the features of frames, each with batch size 1; missing features are computed."""
        recent = self.video.recent
        for frame in frames:
            if frame not in recent and (kept := self._kept(frame)):
                recent[frame] = kept
        for frame in frames:
            if frame not in recent:
                self._compute(self.batch_of(frame))
        return [recent[frame] for frame in frames]

    def batch_of(self, frame: int) -> range:
        """Return the frames whose features are computed in the same batch as those of a given frame.

        The batches do not depend on the order of requests, so that a session that was shortened, undone or
        resumed gets bitwise the same features as an uninterrupted session.
        """
        first = frame - frame % self.batch_size
        return range(first, min(first + self.batch_size, len(self.video.frames)))

    def _compute(self, frames: range) -> None:
        """Compute the features of frames as one batch; hold them for the next steps and store them."""
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
        """Release the features held for the next steps, except those of the needed frames."""
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

        A GPU pads after the copy, which transfers fewer bytes.
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
        """Store a frame's features; the first call divides the memory budget according to their size."""
        video, tensors = self.video, tuple(vars(features).values())
        if video.features is None:
            room, size = video.room_for_stores(), size_of(tensors)
            if size > max(room, video.host_room):
                raise UserError(
                    f"segmenter.device_cache_gib: {room / GIB:.3f} GiB are left for image features, but "
                    f"those of one frame need {size / GIB:.3f} GiB; raise it"
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
        """Measure whether copying a frame's features from CPU memory is faster than computing them again.

        At 480p the features take 92 MB in float32: about 4 ms to copy over a fast bus, 2 to 30 ms to compute.
        """
        device = self.networks.device
        waiting = TensorStore(device, 0, self.video.host_room, self.pool)
        waiting.put(frame, tensors)
        fetching = seconds(lambda: waiting.get(frame), device)
        waiting.clear()
        batch = self.batch_of(frame)
        return fetching < seconds(lambda: self._computed(batch), device) / len(batch)


def joined(features: Sequence[FrameFeatures]) -> FrameFeatures:
    """Concatenate the features of several frames to one batch."""
    if len(features) == 1:
        return features[0]
    return type(features[0])(*map(torch.cat, zip(*(vars(one).values() for one in features), strict=True)))
