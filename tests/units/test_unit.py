"""The contract of every unit, what the base class does for new ones, and that the check of it can fail."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch

from neuropil.testing import assert_unit
from neuropil.units import IF, LIF, AdaptiveLIF, ATan, CurrentLIF, Izhikevich, LeakyIntegrator, Surrogate, Unit


def per_neuron(low, high, n=4):
    return torch.linspace(low, high, n)


UNITS = {
    "LIF": lambda: LIF(learn=["decay", "threshold"]),
    "LIF, fixed": lambda: LIF(decay=0.95),
    "LIF, zeroed at once": lambda: LIF(reset="zero", reset_delay=False, detach_reset=False),
    "LIF, per neuron": lambda: LIF(per_neuron(0.5, 0.9), per_neuron(0.5, 1.5), learn=["decay", "threshold"]),
    "IF": lambda: IF(learn=["threshold"], reset="zero"),
    "LeakyIntegrator": lambda: LeakyIntegrator(learn=["decay"]),
    "LeakyIntegrator, fixed": lambda: LeakyIntegrator(per_neuron(0.1, 0.9)),
    "CurrentLIF": lambda: CurrentLIF(learn=["decay", "threshold", "synaptic_decay"]),
    "AdaptiveLIF": lambda: AdaptiveLIF(learn=["decay", "threshold", "adaptation", "adaptation_decay"]),
    "AdaptiveLIF, at once": lambda: AdaptiveLIF(adaptation=per_neuron(0.0, 1.0), reset_delay=False),
    "Izhikevich": lambda: Izhikevich(learn=["a", "b", "c", "d"]),
    "Izhikevich, chattering": lambda: Izhikevich.of_kind("chattering", detach_reset=False),
}


def drive(unit, dtype=torch.float32, steps=20):
    current = torch.randn(steps, 3, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return 15 + 10 * current if isinstance(unit, Izhikevich) else current


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("make", UNITS.values(), ids=UNITS)
def test_contract(make, dtype):
    unit = make().to(dtype)
    current = drive(unit, dtype)
    assert assert_unit(unit, current) == ["torch", "numba"]
    outputs, _ = unit(current)
    assert isinstance(unit, LeakyIntegrator) or 0 < float(outputs.detach().mean()) < 1


@pytest.mark.parametrize("make", UNITS.values(), ids=UNITS)
def test_one_step_starts_at_rest(make):
    unit = make()
    current = drive(unit)
    once, state = unit.step(current[0])
    outputs, end = unit(current[:1])
    torch.testing.assert_close(outputs[0], once)
    torch.testing.assert_close(tuple(end), tuple(state))
    assert all(torch.equal(part, rest) for part, rest in zip(unit(current, unit.rest(current[0]))[1], unit(current)[1], strict=True))  # fmt: skip


@pytest.mark.parametrize("make", UNITS.values(), ids=UNITS)
def test_other_types_are_computed_step_by_step(make):
    unit = make()
    current = drive(unit, torch.bfloat16)
    assert unit.chosen_kernel(current) == "torch"
    outputs, state = unit(current)
    assert outputs.dtype == state[0].dtype == torch.bfloat16


@pytest.mark.parametrize("make", UNITS.values(), ids=UNITS)
def test_a_state_says_what_it_holds(make):
    unit = make()
    expected = {"IF": "LIFState"}.get(type(unit).__name__, f"{type(unit).__name__}State")
    for _, state in (unit(drive(unit)), unit.step(drive(unit)[0])):
        assert type(state).__name__ == expected
        assert all(hasattr(state, name) for name in state._fields)


SHOULD_NOT = "ignore:.*should not be instantiated:DeprecationWarning"  # PyTorch's own


@pytest.mark.filterwarnings(SHOULD_NOT)
@pytest.mark.parametrize("is_constant", [False, True], ids=["varying", "constant"])
@pytest.mark.parametrize("make", UNITS.values(), ids=UNITS)
def test_torch_compile(make, is_constant, run):
    unit = make()
    current = drive(unit, steps=1 if is_constant else 3)

    def whole(current, state=None):
        return unit(current.expand(3, -1, -1), state)

    torch.compiler.reset()
    whole.zero_grad, whole.named_parameters = unit.zero_grad, unit.named_parameters
    compiled = torch.compile(whole, backend="aot_eager", fullgraph=True)
    compiled.zero_grad, compiled.named_parameters = unit.zero_grad, unit.named_parameters
    for state in (None, unit(current)[1]):
        found, expected = run(compiled, current, state), run(whole, current, state)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.filterwarnings(SHOULD_NOT)
@pytest.mark.parametrize("make", [LIF, IF, CurrentLIF, LeakyIntegrator])
def test_a_compiled_graph_holds_no_loop_over_time(make):
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    torch.compile(make(), backend=keep, fullgraph=True)(torch.rand(200, 2, 3))
    called = [str(node.target) for node in graphs[0].graph.nodes if node.op == "call_function"]
    assert any("neuropil" in name for name in called)
    assert len(called) < 60


# a current that is the same at every step


def expansions(make):
    """Ways to come by such a current, each from a leaf ``[b, n]``; the last of each tells what its gradient goes to."""
    base = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    detached = base.detach().expand(6, 3, 4).requires_grad_()
    kept = (2 * base).expand(6, 3, 4)
    kept.retain_grad()
    return {
        "of a leaf": (base.expand(6, 3, 4), base),
        "of a result": ((2 * base).expand(6, 3, 4), base),
        "of a result with a time axis": ((2 * base).unsqueeze(0).expand(6, 3, 4), base),
        "of a slice": (torch.cat([base, base], 1)[:, :4].expand(6, 3, 4), base),
        "of a transpose": ((2 * base).t().contiguous().t().expand(6, 3, 4), base),
        "of a reshape": ((2 * base).flatten().view(3, 4).expand(6, 3, 4), base),
        "of a square turned": ((2 * base[:, :3]).clone().t().expand(6, 3, 3), base),
        "half of it": ((2 * base).expand(12, 3, 4)[::2], base),
        "a leaf itself": (detached, detached),
        "that keeps its gradient": (kept, kept),
        "that is then changed": ((2 * base).expand(6, 3, 4).detach().requires_grad_(), None),
    }[make]


WAYS = [
    "of a leaf", "of a result", "of a result with a time axis", "of a slice", "of a transpose", "of a reshape",
    "of a square turned", "half of it", "a leaf itself", "that keeps its gradient", "that is then changed",
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [lambda kernel: LIF(kernel=kernel), lambda kernel: LeakyIntegrator(kernel=kernel)])
def test_gradient_of_an_expanded_current(make, way):
    gradients = []
    for kernel in ("torch", "numba"):
        current, receiver = expansions(way)
        assert current.stride(0) == 0
        receiver = current if receiver is None else receiver
        outputs, _ = make(kernel)(current)
        weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1))
        (outputs * weights).sum().backward()
        gradients.append(receiver.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-5)


def test_an_expanded_current_gets_no_gradient_of_its_size():
    sizes = []
    current = 2 * torch.ones(3, 4, requires_grad=True)
    current.register_hook(lambda gradient: sizes.append(gradient.shape))
    expanded = current.expand(50, 3, 4)
    expanded.grad_fn.register_hook(lambda *gradients: sizes.append(expanded.shape))
    LIF()(expanded)[0].sum().backward()
    assert sizes == [(3, 4)]


# new units


class Threshold(Unit):
    """No memory but a count of steps; knows no compiled kernel."""

    def rest(self, current):
        return (torch.zeros_like(current),)

    def step(self, current, state=None):
        (steps,) = self.rest(current) if state is None else state
        return current.clamp(min=0), (steps + 1,)


class Forgetful(Threshold):
    """Starts anew at every call."""

    def step(self, current, state=None):
        return super().step(current, None)[0] + 0 * current, (current,)

    def forward(self, current, state=None):
        outputs, end = super().forward(current)
        return outputs + torch.arange(len(current)).reshape(-1, 1, 1), end


class Counting(Threshold):
    """Keeps a state of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, current, state=None):
        self.calls += 1
        return super().forward(current, state)


