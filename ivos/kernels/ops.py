"""Operators of the correlation: choice of the implementation, shapes for tracing, gradients and autocast.

The ops are `ivos::correlation`, `ivos::local_transfer` and their gradients. They are opaque to torch.compile
and torch.export, so that the implementation is chosen at run time: the same exported program works with and
without a GPU. The naive formulation is not registered, because it consists of ordinary, differentiable
PyTorch functions.
"""

import functools
import logging
import os
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ivos.kernels import cpu, cuda
from ivos.kernels.registration import register_autocast, register_operator

log = logging.getLogger("ivos.kernels")
IMPLEMENTATIONS = ("naive", "torch", "cuda")
NAMES = {
    "naive": "one shifted product per displacement (the naive formulation)",
    "torch": "matrix products in PyTorch",
    "cuda": "the CUDA kernels",
}


def requested(implementation: str | None) -> str:
    """Return the requested implementation: the argument, else the variable IVOS_KERNEL, else "auto".

    Raises:
        ValueError: The name of the implementation is unknown.
    """
    source, name = "implementation", implementation
    if name is None:
        source, name = "IVOS_KERNEL", os.environ.get("IVOS_KERNEL") or "auto"
    if name not in ("auto", *IMPLEMENTATIONS):
        raise ValueError(f"{source}: must be auto, {', '.join(IMPLEMENTATIONS)}, got {name!r}")
    return name


@functools.cache
def _toolchain_missing() -> bool:
    """Return whether the compiler of the CUDA kernels is missing, and warn once if it is."""
    try:
        cuda.toolchain()
    except cuda.ToolchainMissing as error:
        log.warning("The CUDA kernels cannot be compiled; slower PyTorch code is used instead: %s", error)
        return True
    return False


@functools.cache
def say(implementation: str, device: str, dtype: torch.dtype) -> None:
    """Log which implementation is used, once for each device and type."""
    log.info("Correlation on %s in %s: %s", device, str(dtype).removeprefix("torch."), NAMES[implementation])


def choose(implementation: str, tensor: Tensor) -> ModuleType:
    """Return the module with the implementation for a tensor.

    "auto" selects the CUDA kernels on an NVIDIA GPU if they can be compiled, else PyTorch.

    Raises:
        ValueError: "cuda" is requested, but the tensor is not on an NVIDIA GPU, or its type is not supported.
        ToolchainMissing: "cuda" is requested, but cuda-core or NVRTC is missing.
    """
    compiled = tensor.is_cuda and torch.version.hip is None and tensor.dtype in cuda.SCALARS
    if implementation == "cuda" and not compiled:
        raise ValueError(
            "implementation: the CUDA kernels need float32, float16 or bfloat16 on an NVIDIA GPU, "
            f"got {tensor.dtype} on {tensor.device}"
        )
    if implementation == "cuda":
        cuda.toolchain()
    elif implementation == "auto":
        implementation = "cuda" if compiled and not _toolchain_missing() else "torch"
    say(implementation, str(tensor.device), tensor.dtype)
    return cuda if implementation == "cuda" else cpu


def _correlation(
    target: Tensor, reference: Tensor, radius: int, dilation: int, implementation: str
) -> Tensor:
    """Return the correlation [B, side^2, h, w], contiguous; see `ivos.kernels.correlation`."""
    return choose(implementation, target).correlation(target, reference, radius, dilation)


def _fake_correlation(
    target: Tensor, reference: Tensor, radius: int, dilation: int, implementation: str
) -> Tensor:
    batch, _, height, width = target.shape
    return target.new_empty((batch, (2 * radius + 1) ** 2, height, width))


def _correlation_gradient(
    grad: Tensor, displaced: Tensor, transposed: bool, radius: int, dilation: int, implementation: str
) -> Tensor:
    """Return the gradient with respect to the target or, if `transposed`, with respect to the reference.

    `displaced` is the other one of the two feature maps.
    """
    chosen = choose(implementation, displaced)
    return chosen.correlation_gradient(grad, displaced, transposed, radius, dilation)


def _fake_correlation_gradient(
    grad: Tensor, displaced: Tensor, transposed: bool, radius: int, dilation: int, implementation: str
) -> Tensor:
    return torch.empty_like(displaced, memory_format=torch.contiguous_format)


correlation_gradient = register_operator(
    "correlation_gradient", _correlation_gradient, _fake_correlation_gradient
)


