"""Each surrogate against its formula, its peak, and snnTorch's gradients."""

import math
import warnings

import pytest
import torch

from neuropil.units import ATan, Boxcar, FastSigmoid, Sigmoid, Surrogate, Triangle

FORMULAS = {
    ATan: lambda x, a: a / 2 / (1 + (math.pi / 2 * a * x) ** 2),
    FastSigmoid: lambda x, k: 1 / (1 + k * abs(x)) ** 2,
    Sigmoid: lambda x, k: k * (1 / (1 + math.exp(-k * x))) * (1 - 1 / (1 + math.exp(-k * x))),
    Triangle: lambda x, w: max(0.0, 1 / w - abs(x) / w**2),
    Boxcar: lambda x, w: 1 / (2 * w) if abs(x) <= w else 0.0,
}
NAMES = {ATan: "alpha", FastSigmoid: "slope", Sigmoid: "slope", Triangle: "width", Boxcar: "width"}
POINTS = [-3.0, -1.0, -0.5, -0.26, -0.1, -1e-9, 0.0, 1e-9, 0.2, 0.25, 0.5, 0.9, 1.1, 2.0, 4.0]
# powers of 2, so that the edges of boxes and triangles are exact
CASES = [(kind, value) for kind in FORMULAS for value in (0.25, 0.5, 1.0, 2.0, 16.0)]


def identify(case):
    return f"{case.__name__}" if isinstance(case, type) else str(case)


@pytest.mark.parametrize(("kind", "value"), CASES, ids=identify)
def test_derivative_is_the_formula(kind, value):
    x = torch.tensor(POINTS, dtype=torch.float64)
    expected = torch.tensor([FORMULAS[kind](point, value) for point in POINTS], dtype=torch.float64)
    torch.testing.assert_close(kind(value).derivative(x), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("kind", "value"), CASES, ids=identify)
def test_peak_is_the_value_at_the_threshold_and_the_largest(kind, value):
    surrogate = kind(value)
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)
    assert surrogate.peak == pytest.approx(FORMULAS[kind](0.0, value), rel=1e-15)
    assert float(surrogate.derivative(torch.zeros(1, dtype=torch.float64))) == surrogate.peak
    assert float(surrogate.derivative(x).max()) <= surrogate.peak
    torch.testing.assert_close(surrogate.derivative(x), surrogate.derivative(-x))


@pytest.mark.parametrize("surrogate", [ATan(), Sigmoid(), Triangle(), Triangle(width=0.3), Boxcar(), Boxcar(width=2.0)])
def test_area_is_that_of_a_step(surrogate):
    x = torch.linspace(-400, 400, 800_001, dtype=torch.float64)
    assert float(torch.trapezoid(surrogate.derivative(x), x)) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", FORMULAS)
def test_compiled_slopes_are_the_derivatives(kind, dtype, generator):
    from neuropil.units.scans.slopes import surrogate_slopes

    surrogate = kind(0.5)
    potential = 2 * torch.randn(200, generator=generator, dtype=dtype)
    threshold = 1 + 0.1 * torch.randn(200, generator=generator, dtype=dtype)
    slopes = torch.empty_like(potential)
    number = slopes.numpy().dtype.type
    surrogate_slopes(
        surrogate.code, number(surrogate.peak), number(surrogate.sharpness),
        potential.numpy(), threshold.numpy(), slopes.numpy(),
    )  # fmt: skip
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(slopes, surrogate.derivative(potential - threshold), rtol=tolerance, atol=tolerance)


def test_area_scales_a_triangle():
    x = torch.linspace(-2, 2, 101, dtype=torch.float64)
    published = 0.3 / 0.6 * (1 - x.abs() / 0.6).clamp(min=0)
    torch.testing.assert_close(Triangle(width=0.6, area=0.3).derivative(x), published)
    with pytest.raises(ValueError, match="area must be a finite number above 0"):
        Triangle(area=0.0)


def test_codes_tell_surrogates_apart():
    assert len({kind.code for kind in FORMULAS}) == len(FORMULAS)


def test_only_what_is_still_the_known_shape_keeps_its_code():
    class Other(ATan):
        def _shape(self, z):
            return torch.exp(-z.abs())

    class OfOther(Other):
        pass

    class Spiky(Sigmoid):
        def spike(self, x):
            return 2 * super().spike(x)

    class Steep(ATan):
        sharpness = 100.0

    assert (Other.code, OfOther.code, Spiky.code, Surrogate.code) == (None,) * 4
    assert Steep.code == ATan.code


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", FORMULAS)
def test_a_spike_is_a_step_whose_gradient_is_the_derivative(kind, dtype):
    x = torch.tensor([-2.0, -0.5, 0.0, 0.25, 3.0], dtype=dtype, requires_grad=True)
    surrogate = kind(1.0)
    spikes = surrogate.spike(x)
    assert spikes.dtype == dtype
    assert spikes.tolist() == [0, 0, 0, 1, 1]  # none at the threshold itself
    weights = torch.tensor([1.0, -2.0, 3.0, 0.5, 4.0], dtype=dtype)
    spikes.backward(weights)
    assert torch.equal(x.grad, weights * surrogate.derivative(x.detach()))


@pytest.mark.parametrize("kind", FORMULAS)
def test_far_from_the_threshold_nothing_overflows(kind):
    slopes = kind(25.0).derivative(torch.tensor([-1e30, -1e4, 1e4, 1e30]))
    assert bool(slopes.isfinite().all())
    assert bool((slopes >= 0).all())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(ATan(), ("atan", {})), (ATan(alpha=5.0), ("atan", {"alpha": 5.0})), (FastSigmoid(), ("fast_sigmoid", {})),
     (FastSigmoid(slope=3.0), ("fast_sigmoid", {"slope": 3.0})), (Sigmoid(), ("sigmoid", {})),
     (Sigmoid(slope=4.0), ("sigmoid", {"slope": 4.0}))],
)  # fmt: skip
def test_gradients_are_snntorchs(ours, theirs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        surrogates = pytest.importorskip("snntorch.surrogate")
    name, options = theirs
    x = torch.linspace(-2, 2, 81, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    spikes, expected = ours.spike(x), getattr(surrogates, name)(**options)(y)
    assert torch.equal(spikes, expected.double())
    spikes.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("kind", FORMULAS)
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_bad_input(kind, value):
    message = f"{kind.__name__}: {NAMES[kind]} must be a finite number above 0, got {value:g}"
    with pytest.raises(ValueError, match=f"^{message}$"):
        kind(value)


def test_surrogates_are_values():
    assert ATan(alpha=2.0) == ATan() != ATan(alpha=3.0)
    assert len({ATan(), ATan(), Sigmoid()}) == 2
    assert repr(FastSigmoid()) == "FastSigmoid(slope=25.0)"
    with pytest.raises(AttributeError):
        ATan().alpha = 3.0
