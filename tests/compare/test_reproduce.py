"""Published claims: what each asks for, how runs are judged, and what is written down of it."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

import neuropil
from neuropil.cli.main import app
from neuropil.compare import load_recipe
from neuropil.compare.execute import execute
from neuropil.compare.reproduce import (
    Rows,
    all_claims,
    find_claim,
    judge,
    make_row,
    read_claim,
    read_record,
    read_rows,
    render_page,
    write_record,
)
from neuropil.compare.reproduce.conditions import read_condition
from neuropil.data import SOURCES

REPOSITORY = Path(neuropil.__file__).parents[2]
RECORD = REPOSITORY / "results" / "reproductions.csv"
in_source_tree = pytest.mark.skipif(not RECORD.exists(), reason="needs the source tree")
TINY = {
    "claim": "Mixers learn.",
    "source": "nobody",
    "recipe": "digits",
    "settings": ["name=tiny", "epochs=3", "batch_size=32", "learning_rate=0.02", "hidden=[16]", "seeds=3"],
    "arms": ["mixer"],
    "minutes": 1,
    "conditions": {"accuracy(mixer) >= 15": 90.0, "accuracy(mixer) - accuracy(dense-16) <= 50": None},
}


def a_claim(*conditions, **changes):
    return read_claim("made-up", {**TINY, "conditions": dict.fromkeys(conditions), **changes})


def some_rows(choices=None, **arms):
    """Runs by arm from a list of accuracies; in place of one a state, or a whole row."""
    by_arm = {}
    for arm, runs in arms.items():
        rows = [
            run if isinstance(run, dict) else {"status": run} if isinstance(run, str) else {"test_accuracy": run}
            for run in runs
        ]
        by_arm[arm] = {seed: {"status": "done", **row} for seed, row in enumerate(rows)}
    return Rows(by_arm, choices or {})


@pytest.mark.parametrize("name", all_claims())
def test_every_claim_can_be_run(name):
    claim = find_claim(name)
    assert claim.claim.endswith(".")
    assert claim.data_name() in SOURCES
    if claim.recipe is not None:
        assert claim.needed_arms()
        assert claim.single_run or len(claim.comparison().seeds) >= 3
        ordinary = load_recipe(claim.recipe)
        others = claim.comparison().model_dump(exclude={"arms", "name"})
        # what is not run as the recipe has it must not be taken for it
        assert claim.comparison().name != ordinary.name or others == ordinary.model_dump(exclude={"arms", "name"})


@pytest.mark.parametrize(
    ("rows", "verdict", "reason"),
    [
        (some_rows(a=[0.95, 0.96, 0.97], b=[0.90, 0.91, 0.93]), "holds", ""),
        (some_rows(a=[0.90, 0.91, 0.93], b=[0.95, 0.96, 0.97]), "does not hold", ""),
        (some_rows(a=[0.90, 0.96, 0.93], b=[0.95, 0.91, 0.92]), "cannot be judged", "the interval contains 0"),
        (some_rows(a=[0.95, 0.96, "missing"], b=[0.9, 0.91, 0.93]), "cannot be judged", "a: 1 of 3 runs missing"),
        (some_rows(a=[0.95, 0.96, 0.97], b=[0.9, "diverged", 0.93]), "cannot be judged", "b: 1 of 3 runs diverged"),
        (some_rows(a=[0.95, 0.96], b=[0.90, 0.91]), "cannot be judged", "fewer than 3 seeds"),
        (some_rows(a=[0.95, 0.96, 0.97]), "cannot be judged", "b: no runs"),
    ],
)  # fmt: skip
def test_verdicts(rows, verdict, reason):
    found = judge(a_claim("accuracy(a) - accuracy(b) > 0"), rows)
    assert (found.verdict, found.findings[0].verdict, found.findings[0].reason) == (verdict, verdict, reason)


def test_what_is_measured_is_the_paired_difference():
    # differences of 1, 2 and 3 points: 2 ± 4.3027 · 1 / √3
    (finding,) = judge(
        a_claim("accuracy(a) - accuracy(b) >= 4"), some_rows(a=[0.91, 0.82, 0.73], b=[0.9, 0.8, 0.7])
    ).findings
    assert finding.measured.value == pytest.approx(2)
    assert finding.measured.interval == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert (finding.measured.n, finding.verdict) == (3, "cannot be judged")
    assert (
        judge(a_claim("accuracy(a) - accuracy(b) <= 5"), some_rows(a=[0.91, 0.82, 0.73], b=[0.9, 0.8, 0.7])).verdict
        == "holds"
    )


def test_a_claim_holds_if_all_conditions_do_and_fails_with_one():
    rows = some_rows(a=[0.90, 0.91, 0.92], b=[0.5, 0.7, 0.9])
    over, under, open_ = "accuracy(a) > 80", "accuracy(a) < 80", "accuracy(b) > 70"
    for conditions, verdict in {
        (over, "accuracy(a) < 100"): "holds",
        (over, open_): "cannot be judged",
        (over, open_, under): "does not hold",
    }.items():
        assert judge(a_claim(*conditions), rows).verdict == verdict


def test_one_run_is_enough_only_where_the_published_figure_is_one_of_one_run():
    rows = some_rows(a=[0.88, "missing", "missing"])
    assert judge(a_claim("accuracy(a) >= 87"), rows).verdict == "cannot be judged"
    for condition, verdict in (("accuracy(a) >= 87", "holds"), ("accuracy(a) >= 89", "does not hold")):
        found = judge(a_claim(condition, single_run=True), rows)
        assert (found.verdict, found.findings[0].reason) == (verdict, "of one run, as published")
    assert judge(a_claim("accuracy(a) >= 87", single_run=True), some_rows(a=["missing"])).verdict == "cannot be judged"


def test_a_tuned_arm_is_judged_at_what_validation_chooses():
    def runs(validation, test):
        return [{"validation_accuracy": v, "test_accuracy": t} for v, t in zip(validation, test, strict=True)]

    candidates = {"low": runs([0.8, 0.8, 0.8], [0.99, 0.98, 0.97]), "high": runs([0.9, 0.9, 0.9], [0.71, 0.72, 0.73])}
    rows = some_rows({"tuned": ("low", "high")}, **candidates)
    assert (rows.chosen("tuned"), judge(a_claim("accuracy(tuned) < 75"), rows).verdict) == ("high", "holds")
    diverged = {**candidates, "high": [*candidates["high"][:2], {"status": "diverged"}]}  # it counts 0
    assert some_rows({"tuned": ("low", "high")}, **diverged).chosen("tuned") == "low"
    waiting = some_rows({"tuned": ("low", "high")}, low=candidates["low"], high=["missing"])
    assert judge(a_claim("accuracy(tuned) < 75"), waiting).verdict == "cannot be judged"


def test_correlations_go_over_all_runs():
    rows = some_rows(a=[{"test_accuracy": k / 20, "first_emergence": float(k)} for k in range(6)],
                     b=[{"test_accuracy": k / 20, "first_emergence": float(k)} for k in range(6, 14)])  # fmt: skip
    found = judge(a_claim("correlation(first_emergence, accuracy) > 0.9"), rows)
    assert (found.verdict, found.n, found.findings[0].measured.value) == ("holds", 14, pytest.approx(1))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("accuracy(a)", "condition must be as 'accuracy(mixer) - accuracy(dense-256) > 0', got 'accuracy(a)'"),
        ("accuracy(a) > much", "condition must be as"),
        ("accuracy(a) + accuracy(b) > 0", "quantity must be as 'accuracy(mixer) - accuracy(dense-256)', got"),
        ("accuracy(a) - cut(b) > 0", "quantity must be a difference of one measure, got accuracy and cut"),
        ("acuracy(a) > 0", "measure must be one of accuracy, first_accuracy"),
    ],
)
def test_conditions_that_say_nothing(text, sentence):
    with pytest.raises(ValueError, match="^" + sentence.replace("(", r"\(").replace(")", r"\)")):
        read_condition(text)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"recipe": None}, "claim made-up must have either a recipe or an example"),
        ({"minutes": 0}, "claim made-up: minutes: input should be greater than 0, got 0"),
        ({"data": "digits"}, "claim made-up: data belongs to an example, and only there"),
    ],
)
def test_claims_that_are_none(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        a_claim("accuracy(a) > 0", **changes)


@pytest.mark.parametrize(
    ("condition", "arms", "sentence"),
    [
        ("accuracy(mixr) > 0", ["mixer"], "claim made-up: recipe digits has no arm 'mixr'; try 'mixer'"),
        ("accuracy(mixer) > 0", ["mixxer"], "reproduce: recipe digits has no arm 'mixxer'; try 'mixer'"),
    ],
)
def test_arms_that_the_recipe_lacks(condition, arms, sentence):
    with pytest.raises(ValueError, match=sentence):
        a_claim(condition, arms=arms).needed_arms()


def write_results(path, **changes):
    """Write what the tiny check would give."""
    widths = {"mixer": "16", "dense-16": "16"}
    rows = [
        {"comparison": "tiny", "arm": arm, "seed": seed, "status": "done", "test_accuracy": 0.9 + 0.01 * seed, "epochs": 3,
         "seconds_per_epoch": 2.0, "data": "digits", "hidden": hidden, "commit": "abc", **changes}
        for arm, hidden in widths.items()
        for seed in range(3)
    ]  # fmt: skip
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"comparison": "digits"}, "must be of comparison tiny, as tiny asks, got 'digits'"),
        ({"data": "mnist"}, "must be of data digits, as tiny asks, got 'mnist'"),
        ({"epochs": 20}, "must be of epochs 3, as tiny asks, got '20'"),
        ({"hidden": "32"}, "must be of hidden 16, as tiny asks, got '32'"),
        ({"seed": 0}, "must hold arm mixer with seed 1, got none"),
        ({"seed": "one"}, "must hold one row a seed, got seed 'one' of arm 'mixer'"),
    ],
)
def test_results_of_another_check_are_refused(changes, sentence, tmp_path):
    path = write_results(tmp_path / "results.csv", **changes)
    with pytest.raises(ValueError, match=sentence):
        read_rows(path, read_claim("tiny", TINY))


def test_no_table_is_refused(tmp_path):
    (tmp_path / "results.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="--from must be a results.csv with arm, seed, test_accuracy, got"):
        read_rows(tmp_path / "results.csv", read_claim("tiny", TINY))


def test_a_row_replaces_the_former_one(tmp_path):
    claim, path = read_claim("tiny", TINY), tmp_path / "results" / "reproductions.csv"
    rows = read_rows(write_results(tmp_path / "results.csv"), claim)
    row = make_row(judge(claim, rows), rows, "results/tiny.csv")
    assert (row["verdict"], row["seeds"], row["commit"], row["seconds"]) == ("holds", "3", "abc", "36")
    assert row["measured"].startswith("accuracy(mixer): 91.00 [88.52, 93.48] %, >= 15 holds | ")
    assert row["published"] == "90 | –"
    write_record(path, {**row, "verdict": "does not hold"})
    write_record(path, {**row, "name": "g2gnet-digits"})
    write_record(path, row)
    assert [*read_record(path)] == ["g2gnet-digits", "tiny"]  # claims that are known first
    assert read_record(path)["tiny"] == row
    path.write_text("name,verdict\n")
    with pytest.raises(ValueError, match="must have the columns name, claim"):
        write_record(path, row)


@in_source_tree
def test_the_page_is_that_of_the_record():
    page = (REPOSITORY / "docs" / "reproductions.md").read_text(encoding="utf-8")
    assert page == render_page(read_record(RECORD)), "try: neuropil reproduce --page"


@in_source_tree
def test_the_record_says_what_recorded_results_do():
    rows = read_record(RECORD)
    assert rows.keys() <= all_claims().keys()
    for name, row in rows.items():
        claim = find_claim(name)
        assert row["claim"] == claim.claim
        if row["made_from"].startswith("results/"):
            recorded = read_rows(REPOSITORY / row["made_from"], claim)
            assert make_row(judge(claim, recorded), recorded, row["made_from"]) | {"date": row["date"]} == row


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Work in an empty folder, with one more claim, and do its runs in this process."""
    monkeypatch.setattr("neuropil.compare.reproduce.record.root_folder", lambda: tmp_path)
    monkeypatch.setattr("neuropil.compare.reproduce.root_folder", lambda: tmp_path)
    claims = {**all_claims(), "tiny": read_claim("tiny", TINY)}
    for module in ("claims", "record"):
        monkeypatch.setattr(f"neuropil.compare.reproduce.{module}.all_claims", lambda: claims)
    monkeypatch.setattr("neuropil.compare.reproduce.all_claims", lambda: claims)
    done = []

    def do_here(tasks, **others):
        for task in tasks:
            if task.summary is None:
                done.append(task.folder)
                if len(done) == 5:
                    raise KeyboardInterrupt
                execute(task.recipe, task.folder)
            task.state = "done"

    monkeypatch.setattr("neuropil.compare.sharing.do_tasks", do_here)
    monkeypatch.setattr("neuropil.compare.write_report", lambda folder: folder / "report.html")  # has tests of its own
    monkeypatch.chdir(tmp_path)
    return done


