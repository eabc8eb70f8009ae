"""Temporary choice between TF32 and IEEE float32 in PyTorch's convolutions and matrix products."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Return a context in which a GPU computes float32 convolutions and matrix products with or without TF32.

    TF32 keeps 10 bits of each factor's fraction instead of 23; cuDNN's convolutions use it by default.
    PyTorch has an older and a newer interface for this choice. Both are set, because code such as the
    compiler reads either of them. Reading the older one fails if the newer one has a setting that it cannot
    express. The settings apply to the whole process, not to the thread.

    Args:
        allowed: Whether TF32 is used; False selects IEEE float32.
    """
    operations = _operations()
    precisions = [each.fp32_precision for each in operations]
    try:
        older = (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision())
    except RuntimeError:  # the newer interface has a setting that the older one cannot express
        older = None
    try:
        torch.backends.cudnn.allow_tf32 = allowed
        torch.set_float32_matmul_precision("high" if allowed else "highest")
        for each in operations:
            each.fp32_precision = "tf32" if allowed else "ieee"
        yield
    finally:
        if older:
            torch.backends.cudnn.allow_tf32 = older[0]
            torch.set_float32_matmul_precision(older[1])
        for each, precision in zip(operations, precisions, strict=True):
            each.fp32_precision = precision


def _operations() -> list[Any]:
    """Return PyTorch's settings for single operations; empty before PyTorch 2.9."""
    backends: Any = torch.backends
    if not hasattr(backends.cudnn, "conv"):
        return []
    return [backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul, backends.mkldnn.matmul]
