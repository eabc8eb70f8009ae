"""Region similarity J and contour accuracy F of DAVIS (Perazzi et al., CVPR 2016)."""

from ivos.metrics.arrays import GroundTruth, f_measure, jaccard, mean_over

__all__ = ["GroundTruth", "f_measure", "jaccard", "mean_over"]
