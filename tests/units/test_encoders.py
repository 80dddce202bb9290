"""Each encoder against its formula in a loop, against snnTorch where that defines the same, and random ones by counting."""

import copy
import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neuropil.testing import assert_module
from neuropil.units.encode import (
    CurrentEncoder,
    DeltaEncoder,
    LatencyEncoder,
    MinMax,
    PopulationEncoder,
    RateEncoder,
)
from neuropil.units.encode.rate import _CHUNK, bernoulli

SHAPES = [(0, 3), (3, 0), (1, 1), (2, 5), (2, 3, 4, 5)]
# encoders of samples, each with what it takes
TIMED = {
    "current": lambda steps: CurrentEncoder(steps, scale=0.5, bias=0.25),
    "rate": lambda steps: RateEncoder(steps, generator=torch.Generator().manual_seed(0)),
    "linear": LatencyEncoder,
    "log": lambda steps: LatencyEncoder(steps, kind="log"),
    "rc": lambda steps: LatencyEncoder(steps, kind="rc"),
    "population": lambda steps: nn.Sequential(PopulationEncoder(4), CurrentEncoder(steps)),
}


def snntorch_spikegen():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("snntorch.spikegen")


def same_numbers(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", TIMED)
def test_time_comes_first_and_type_stays(name, shape, dtype):
    x = torch.rand(shape, generator=same_numbers(), dtype=torch.float64).to(dtype)
    for steps in (1, 4):
        y = TIMED[name](steps)(x)
        wide = (*shape[:-1], shape[-1] * 4) if name == "population" else shape
        assert y.shape == (steps, *wide)
        assert y.dtype == dtype
        assert y.device == x.device


@pytest.mark.parametrize("name", TIMED)
def test_samples_do_not_see_each_other(name):
    if name == "rate":
        pytest.skip("draws depend on the place in the batch")
    x = torch.rand(5, 7, generator=same_numbers())
    assert torch.equal(TIMED[name](6)(x)[:, 2:3], TIMED[name](6)(x[2:3]))


@pytest.mark.parametrize("name", TIMED)
def test_copy_and_repr(name, generator):
    encoder = TIMED[name](6)
    x = torch.rand(5, 7, generator=generator)
    assert torch.equal(copy.deepcopy(encoder)(x), encoder(x))
    assert "6" in repr(encoder)
    assert not encoder.state_dict()


# current


@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.0), (0.25, 0.0), (1.0, -0.5), (2.0, 0.5)])
def test_current_is_a_view_of_one_step(scale, bias, generator):
    x = torch.randn(3, 4, generator=generator)
    y = CurrentEncoder(5, scale=scale, bias=bias)(x)
    for step in y:
        assert torch.equal(step, x * scale + bias)
    assert y.stride(0) == 0
    assert (y.data_ptr() == x.data_ptr()) == (scale == 1.0 and bias == 0.0)


def test_current_gradient(generator):
    x = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(CurrentEncoder(3, scale=0.5, bias=1.0), x)


# rate


