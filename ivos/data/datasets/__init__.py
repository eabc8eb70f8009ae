"""Readers of the data sets that the networks are trained and evaluated on."""
