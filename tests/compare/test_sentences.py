"""The wording of findings: never more than the numbers allow."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuropil.compare.results import Difference, load_results
from neuropil.compare.sentences import Finding, caveats, compare_accuracy, findings, interval, points, verdict
from neuropil.compare.significance import Significance, p_value
from neuropil.compare.statistics import estimate


def finding_about(arm: str, folder: Path) -> Finding:
    return next(finding for finding in findings(load_results(folder)) if finding.arm == arm)


def difference(*values: float) -> Difference:
    return Difference("twin", estimate(values) if values else None, None, None)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            (0.001, -0.003, 0.005),  # mean 0.1 points, s = 0.4, half = 4.303 · 0.4 / √3 = 0.99
            "arm − twin: +0.10 points [−0.89, +1.09]: no difference shown with 3 seeds (p = 0.71). A true "
            "difference of 1.31 points would be seen 80 % of the time; the one observed takes about 128 seeds.",
        ),
        (
            (0.009, 0.010, 0.011),
            "arm − twin: +1.00 points [+0.75, +1.25]: better with 3 seeds (p = 0.003).",
        ),
        (
            (-0.009, -0.010, -0.011),
            "arm − twin: −1.00 points [−1.25, −0.75]: worse with 3 seeds (p = 0.003).",
        ),
        (
            (0.5, 0.6),
            "arm − twin: +55.00 points, 2 of 3 seeds: too few; nothing can be concluded.",
        ),
        ((0.5,), "arm − twin: +50.00 points, 1 of 3 seeds: too few; nothing can be concluded."),
        ((), "arm − twin: no seed has been done by both, so nothing can be concluded."),
        ((0.0, 0.0, 0.0), "arm − twin: +0.00 points [+0.00, +0.00]: no difference shown with 3 seeds (p = 1.00)."),
        (
            (0.9 - 0.8, 0.8 - 0.7, 0.7 - 0.6),
            "arm − twin: +10.00 points [+10.00, +10.00], 3 seeds: the same at every seed, which gives no measure of "
            "spread; nothing can be concluded.",
        ),
    ],
)
def test_sentence_about_accuracy(values: tuple[float, ...], sentence: str) -> None:
    assert compare_accuracy("arm", difference(*values), n_seeds=3) == sentence


def test_one_seed_is_not_many() -> None:
    assert "1 seed: too few" in compare_accuracy("arm", difference(0.1), n_seeds=1)


@pytest.mark.parametrize("scale", [0.0001, 1.0])
def test_verdict_turns_where_the_interval_reaches_zero(scale: float) -> None:
    # of −1, 0, 1 shifted by m, the interval is m ± 2.484
    for shift, expected in ((2.47, "no difference shown"), (2.49, "better"), (-2.49, "worse")):
        assert verdict(estimate([scale * (shift + k) for k in (-1, 0, 1)])) == expected
    assert verdict(None) == "nothing can be concluded"


def test_numbers() -> None:
    assert (points(0.0123), points(-0.5), points(-0.00001)) == ("+1.23", "−50.00", "+0.00")
    assert interval(estimate([0.1])) == ""


def test_findings_of_a_comparison(made_up: Any) -> None:
    mixed = findings(load_results(made_up.comparison()))[1]
    assert mixed.arm == "mixer"
    assert mixed.summary == (
        "better than dense of the same parameters and Erdős–Rényi of the same density; "
        "worse than dense of the same width."
    )
    assert len(mixed.comparisons) == 3
    assert mixed.comparisons[0].startswith("mixer − dense-32: −1.13 points [−1.51, −0.75]")
    assert mixed.speed == (
        "An epoch takes 0.55 [0.50–0.60] of the time of dense-32, for 0.25 of its multiply-accumulates: faster at "
        "every seed; the masked kernel computes the dense product."
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (lambda seed: 3.0, "slower at every seed"),
        (lambda seed: 1.5 + 0.5 * seed, "neither faster nor slower at every seed"),
        (lambda seed: 1.999, "neither faster nor slower at every seed"),
    ],
)
def test_sentence_about_speed(made_up: Any, seconds: Callable[[int], float], words: str) -> None:
    folder = made_up.comparison()
    for seed in range(3):
        made_up.write_summary("mixer", seed, seconds_per_epoch=seconds(seed), kernels=["blocks"] * 2)
    assert findings(load_results(folder))[1].speed.endswith(f"multiply-accumulates: {words}.")


def test_two_seeds_conclude_nothing(made_up: Any) -> None:
    results = load_results(made_up.comparison(seeds=2))
    for finding in findings(results):
        assert finding.summary == "nothing can be concluded about its accuracy."
        assert all(sentence.endswith("nothing can be concluded.") for sentence in finding.comparisons)
    assert caveats(results)[0] == "With fewer than 3 seeds, nothing can be concluded about accuracy."


def test_caveats(made_up: Any) -> None:
    folder = made_up.comparison()
    whole = caveats(load_results(folder))
    assert len(whole) == 3
    assert whole[1].startswith("With 3 seeds, a difference has a chance of 80 % to be seen only if it is 3.3 times as")
    assert whole[2].startswith(
        "6 differences were tested. What is said of them counts p values after Holm's correction"
    )
    made_up.write_summary("mixer", 0, status="diverged", test_accuracy=None)
    made_up.remove_summary("index", 0)
    (made_up.run("index", 1) / "environment.json").write_text('{"processor": "another", "threads": 2}')
    broken = " ".join(caveats(load_results(folder)))
    assert "looks better than it is" in broken
    assert "these are the findings so far" in broken
    assert "different processors (a processor, another): their times cannot be compared" in broken
    assert "different numbers of threads (1, 2)" in broken


def test_caveats_without_correction_and_with_more_seeds(made_up: Any) -> None:
    whole = caveats(
        load_results(
            made_up.comparison(lambda arm, seed: 0.5 + made_up.accuracy(arm, seed) / 3, correction="none", seeds=5)
        )
    )
    assert len(whole) == 2
    assert whole[1].startswith("6 differences are shown, and no correction for multiple comparisons was made")


def test_what_correction_takes_away_is_said() -> None:
    found = estimate([0.010, 0.012, 0.017, 0.006])  # t = 4.91, p = 0.016
    alone = difference(0.010, 0.012, 0.017, 0.006)
    assert compare_accuracy("arm", alone, n_seeds=4).endswith("better with 4 seeds (p = 0.016).")
    p = p_value(found)
    assert p is not None
    one_of_many = replace(alone, test=Significance(p, 10 * p, n_tests=10, corrected=True))
    assert compare_accuracy("arm", one_of_many, n_seeds=4) == (
        "arm − twin: +1.12 points [+0.40, +1.85]: no difference shown after correction, with 4 seeds (p = 0.016, "
        "corrected for 10 differences 0.16). A true difference of 2.15 points would be seen 80 % of the time; the one "
        "observed takes about 6 seeds."
    )
    assert verdict(found, one_of_many.test) == "no difference shown"


def test_a_difference_that_no_one_will_ever_see() -> None:
    sentence = compare_accuracy("arm", difference(0.0100, -0.0101, 0.0001), n_seeds=3)
    assert sentence.endswith("the one observed takes more than 10,000 seeds.")


def test_before_anything_has_run(made_up: Any) -> None:
    folder = made_up.comparison()
    for summary in folder.glob("*/*/summary.json"):
        summary.unlink()
    results = load_results(folder)
    for finding in findings(results):
        assert finding.speed is None
        assert all("no seed has been done by both" in sentence for sentence in finding.comparisons)
    assert caveats(results)


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (lambda seed: 0.02 + 0.001 * seed, "Rewiring helped: better than mixer, the same wiring left static."),
        (lambda seed: -0.02 + 0.001 * seed, "Rewiring did harm: worse than mixer, the same wiring left static."),
        (
            lambda seed: 0.01 * (seed - 1),
            "No difference shown between rewiring and mixer, the same wiring left static.",
        ),
        (lambda seed: 0.01, "Whether rewiring helps against mixer, the same wiring left static, cannot be concluded."),
    ],
)
def test_sentence_about_rewiring(made_up: Any, gain: Callable[[int], float], words: str) -> None:
    def accuracy(arm: str, seed: int) -> float:
        return 0.8 + 0.01 * seed + (gain(seed) if arm == "mixer-set" else 0.0)

    finding = finding_about("mixer-set", made_up.rewired(accuracy))
    assert finding.rewiring == (
        f"{words} 4 events replaced 50 % of its connections, counting each time; 50 % of those that are possible have "
        "been live, 25 % at the start. An epoch takes 1.36 of the time that it takes without rewiring."
    )


def test_the_static_twin_is_one_of_the_twins(made_up: Any) -> None:
    folder = made_up.rewired()
    mixed, rewired, pruned = (finding_about(arm, folder) for arm in ("mixer", "mixer-set", "er-gmp"))
    assert (len(mixed.comparisons), len(rewired.comparisons), len(pruned.comparisons)) == (3, 4, 3)
    assert rewired.comparisons[-1].startswith("mixer-set − mixer: ")
    assert "the same wiring left static" in rewired.summary
    assert "static" not in mixed.summary + pruned.summary
    assert mixed.rewiring is None


def test_without_static_twin(made_up: Any) -> None:
    finding = finding_about("er-gmp", made_up.rewired())
    assert finding.rewiring.startswith(
        "Its density changes, to 0.250 in the end, which its twins are matched to: it has no static twin. 4 events "
    )


def test_where_nothing_comes(made_up: Any) -> None:
    folder = made_up.rewired()
    for seed in range(3):
        rewiring = {"events": 3, "replaced": 0.0, "explored": 1.0, "modularity": None}
        made_up.write_summary("er-gmp", seed, test_accuracy=0.9, rewiring=rewiring)
    assert finding_about("er-gmp", folder).rewiring.endswith(
        "it has no static twin. 3 events took connections away, and none came. The epoch of the last one ended with 99 % "
        "of the validation accuracy before it, or more."
    )


def test_nothing_about_rewiring_before_it_is_done(made_up: Any) -> None:
    folder = made_up.rewired()
    for seed in range(3):
        made_up.remove_summary("mixer-set", seed)
    assert finding_about("mixer-set", folder).rewiring is None
