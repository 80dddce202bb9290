import gc

import pytest

from neuropil.bench.timing import cpu_clock, measure, quartiles, ratios, reason_of, summary


class FakeClock:
    """Seconds that were agreed upon, by what a step returns."""

    def __init__(self, seconds):
        self.seconds = {name: list(values) for name, values in seconds.items()}

    def __call__(self, step):
        return self.seconds[step()].pop(0)


def contestant(name, calls):
    def build():
        calls.append(f"build {name}")

        def step():
            calls.append(name)
            return name

        return step

    return build


def test_all_are_built_first_and_then_take_turns():
    calls = []
    timings = measure(
        {name: contestant(name, calls) for name in "ab"},
        rounds=2,
        warm_up=2,
        clock=FakeClock({"a": [9, 1, 2], "b": [9, 3, 4]}),
    )
    assert calls == ["build a", "build b", *"abababab"]
    assert timings.seconds == {"a": [1, 2], "b": [3, 4]}  # warm-up does not count
    assert timings.first == {"a": "a", "b": "b"}
    assert not timings.reasons
    assert gc.isenabled()


def test_the_first_step_is_never_timed():
    timings = measure({"a": contestant("a", [])}, rounds=1, warm_up=0, clock=FakeClock({"a": [5]}))
    assert timings.seconds == {"a": [5]}


def test_a_quick_step_is_repeated():
    calls = []
    seconds = iter([0.01, 0.08])

    def clock(step):
        step()
        return next(seconds)

    timings = measure({"a": contestant("a", calls)}, rounds=1, warm_up=2, clock=clock, shortest=0.04)
    assert calls.count("a") == 1 + 1 + 4
    assert timings.seconds == {"a": [0.02]}


@pytest.mark.parametrize("when", [0, 1, 3])
def test_who_fails_is_left_out_and_the_others_go_on(when):
    turns = []

    def failing():
        def step():
            turns.append(1)
            if len(turns) > when:
                raise RuntimeError("no kernel for this.\nand a long story")

        return step

    timings = measure({"bad": failing, "good": contestant("good", [])}, rounds=3, warm_up=2)
    assert timings.reasons == {"bad": "no kernel for this"}
    assert list(timings.seconds) == ["good"]
    assert len(timings.seconds["good"]) == 3
    assert len(turns) == when + 1


def test_who_cannot_be_built_says_why():
    def unbuildable():
        raise ValueError("needs blocks, got none; try blocks")

    timings = measure({"bad": unbuildable}, rounds=1)
    assert timings.reasons == {"bad": "needs blocks, got none; try blocks"}
    assert summary(timings, "bad", {"linear": "bad"}, rounds=1) == {
        "rounds": 1,
        "reason": "needs blocks, got none; try blocks",
    }


def test_an_interruption_is_no_failure():
    def build():
        def step():
            raise KeyboardInterrupt

        return step

    with pytest.raises(KeyboardInterrupt):
        measure({"a": build}, rounds=1)
    assert gc.isenabled()


def test_quartiles_and_ratios():
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)
    assert quartiles([1.0, 3.0]) == (1.5, 2.0, 2.5)
    assert quartiles([5.0, 1.0, 2.0, 4.0, 3.0]) == (2.0, 3.0, 4.0)
    # round by round: 2, 2, 2, although the medians' ratio is 2 and the means' is not
    assert ratios([2.0, 20.0, 200.0], [1.0, 10.0, 100.0]) == (2.0, 2.0, 2.0)
    # the machine slows down in the middle: only the ratio of rounds tells
    assert ratios([10.0, 100.0, 12.0], [5.0, 50.0, 4.0]) == (2.0, 2.0, 2.5)


def test_summary_of_milliseconds_and_ratios():
    clock = FakeClock({"ours": [0, 0.1, 0.2, 0.3], "linear": [0, 0.2, 0.4, 0.6]})
    timings = measure({name: contestant(name, []) for name in ("linear", "ours")}, rounds=3, warm_up=2, clock=clock)
    row = summary(timings, "ours", {"linear": "linear", "masked": "absent"}, rounds=3)
    assert row == {
        "median_ms": 200,
        "lower_quartile_ms": 150,
        "upper_quartile_ms": 250,
        "over_linear": 2,
        "over_linear_lower": 2,
        "over_linear_upper": 2,
        "rounds": 3,
        "reason": None,
    }


def test_reasons_are_one_sentence():
    assert reason_of(ValueError("a: b must c, got d; try e")) == "a: b must c, got d; try e"
    assert reason_of(RuntimeError("\n  First. Second.\nThird")) == "First"
    assert reason_of(MemoryError()) == "MemoryError"
    assert len(reason_of(RuntimeError("x" * 1000))) <= 180


def test_cpu_clock_calls_once():
    calls = []
    assert cpu_clock(lambda: calls.append(1)) >= 0
    assert calls == [1]
