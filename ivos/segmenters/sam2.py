"""A segmenter with SAM 2.1, EdgeTAM or SAM 3's tracker, run by transformers (the extra ``sam2``)."""

import contextlib
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as nnf

from ivos.engine.adoption import check_adoption
from ivos.engine.devices import choose_device
from ivos.engine.frames import Frames, as_frames
from ivos.interaction import Box, Click, PromptKind
from ivos.interaction.boxes import check_boxes, is_box
from ivos.interaction.clicks import check_clicks
from ivos.runtime.errors import UserError

_MODELS = {  # by the model type in the configuration of a checkpoint
    "sam2": "Sam2VideoModel",
    "sam2_video": "Sam2VideoModel",
    "edgetam": "EdgeTamVideoModel",
    "edgetam_video": "EdgeTamVideoModel",
    "sam3_tracker": "Sam3TrackerVideoModel",
    "sam3_tracker_video": "Sam3TrackerVideoModel",
    "sam3_video": "Sam3TrackerVideoModel",  # SAM 3 as published: detector and tracker
}
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_sam2(checkpoint: str | Path, download: bool = False) -> Any:
    """Load a model of transformers from a folder, or by its name on the hub.

    Args:
        checkpoint: Folder written by ``save_pretrained``, or a name such as facebook/sam2.1-hiera-tiny.
        download: Whether to download the model from the hub if it is not on this machine.

    Raises:
        UserError: transformers is not installed, or the model cannot be loaded.
    """
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            f'segmenter=sam2 needs transformers ({error}); install it: pip install "ivos[sam2]"'
        ) from error
    try:
        config = transformers.AutoConfig.from_pretrained(checkpoint, local_files_only=not download)
        if config.model_type not in _MODELS:
            raise UserError(
                f"segmenter.checkpoint: {checkpoint} is a {config.model_type}, not one of "
                f"{', '.join(_MODELS)}"
            )
        model = getattr(transformers, _MODELS[config.model_type])
        return model.from_pretrained(checkpoint, local_files_only=not download).eval()
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        hint = "" if download else "; segmenter.download=true downloads it from the hub"
        reason = str(error).splitlines()[0]
        raise UserError(f"segmenter.checkpoint: {checkpoint} cannot be loaded ({reason}){hint}") from error


