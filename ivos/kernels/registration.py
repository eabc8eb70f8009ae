"""Registration of Python functions as PyTorch operators, without an import of torch.compile.

``torch.library.custom_op`` imports ``torch._dynamo`` when an operator is called for the first time. The
import takes seconds, which would delay the first prediction of every program. This module makes the same
registration by the underlying functions of ``torch.library``, which do not need the import.
"""

from collections.abc import Callable
from typing import Any

import torch

_LIBRARY = torch.library.Library("ivos", "FRAGMENT")


def register_operator(
    name: str,
    function: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., None] | None = None,
) -> Any:
    """Register a function as the operator ``ivos::NAME`` for all devices.

    Args:
        name: Name of the operator.
        function: Implementation. Its annotations give the operator's schema. It must not modify its
            arguments or return one of them.
        fake: Function for tracing, which returns empty tensors of the results' shapes and types.
        backward: Function that computes the gradients, as in ``torch.library.register_autograd``; None for an
            operator that cannot be differentiated.
        setup_context: Function that saves the tensors that `backward` needs.

    Returns:
        The operator, a ``torch._ops.OpOverload``.
    """

    def refuse(ctx: Any, *grads: Any) -> None:
        raise RuntimeError(f"ivos::{name} has no gradient")

    schema = torch.library.infer_schema(function, mutates_args=())
    _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
    operator = getattr(torch.ops.ivos, name).default
    torch.library.register_fake(operator, fake, lib=_LIBRARY)
    torch.library.register_autograd(operator, backward or refuse, setup_context=setup_context, lib=_LIBRARY)
    return operator


def register_autocast(operator: Any, function: Callable[..., Any], device_type: str) -> None:
    """Register what runs in place of an operator while autocast is on.

    Args:
        operator: Operator of :func:`register_operator`.
        function: Replacement with the operator's parameters.
        device_type: "cpu" or "cuda".
    """
    _LIBRARY.impl(operator, function, {"cpu": "AutocastCPU", "cuda": "AutocastCUDA"}[device_type])