def bernoulli_twin(probability, draws, seed):
    """The same draws number by number, where all of them fit into one chunk."""
    generator, n = same_numbers(seed), len(probability)
    words = torch.empty(-(-draws * n // 8), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    drawn = words.numpy().tobytes()[: draws * n]
    cells = [min(math.floor(p * 256), 255) for p in probability]
    ties = [at for at, byte in enumerate(drawn) if byte == cells[at % n]]
    finer = torch.rand(len(ties), generator=generator, dtype=torch.float64).tolist()
    ones = [float(byte < cells[at % n]) for at, byte in enumerate(drawn)]
    for at, second in zip(ties, finer, strict=True):
        ones[at] = float(second < probability[at % n] * 256 - cells[at % n])
    return torch.tensor(ones).view(draws, n)


@pytest.mark.parametrize("n", [1, 7, 8, 33])
@pytest.mark.parametrize("draws", [1, 5, 400])
def test_bernoulli_equals_its_twin(n, draws):
    p = torch.rand(n, generator=same_numbers(1), dtype=torch.float64)
    ours = bernoulli(p, draws, generator=same_numbers(2), dtype=torch.float32)
    assert torch.equal(ours, bernoulli_twin(p.tolist(), draws, 2))


# below, at and between the multiples of 1/256 that one byte can tell apart
PROBABILITIES = [0.0, 1e-4, 0.001, 1 / 512, 1 / 256, 1.5 / 256, 0.1, 0.5, 0.7, 254.7 / 256, 255 / 256, 0.999, 1.0]


# the last two: several chunks, the last one shorter; and a step longer than a chunk
@pytest.mark.parametrize(("steps", "n"), [(20_000, 1), (3_000, 13), (70, 5_001), (3, 140_001)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rate_is_the_input(steps, n, dtype):
    generator = same_numbers(steps)
    for p in PROBABILITIES:
        spikes = RateEncoder(steps, generator=generator)(torch.full((1, n), p, dtype=dtype))
        assert set(spikes.unique().tolist()) <= {0.0, 1.0}
        n_draws = steps * n
        deviation = math.sqrt(p * (1 - p) / n_draws)
        assert abs(spikes.double().mean().item() - p) <= 5 * deviation + 1e-12, p


def test_each_input_has_its_own_rate():
    x = torch.rand(8, 100, generator=same_numbers(), dtype=torch.float64)
    rates = RateEncoder(4_000, generator=same_numbers(1))(x).mean(0)
    assert ((rates - x).abs() <= 5 * (x * (1 - x) / 4_000).sqrt() + 1e-9).all()
    # were steps dependent, counts would be wider or narrower than binomial: mean of 800 squares is 1 ± 0.05
    assert ((rates - x).square() / (x * (1 - x) / 4_000)).mean().sub(1).abs() < 0.25


def test_spikes_are_independent_over_steps_inputs_and_calls():
    encoder, x = RateEncoder(300, generator=same_numbers()), torch.full((4, 257), 0.3)
    first, second = ((encoder(x).double() - 0.3) / math.sqrt(0.21) for _ in range(2))
    pairs = [first * second]
    pairs += [first[lag:] * first[:-lag] for lag in (1, 2, 8, _CHUNK // (4 * 257))]  # the last: from chunk to chunk
    pairs += [first[..., lag:] * first[..., :-lag] for lag in (1, 2, 4, 8, 128)]
    for product in pairs:
        assert abs(product.mean().item()) < 5 / math.sqrt(product.numel())


def test_gain_and_offset():
    x = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
    rates = RateEncoder(10_000, gain=0.25, offset=0.25, generator=same_numbers())(x).mean(0)
    assert (rates - torch.tensor([[0.25, 0.5, 0.75]])).abs().max() < 5 * math.sqrt(0.25 / 10_000)


def test_same_seed_same_spikes():
    x = torch.rand(3, 50, generator=same_numbers())
    one, same, other = (RateEncoder(20, generator=same_numbers(seed)) for seed in (1, 1, 2))
    first = one(x)
    assert torch.equal(first, same(x))
    assert not torch.equal(first, other(x))
    second = one(x)
    assert not torch.equal(first, second)
    assert torch.equal(second, same(x))
    # on from a stored state
    state = one.generator.get_state()
    third = one(x)
    one.generator.set_state(state)
    assert torch.equal(third, one(x))


def test_default_generator_is_pytorchs():
    x = torch.rand(3, 50, generator=same_numbers())
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = RateEncoder(20)(x)
        torch.manual_seed(3)
        assert torch.equal(RateEncoder(20)(x), first)
        assert not torch.equal(RateEncoder(20)(x), first)


def test_rate_rounds_what_is_just_outside():
    x = torch.tensor([[-5e-7, 1 + 5e-7]])
    assert RateEncoder(200, generator=same_numbers())(x).mean(0).tolist() == [[0.0, 1.0]]


def test_rate_gives_no_gradient():
    x = torch.rand(2, 3, generator=same_numbers()).requires_grad_()
    for encoder in (RateEncoder(4, generator=same_numbers()), LatencyEncoder(4), DeltaEncoder()):
        assert not encoder(x).requires_grad


def test_bernoulli_elsewhere_has_the_same_shape():
    drawn = bernoulli(torch.empty(2, 3, device="meta"), 5, generator=None, dtype=torch.float16)
    assert (drawn.shape, drawn.dtype, drawn.device.type) == ((5, 2, 3), torch.float16, "meta")


def test_certain_spikes_are_snntorchs():
    x = torch.tensor([[0.0, 1.0]])
    assert torch.equal(RateEncoder(5, generator=same_numbers())(x), snntorch_spikegen().rate(x, num_steps=5))


# latency


def latency_twin(x, steps, kind, threshold, tau, silent):
    """The step of one input's spike, or None."""
    if kind == "linear":
        time = (steps - 1) * (1 - x)
    elif kind == "log":
        time = steps - 1 - math.log((math.exp(steps - 1) - 1) * x + 1)
    else:
        time = tau * math.log(x / (x - threshold)) if x > threshold else math.inf
    time = time if time == math.inf else round(time)  # halves to even, as in PyTorch
    if silent:
        return time if x > threshold and time < steps else None
    return min(time, steps - 1)


@pytest.mark.parametrize("silent", [True, False])
@pytest.mark.parametrize("threshold", [0.01, 0.2])
@pytest.mark.parametrize("kind", ["linear", "log", "rc"])
@pytest.mark.parametrize("steps", [1, 2, 5, 100])
def test_latency_equals_its_twin(steps, kind, threshold, silent):
    x = torch.rand(4, 60, generator=same_numbers(), dtype=torch.float64)
    x[0, :5] = torch.tensor([0.0, 1.0, threshold, threshold / 2, threshold * 1.001])
    tau = 3.0 if kind == "rc" else None
    encoder = LatencyEncoder(steps, kind=kind, threshold=threshold, tau=tau, silent=silent)
    expected = torch.zeros(steps, 4, 60, dtype=torch.float64)
    for row in range(4):
        for column in range(60):
            step = latency_twin(float(x[row, column]), steps, kind, threshold, tau, silent)
            if step is not None:
                expected[step, row, column] = 1
    assert torch.equal(encoder(x), expected)


@pytest.mark.parametrize("kind", ["linear", "log", "rc"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_larger_inputs_spike_no_later_in_long_windows(kind, dtype):
    x = torch.linspace(0, 1, 201).to(dtype)[None]
    spikes = LatencyEncoder(1000, kind=kind, silent=False)(x)
    assert (spikes.sum(0) == 1).all()
    times = spikes.float().argmax(0)[0]
    assert (times.diff() <= 0).all()
    assert times[0] == 999
    # e^999 overflows, yet the largest input spikes at once
    assert times[-1] == (10 if kind == "rc" else 0)


def test_threshold_zero_silences_zeros_only():
    x = torch.tensor([[0.0, 1e-6, 1.0]])
    assert LatencyEncoder(4, threshold=0.0)(x).sum(0).tolist() == [[0.0, 1.0, 1.0]]


def test_default_tau_is_the_window():
    assert LatencyEncoder(7, kind="rc").tau == 7.0


def test_latency_is_snntorchs():
    spikegen = snntorch_spikegen()
    x = torch.rand(8, 50, generator=same_numbers())
    x[:, 0] = 0.0
    for steps in (5, 30):
        linear = spikegen.latency(x, num_steps=steps, linear=True, normalize=True, clip=True)
        assert torch.equal(LatencyEncoder(steps)(x), linear)
        assert linear.sum() > 300
        for threshold in (0.01, 0.1):
            rc = spikegen.latency(x, num_steps=steps, tau=20.0, threshold=threshold, clip=True, bypass=True)
            ours = LatencyEncoder(steps, kind="rc", tau=20.0, threshold=threshold)(x)
            assert torch.equal(ours, rc)
            assert 0 < rc.sum() < 400


# delta


def delta_twin(x, threshold, off, from_zero):
    y = torch.zeros_like(x)
    for t in range(len(x)):
        for place in range(x[0].numel()):
            now = float(x[t].view(-1)[place])
            before = float(x[t - 1].view(-1)[place]) if t else (0.0 if from_zero else now)
            spike = 1.0 if now - before >= threshold else (-1.0 if off and now - before <= -threshold else 0.0)
            y[t].view(-1)[place] = spike
    return y


@pytest.mark.parametrize("from_zero", [True, False])
@pytest.mark.parametrize("off", [True, False])
@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 2, 3), (6, 0, 3), (6, 1, 1), (6, 2, 5)], ids=str)
def test_delta_equals_its_twin_and_snntorchs(shape, off, from_zero):
    x = torch.randint(0, 5, shape, generator=same_numbers(), dtype=torch.float64) / 4
    ours = DeltaEncoder(0.5, off_spikes=off, from_zero=from_zero)(x)
    assert torch.equal(ours, delta_twin(x, 0.5, off, from_zero))
    if shape[0]:
        assert torch.equal(ours, snntorch_spikegen().delta(x, 0.5, padding=not from_zero, off_spike=off))


# population


@pytest.mark.parametrize("width", [None, 0.3])
@pytest.mark.parametrize("n_neurons", [3, 4, 10])
@pytest.mark.parametrize("shape", [(0, 2), (1, 1), (2, 3)], ids=str)
def test_population_equals_its_twin(shape, n_neurons, width):
    x = torch.randn(shape, generator=same_numbers(), dtype=torch.float64)
    low, high = -1.0, 2.0
    y = PopulationEncoder(n_neurons, low=low, high=high, width=width)(x)
    assert y.shape == (shape[0], shape[1] * n_neurons)
    step = (high - low) / (n_neurons - 2)
    for sample in range(shape[0]):
        for number in range(shape[1]):
            for i in range(1, n_neurons + 1):  # the formula of the paper counts from 1
                center = low + (2 * i - 3) / 2 * step
                sigma = step / 1.5 if width is None else width
                expected = math.exp(-((float(x[sample, number]) - center) ** 2) / (2 * sigma**2))
                assert y[sample, number * n_neurons + i - 1].item() == pytest.approx(expected, abs=1e-12)


def test_centers_by_hand():
    assert PopulationEncoder(4).centers.tolist() == [-0.25, 0.25, 0.75, 1.25]
    assert PopulationEncoder(4).width == pytest.approx(1 / 3)


def test_population_keeps_the_contract(generator):
    assert_module(PopulationEncoder(5), torch.rand(4, 3, generator=generator, dtype=torch.float64))
    x = torch.rand(2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(PopulationEncoder(5), x)


@pytest.mark.parametrize("last", [RateEncoder(6), LatencyEncoder(6), CurrentEncoder(6)], ids=lambda e: type(e).__name__)
def test_population_feeds_every_encoder(last, generator):
    x = torch.randn(3, 4, generator=generator)
    with torch.random.fork_rng():
        assert nn.Sequential(PopulationEncoder(5), last)(x).shape == (6, 3, 20)


# MinMax


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (4, 5), (3, 2, 4, 4)], ids=str)
def test_min_max_equals_its_twin(shape, generator):
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    y = MinMax()(x)
    assert y.shape == x.shape
    for sample, ours in zip(x, y, strict=True):
        values = sample.flatten().tolist()
        for value, scaled in zip(values, ours.flatten().tolist(), strict=True):
            spread = max(values) - min(values)
            assert scaled == pytest.approx((value - min(values)) / spread if spread else 0.0, abs=1e-12)


def test_a_constant_sample_becomes_zero_with_a_finite_gradient():
    x = torch.full((2, 3), 7.0, requires_grad=True)
    y = MinMax()(x)
    assert not y.any()
    y.square().sum().backward()
    assert x.grad.isfinite().all()


def test_min_max_keeps_the_contract(generator):
    assert_module(MinMax(), torch.rand(4, 3, generator=generator, dtype=torch.float64))
    x = torch.rand(2, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(MinMax(), x)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False), min_size=1, max_size=9))
def test_whatever_is_scaled_can_be_rate_coded(values):
    x = MinMax()(torch.tensor([values], dtype=torch.float32))
    rates = RateEncoder(2, generator=same_numbers())(x).mean(0)[0]
    if max(values) - min(values) > 1e-30:  # less may be subnormal, and taken for 0
        assert rates[values.index(max(values))] == 1
    assert rates[values.index(min(values))] == 0


# bad input

ONE = torch.ones(1, 2)
BAD = [
    (lambda: CurrentEncoder(0), ValueError, "CurrentEncoder: steps must be a whole number of at least 1, got 0"),
    (lambda: RateEncoder(-1), ValueError, "RateEncoder: steps must be a whole number of at least 1, got -1"),
    (lambda: LatencyEncoder(2.5), ValueError, "LatencyEncoder: steps must be a whole number of at least 1, got 2.5"),
    (lambda: CurrentEncoder(2)(ONE.int()), TypeError, "CurrentEncoder: x must be a floating-point tensor, got torch.int32; try x.float()"),
    (lambda: RateEncoder(2)(ONE.to(torch.uint8)), TypeError, "RateEncoder: x must be a floating-point tensor, got torch.uint8; try x.float()"),
    (lambda: LatencyEncoder(2)(ONE.int()), TypeError, "LatencyEncoder: x must be a floating-point"),
    (lambda: DeltaEncoder()(ONE.int()), TypeError, "DeltaEncoder: x must be a floating-point"),
    (lambda: PopulationEncoder(4)(ONE.int()), TypeError, "PopulationEncoder: x must be a floating-point"),
    (lambda: MinMax()(ONE.int()), TypeError, "MinMax: x must be a floating-point"),
    (lambda: MinMax()(torch.ones(3)), ValueError, "MinMax: x must be [b, …] with at least two axes, got shape (3,)"),
    (lambda: RateEncoder(2)(torch.tensor([[-0.5, 2.0]])), ValueError, "RateEncoder: gain · x + offset must lie in [0, 1], got values from -0.5 to 2; try Dataset.in_unit_range() for pixels, or MinMax() for features"),
    (lambda: RateEncoder(2, gain=3.0)(ONE), ValueError, "RateEncoder: gain · x + offset must lie in [0, 1], got values from 3 to 3"),
    (lambda: RateEncoder(2)(torch.tensor([[math.nan, 0.0]])), ValueError, "RateEncoder: gain · x + offset must lie in [0, 1], got values from nan to nan"),
    (lambda: RateEncoder(2)(torch.tensor([[1 + 3e-6]])), ValueError, "must lie in [0, 1]"),
    (lambda: LatencyEncoder(2)(ONE * 1.5), ValueError, "LatencyEncoder: x must lie in [0, 1], got values from 1.5 to 1.5"),
    (lambda: LatencyEncoder(2, kind="exp"), ValueError, "LatencyEncoder: kind must be linear, log or rc, got 'exp'"),
    (lambda: LatencyEncoder(2, threshold=1.0), ValueError, "LatencyEncoder: threshold must be in [0, 1), got 1.0"),
    (lambda: LatencyEncoder(2, threshold=math.nan), ValueError, "LatencyEncoder: threshold must be in [0, 1), got nan"),
    (lambda: LatencyEncoder(2, kind="rc", threshold=0.0), ValueError, "LatencyEncoder: threshold of kind rc must be above 0"),
    (lambda: LatencyEncoder(2, kind="rc", tau=0.0), ValueError, "LatencyEncoder: tau must be finite and above 0, got 0.0"),
    (lambda: LatencyEncoder(2, tau=1.0), ValueError, "LatencyEncoder: tau must be None for kind linear, got 1.0; only rc has one"),
    (lambda: DeltaEncoder(0.0), ValueError, "DeltaEncoder: threshold must be above 0, got 0.0"),
    (lambda: PopulationEncoder(2), ValueError, "PopulationEncoder: n_neurons must be a whole number of at least 3, got 2"),
    (lambda: PopulationEncoder(4, low=1.0), ValueError, "PopulationEncoder: low must be below high and both finite, got 1.0 and 1.0"),
    (lambda: PopulationEncoder(4, width=0.0), ValueError, "PopulationEncoder: width must be finite and above 0, got 0.0"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_input_is_told_in_one_sentence(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
