"""How soon a network that was pruned is as good again."""

from typing import Any

import pytest

from neuropil.compare.recovery import describe_recovery, epochs_to_recover
from neuropil.compare.run_result import RunResult


def run(accuracies: list[float], pruned: list[int]) -> RunResult:
    metrics: list[dict[str, Any]] = [{"epoch": i, "validation_accuracy": a} for i, a in enumerate(accuracies, 1)]
    events = tuple({"epoch": epoch, "step": 10 * epoch, "layer": "0"} for epoch in pruned)
    return RunResult("a", 0, "done", None, {}, tuple(metrics), {}, events)


@pytest.mark.parametrize(
    ("accuracies", "pruned", "epochs"),
    [
        ([0.5, 0.9, 0.6, 0.88, 0.895], [3], 2),
        ([0.5, 0.9, 0.9], [3], 0),
        ([0.5, 0.9, 0.6, 0.7], [3], None),
        ([0.5, 0.9, 0.2, 0.5, 0.3, 0.5], [3, 5], 1),  # the last event counts, and what was before it
        ([0.5, 0.9], [1], None),  # nothing is known of before
        ([0.5, 0.9], [], None),
    ],
)
def test_epochs(accuracies: list[float], pruned: list[int], epochs: int | None) -> None:
    assert epochs_to_recover(run(accuracies, pruned)) == epochs


def test_words() -> None:
    quick, slow, never = run([0.9, 0.9], [2]), run([0.9, 0.5, 0.5, 0.9], [2]), run([0.9, 0.5], [2])
    assert str(describe_recovery([quick, slow, never])).endswith(
        "within 0 to 2 further epochs. 1 of 3 runs did not come back to it."
    )
    assert str(describe_recovery([never])).startswith("After the last of them, no run came back to 99 %")
    assert str(describe_recovery([quick])).startswith("The epoch of the last one ended with 99 %")
    assert describe_recovery([run([0.9], [])]) is None
