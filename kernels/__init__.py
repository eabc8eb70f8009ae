"""Correlation of two feature maps over a window of displacements, and the local transfer built on it."""

from kernels import reference
from kernels.reference import correlation, local_transfer

__all__ = ["correlation", "local_transfer", "reference"]
