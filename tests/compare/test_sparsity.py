"""What is said to be sparse: against the wirings, the events and the rules that it is said of."""

import re
from pathlib import Path
from typing import Any

import pytest

from neuropil.compare import figures, rewiring_figures
from neuropil.compare.arms import expand_arms, run_recipe
from neuropil.compare.execute import execute
from neuropil.compare.recipe import parse_recipe
from neuropil.compare.registry import REWIRINGS
from neuropil.compare.report import write_report
from neuropil.compare.results import load_results
from neuropil.compare.run_result import read_run_folder
from neuropil.compare.sparsity import RunSparsity, state_arm, state_sparsity
from neuropil.compare.sparsity_words import HEADER, sparsity_lines, sparsity_rows

ARM = {"pattern": "erdos-renyi", "density": 0.25, "exact": True}
FULL = {"pattern": "erdos-renyi", "density": 1.0}
NEVER = "never"
PRUNING = ("one-shot", "iterative-magnitude", "lottery-ticket")


def run_of(arm: dict[str, Any]) -> dict[str, Any]:
    recipe = parse_recipe(
        {"question": "How sparse?", "model": {"hidden": [16, 16]}, "training": {"epochs": 2}, "seeds": 1,
         "arms": {"arm": arm}}
    )  # fmt: skip
    (found,) = (each for each in expand_arms(recipe) if each.name == "arm")
    return run_recipe(recipe, found, 0)


def stated(arm: dict[str, Any], **known: Any) -> RunSparsity:
    return state_sparsity(run_of(arm), **{"summary": {}, **known})


# of each way to rewire: kind, highest density, and when gradients of missing connections are needed
WAYS: dict[str, tuple[dict[str, Any], str, float, str]] = {
    "static": (ARM, "sparse throughout", 0.25, NEVER),
    "drop-grow": ({**ARM, "rewiring": {"rule": "drop-grow", "prune": "magnitude", "grow": "momentum", "every": 5}},
                  "sparse-to-sparse", 0.25, "in the 22 steps before every event"),
    "set": ({**ARM, "rewiring": "set"}, "sparse-to-sparse", 0.25, NEVER),
    "rigl": ({**ARM, "rewiring": "rigl"}, "sparse-to-sparse", 0.25, "at every event"),
    "g2g": ({"pattern": "mixer", "n_groups": 4, "rewiring": "g2g"}, "sparse-to-sparse", 0.36, NEVER),
    "hebbian": ({**ARM, "rewiring": "hebbian"}, "sparse-to-sparse", 0.25, NEVER),
    "itop": ({**ARM, "rewiring": {"rule": "itop", "grow": "gradient"}}, "sparse-to-sparse", 0.25, "at every event"),
    "mest": ({**ARM, "rewiring": "mest"}, "sparse-to-sparse", 0.25, NEVER),
    "cht": ({**ARM, "rewiring": "cht"}, "sparse-to-sparse", 0.25, NEVER),
    "chts": ({**ARM, "rewiring": "chts"}, "sparse-to-sparse", 0.25, NEVER),
    "srigl": ({**ARM, "rewiring": "srigl"}, "sparse-to-sparse", 0.25, "at every event"),
    "gmp": ({**FULL, "rewiring": {"rule": "gmp", "density": 0.2}}, "dense-to-sparse", 1.0,
            "at every step as long as it is dense"),
    "granet": ({**FULL, "rewiring": {"rule": "granet", "density": 0.2}}, "dense-to-sparse", 1.0,
               "at every event, and at every step as long as it is dense"),
    **{way: ({**FULL, "rewiring": {"rule": way, "density": 0.2}}, "dense-to-sparse", 1.0,
             "at every step as long as it is dense") for way in PRUNING},
    "top-kast": ({**FULL, "rewiring": {"rule": "top-kast", "density": 0.2, "backward_density": 0.4}},
                 "sparse-to-sparse", 0.4, NEVER),
}  # fmt: skip


@pytest.mark.parametrize("way", REWIRINGS)
def test_each_way_to_rewire_says_what_it_holds_and_needs(way: str) -> None:
    arm, kind, densest, gradients = WAYS[way]
    found = stated(arm)
    assert (found.kind, found.dense_gradients) == (kind, gradients)
    assert found.densest == pytest.approx(densest, abs=0.02 if way == "g2g" else 0.005)
    assert found.keeps_aside == (way == "top-kast")
    thinned = ("gmp", "granet", *PRUNING)
    assert found.statement.when == ("static" if way == "static" else "thinned out" if way in thinned else "rewired")


