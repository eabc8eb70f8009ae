"""Settings of PyTorch that decide what float32 means, set for a while."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Have float32 convolutions and matrix products in TF32 on a GPU, or in IEEE float32; then as before.

    TF32 keeps 10 bits of a factor's fraction instead of 23. cuDNN's convolutions use it by default. PyTorch
    has two sets of switches for it (the older ones can be asked no more where the newer ones say what they
    cannot express), and both are set, so that whoever asks either, the compiler for one, gets one answer.
    The settings are the process', not the thread's.
    """
    operations = _operations()
    precisions = [each.fp32_precision for each in operations]
    try:
        older = (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision())
    except RuntimeError:  # the newer switches have the say
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
    """Return the settings of single operations, which PyTorch has from 2.9 on."""
    backends: Any = torch.backends
    if not hasattr(backends.cudnn, "conv"):
        return []
    return [backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul, backends.mkldnn.matmul]
