"""Tests of the CUDA source without a GPU: compiled by NVRTC, and run on the CPU."""

import contextlib
import ctypes
import io
import re
import threading
from pathlib import Path
from unittest import mock

import pytest
import torch

from ivos import kernels
from ivos.kernels import cuda

TYPES = [torch.float32, torch.float16, torch.bfloat16]
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 1e-2}
# B, C, h, w, radius, dilation: one tile and many, fewer channels than a chunk and more, windows of one block
# and of four, dilations of less and of more than the image, and a single pixel.
SHAPES = [
    (1, 3, 5, 7, 4, 2),
    (2, 9, 9, 19, 4, 2),
    (1, 5, 6, 37, 1, 1),
    (1, 2, 7, 11, 6, 1),
    (1, 4, 3, 9, 2, 5),
    (2, 1, 1, 1, 3, 3),
]


def draw(shape, dtype=torch.float32, scale=1.0):
    """Random numbers that `dtype` holds exactly, from a seed of their own in every run."""
    generator = torch.Generator()
    generator.seed()
    return (scale * torch.randn(shape, generator=generator)).to(dtype)


def exact(*tensors):
    """Float64 copies that want gradients."""
    return [x.detach().double().requires_grad_() for x in tensors]


def assert_close(actual, expected, dtype):
    error = (actual.double() - expected).abs() / expected.abs().clamp(min=1)
    assert error.max() <= TOLERANCE[dtype], f"largest error {error.max():.3g}"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_correlation_on_the_cpu(emulator, shape, dtype):
    *size, radius, dilation = shape
    target, reference = (draw(size, dtype).requires_grad_() for _ in range(2))
    volume = kernels.correlation(target, reference, radius, dilation)
    inputs = exact(target, reference)
    expected = kernels.naive.correlation(*inputs, radius, dilation)
    assert volume.dtype == dtype
    assert_close(volume, expected, dtype)

    grad = draw(volume.shape, dtype)
    volume.backward(grad)
    for x, y in zip((target, reference), torch.autograd.grad(expected, inputs, grad.double()), strict=True):
        assert_close(x.grad, y, dtype)
    assert emulator.launched == ["correlation", "correlation_gradient", "correlation_gradient"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_local_transfer_on_the_cpu(emulator, shape, dtype):
    *size, radius, dilation = shape
    channels = size[1]
    # Correlations of several units, so that the softmax is far from flat and rescaling matters.
    target, reference = (draw(size, dtype, 1.5 * channels**0.25).requires_grad_() for _ in range(2))
    mask = draw((size[0], 2, *size[2:]), dtype).requires_grad_()
    moved = kernels.local_transfer(target, reference, mask, radius, dilation)
    inputs = exact(target, reference, mask)
    expected = kernels.naive.local_transfer(*inputs, radius, dilation)
    assert moved.dtype == dtype
    assert_close(moved, expected, dtype)

    grad = draw(moved.shape, dtype)
    moved.backward(grad)
    for x, y in zip(
        (target, reference, mask), torch.autograd.grad(expected, inputs, grad.double()), strict=True
    ):
        assert_close(x.grad, y, dtype)


def test_gradients_of_what_wants_one(emulator):
    size = (1, 3, 5, 6)
    target, reference, mask = draw(size), draw(size), draw((1, 1, 5, 6))
    for wanted, launched in [
        (mask, ["local_transfer_reference_gradient"]),
        (target, ["local_transfer_target_gradient", "local_transfer_reference_gradient"]),
    ]:
        emulator.launched.clear()
        wanted.requires_grad_()
        moved = kernels.local_transfer(target, reference, mask)
        moved.sum().backward()
        assert emulator.launched == ["local_transfer", *launched]
        inputs = exact(target, reference, mask)
        index = [x is wanted for x in (target, reference, mask)].index(True)
        expected = torch.autograd.grad(kernels.naive.local_transfer(*inputs).sum(), inputs[index])[0]
        assert_close(wanted.grad, expected, torch.float32)
        wanted.requires_grad_(False)


def test_layouts_on_the_cpu(emulator):
    base = draw((2, 5, 9, 22))
    expected = kernels.naive.correlation(base[..., ::2], base[..., 1::2])
    plain = kernels.correlation(base[..., ::2].contiguous(), base[..., 1::2].contiguous())
    last = [x.contiguous(memory_format=torch.channels_last) for x in (base[..., ::2], base[..., 1::2])]
    for target, reference in [(base[..., ::2], base[..., 1::2]), last, (last[0], base[..., 1::2])]:
        volume = kernels.correlation(target, reference)
        assert volume.is_contiguous()
        assert torch.equal(volume, plain)
    assert_close(plain, expected.double(), torch.float32)


@pytest.mark.parametrize("channels", [5, 8, 24])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_channels_last_is_read_as_contiguous_is(emulator, channels, dtype):
    """By vectors, and where the channels or the address do not allow it one by one; the same bits."""
    size = (2, channels, 9, 22)
    inputs = [draw(size, dtype), draw(size, dtype), draw((2, 2, 9, 22), dtype)]
    shifted = torch.empty(inputs[0].numel() + 1, dtype=dtype)[1:].view(2, 9, 22, channels).permute(0, 3, 1, 2)
    last = [x.contiguous(memory_format=torch.channels_last) for x in inputs[:2]]
    assert [cuda._dense(x)[1] for x in (*last, shifted)] == [1 if channels == 5 else 2] * 2 + [1]
    results = []
    for pair in (inputs[:2], last, (shifted.copy_(inputs[0]), last[1]), (inputs[0], last[1])):
        target, reference = (x.detach().requires_grad_() for x in pair)
        mask = inputs[2].clone().requires_grad_()
        volume, moved = (
            kernels.correlation(target, reference),
            kernels.local_transfer(target, reference, mask),
        )
        loss = volume.double().sin().sum() + moved.double().sin().sum()
        results.append([volume, moved, *torch.autograd.grad(loss, (target, reference, mask))])
    for others in results[1:]:
        for plain, other in zip(results[0], others, strict=True):
            assert torch.equal(plain, other)


@pytest.mark.parametrize("shape", [(1, 9, 9, 19, 4, 2), (1, 2, 7, 11, 6, 1)], ids=str)
def test_every_barrier_is_there(emulator, shape):
    """Threads in ascending and in descending order see the same shared memory, if nobody runs ahead."""
    *size, radius, dilation = shape
    results = []
    inputs = [draw(size), draw(size), draw((size[0], 2, *size[2:]))]
    for emulator.descending in (False, True):
        tensors = [x.clone().requires_grad_() for x in inputs]
        volume = kernels.correlation(*tensors[:2], radius, dilation)
        moved = kernels.local_transfer(*tensors, radius, dilation)
        results.append(
            [volume, moved, *torch.autograd.grad((volume.sin().sum() + moved.sin().sum()), tensors)]
        )
    for ascending, descending in zip(*results, strict=True):
        assert torch.equal(ascending, descending)


@pytest.mark.parametrize("size", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)], ids=str)
def test_nothing_to_do(emulator, size):
    target = torch.randn(size, requires_grad=True)
    mask = torch.rand(size[0], 2, *size[2:])
    assert kernels.correlation(target, target).shape == (size[0], 81, *size[2:])
    moved = kernels.local_transfer(target, target, mask)
    moved.sum().backward()
    assert moved.shape == mask.shape
    assert target.grad.shape == size
    assert emulator.launched == []