def _keep_correlation(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    target, reference, *ctx.options = inputs
    ctx.save_for_backward(target, reference)


def _correlation_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    target, reference = ctx.saved_tensors
    of_target = (
        correlation_gradient(grad, reference, False, *ctx.options) if ctx.needs_input_grad[0] else None
    )
    of_reference = correlation_gradient(grad, target, True, *ctx.options) if ctx.needs_input_grad[1] else None
    return of_target, of_reference, None, None, None


correlation = register_operator(
    "correlation", _correlation, _fake_correlation, _correlation_backward, _keep_correlation
)


def _local_transfer(
    target: Tensor, reference: Tensor, mask: Tensor, radius: int, dilation: int, implementation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the moved masks, contiguous, and the tensors for the gradient; see `cpu.local_transfer`.

    Returns:
        The moved masks [B, N, h, w] in the type of `mask`; the moved masks in the accumulation type (empty if
        both types are equal); and the logarithm of the softmax's denominator [B, h, w].
    """
    moved, log_sum = choose(implementation, target).local_transfer(target, reference, mask, radius, dilation)
    if moved.dtype == mask.dtype:
        return moved, moved.new_empty(0), log_sum
    return moved.to(mask.dtype), moved, log_sum


def _fake_local_transfer(
    target: Tensor, reference: Tensor, mask: Tensor, radius: int, dilation: int, implementation: str
) -> tuple[Tensor, Tensor, Tensor]:
    batch, _, height, width = mask.shape
    wide = cpu.accumulation_type(mask.dtype)
    exact = mask.new_empty(0 if wide == mask.dtype else mask.shape, dtype=wide)
    moved = torch.empty_like(mask, memory_format=torch.contiguous_format)
    return moved, exact, mask.new_empty((batch, height, width), dtype=wide)


def _local_transfer_gradient(
    grad: Tensor,
    target: Tensor,
    reference: Tensor,
    mask: Tensor,
    moved: Tensor,
    log_sum: Tensor,
    of_features: bool,
    of_mask: bool,
    radius: int,
    dilation: int,
    implementation: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients with respect to target, reference and mask; empty for gradients not requested."""
    chosen = choose(implementation, target)
    grads = chosen.local_transfer_gradient(
        grad, target, reference, mask, moved, log_sum, (of_features, of_mask), radius, dilation
    )
    a, b, c = (target.new_empty(0) if one is None else one for one in grads)
    return a, b, c


def _fake_local_transfer_gradient(
    grad: Tensor,
    target: Tensor,
    reference: Tensor,
    mask: Tensor,
    moved: Tensor,
    log_sum: Tensor,
    of_features: bool,
    of_mask: bool,
    radius: int,
    dilation: int,
    implementation: str,
) -> tuple[Tensor, Tensor, Tensor]:
    wanted = ((target, of_features), (reference, of_features), (mask, of_mask))
    a, b, c = (
        torch.empty_like(x, memory_format=torch.contiguous_format) if want else x.new_empty(0)
        for x, want in wanted
    )
    return a, b, c


local_transfer_gradient = register_operator(
    "local_transfer_gradient", _local_transfer_gradient, _fake_local_transfer_gradient
)


def _keep_local_transfer(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    target, reference, mask, *ctx.options = inputs
    moved, exact, log_sum = output
    ctx.mark_non_differentiable(exact, log_sum)
    ctx.exact = moved.dtype != log_sum.dtype
    ctx.save_for_backward(target, reference, mask, exact if ctx.exact else moved, log_sum)


def _local_transfer_backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad
    of_features = needs[0] or needs[1]
    grads = local_transfer_gradient(grad, *ctx.saved_tensors, of_features, needs[2], *ctx.options)
    return *(one if need else None for one, need in zip(grads, needs, strict=False)), None, None, None


local_transfer = register_operator(
    "local_transfer", _local_transfer, _fake_local_transfer, _local_transfer_backward, _keep_local_transfer
)


def _cast(op: Any, device_type: str) -> Any:
    """Return a function that runs an op under autocast, which casts all tensors except float64."""

    def run(*args: Any) -> Any:
        with torch.autocast(device_type, enabled=False):
            return op(*args)

    def cast_and_run(*args: Any) -> Any:
        dtype = torch.get_autocast_dtype(device_type)
        return run(*(cast(x, dtype) if isinstance(x, Tensor) else x for x in args))

    return cast_and_run


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Cast a tensor to a type as autocast does, which excludes float64 and non-floating types."""
    return tensor if tensor.dtype == torch.float64 or not tensor.is_floating_point() else tensor.to(dtype)


for _operator in (correlation, local_transfer):
    for _device_type in ("cuda", "cpu"):
        register_autocast(_operator, _cast(_operator, _device_type), _device_type)
