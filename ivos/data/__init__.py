"""Data sets in their layouts, synthetic video, and the datamodules that train on them."""
