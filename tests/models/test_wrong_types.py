"""Things of the wrong kind are named before anything is built of them."""

import pytest
import torch
from torch import nn

from neuropil.models import SpikingEnsembleNet, ensemble_net, spiking_ensemble_net, twins
from neuropil.units import LIF, ATan, Izhikevich, detached
from neuropil.units.encode import RateEncoder

SHAPE = (1, 4, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spiking_ensemble_net(SHAPE, 3, hidden=[8], encoding=RateEncoder), "encoding must be a name or a module, got the class RateEncoder"),
        (lambda: spiking_ensemble_net(SHAPE, 3, hidden=[8], neurons=3), "neurons must be a name or what makes neurons, got 3"),
        (lambda: spiking_ensemble_net(SHAPE, 3, hidden=[8], neurons=nn.ReLU), "neurons must make a Unit, got what makes a ReLU"),
        (lambda: spiking_ensemble_net(SHAPE, 3, hidden=8), "hidden must list a width for each hidden layer, got 8"),
        (lambda: ensemble_net(SHAPE, 3, hidden=[8], pattern="mixer"), "pattern must be a Pattern or one for each layer, got 'mixer'"),
        (lambda: twins(nn.Sequential()), "twins: net must be an EnsembleNet or a SpikingEnsembleNet, got Sequential"),
        (lambda: LIF(surrogate="atan"), "LIF: surrogate must be a Surrogate, got 'atan'; try units.ATan()"),
        (lambda: Izhikevich(surrogate=ATan), "Izhikevich: surrogate must be a Surrogate, got the class ATan"),
        (lambda: LIF(decay="x"), "LIF: decay must be a number or a tensor of one for each neuron, got 'x'"),
        (lambda: LIF(None), "LIF: decay must be a number or a tensor of one for each neuron, got None"),
        (lambda: LIF()([[0.0]]), "LIF: current must be a tensor, got list"),
        (lambda: LIF()(torch.zeros(2, 1, 1), torch.zeros(1, 1)), "LIF: state must be what an earlier call of such neurons has returned, a LIFState, got Tensor"),
    ],
)  # fmt: skip
def test_types(make, message):
    with pytest.raises(TypeError) as raised:
        make()
    assert message in str(raised.value)


@pytest.mark.parametrize("scale", [0.0, float("nan"), -1.0])
def test_scales(scale):
    with pytest.raises(ValueError, match="scale must be finite and above 0"):
        spiking_ensemble_net(SHAPE, 3, hidden=[8], encoding="current", scale=scale)


def test_a_threshold_without_end():
    with pytest.raises(ValueError, match="^LIF: threshold must be finite, got inf$"):
        LIF(threshold=float("inf"))


def test_learn_that_is_no_list():
    with pytest.raises(ValueError, match="^LIF: learn must list some of decay, threshold, got True$"):
        LIF(learn=True)


def test_images_of_another_size():
    net = spiking_ensemble_net(SHAPE, 3, hidden=[8], steps=2)
    assert isinstance(net, SpikingEnsembleNet)
    with pytest.raises(ValueError, match=r"images must have the shape \[b, 1, 4, 4\], got \[2, 1, 9, 9\]"):
        net(torch.zeros(2, 1, 9, 9))


def test_detached_state_ends_the_graph():
    neurons = LIF(learn=["decay"])
    _, state = neurons(torch.ones(3, 1, 2))
    assert state.potential.requires_grad
    kept = detached(state)
    assert type(kept) is type(state)
    assert not kept.potential.requires_grad
    assert torch.equal(kept.potential, state.potential)
    assert detached(tuple(state))[0].requires_grad is False
