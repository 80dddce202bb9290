"""Gathered products by Triton: against the masked product, on a GPU or in Triton's interpreter, and compiled for a GPU
that need not be there.

As in ``tests/units/test_lif_triton.py``, one test runs this file anew with the interpreter on.
"""

import copy
import inspect
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from neuropil.connect import Ensembles, SparseLinear, Wiring
from neuropil.connect.kernels.gathering import Gathering, gathering_on

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
RUNS = find_spec("triton") is not None and (INTERPRETED or torch.cuda.is_available())
runs = pytest.mark.skipif(not RUNS, reason="needs Triton and a GPU, or Triton's interpreter")
installed = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available() or INTERPRETED, reason="needs a GPU")
compiling = pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
BLOCKS = [("group", 1), ("group", "group"), (1, "group"), (4, 2)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, dtype=torch.float64, seed=0):
    """Numbers that are the same on every device."""
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64).to(DEVICE, dtype)


def layers(wiring, *, bias=True, dtype=torch.float64, silent=False):
    """A layer of blocks, and the same one masked."""
    ours = SparseLinear(wiring, bias=bias, kernel="blocks", generator=generator(), dtype=dtype)
    if silent:
        ours.set_silent(torch.rand(wiring.n_blocks, generator=generator()) < 0.5)
    masked = SparseLinear(wiring, bias=bias, kernel="masked", dtype=dtype)
    masked.load_state_dict(ours.state_dict())
    ours, masked = ours.to(DEVICE), masked.to(DEVICE)
    assert ours._gathering is not None
    return ours, masked


def results(layer, x, incoming, *, narrow=False):
    """Output and all gradients."""
    layer.zero_grad()
    given = x.detach().requires_grad_()
    with torch.autocast(DEVICE, torch.bfloat16, enabled=narrow):
        y = layer(given)
    y.backward(incoming.to(y.dtype))
    return y.detach(), given.grad, *(parameter.grad for parameter in layer.parameters())


def assert_same(found, expected, tolerance):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        scale = max(1.0, float(theirs.detach().abs().max())) if theirs.numel() else 1.0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * scale)


def assert_agrees(wiring, *, batch=5, dtype=torch.float64, x=None, **options):
    ours, masked = layers(wiring, dtype=dtype, **options)
    x = draw(batch, wiring.in_features, dtype=dtype) if x is None else x
    incoming = draw(len(x), wiring.out_features, dtype=dtype, seed=1)
    assert_same(results(ours, x, incoming), results(masked, x, incoming), TOLERANCE[dtype])
    return ours


@runs
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("grouping", ["index", "random"])
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_equals_the_masked_product(block, grouping, dtype):
    for n, p_inter in enumerate((0.0, 0.15)):
        pattern = Ensembles(n_groups=4, p_inter=p_inter, block=block, grouping=grouping, uneven=True)
        wiring = pattern.wire(32, 21, generator=generator())
        assert_agrees(wiring, dtype=dtype, bias=n != 1, silent=n == 1)


@runs
@pytest.mark.parametrize("batch", [0, 1, 19])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("p_inter", [0.0, 0.15])
def test_more_than_a_tile_and_less(p_inter, bias, batch):
    wiring = Ensembles(n_groups=2, p_inter=p_inter, block=("group", 1)).wire(608, 520, generator=generator())
    layer = assert_agrees(wiring, batch=batch, bias=bias, dtype=torch.float32)
    assert (layer._gathering.sources is None) == (p_inter == 0.0)
    assert_agrees(Wiring(1, 1, [0], [0], block=(2, 2)), batch=batch, bias=bias)


@runs
def test_rows_of_blocks_with_few_and_many_sources():
    """One row of blocks reads everybody, one nobody: rows are multiplied one by one."""
    rows, columns = [0] * 40 + [1, 3], [*range(40), 7, 9]
    wiring = Wiring(40, 20, rows, columns, block=(5, 1))
    assert assert_agrees(wiring)._gathering.width == 0
    assert assert_agrees(wiring, bias=False)._gathering.width == 0


@runs
def test_input_of_any_strides():
    wiring = Ensembles(n_groups=4, block=("group", 1)).wire(32, 16, generator=generator())
    for x in (draw(32, 6).t(), draw(6, 64)[:, ::2], draw(6, 50)[:, 5:37], draw(1, 32).expand(6, 32)):
        assert_agrees(wiring, x=x)
        assert_agrees(Ensembles(n_groups=4, p_inter=0.0, block=("group", 1)).wire(32, 16), x=x)
    ours, masked = layers(wiring)
    for layer in (ours, masked):
        layer(draw(2, 3, 32)).sum().backward()  # a gradient that is one number everywhere
    assert_same([ours.weight.grad, ours.bias.grad], [masked.weight.grad, masked.bias.grad], 1e-10)