def test_no_masks(emulator):
    target = draw((1, 3, 4, 5)).requires_grad_()
    moved = kernels.local_transfer(target, target, torch.rand(1, 0, 4, 5))
    assert moved.shape == (1, 0, 4, 5)
    moved.sum().backward()
    assert torch.equal(target.grad, torch.zeros_like(target))


def test_tile_constants_agree():
    """What the host launches is what the source expects."""
    source = cuda.SOURCE.read_text()
    for name in ("PIXELS", "GROUPS", "ROWS", "WINDOW", "CORRELATED"):
        value = re.search(rf"constexpr int {name} = (\d+);", source)
        assert value is not None
        assert int(value[1]) == getattr(cuda, name)
    assert set(re.findall(r"^KERNEL (\w+)\(", source, re.MULTILINE)) == set(cuda.KERNELS)


COMPILED = [
    ("sm_75", torch.float16),
    ("sm_80", torch.bfloat16),
    ("sm_90", torch.float32),
    ("sm_100", torch.float16),
]
REST = [(a, t) for a in ("sm_75", "sm_80", "sm_90", "sm_100") for t in TYPES if (a, t) not in COMPILED]


@pytest.mark.parametrize(
    ("arch", "dtype"), [*COMPILED, *(pytest.param(*case, marks=pytest.mark.slow) for case in REST)], ids=str
)
def test_nvrtc_compiles(arch, dtype, capsys):
    """All kernels, with the registers and shared memory that each takes printed."""
    require_toolchain()
    for name in cuda.KERNELS:
        messages = io.StringIO()
        cubin = cuda.compile_cubin(arch, dtype, name, messages, verbose=True)
        assert cubin[:4] == b"\x7fELF"
        used = re.search(r"Used (\d+) registers.*?(\d+) bytes smem", messages.getvalue())
        assert used is not None, messages.getvalue()
        registers, shared = map(int, used.groups())
        spilled = re.search(r"(\d+) bytes spill stores", messages.getvalue())
        with capsys.disabled():
            print(f"\n{arch} {dtype} {name}: {registers} registers, {shared} bytes shared, "
                  f"{spilled[1] if spilled else 0} spilled", end="")  # fmt: skip
        # Three blocks of 5 warps on a multiprocessor, and shared memory that needs no opt-in.
        assert registers <= 136
        assert shared <= 48 * 1024


