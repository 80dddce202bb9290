"""Chance and power in words: how seldom a difference comes by itself, and how many seeds would show it."""

from neuropil.compare.significance import MOST_SEEDS, POWER, Significance, detectable_difference, power_of
from neuropil.compare.statistics import Estimate


def describe_chance(p: float, test: Significance | None) -> str:
    """Write p of a difference, and what it becomes by correction.

    Example:
        >>> describe_chance(0.0123, Significance(0.0123, 0.0246, n_tests=2, corrected=True))
        'p = 0.012, corrected for 2 differences 0.025'
        >>> describe_chance(0.00001, None)
        'p < 0.001'
    """
    text = f"p {'=' if p >= 0.001 else '<'} {probability(p)}"
    if test is None or not test.corrected or test.n_tests == 1:
        return text
    less = "" if test.corrected_p >= 0.001 else "< "
    return f"{text}, corrected for {test.n_tests} differences {less}{probability(test.corrected_p)}"


def describe_power(found: Estimate, test: Significance | None, *, unit: str) -> str:
    """Say which difference would have been seen, and how many seeds this one takes; nothing without any spread."""
    power = power_of(found, test)
    if power is None:
        return ""
    many = f"more than {MOST_SEEDS:,}" if power.needed is None else f"about {power.needed:,}"
    return (
        f" A true difference of {100 * power.detectable:.2f} points would be seen {POWER:.0%} of the time; the one "
        f"observed takes {many} {unit}s."
    ).replace("%", " %")


def warn_of_few(n: int, unit: str) -> str:
    """Say what so few seeds, three or four, can show, and what their intervals stand on."""
    return (
        f"With {n} {unit}s, a difference has a chance of {POWER:.0%} to be seen only if it is "
        f"{detectable_difference(1.0, n):.1f} times as large as its standard deviation over {unit}s, more where others "
        "are corrected for; and intervals and p values stand on the assumption that it has a normal distribution."
    ).replace("%", " %")


def probability(p: float) -> str:
    """Write a p value; what is less than 0.001, as that.

    Example:
        >>> probability(0.4567), probability(0.0456), probability(1e-9)
        ('0.46', '0.046', '0.001')
    """
    return f"{p:.2f}" if p >= 0.1 else f"{max(p, 0.001):.3f}"
