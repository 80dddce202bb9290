"""Event-driven products by Triton: against the dense product, on a GPU or in Triton's interpreter, and compiled for a
GPU that need not be there.

As in ``tests/units/test_lif_triton.py``, one test runs this file anew with the interpreter on.
"""

import inspect
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.nn.functional import linear

from neuropil.connect.kernels import event_product_gpu
from neuropil.connect.kernels.event_product import event_linear
from neuropil.connect.kernels.event_product_gpu import event_linear_on_gpu, pays_on_gpu

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
RUNS = find_spec("triton") is not None and (INTERPRETED or torch.cuda.is_available())
runs = pytest.mark.skipif(not RUNS, reason="needs Triton and a GPU, or Triton's interpreter")
installed = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available() or INTERPRETED, reason="needs a GPU")
compiling = pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def draw(*shape, share=1.0, dtype=torch.float64, seed=0):
    """Numbers of which a share is not zero, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (numbers * (torch.rand(shape, generator=generator) < share)).to(DEVICE, dtype)


def results(product, x, weight, bias, incoming):
    given = [None if part is None else part.detach().requires_grad_() for part in (x, weight, bias)]
    y = product(*given)
    y.backward(incoming)
    return [y.detach(), *(part.grad for part in given if part is not None)]


@runs
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("shape", [(5, 7, 9), (2, 20, 3), (1, 1, 1), (3, 4, 19), (0, 4, 3)], ids=str)
def test_equals_the_dense_product(shape, share, dtype, monkeypatch):
    from neuropil.connect.kernels import events_triton

    monkeypatch.setattr(events_triton, "_LISTED", 16)  # less than a row, in some of the shapes
    monkeypatch.setattr(events_triton, "_WIDTH", 16)
    r, n, o = shape
    x, weight, incoming = (
        draw(r, n, share=share, dtype=dtype),
        draw(o, n, dtype=dtype, seed=1),
        draw(r, o, dtype=dtype, seed=2),
    )
    for bias in (draw(o, dtype=dtype, seed=3), None):
        found = [results(product, x, weight, bias, incoming) for product in (event_linear_on_gpu, linear)]
        for ours, theirs in zip(*found, strict=True):
            scale = max(1.0, float(theirs.abs().max())) if theirs.numel() else 1.0
            torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE[dtype] * scale)


@runs
def test_input_of_any_strides_and_dimensions():
    weight, bias = draw(5, 12, seed=1), draw(5, seed=2)
    for x in (draw(12, 6, share=0.3).t(), draw(6, 24, share=0.3)[:, ::2], draw(2, 3, 12, share=0.3), draw(12)):
        torch.testing.assert_close(
            event_linear_on_gpu(x, weight, bias), linear(x, weight, bias), rtol=1e-10, atol=1e-10
        )


@runs
def test_gradients():
    given = (
        draw(3, 6, share=0.5).requires_grad_(),
        draw(4, 6, seed=1).requires_grad_(),
        draw(4, seed=2).requires_grad_(),
    )
    assert torch.autograd.gradcheck(event_linear_on_gpu, given, fast_mode=True)


@runs
@pytest.mark.parametrize("wanted", range(3))
def test_only_the_gradients_that_are_wanted(wanted):
    given = [draw(3, 6, share=0.5), draw(4, 6, seed=1), draw(4, seed=2)]
    given[wanted].requires_grad_()
    expected = torch.autograd.grad(linear(*given).square().sum(), given[wanted])
    torch.testing.assert_close(torch.autograd.grad(event_linear_on_gpu(*given).square().sum(), given[wanted]), expected)


@runs
def test_the_same_every_time():
    given = (
        draw(9, 50, share=0.3, dtype=torch.float32),
        draw(7, 50, dtype=torch.float32),
        None,
        draw(9, 7, dtype=torch.float32),
    )
    for ours, again in zip(results(event_linear_on_gpu, *given), results(event_linear_on_gpu, *given), strict=True):
        assert torch.equal(ours, again)


@on_gpu
@installed
def test_where_it_pays(monkeypatch):
    monkeypatch.setattr(event_product_gpu, "_LEAST_WORK", 1000)
    silent, active = draw(50, 20, share=0.02, dtype=torch.float32), draw(50, 20, share=0.2, dtype=torch.float32)
    weight = draw(30, 20, dtype=torch.float32, seed=1)
    assert pays_on_gpu(silent, weight)
    assert not pays_on_gpu(active, weight)
    assert not pays_on_gpu(silent[:1], weight)
    assert not pays_on_gpu(silent.double(), weight.double())
    with torch.autocast("cuda", torch.bfloat16):
        assert not pays_on_gpu(silent, weight)
    assert type(event_linear(silent, weight.requires_grad_()).grad_fn.next_functions[0][0]).__name__.startswith(
        "_EventLinear"
    )


# without a GPU


def test_not_on_a_cpu():
    assert not pays_on_gpu(torch.zeros(4096, 4096), torch.zeros(4096, 4096))


@installed
@pytest.mark.skipif(INTERPRETED, reason="does not nest")
def test_in_the_interpreter():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "needs Triton" not in done.stdout  # nothing was left out


@installed
@compiling
@pytest.mark.parametrize("dtype", ["fp32", "fp64"])
def test_compiles_for_a_gpu(dtype, monkeypatch, tmp_path):
    from neuropil.connect.kernels import events_triton

    pytest.importorskip("triton", minversion="3.3", reason="says otherwise what is constant")
    if not find_spec("triton.backends.nvidia"):
        pytest.skip("Triton is installed without its compiler for CUDA")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    compiler = pytest.importorskip("triton.compiler")
    target = pytest.importorskip("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    for kernel, constants in ((events_triton.find, {"listed": 1024}), (events_triton.multiply, {"width": 1024})):
        pointers = {"x": f"*{dtype}", "matrix": f"*{dtype}", "out": f"*{dtype}", "columns": "*i32", "counts": "*i32"}
        signature = {name: "constexpr" if name in constants else pointers.get(name, "i32")
                     for name in inspect.signature(kernel.fn).parameters}  # fmt: skip
        assembly = compiler.compile(compiler.ASTSource(kernel, signature, constants), target=target).asm
        assert assembly["cubin"]
        assert "atom" not in assembly["ptx"]  # which would add up in any order
