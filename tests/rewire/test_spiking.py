"""Rewiring of spiking networks: what fires together is counted over all samples and time steps."""

import pytest
import torch
import torch.nn.functional as F

from neuropil import rewire
from neuropil.compare import execute, expand_arms, run_recipe
from neuropil.compare.recipe import parse_recipe
from neuropil.connect import Ensembles
from neuropil.models import spiking_ensemble_net
from neuropil.randomness import stream
from neuropil.rewire.scores import hebbian_correlation
from neuropil.train import Run
from neuropil.train.run import read_events

STEPS, BATCH = 8, 12


class Watched:
    """A spiking network in training, and what its layers took and its neurons gave in the last step."""

    def __init__(self, rewiring, *, block=(1, 1), optimizer=torch.optim.Adam, **settings):
        pattern = Ensembles(n_groups=4, p_intra=0.8, block=block)
        self.net = spiking_ensemble_net((1, 6, 6), 4, hidden=[24, 16], pattern=pattern, steps=STEPS, seed=5, **settings)
        with torch.no_grad():
            for layer in self.net.sparse_layers():
                layer.weight.mul_(3)  # so that most neurons fire
        self.optimizer = optimizer(self.net.parameters(), lr=1e-2)
        self.rewirer = rewiring.attach(self.net, self.optimizer, generator=stream(0, "rewiring"))
        self.rewirer.set_length(epochs=1, steps_per_epoch=9)
        self.pre, self.post = {}, {}
        for name, layer in self.rewirer.layers.items():
            neurons = self.net.hidden[int(name.split(".")[1]) + 1]
            layer.register_forward_hook(lambda _, inputs, __, name=name: self.pre.update({name: inputs[0].detach()}))
            neurons.register_forward_hook(lambda _, __, out, name=name: self.post.update({name: out[0].detach()}))

    def learn(self, seed=0):
        """One step of training, the rewirer's not included."""
        images = torch.rand(BATCH, 1, 6, 6, generator=stream(seed, "images"))
        labels = torch.randint(4, (BATCH,), generator=stream(seed, "labels"))
        self.optimizer.zero_grad()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            F.cross_entropy(self.net(images), labels).backward()
        self.optimizer.step()


def cosines(pre, post):
    """C_H of every pair of neurons, over time steps and samples one by one."""
    found = torch.zeros(post.shape[-1], pre.shape[-1], dtype=torch.float64)
    lengths = [torch.zeros(side.shape[-1], dtype=torch.float64) for side in (post, pre)]
    for t in range(STEPS):
        for b in range(BATCH):
            fired, drive = post[t, b].double(), pre[t, b].double()
            found += fired[:, None] * drive[None, :]
            lengths[0] += fired.square()
            lengths[1] += drive.square()
    return found / ((lengths[0].sqrt() + 1e-8)[:, None] * (lengths[1].sqrt() + 1e-8)[None, :])


def assert_grown(tools, before, after, scores):
    """What came scores at least as much as all that is not connected now."""
    old, new, worth = tools.cells_of(before), tools.cells_of(after), tools.by_block(before, scores).ravel()
    came, outside = new - old, set(range(worth.size)) - new
    assert came
    tolerance = 1e-5 * max(1e-3, float(abs(worth).max()))
    assert min(worth[sorted(came)]) >= max(worth[sorted(outside)]) - tolerance


@pytest.mark.parametrize("encoding", ["rate", "current", "latency"])
@pytest.mark.parametrize("block", [(1, 1), (2, 1)])
def test_hebbian_growth_equals_the_formula(tools, encoding, block):
    """Pre: what enters the layer, a rate code's spikes among it; post: its neurons' spikes."""
    watched = Watched(rewire.g2g(every=1, fraction=0.3), encoding=encoding, block=block)
    for step in range(3):
        watched.learn(step)
        before = {name: layer.wiring for name, layer in watched.rewirer.layers.items()}
        watched.rewirer.step()
        for name, layer in watched.rewirer.layers.items():
            pre, post = watched.pre[name], watched.post[name]
            assert pre.shape == (STEPS, BATCH, layer.in_features)
            assert set(post.unique().tolist()) == {0.0, 1.0}
            scores = cosines(pre, post)
            torch.testing.assert_close(
                hebbian_correlation(pre.flatten(0, 1), post.flatten(0, 1)), scores.float(), rtol=1e-5, atol=1e-6
            )
            assert_grown(tools, before[name], layer.wiring, scores)


def test_hebbian_pruning_equals_the_formula(tools):
    watched = Watched(rewire.g2g(prune="hebb", grow="random", every=1, fraction=0.3))
    watched.learn()
    before = {name: layer.wiring for name, layer in watched.rewirer.layers.items()}
    events = {event.layer: event for event in watched.rewirer.step()}
    for name, layer in watched.rewirer.layers.items():
        worth = cosines(watched.pre[name], watched.post[name]).numpy().ravel()
        old, new = tools.cells_of(before[name]), tools.cells_of(layer.wiring)
        border = sorted(worth[sorted(old)])[events[name].dropped - 1]
        assert old - new
        assert all(worth[cell] <= border + 1e-6 for cell in old - new)
        assert all(cell in new for cell in old if worth[cell] > border + 1e-6)


