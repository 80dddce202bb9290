"""Every paired difference of a comparison with what a test says of it, as a table."""

from neuropil.compare.results import Results
from neuropil.compare.sentences import interval, points
from neuropil.compare.significance import MOST_SEEDS, effect_size, power_of
from neuropil.compare.significance_words import probability
from neuropil.compare.table import MARK, NONE

HEADER = ("arm", "less", "{unit}s", "difference", "effect size", "p", "corrected p", "seen at 80 %", "{unit}s needed")


def difference_rows(results: Results) -> tuple[list[str], list[list[str]]]:
    """Return the header and a row for each difference, as text; no rows where nothing is compared or done."""
    rows = []
    for arm in results.compared_arms:
        for kind in results.difference_words:
            difference = arm.differences.get(kind)
            found = None if difference is None else difference.accuracy
            if difference is None or found is None:
                continue
            test, effect = difference.test, effect_size(found)
            power = power_of(found, test)
            rows.append(
                [
                    arm.arm.name,
                    difference.twin,
                    str(found.n),
                    f"{points(found.mean)} {interval(found)}".rstrip(),
                    NONE if effect is None else f"{effect:+.2f}".replace("-", "−"),
                    NONE if test is None else _small(test.p),
                    NONE if test is None else _small(test.corrected_p) + MARK * test.is_clear,
                    NONE if power is None else f"{100 * power.detectable:.2f}",
                    NONE if power is None else f"> {MOST_SEEDS:,}" if power.needed is None else f"{power.needed:,}",
                ]
            )
    return [title.format(unit=results.unit) for title in HEADER], rows


def difference_table_note(results: Results) -> str:
    """Return what must stand beneath the table."""
    corrected = (
        "Corrected p: by Holm's method, for all differences of one kind (to the dense network of the same width, "
        "and so on; to the reference)"
        if results.recipe.correction == "holm"
        else "Corrected p: p itself, for the recipe asks for no correction"
    )
    return (
        f"Differences of accuracy in percentage points, paired by {results.unit}. Effect size: Cohen's d of pairs, the "
        f"mean over the standard deviation of the differences, with Hedges' correction. p: of the paired t test. "
        f"{corrected}; {MARK} less than 0.05. Seen at 80 %: the least true difference that this many {results.unit}s "
        f"would show 80 % of the time at the observed spread; {results.unit}s needed: how many would show one as large "
        "as the observed as often, were that and its spread the true ones; both at the level that the least p of its "
        "kind must reach."
    )


def _small(p: float) -> str:
    return probability(p) if p >= 0.001 else f"< {probability(p)}"
