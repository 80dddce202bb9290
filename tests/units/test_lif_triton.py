"""The Triton kernels of leaky integrate-and-fire neurons: against the other kernels, on a GPU or in Triton's
interpreter, and compiled for a GPU that need not be there.

``TRITON_INTERPRET=1`` makes Triton run kernels on a CPU, in a whole process or not at all. So, where Triton is
installed, one test runs this file anew with the interpreter on.
"""

import copy
import inspect
import itertools
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from neuropil.units import IF, LIF, ATan, Boxcar, FastSigmoid, Sigmoid, Triangle
from neuropil.units import unit as units
from neuropil.units.scans.lif import Dynamics, scan

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
RUNS = find_spec("triton") is not None and (INTERPRETED or torch.cuda.is_available())
runs = pytest.mark.skipif(not RUNS, reason="needs Triton and a GPU, or Triton's interpreter")
installed = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available() or INTERPRETED, reason="needs a GPU")
compiling = pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")

RESETS = ["none", "subtract", "zero"]
DYNAMICS = list(itertools.product(RESETS, [True, False], [True, False]))  # reset, delayed, detached
SURROGATES = [ATan(), FastSigmoid(slope=2.0), Sigmoid(slope=4.0), Triangle(width=1.5), Boxcar(width=1.0)]
# a block holds 128 neurons: a single one, less than a block, more, and just one; and none
SHAPES = [(1, 1, 1), (1, 3, 5), (5, 3, 50), (2, 4, 32), (3, 0, 4), (3, 4, 0)]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def draw(shape, dtype, seed):
    """Numbers around half a threshold, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=dtype) * 0.8 + 0.5).to(DEVICE)


def neurons(n, dtype, **options):
    """Neurons each of which has numbers of its own, and learns them."""
    numbers = torch.rand(2, n, generator=torch.Generator().manual_seed(9), dtype=dtype)
    return LIF(numbers[0], numbers[1] + 0.5, learn=("decay", "threshold"), **options).to(DEVICE)


def results(unit, kernel, current, start, of_spikes, of_end):
    """Spikes, end and all gradients, by one kernel."""
    unit = copy.deepcopy(unit)
    unit.kernel = kernel
    given, start = current.clone().requires_grad_(), start.clone().requires_grad_()
    spikes, end = unit(given.expand(len(of_spikes), -1, -1) if len(given) == 1 else given, (start,))
    loss = (spikes * of_spikes).sum() + (end.potential * of_end).sum()
    loss.backward()
    gradients = {"current": given.grad, "start": start.grad}
    gradients |= {name: parameter.grad for name, parameter in unit.named_parameters()}
    return spikes.detach(), end.potential.detach(), gradients


def assert_same(unit, shape, dtype, *, constant=False):
    """Raise unless Triton's results are those of the loop over steps, and on a CPU those of Numba."""
    t, b, n = shape
    current = draw((1 if constant else t, b, n), dtype, 0)
    given = current, draw((b, n), dtype, 1), draw(shape, dtype, 2), draw((b, n), dtype, 3)
    spikes, end, gradients = results(unit, "triton", *given)
    for kernel in ("torch", "numba") if INTERPRETED else ("torch",):
        other_spikes, other_end, others = results(unit, kernel, *given)
        assert torch.equal(spikes, other_spikes)
        close(end, other_end, "potential")
        for name, gradient in gradients.items():
            close(gradient, others[name], f"gradient of {name}, {kernel}")
    return spikes


def close(found, expected, what):
    assert found.dtype == expected.dtype
    assert found.device == expected.device
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    tolerance = TOLERANCE[expected.dtype] * scale
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance, msg=lambda text: f"{what}: {text}")


@runs
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("reset", "delayed", "detached"), DYNAMICS)
def test_equals_the_loop_over_steps(reset, delayed, detached, dtype):
    for number, surrogate in enumerate(SURROGATES):
        unit = neurons(40, dtype, reset=reset, reset_delay=delayed, detach_reset=detached, surrogate=surrogate)
        spikes = assert_same(unit, (5, 3, 40), dtype, constant=number == 1)
        assert 0.1 < float(spikes.mean()) < 0.9


@runs
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_size(shape, dtype):
    for delayed, constant in itertools.product((True, False), (True, False)):
        unit = neurons(shape[-1], dtype, reset_delay=delayed, detach_reset=False)
        assert_same(unit, shape, dtype, constant=constant)