def run(*words):
    return CliRunner().invoke(app, ["reproduce", *map(str, words)], env={"COLUMNS": "200"})


def test_the_command_runs_a_check_and_goes_on_with_it(tiny, tmp_path):
    stopped = run("tiny")
    assert "the same command goes on" in str(stopped.exception)
    assert not (tmp_path / "results").exists()
    finished = run("tiny")
    assert finished.exit_code == 0, finished.output
    assert "tiny: holds" in finished.output, finished.output
    n = len(tiny)
    assert len({*tiny}) == n - 1  # the one that was interrupted was done again, all others once
    assert "tiny: holds" in run("tiny").output
    assert len(tiny) == n
    row = read_record(tmp_path / "results" / "reproductions.csv")["tiny"]
    assert (row["verdict"], row["seeds"], row["made_from"]) == ("holds", "3", "runs")
    listed = next(line for line in run("--list").output.splitlines() if line.startswith("tiny "))
    assert listed.split() == ["tiny", "1", "digits", "holds"]
    assert run("--page").exit_code == 0
    assert "**tiny**" in (tmp_path / "docs" / "reproductions.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "one of NAME, --list and --page must be given"),
        (
            ("g2gnet-digts",),
            "NAME must be a claim that `neuropil reproduce --list` shows, got 'g2gnet-digts'; try 'g2gnet-digits'",
        ),
        (
            ("fire-together-digits",),
            "fire-together-digits is checked by an example of the source tree; try `python examples/",
        ),
        (("--page",), "--page needs outcomes in"),
    ],
)
def test_a_users_mistake_is_one_sentence(words, sentence, tiny):
    failed = run(*words)
    assert isinstance(failed.exception, ValueError)
    assert sentence in str(failed.exception)
