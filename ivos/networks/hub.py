"""Networks in folders and on the Hugging Face Hub, by the ``ModelHubMixin`` of huggingface_hub."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download

from ivos.networks.atnet import ATNet, load
from ivos.networks.checkpoint import CheckpointError
from ivos.networks.shipped import UNTRAINED, shipped_names
from ivos.runtime.errors import UserError

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_CARD = """---
{{ card_data }}
---

# {{ title }}

{{ kind }} {{ parameters }} M parameters.
Shorter side of the training frames: {{ short_side }}. Combined with optical flow: {{ flow }}.

```python
import ivos
from ivos.networks import ATNet

network = ATNet.from_pretrained("{{ repo_id }}")
segmenter = ivos.build_segmenter(network)
segmenter.start(frames, num_objects=1)  # uint8 RGB [T, h, w, 3]
masks = segmenter.interact(0, [{"path": [[0.4, 0.5], [0.5, 0.6]], "object_id": 1}])  # uint8 [T, h, w]
```

The whole configuration is in `config.json`, and in the metadata of `model.safetensors`.

{{ description }}
"""
_KINDS = {
    "paper": "A-Net and T-Net for interactive video object segmentation (Heo, Koh, Kim, ECCV 2020).",
    "memory": "Networks with a frozen encoder ({encoder}) and a memory of frames for interactive video "
    "object segmentation.",
}


class HubNetwork(
    ModelHubMixin,
    library_name="ivos",
    license="mit",
    pipeline_tag="mask-generation",
    tags=["video-object-segmentation", "interactive-segmentation"],
    paper_url="https://arxiv.org/abs/2007.08139",
    model_card_template=_CARD,
):
    """Wrapper that gives a network the methods of huggingface_hub's ``ModelHubMixin``.

    Args:
        network: The network.
    """

    def __init__(self, network: ATNet) -> None:
        self.network = network

    def _save_pretrained(self, save_directory: Path) -> None:
        self.network.save(save_directory / WEIGHTS)
        (save_directory / CONFIG).write_text(json.dumps(self.network.about, indent=2))

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> "HubNetwork":
        if Path(model_id).is_dir():
            return cls(load(Path(model_id) / WEIGHTS))
        passed = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        chosen = {name: options[name] for name in passed if name in options}
        return cls(load(hf_hub_download(model_id, WEIGHTS, **chosen)))

    def generate_model_card(self, *args: Any, **values: Any) -> ModelCard:
        """Return the model card, filled in with the network's configuration.

        Args:
            args: Positional arguments of the mixin's method.
            values: Values for the template, among them ``title``, ``repo_id`` and ``description``.
        """
        network, unknown = self.network, "unknown"
        kind = _KINDS[network.config.get("transfer", "paper")].format(**network.config)
        size = sum(one.numel() for one in network.parameters()) / 1e6
        known = {
            "title": "ivos network",
            "repo_id": "FOLDER_OR_NAME",
            "description": "",
            "kind": kind,
            "parameters": f"{size:.1f}",
            "short_side": unknown if network.short_side is None else f"{network.short_side} pixels",
            "flow": {None: unknown, True: "yes", False: "no"}[network.flow],
        }
        return super().generate_model_card(*args, **(known | values))


def from_pretrained(name: str | Path, **options: Any) -> ATNet:
    """Load a network from a folder, a file or the Hub; see :meth:`ATNet.from_pretrained`.

    Raises:
        CheckpointError: The network cannot be loaded; the message gives the reason in one line.
    """
    if str(name) in (*shipped_names(), UNTRAINED) or Path(name).is_file():
        return load(name)
    if Path(name).is_dir() and not (Path(name) / WEIGHTS).is_file():
        raise CheckpointError(f"{name}: a folder without {WEIGHTS}")
    try:
        found: HubNetwork = HubNetwork.from_pretrained(name, **options)
    except UserError:
        raise
    except Exception as error:  # connection, unknown name, missing access rights, ...
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{name}: neither a file, nor a folder with {WEIGHTS}, nor a model on the Hugging Face Hub "
            f"({reason})"
        ) from error
    return found.network
