"""A-Net and T-Net as one module, and its saving and loading."""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from ivos.networks.anet import ANet
from ivos.networks.checkpoint import (
    COUNTER,
    SAFETENSORS,
    CheckpointError,
    check_state,
    from_released_names,
    read,
    strip_wrappers,
    to_released_names,
    unwrapped,
    write_safetensors,
)
from ivos.networks.shipped import UNTRAINED, weights_file
from ivos.networks.tnet import Normalize, TNet
from ivos.runtime.errors import UserError

FORMAT = 1  # version of the checkpoint format that ivos writes


class ATNet(nn.Module):
    """A-Net and T-Net of the same width and depth (136.5 M parameters as in the paper).

    Args:
        width: Number of channels w of the encoders' stems (64 in the paper).
        depths: Number of bottleneck blocks in each encoder stage ((3, 4, 6, 3) as in ResNet-50 in the paper).
        decoder_width: Number of channels of the decoders (256 in the paper).
        normalize: See :class:`TNet`.
        use_global: See :class:`TNet`.
        use_local: See :class:`TNet`.
        short_side: Shorter side of the frames that the weights are trained for, in pixels; None if unknown.
            It is stored in checkpoints, and ``segmenter.short_side=trained`` reduces videos to this size.
        flow: Whether these weights give better masks in combination with optical flow; None if unknown. It is
            stored in checkpoints, and ``segmenter.flow=trained`` follows it.
    """

    mean: Tensor
    std: Tensor
    MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's RGB mean and standard deviation

    def __init__(
        self,
        width: int = 64,
        depths: Sequence[int] = (3, 4, 6, 3),
        decoder_width: int = 256,
        normalize: Normalize = "displacements",
        use_global: bool = True,
        use_local: bool = True,
        short_side: int | None = None,
        flow: bool | None = None,
    ) -> None:
        super().__init__()
        check_size(width, depths, decoder_width)
        check_kind(normalize, use_global, use_local)
        check_settings(short_side, flow)
        self.config: dict[str, Any] = {
            "width": width,
            "depths": list(depths),
            "decoder_width": decoder_width,
            "normalize": normalize,
            "use_global": use_global,
            "use_local": use_local,
        }
        self.short_side, self.flow = short_side, flow
        self.anet = ANet(width, depths, decoder_width)
        self.tnet = TNet(width, depths, decoder_width, normalize, use_global, use_local)
        self._register_normalisation()

    def _register_normalisation(self) -> None:
        """Register the mean and the standard deviation of the image channels as non-persistent buffers."""
        self.register_buffer("mean", torch.tensor(self.MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.STD).view(3, 1, 1), persistent=False)

    def normalise(self, frames: Tensor) -> Tensor:
        """Return the networks' input, float [..., 3, H, W], from frames uint8 RGB of the same shape."""
        return (frames.to(self.mean.dtype) / 255 - self.mean) / self.std

    def features(self, images: Tensor) -> Any:
        """Return T-Net's image features (:class:`ivos.networks.FrameFeatures`) of images [B, 3, H, W]."""
        return self.tnet.features(images)

    flow_quality: ClassVar[Literal["fine", "fast"]] = "fine"
    """Quality of the optical flow beside T-Net; see :class:`ivos.engine.optical_flow.OpticalFlow`."""
    click_radius = 0.04
    """Radius of the ring that represents a click after the first round, in frame heights."""
    negatives_everywhere = False
    """Whether A-Net gets all negative strokes, also outside the previous mask and in the first round."""

    def annotate(self, images: Tensor, interaction: Tensor) -> Tensor:
        """Segment the objects in a frame from the strokes on it.

        Args:
            images: Output of :meth:`normalise` for the frame, [1, 3, H, W], H and W multiples of 32.
            interaction: Previous mask, positive and negative strokes of each object [N, 3, H, W].

        Returns:
            Logits [N, 1, H, W]. As in the released system, an object is where its probability is above 0.8.
        """
        return self.anet(images, interaction)[0]  # type: ignore[no-any-return]

    @classmethod
    def from_released(cls, source: str | Path | Mapping[str, Tensor]) -> "ATNet":
        """Return the network of the authors' checkpoint, in evaluation mode.

        Args:
            source: The checkpoint file, or its state dict of 912 tensors.

        Raises:
            CheckpointError: The state dict does not fit; the message lists the keys that are missing,
                unknown or of the wrong shape.
        """
        state = unwrapped(source if isinstance(source, Mapping) else read(source))
        name = "state dict" if isinstance(source, Mapping) else str(source)
        with torch.device("meta"):
            network = cls(normalize="rows")
        check_state(state, network.to_released(), f"{name} does not hold the authors' released network")
        network._adopt(from_released_names(state))
        return network

    def to_released(self) -> dict[str, Tensor]:
        """Return the state dict under the names of the authors' checkpoint."""
        return to_released_names(self.state_dict())

    @property
    def about(self) -> dict[str, Any]:
        """The configuration and the settings that are stored with the weights."""
        return {"network": self.config, "short_side": self.short_side, "flow": self.flow}

    def save(self, path: str | Path, half: bool = False) -> None:
        """Write the weights and the network's configuration to a file that :func:`load` reads.

        Args:
            path: The file to write. The suffix ``.safetensors`` selects the safetensors format.
            half: Whether to store the parameters in half precision, which halves the size and does not change
                results noticeably. The statistics of batch norms stay in float32, because their variances can
                exceed the range of half precision.
        """
        state = self.state_dict()
        if half:
            state |= {key: value.detach().half() for key, value in self.named_parameters()}
        about = {"format": FORMAT, **self.about}
        if Path(path).suffix == SAFETENSORS:
            write_safetensors(path, about, state)
        else:
            torch.save({"ivos": about, "state_dict": state}, path)

    @staticmethod
    def from_pretrained(path_or_name: str | Path, **options: Any) -> "ATNet":
        """Load a network from a folder or from the Hugging Face Hub, in evaluation mode.

        Args:
            path_or_name: A folder that :meth:`save_pretrained` has written, the name of a model on the Hub,
                or any argument of :func:`load`.
            options: Options of the method ``from_pretrained`` of huggingface_hub, such as ``revision`` or
                ``local_files_only``.

        Returns:
            The network, an instance of the class that wrote the files.

        Raises:
            CheckpointError: The network cannot be loaded; the message gives the reason in one line.
        """
        from ivos.networks.hub import from_pretrained

        return from_pretrained(path_or_name, **options)

    def save_pretrained(self, folder: str | Path, **options: Any) -> str | None:
        """Write ``model.safetensors``, ``config.json`` and a model card to a folder.

        Args:
            folder: The folder; it is created if it does not exist.
            options: Options of the method ``save_pretrained`` of huggingface_hub, such as
                ``model_card_kwargs``, whose entries ``title``, ``repo_id`` and ``description`` go into the
                model card.
        """
        from ivos.networks.hub import HubNetwork

        return HubNetwork(self).save_pretrained(folder, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the network, its configuration and a model card to the Hugging Face Hub.

        Args:
            repo_id: The model's name on the Hub, USER/NAME.
            options: Options of the method ``push_to_hub`` of huggingface_hub, such as ``private`` or
                ``token``.

        Returns:
            The URL of the commit.
        """
        from ivos.networks.hub import HubNetwork

        card = {
            "title": repo_id.rpartition("/")[2],
            "repo_id": repo_id,
            **(options.pop("model_card_kwargs", None) or {}),
        }
        return HubNetwork(self).push_to_hub(repo_id, model_card_kwargs=card, **options)

    def _adopt(self, state: Mapping[str, Tensor]) -> None:
        """Load a checked state dict into a network that was built on the meta device."""
        own = self.state_dict()
        copies = {key: value.detach().to(own[key].dtype, copy=True) for key, value in state.items()}
        absent = {key: value for key, value in own.items() if key.endswith(COUNTER) and key not in copies}
        copies |= {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in absent.items()}
        self.load_state_dict(copies, assign=True)
        self._register_normalisation()
        self.eval()


def load(path_or_name: str | Path, seed: int = 0) -> ATNet:
    """Load the :class:`ATNet` of a checkpoint or of shipped weights, in evaluation mode.

    Args:
        path_or_name: A checkpoint file, either the authors' or one written by ivos; or the name of shipped
            weights (:func:`ivos.networks.shipped_names`); or ``untrained``: a network of the same size as
            ``small`` with random initial weights.
        seed: Seed of the random weights of ``untrained``.

    Raises:
        CheckpointError: The file is not such a checkpoint; the message gives its name and the reason.
    """
    if path_or_name == UNTRAINED and not Path(UNTRAINED).exists():
        return _untrained(seed)
    path = weights_file(path_or_name)
    content = read(path)
    if "ivos" not in content:
        return _without_metadata(path, unwrapped(content))
    try:
        if (version := content["ivos"].get("format", FORMAT)) != FORMAT:
            raise ValueError(f"format {version}; this version of ivos reads format {FORMAT}")
        config, state = content["ivos"]["network"], content["state_dict"]
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise TypeError("its state_dict is not a dictionary with strings as keys")
        state = strip_wrappers(state)
        with torch.device("meta"):
            kept = {key: content["ivos"].get(key) for key in ("short_side", "flow")}
            network = create_network(**config, **kept)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: a checkpoint of ivos that is incomplete or of another version ({_short(error)})"
        ) from error
    prefix = "network."  # training checkpoints hold a LightningModule whose attribute `network` is the ATNet
    if any(key.startswith(prefix) for key in state):
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    check_state(state, network.state_dict(), f"{path} does not hold a network of {network.config}")
    network._adopt(state)
    return network


def _without_metadata(path: Path, state: Mapping[str, Any]) -> ATNet:
    """Return the network of a bare state dict, either the authors' or one of ``network.state_dict()``.

    Raises:
        CheckpointError: The keys belong to neither kind of state dict.
    """
    if any(key.startswith("encoder_6ch.") for key in state):
        return ATNet.from_released(state)
    own = {key.removeprefix("network."): value for key, value in state.items()}
    if not any(key.startswith("anet.") for key in own):
        keys = ", ".join(list(state)[:4]) or "none"
        raise CheckpointError(
            f"{path}: neither the authors' released checkpoint nor one written by ivos (its keys: {keys})"
        )
    try:
        config = _size_of(own)
        with torch.device("meta"):
            network = ATNet(**config)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: a state dict without configuration, from which the network's size cannot be derived "
            f"({_short(error)}); save the network with network.save(FILE)"
        ) from error
    check_state(own, network.state_dict(), f"{path} does not hold a network of {network.config}")
    warnings.warn(
        f"{path}: a state dict without configuration: a local transfer with "
        f"normalize={network.config['normalize']} is assumed; network.save(FILE) stores the configuration",
        UserWarning,
        stacklevel=3,
    )
    network._adopt(own)
    return network


def _size_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Derive the width, the depths and the decoder's width of a network from the shapes of its weights."""
    blocks = [re.match(r"anet\.encoder\.stages\.(\d+)\.(\d+)\.", key) for key in state]
    last: dict[int, int] = {}
    for found in blocks:
        if found:
            stage, block = int(found[1]), int(found[2])
            last[stage] = max(last.get(stage, 0), block)
    return {
        "width": state["anet.encoder.stem.weight"].shape[0],
        "depths": [last[stage] + 1 for stage in range(4)],
        "decoder_width": state["anet.decoder.head.0.weight"].shape[1] // 2,
    }


def create_network(transfer: str = "paper", **options: Any) -> ATNet:
    """Return a network with random initial weights.

    Args:
        transfer: ``paper`` for :class:`ATNet`, or ``memory`` for :class:`ivos.networks.memory.MemoryATNet`.
        options: Arguments of the chosen class.

    Raises:
        UserError: ``transfer`` has another value.
    """
    if transfer == "paper":
        return ATNet(**options)
    if transfer == "memory":
        from ivos.networks.memory import MemoryATNet

        return MemoryATNet(**options)
    raise UserError(f"model.transfer: {transfer!r} is neither paper nor memory")


def _short(error: Exception) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 200 else text[:197] + "..."


def check_size(width: int, depths: Sequence[int], decoder_width: int) -> None:
    """Check the sizes of a network before it is built, because building an absurd size takes minutes.

    Raises:
        UserError: A size is not a whole number in the allowed range.
    """
    several = isinstance(depths, Iterable) and not isinstance(depths, str)
    sizes: list[Any] = [width, decoder_width, *(depths if several else [depths])]
    if len(sizes) != 6 or not all(type(size) is int and 0 < size <= 4096 for size in sizes):
        raise UserError(
            f"model: width, decoder_width and four depths must be whole numbers from 1 to 4096, got {sizes}"
        )
    if sum(depths) > 256:
        raise UserError(f"model.depths: their sum must be at most 256, got {list(depths)}")


def check_kind(normalize: str, use_global: bool, use_local: bool) -> None:
    """Check the options that choose between variants of the paper's T-Net.

    Raises:
        UserError: An option has an invalid value.
    """
    if normalize not in get_args(Normalize):
        raise UserError(f"model.normalize: {normalize!r} is not one of {', '.join(get_args(Normalize))}")
    if not isinstance(use_global, bool) or not isinstance(use_local, bool):
        raise UserError(
            f"model.use_global, model.use_local: true or false, got {use_global!r}, {use_local!r}"
        )


def check_settings(short_side: int | None, flow: bool | None) -> None:
    """Check the settings that are stored with the weights.

    Raises:
        UserError: A setting has an invalid value.
    """
    if short_side is not None and not (type(short_side) is int and 32 <= short_side <= 2**16):
        raise UserError(f"model.short_side: a whole number of at least 32, or null, got {short_side!r}")
    if not isinstance(flow, bool | None):
        raise UserError(f"model.flow: true, false or null, got {flow!r}")


def _untrained(seed: int) -> ATNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ATNet(width=16, depths=(2, 2, 2, 2), decoder_width=32).eval()
