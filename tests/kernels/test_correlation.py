"""Tests of the naive formulation against loops, of the CPU path against it, and of the ops."""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from torch.library import opcheck

from ivos import kernels
from ivos.kernels import cpu, cuda, naive, ops
from tests.support import two

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 1e-2, torch.bfloat16: 1e-2}
# B, C, h, w, radius, dilation
SHAPES = [
    (1, 3, 7, 9, 4, 2),
    (2, 5, 20, 35, 4, 2),
    (1, 2, 13, 40, 5, 1),
    (3, 4, 1, 1, 2, 3),
    (1, 2, 9, 7, 2, 4),
    (1, 1, 3, 2, 3, 5),
    (1, 6, 17, 18, 1, 1),
]


def draw(shape, dtype=torch.float32, scale=1.0):
    """Random numbers that `dtype` holds exactly, from a seed of their own in every run."""
    generator = torch.Generator()
    generator.seed()
    return (scale * torch.randn(shape, generator=generator)).to(dtype)


def exact(*tensors):
    return [x.detach().double().requires_grad_() for x in tensors]


def assert_close(actual, expected, dtype):
    error = (actual.double() - expected).abs() / expected.abs().clamp(min=1)
    assert error.max() <= TOLERANCE[dtype], f"largest error {error.max():.3g}"


@pytest.mark.parametrize(("radius", "dilation"), [(1, 1), (2, 3), (4, 2)])
def test_naive_is_the_definition(radius, dilation):
    batch, channels, height, width = 2, 3, 5, 6
    target, other, mask = draw((batch, channels, height, width)), draw((batch, channels, height, width)), None
    mask = draw((batch, 2, height, width))
    side = 2 * radius + 1
    volume = torch.zeros(batch, side * side, height, width)
    moved = torch.zeros_like(mask)
    displacements = [(dy, dx) for dy in range(-radius, radius + 1) for dx in range(-radius, radius + 1)]
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                met = [(y + dy * dilation, x + dx * dilation) for dy, dx in displacements]
                inside = [0 <= v < height and 0 <= u < width for v, u in met]
                for d, (v, u) in enumerate(met):
                    if inside[d]:
                        volume[b, d, y, x] = target[b, :, y, x] @ other[b, :, v, u] / channels
                weights = volume[b, :, y, x].softmax(0)
                for d, (v, u) in enumerate(met):
                    if inside[d]:
                        moved[b, :, y, x] += weights[d] * mask[b, :, v, u]
    torch.testing.assert_close(naive.correlation(target, other, radius, dilation), volume)
    torch.testing.assert_close(naive.local_transfer(target, other, mask, radius, dilation), moved)
    rows = (volume.softmax(2)[:, None] * cpu.unfold(mask, radius, dilation)).sum(2)
    torch.testing.assert_close(naive.local_transfer(target, other, mask, radius, dilation, "rows"), rows)


@pytest.mark.parametrize("implementation", ["naive", "torch"])
def test_scale_and_channel_order_of_flownet2(implementation):
    """dy slow, dx fast, from -8 to 8 in steps of 2; divided by the number of channels."""
    target, other = torch.zeros(1, 4, 20, 20), torch.zeros(1, 4, 20, 20)
    target[0, :, 10, 10] = 1
    other[0, :, 10 - 6, 10 + 4] = 3
    volume = kernels.correlation(target, other, implementation=implementation)
    assert volume.shape == (1, 81, 20, 20)
    assert volume.nonzero().tolist() == [[0, 9 * 1 + 6, 10, 10]]
    assert volume[0, 15, 10, 10] == 3


