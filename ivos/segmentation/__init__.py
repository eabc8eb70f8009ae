"""Segmentation of whole videos from masks, strokes or clicks: the program ``ivos-segment``."""
