"""Readers of data sets, synthetic video, and the Lightning data modules for training."""
