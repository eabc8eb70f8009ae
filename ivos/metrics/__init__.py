"""Region similarity J and contour accuracy F of DAVIS (Perazzi et al., CVPR 2016).

On arrays here; :mod:`ivos.metrics.tensors` has both on tensors, on whatever device they are.
"""

from ivos.metrics.arrays import GroundTruth, f_measure, jaccard

__all__ = ["GroundTruth", "f_measure", "jaccard"]
