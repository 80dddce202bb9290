"""What is recorded, of which passes, and that nothing is in the way otherwise."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from neuropil.connect import ErdosRenyi, SparseLinear
from neuropil.rewire import (
    Cubic,
    Gradient,
    Hebbian,
    Magnitude,
    MagnitudeAndGradient,
    Momentum,
    Random,
    Rewirer,
    Rule,
    Schedule,
    Sensitivity,
    SignedMagnitude,
)
from neuropil.rewire.scores import hebbian_correlation


class Look(Rule):
    """Prunes like Magnitude; keeps the scores that another rule gives to all cells of each layer in each event."""

    can_prune = True

    def __init__(self, rule):
        self.rule, self.needs, self.window = rule, rule.needs, rule.window
        self.scores = {}

    def drop(self, site, n, eligible):
        self.scores.setdefault(site.name, []).append(self.rule.grid(site)(slice(0, site.wiring.grid[0])).copy())
        return Magnitude().drop(site, n, eligible)


def sparse(n_in=6, n_out=5, *, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return SparseLinear(
        ErdosRenyi(0.5, exact=True).wire(n_in, n_out, generator=generator), generator=generator, dtype=dtype
    )


def looking(model, rule, *, every=1, **settings):
    """A rewirer whose prune rule keeps scores, and an optimizer that leaves the weights alone."""
    look = Look(rule)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    return look, Rewirer(
        model, optimizer, prune=look, grow=Random(), schedule=Schedule(every=every, fraction=0.1), **settings
    )


def assert_scores(look, expected, name="0"):
    np.testing.assert_allclose(look.scores[name][-1], expected.detach().float().numpy(), rtol=1e-4, atol=1e-5)


def correlation(pre, post):
    return hebbian_correlation(*(side.detach().flatten(0, -2) for side in (pre, post)))


def n_hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


# Hooks


@pytest.mark.parametrize(
    ("prune", "grow", "window"),
    [
        (Magnitude(), Random(), 0),
        (SignedMagnitude(), Random(), 0),
        (MagnitudeAndGradient(), Random(), 0),
        (Sensitivity(), Random(), 0),
        (Magnitude(), Gradient(), 1),
        (Magnitude(), Hebbian(), 1),
        (Hebbian(), Random(), 1),
        (Magnitude(), Hebbian(window=3), 3),
        (Hebbian(window=2), Momentum(window=4), 4),
        (Magnitude(), Momentum(window=50), 50),
    ],
)
def test_hooks_are_there_only_when_needed(tools, prune, grow, window):
    model = tools.Net(
        [ErdosRenyi(0.5, exact=True).wire(6, n, generator=torch.Generator().manual_seed(0)) for n in (6, 5)]
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    rewirer = Rewirer(model, optimizer, prune=prune, grow=grow, schedule=Schedule(every=5, until=0.5))
    assert n_hooks(model) == 0
    rewirer.set_length(epochs=1, steps_per_epoch=24)  # events after the steps 5 and 10
    generator = torch.Generator().manual_seed(0)
    with_hooks = []
    for step in range(1, 25):
        if n_hooks(model):
            with_hooks.append(step)
            assert model.layers[0]._forward_hooks
            assert model.layers[1]._forward_hooks
        tools.learn(model, optimizer, generator)
        assert all(not layer._backward_hooks for layer in model.layers)
        rewirer.step()
    assert with_hooks == [step for step in range(1, 11) if any(event - window < step <= event for event in (5, 10))]
    assert len(rewirer.history) == 4


def test_other_hooks_stay(tools):
    model = tools.Net([ErdosRenyi(0.5, exact=True).wire(6, 6, generator=torch.Generator().manual_seed(0))])
    calls = []
    model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    rewirer = Rewirer(model, optimizer, prune=Hebbian(), grow=Gradient(), schedule=Schedule(every=2))
    for _ in range(4):
        tools.learn(model, optimizer, torch.Generator().manual_seed(0))
        rewirer.step()
    assert len(calls) == 4
    assert n_hooks(model) == 1


def test_a_rewirer_that_is_made_late_records_the_next_step(tools):
    model = tools.Net([ErdosRenyi(0.5, exact=True).wire(6, 6, generator=torch.Generator().manual_seed(0))])
    Rewirer(
        model, torch.optim.SGD(model.parameters(), lr=0.01), prune=Hebbian(), grow=Random(), schedule=Schedule(every=1)
    )
    assert n_hooks(model) > 0


# Which passes


def events_of(tools, between):
    """Train for a few steps with something in between; return the wirings after each event."""
    model = tools.Net(
        [ErdosRenyi(0.5, exact=True).wire(6, n, generator=torch.Generator().manual_seed(0)) for n in (6, 5)]
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rewirer = Rewirer(model, optimizer, prune=Hebbian(), grow=Gradient(), schedule=Schedule(every=2, fraction=0.4))
    generator, other = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    found = []
    for _ in range(4):
        between(model, torch.randn(9, 6, generator=other))
        tools.learn(model, optimizer, generator)
        between(model, torch.randn(9, 6, generator=other))
        rewirer.step()
        found += [layer.wiring.cells().tolist() for layer in model.layers]
    return found


def evaluated(model, x):
    model.eval()
    with torch.no_grad():
        model(x)
    model.train()


def evaluated_with_gradients(model, x):
    """Such as saliency maps."""
    model.eval()
    torch.autograd.grad(model(x.requires_grad_()).sum(), x)
    model.train()


def passed_without_gradients(model, x):
    with torch.no_grad():
        model(x)
    with torch.inference_mode():
        model(x)


@pytest.mark.parametrize("between", [evaluated, evaluated_with_gradients, passed_without_gradients])
def test_only_training_is_recorded(tools, between):
    assert events_of(tools, between) == events_of(tools, lambda model, x: None)


def test_other_training_would_be_recorded(tools):
    """The test above can fail."""
    assert events_of(tools, lambda model, x: model(x).sum().backward()) != events_of(tools, lambda model, x: None)


def test_a_call_that_nothing_came_back_to_is_no_obstacle(tools):
    """A second forward pass in training, of which nothing is learnt, as with target networks or activation checkpoints."""
    assert events_of(tools, lambda model, x: model(x)) is not None


def test_activation_checkpoints(tools):
    """The forward pass that is taken again on the way back gets the gradient; the first one does not."""

    class Checkpointed(tools.Net):
        def forward(self, x):
            return checkpoint(super().forward, x, use_reentrant=False)

    wiring = ErdosRenyi(0.5, exact=True).wire(6, 6, generator=torch.Generator().manual_seed(0))
    found = []
    for kind in (tools.Net, Checkpointed):
        model = kind([wiring])
        look, rewirer = looking(model, Gradient())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        tools.learn(model, optimizer, torch.Generator().manual_seed(0))
        rewirer.step()
        found.append(look.scores["layers.0"][0])
    np.testing.assert_allclose(*found, rtol=1e-5)


@pytest.mark.parametrize("rule", [Gradient(), Hebbian(), Hebbian(centered=True), Momentum(window=1, decay=0.5)])
def test_gradients_that_accumulate(rule):
    """Two small batches make the scores of one large one, if the losses are sums."""
    x = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    scores = []
    for parts in ([x], [x[:3], x[3:]], [x[:1], x[1:9], x[9:]]):
        model = nn.Sequential(sparse(), nn.Tanh())
        look, rewirer = looking(model, rule)
        for part in parts:
            model(part).square().sum().backward()
        rewirer.step()
        scores.append(look.scores["0"][0])
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], rtol=1e-4, atol=1e-6)


def test_accumulation_may_go_on_in_one_pass():
    """All forward passes first, then all gradients."""
    x = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    scores = []
    for parts in ([x], [x[:3], x[3:]]):
        model = nn.Sequential(sparse(), nn.Tanh())
        look, rewirer = looking(model, Gradient())
        losses = [model(part).square().sum() for part in parts]
        for loss in reversed(losses):
            loss.backward()
        rewirer.step()
        scores.append(look.scores["0"][0])
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-4, atol=1e-6)


def test_two_losses_of_one_pass_add_up():
    """As .grad does: each way back adds to what is there."""
    model = nn.Sequential(sparse(), nn.Tanh())
    look, rewirer = looking(model, Gradient())
    x = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    y = model[0](x)
    y.retain_grad()
    hidden = model[1](y)
    hidden.square().sum().backward(retain_graph=True)
    hidden.sum().backward()
    rewirer.step()
    assert_scores(look, (y.grad.T @ x).abs())


def test_a_layer_that_is_called_twice():
    """Recurrent use: samples of both calls count, and the gradients add up."""
    layer = sparse(6, 6)
    model = nn.ModuleDict({"0": layer, "activation": nn.Tanh()})
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    for rule in (Gradient(), Hebbian()):
        look, rewirer = looking(model, rule)
        first = layer(x)
        hidden = model["activation"](first)
        second = layer(hidden)
        post = model["activation"](second)
        for y in (first, second):
            y.retain_grad()
        post.square().sum().backward()
        rewirer.step()
        if isinstance(rule, Gradient):
            expected = (first.grad.T @ x + second.grad.T @ hidden).abs()
        else:
            expected = hebbian_correlation(torch.cat([x, hidden]), torch.cat([hidden, post]))
        assert_scores(look, expected)


@pytest.mark.parametrize("rule", [Hebbian(window=3), Hebbian(centered=True, window=2), Gradient(), Momentum(0.8, 3)])
@pytest.mark.parametrize("every", [2, 5])
def test_windows_hold_the_latest_steps(rule, every):
    """The n latest steps before an event, those before the last event among them, and none that is older."""
    model = nn.Sequential(sparse(), nn.ReLU())
    look, rewirer = looking(model, rule, every=every)
    generator = torch.Generator().manual_seed(0)
    seen = []
    for step in range(1, 2 * every + 1):
        x = torch.randn(4, 6, generator=generator)
        y = model[0](x)
        y.retain_grad()
        post = model[1](y)
        post.square().sum().backward()
        seen.append((x, y.grad.clone(), post.detach()))
        rewirer.step()
        if step % every:
            continue
        latest = seen[-rule.window :]
        if isinstance(rule, Hebbian):
            pre, post = torch.cat([entry[0] for entry in latest]), torch.cat([entry[2] for entry in latest])
            expected = hebbian_correlation(pre, post, centered=rule.centered)
        elif isinstance(rule, Gradient):
            expected = (latest[-1][1].T @ latest[-1][0]).abs()
        else:
            momentum = torch.zeros(5, 6)
            for x, gradient, _ in latest:
                momentum = rule.decay * momentum + (1 - rule.decay) * gradient.T @ x
            expected = momentum.abs()
        assert_scores(look, expected)


# Whose activity


@pytest.mark.parametrize(
    "following",
    [
        [nn.ReLU()],
        [nn.ReLU(inplace=True)],
        [nn.BatchNorm1d(5), nn.ReLU()],
        [nn.BatchNorm1d(5), nn.ReLU(inplace=True)],
        [nn.LayerNorm(5), nn.GELU()],
        [nn.RMSNorm(5), nn.Identity(), nn.Tanh()],
        [nn.Dropout(0.0), nn.Sigmoid()],
        [nn.GroupNorm(1, 5), nn.Dropout(0.5), nn.Softplus()],
        [nn.Sequential(nn.LayerNorm(5), nn.Sequential(nn.ReLU()))],
        [nn.PReLU()],
        [nn.Softmax(-1)],
    ],
)
def test_activity_is_found_behind_normalization(following):
    model = nn.Sequential(sparse(), *following, nn.Linear(5, 3))
    look, rewirer = looking(model, Hebbian())
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    posts = []
    model[-1].register_forward_pre_hook(lambda module, inputs: posts.append(inputs[0].detach().clone()))
    model(x).sum().backward()
    rewirer.step()
    assert_scores(look, correlation(x, posts[0]))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(sparse()),
        nn.Sequential(sparse(), nn.Linear(5, 3), nn.ReLU()),
        nn.Sequential(sparse(), nn.Unflatten(1, (5, 1)), nn.Flatten(), nn.Linear(5, 2)),
        nn.Sequential(sparse(), sparse(5, 4), nn.ReLU()),
        nn.Sequential(sparse(), nn.Unflatten(1, (1, 5)), nn.MaxPool1d(5)),
    ],
)
def test_the_output_itself_where_no_activation_takes_it(model):
    look, rewirer = looking(model, Hebbian())
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    post = nn.functional.linear(x, model[0].dense_weight(), model[0].bias)
    model(x).sum().backward()
    rewirer.step()
    assert_scores(look, correlation(x, post))


class Functional(nn.Module):
    """A model whose activation is no module."""

    def __init__(self, function):
        super().__init__()
        self.layer, self.head, self.function = sparse(), nn.Linear(5, 2), function

    def forward(self, x):
        self.post = self.function(self.layer(x))
        return self.head(self.post)


@pytest.mark.parametrize("function", [torch.relu, torch.tanh])
def test_functional_activity_must_be_told(function):
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    for activity in (None, function):
        model = Functional(function)
        look, rewirer = looking(model, Hebbian(), activity=activity)
        post = nn.functional.linear(x, model.layer.dense_weight(), model.layer.bias)
        model(x).sum().backward()
        rewirer.step()
        assert_scores(look, correlation(x, function(post) if activity else post), name="layer")


def test_activity_that_is_told_comes_before_what_is_found():
    model = nn.Sequential(sparse(), nn.ReLU())
    look, rewirer = looking(model, Hebbian(), activity=torch.tanh)
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    post = torch.tanh(nn.functional.linear(x, model[0].dense_weight(), model[0].bias))
    model(x).sum().backward()
    rewirer.step()
    assert_scores(look, correlation(x, post))


# Shapes and types


@pytest.mark.parametrize("shape", [(6,), (1, 6), (4, 6), (3, 4, 6), (2, 3, 4, 6)])
@pytest.mark.parametrize("rule", [Gradient(), Hebbian()])
def test_every_sample_and_time_step_counts(shape, rule):
    model = nn.Sequential(sparse(), nn.Tanh())
    look, rewirer = looking(model, rule)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    y = model[0](x)
    y.retain_grad()
    post = model[1](y)
    post.square().sum().backward()
    rewirer.step()
    x, post, gradient = (side.reshape(-1, side.shape[-1]).detach() for side in (x, post, y.grad))
    expected = (gradient.T @ x).abs() if isinstance(rule, Gradient) else hebbian_correlation(x, post)
    assert_scores(look, expected)


def test_inputs_by_name():
    model = sparse()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=Gradient(), schedule=Schedule(every=1))
    model(x=torch.randn(3, 6)).sum().backward()
    rewirer.step()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types(dtype):
    model = nn.Sequential(sparse(dtype=dtype), nn.ReLU())
    for rule in (Gradient(), Hebbian()):
        look, rewirer = looking(model, rule)
        x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
        model(x).float().sum().backward()
        rewirer.step()
        assert np.isfinite(look.scores["0"][0]).all()


def test_autocast():
    model = nn.Sequential(sparse(), nn.ReLU())
    look, rewirer = looking(model, Gradient())
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(x).float().square().sum()
    loss.backward()
    model.zero_grad()
    rewirer.step()
    assert look.scores["0"][0].max() > 0


def test_what_was_recorded_is_let_go(tools):
    """After an event nothing keeps activity alive."""
    import gc
    import weakref

    model = nn.Sequential(sparse(), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    rewirer = Rewirer(model, optimizer, prune=Hebbian(), grow=Gradient(), schedule=Schedule(every=3))
    references = []
    for _ in range(3):
        x = torch.randn(4, 6)
        y = model(x)
        y.sum().backward()
        references += [weakref.ref(x), weakref.ref(y)]
        del x, y
        rewirer.step()
    gc.collect()
    assert all(reference() is None for reference in references)
    assert n_hooks(model) == 0


def test_gradual_pruning_by_gradient_records_in_steps_with_an_event():
    model = nn.Sequential(sparse(), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    schedule = Schedule(every=4, fraction=None, density=Cubic(0.2))
    rewirer = Rewirer(model, optimizer, prune=Gradient(), grow=None, schedule=schedule)
    assert n_hooks(model) == 0  # how long training is, is not known yet
    rewirer.set_length(epochs=1, steps_per_epoch=10)
    recorded = []
    for step in range(1, 11):
        recorded += [step] * bool(n_hooks(model))
        model(torch.rand(3, 6)).sum().backward()
        rewirer.step()
    assert recorded == [4, 8]
