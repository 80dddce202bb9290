"""A training that is stopped and resumed goes on bit for bit, on a fresh model, optimizer and rewirer."""

import io

import pytest
import torch
from torch import nn

from neuropil.connect import Ensembles, ErdosRenyi, SparseLinear
from neuropil.rewire import (
    CannistraciHebb,
    Contribution,
    Cubic,
    Gradient,
    Hebbian,
    Limits,
    Magnitude,
    Momentum,
    Random,
    Rewind,
    Rewirer,
    Rounds,
    Sampled,
    Schedule,
    SignedMagnitude,
    Stages,
)

N_STEPS = 16


def frozen(shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(9)) < 0.1


CASES = {
    "set": {"prune": SignedMagnitude(), "grow": Random(), "schedule": Schedule(every=2, fraction=0.3)},
    "rigl": {"prune": Magnitude(), "grow": Gradient(), "schedule": Schedule(every=3, fraction=0.3, anneal="cosine")},
    "per epoch": {"prune": Magnitude(), "grow": Random(), "schedule": Schedule(per_epoch=1.5)},
    "momentum": {"prune": Magnitude(), "grow": Momentum(0.8, 6), "schedule": Schedule(every=5, fraction=0.3)},
    "hebbian window": {
        "prune": Contribution(window=3),
        "grow": Hebbian(centered=True, window=4),
        "schedule": Schedule(every=4, fraction=0.3),
    },
    "gradual": {
        "prune": Magnitude(),
        "grow": None,
        "schedule": Schedule(every=1, fraction=None, density=Cubic(0.1, until=0.9)),
    },
    "gradual, replaced": {
        "prune": Magnitude(),
        "grow": Gradient(),
        "schedule": Schedule(every=2, fraction=0.3, density=Cubic(0.1, until=0.9, scope="global")),
    },
    "stages": {
        "prune": Magnitude(),
        "grow": Random(),
        "schedule": Schedule(every=3, fraction=0.2, density=Stages(((0.4, 0.1), (0.7, 0.05)))),
    },
    "ablation": {
        "prune": Magnitude(),
        "grow": Gradient(),
        "schedule": Schedule(every=2, fraction=0.3),
        "limits": Limits(constant_fan_in=True, ablation=0.9),
    },
    "stopped": {
        "prune": Magnitude(),
        "grow": Random(),
        "schedule": Schedule(every=1, fraction=0.3),
        "limits": Limits(chain_removal=True, stop_overlap=0.3),
    },
    "sampled": {
        "prune": Sampled(Magnitude(), (1.0, 3.0)),
        "grow": Sampled(CannistraciHebb()),
        "schedule": Schedule(every=2, fraction=0.3),
    },
    "rounds": {
        "prune": Magnitude(),
        "grow": None,
        "schedule": Schedule(every=5, fraction=None, density=Rounds(0.1, 2)),
    },
    "rewound": {
        "prune": Magnitude(),
        "grow": None,
        "schedule": Schedule(at=(0.2, 0.4, 0.6), fraction=None, density=Rounds(0.1, 3)),
        "rewind": Rewind(),
    },
    "rewound to later weights, then redrawn": {
        "prune": Magnitude(),
        "grow": None,
        "schedule": Schedule(every=4, fraction=None, density=Rounds(0.1, 3, "layer")),
        "rewind": Rewind(2, redraw=True),
    },
    "kept within groups": {
        "prune": Random(),
        "grow": Random(),
        "schedule": Schedule(every=2, fraction=0.3),
        "limits": Limits(within="keep"),
    },
    "frozen": {
        "prune": Random(),
        "grow": Hebbian(),
        "schedule": Schedule(every=2, fraction=0.3),
        "limits": Limits(within=0.3, regrow=False, frozen={"layers.0": frozen((24, 16))}),
    },
}