def test_gradients_of_the_reference():
    tensors = [draw((1, 2, 4, 5), torch.float64).requires_grad_() for _ in range(2)]
    mask = draw((1, 2, 4, 5), torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda t, r: naive.correlation(t, r, 1, 2), tensors)
    for normalize in ("displacements", "rows"):
        transfer = lambda t, r, m, how=normalize: naive.local_transfer(t, r, m, 1, 1, how)  # noqa: E731
        assert torch.autograd.gradcheck(transfer, (*tensors, mask))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_correlation(shape, dtype):
    *size, radius, dilation = shape
    target, other = (draw(size, dtype).requires_grad_() for _ in range(2))
    volume = kernels.correlation(target, other, radius, dilation)
    inputs = exact(target, other)
    expected = naive.correlation(*inputs, radius, dilation)
    assert volume.dtype == dtype
    assert_close(volume, expected, dtype)

    grad = draw(volume.shape, dtype)
    grads = torch.autograd.grad(volume, (target, other), grad)
    for x, y in zip(grads, torch.autograd.grad(expected, inputs, grad.double()), strict=True):
        assert x.dtype == dtype
        assert_close(x, y, dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_local_transfer(shape, dtype):
    *size, radius, dilation = shape
    target, other = (draw(size, dtype, 1.5 * size[1] ** 0.25).requires_grad_() for _ in range(2))
    mask = draw((size[0], 2, *size[2:]), dtype).requires_grad_()
    moved = kernels.local_transfer(target, other, mask, radius, dilation)
    inputs = exact(target, other, mask)
    expected = naive.local_transfer(*inputs, radius, dilation)
    assert moved.dtype == dtype
    assert_close(moved, expected, dtype)

    grad = draw(moved.shape, dtype)
    grads = torch.autograd.grad(moved, (target, other, mask), grad)
    for x, y in zip(grads, torch.autograd.grad(expected, inputs, grad.double()), strict=True):
        assert x.dtype == dtype
        assert_close(x, y, dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_at_a_time(monkeypatch, shape):
    """Laying pixels out all at once, as on other devices than the CPU, or row by row gives the same."""
    *size, radius, dilation = shape
    target, other, grad = draw(size), draw(size), draw((size[0], (2 * radius + 1) ** 2, *size[2:]))
    results = []
    for rows in ({}, {"cpu": 1}, {"cpu": 3}):
        monkeypatch.setattr(cpu, "ROWS_AT_A_TIME", rows)
        volume = cpu.correlation(target, other, radius, dilation)
        results.append([volume, cpu.gather(grad, other, radius, dilation)])
    for other_rows in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other_rows, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_rows(dtype):
    target, other = (draw((2, 5, 12, 19), dtype).requires_grad_() for _ in range(2))
    mask = draw((2, 3, 12, 19), dtype).requires_grad_()
    moved = kernels.local_transfer(target, other, mask, normalize="rows")
    inputs = exact(target, other, mask)
    expected = naive.local_transfer(*inputs, normalize="rows")
    assert_close(moved, expected, dtype)
    grads = torch.autograd.grad(moved.sin().sum(), (target, other, mask))
    for x, y in zip(grads, torch.autograd.grad(expected.sin().sum(), inputs), strict=True):
        assert_close(x, y, dtype)


@pytest.mark.parametrize("implementation", ["naive", "torch"])
def test_masks_share_the_weights(implementation):
    target, other, mask = draw((1, 4, 9, 10)), draw((1, 4, 9, 10)), draw((1, 3, 9, 10))
    together = kernels.local_transfer(target, other, mask, implementation=implementation)
    for n in range(3):
        alone = kernels.local_transfer(target, other, mask[:, n : n + 1], implementation=implementation)
        torch.testing.assert_close(alone[:, 0], together[:, n])


def test_layouts():
    base = draw((2, 6, 15, 22))
    strided = base[..., ::2], base[..., 1::2]
    plain = kernels.correlation(*(x.contiguous() for x in strided))
    last = [x.contiguous(memory_format=torch.channels_last) for x in strided]
    expanded = base[:1, :, :, ::2].expand(2, -1, -1, -1)
    for pair in (strided, last, (last[0], strided[1])):
        volume = kernels.correlation(*pair)
        assert volume.is_contiguous()
        assert torch.equal(volume, plain)
    assert torch.equal(
        kernels.correlation(expanded, base[..., ::2])[0],
        kernels.correlation(base[..., ::2], base[..., ::2])[0],
    )


@pytest.mark.parametrize("size", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)], ids=str)
def test_empty(size):
    target = torch.randn(size, requires_grad=True)
    mask = torch.rand(size[0], 2, *size[2:], requires_grad=True)
    volume = kernels.correlation(target, target)
    moved = kernels.local_transfer(target, target, mask)
    assert volume.shape == (size[0], 81, *size[2:])
    assert moved.shape == mask.shape
    (volume.sum() + moved.sum()).backward()
    assert target.grad.shape == size
    assert mask.grad.shape == mask.shape


def test_results_repeat():
    target, other, mask = (draw((1, 8, 30, 33)).requires_grad_() for _ in range(3))
    runs = []
    for _ in range(2):
        out = kernels.local_transfer(target, other, mask[:, :2])
        runs.append([out, *torch.autograd.grad(out.square().sum(), (target, other, mask))])
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


# Bad input


def good(**changes):
    values = {
        "target": torch.zeros(2, 3, 6, 7),
        "reference": torch.zeros(2, 3, 6, 7),
        "mask": torch.zeros(2, 1, 6, 7),
    }
    return {**values, **changes}


