"""The training loop: that it learns, that it repeats itself, and what it says when things go wrong."""

import logging
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil import data, models
from neuropil.connect import Ensembles
from neuropil.train import evaluate, fit

MEASURED = ("seconds", "peak_memory_bytes")


def small_net(seed=0, **settings):
    return models.ensemble_net((1, 8, 8), 10, hidden=[32], pattern=Ensembles(n_groups=4), seed=seed, **settings)


def train(net, dataset, *, lr=1e-2, **settings):
    return fit(net, dataset, torch.optim.Adam(net.parameters(), lr=lr), **{"epochs": 2, "batch_size": 32, **settings})


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def told(history):
    """What a history says, without what is measured."""
    return [{key: value for key, value in record.items() if key not in MEASURED} for record in history]


@pytest.mark.parametrize("seed", range(3))
def test_learns_digits(digits, seed):
    net = models.ensemble_net((1, 8, 8), 10, hidden=[64, 64], seed=seed)
    result = train(net, digits, epochs=8, batch_size=64, seed=seed)
    assert result.status == "finished"
    assert result.test_accuracy > 0.93
    assert result.history[-1]["validation_accuracy"] > 0.9
    assert result.history[-1]["train_loss"] < 0.1 * result.history[0]["train_loss"]


def test_same_seed_same_bits(few_digits, both_kernels):
    runs = []
    for seed in (3, 3, 4):
        net = both_kernels()
        result = train(net, few_digits, seed=seed)
        runs.append((weights(net), told(result.history), result.test_loss, result.test_accuracy))
    first, same, other = runs
    assert_same(first[0], same[0])
    assert first[1:] == same[1:]
    # another seed changes the order of the data and the dropout only, and that is enough
    assert first[1] != other[1]


def test_global_random_state_plays_no_part_and_is_left_alone(few_digits, both_kernels):
    finals = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        random.seed(global_seed)
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        net = both_kernels()
        train(net, few_digits)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]
        assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002
        finals.append(weights(net))
    assert_same(*finals)


def test_one_epoch_equals_a_loop_by_hand(few_digits):
    net, twin = small_net(), small_net()
    fit(net, few_digits, torch.optim.SGD(net.parameters(), lr=0.1), epochs=1, batch_size=30, seed=5)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    from neuropil.randomness import stream

    order = torch.randperm(len(few_digits.train), generator=stream(5, "order", 1))
    for chosen in order.split(30):
        optimizer.zero_grad()
        images = few_digits.normalize(few_digits.train.images[chosen])
        F.cross_entropy(twin(images), few_digits.train.labels[chosen]).backward()
        optimizer.step()
    assert_same(weights(net), weights(twin))


def test_record_of_an_epoch(few_digits):
    net = small_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    halving = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    result = fit(net, few_digits, optimizer, epochs=3, batch_size=32, scheduler=halving)
    assert [record["epoch"] for record in result.history] == [1, 2, 3]
    assert [record["learning_rate"] for record in result.history] == [0.5, 0.25, 0.125]
    last = result.history[-1]
    assert (last["validation_loss"], last["validation_accuracy"]) == evaluate(net, few_digits, few_digits.validation)
    assert (result.test_loss, result.test_accuracy) == evaluate(net, few_digits, few_digits.test)
    assert last["dead"].keys() == last["saturated"].keys() == {"hidden.1"}
    assert last["seconds"] > 0
    assert last["peak_memory_bytes"] >= 4 * sum(p.numel() for p in net.parameters())


def test_no_validation_split_no_validation_figures(few_digits):
    import dataclasses

    bare = dataclasses.replace(few_digits, validation=None)
    record = train(small_net(), bare, epochs=1).history[0]
    assert "validation_loss" not in record
    assert "train_accuracy" in record


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_evaluate_equals_a_naive_loop(few_digits, both_kernels, batch_size):
    net = both_kernels()
    split = few_digits.test
    net.eval()
    losses, right = [], 0
    with torch.no_grad():
        for image, label in zip(split.images, split.labels, strict=True):
            logits = net(few_digits.normalize(image[None]))
            losses.append(float(F.cross_entropy(logits, label[None])))
            right += int(logits.argmax()) == int(label)
    net.train()
    net[3].eval()
    loss, accuracy = evaluate(net, few_digits, split, batch_size=batch_size)
    assert loss == pytest.approx(sum(losses) / len(split), rel=1e-5)
    assert accuracy == pytest.approx(right / len(split))
    # every part is in the mode it was in, a part that differs from the rest too
    assert net.training
    assert net[6].training
    assert not net[3].training


def test_another_loss(few_digits):
    def brier(logits, labels):
        return (logits.softmax(1) - F.one_hot(labels, 10)).square().sum(1).mean()

    net = small_net()
    result = train(net, few_digits, loss=brier, epochs=20)
    assert result.history[-1]["train_loss"] < 0.3 * result.history[0]["train_loss"]
    assert result.test_loss == evaluate(net, few_digits, few_digits.test, loss=brier)[0]


def test_clip_norm_bounds_every_step(few_digits):
    seen = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            gradients = [p.grad for group in self.param_groups for p in group["params"]]
            seen.append(float(torch.stack([g.norm() for g in gradients]).norm()))
            return super().step(closure)

    net = small_net()
    fit(net, few_digits, Watched(net.parameters(), lr=0.1), epochs=1, batch_size=32, clip_norm=0.01)
    assert seen
    assert max(seen) == pytest.approx(0.01, rel=1e-3)


