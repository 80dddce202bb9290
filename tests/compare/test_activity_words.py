"""What spiking networks are and do, in plain words."""

from typing import Any

import pytest

from neuropil.compare.activity_words import describe_activity, describe_silence, scaled
from neuropil.compare.recipe import SpikingSection
from neuropil.compare.report import describe_setting
from neuropil.compare.results import load_results
from neuropil.compare.sentences import findings
from neuropil.compare.spiking_words import describe_spiking
from neuropil.compare.table import table_columns, table_rows

ENERGY = "memory, neuron updates and data movement left out)."


def test_sentence_of_an_arm(made_up: Any) -> None:
    arms = load_results(made_up.spiking()).arms
    # (0.15 + 0.16 + 0.17) / 3
    assert describe_activity(arms["mixer"]) == (
        "Hidden neurons fire in 16 % of time steps; 62 % of them never fired on the probe batch; 6.1 M synaptic "
        f"operations an image (0.50 of those of dense-32), an estimated 5.5 µJ (45 nm, additions only; {ENERGY}"
    )
    assert describe_activity(arms["dense-32"]) == (
        "Hidden neurons fire in 16 % of time steps; 62 % of them never fired on the probe batch; 12 M synaptic "
        f"operations an image, an estimated 11 µJ (45 nm, additions only; {ENERGY}"
    )


def test_sentence_of_a_current_and_of_neurons_that_always_fire(made_up: Any) -> None:
    folder = made_up.spiking(seeds=1)
    saturated = {"hidden.1": 0.5, "hidden.3": 0.0, "output": 1.0}
    work = {"synaptic_operations": 500.0, "synaptic_multiply_accumulates": 2000.0, "energy_joules": 9.65e-9}
    made_up.write_activity("mixer", 0, made_up.activity(2, rates=(0.02, 0.016, 0.0), saturated=saturated, **work))
    results = load_results(folder)
    assert describe_activity(results.arms["mixer"]) == (
        "Hidden neurons fire in 1.8 % of time steps; 62 % of them never fired on the probe batch; 25 % fired at every "
        "step or nearly so; 500 synaptic operations an image (0.00 of those of dense-32) and 2.0 k multiply-accumulates, "
        f"an estimated 9.7 nJ (45 nm, additions and multiplications only; {ENERGY}"
    )
    header, rows = table_rows(results)
    assert rows[-1][header.index("synaptic operations (10⁶)")] == "0.001\n+ 0.002"
    assert "such as currents" in table_columns(results)[header.index("synaptic operations (10⁶)")].explanation


def test_no_sentence_before_anything_is_known(made_up: Any) -> None:
    results = load_results(made_up.comparison(spiking={}))
    assert describe_activity(results.arms["mixer"]) is None
    assert describe_silence(results) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 J"), (1.0, "1.0 J"), (9.96, "10 J"), (0.00099, "990 µJ"), (0.0009996, "1.0 mJ"), (1e-9, "1.0 nJ"),
     (2.5e-14, "0.0 pJ"), (3.2e12, "3200 GJ"), (994.9, "990 J"), (995.1, "1.0 kJ")],
)  # fmt: skip
def test_numbers_with_a_prefix(value: float, text: str) -> None:
    assert scaled(value, "J") == text


def test_an_epoch_is_compared_by_synaptic_operations(made_up: Any) -> None:
    speeds = [finding.speed or "" for finding in findings(load_results(made_up.spiking()))]
    assert all("for 0.50 of its synaptic operations: faster at every seed" in speed for speed in speeds)
    plain = load_results(type(made_up)(made_up.folder.parent / "rate").comparison())
    assert all("of its multiply-accumulates" in str(finding.speed) for finding in findings(plain))


# The setting


@pytest.mark.parametrize(
    ("settings", "patches", "texts"),
    [
        (
            {},
            False,
            ("whose decay and threshold, one of each a layer, are learned from 0.9 and 1 on", "an arctangent, α = 2",
             "An image lasts 50 time steps, at each of which every pixel makes a spike with its brightness as the "
             "probability (rate code)."),
        ),
        (
            {"neurons": "fixed", "steps": 1, "encoding": "latency"},
            False,
            ("all alike and fixed, decay 0.95 and threshold 1", "a fast sigmoid of slope 25", "lasts 1 time step, in "
             "which every pixel spikes once, the earlier the larger its brightness (latency code)."),
        ),
        (
            {"encoding": "current", "scale": 0.25},
            False,
            ("at all of which every pixel feeds the same current, 0.25 times its brightness.",),
        ),
        (
            {"encoding": "current"},
            True,
            ("every feature feeds the same current, its value, scaled to [0, 1] image by image.",),
        ),
        (
            {"frozen": True},
            True,
            ("every feature makes a spike with its value, scaled to [0, 1] image by image, as the probability",
             "The patch encoder keeps the weights that it starts with."),
        ),
        (
            {"rate_penalty": True, "rate_warm_up": 4},
            False,
            ("From epoch 5 on, a penalty on the loss draws the firing rate of each hidden neuron to a target that goes "
             "from 0.25 to 0.09, with a weight that grows from 0.0001 to 0.01.",),
        ),
    ],
)  # fmt: skip
def test_neurons_and_encoding_in_words(settings: dict[str, Any], patches: bool, texts: tuple[str, ...]) -> None:
    words = describe_spiking(SpikingSection(**settings), patches=patches)
    for text in texts:
        assert text in words
    assert ("penalty" in words) == ("rate_penalty" in settings)
    assert ("patch encoder" in words) == ("frozen" in settings)


def test_setting_says_that_networks_spike(made_up: Any) -> None:
    setting = describe_setting(made_up.recipe(spiking={"steps": 8}))
    assert "of 32, 32 spiking neurons, then a dense read-out to a neuron for each class, whose count" in setting
    assert "An image lasts 8 time steps" in setting
    assert "ReLU" not in setting
    plain = describe_setting(made_up.recipe())
    assert "neurons, each with a ReLU, then a dense read-out. Arms" in plain
    assert "spik" not in plain