@runs
def test_one_number_for_all():
    unit = LIF(0.7, 0.8, learn=("decay", "threshold"), surrogate=Sigmoid()).to(DEVICE)
    assert_same(unit, (4, 3, 50), torch.float32)
    assert_same(IF(0.8, learn=("threshold",)).to(DEVICE), (4, 3, 50), torch.float32)


@runs
@pytest.mark.parametrize("learn", [(), ("decay",), ("threshold",)], ids=str)
@pytest.mark.parametrize("used", ["spikes", "end"])
def test_what_needs_no_gradient_gets_none(learn, used):
    found = {}
    for kernel in ("triton", "torch"):
        unit = LIF(0.7, 0.8, learn=learn, kernel=kernel).to(DEVICE)
        current = draw((4, 3, 50), torch.float32, 0).requires_grad_()
        spikes, end = unit(current)
        (spikes if used == "spikes" else end.potential).square().sum().backward()
        found[kernel] = [current.grad, *(parameter.grad for parameter in unit.parameters())]
    assert len(found["triton"]) == 1 + len(learn)
    for ours, theirs in zip(*found.values(), strict=True):
        close(ours, torch.zeros_like(ours) if theirs is None else theirs, used)  # unused: none, or one of 0


@runs
def test_a_current_that_is_not_contiguous():
    unit = neurons(50, torch.float64)
    across = draw((3, 6, 50), torch.float64, 0).transpose(0, 1)
    of_spikes, rest = draw((6, 3, 50), torch.float64, 1), torch.zeros(3, 50, dtype=torch.float64, device=DEVICE)
    ours, theirs = (results(unit, kernel, across, rest, of_spikes, rest) for kernel in ("triton", "torch"))
    assert torch.equal(ours[0], theirs[0])
    close(ours[2]["current"], theirs[2]["current"], "current")


@runs
def test_pieces_equal_the_whole():
    unit = LIF(0.9, kernel="triton").to(DEVICE)
    current = draw((7, 3, 50), torch.float32, 0)
    spikes, end = unit(current)
    first, state = unit(current[:3])
    second, state = unit(current[3:], state)
    assert torch.equal(torch.cat([first, second]), spikes)
    assert torch.equal(state.potential, end.potential)


@runs
@pytest.mark.parametrize("delayed", [True, False])
@pytest.mark.parametrize("reset", RESETS)
def test_without_gradients(reset, delayed):
    unit = neurons(50, torch.float32, reset=reset, reset_delay=delayed)
    unit.kernel = "triton"
    current = draw((7, 3, 50), torch.float32, 0)
    spikes, end = unit(current)
    with torch.no_grad():
        found, state = unit(current)
    assert torch.equal(found, spikes)
    assert torch.equal(state.potential, end.potential)


@runs
def test_the_same_gradients_every_time():
    unit = neurons(50, torch.float32, detach_reset=False)
    given = [
        draw(shape, torch.float32, seed) for seed, shape in enumerate([(9, 64, 50), (64, 50), (9, 64, 50), (64, 50)])
    ]
    (_, _, once), (_, _, again) = (results(unit, "triton", *given) for _ in range(2))
    for name, gradient in once.items():
        assert torch.equal(gradient, again[name])


@runs
def test_triton_is_what_runs(monkeypatch):
    from neuropil.units.scans import lif_triton

    called = []
    for name in ("run_forward", "run_backward"):
        original = getattr(lif_triton, name)
        monkeypatch.setattr(lif_triton, name, lambda *given, f=original, n=name: (called.append(n), f(*given))[1])
    unit = LIF(kernel="triton" if INTERPRETED else "auto")
    current = draw((4, 3, 50), torch.float32, 0).requires_grad_()
    unit.to(DEVICE)(current)[0].sum().backward()
    assert called == ["run_forward", "run_backward"]


# which kernel runs where


@pytest.mark.skipif(INTERPRETED, reason="the interpreter runs on a CPU")
def test_not_on_a_cpu():
    with pytest.raises(ValueError, match="^LIF: kernel 'triton' cannot compute torch.float32 on cpu; try 'auto'$"):
        LIF(kernel="triton")(torch.zeros(2, 1, 3))


