"""Compilation of the networks' parts, for few shapes: numbers of objects are rounded up to powers of two.

A compiled function is specialised to the shapes that it is called with. PyTorch compiles a function eight
times by default and then runs it uncompiled, with one line in a log, so that a video with nine numbers of
objects would lose what compilation gains.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_VARIANTS = 64  # compiled shapes of one function: eight sizes of videos with 1 to 128 objects


def compiled(function: Callable[..., Any], mode: str | None) -> Any:
    """Return a function or a module compiled anew for each shape that it is called with."""
    import torch._dynamo.config as dynamo  # takes a second

    name = (
        "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit"
    )  # up to PyTorch 2.6
    setattr(dynamo, name, max(_VARIANTS, getattr(dynamo, name)))
    return torch.compile(function, mode=mode, dynamic=False)


def rounded_up(count: int) -> int:
    """Return the smallest power of two that is not below a count of at least 1."""
    return 1 << (count - 1).bit_length()


def filled(tensor: Tensor, count: int) -> Tensor:
    """Return a tensor [N, ...] with zeros appended up to a count of entries."""
    if count == len(tensor):
        return tensor
    return F.pad(tensor, (0, 0) * (tensor.dim() - 1) + (0, count - len(tensor)))