BAD_IN_BOTH = [
    ({"target": torch.zeros(2, 3, 6, 7).int()}, TypeError, r"^target: must be float16"),
    ({"reference": torch.zeros(2, 3, 6, 7).long()}, TypeError, r"^reference: must be float16"),
    (
        {"reference": torch.zeros(2, 3, 6, 7).double()},
        TypeError,
        r"^reference: is torch.float64, but target is torch",
    ),
    ({"target": torch.zeros(3, 6, 7)}, ValueError, r"^target: must have 4 dimensions, got shape \(3, 6, 7\)"),
    (
        {"reference": torch.zeros(2, 4, 6, 7)},
        ValueError,
        r"^reference: shape \(2, 4, 6, 7\) does not match target",
    ),
    ({"reference": torch.zeros(1, 3, 6, 7)}, ValueError, r"^reference: shape"),
    ({"reference": torch.zeros(2, 3, 7, 6)}, ValueError, r"^reference: shape"),
    (
        {"reference": torch.zeros(2, 3, 6, 7, device="meta")},
        ValueError,
        r"^reference: is on meta, but target is on cpu",
    ),
    (
        {"target": torch.zeros(2, 0, 6, 7), "reference": torch.zeros(2, 0, 6, 7)},
        ValueError,
        r"^target: must have at least one",
    ),
    ({"target": [1.0]}, TypeError, r"^target: must be a tensor, got list"),
    ({"reference": None}, TypeError, r"^reference: must be a tensor, got NoneType"),
    ({"radius": 0}, ValueError, r"^radius: must be at least 1, got 0"),
    ({"radius": 1.5}, TypeError, r"^radius: must be an int, got float"),
    ({"dilation": 0}, ValueError, r"^dilation: must be at least 1, got 0"),
    ({"dilation": True}, TypeError, r"^dilation: must be an int, got bool"),
    ({"dilation": 2**20}, ValueError, r"^radius: 4 steps of dilation 1048576"),
    ({"implementation": "fast"}, ValueError, r"^implementation: must be auto, naive, .*, got 'fast'"),
]
BAD_IN_TRANSFER = [
    ({"mask": torch.zeros(2, 1, 6, 7).bool()}, TypeError, r"^mask: must be float16"),
    (
        {"mask": torch.zeros(2, 1, 6, 7).half()},
        TypeError,
        r"^mask: is torch.float16, but target is torch.float32",
    ),
    ({"mask": torch.zeros(2, 1, 6, 8)}, ValueError, r"^mask: shape \(2, 1, 6, 8\) does not match target"),
    ({"mask": torch.zeros(3, 1, 6, 7)}, ValueError, r"^mask: shape"),
    (
        {"mask": torch.zeros(2, 1, 6, 7, device="meta")},
        ValueError,
        r"^mask: is on meta, but target is on cpu",
    ),
    ({"normalize": "columns"}, ValueError, r"^normalize: must be displacements or rows, got 'columns'"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD_IN_BOTH, ids=str)
def test_bad_input_of_the_correlation(changes, error, message):
    values = good(**changes)
    values.pop("mask")
    with pytest.raises(error, match=message):
        kernels.correlation(**values)


@pytest.mark.parametrize(("changes", "error", "message"), BAD_IN_BOTH + BAD_IN_TRANSFER, ids=str)
def test_bad_input_of_the_local_transfer(changes, error, message):
    with pytest.raises(error, match=message):
        kernels.local_transfer(**good(**changes))


# Which implementation runs


def on_gpu(dtype=torch.float32):
    """What `ops.choose` looks at of a tensor."""
    return types.SimpleNamespace(is_cuda=True, dtype=dtype, device=torch.device("cuda:0"))


@pytest.fixture
def fresh(monkeypatch):
    """Forget what was said and found before."""
    monkeypatch.delenv("IVOS_KERNEL", raising=False)
    caches = [ops.say, ops._toolchain_missing]
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_environment_variable(fresh, monkeypatch):
    assert ops.requested(None) == "auto"
    monkeypatch.setenv("IVOS_KERNEL", "naive")
    assert ops.requested(None) == "naive"
    assert ops.requested("torch") == "torch"
    called = []
    monkeypatch.setattr(naive, "correlation", lambda *args: called.append(args))
    kernels.correlation(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    assert len(called) == 1
    monkeypatch.setenv("IVOS_KERNEL", "quick")
    with pytest.raises(ValueError, match=r"^IVOS_KERNEL: must be auto, .*'quick'"):
        kernels.correlation(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))


def test_chosen_by_device(fresh, monkeypatch):
    monkeypatch.setattr(cuda, "toolchain", lambda: (None, "", ""))
    assert ops.choose("auto", torch.zeros(1)) is cpu
    assert ops.choose("auto", on_gpu()) is cuda
    assert ops.choose("auto", on_gpu(torch.bfloat16)) is cuda
    assert ops.choose("auto", on_gpu(torch.float64)) is cpu
    assert ops.choose("torch", on_gpu()) is cpu
    assert ops.choose("cuda", on_gpu()) is cuda
    monkeypatch.setattr(torch.version, "hip", "6.0")
    assert ops.choose("auto", on_gpu()) is cpu


def test_cuda_on_the_cpu():
    with pytest.raises(
        ValueError, match=r"^implementation: the CUDA kernels need .* got torch.float32 on cpu"
    ):
        kernels.correlation(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), implementation="cuda")