def require_toolchain():
    try:
        cuda.toolchain()
    except cuda.ToolchainMissing as missing:
        pytest.skip(str(missing))


def test_the_launching_thread_has_a_context(monkeypatch):
    """On a fresh thread, as autograd's may be, the device is made current before anything else is asked."""
    calls = []

    def device(index):
        return mock.Mock(set_current=lambda: calls.append((threading.get_ident(), "set_current", index)))

    core = mock.Mock(
        Device=device, launch=lambda *_: calls.append((threading.get_ident(), "launch", _[1].grid))
    )
    core.LaunchConfig = lambda grid, block: mock.Mock(grid=grid)

    def kernel(index, dtype, name):
        calls.append((threading.get_ident(), "kernel", index))

    monkeypatch.setattr(cuda, "toolchain", lambda: (core, "13.0", ""))
    monkeypatch.setattr(cuda, "kernel", kernel)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: mock.Mock(cuda_stream=7))
    arguments = ("correlation", torch.float32, torch.device("cuda", 3), 5, [ctypes.c_int(1)])
    for _ in range(2):
        thread = threading.Thread(target=cuda.launch_on_gpu, args=arguments)
        thread.start()
        thread.join()
    for first in (0, 3):
        steps = calls[first : first + 3]
        assert [step[1:] for step in steps] == [("set_current", 3), ("kernel", 3), ("launch", 5)]
        assert len({step[0] for step in steps} - {threading.get_ident()}) == 1
    assert len(calls) == 6


def test_nvrtc_names_the_fault(monkeypatch, tmp_path):
    require_toolchain()
    broken = tmp_path / "correlation.cu"
    broken.write_text(cuda.SOURCE.read_text().replace("__syncthreads();", "__syncthreads(oops);"))
    monkeypatch.setattr(cuda, "SOURCE", broken)
    with pytest.raises(RuntimeError, match=r"(?s)cannot compile correlation for sm_90.*oops"):
        cuda.compile_cubin("sm_90", torch.float32, "correlation")
    with pytest.raises(RuntimeError, match="sm_1"):
        cuda.compile_cubin("sm_1", torch.float32, "correlation")


def test_compiled_once(monkeypatch, tmp_path):
    """The second process finds the first one's file; another source, type or architecture is another file."""
    require_toolchain()
    compiled = []
    monkeypatch.setenv("IVOS_KERNEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cuda, "compile_cubin", lambda *key: compiled.append(key) or repr(key).encode())
    first = cuda.cached_cubin("sm_90", torch.float32, "correlation")
    assert cuda.cached_cubin("sm_90", torch.float32, "correlation") == first
    assert len(compiled) == 1
    cuda.cached_cubin("sm_80", torch.float32, "correlation")
    cuda.cached_cubin("sm_90", torch.float16, "correlation")
    cuda.cached_cubin("sm_90", torch.float32, "local_transfer")
    changed = tmp_path / "correlation.cu"
    changed.write_text(cuda.SOURCE.read_text() + "\n")
    monkeypatch.setattr(cuda, "SOURCE", changed)
    cuda.cached_cubin("sm_90", torch.float32, "correlation")
    assert len(compiled) == 5
    assert len(list((tmp_path / "cache").iterdir())) == 5


def test_cache_that_cannot_be_written(monkeypatch, tmp_path):
    require_toolchain()
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("IVOS_KERNEL_CACHE", str(blocked / "cache"))
    monkeypatch.setattr(cuda, "compile_cubin", lambda *key: b"code")
    assert cuda.cached_cubin("sm_90", torch.float32, "correlation") == b"code"


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("IVOS_KERNEL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cuda.cache_folder() == tmp_path / "ivos" / "kernels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cuda.cache_folder() == Path.home() / ".cache" / "ivos" / "kernels"