class Disagreeing(Threshold):
    compiled = ("numba",)

    def run(self, current, state, kernel):
        outputs, end = self.run_steps(current, state)
        return 1.01 * outputs, end


class Chatty(Threshold):
    """Its compiled kernel is a loop over steps after all."""

    compiled = ("numba",)

    def run(self, current, state, kernel):
        return self.run_steps(current, state)


class Looking(Threshold):
    """Samples see each other."""

    def step(self, current, state=None):
        outputs, state = super().step(current, state)
        return outputs + current.sum(0, keepdim=True), state


def test_a_new_unit_needs_a_step_and_a_rest():
    unit = Threshold()
    assert assert_unit(unit, torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0))) == ["torch"]
    outputs, (steps,) = unit(torch.ones(5, 2, 3))
    assert outputs.shape == (5, 2, 3)
    assert bool((steps == 5).all())


def test_a_new_unit_knows_no_compiled_kernel():
    message = "^Threshold: kernel must be one of auto, torch for these neurons, got 'numba'$"
    with pytest.raises(ValueError, match=message):
        Threshold(kernel="numba")(torch.ones(5, 2, 3))


# new surrogates


@dataclass(frozen=True)
class Gaussian(Surrogate):
    """exp(−x²): a surrogate of one's own, which compiled kernels do not know."""

    peak = 1.0
    sharpness = 1.0

    def _shape(self, z):
        return torch.exp(-z * z)


