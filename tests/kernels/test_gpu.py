"""Tests of the CUDA kernels on a GPU, which need torch, cuda-core and pytest alone."""

import logging
import threading

import pytest
import torch
from torch.library import opcheck

from ivos import kernels
from ivos.kernels import cpu, cuda, naive, ops

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TYPES = [torch.float32, torch.float16, torch.bfloat16]
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 1e-2}
SHAPES = [
    (1, 3, 5, 7, 4, 2),
    (2, 9, 9, 19, 4, 2),
    (3, 17, 61, 87, 4, 2),
    (1, 5, 6, 37, 1, 1),
    (1, 2, 23, 41, 6, 1),
    (1, 4, 3, 9, 2, 5),
    (2, 1, 1, 1, 3, 3),
    (1, 256, 128, 216, 4, 2),
]


def draw(shape, dtype=torch.float32, scale=1.0):
    """Random numbers that `dtype` holds exactly, from a seed of their own in every run."""
    generator = torch.Generator("cuda")
    generator.seed()
    return (scale * torch.randn(shape, generator=generator, device="cuda")).to(dtype)


def exact(*tensors):
    return [x.detach().double().requires_grad_() for x in tensors]


def assert_close(actual, expected, dtype):
    error = (actual.double() - expected).abs() / expected.abs().clamp(min=1)
    assert error.max() <= TOLERANCE[dtype], f"largest error {error.max():.3g}"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_correlation(shape, dtype):
    *size, radius, dilation = shape
    target, other = (draw(size, dtype).requires_grad_() for _ in range(2))
    volume = kernels.correlation(target, other, radius, dilation, implementation="cuda")
    inputs = exact(target, other)
    expected = cpu.correlation(*(x.detach() for x in inputs), radius, dilation)
    assert volume.dtype == dtype
    assert_close(volume, expected, dtype)
    grad = draw(volume.shape, dtype)
    grads = torch.autograd.grad(volume, (target, other), grad)
    wide = kernels.correlation(*inputs, radius, dilation)
    for x, y in zip(grads, torch.autograd.grad(wide, inputs, grad.double()), strict=True):
        assert_close(x, y, dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_local_transfer(shape, dtype):
    *size, radius, dilation = shape
    target, other = (draw(size, dtype, 1.5 * size[1] ** 0.25).requires_grad_() for _ in range(2))
    mask = draw((size[0], 2, *size[2:]), dtype).requires_grad_()
    moved = kernels.local_transfer(target, other, mask, radius, dilation, implementation="cuda")
    inputs = exact(target, other, mask)
    expected = kernels.local_transfer(*inputs, radius, dilation)
    assert moved.dtype == dtype
    assert_close(moved, expected, dtype)
    grad = draw(moved.shape, dtype)
    grads = torch.autograd.grad(moved, (target, other, mask), grad)
    for x, y in zip(grads, torch.autograd.grad(expected, inputs, grad.double()), strict=True):
        assert_close(x, y, dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_small_shapes_against_the_plain_reference(dtype):
    target, other, mask = draw((2, 5, 9, 12), dtype), draw((2, 5, 9, 12), dtype), draw((2, 3, 9, 12), dtype)
    wide = exact(target, other, mask)
    for normalize in ("displacements", "rows"):
        moved = kernels.local_transfer(target, other, mask, normalize=normalize, implementation="cuda")
        assert_close(moved, naive.local_transfer(*wide, normalize=normalize), dtype)


def test_layouts():
    base = draw((2, 12, 33, 46))
    strided = base[..., ::2], base[..., 1::2]
    plain = kernels.correlation(*(x.contiguous() for x in strided))
    last = [x.contiguous(memory_format=torch.channels_last) for x in strided]
    for pair in (strided, last, (last[0], strided[1])):
        assert torch.equal(kernels.correlation(*pair), plain)


def test_chosen_and_said(caplog):
    ops.say.cache_clear()
    with caplog.at_level(logging.INFO, logger="ivos.kernels"):
        kernels.correlation(draw((1, 2, 4, 5)), draw((1, 2, 4, 5)))
        kernels.correlation(draw((1, 2, 4, 5)), draw((1, 2, 4, 5)))
    assert [r.getMessage() for r in caplog.records] == ["Correlation on cuda:0 in float32: the CUDA kernels"]


def test_first_on_a_fresh_thread():
    """The op is the first thing that autograd's thread does: no context has been made on it."""
    target, other = draw((1, 8, 30, 40)).requires_grad_(), draw((1, 8, 30, 40))
    results = []

    def backward():
        with torch.autograd.set_multithreading_enabled(True):
            volume = kernels.correlation(target, other)
            results.append(torch.autograd.grad(volume, target, torch.ones_like(volume))[0])

    thread = threading.Thread(target=backward)
    thread.start()
    thread.join()
    backward()
    assert torch.equal(*results)


def test_results_repeat():
    target, other, mask = (draw((2, 16, 61, 87)).requires_grad_() for _ in range(3))
    runs = []
    for _ in range(3):
        out = kernels.local_transfer(target, other, mask[:, :2])
        volume = kernels.correlation(target, other)
        loss = out.square().sum() + volume.square().sum()
        runs.append([out, volume, *torch.autograd.grad(loss, (target, other, mask))])
    for run in runs[1:]:
        assert all(torch.equal(first, second) for first, second in zip(runs[0], run, strict=True))


def test_more_than_2_31_elements():
    """The last image of a batch of 2.2e9 elements, forward and backward, is what it is alone."""
    free, _ = torch.cuda.mem_get_info()
    if free < 24 * 2**30:
        pytest.skip("needs 24 GiB of free GPU memory")
    batch, size = 80, (256, 336, 320)
    target = torch.zeros((batch, *size), dtype=torch.float16, device="cuda")
    other = torch.zeros_like(target)
    target[-1], other[-1] = draw(size, torch.float16), draw(size, torch.float16)
    assert target.numel() > 2**31
    last = [x[-1:].clone().requires_grad_() for x in (target, other)]
    alone = kernels.correlation(*last, 1, 1)
    volume = kernels.correlation(target, other, 1, 1)
    assert torch.equal(volume[-1:], alone)
    gradient = cuda.correlation_gradient(volume, other, False, 1, 1)
    assert torch.equal(gradient[-1:], torch.autograd.grad(alone, last[0], alone.detach())[0])


@pytest.mark.parametrize("size", [(0, 3, 4, 5), (2, 3, 0, 5)], ids=str)
def test_empty(size):
    target = torch.randn(size, device="cuda", requires_grad=True)
    mask = torch.rand(size[0], 2, *size[2:], device="cuda")
    kernels.local_transfer(target, target, mask).sum().backward()
    assert kernels.correlation(target, target).shape == (size[0], 81, *size[2:])
    assert target.grad.shape == size


def test_on_the_current_stream():
    """Work queued on a side stream before the op is seen by it, with no synchronisation in between."""
    target, other = draw((1, 64, 128, 216)), draw((1, 64, 128, 216))
    expected = kernels.correlation(target * 2, other)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        doubled = target * 2
        volume = kernels.correlation(doubled, other)
    assert not stream.query()
    stream.synchronize()
    assert torch.equal(volume, expected)


def test_on_another_device():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    target, other = draw((1, 8, 30, 40)), draw((1, 8, 30, 40))
    expected = kernels.correlation(target, other)
    assert torch.equal(kernels.correlation(target.to("cuda:1"), other.to("cuda:1")).to("cuda:0"), expected)
    assert torch.cuda.current_device() == 0


def test_cuda_graph():
    tensors = [draw((1, 16, 61, 87)).requires_grad_() for _ in range(2)]
    mask = draw((1, 2, 61, 87)).requires_grad_()

    def step():
        moved = kernels.local_transfer(*tensors, mask)
        volume = kernels.correlation(*tensors)
        loss = moved.square().sum() + volume.square().sum()
        return [moved, *torch.autograd.grad(loss, (*tensors, mask))]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for tensor in (*tensors, mask):
            tensor.copy_(draw(tensor.shape))
    graph.replay()
    for replayed, eager in zip(captured, step(), strict=True):
        torch.testing.assert_close(replayed, eager)


def test_opcheck():
    target, other, mask = (draw((2, 3, 5, 7)).requires_grad_() for _ in range(3))
    opcheck(ops.correlation, (target, other, 2, 2, "cuda"))
    opcheck(ops.local_transfer, (target, other, mask, 2, 2, "cuda"))


@pytest.mark.slow
def test_compile():
    def run(target, other, mask):
        target = target.sin()
        return kernels.local_transfer(target, other, mask) + kernels.correlation(target, other).sum(
            1, keepdim=True
        )

    args = draw((1, 8, 30, 40)), draw((1, 8, 30, 40)), draw((1, 2, 30, 40))
    compiled = torch.compile(run, fullgraph=True, mode="reduce-overhead")
    for _ in range(3):
        torch.testing.assert_close(compiled(*args), run(*args))


def test_autocast():
    target, other, mask = (draw((1, 8, 30, 40)).requires_grad_() for _ in range(3))
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cuda", dtype):
            moved = kernels.local_transfer(target, other.to(dtype), mask)
        assert moved.dtype == dtype
        assert torch.equal(moved, kernels.local_transfer(*(x.to(dtype) for x in (target, other, mask))))
    moved.float().sum().backward()
    assert target.grad.dtype == torch.float32


def extra_memory(run):
    """Bytes at the peak of `run`, beyond what was there before and what it returns."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before - result.nbytes


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_memory_of_the_local_transfer(dtype):
    """At most 5 % of the extra memory of the PyTorch path."""
    target, other, mask = (draw((1, c, 128, 216), dtype) for c in (256, 256, 1))
    used = {}
    for name in ("cuda", "torch"):
        run = lambda name=name: kernels.local_transfer(target, other, mask, implementation=name)  # noqa: E731
        run()
        used[name] = extra_memory(run)
    assert used["cuda"] <= 0.05 * used["torch"], used


def test_other_device_is_bad_input():
    target, other = draw((1, 2, 4, 5)), torch.zeros(1, 2, 4, 5)
    with pytest.raises(ValueError, match=r"^reference: is on cpu, but target is on cuda:0"):
        kernels.correlation(target, other)


def test_failed_launch_raises(monkeypatch):
    """More threads than a block may have: the driver's own message, and the device goes on working."""
    monkeypatch.setattr(cuda, "THREADS", 4096)
    target, other = draw((1, 2, 4, 5)), draw((1, 2, 4, 5))
    with pytest.raises(RuntimeError, match=r"kernel correlation .*failed on cuda:0: .*INVALID_VALUE"):
        kernels.correlation(target, other)
    monkeypatch.undo()
    assert kernels.correlation(target, other).isfinite().all()


def test_kept_on_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("IVOS_KERNEL_CACHE", str(tmp_path))
    cuda.kernel.cache_clear()
    kernels.correlation(draw((1, 2, 4, 5)), draw((1, 2, 4, 5)))
    (kept,) = tmp_path.iterdir()
    monkeypatch.setattr(cuda, "compile_cubin", lambda *_: pytest.fail("compiled again"))
    cuda.kernel.cache_clear()
    kernels.correlation(draw((1, 2, 4, 5)), draw((1, 2, 4, 5)))
    assert kept.read_bytes()[:4] == b"\x7fELF"