def prepare(tools, case, block, *, seed, fresh=False):
    """Model, optimizer and rewirer; the wiring depends on the seed, in its number of blocks too."""
    generator = torch.Generator().manual_seed(seed)
    pattern = Ensembles(n_groups=4, p_intra=0.9, p_inter=0.35, block=block, grouping="interleaved")
    model = tools.Net([pattern.wire(16, 24, generator=generator), pattern.wire(24, 16, generator=generator)], seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    return model, optimizer, lambda: rewirer_of(case, model, optimizer, seed)


def rewirer_of(case, model, optimizer, seed):
    rewirer = Rewirer(model, optimizer, generator=torch.Generator().manual_seed(seed), **CASES[case])
    rewirer.set_length(epochs=2, steps_per_epoch=N_STEPS // 2)
    return rewirer


def train(tools, model, optimizer, rewirer, steps):
    for step in steps:
        tools.learn(model, optimizer, torch.Generator().manual_seed(step))
        rewirer.step()


def written(state):
    """A file that may hold tensors and plain values alone."""
    file = io.BytesIO()
    torch.save(state, file)
    return file


def read(file):
    file.seek(0)
    return torch.load(file, weights_only=True)


def stored(state):
    """A state as it comes back from a file."""
    return read(written(state))


@pytest.mark.parametrize("block", [(1, 1), ("group", 1)])
@pytest.mark.parametrize("case", CASES)
def test_resumed_training_is_the_same(tools, case, block):
    model, optimizer, make = prepare(tools, case, block, seed=0)
    rewirer = make()
    train(tools, model, optimizer, rewirer, range(7))
    assert len(rewirer.history) > 0
    file = written({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rewirer": rewirer.state_dict()})
    n_before = len(rewirer.history)
    train(tools, model, optimizer, rewirer, range(7, N_STEPS))

    for rewirer_first in (False, True):
        state = read(file)
        other, other_optimizer, make = prepare(tools, case, block, seed=1)
        assert other.layers[0].wiring != model.layers[0].wiring
        resumed = make() if rewirer_first else None
        other.load_state_dict(state["model"])
        other_optimizer.load_state_dict(state["optimizer"])
        resumed = resumed or make()
        resumed.load_state_dict(state["rewirer"])
        train(tools, other, other_optimizer, resumed, range(7, N_STEPS))

        assert resumed.history == rewirer.history[n_before:]
        assert resumed.history or case == "stopped"
        for name, value in model.state_dict().items():
            assert torch.equal(other.state_dict()[name], value), name
        for a, b in zip(model.parameters(), other.parameters(), strict=True):
            for key, value in optimizer.state[a].items():
                assert torch.equal(other_optimizer.state[b][key], value), key
        assert_same(resumed.state_dict(), rewirer.state_dict())
        assert resumed.summary() == rewirer.summary()


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other[key]), key
        else:
            assert value == other[key], key


def test_cases_do_what_they_are_named_for(tools):
    """Somebody is stopped, somebody ablated, and a window spans the moment of saving."""
    for case in ("stopped", "ablation", "momentum"):
        model, optimizer, make = prepare(tools, case, (1, 1), seed=0)
        rewirer = make()
        train(tools, model, optimizer, rewirer, range(7))
        state = rewirer.state_dict()
        if case == "stopped":
            assert any(value for key, value in state.items() if "is_stopped" in key)
            assert len({event.step for event in rewirer.history}) == 7
        elif case == "ablation":
            assert any(value.any() for key, value in state.items() if "ablated" in key)
        else:
            assert any(key.startswith("samples.") for key in state)


@pytest.mark.parametrize("at", range(1, 9))
def test_a_window_may_span_the_moment_of_saving(tools, at):
    model, optimizer, make = prepare(tools, "momentum", (1, 1), seed=0)
    rewirer = make()
    train(tools, model, optimizer, rewirer, range(at))
    state = stored([model.state_dict(), optimizer.state_dict(), rewirer.state_dict()])
    train(tools, model, optimizer, rewirer, range(at, 11))
    other, other_optimizer, make = prepare(tools, "momentum", (1, 1), seed=1)
    resumed = make()
    for thing, own in zip((other, other_optimizer, resumed), state, strict=True):
        thing.load_state_dict(own)
    train(tools, other, other_optimizer, resumed, range(at, 11))
    assert other.layers[0].wiring == model.layers[0].wiring
    assert torch.equal(other.layers[0].weight, model.layers[0].weight)


def test_a_window_with_steps_that_nothing_was_learnt_in(tools):
    """Steps without a pass of the model take their place in the window after resuming, too."""

    def run(stop_at):
        model, optimizer, make = prepare(tools, "momentum", (1, 1), seed=0)
        rewirer = make()
        for step in range(10):
            if step == stop_at:
                state = stored([model.state_dict(), optimizer.state_dict(), rewirer.state_dict()])
                model, optimizer, make = prepare(tools, "momentum", (1, 1), seed=1)
                rewirer = make()
                for thing, own in zip((model, optimizer, rewirer), state, strict=True):
                    thing.load_state_dict(own)
            if step not in (5, 6):
                tools.learn(model, optimizer, torch.Generator().manual_seed(step))
            rewirer.step()
        return model.layers[0].wiring

    assert run(8) == run(None)


def test_loading_does_not_share_memory(tools):
    """Two rewirers that start from one state do not change each other's."""
    model, optimizer, make = prepare(tools, "ablation", (1, 1), seed=0)
    rewirer = make()
    train(tools, model, optimizer, rewirer, range(4))
    state = rewirer.state_dict()
    copied = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in state.items()}
    train(tools, model, optimizer, rewirer, range(4, 8))
    assert_same(state, copied)


def test_the_state_of_a_model_that_is_one_layer(tools):
    def prepare(seed):
        generator = torch.Generator().manual_seed(seed)
        layer = SparseLinear(ErdosRenyi(0.3, exact=True).wire(12, 10, generator=generator), generator=generator)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
        schedule = Schedule(every=3, fraction=0.4)
        return (
            layer,
            optimizer,
            Rewirer(layer, optimizer, prune=Magnitude(), grow=Momentum(window=5), schedule=schedule),
        )

    def train(layer, optimizer, rewirer, steps):
        for step in steps:
            optimizer.zero_grad()
            x = torch.randn(4, 12, generator=torch.Generator().manual_seed(step))
            layer(x).square().sum().backward()
            optimizer.step()
            rewirer.step()

    first, second = prepare(0), prepare(1)
    train(*first, range(5))
    for thing, other in zip(second, first, strict=True):
        thing.load_state_dict(stored(other.state_dict()))
    train(*first, range(5, 10))
    train(*second, range(5, 10))
    assert torch.equal(first[0].weight, second[0].weight)
    assert first[0].wiring == second[0].wiring


def test_what_a_state_consists_of(tools):
    model, optimizer, make = prepare(tools, "hebbian window", (1, 1), seed=0)
    rewirer = make()
    train(tools, model, optimizer, rewirer, range(6))
    state = rewirer.state_dict()
    assert all(isinstance(key, str) for key in state)
    for value in state.values():
        assert value is None or isinstance(value, torch.Tensor | int | float | bool | str)
    assert state["step"] == 6


def test_summary_counts_from_the_start(tools):
    model, optimizer, make = prepare(tools, "set", (1, 1), seed=0)
    rewirer = make()
    first = rewirer.summary()
    n_blocks = sum(layer.wiring.n_blocks for layer in model.layers)
    assert first["events"] == first["replaced"] == 0
    assert first["explored"] == n_blocks / (2 * 16 * 24)
    train(tools, model, optimizer, rewirer, range(7))
    summary, history = rewirer.summary(), rewirer.history
    assert summary["events"] == 3
    assert summary["replaced"] == sum(event.came for event in history) / n_blocks
    assert summary["explored"] == pytest.approx(sum(event.explored for event in history[-2:]) / 2)
    assert summary["modularity"] == pytest.approx(sum(event.modularity for event in history[-2:]) / 2)


def test_errors(tools):
    _, _, make = prepare(tools, "set", (1, 1), seed=0)
    rewirer = make()
    state = rewirer.state_dict()
    generator = torch.Generator().manual_seed(0)
    other = nn.Sequential(SparseLinear(ErdosRenyi(0.5, exact=True).wire(8, 8, generator=generator)))
    stranger = Rewirer(
        other, torch.optim.SGD(other.parameters(), lr=0.1), prune=Magnitude(), grow=Random(), schedule=Schedule(every=1)
    )
    with pytest.raises(ValueError, match="Rewirer: a stored state must be of layer '0' and its size, got another"):
        stranger.load_state_dict(state)
    with pytest.raises(ValueError, match="a stored state must be of layer 'layers.0' and its size, got another"):
        rewirer.load_state_dict(stranger.state_dict())
