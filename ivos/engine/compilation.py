"""Compilation of the networks' parts, with numbers of objects rounded up to powers of two.

A compiled function is specialised to the shapes of its arguments. By default PyTorch compiles a function for
eight shapes; after that it runs it uncompiled, with one line in the log. Rounding up the number of objects
keeps the number of shapes small.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_VARIANTS = 64  # compiled variants of one function: eight video sizes times eight batch sizes from 1 to 128


def compiled(function: Callable[..., Any], mode: str | None) -> Any:
    """Return a compiled function or module, with one compilation for each shape of its arguments."""
    import torch._dynamo.config as dynamo  # here, because the import takes a second

    name = (
        "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit"
    )  # up to PyTorch 2.6
    setattr(dynamo, name, max(_VARIANTS, getattr(dynamo, name)))
    return torch.compile(function, mode=mode, dynamic=False)


def rounded_up(count: int) -> int:
    """Return the smallest power of two that is at least ``count``, for a count of at least 1."""
    return 1 << (count - 1).bit_length()


def filled(tensor: Tensor, count: int) -> Tensor:
    """Pad a tensor [N, ...] with zeros to ``count`` entries along its first dimension."""
    if count == len(tensor):
        return tensor
    return F.pad(tensor, (0, 0) * (tensor.dim() - 1) + (0, count - len(tensor)))
