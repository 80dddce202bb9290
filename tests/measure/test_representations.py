"""How far hidden activity has come, against plain formulas."""

import pytest
import torch

from neuropil.measure import ActivationChange, activation_change

F64 = torch.float64


@pytest.mark.parametrize("shape", [(6, 4), (6, 3, 2, 2), (1, 3)])
def test_changes_by_their_formulas(shape, generator):
    a, b = (torch.randn(shape, generator=generator, dtype=F64) for _ in range(2))
    (found,) = activation_change({"layer": a}, {"layer": b})
    x, y = a.flatten(1), b.flatten(1)
    assert found.name == "layer"
    assert found.relative == pytest.approx(float((y - x).norm() / x.norm()))
    assert found.cosine == pytest.approx(float(torch.trace(x @ y.T) / (x.norm() * y.norm())))
    grams = x @ x.T, y @ y.T
    expected = torch.trace(grams[0] @ grams[1]) / (grams[0].norm() * grams[1].norm())
    assert found.alignment == pytest.approx(float(expected))
    order = torch.randperm(shape[0], generator=generator)
    (again,) = activation_change({"layer": a[order]}, {"layer": b[order]})
    assert (again.relative, again.cosine, again.alignment) == pytest.approx(
        (found.relative, found.cosine, found.alignment)
    )


def test_itself_scale_and_rotation(generator):
    a = torch.randn(6, 4, generator=generator, dtype=F64)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=F64))[0]
    (same,) = activation_change({"": a}, {"": a})
    assert same == ActivationChange("", 0.0, pytest.approx(1.0), pytest.approx(1.0))
    (scaled,) = activation_change({"": a}, {"": 3 * a})
    assert scaled == ActivationChange("", pytest.approx(2.0), pytest.approx(1.0), pytest.approx(1.0))
    (turned,) = activation_change({"": a}, {"": a @ rotation})
    assert turned.alignment == pytest.approx(1.0)
    assert turned.cosine < 0.99


def test_layers_that_are_silent():
    zero, one = torch.zeros(2, 2), torch.ones(2, 2)
    assert activation_change({"": zero}, {"": zero}) == [ActivationChange("", 0.0, 1.0, 1.0)]
    assert activation_change({"": zero}, {"": one}) == [ActivationChange("", float("inf"), 0.0, 0.0)]
    assert activation_change({"": one}, {"": zero}) == [ActivationChange("", 1.0, 0.0, 0.0)]


ONE = torch.ones(2, 2)
ERRORS = [
    (lambda: activation_change({"a": ONE}, {"b": ONE}), r"both must be of the same layers, got \['a'\] and \['b'\]"),
    (
        lambda: activation_change({"a": ONE}, {"a": ONE[:1]}),
        r"layer 'a' must have the same shape in both, got \(2, 2\)",
    ),
]


@pytest.mark.parametrize(("call", "sentence"), ERRORS)
def test_errors_say_what_is_wrong(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_activity_that_is_not_finite_is_told():
    with pytest.raises(ValueError, match="^activation_change: activity must be finite, got inf or nan; try a smaller"):
        activation_change({"layer": torch.ones(2, 2)}, {"layer": torch.full((2, 2), float("nan"))})