@runs
@pytest.mark.parametrize("p_inter", [0.0, 0.3])
@pytest.mark.parametrize("parameters", [torch.float32, torch.bfloat16], ids=str)
def test_bfloat16(parameters, p_inter):
    """Within rounding: factors, and sums that a row of blocks passes back, have 8 bits."""
    wiring = Ensembles(n_groups=4, p_inter=p_inter, block=("group", 1), grouping="random").wire(64, 32)
    ours, _ = layers(wiring, dtype=parameters)
    exact = copy.deepcopy(ours).double()
    x, incoming = draw(9, 64, dtype=parameters), draw(9, 32, dtype=parameters, seed=1)
    found = results(ours, x, incoming, narrow=parameters == torch.float32)
    assert [part.dtype for part in found] == [torch.bfloat16] + [parameters] * 3
    expected = results(exact, x.double(), incoming.double())
    for part, other in zip(found, expected, strict=True):
        torch.testing.assert_close(part.double(), other, rtol=0, atol=2**-6 * float(other.abs().max()))


@runs
@pytest.mark.parametrize("wanted", ["x", "weight", "bias"])
@pytest.mark.parametrize("p_inter", [0.0, 0.3])
def test_only_the_gradients_that_are_wanted(p_inter, wanted):
    ours, masked = layers(
        Ensembles(n_groups=4, p_inter=p_inter, block=("group", 1)).wire(32, 16, generator=generator())
    )
    found = []
    for layer in (ours, masked):
        x = draw(3, 32).requires_grad_(wanted == "x")
        for name, parameter in layer.named_parameters():
            parameter.requires_grad_(name == wanted)
        layer(x).square().sum().backward()
        parts = {"x": x, **dict(layer.named_parameters())}
        assert [name for name, part in parts.items() if part.grad is not None] == [wanted]
        found.append(parts[wanted].grad)
    assert_same(found[:1], found[1:], 1e-10)


@runs
@pytest.mark.parametrize(
    ("p_inter", "grouping", "bias"), [(0.0, "index", True), (0.4, "random", True), (0.4, "index", False)]
)
def test_gradients_and_their_gradients(p_inter, grouping, bias):
    wiring = Ensembles(n_groups=2, p_inter=p_inter, block=("group", 1), grouping=grouping).wire(
        16, 4, generator=generator()
    )
    ours, _ = layers(wiring, bias=bias)
    names = [name for name, _ in ours.named_parameters()]

    def call(x, *parameters):
        return torch.func.functional_call(ours, dict(zip(names, parameters, strict=True)), (x,)).tanh()

    given = draw(2, 16).requires_grad_(), *ours.parameters()
    assert torch.autograd.gradcheck(call, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, given, fast_mode=True)


@runs
@pytest.mark.parametrize(("p_inter", "bias"), [(0.0, True), (0.3, True), (0.3, False)])
def test_torch_compile(p_inter, bias):
    pattern = Ensembles(n_groups=4, p_inter=p_inter, block=("group", 1))
    ours, _ = layers(pattern.wire(32, 16, generator=generator()), bias=bias)
    torch._dynamo.reset()
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    x, incoming = draw(5, 32), draw(5, 16, seed=1)
    assert_same(results(compiled, x, incoming), results(ours, x, incoming), 0.0)
    with torch.no_grad():
        assert torch.equal(compiled(x), ours(x))
    ours.rewire(pattern.wire(32, 16, generator=generator(5)))
    assert torch.equal(compiled(x), ours(x))


@runs
@pytest.mark.parametrize("p_inter", [0.0, 0.3])
def test_the_operator_is_well_formed(p_inter):
    from neuropil.connect.kernels.gathered_operator import product

    ours, _ = layers(Ensembles(n_groups=4, p_inter=p_inter, block=("group", 1)).wire(32, 16, generator=generator()))
    g = ours._gathering
    given = (draw(3, 32).requires_grad_(), ours.weight, ours.bias, g.tensors(), g.numbers(), torch.float64)
    torch.library.opcheck(
        product,
        given,
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic"),
    )


@runs
def test_the_same_every_time():
    wiring = Ensembles(n_groups=4, block=("group", 1)).wire(64, 32, generator=generator())
    ours, _ = layers(wiring, dtype=torch.float32)
    given = draw(33, 64, dtype=torch.float32), draw(33, 32, dtype=torch.float32)
    assert_same(results(ours, *given), results(ours, *given), 0.0)


@runs
def test_after_rewiring_copying_and_loading():
    pattern = Ensembles(n_groups=4, block=("group", 1))
    ours, masked = layers(pattern.wire(32, 16, generator=generator()))
    x = draw(3, 32)
    other = pattern.wire(32, 16, generator=generator(7))
    for layer in (ours, masked):
        layer.rewire(other)
    assert_same([ours(x)], [masked(x)], 1e-10)
    assert torch.equal(copy.deepcopy(ours)(x), ours(x))
    loaded = SparseLinear(pattern.wire(32, 16, generator=generator(8)), kernel="blocks", dtype=torch.float64).to(DEVICE)
    loaded.load_state_dict(ours.state_dict())
    assert torch.equal(loaded(x), ours(x))


@runs
def test_types_that_do_not_match_are_pytorchs_error():
    ours, _ = layers(Ensembles(n_groups=4, block=("group", 1)).wire(32, 16, generator=generator()))
    with pytest.raises(RuntimeError, match="dtype"):
        ours(draw(3, 32, dtype=torch.float32))