@pytest.mark.parametrize("make", [LIF, IF, CurrentLIF, AdaptiveLIF, Izhikevich])
def test_a_new_surrogate_is_computed_step_by_step(make):
    unit = make(surrogate=Gaussian())
    assert unit.compiled == ()
    assert assert_unit(unit, drive(unit)) == ["torch"]
    for dtype in (torch.float32, torch.float64):
        assert unit.chosen_kernel(drive(unit, dtype)) == "torch"
    message = f"^{make.__name__}: kernel must be one of auto, torch for these neurons, got 'numba'$"
    with pytest.raises(ValueError, match=message):
        make(surrogate=Gaussian(), kernel="numba")(drive(unit))
    unit.surrogate = ATan()
    assert unit.chosen_kernel(drive(unit)) == "numba"


def test_a_new_surrogate_gives_the_gradient():
    current = torch.tensor([0.5, 1.5]).reshape(1, 1, 2).requires_grad_()
    LIF(surrogate=Gaussian())(current)[0].sum().backward()
    torch.testing.assert_close(current.grad.flatten(), torch.exp(torch.tensor([-0.25, -0.25])))


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (Forgetful(), "a sequence in two parts and in one: outputs must agree"),
        (Counting(), "a call must not change calls"),
        (Disagreeing(), "kernel 'numba' and the loop over steps: outputs must agree"),
        (Chatty(), "kernel 'numba' must not keep tensors for each step"),
        (Looking(), "a sample alone and in a batch: outputs must agree"),
    ],
    ids=lambda case: type(case).__name__,
)
def test_the_check_can_fail(unit, message):
    with pytest.raises(AssertionError, match=message):
        assert_unit(unit, torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("size", [(2, 3, 4), (5, 1, 4)])
def test_the_check_wants_enough_to_look_at(size):
    with pytest.raises(AssertionError, match="the check needs at least"):
        assert_unit(LIF(), torch.ones(size))


def test_importing_units_does_not_load_numba():
    code = "import sys, neuropil.units; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
