"""How far hidden activity has come, against plain formulas."""

import pytest
import torch
from torch import nn

from neuropil.connect import Dense
from neuropil.measure import ActivationChange, activation_change, hidden_activations
from neuropil.models import spiking_ensemble_net
from neuropil.randomness import stream

F64 = torch.float64


def test_what_is_kept_by_hand():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.Tanh())
    x = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    found = hidden_activations(net, x)
    assert list(found) == ["1", "3"]
    assert torch.equal(found["1"], net[:2](x))
    assert torch.equal(found["3"], net(x))
    assert not found["3"].requires_grad
    (name, values), = hidden_activations(net, x, layers=["2"]).items()  # fmt: skip
    assert name == "2"
    assert torch.equal(values, net[:3](x))


def test_a_layer_that_is_called_twice_and_one_that_writes_into_its_input():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.late = nn.Tanh(), nn.ReLU(inplace=True)

        def forward(self, x):
            return self.late(self.act(self.act(x)))

    found = hidden_activations(Net(), torch.tensor([[-2.0]]))
    once = torch.tanh(torch.tensor([[-2.0]]))
    assert found == {"act": once, "act[1]": torch.tanh(once), "late": torch.zeros(1, 1)}


def test_spiking_neurons_have_samples_first():
    net = spiking_ensemble_net((1, 4, 4), 3, hidden=[8], pattern=Dense(), encoding="current", steps=5)
    found = hidden_activations(net, torch.rand(6, 1, 4, 4, generator=stream(0)))
    assert found["hidden.1"].shape == (6, 5, 8)


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


def test_the_model_is_left_as_it_was(generator):
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU())
    net[1].eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    hidden_activations(net, torch.randn(3, 4, generator=generator))
    with pytest.raises(RuntimeError):
        hidden_activations(net, torch.zeros(3, 5))
    assert [module.training for module in net] == [True, False, True, True]
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
    assert torch.equal(torch.get_rng_state(), random)


ONE = torch.ones(2, 2)
ERRORS = [
    (lambda: hidden_activations(nn.ReLU(), ONE, layers=["a"]), r"layers must name modules of the model, got \['a'\]"),
    (lambda: hidden_activations(nn.Linear(2, 2), ONE), "the model must have activation modules, got a Linear without"),
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
