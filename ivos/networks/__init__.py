"""A-Net and T-Net as PyTorch modules, and the reading and writing of their checkpoints."""

from ivos.networks.anet import ANet
from ivos.networks.atnet import ATNet, create_network, load
from ivos.networks.backbone import Backbone
from ivos.networks.checkpoint import CheckpointError
from ivos.networks.decoder import Decoder
from ivos.networks.encoders import TimmEncoder, load_encoder_weights
from ivos.networks.imagenet import load_imagenet
from ivos.networks.memory import MemoryATNet, MemoryFeatures, MemoryFrame
from ivos.networks.shipped import shipped_names, weights_file
from ivos.networks.tnet import FrameFeatures, TNet, affinity, global_transfer, readout

__all__ = [
    "ANet",
    "ATNet",
    "Backbone",
    "CheckpointError",
    "Decoder",
    "FrameFeatures",
    "MemoryATNet",
    "MemoryFeatures",
    "MemoryFrame",
    "TNet",
    "TimmEncoder",
    "affinity",
    "create_network",
    "global_transfer",
    "load",
    "load_encoder_weights",
    "load_imagenet",
    "readout",
    "shipped_names",
    "weights_file",
]
