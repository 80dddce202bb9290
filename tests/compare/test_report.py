"""The report: complete, self-contained, and safe with whatever a recipe or a run says."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from neuropil.compare import figures, rewiring_figures
from neuropil.compare.report import collect_notices, describe_progress, describe_setting, write_report
from neuropil.compare.results import load_results
from neuropil.compare.sentences import caveats, findings
from neuropil.compare.statistics import estimate
from neuropil.compare.table import table_columns, table_rows

VOID = {"meta", "img", "br", "input"}


class Page(HTMLParser):
    """The text of a page, its elements, and whether they are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def __contains__(self, text: str) -> bool:
        return re.sub(r"\s+", " ", text) in self.text


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pictures that every report has."""
    for name in (
        "differences",
        "learning_curves",
        "accuracy_by_parameters",
        "accuracy_by_operations",
        "accuracy_by_time",
    ):
        monkeypatch.setattr(figures, name, lambda results: None)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch, few_pictures: None) -> None:
    """Leave out what takes most of the time, where a test looks at words alone."""
    monkeypatch.setattr(figures, "wiring_pictures", lambda results: {})
    monkeypatch.setattr(rewiring_figures, "rewiring_pictures", lambda results: {})


def read(folder: Path) -> tuple[str, Page]:
    html = write_report(folder).read_text(encoding="utf-8")
    return html, Page(html)


def test_report_says_everything(made_up: Any) -> None:
    folder = made_up.comparison()
    results = load_results(folder)
    html, page = read(folder)
    assert (folder / "report.html").exists()
    header, rows = table_rows(results)
    for text in (
        results.recipe.question,
        results.recipe.source,
        describe_setting(results.recipe),
        "All 15 runs are done.",
        "The test set was used once in each run, after the last epoch.",
        "the masked kernel computes the dense product",
        "No run gave a warning.",
        "neuropil compare made-up.yaml",
        "p_inter: 0.15",
        "a processor",
        "abc1234",
        *caveats(results),
        *header,
        *(column.explanation for column in table_columns(results)),
        *(line for row in rows for cell in row for line in cell.split("\n")),
        *(text for f in findings(results) for text in (f.summary, *f.comparisons, str(f.speed))),
    ):
        assert text in page, text
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(pictures) == 5 + sum(not arm.arm.is_dense for arm in results.arms.values())
    assert all(str(picture["src"]).startswith("data:image/") and picture["alt"] for picture in pictures)
    assert str(folder) not in html


@pytest.mark.usefixtures("few_pictures")
def test_rewiring_has_a_section(made_up: Any) -> None:
    folder = made_up.rewired()
    results = load_results(folder)
    html, page = read(folder)
    for text in (
        "mixer, 8 groups, p′ = 0.15, rewired by SET, per_epoch = 2",
        "SET: drops the smallest positive and the largest negative weights, grows at random, 30 % twice an epoch.",
        "GMP: drops the smallest weights, every 5 steps, thinning each layer out to a density of 0.25",
        "One that is rewired comes with a fourth: the same wiring, left as it starts.",
        "p′ = 0.15; so start mixer-set",
        *(finding.rewiring for finding in findings(results) if finding.rewiring),
    ):
        assert text in page, text
    pictures = {str(attributes["alt"]): attributes["src"] for tag, attributes in page.elements if tag == "img"}
    assert len([alt for alt in pictures if alt.startswith("Connections that came and went")]) == 3
    assert "Wiring of the hidden layers of mixer-set" not in pictures
    assert ">Rewiring<" in html


@pytest.mark.usefixtures("few_pictures")
def test_nothing_of_rewiring_without_it(made_up: Any) -> None:
    html, _ = read(made_up.comparison())
    own = r"<(style|script)>.*?</\1>|base64,[^\"]*"
    assert not re.search("rewir|, static|Static", re.sub(own, "", html, flags=re.DOTALL))


@pytest.mark.usefixtures("no_pictures")
def test_rewiring_that_has_not_begun(made_up: Any) -> None:
    folder = made_up.rewired()
    for file in (*folder.glob("*/*/rewiring.jsonl"), *folder.glob("*/*/summary.json")):
        file.unlink()
    _, page = read(folder)
    assert "30 % twice an epoch. Nothing has been rewired yet." in page


def test_report_needs_nothing_from_outside(made_up: Any) -> None:
    html, page = read(made_up.comparison())
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "srcset"):
            assert str(attributes.get(name, "data:")).startswith("data:")
        assert str(attributes.get("href", "#")).startswith("#")
    assert "http:" not in html
    assert "https:" not in html
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", html)


@pytest.mark.usefixtures("no_pictures")
def test_contents_lead_to_every_section(made_up: Any) -> None:
    html, page = read(made_up.comparison())
    titles = re.findall(r'<h2 id="([^"]+)">([^<]+)</h2>', html)
    assert len(titles) == sum(tag == "h2" for tag, _ in page.elements) > 5
    assert len({name for name, _ in titles}) == len(titles)
    assert re.findall(r'<a href="#([^"]+)">([^<]+)</a>', html) == titles


@pytest.mark.usefixtures("no_pictures")
def test_scripts_are_those_that_the_policy_names(made_up: Any) -> None:
    html, page = read(made_up.comparison())
    (policy,) = (each["content"] for tag, each in page.elements if tag == "meta" and "http-equiv" in each)
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(scripts) == 2
    assert str(policy).startswith("default-src 'none'; ")
    assert str(policy).endswith("script-src " + " ".join(f"'sha256-{digest}'" for digest in digests))


def embedded(html: str) -> Any:
    """Return the data of a page, found as a browser finds it: up to whatever ends the element."""
    return json.loads(html.partition('<script type="application/json" id="data">')[2].partition("</script")[0])


@pytest.mark.usefixtures("no_pictures")
def test_curves_are_there_as_data(made_up: Any) -> None:
    folder = made_up.comparison()
    made_up.remove_summary("index", 2)
    data = embedded(read(folder)[0])
    assert data["arms"]["mixer"] == {"control": False, "done": True, "chosen": True}
    assert data["arms"]["dense-32"] == {"control": True, "done": True, "chosen": True}
    assert data["arms"]["index"]["done"] is False
    (chart,) = data["charts"]
    assert [panel["arm"] for panel in chart["panels"]] == ["index", "mixer"]
    line = chart["panels"][1]["lines"][-1]
    values = [100 * made_up.accuracy("mixer", seed) for seed in range(3)]
    low, high = estimate(values).interval or (0, 0)
    assert (line["arm"], line["x"], line["n"]) == ("mixer", [1, 2], [3, 3])
    assert [line[key][1] for key in ("mean", "low", "high")] == pytest.approx(
        [sum(values) / 3, min(values), max(values)], rel=1e-4
    )
    assert line["ends"][1] == pytest.approx([low, high], rel=1e-4)
    assert [each["arm"] for each in chart["panels"][0]["lines"]] == [
        *load_results(folder).arms["index"].arm.twins.values(),
        "index",
    ]


def test_same_runs_give_the_same_report(made_up: Any, tmp_path: Path) -> None:
    folder = made_up.comparison()
    first = write_report(folder, tmp_path / "first.html").read_bytes()
    assert write_report(folder, tmp_path / "second.html").read_bytes() == first


@pytest.mark.usefixtures("no_pictures")
def test_hostile_text_stays_text(made_up: Any) -> None:
    hostile = "<script>alert('a' & \"b\")</script>"
    folder = made_up.comparison(question=hostile, source=hostile)
    made_up.write_summary("index", 0, warnings=[hostile], kernels=[hostile])
    (made_up.run("index", 1) / "environment.json").write_text('{"processor": "<b>x</b>", "<i>": "y"}')
    (made_up.remove_summary("index", 2) / "failure.json").write_text('{"reason": "<img src=x>"}')
    html, page = read(folder)
    assert "<script>alert" not in html
    assert "<img src=x>" not in html
    assert len([tag for tag, _ in page.elements if tag == "script"]) == 3
    assert "i" not in {tag for tag, _ in page.elements}
    assert hostile in page


@pytest.mark.usefixtures("no_pictures")
def test_unfinished_runs_are_shown(made_up: Any) -> None:
    folder = made_up.comparison()
    (made_up.remove_summary("index", 0) / "failure.json").write_text('{"reason": "no memory left"}')
    made_up.write_summary("mixer", 1, status="diverged", test_accuracy=None, test_loss=None)
    _, page = read(folder)
    assert "Of 15 runs, 13 done, 1 diverged, 1 failed." in page
    assert "2 of 3 1 failed" in page
    assert "2 of 3 1 diverged" in page
    failures = page.text.partition("Runs that failed The run failed: ")[2].partition("Learning curves")[0]
    assert failures.startswith("no memory left — index (seed 0)")
    assert "— mixer (seed 1)" in failures
    assert "No run gave another warning." in page
    assert "The loss was no longer a finite number: the run was stopped. — mixer (seed 1)" in page


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds(made_up: Any, seeds: int) -> None:
    _, page = read(made_up.comparison(seeds=seeds))
    assert "With fewer than 3 seeds, nothing can be concluded about accuracy." in page


def test_before_anything_has_run(made_up: Any) -> None:
    folder = made_up.comparison()
    for file in folder.glob("*/*/*"):
        file.unlink()
    _, page = read(folder)
    assert "Of 15 runs, 15 missing." in page
    assert "No run has written down its machine yet." in page


def test_dense_arms_alone(made_up: Any) -> None:
    _, page = read(made_up.comparison(arms={"wide": {"pattern": "dense"}}))
    assert "No arm is sparse, so nothing is compared with controls." in page


def test_notices_are_grouped(made_up: Any) -> None:
    folder = made_up.comparison()
    text = "{} % of the 32 units of layer 'hidden.1' are dead"
    for seed, percent in enumerate((60, 75, 60)):
        made_up.write_summary("index", seed, warnings=[text.format(percent)])
    made_up.write_summary("mixer", 2, warnings=[text.format(55), "other"], neurons_without_input=3)
    dead, other, without = collect_notices(load_results(folder))
    assert (dead.text, dead.runs) == (text.format("55–75"), ("index (seeds 0, 1, 2)", "mixer (seed 2)"))
    assert (other.text, other.runs) == ("other", ("mixer (seed 2)",))
    assert without.text.startswith("Some hidden neurons have no input")


def test_hash_signs_in_warnings_are_left_alone(made_up: Any) -> None:
    folder = made_up.comparison()
    made_up.write_summary("index", 0, warnings=["#3: 50 % of 4 units"])
    assert collect_notices(load_results(folder))[0].text == "#3: 50 % of 4 units"


def test_epochs_that_grow_slower_are_noticed(made_up: Any) -> None:
    folder = made_up.comparison()
    lines = [f'{{"epoch": {epoch}, "seconds": {1 if epoch < 7 else 5}}}\n' for epoch in range(1, 9)]
    (made_up.run("index", 0) / "metrics.jsonl").write_text("".join(lines))
    assert [notice.runs for notice in collect_notices(load_results(folder))] == [("index (seed 0)",)]


def test_setting_in_words(made_up: Any) -> None:
    setting = describe_setting(
        made_up.recipe(
            data={"name": "cifar-10", "validation": 0.2},
            model={"hidden": [64], "patches": 4},
            training={"epochs": 1, "optimizer": "sgd", "schedule": "constant", "clip_norm": 1.0},
            seeds=[7],
        )
    )
    for text in (
        "32 × 32 pixels in 3 channels; 20 % of the training images",
        "4 × 4 patches with 32 features each, then 1 hidden layer of 64 neurons",
        "Training: 1 epoch in batches of 256 with SGD with momentum 0.9, learning rate 0.001, weight decay 0.0001, "
        "gradients clipped to norm 1, float32.",
        "1 seed (7):",
    ):
        assert text in setting


def test_arms_differ_in_their_wiring_alone(made_up: Any) -> None:
    assert "Arms differ in the wiring of the hidden layers alone; only" in describe_setting(made_up.recipe())
    arms = {
        "a": {"pattern": "mixer", "rewiring": "rigl"},
        "b": {"pattern": "mixer", "rewiring": "static"},
        "c": {"pattern": "mixer", "rewiring": {"rule": "set", "fraction": 0.1}},
    }
    assert (
        "Arms differ in the wiring of the hidden layers alone: in how it starts, and in whether it is rewired in the "
        "course of training (a by RigL, c by SET); only the dense twin of the same parameters is narrower."
    ) in describe_setting(made_up.recipe(arms=arms))


def test_setting_of_sparse_read_outs_and_starts(made_up: Any) -> None:
    arms = {"a": {"pattern": "mixer"}, "b": {"pattern": "mixer", "readout": {"pattern": "erdos-renyi", "density": 0.5}}}
    setting = describe_setting(made_up.recipe(arms=arms, model={"hidden": [32, 32], "start": "kaiming"}))
    assert (
        "then a read-out, dense where nothing else is said. Arms differ in the wiring of the hidden layers and"
        in setting
    )
    assert "only the dense twin of the same parameters is narrower. Weights start uniform at Kaiming's scale" in setting
    assert "then a dense read-out. Arms" in describe_setting(made_up.recipe())


def test_progress_in_words(made_up: Any) -> None:
    folder = made_up.comparison()
    made_up.remove_summary("index", 0)
    assert describe_progress(load_results(folder)) == "Of 15 runs, 14 done, 1 begun but not ended."


def test_wrong_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be the folder of a comparison, got one without comparison\.yaml"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
