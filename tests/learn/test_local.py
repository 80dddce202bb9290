"""What the check of locality lets pass, and what it finds."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil.compare.rules import RULES
from neuropil.connect import Ensembles, SparseLinear
from neuropil.learn import Backpropagation, FeedbackAlignment, LearningRule
from neuropil.learn.rule import accuracy
from neuropil.randomness import stream
from neuropil.testing import assert_local


def network(block=None):
    layers = []
    for i, (n_in, n_out) in enumerate([(12, 16), (16, 16), (16, 3)]):
        if block is None or n_out == 3:
            layer = nn.utils.skip_init(nn.Linear, n_in, n_out, dtype=torch.float64)
            nn.init.normal_(layer.weight, std=0.3, generator=stream(0, "w", i))
            nn.init.zeros_(layer.bias)
        else:
            wiring = Ensembles(n_groups=2, p_inter=0.3, block=block).wire(n_in, n_out, generator=stream(0, i))
            layer = SparseLinear(wiring, generator=stream(0, "w", i), dtype=torch.float64)
        layers += [layer, nn.ELU()]
    return nn.Sequential(*layers[:-1])


def batch():
    return torch.randn(4, 12, dtype=torch.float64, generator=stream(0, "x")), torch.tensor([0, 1, 2, 1])


CLAIMING = [name for name, rule in RULES.items() if rule.is_local or not rule.transports_weights]


def attached(name, block):
    settings = {"activation": "hard_sigmoid"} if name == "equilibrium-propagation" else {}
    rule = RULES[name](network(block), generator=stream(1), **settings)
    rule.set_length(epochs=1, steps_per_epoch=2)
    return rule


@pytest.mark.parametrize("name", CLAIMING)
@pytest.mark.parametrize("block", [None, (1, 1), ("group", 1)])
def test_rules_are_as_local_as_they_say(name, block):
    changed = assert_local(lambda: attached(name, block), *batch())
    if RULES[name].transports_weights:
        assert changed == []
    else:
        assert changed


class Transporting(FeedbackAlignment):
    """Says that its feedback is its own, and takes the weights."""

    def _send_back(self, i, here, delta, error, shape):
        return delta @ here.stage.layer.weight


class Crossing(LearningRule):
    """Says that it is local, and differentiates through everything."""

    is_local = True

    def __init__(self, model):
        super().__init__(model, model.parameters(), lambda p: torch.optim.SGD(p, lr=0.1))

    def step(self, x, y):
        logits = self.model(x)
        self.optimizer.zero_grad()
        loss = F.cross_entropy(logits, y)
        loss.backward()
        self.update()
        return {"loss": loss.detach(), "accuracy": accuracy(logits, y)}


def test_a_transport_of_weights_is_found():
    with pytest.raises(AssertionError, match="claims not to transport weights, but the update of model.0.weight"):
        assert_local(lambda: Transporting(network()), *batch())


def test_a_gradient_that_crosses_layers_is_found():
    with pytest.raises(AssertionError, match="a gradient can go from layer '2' back to '0'"):
        assert_local(lambda: Crossing(network()), *batch())


def test_backpropagation_claims_nothing():
    with pytest.raises(ValueError, match="Backpropagation claims to be local in no way"):
        assert_local(lambda: Backpropagation(network()), *batch())


def test_a_large_batch_shows_every_change():
    x = torch.randn(64, 12, dtype=torch.float64, generator=stream(0, "x"))
    with pytest.raises(ValueError, match="must have fewer samples"):
        assert_local(lambda: FeedbackAlignment(network()), x, torch.zeros(64, dtype=torch.int64))