def test_bfloat16_is_near_float32(few_digits, both_kernels):
    finals = {}
    for precision in ("float32", "bfloat16"):
        net = both_kernels()
        result = train(net, few_digits, precision=precision, epochs=1)
        assert all(parameter.dtype == torch.float32 for parameter in net.parameters())
        finals[precision] = (result, weights(net))
    exact, rough = finals["float32"][0], finals["bfloat16"][0]
    assert rough.history[0]["train_loss"] == pytest.approx(exact.history[0]["train_loss"], rel=0.02)
    assert rough.test_loss == pytest.approx(exact.test_loss, rel=0.02)
    # rounded products were really used
    assert any(not torch.equal(finals["float32"][1][k], v) for k, v in finals["bfloat16"][1].items())


def test_bfloat16_learns(digits):
    net = models.ensemble_net((1, 8, 8), 10, hidden=[64, 64])
    assert train(net, digits, precision="bfloat16", epochs=5).test_accuracy > 0.9


def test_divergence_stops_the_run(few_digits, caplog):
    net = small_net()
    result = fit(net, few_digits, torch.optim.SGD(net.parameters(), lr=1e20), epochs=5, batch_size=8)
    assert result.status == "diverged"
    assert result.test_loss is None
    assert result.test_accuracy is None
    assert len(result.history) < 5
    assert f"no longer a finite number in epoch {len(result.history) + 1}: stopped" in caplog.text


def test_divergence_is_noticed_within_an_epoch(few_digits):
    calls = []

    def broken(logits, labels):
        calls.append(len(calls))
        return F.cross_entropy(logits, labels) * float("nan")

    net = small_net()
    result = fit(net, few_digits, torch.optim.SGD(net.parameters(), lr=0.1), epochs=5, batch_size=1, loss=broken)
    assert result.status == "diverged"
    assert len(calls) == 50


def test_dead_units_are_told_once(few_digits, caplog):
    net = small_net()
    with torch.no_grad():
        net.hidden[0].bias[:24] = -1000.0
    with caplog.at_level(logging.WARNING, "neuropil.train.fit"):
        result = train(net, few_digits, epochs=3)
    assert result.history[0]["dead"] == {"hidden.1": pytest.approx(0.75, abs=0.1)}
    sentences = [record.getMessage() for record in caplog.records if record.name == "neuropil.train.fit"]
    assert len(sentences) == 1
    assert "of the 32 units of layer 'hidden.1' are dead" in sentences[0]
    assert "try a lower learning rate" in sentences[0]


def test_saturated_units_are_told(few_digits, caplog):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    with torch.no_grad():
        net[1].bias.fill_(1000.0)
    assert train(net, few_digits, epochs=1).history[0]["saturated"] == {"2": 1.0}
    assert "100 % of the 16 units of layer '2' are saturated" in caplog.text


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"epochs": 0}, "fit: epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "fit: batch_size must be at least 1, got 0"),
        ({"precision": "float16"}, "fit: precision must be one of float32, tf32, bfloat16, got 'float16'"),
        ({"precision": "tf32"}, "fit: precision tf32 needs a model on a GPU, got one on cpu; try float32"),
        ({"clip_norm": 0.0}, "fit: clip_norm must be above 0, or None, got 0"),
        ({"clip_norm": -1.0}, "fit: clip_norm must be above 0, or None, got -1"),
    ],
)
def test_bad_settings_are_named(few_digits, settings, sentence):
    net = small_net()
    before = weights(net)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole sentence is compared)
        train(net, few_digits, **settings)
    assert str(caught.value) == sentence
    assert_same(weights(net), before)


def test_an_optimizer_of_another_model_is_refused(few_digits):
    net, other = small_net(), small_net()
    with pytest.raises(ValueError, match="optimizer must hold parameters of the model, got one that holds none"):
        fit(net, few_digits, torch.optim.SGD(other.parameters(), lr=0.1), epochs=1)


def test_part_of_a_model_can_be_trained(few_digits):
    net = small_net()
    before = weights(net)
    fit(net, few_digits, torch.optim.SGD(net.readout.parameters(), lr=0.1), epochs=1)
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"readout.weight", "readout.bias"}


def test_dead_entries_of_sparse_layers_stay_zero(few_digits):
    net = small_net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.1)
    fit(net, few_digits, optimizer, epochs=2, batch_size=32)
    layer = net.hidden[0]
    assert (layer.weight[~layer.wiring.mask()] == 0).all()


def test_the_test_set_is_seen_only_at_the_end(few_digits):
    """Model selection must not be able to look at the test set: it is read once, after the last epoch."""
    reads = []

    class Watching(data.Dataset):
        def batches(self, split, batch_size, generator=None):
            reads.append("test" if split is self.test else "other")
            return super().batches(split, batch_size, generator)

    d = few_digits
    watched = Watching(d.name, d.train, d.test, d.classes, d.max_value, d.mean, d.std, d.validation)
    train(small_net(), watched, epochs=3)
    assert reads.count("test") == 1
    assert reads[-1] == "test"
