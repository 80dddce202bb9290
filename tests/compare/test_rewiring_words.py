"""Ways to rewire in plain words: every rule of every preset has some."""

import re
from typing import Any

import pytest

from neuropil.compare.registry import REWIRINGS
from neuropil.compare.rewiring_words import compact_rewiring, describe_rewiring, name_rewiring

PRUNING = ("gmp", "granet", "one-shot", "iterative-magnitude", "lottery-ticket", "top-kast")
REQUIRED = {name: {"density": 0.1} for name in PRUNING}


@pytest.mark.parametrize("name", REWIRINGS)
def test_every_preset_has_words(name: str) -> None:
    rewiring = {"rule": name, **REQUIRED.get(name, {})}
    words = describe_rewiring(rewiring)
    assert len(words) > 20
    assert not re.search(r"\(\)|=|\bby [A-Z]\w+[a-z][A-Z]", words)  # no repr and no class in place of words
    assert name_rewiring(rewiring).startswith(("rewired by ", "pruned by "))


@pytest.mark.parametrize(
    ("rewiring", "words"),
    [
        ({"rule": "static"}, "leaves the wiring as it is"),
        (
            {"rule": "g2g", "prune": "set", "fraction": 0.25, "centered": False, "window": 4, "every": 1000},
            "drops the smallest weights, grows between neurons with the highest Hebbian correlation over 4 steps, 25 % "
            "every 1,000 steps",
        ),
        (
            {"rule": "g2g", "prune": "three", "grow": "random", "every": 1, "within": "keep"},
            "drops in equal parts the smallest weights, connections at random and those between neurons with the lowest "
            "Hebbian correlation, grows at random, 10 % after every step; the share of connections within groups stays",
        ),
        (
            {"rule": "rigl", "within": 0.5, "anneal": "constant", "until": 0.75, "per_epoch": 0.5},
            "drops the smallest weights, grows where the gradient is largest, 30 % every 2 epochs, until 75 % of "
            "training; 50 % of the connections are to lie within groups",
        ),
        (
            {"rule": "itop", "per_epoch": 2.5},
            "drops the smallest positive and the largest negative weights, grows at random, 50 % 2.5 times an epoch, "
            "falling to 0.5 % along a cosine",
        ),
        (
            {"rule": "mest", "soft": True, "per_epoch": 3},
            "drops the smallest |weight| + 0.01 · |gradient|, grows at random, 30 % three times an epoch, falling to 0 "
            "along a cosine, with 5 % of all possible connections more until 60 % of training, then 2.5 % until 80 %",
        ),
        (
            {"rule": "srigl"},
            "drops the smallest weights, grows where the gradient is largest, 30 % every 100 steps, falling to 0 along "
            "a cosine by 75 % of training; all neurons of a layer keep the same fan-in; a neuron goes with fewer than "
            "30 % of its fan-in salient",
        ),
        (
            {"rule": "gmp", "density": 0.1, "every": 50},
            "drops the smallest weights, every 50 steps, thinning each layer out to a density of 0.1 between 20 % and "
            "75 % of training",
        ),
        (
            {"rule": "granet", "density": 0.1, "until": 0.5},
            "drops the smallest weights, grows where the gradient is largest, 50 % every 1,000 steps, falling to 0 "
            "along a cosine, thinning all layers out by one threshold to a density of 0.1 until 50 % of training",
        ),
        (
            {"rule": "one-shot", "density": 0.1, "after": 100, "scope": "layer"},
            "drops the smallest weights, at one go after 100 steps, thinning each layer out to a density of 0.1",
        ),
        (
            {"rule": "iterative-magnitude", "density": 0.1, "rounds": 3, "per_epoch": 0.5},
            "drops the smallest weights, in 3 rounds every 2 epochs, thinning all layers out by one threshold to a "
            "density of 0.1",
        ),
        (
            {"rule": "lottery-ticket", "density": 0.1, "rounds": 2, "rewind_to": 50, "redraw": True},
            "drops the smallest weights, in 2 rounds after 33.3 % and 66.7 % of training, thinning all layers out by one "
            "threshold to a density of 0.1; after each round all weights go back to those of step 50, in the last round "
            "to redrawn weights instead, and a falling learning rate starts anew; what is left learns in the last part "
            "alone",
        ),
    ],
)
def test_rules_in_plain_words(rewiring: dict[str, Any], words: str) -> None:
    assert describe_rewiring(rewiring) == words


def test_names_and_settings() -> None:
    rewiring = {"rule": "chts", "temperature": [1, 2.0], "anneal": "cosine"}
    assert name_rewiring(rewiring) == "rewired by CHTs, temperature = [1, 2], anneal = cosine"
    assert compact_rewiring(rewiring) == "chts temperature=[1,2] anneal=cosine"
    assert name_rewiring({"rule": "mest", "soft": True}) == "rewired by MEST, soft = true"
    assert compact_rewiring(None) == ""
    assert name_rewiring({"rule": "one-shot", "density": 0.1}) == "pruned by one-shot magnitude, density = 0.1"


def test_an_unknown_rule_is_an_error() -> None:
    with pytest.raises(ValueError, match="rewiring must be one of static, .*, got 'ste'"):
        describe_rewiring({"rule": "ste"})
