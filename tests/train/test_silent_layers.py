"""Warnings of spiking layers: of whole layers that are silent, not of the many neurons that one batch leaves so."""

import logging

import pytest
import torch

from neuropil.connect import Dense
from neuropil.models import spiking_ensemble_net
from neuropil.train import fit


def train(dataset, *, silent=0, always=0, epochs=1):
    """Train a network of which some neurons of the first layer never or always fire; return it with its history."""
    net = spiking_ensemble_net((1, 8, 8), 10, hidden=[200, 16], pattern=Dense(), steps=4, neurons="fixed")
    with torch.no_grad():
        net.hidden[0].bias[:silent] = -1000.0
        net.hidden[0].bias[silent : silent + always] = 1000.0
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    return fit(net, dataset.in_unit_range(), optimizer, epochs=epochs, batch_size=32).history


def told(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "neuropil.train.fit"]


@pytest.mark.parametrize("silent", [0, 140, 196])
def test_many_silent_neurons_are_no_news(silent, few_digits, caplog):
    with caplog.at_level(logging.WARNING, "neuropil.train.fit"):
        (record,) = train(few_digits, silent=silent)
    assert record["dead"]["hidden.1"] >= silent / 200
    assert not [text for text in told(caplog) if "'hidden.1'" in text]


def test_a_silent_layer_is_told_once(few_digits, caplog):
    with caplog.at_level(logging.WARNING, "neuropil.train.fit"):
        history = train(few_digits, silent=200, epochs=3)
    assert [record["firing_rates"]["hidden.1"] for record in history] == [0.0] * 3
    (sentence,) = (text for text in told(caplog) if "'hidden.1'" in text)
    assert sentence == (
        "100 % of the 200 neurons of layer 'hidden.1' never fired on the probe batch in epoch 1: a silent layer passes "
        "nothing on; if it stays so, try a lower learning rate, or a stronger input"
    )


@pytest.mark.parametrize(("always", "n_told"), [(80, 0), (120, 1)])
def test_neurons_that_always_fire_are_told(always, n_told, few_digits, caplog):
    with caplog.at_level(logging.WARNING, "neuropil.train.fit"):
        train(few_digits, always=always)
    sentences = [text for text in told(caplog) if "'hidden.1'" in text]
    assert len(sentences) == n_told
    assert all("of the 200 neurons of layer 'hidden.1' fired at nearly every time step" in text for text in sentences)