def test_toolchain_missing(fresh, monkeypatch, caplog):
    def toolchain():
        raise cuda.ToolchainMissing('not there; install them with: pip install "cuda-core[cu13]"')

    monkeypatch.setattr(cuda, "toolchain", toolchain)
    with caplog.at_level(logging.INFO, logger="ivos.kernels"):
        for _ in range(3):
            assert ops.choose("auto", on_gpu()) is cpu
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert 'pip install "cuda-core[cu13]"' in warnings[0]
    with pytest.raises(cuda.ToolchainMissing):
        ops.choose("cuda", on_gpu())


@pytest.mark.parametrize("module", ["cuda.core", "cuda.bindings"])
def test_toolchain_says_what_to_install(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(cuda.ToolchainMissing, match=r'cuda-core.*pip install "cuda-core\[cu1\d\]"'):
        cuda.toolchain.__wrapped__()


def test_said_once(fresh, caplog):
    x = torch.zeros(1, 1, 2, 2)
    with caplog.at_level(logging.INFO, logger="ivos.kernels"):
        for _ in range(3):
            kernels.correlation(x, x)
            kernels.correlation(x, x, implementation="naive")
        kernels.correlation(x.double(), x.double())
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "Correlation on cpu in float32: matrix products in PyTorch",
        "Correlation on cpu in float32: one shifted product per displacement (the naive formulation)",
        "Correlation on cpu in float64: matrix products in PyTorch",
    ]


# Launching, with a stand-in for the GPU


@pytest.fixture
def fake_gpu(monkeypatch):
    """cuda-core and PyTorch's CUDA calls replaced; collects what would be launched."""
    launches = []
    core = types.SimpleNamespace(
        Device=lambda index: types.SimpleNamespace(set_current=lambda: None),
        LaunchConfig=lambda **config: config,
        launch=lambda stream, config, kernel, *args: launches.append(
            (stream.__cuda_stream__(), config, kernel, args)
        ),
    )
    monkeypatch.setattr(cuda, "toolchain", lambda: (core, "13.0", ""))
    monkeypatch.setattr(cuda, "kernel", lambda device, dtype, name: (device, dtype, name))
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: types.SimpleNamespace(cuda_stream=77))
    return types.SimpleNamespace(core=core, launches=launches)


def test_launched_on_the_current_stream(fake_gpu):
    target, other = draw((2, 3, 9, 70)), draw((2, 3, 9, 70))
    volume = cuda.correlation(target, other, 4, 2)
    ((stream, config, kernel, args),) = fake_gpu.launches
    assert stream == (0, 77)
    assert kernel == (3, torch.float32, "correlation")
    # 9 rows: a run of 4 for each parity and the last row; 70 columns: 4 runs of 8 for each parity, 6 more.
    assert config == {"grid": 2 * (2 + 1) * 3, "block": 144}
    addresses, scalars = [args[i] for i in (0, 2, 4)], [args[i].value for i in (1, 3, 5, 6, 7, 8, 9)]
    assert addresses == [target.data_ptr(), other.data_ptr(), volume.data_ptr()]
    assert scalars == [0, 0, 3, 9, 70, 4, 2]


def test_pointer_that_is_not_wanted(fake_gpu):
    x, mask = draw((1, 3, 5, 6)), draw((1, 2, 5, 6))
    cuda.local_transfer_gradient(mask, x, x, mask, mask, mask[:, 0], (False, True), 4, 2)
    ((_, _, kernel, args),) = fake_gpu.launches
    assert kernel[2] == "local_transfer_reference_gradient"
    assert args[8] == 0
    assert args[9] != 0