class Sam2Segmenter:
    """A segmenter that runs SAM 2 with clicks, boxes and masks as prompts.

    Every round adds its clicks to those of the frame, and the whole video is segmented again from all
    prompted frames. A box replaces earlier prompts of its object on the frame. Every prompted frame becomes a
    conditioning frame, even if it was tracked before. An object is tracked from its first prompted frame on.
    The processor of transformers, which needs torchvision, is not used; frames are resized by an antialiased
    bilinear filter, so that masks may differ by single pixels. The class follows
    :class:`ivos.engine.AdoptingSegmenter`.

    Args:
        checkpoint: Folder or name of the checkpoint, see :func:`load_sam2`; or the loaded model.
        download: Whether to download the model; see :func:`load_sam2`.
        device: Device of the model; None or ``auto`` for a GPU if there is one.

    Raises:
        UserError: No checkpoint is named, or it cannot be loaded.
    """

    prompts: ClassVar[tuple[PromptKind, ...]] = ("clicks", "boxes", "masks")

    def __init__(self, checkpoint: Any, download: bool = False, device: str | None = None) -> None:
        if checkpoint is None:
            raise UserError("segmenter.checkpoint: name a folder or a model of the hub, for segmenter=sam2")
        model = load_sam2(checkpoint, download) if isinstance(checkpoint, str | Path) else checkpoint
        automatic = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = choose_device(automatic if device in (None, "auto") else device)
        self.model = model.to(self.device).eval()
        module = import_module(type(model).__module__)
        self._session_type = next(
            value for name, value in vars(module).items() if name.endswith("VideoInferenceSession")
        )

    @torch.inference_mode()
    def start(self, frames: Frames, num_objects: int) -> None:
        """Begin a video; see :meth:`ivos.engine.Segmenter.start`."""
        frames = as_frames(frames)
        self._size, self._num_objects = frames.shape[1:3], num_objects
        side = self._side = self._image_side()
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
        video = torch.empty(len(frames), 3, side, side)
        for target, frame in zip(video, frames, strict=True):
            image = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None] / 255
            small = nnf.interpolate(image, (side, side), mode="bilinear", antialias=True)[0]
            target.copy_((small - mean) / std)
        self._session = self._session_type(
            video=video,
            video_height=frames.shape[1],
            video_width=frames.shape[2],
            inference_device=self.device,
            dtype=next(self.model.parameters()).dtype,
        )
        self._masks = np.zeros(frames.shape[:3], np.uint8)
        self._prompted: set[int] = set()
        self._adopted: dict[int, NDArray[np.uint8]] = {}

    def _image_side(self) -> int:
        size = self.model.config.image_size
        return int(size if isinstance(size, int) else max(size))

    @torch.inference_mode()
    def interact(self, frame: int, prompts: Sequence[Click | Box]) -> NDArray[np.uint8]:
        """Add clicks and boxes and segment the video again; see :meth:`ivos.engine.Segmenter.interact`."""
        self._check(prompts)
        prompted = self._add(frame, prompts)
        if prompted:
            self._adopted.pop(frame, None)
            self._masks[frame] = self._condition(frame, prompted)
        elif frame not in self._adopted:
            return self._masks.copy()
        self._propagate()
        return self._masks.copy()

    @torch.inference_mode()
    def preview(self, frame: int, prompts: Sequence[Click | Box]) -> NDArray[np.uint8]:
        """Return the labels of the frame alone; see :meth:`ivos.engine.LiveSegmenter.preview`."""
        self._check(prompts)
        with self._unchanged():
            prompted = self._add(frame, prompts)
            return self._condition(frame, prompted) if prompted else self._masks[frame].copy()

    def add_object(self) -> int:
        """Add an object and return its number; see :meth:`ivos.engine.LiveSegmenter.add_object`."""
        self._num_objects += 1
        return self._num_objects

    def _check(self, prompts: Sequence[Any]) -> None:
        check_boxes([one for one in prompts if is_box(one)], self._num_objects)
        check_clicks([one for one in prompts if not is_box(one)], self._num_objects)

    @contextlib.contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Restore the state of the session after the block, except for its cache of image features."""
        session, prompted = self._session, set(self._prompted)
        state = {
            name: _copied(value)
            for name, value in vars(session).items()
            if isinstance(value, dict | list) and name != "processed_frames"
        }
        try:
            yield
        finally:
            vars(session).update(state)
            self._prompted = prompted

    @torch.inference_mode()
    def adopt(
        self, frame: int, labels: NDArray[np.uint8], objects: Sequence[int] | None = None
    ) -> NDArray[np.uint8]:
        """Give a frame exactly these labels; see :meth:`ivos.engine.AdoptingSegmenter.adopt`."""
        given = check_adoption(frame, labels, objects, self._masks.shape, self._num_objects)
        session = self._session
        known, shown = set(session.obj_ids), set(np.unique(labels).tolist())
        described = [number for number in given.objects if number in known | shown]
        for number in described:
            mask = torch.from_numpy((given.labels == number).astype(np.float32))[None, None]
            size = (self._side, self._side)
            small = nnf.interpolate(mask, size, mode="bilinear", antialias=True, align_corners=False)
            index = session.obj_id_to_idx(number)
            session.add_mask_inputs(index, frame, (small >= 0.5).float())
            session.remove_point_inputs(index, frame)
        session.obj_with_new_inputs = list(described)
        if described:
            self._condition(frame, described)
        self._masks[frame] = self._adopted[frame] = given.over(self._masks[frame])
        return self._masks[frame].copy()

    def _propagate(self) -> None:
        """Segment the video from all prompted frames; adopted frames keep their labels."""
        if not self._prompted:
            return
        start = min(self._prompted)
        for reverse in (False, True):
            for output in self.model.propagate_in_video_iterator(
                self._session, start_frame_idx=start, reverse=reverse
            ):
                self._masks[output.frame_idx] = self._labels(output)
        for frame, labels in self._adopted.items():
            self._masks[frame] = labels

    def _add(self, frame: int, prompts: Sequence[Click | Box]) -> list[int]:
        """Add prompts to those of the frame, and return the numbers of the objects with new prompts."""
        session = self._session
        known = set(session.obj_ids)
        objects = sorted({one["object_id"] for one in prompts})
        positive = {one["object_id"] for one in prompts if one.get("positive", is_box(one))}
        # The first prompts of an object must include a positive click or a box.
        objects = [number for number in objects if number in known | positive]
        for number in objects:
            inputs, fresh = self._points([one for one in prompts if one["object_id"] == number])
            index = session.obj_id_to_idx(number)
            before = session.point_inputs_per_obj[index].get(frame)
            if before is not None and not fresh:
                inputs = {name: torch.cat([before[name].cpu(), inputs[name]], dim=2) for name in inputs}
            session.add_point_inputs(index, frame, inputs)
            session.remove_mask_inputs(index, frame)
        session.obj_with_new_inputs = list(objects)
        return objects

    def _points(self, prompts: Sequence[Click | Box]) -> tuple[dict[str, torch.Tensor], bool]:
        """Convert the prompts of one object into the model's inputs, and return whether they include a box.

        The corners of a box are points with labels 2 and 3, and come before the clicks. Of several boxes the
        last one is used.
        """
        boxes = [one["box"] for one in prompts if is_box(one)][-1:]
        clicks: list[Any] = [one for one in prompts if not is_box(one)]
        corners = [corner for box in boxes for corner in (box[:2], box[2:])]
        coordinates = [*corners, *(one["point"] for one in clicks)]
        labels = [*([2, 3] if boxes else []), *(int(one["positive"]) for one in clicks)]
        return {
            "point_coords": (torch.tensor(coordinates) * float(self._side))[None, None],
            "point_labels": torch.tensor(labels, dtype=torch.int32)[None, None],
        }, bool(boxes)

    def _condition(self, frame: int, clicked: Sequence[int]) -> NDArray[np.uint8]:
        """Segment a prompted frame, and make it a conditioning frame for the others.

        Two states of transformers have to be corrected. A frame that was tracked before stays registered as
        tracked, and propagation would compute it again without its prompts. For a frame that is a
        conditioning frame already, the memory of its new mask would not be stored.
        """
        session = self._session
        for index in map(session.obj_id_to_idx, clicked):
            if frame in session.frames_tracked_per_obj[index]:
                session.output_dict_per_obj[index]["cond_frame_outputs"].pop(frame, None)
        labels = self._labels(self.model(inference_session=session, frame_idx=frame))
        for index in map(session.obj_id_to_idx, clicked):
            outputs = session.output_dict_per_obj[index]
            if frame in outputs["non_cond_frame_outputs"]:
                outputs["cond_frame_outputs"][frame] = outputs["non_cond_frame_outputs"].pop(frame)
        self._prompted.add(frame)
        return labels

    def _labels(self, output: Any) -> NDArray[np.uint8]:
        """Return labels at the frames' size: the object with the highest logit if it is positive, else 0."""
        logits = output.pred_masks.float()
        logits = nnf.interpolate(logits, self._size, mode="bilinear", align_corners=False)[:, 0]
        best, index = logits.max(dim=0)
        numbers = torch.tensor([0, *output.object_ids], dtype=torch.uint8, device=index.device)
        labels = numbers[torch.where(best > 0, index + 1, 0)]
        return labels.cpu().numpy()


def _copied(value: Any) -> Any:
    """Copy nested dictionaries and lists, but not their other elements."""
    if isinstance(value, dict):
        return type(value)((key, _copied(each)) for key, each in value.items())
    return list(value) if isinstance(value, list) else value
