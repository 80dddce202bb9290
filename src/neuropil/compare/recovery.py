"""How soon a network that was pruned is as good again."""

from collections.abc import Sequence

from neuropil.compare.run_result import RunResult, is_number

SHARE = 0.99  # of the accuracy before pruning, from which on a network counts as recovered


def epochs_to_recover(run: RunResult, share: float = SHARE) -> int | None:
    """Return after how many epochs a run reached a share of the accuracy that it had before its last event.

    Accuracy is that on the validation split; before: after the last whole epoch without that event, so there must be
    one.

    Returns:
        0 if the epoch of the event itself ends with that accuracy, and so on; None without events, before an event
        could be seen, or if it was never reached.

    Args:
        run: with its events.
        share: of the accuracy before, in (0, 1].
    """
    accuracies = {
        record["epoch"]: float(record["validation_accuracy"])
        for record in run.metrics
        if isinstance(record.get("epoch"), int) and is_number(record.get("validation_accuracy"))
    }
    if not run.events:
        return None
    pruned = run.events[-1]["epoch"]
    before = accuracies.get(pruned - 1)
    if before is None:
        return None
    after = [epoch for epoch in sorted(accuracies) if epoch >= pruned and accuracies[epoch] >= share * before]
    return after[0] - pruned if after else None


def describe_recovery(runs: Sequence[RunResult]) -> str | None:
    """Say in a sentence how soon runs that were pruned were as good again; None where none of them tells.

    Example:
        >>> describe_recovery([])
    """
    told = [run for run in runs if run.state == "done" and run.events and run.events[-1]["epoch"] > 1]
    if not told:
        return None
    epochs = sorted(found for run in told if (found := epochs_to_recover(run)) is not None)
    never = len(told) - len(epochs)
    missed = f" {never} of {len(told)} runs did not come back to it." if never else ""
    if not epochs:
        return f"After the last of them, no run came back to {100 * SHARE:.0f} % of its validation accuracy before."
    if epochs[-1] == 0 and not never:
        return (
            f"The epoch of the last one ended with {100 * SHARE:.0f} % of the validation accuracy before it, or more."
        )
    spread = f"{epochs[0]}" if epochs[0] == epochs[-1] else f"{epochs[0]} to {epochs[-1]}"
    plural = "" if spread == "1" else "s"
    return (
        f"After the last of them, validation accuracy was at {100 * SHARE:.0f} % of what it was before within {spread} "
        f"further epoch{plural}.{missed}"
    )