def test_what_compiles_loops():
    assert {"cpu": "numba"} | ({"cuda": "triton"} if find_spec("triton") else {}) == units._COMPILERS


def test_auto_is_numba_on_a_cpu():
    assert LIF().chosen_kernel(torch.zeros(1, 1, 1)) == "numba"


@on_gpu
@pytest.mark.parametrize("kind", [LIF, IF])
def test_auto_on_a_gpu(kind):
    current = torch.zeros(1, 1, 1, device="cuda")
    assert kind().chosen_kernel(current) == ("torch" if find_spec("triton") is None else "triton")
    assert kind().chosen_kernel(current.half()) == "torch"
    assert kind(kernel="torch").chosen_kernel(current) == "torch"
    with pytest.raises(ValueError, match="^LIF: kernel 'numba' cannot compute torch.float32 on cuda; try 'auto'$"):
        LIF(kernel="numba")(current)


@on_gpu
@installed
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_on_a_gpu_that_is_not_the_current_one():
    unit, current = LIF(0.7).to("cuda:1"), draw((4, 3, 50), torch.float32, 0).to("cuda:1").requires_grad_()
    spikes, _ = unit(current)
    spikes.sum().backward()
    assert spikes.device == current.grad.device == torch.device("cuda:1")
    assert torch.equal(spikes.cpu(), LIF(0.7)(current.detach().cpu())[0])


# without a GPU


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


class Catch:
    """Takes the place of a kernel, and keeps what it is launched with."""

    def __getitem__(self, grid):
        def launch(*given, **options):
            self.given, self.options = given, options

        return launch


def compile_for_gpu(kernel, catch):
    """Compile a kernel for what it was launched with, and return its assembly."""
    compiler = pytest.importorskip("triton.compiler")
    target = pytest.importorskip("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    names = list(inspect.signature(kernel.fn).parameters)
    given = dict(zip(names, catch.given, strict=False)) | catch.options
    signature, constants = {}, {}
    for name in names:
        value = given.pop(name)
        if isinstance(value, torch.Tensor):
            signature[name] = {torch.float32: "*fp32", torch.float64: "*fp64"}[value.dtype]
        elif value is None or name in catch.options:
            signature[name], constants[name] = "constexpr", value
        else:
            signature[name] = "i64" if value.bit_length() > 31 else "i32"
    source = compiler.ASTSource(kernel, signature, constants)
    return compiler.compile(source, target=target, options=given).asm


@installed
@compiling
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("reset", RESETS)
def test_compiles_for_a_gpu(reset, dtype, monkeypatch, tmp_path):
    from neuropil.units.scans import lif_triton

    pytest.importorskip("triton", minversion="3.3", reason="says otherwise what is constant")
    if not find_spec("triton.backends.nvidia"):
        pytest.skip("Triton is installed without its compiler for CUDA")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernels = lif_triton.forward, lif_triton.backward
    catches = Catch(), Catch()
    monkeypatch.setattr(lif_triton, "forward", catches[0])
    monkeypatch.setattr(lif_triton, "backward", catches[1])
    start, numbers = torch.zeros(3, 50, dtype=dtype), torch.ones(50, dtype=dtype)
    for number, (delayed, detached) in enumerate(itertools.product((True, False), (True, False))):
        dynamics = Dynamics(reset, delayed, detached, SURROGATES[(number + RESETS.index(reset)) % len(SURROGATES)])
        current = torch.zeros(4 if detached else 1, 3, 50, dtype=dtype, requires_grad=True)
        threshold = numbers.clone().requires_grad_(delayed)
        spikes, _ = scan(current.expand(4, -1, -1), start, numbers, threshold, dynamics, kernel="triton")
        spikes.sum().backward()
        assert [catch.options["constant"] for catch in catches] == [not detached, not detached]
        forward, backward = (compile_for_gpu(*pair) for pair in zip(kernels, catches, strict=True))
        assert "fma" not in forward["ptx"]  # which would round otherwise than the equation
        assert forward["cubin"]
        assert backward["cubin"]
    with torch.no_grad():
        scan(current.expand(4, -1, -1), start, numbers, numbers, dynamics, kernel="triton")
    assert not catches[0].options["keeps"]
    assert "fma" not in compile_for_gpu(kernels[0], catches[0])["ptx"]