def test_what_is_grown_in_between_counts_to_the_densest() -> None:
    found = stated({**ARM, "rewiring": {"rule": "mest", "soft": True}})
    assert found.densest == pytest.approx(0.3, abs=0.005)  # a twentieth of all possible connections more
    assert found.kind == "sparse-to-sparse"


def test_of_a_dense_network() -> None:
    found = stated({"pattern": "dense"})
    assert (found.kind, found.densest, found.statement.when) == ("dense", 1.0, "never")
    assert "when: dense throughout" in sparsity_lines(found)


def test_the_wiring_after_training_is_known_from_weights_or_events(tmp_path: Path) -> None:
    run = run_of({**FULL, "rewiring": {"rule": "gmp", "density": 0.2, "every": 2}})
    summary = execute(run, tmp_path / "run", keep_checkpoint=True)
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*.safetensors")
    events = read_run_folder(tmp_path / "run", "arm", 0).events
    exact = state_sparsity(run, summary=summary, checkpoint=checkpoint)
    told = state_sparsity(run, summary=summary, events=events)
    assert exact.statement.density_of_sparse_layers == pytest.approx(0.2, abs=0.01)
    assert exact.statement.density_of_sparse_layers == pytest.approx(summary["density"])
    assert [layer.connections for layer in told.statement.layers] == [
        layer.connections for layer in exact.statement.layers
    ]
    assert (exact.known_from, told.known_from) == ("the trained weights", "the last event of each layer")
    assert told.explored == summary["rewiring"]["explored"] == 1.0
    checkpoint.write_bytes(b"no")
    with pytest.raises(ValueError, match="must hold the weights of this run's network, got"):
        state_sparsity(run, summary=summary, checkpoint=checkpoint)


def test_time_is_that_of_the_dense_twin_of_the_same_width(made_up: Any) -> None:
    results = load_results(made_up.comparison())
    found = state_arm(results, results.arms["mixer"])
    assert (found.seconds, found.dense_seconds) == (1.1, 2.0)
    assert found.statement.speed_up == pytest.approx(2 / 1.1)
    assert found.kernels == ("masked", "masked")
    narrow = state_arm(results, results.arms["dense-13"])
    assert (narrow.seconds, narrow.dense_seconds) == (2.0, None)
    random = next(arm for name, arm in results.arms.items() if name.startswith("erdos"))
    assert state_arm(results, random).dense_seconds == 2.0


def test_each_arm_has_a_row(made_up: Any) -> None:
    folder = made_up.rewired(seeds=1)
    (made_up.run("mixer", 0) / "summary.json").write_text("{", encoding="utf-8")
    results = load_results(folder)
    rows = {row[0][0].partition("\n")[0]: row for row in sparsity_rows(results)}
    assert all(len(cells) == len(HEADER) for cells, _ in rows.values())
    cells, text = rows["mixer-set"]
    assert cells[3].startswith("rewired by SET, per_epoch = 2\ndrops the smallest")
    assert cells[6:] == ("50 %", "1.5 s, dense 2 s: 1.33 × as fast\nmasked")
    assert "hidden.0.weight (SparseLinear, 32 × 64): density 0.25, block 1 × 1, 8 groups" in text
    assert rows["mixer"][0][7] == "not measured\nnot known"
    assert rows["er-gmp"][0][4] == "1.000\ndense-to-sparse"


def test_every_report_has_it(made_up: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "differences",
        "learning_curves",
        "accuracy_by_parameters",
        "accuracy_by_operations",
        "accuracy_by_time",
    ):
        monkeypatch.setattr(figures, name, lambda results: None)
    monkeypatch.setattr(figures, "wiring_pictures", lambda results: {})
    monkeypatch.setattr(rewiring_figures, "rewiring_pictures", lambda results: {})
    html = write_report(made_up.comparison(spiking={"steps": 8})).read_text(encoding="utf-8")
    assert '">What is sparse</h2>' in html
    assert re.search(r"readout\.weight \(\w+, 10 × 32\): dense, read-out", html)
