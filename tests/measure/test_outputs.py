"""Outputs of layers: which, in what order, and that the model is as before."""

import pytest
import torch
from torch import nn

from neuropil.connect import Ensembles, ErdosRenyi, SparseConv2d, sparsify
from neuropil.measure import layer_outputs
from neuropil.randomness import stream
from neuropil.units import LIF


def test_outputs_are_those_of_the_layers():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    x = torch.randn(5, 1, 4, 4, generator=stream(0, "x"))
    found = layer_outputs(net, x, layers="weights")
    assert list(found) == ["0", "3"]
    assert torch.equal(found["0"], net[0](x))
    (name, hidden), = layer_outputs(net, x).items()  # fmt: skip
    assert name == "1"
    assert torch.equal(hidden, net[:2](x))
    assert torch.equal(found["3"], net(x))
    assert not any(output.requires_grad for output in found.values())


def test_sparse_layers_have_weights():
    net = sparsify(nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16)), Ensembles(n_groups=4, p_inter=0.1))
    assert list(layer_outputs(net, torch.ones(2, 16), layers="weights")) == ["0", "1"]


def test_named_layers_of_any_kind():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), LIF())
    x = torch.randn(6, 2, 4, generator=stream(0, "spiking"))
    found = layer_outputs(net, x, layers=["2", "1"])
    assert list(found) == ["1", "2"]  # as they are called
    assert found["2"].shape == (6, 2, 4)  # the spikes, without the state
    assert torch.equal(found["2"], net[2](net[1](net[0](x)))[0])
    turned = layer_outputs(net, x, samples_first=True)
    assert torch.equal(turned["2"], found["2"].transpose(0, 1))
    assert torch.equal(turned["1"], found["1"])
    assert torch.equal(layer_outputs(net[:1], x, layers=[""])[""], net[0](x))


def test_the_next_layer_may_write_into_its_input():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.fill_(-1.0)
    assert (layer_outputs(net, torch.ones(2, 2), layers="weights")["0"] == -1).all()


def test_a_layer_called_again():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Tanh()

        def forward(self, x):
            return self.layer(self.layer(x))

    net = Twice()
    x = torch.ones(1, 2)
    found = layer_outputs(net, x)
    assert list(found) == ["layer", "layer[1]"]
    assert torch.equal(found["layer[1]"], net(x))


def test_measured_in_evaluation_mode_and_left_as_it_was():
    net = nn.Sequential(nn.Dropout(0.999), nn.BatchNorm1d(4), nn.Linear(4, 4))
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    first = layer_outputs(net, torch.ones(3, 4), layers="weights")["2"]
    assert torch.equal(layer_outputs(net, torch.ones(3, 4), layers="weights")["2"], first)
    with pytest.raises(ValueError, match="expected"):
        layer_outputs(net, torch.ones(4), layers="weights")
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in net] == [True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.idle = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        return self.used(x)


@pytest.mark.parametrize(
    ("model", "layers", "message"),
    [
        (nn.ReLU(), "weights", "layer_outputs: the model must have modules of the kind 'weights', got ReLU without"),
        (Idle(), "activations", "the model must have modules of the kind 'activations', got Idle without"),
        (Idle(), "used", r"layers must be activations, weights or a list of names, got 'used'; try \['used'\]"),
        (nn.Sequential(nn.Linear(2, 2)), ["head"], "layers must be names of modules, got 'head'; try some of"),
        (nn.Sequential(nn.Linear(2, 2)), [], "layers must be names of modules, got 'none'"),
        (Idle(), "weights", "every layer must be called when the model runs, got 'idle', which is not"),
    ],
)
def test_wrong_inputs(model, layers, message):
    with pytest.raises(ValueError, match=message):
        layer_outputs(model, torch.ones(1, 2), layers=layers)


def test_the_synapses_of_a_sparse_convolution_are_no_layer_of_their_own():
    layer = SparseConv2d(ErdosRenyi(0.5).wire(18, 4, generator=stream(0)), 2, 3)
    x = torch.ones(2, 2, 6, 6)
    (name, found), = layer_outputs(nn.Sequential(layer, nn.ReLU()), x, layers="weights").items()  # fmt: skip
    assert name == "0"
    assert torch.equal(found, layer(x))
