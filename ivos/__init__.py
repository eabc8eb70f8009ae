"""Training and evaluation of interactive video object segmentation with A-Net and T-Net."""

from ivos import _renamed_modules

_renamed_modules.install()
