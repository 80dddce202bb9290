"""Whether what probes measured goes with accuracy: rank correlations over the runs of one architecture."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neuropil.compare.arms import Arm
from neuropil.compare.probe_figures import trace
from neuropil.compare.probes import read_probe
from neuropil.compare.results import ArmResult, Results

FEWEST_RUNS = 10  # fewer give no rank correlation worth telling
RANKS_NOTE = (
    "Spearman's rank correlation of what a probe gave with the accuracy after the last epoch. Over the runs of arms "
    "that are wired alike, where a recipe has such: they differ in their start or in how they learn. Within arms: over "
    "all arms of the recipe's widths, by ranks within each, so that what tells arms from each other does not count. "
    "Brackets: 95 % interval (Bonett and Wright, Psychometrika 65, 2000), which takes runs as independent. "
    "A correlation is no cause."
)
_Z = 1.959964


@dataclass(frozen=True)
class RankCorrelation:
    """How the order of runs by a probe goes with their order by accuracy.

    Attributes:
        n: runs.
        rho: Spearman's ρ, in [−1, 1].
        interval: of 95 %, inside [−1, 1].
    """

    n: int
    rho: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class ProbeRanks:
    """The rank correlations of one number of a probe with accuracy.

    Attributes:
        probe, quantity: which number, and its title.
        epoch: when it was measured, 0 before training.
        alike: over the runs of the largest set of arms that are wired alike; None where that is less than 10 runs of
            two arms, or nothing varies.
        within_arms: over all runs, ranked within their arms; None without arms of at least three runs.
    """

    probe: str
    quantity: str
    epoch: float
    alike: RankCorrelation | None
    within_arms: RankCorrelation | None


def probe_ranks(results: Results) -> list[ProbeRanks]:
    """Return the rank correlations of each probe's single numbers, before training, after one epoch and at the end.

    Numbers that a probe gives by layer are left out, as are networks of other widths than the recipe's, and everything
    where fewer than 10 runs are done.
    """
    arms = [arm for arm in results.arms.values() if list(arm.arm.hidden) == list(results.recipe.model.hidden)]
    values = {arm.arm.name: _values(results, arm) for arm in arms}
    alike = _wired_alike([arm.arm for arm in arms])
    found = []
    for description in results.recipe.probes:
        plan = read_probe(description)
        for quantity, of in plan.kind.quantities.items():
            for epoch in dict.fromkeys((0.0, 1.0, float(results.recipe.training.epochs))):
                key = (plan.name, quantity, epoch)
                by_arm = [of_arm[key] for of_arm in values.values() if key in of_arm]
                if sum(map(len, by_arm)) < FEWEST_RUNS:
                    continue
                shared = [pair for name in alike for pair in values[name].get(key, ())]
                within = [_ranked(pairs) for pairs in by_arm if len(pairs) >= 3]
                found.append(
                    ProbeRanks(
                        plan.name,
                        of.title,
                        epoch,
                        spearman(shared) if len(shared) >= FEWEST_RUNS else None,
                        spearman([pair for pairs in within for pair in pairs], n_arms=len(within)),
                    )
                )
    return found


def ranks_table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Return the header and one row a number of a probe, as text; no rows where nothing can be told."""
    header = ["probe", "measured", "ρ, wired alike", "ρ, within arms"]
    rows = [
        [
            f"{found.probe}\n{found.quantity}",
            "before training" if found.epoch == 0 else f"after epoch {found.epoch:g}",
            _text(found.alike),
            _text(found.within_arms),
        ]
        for found in probe_ranks(results)
    ]
    return header, rows


def spearman(pairs: Sequence[tuple[float, float]], *, n_arms: int = 1) -> RankCorrelation | None:
    """Return Spearman's rank correlation of pairs, ties at their mean rank; None below 4 pairs or where all are alike.

    ρ is the correlation of ranks. The interval is tanh(artanh ρ ± 1.96 √((1 + ρ²/2) / (n − k − 3))).

    Args:
        pairs: n of them.
        n_arms: whose means have been taken out of the pairs. k is one less, as for a partial correlation with so many
            variables held fixed; n − k must be at least 4.

    Reference:
        C. Spearman, Am. J. Psychol. 15 (1904); interval: D. Bonett, T. Wright, Psychometrika 65 (2000), 23–28.

    Example:
        >>> spearman([(1, 2), (2, 1), (3, 4), (4, 3), (5, 5)]).rho
        0.8
    """
    n = len(pairs)
    free = n - (n_arms - 1) - 3
    if free < 1:
        return None
    from scipy.stats import rankdata

    x, y = (rankdata([pair[i] for pair in pairs]) for i in (0, 1))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    rho = round(float(np.corrcoef(x, y)[0, 1]), 12)
    inside = min(max(rho, -1 + 1e-12), 1 - 1e-12)
    half = _Z * math.sqrt((1 + inside**2 / 2) / free)
    return RankCorrelation(n, rho, (math.tanh(math.atanh(inside) - half), math.tanh(math.atanh(inside) + half)))


def _wired_alike(arms: Sequence[Arm]) -> list[str]:
    """Return the names of the largest set of at least two arms that are wired alike, never rewired; else none."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for arm in arms:
        if arm.rewiring is None:
            groups.setdefault((arm.patterns, arm.readout), []).append(arm.name)
    largest = max(groups.values(), key=len, default=[])
    return largest if len(largest) > 1 else []


def _values(results: Results, arm: ArmResult) -> Mapping[tuple[str, str, float], list[tuple[float, float]]]:
    """Return pairs of a probe's single number and accuracy, by probe, quantity and epoch, over the runs of an arm."""
    runs = arm.single_runs
    found: dict[tuple[str, str, float], list[tuple[float, float]]] = {}
    for run in runs:
        if run.accuracy is None:
            continue
        for probe, quantities in trace(results, arm, [run]).items():
            for quantity, layers in quantities.items():
                for curve in layers.get("", ()):
                    for epoch, value in curve.items():
                        found.setdefault((probe, quantity, epoch), []).append((value, run.accuracy))
    return found


def _ranked(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return pairs as ranks within themselves, from −1/2 to 1/2, so that arms of other sizes count alike."""
    from scipy.stats import rankdata

    n = len(pairs)
    x, y = ((rankdata([pair[i] for pair in pairs]) - (n + 1) / 2) / n for i in (0, 1))
    return [(float(a), float(b)) for a, b in zip(x, y, strict=True)]


def _text(found: RankCorrelation | None) -> str:
    if found is None:
        return "–"
    low, high = found.interval
    return f"{found.rho:+.2f}\n[{low:+.2f}, {high:+.2f}], {found.n} runs".replace("-", "−")