@on_gpu
@installed
def test_a_captured_graph():
    """Nothing waits for the GPU, and nothing depends on what it finds."""
    ours, _ = layers(Ensembles(n_groups=4, block=("group", 1)).wire(64, 32, generator=generator()), dtype=torch.float32)
    x, incoming = draw(8, 64, dtype=torch.float32).requires_grad_(), draw(8, 32, dtype=torch.float32, seed=1)
    called = torch.cuda.make_graphed_callables(copy.deepcopy(ours), (x.clone().detach().requires_grad_(),))
    x = draw(8, 64, dtype=torch.float32, seed=2)
    assert_same(results(called, x, incoming), results(ours, x, incoming), 0.0)


# without a GPU


@pytest.mark.skipif(INTERPRETED, reason="the interpreter runs on a CPU")
def test_on_a_cpu_nothing_is_laid_out():
    wiring = Ensembles(n_groups=4, block=("group", 1)).wire(32, 16, generator=generator())
    assert SparseLinear(wiring)._gathering is None
    assert gathering_on(torch.device("cpu"), wiring, bias=True) is None
    assert SparseLinear(Wiring.from_mask([[1]]))._gathering is None


def test_how_a_wiring_is_laid_out():
    wiring = Wiring(3, 4, [0, 0, 1], [0, 2, 2], block=(2, 1), out_order=[0, 2, 1, 3])
    g = Gathering.of(wiring, bias=True, device=torch.device("cpu"))
    assert g.edges == (0, 8, 16)
    assert g.width == 8
    assert g.sources.tolist() == [0, 2, -2, -1, -1, -1, -1, -1, 2, -2, -1, -1, -1, -1, -1, -1]
    assert g.stored.tolist() == [0, 1, -2, -1, -1, -1, -1, -1, 2, -2, -1, -1, -1, -1, -1, -1]
    assert g.own.tolist() == [0] * 8 + [1] * 8
    assert (g.readers.tolist(), g.pointers) == ([0, -1, 1, -1, -1, 8], None)
    assert (g.order.tolist(), g.position.tolist()) == ([0, 2, 1, 3], [0, 2, 1, 3])
    parts = Gathering.from_parts(g.tensors(), g.numbers())
    assert (parts.edges, parts.rows, parts.holds_bias, parts.as_stored) == (g.edges, 2, True, False)


def test_many_rows_of_blocks_keep_a_list_of_readers():
    wiring = Wiring(2, 80, [*range(40), 7], [*[1] * 40, 0], block=(2, 1))
    g = Gathering.of(wiring, bias=False, device=torch.device("cpu"))
    assert g.pointers.tolist() == [0, 1, 41]
    assert g.readers.tolist() == [56, *range(0, 56, 8), 57, *range(64, 320, 8)]


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

    def __init__(self):
        self.launches = []

    def __getitem__(self, grid):
        return lambda *given, **options: self.launches.append((given, options))


def compile_for_gpu(kernel, given, options):
    """Compile a kernel for what it was launched with, and return its assembly."""
    compiler = pytest.importorskip("triton.compiler")
    target = pytest.importorskip("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    names = list(inspect.signature(kernel.fn).parameters)
    given = dict(zip(names, given, strict=False)) | options
    types = {torch.float32: "*fp32", torch.float64: "*fp64", torch.bfloat16: "*bf16", torch.int32: "*i32"}
    signature, constants = {}, {}
    for name in names:
        value = given.pop(name)
        if isinstance(value, torch.Tensor):
            signature[name] = types[value.dtype]
        elif value is None or name in options:
            signature[name], constants[name] = "constexpr", value
        else:
            signature[name] = "i32"
    source = compiler.ASTSource(kernel, signature, constants)
    return compiler.compile(source, target=target, options=given).asm


@installed
@compiling
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_compiles_for_a_gpu(dtype, monkeypatch, tmp_path):
    from neuropil.connect.kernels import blocks_triton

    pytest.importorskip("triton", minversion="3.3", reason="says otherwise what is constant")
    if not find_spec("triton.backends.nvidia"):
        pytest.skip("Triton is installed without its compiler for CUDA")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernels = {name: getattr(blocks_triton, name) for name in ("gather", "add")}
    catches = {name: Catch() for name in kernels}
    for name, catch in catches.items():
        monkeypatch.setattr(blocks_triton, name, catch)
    pattern = Ensembles(n_groups=4, block=("group", 1), grouping="random")
    layer = SparseLinear(pattern.wire(32, 16, generator=generator()), kernel="blocks", dtype=dtype)
    layer._gathering = Gathering.of(layer.wiring, bias=True, device=torch.device("cpu"))
    x = torch.zeros(3, 32, dtype=dtype, requires_grad=True)
    layer(x).sum().backward()
    assert [len(catch.launches) for catch in catches.values()] == [3, 1]
    for name, catch in catches.items():
        for given, options in catch.launches:
            assembly = compile_for_gpu(kernels[name], given, options)
            assert assembly["cubin"]
            assert "atom" not in assembly["ptx"]  # which would add up in any order
