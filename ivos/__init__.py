"""Training and evaluation of interactive video object segmentation with A-Net and T-Net."""
