"""Top-KAST against a dense twin that follows the paper's equations; what waits outside, what is stored, and errors."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from neuropil.connect import Dense, Ensembles, ErdosRenyi, SparseLinear, Wiring, sparsify
from neuropil.data import load
from neuropil.models import ensemble_net
from neuropil.randomness import stream
from neuropil.rewire import TopKast, set_, static, top_kast
from neuropil.train.checkpoint import load_checkpoint, save_checkpoint

BLOCKS = [(1, 1), (4, 1), (1, 2), (3, 2)]


def sgd(model, **settings):
    return torch.optim.SGD(model.parameters(), **{"lr": 0.3, **settings})


def single(block=(1, 1), *, density=1.0, in_features=10, out_features=12, dtype=torch.float64, kernel="auto", seed=0):
    """A layer of a random wiring; where it is dense, blocks may reach past the neurons."""
    if density == 1.0:
        grid = -(-out_features // block[0]), -(-in_features // block[1])
        rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
        wiring = Wiring(in_features, out_features, rows, columns, block=block)
    else:
        pattern = ErdosRenyi(density, exact=True, block=block)
        wiring = pattern.wire(in_features, out_features, generator=stream(seed, "wiring"))
    return SparseLinear(wiring, generator=stream(seed, "weights"), dtype=dtype, kernel=kernel)


def spread(layer, blocks):
    """Lay one value a cell of the grid out over the neurons, ``[out, in]``; neurons keep their order."""
    rows, columns = layer.wiring.block
    grid = torch.as_tensor(blocks).reshape(layer.wiring.grid)
    dense = grid.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    return dense[: layer.out_features, : layer.in_features]


class Twin:
    """Top-KAST on a dense matrix, as the paper writes it: nothing is stored sparsely, nothing is ever moved."""

    def __init__(self, layer, tools, *, density, backward_density, penalty, lr, momentum, decay):
        self.theta = layer.dense_weight().detach().clone()
        self.bias = layer.bias.detach().clone()
        self.buffers = [torch.zeros_like(self.theta), torch.zeros_like(self.bias)]
        self.layer, self.tools = copy.deepcopy(layer), tools
        self.density, self.backward_density, self.penalty = density, backward_density, penalty
        self.lr, self.momentum, self.decay = lr, momentum, decay
        self.choose()

    def choose(self):
        score = self.tools.by_block(self.layer.wiring, self.theta.abs()).ravel()
        order = np.argsort(-score, kind="stable")
        masks = []
        for density in (self.density, self.backward_density):
            chosen = np.zeros(len(score), dtype=bool)
            chosen[order[: round(density * len(score))]] = True
            masks.append(spread(self.layer, chosen))
        self.sends, self.live = masks
        self.buffers[0] *= self.live

    def norms(self, theta):
        silent = self.live & ~self.sends
        return theta[self.sends].norm() + theta[silent].norm() / self.density

    def step(self, x, y):
        sent = (self.theta * self.sends).requires_grad_()
        bias, theta = self.bias.clone().requires_grad_(), self.theta.clone().requires_grad_()
        loss = F.mse_loss(F.linear(x, sent, bias).tanh(), y)
        loss.backward()
        (self.penalty * self.norms(theta)).backward()
        gradients = [(sent.grad + theta.grad + self.decay * self.theta) * self.live, bias.grad + self.decay * self.bias]
        for value, gradient, buffer in zip((self.theta, self.bias), gradients, self.buffers, strict=True):
            buffer.mul_(self.momentum).add_(gradient)
            value -= self.lr * buffer
        return loss.detach()


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize(
    ("block", "kernel"), [((1, 1), "masked"), *((b, k) for b in BLOCKS[1:] for k in ("masked", "blocks"))]
)
def test_trains_like_the_dense_twin(block, kernel, every, tools, generator):
    layer = single(block, kernel=kernel, in_features=9, out_features=11)
    settings = {"density": 0.25, "backward_density": 0.5, "penalty": 0.02}
    twin = Twin(layer, tools, **settings, lr=0.3, momentum=0.9, decay=0.01)
    optimizer = sgd(layer, momentum=0.9, weight_decay=0.01)
    rewirer = TopKast(layer, optimizer, every=every, **settings)
    moved = 0
    for step in range(1, 25):
        x, y = torch.randn(8, 9, generator=generator, dtype=torch.float64), torch.rand(8, 11, generator=generator)
        loss = F.mse_loss(layer(x).tanh(), y.double())
        optimizer.zero_grad()
        (loss + rewirer.penalty()).backward()
        optimizer.step()
        assert abs(float(loss.detach() - twin.step(x, y.double()))) < 1e-10
        moved += sum(event.came for event in rewirer.step())
        if step % every == 0:
            twin.choose()
        assert torch.equal(layer.wiring.mask(), twin.live)
        torch.testing.assert_close(layer.dense_weight(), twin.theta * twin.sends, rtol=0, atol=1e-10)
        torch.testing.assert_close(tools.laid_out(layer, layer.weight), twin.theta * twin.live, rtol=0, atol=1e-10)
        torch.testing.assert_close(rewirer.penalty().detach(), 0.02 * twin.norms(twin.theta), rtol=0, atol=1e-10)
    assert moved > 5  # B was not the same all the time


def test_what_leaves_comes_back_with_its_value_and_without_momentum(tools):
    for block in BLOCKS:
        layer = single(block)
        optimizer = torch.optim.Adam(layer.parameters(), weight_decay=0.1)
        rewirer = TopKast(layer, optimizer, density=0.25, backward_density=0.5, every=1)
        layer(torch.ones(2, 10, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
        before, first = tools.laid_out(layer, layer.weight), layer.wiring
        with torch.no_grad():  # all that is live shrinks below what waits
            layer.weight.mul_(1e-3)
        rewirer.step()
        second = layer.wiring
        assert not (second.mask() & first.mask()).any()
        assert not tools.laid_out(layer, optimizer.state[layer.weight]["exp_avg"]).any()
        with torch.no_grad():  # and again, below what now waits
            layer.weight.mul_(1e-6)
        optimizer.zero_grad()
        rewirer.step()
        assert layer.wiring == first
        torch.testing.assert_close(tools.laid_out(layer, layer.weight), before * 1e-3, rtol=1e-12, atol=0)
        assert not tools.laid_out(layer, optimizer.state[layer.weight]["exp_avg_sq"]).any()
        tools.assert_sound(unsilenced(layer))


def unsilenced(layer):
    layer = copy.deepcopy(layer)
    layer.set_silent(None)
    return layer


@given(
    st.integers(1, 12), st.integers(1, 12), st.sampled_from([(1, 1), (2, 1), (3, 2)]),
    st.floats(0.05, 1), st.floats(0, 1), st.booleans(),
)  # fmt: skip
def test_counts_are_exact(in_features, out_features, block, share, density, ties):
    layer = single(block, in_features=in_features, out_features=out_features)
    if ties:
        nn.init.constant_(layer.weight, 0.5)
        layer.clear_dead_weights()
    n_cells = layer.wiring.n_blocks
    density *= share
    if round(density * n_cells) < 1:
        with pytest.raises(ValueError, match="must lie in|must leave every layer a block"):
            TopKast(layer, sgd(layer), density=density, backward_density=share)
        return
    rewirer = TopKast(layer, sgd(layer), density=density, backward_density=share, every=1)
    for step in range(3):
        layer(torch.full((2, in_features), 1.0 + step, dtype=torch.float64)).square().sum().backward()
        rewirer.step()
        assert layer.wiring.n_blocks == round(share * n_cells)
        silent = 0 if layer.silent is None else int(layer.silent.sum())
        assert layer.wiring.n_blocks - silent == round(density * n_cells)


def test_ties_are_broken_by_chance_from_the_generator():
    def chosen(seed):
        layer = single()
        nn.init.constant_(layer.weight, 1.0)
        TopKast(layer, sgd(layer), density=0.2, backward_density=0.4, generator=torch.Generator().manual_seed(seed))
        return layer

    state = torch.get_rng_state()
    assert chosen(1).wiring == chosen(1).wiring
    assert torch.equal(chosen(1).silent, chosen(1).silent)
    assert chosen(1).wiring != chosen(2).wiring
    assert torch.equal(torch.get_rng_state(), state)


def test_a_sparse_start_is_the_pool(tools):
    layer = single(density=0.5, in_features=20, out_features=20)
    pool = layer.wiring.mask()
    rewirer = TopKast(layer, sgd(layer), density=0.1, backward_density=0.2, every=1)
    for i in range(5):
        with torch.no_grad():
            layer.weight.mul_(0.5)
        event = rewirer.step()[0]
        assert not (layer.wiring.mask() & ~pool).any()
        assert (event.n_blocks, event.density, event.step) == (80, 0.1, i + 1)
    assert 0.2 < event.explored <= 0.5


def test_events_say_what_transmits():
    layer = single((4, 1), in_features=8, out_features=8)  # a grid of 2 × 8
    with torch.no_grad():
        layer.weight.fill_(0.1)
        layer.weight[:3] = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64).reshape(3, 1, 1)
    rewirer = TopKast(layer, sgd(layer), density=2 / 16, backward_density=3 / 16, every=2)
    assert layer.silent.tolist() == [False, False, True]
    with torch.no_grad():
        layer.weight[0] = 0.01  # leaves B
        layer.weight[1] = 0.5  # still second
    assert rewirer.step() == []
    event = rewirer.step()[0]
    assert (event.step, event.dropped, event.went, event.came, event.n_blocks) == (2, 1, 1, 1, 3)
    assert event.density == 2 / 16
    assert event.neurons_without_input == 4  # the second row hears nobody, though one of its blocks may be live
    assert rewirer.history == [event]
    assert rewirer.summary() == {"events": 1, "replaced": 1 / 3, "explored": 4 / 16, "modularity": None}


def test_nothing_is_chosen_after_the_last_step():
    layer = single()
    rewirer = TopKast(layer, sgd(layer), density=0.2, backward_density=0.4, every=2)
    rewirer.set_length(epochs=2, steps_per_epoch=3)
    assert [len(rewirer.step()) for _ in range(8)] == [0, 1, 0, 1, 0, 0, 0, 0]
    with pytest.raises(
        ValueError, match="TopKast.set_length: epochs and steps_per_epoch must be at least 1, got 1 and 0"
    ):
        rewirer.set_length(epochs=1, steps_per_epoch=0)


def test_no_penalty_costs_no_gradient():
    layer = single()
    rewirer = TopKast(layer, sgd(layer), density=0.2, backward_density=0.4, penalty=0)
    assert float(rewirer.penalty()) == 0
    equal = single()
    rewirer = TopKast(equal, sgd(equal), density=0.3, backward_density=0.3, penalty=1.0)
    assert equal.silent is None
    rewirer.penalty().backward()
    gradient = equal.weight.grad
    torch.testing.assert_close(gradient, equal.weight.detach() / equal.weight.detach().norm())


def model_of(seed=0, **settings):
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    patterns = {"0": ErdosRenyi(1.0), "2": Ensembles(n_groups=4, p_inter=0.8, block=("group", 1), exact=True)}
    model = sparsify(model, patterns, generator=stream(seed, "model"))
    with torch.no_grad():
        for i, parameter in enumerate(model[4].parameters()):
            parameter.copy_(torch.rand(parameter.shape, generator=stream(seed, "head", i)) - 0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05, weight_decay=0.01)
    return model, optimizer, TopKast(model, optimizer, density=0.2, backward_density=0.4, every=2, **settings)


def learn(model, optimizer, rewirer, first, n):
    for i in range(first, first + n):
        x, y = torch.rand(7, 12, generator=stream(i, "x")), torch.randint(3, (7,), generator=stream(i, "y"))
        optimizer.zero_grad()
        (F.cross_entropy(model(x), y) + rewirer.penalty()).backward()
        optimizer.step()
        rewirer.step()


def assert_same(one, other):
    for state, twin in zip(
        (part.state_dict() for part in one[::2]), (part.state_dict() for part in other[::2]), strict=True
    ):
        assert state.keys() == twin.keys()
        for key, value in state.items():
            assert torch.equal(value, twin[key]) if isinstance(value, torch.Tensor) else value == twin[key], key


@pytest.mark.parametrize("done", [0, 3, 4])
def test_resume_is_exact(done, tmp_path):
    through = model_of(penalty=0.01)
    learn(*through, 0, done + 9)
    before = model_of(penalty=0.01)
    learn(*before, 0, done)
    path = tmp_path / "checkpoint.safetensors"
    model, optimizer, rewirer = before
    save_checkpoint(path, epoch=1, model=model, optimizer=optimizer, scheduler=None, rewirer=rewirer)
    after = model_of(seed=1, penalty=0.01, generator=torch.Generator().manual_seed(8))
    learn(*after, 50, 5)
    model, optimizer, rewirer = after
    load_checkpoint(path, model=model, optimizer=optimizer, scheduler=None, rewirer=rewirer)
    assert_same(before, after)
    learn(*after, done, 9)
    assert_same(through, after)


def test_made_after_loading_the_model_still_knows_what_waits():
    through = model_of()
    learn(*through, 0, 3)
    kept = copy.deepcopy([part.state_dict() for part in through])
    learn(*through, 3, 6)
    model, optimizer, _ = model_of(seed=1)
    model.load_state_dict(kept[0])
    rewirer = TopKast(model, optimizer, density=0.2, backward_density=0.4, every=2)
    optimizer.load_state_dict(kept[1])
    rewirer.load_state_dict(kept[2])
    learn(model, optimizer, rewirer, 3, 6)
    assert_same(through, (model, optimizer, rewirer))


def test_state_of_others_is_refused():
    state = model_of()[2].state_dict()
    other = model_of(seed=1)
    with pytest.raises(
        ValueError,
        match="TopKast: a stored state must be of the wiring that layer '0' has, got another; load the model's own state first",
    ):
        other[2].load_state_dict(state)
    layer = single()
    with pytest.raises(ValueError, match="TopKast: a stored state must be of layer '' and its size, got another"):
        TopKast(layer, sgd(layer), density=0.2, backward_density=0.4).load_state_dict(state)


def test_follows_a_change_of_type():
    layer = single(dtype=torch.float32)
    rewirer = TopKast(layer, sgd(layer), density=0.2, backward_density=0.4, every=1)
    layer.double()
    with torch.no_grad():
        layer.weight.mul_(1e-3)
    assert rewirer.step()[0].came > 0
    assert layer(torch.ones(1, 10, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_learns_digits(seed):
    """Measured: 96 to 97.5 % at density 0.1 after 40 epochs; here after 8."""
    digits = load("digits")
    model = ensemble_net(digits.input_shape, 10, hidden=[128, 128], pattern=ErdosRenyi(1.0), seed=seed)
    optimizer = sgd(model, lr=0.05, momentum=0.9)
    rewirer = top_kast(0.1, every=15).attach(model, optimizer, generator=stream(seed, "rewiring"))
    rewirer.set_length(epochs=8, steps_per_epoch=34)
    for epoch in range(8):
        for images, labels in digits.batches(digits.train, 32, generator=stream(seed, "order", epoch)):
            optimizer.zero_grad()
            (F.cross_entropy(model(images), labels) + rewirer.penalty()).backward()
            optimizer.step()
            rewirer.step()
    with torch.no_grad():
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in digits.batches(digits.test, 1000))
    assert right / len(digits.test) > 0.92
    assert all(
        math.isclose(layer.n_transmitting / layer.weight.numel(), 0.1, rel_tol=0.01) for layer in model.sparse_layers()
    )


def test_preset():
    assert top_kast(0.1).backward_density == 0.2
    assert top_kast(0.7).backward_density == 1.0
    assert not top_kast(0.1).keeps_density
    assert top_kast(0.1).final_density(1.0) == 0.1
    layer, skipped = single(), single()
    model = nn.ModuleList([layer, skipped])
    rewirer = top_kast(0.1, backward_density=0.5, every=3).attach(model, sgd(model), skip=["1"])
    assert list(rewirer.layers) == ["0"]
    assert (layer.wiring.n_blocks, skipped.wiring.n_blocks) == (60, 120)
    for other in (static(), set_()):  # the protocol is that of the others
        attached = other.attach(model, sgd(model))
        names = {name for name in dir(attached) if not name.startswith("_")} - {"gather"}  # it reads no activity
        assert names <= {name for name in dir(rewirer) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"density": 0.0}, "TopKast: density and backward_density must lie in .0, 1., the first one no larger, got 0 and 0.2"),
        ({"density": 0.3}, "the first one no larger, got 0.3 and 0.2"),
        ({"backward_density": 1.1}, "got 0.1 and 1.1"),
        ({"density": float("nan")}, "got nan and 0.2"),
        ({"every": 0}, "TopKast: every must be at least 1 step, got 0"),
        ({"penalty": -1.0}, "TopKast: penalty must be at least 0, got -1"),
        ({"skip": ["x"]}, "TopKast: skip must name sparse layers of the model, got 'x'; it has 0"),
        ({"skip": ["0"]}, "TopKast: the model must have sparse layers, got only skipped ones"),
    ],
)  # fmt: skip
def test_settings_out_of_range(settings, message):
    model = nn.Sequential(single())
    with pytest.raises(ValueError, match=message):
        TopKast(model, sgd(model), **{"density": 0.1, "backward_density": 0.2, **settings})
    if "skip" not in settings:
        with pytest.raises(ValueError, match=message):
            top_kast(**{"density": 0.1, "backward_density": 0.2, **settings})


def test_models_that_do_not_fit():
    settings = {"density": 0.1, "backward_density": 0.2}
    dense = nn.Linear(3, 3)
    with pytest.raises(
        ValueError,
        match=r"TopKast: the model must have sparse layers, got none; try neuropil.connect.sparsify\(model, pattern\)",
    ):
        TopKast(dense, sgd(dense), **settings)
    layer = single()
    with pytest.raises(
        ValueError, match="TopKast: the optimizer must hold the weights of every sparse layer, got one without '0'"
    ):
        TopKast(nn.Sequential(layer), torch.optim.SGD([layer.bias]), **settings)
    layer = single(density=0.1)
    with pytest.raises(
        ValueError,
        match=r"TopKast: every layer must be built with the 24 blocks that backward_density=0.2 asks for, got 12 in '0'; try wiring it by ErdosRenyi\(1.0\)",
    ):
        TopKast(nn.Sequential(layer), sgd(layer), **settings)
    layer = SparseLinear(Dense().wire(8, 8))
    with pytest.raises(
        ValueError,
        match="TopKast: density=0.1 must leave every layer a block, got none of the 1 possible ones in '0'; try smaller blocks",
    ):
        TopKast(nn.Sequential(layer), sgd(layer), **settings)