def test_kernel_failure_raises(fake_gpu):
    def launch(*args):
        raise ValueError("CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered")

    fake_gpu.core.launch = launch
    x = draw((1, 3, 5, 6))
    with pytest.raises(RuntimeError, match=r"kernel correlation .*failed on cpu: CUDA_ERROR_ILLEGAL_ADDRESS"):
        cuda.correlation(x, x, 4, 2)


# Inside of PyTorch's machinery


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_opcheck(dtype):
    target, other, mask = (draw((2, 3, 5, 7), dtype).requires_grad_() for _ in range(3))
    opcheck(ops.correlation, (target, other, 2, 2, "auto"))
    opcheck(ops.local_transfer, (target, other, mask, 2, 2, "auto"))
    grad, plain = draw((2, 25, 5, 7), dtype), target.detach()
    opcheck(ops.correlation_gradient, (grad, plain, True, 2, 2, "auto"))
    moved, wide, log_sum = (x.detach() for x in ops.local_transfer(target, other, mask, 2, 2, "auto"))
    rest = (moved if dtype == torch.float32 else wide, log_sum)
    for wanted in [(True, True), (True, False), (False, True)]:
        args = (plain, plain, other.detach(), mask.detach(), *rest, *wanted, 2, 2, "auto")
        opcheck(ops.local_transfer_gradient, args)


class Transfers(torch.nn.Module):
    """All that is public, behind a shared convolution as in T-Net."""

    def __init__(self):
        super().__init__()
        self.project = torch.nn.Conv2d(3, 4, 1)

    def forward(self, target, other, mask):
        target, other = self.project(target), self.project(other)
        moved = kernels.local_transfer(target, other, mask)
        by_rows = kernels.local_transfer(target, other, mask, normalize="rows")
        return torch.cat([moved, by_rows, kernels.correlation(target, other, 1, 1)], 1)


def inputs(size=(1, 3, 9, 10)):
    return draw(size), draw(size), draw((size[0], 2, *size[2:]))


BACKENDS = ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_compile(backend):
    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("needs g++")
    torch._dynamo.reset()
    module = Transfers()
    compiled = torch.compile(module, fullgraph=True, backend=backend, dynamic=True)
    for size in [(1, 3, 9, 10), (2, 3, 6, 13)]:
        args = inputs(size)
        gradients = []
        for run in (module, compiled):
            module.zero_grad()
            out = run(*args)
            out.sin().sum().backward()
            gradients.append([out, *(p.grad.clone() for p in module.parameters())])
        for eager, traced in zip(*gradients, strict=True):
            torch.testing.assert_close(traced, eager)


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict):
    module, args = Transfers().eval(), inputs()
    program = torch.export.export(module, args, strict=strict)
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert {"ivos.correlation.default", "ivos.local_transfer.default"} <= names
    torch.testing.assert_close(program.module()(*args), module(*args))


def test_autocast():
    target, other, mask = (x.requires_grad_() for x in inputs())
    with torch.autocast("cpu", torch.bfloat16):
        moved = kernels.local_transfer(target.bfloat16(), other, mask)
        volumes = [kernels.correlation(target, other, implementation=name) for name in ("torch", "naive")]
        by_rows = kernels.local_transfer(target, other, mask, normalize="rows")
        wide = kernels.correlation(target.double(), other.double())
    assert {x.dtype for x in (moved, by_rows, *volumes)} == {torch.bfloat16}
    assert wide.dtype == torch.float64
    expected = kernels.local_transfer(*(x.bfloat16() for x in (target, other, mask)))
    assert torch.equal(moved, expected)
    moved.float().sum().backward()
    assert {x.grad.dtype for x in (target, other, mask)} == {torch.float32}
    assert kernels.correlation(target, other).dtype == torch.float32


def test_mixed_types_under_autocast_that_casting_cannot_mend():
    target, other, _ = inputs()
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(TypeError, match=r"^reference: is torch.float64"),
    ):
        kernels.correlation(target, other.double())


def test_distributed():
    """Two processes of half the batch each get the gradients of the whole."""
    for got, expected in two.run_two(two.local_transfer_gradients):
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one, other)


def test_needs_torch_alone():
    """Importing the package brings in neither NumPy's nor Lightning's nor Hydra's weight."""
    blocked = "numpy", "hydra", "omegaconf", "pytorch_lightning", "cuda"
    code = f"""
import sys
for name in {blocked}:
    sys.modules[name] = None
import torch
from ivos import kernels
x = torch.ones(1, 2, 3, 4)
print(kernels.correlation(x, x).shape, kernels.local_transfer(x, x, x).shape)
"""
    root = str(Path(kernels.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "[1, 81, 3, 4]" in done.stdout
