"""Optimizers of all kinds go on after events, and what they keep of a weight goes with it."""

import gc

import pytest
import torch
from torch import nn

from neuropil.connect import Ensembles
from neuropil.rewire import Cubic, Gradient, Magnitude, Random, Rewirer, Schedule


class Heavy(torch.optim.Optimizer):
    """Momentum by hand: state like the parameter, of the parameter's gradient itself, scalar, and no tensor at all."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["velocity"] = torch.zeros_like(parameter)
                    state["scale"] = torch.tensor(1.0)
                    state["count"], state["nothing"] = 0, None
                state["velocity"].mul_(0.9).add_(parameter.grad)
                state["scale"] *= 0.999
                state["count"] += 1
                parameter.sub_(group["lr"] * state["scale"] * state["velocity"])


OPTIMIZERS = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.2),
    "momentum": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "nesterov": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9, nesterov=True, foreach=True),
    "adam": lambda params: torch.optim.Adam(params, lr=0.02, weight_decay=1e-3),
    "amsgrad": lambda params: torch.optim.Adam(params, lr=0.02, amsgrad=True),
    "fused": lambda params: torch.optim.Adam(params, lr=0.02, fused=True),
    "foreach": lambda params: torch.optim.Adam(params, lr=0.02, foreach=True),
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.02, weight_decay=0.1),
    "rmsprop": lambda params: torch.optim.RMSprop(params, lr=0.005, momentum=0.5, centered=True),
    "adagrad": lambda params: torch.optim.Adagrad(params, lr=0.1),
    "rprop": lambda params: torch.optim.Rprop(params, lr=0.005),
    "custom": lambda params: Heavy(params, lr=0.03),
}
BLOCKS = [(1, 1), ("group", 1), (2, 2)]


def prepare(tools, make_optimizer, block, schedule, *, grow, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pattern = Ensembles(n_groups=4, p_intra=0.8, p_inter=0.3, block=block, grouping="interleaved", exact=True)
    model = tools.Net([pattern.wire(16, 24, generator=generator)], seed=seed)
    optimizer = make_optimizer(model.parameters())
    rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=grow, schedule=schedule)
    rewirer.set_length(epochs=1, steps_per_epoch=40)
    # three classes that can be told apart
    means = torch.randn(3, 16, generator=generator)
    labels = torch.randint(3, (32,), generator=generator)
    return model, optimizer, rewirer, (means[labels] + 0.5 * torch.randn(32, 16, generator=generator), labels)


def train(model, optimizer, rewirer, data, *, n_steps=40, check=None):
    losses = []
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(data[0]), data[1])
        loss.backward()
        optimizer.step()
        if check:
            check()
        else:
            rewirer.step()
        losses.append(loss)  # keeps the graph of every step alive, with the weights' old shape
        model.seen.clear()
    return losses


def shaped_like_weights(optimizer, weight):
    return {key: value for key, value in optimizer.state[weight].items()
            if isinstance(value, torch.Tensor) and value.shape == weight.shape}  # fmt: skip


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on(tools, name, block):
    schedule = Schedule(every=4, fraction=0.3, until=0.75)
    model, optimizer, rewirer, data = prepare(tools, OPTIMIZERS[name], block, schedule, grow=Gradient())
    layer = model.layers[0]
    n_state = []

    def check():
        state = {
            key: tools.laid_out(layer, value) for key, value in shaped_like_weights(optimizer, layer.weight).items()
        }
        others = {key: value for key, value in optimizer.state[layer.weight].items() if key not in state}
        weight, before = tools.laid_out(layer, layer.weight), layer.wiring
        events = rewirer.step()
        if not events:
            return
        kept = before.mask() & layer.wiring.mask()
        assert torch.equal(tools.laid_out(layer, layer.weight), weight * kept)
        now = shaped_like_weights(optimizer, layer.weight)
        assert now.keys() == state.keys()
        n_state.append(len(now))
        for key, value in state.items():  # Rprop keeps step sizes where nothing is connected, too
            assert torch.equal(tools.laid_out(layer, now[key]) * layer.wiring.mask(), value * kept), key
        for key, value in others.items():
            assert optimizer.state[layer.weight][key] is value, key

    losses = train(model, optimizer, rewirer, data, check=check)
    assert losses[-1] < 0.5 * losses[0]
    assert sum(event.came for event in rewirer.history) > 0
    expected = {"sgd": 0, "momentum": 1, "nesterov": 1, "amsgrad": 3, "rmsprop": 3, "adagrad": 1, "custom": 1}
    assert set(n_state) == {expected.get(name, 2)}
    tools.assert_sound(layer)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "fused", "rmsprop", "custom"])
def test_gradual_pruning(tools, name, block):
    """The parameter is the same object throughout, of another length for blocks; older graphs are kept alive."""
    schedule = Schedule(every=4, fraction=0.2, density=Cubic(to=0.1, until=0.6))
    model, optimizer, rewirer, data = prepare(tools, OPTIMIZERS[name], block, schedule, grow=Random())
    weight, n_first = model.layers[0].weight, model.layers[0].wiring.n_blocks
    losses = train(model, optimizer, rewirer, data)
    layer = model.layers[0]
    assert layer.weight is weight
    assert any(parameter is weight for parameter in optimizer.param_groups[0]["params"])
    assert any(parameter is weight for parameter in model.parameters())
    assert weight.is_leaf
    assert weight.requires_grad
    assert weight.grad.shape == weight.shape
    assert layer.wiring.n_blocks == round(0.1 * layer.wiring.grid[0] * layer.wiring.grid[1]) < n_first
    if block != (1, 1):
        assert len(weight) == layer.wiring.n_blocks
    assert len(shaped_like_weights(optimizer, weight)) == len(
        [value for value in optimizer.state[weight].values() if isinstance(value, torch.Tensor) and value.dim()]
    )
    assert losses[-1] < 0.7 * losses[0]
    del losses
    gc.collect()
    losses = train(model, optimizer, rewirer, data, n_steps=1)
    assert torch.isfinite(losses[0])


def test_training_equals_that_of_the_dense_twin(tools):
    """Masked weights, gradients and moments by hand, and the wirings of the rewirer: the same weights after each step."""
    schedule = Schedule(every=3, fraction=0.3)
    for block in BLOCKS:
        make = lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9)  # noqa: E731
        model, optimizer, rewirer, data = prepare(tools, make, block, schedule, grow=Random())
        layer = model.layers[0]
        weight, velocity = layer.dense_weight().detach().clone(), torch.zeros(layer.wiring.shape)
        for _ in range(12):
            mask = layer.wiring.mask()
            product = (weight * mask).requires_grad_()
            hidden = nn.functional.linear(data[0], product, layer.bias.detach()).relu()
            head = (model.head.weight.detach(), model.head.bias.detach())
            nn.functional.cross_entropy(nn.functional.linear(hidden, *head), data[1]).backward()
            velocity = 0.9 * velocity + product.grad * mask
            weight = weight - 0.1 * velocity
            train(model, optimizer, rewirer, data, n_steps=1)
            kept = mask & layer.wiring.mask()
            weight, velocity = weight * kept, velocity * kept
            torch.testing.assert_close(layer.dense_weight().detach(), weight, rtol=1e-4, atol=1e-6)


def test_an_event_before_the_first_step_of_the_optimizer(tools):
    """There is no state yet."""
    schedule = Schedule(every=1, fraction=0.3)
    model, optimizer, rewirer, data = prepare(tools, torch.optim.Adam, (1, 1), schedule, grow=Random())
    rewirer.step()
    assert not optimizer.state
    train(model, optimizer, rewirer, data, n_steps=2)


def test_a_gradient_that_the_optimizer_keeps(tools):
    """State that is the parameter's gradient itself is carried once, not twice."""
    for block in BLOCKS:
        model, optimizer, rewirer, data = prepare(
            tools, lambda params: torch.optim.SGD(params, lr=0.1), block, Schedule(every=1, fraction=0.5), grow=Random()
        )
        layer = model.layers[0]
        nn.functional.cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()
        optimizer.state[layer.weight]["previous"] = layer.weight.grad
        gradient, before = tools.laid_out(layer, layer.weight.grad), layer.wiring
        rewirer.step()
        kept = before.mask() & layer.wiring.mask()
        assert torch.equal(tools.laid_out(layer, layer.weight.grad), gradient * kept)
        assert torch.equal(tools.laid_out(layer, optimizer.state[layer.weight]["previous"]), gradient * kept)