@pytest.mark.parametrize("encoding", ["rate", "current", "latency"])
@pytest.mark.parametrize("block", [(1, 1), (2, 1)])
def test_growth_by_gradient_equals_the_dense_twin(tools, encoding, block):
    """∂L/∂(W ∘ mask) over all time steps, also where the input stays the same and its product is computed once."""
    watched = Watched(rewire.rigl(every=1), encoding=encoding, block=block, optimizer=torch.optim.SGD)
    net = watched.net
    dense = [layer.dense_weight().detach().requires_grad_() for layer in net.sparse_layers()]
    images = torch.rand(BATCH, 1, 6, 6, generator=stream(0, "images"))
    labels = torch.randint(4, (BATCH,), generator=stream(0, "labels"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        spikes = net.encoder(net.features(images)).contiguous()
    for (layer, neurons), weight in zip(net.stages, [*dense, net.readout.weight.detach()], strict=True):
        spikes, _ = neurons(F.linear(spikes, weight, layer.bias.detach()))
    F.cross_entropy(spikes.sum(0), labels).backward()

    watched.learn(0)
    before = [layer.wiring for layer in net.sparse_layers()]
    watched.rewirer.step()
    for layer, wiring, weight in zip(net.sparse_layers(), before, dense, strict=True):
        assert weight.grad.any()
        assert_grown(tools, wiring, layer.wiring, weight.grad.abs())


REWIRINGS = {
    "set": lambda: rewire.set_(every=1),
    "rigl": lambda: rewire.rigl(every=1),
    "magnitude and hebb": lambda: rewire.drop_grow(prune="magnitude", grow="hebbian", every=1, fraction=0.2),
    "three and hebb": lambda: rewire.g2g(prune="three", every=1),
}


@pytest.mark.parametrize("encoding", ["rate", "current"])
@pytest.mark.parametrize("block", [(1, 1), ("group", 1)])
@pytest.mark.parametrize("name", REWIRINGS)
def test_events_keep_what_they_must(tools, name, block, encoding):
    """The number of connections; weights and moments of those that stay; 0 for those that come."""
    watched = Watched(REWIRINGS[name](), block=block, encoding=encoding)
    layers = watched.rewirer.layers
    n_blocks = {name: layer.wiring.n_blocks for name, layer in layers.items()}
    n_came = 0
    for step in range(4):
        watched.learn(step)
        before = {
            name: (tools.cells_of(layer.wiring), layer.wiring, *laid_out(tools, watched.optimizer, layer))
            for name, layer in layers.items()
        }
        events = watched.rewirer.step()
        assert [event.layer for event in events] == [*layers]
        for event in events:
            layer = layers[event.layer]
            old, wiring, *tensors = before[event.layer]
            new = tools.cells_of(layer.wiring)
            assert event.n_blocks == len(new) == n_blocks[event.layer]
            assert event.came == len(new - old)
            n_came += event.came
            tools.assert_sound(layer)
            for then, now in zip(tensors, laid_out(tools, watched.optimizer, layer), strict=True):
                for cell in new:
                    targets, sources = tools.members(wiring, cell // wiring.grid[1], cell % wiring.grid[1])
                    for o in targets:
                        for i in sources:
                            assert now[o, i] == (then[o, i] if cell in old else 0)
    assert n_came > 0


def laid_out(tools, optimizer, layer):
    """Weights and both of Adam's moments as matrices."""
    state = optimizer.state[layer.weight]
    return [tools.laid_out(layer, values) for values in (layer.weight, state["exp_avg"], state["exp_avg_sq"])]


@pytest.mark.parametrize("neurons", ["fixed", "learned"])
def test_g2g_trains_a_spiking_network_by_a_recipe(neurons, tmp_path):
    recipe = parse_recipe(
        {
            "name": "small",
            "question": "Does it learn?",
            "model": {"hidden": [64]},
            "spiking": {"neurons": neurons, "steps": 10, "encoding": "current"},
            "training": {"epochs": 4, "batch_size": 32, "learning_rate": 0.01},
            "seeds": 1,
            "arms": {"g2g": {"pattern": "mixer", "p_inter": 0.2, "rewiring": {"rule": "g2g", "every": 20}}},
        }
    )
    arm = next(arm for arm in expand_arms(recipe) if arm.name == "g2g")
    summary = execute(run_recipe(recipe, arm, 0), tmp_path / "run")
    assert summary["status"] == "finished"
    assert summary["test_accuracy"] > 0.8  # by chance 0.1
    events = read_events(tmp_path / "run")
    assert len(events) == summary["rewiring"]["events"] > 3
    assert {event["layer"] for event in events} == {"hidden.0"}
    assert all(event["came"] > 0 for event in events)
    assert len({event["n_blocks"] for event in events}) == 1
    assert Run(tmp_path / "run", run_recipe(recipe, arm, 0)).summary == summary
