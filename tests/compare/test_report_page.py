"""The report in a browser: filters, sorting, readings, small screens, no network; and whole without scripts."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neuropil.compare import figures, probe_figures, rewiring_figures
from neuropil.compare.report import write_report
from neuropil.compare.results import load_results
from neuropil.compare.statistics import estimate

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

EMPTY = "data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciLz4="
ARMS = {
    "index": {"pattern": "ensembles", "n_groups": 8, "p_inter": 0.15},
    "mixer": {"pattern": "mixer", "n_groups": 8, "p_inter": 0.15},
    "mixer-group": {"pattern": "mixer", "n_groups": 8, "p_inter": 0.15, "block": ["group", 1]},
}
LEVELS = {"index": 0.90, "mixer": 0.95, "mixer-group": 0.85}
CONTROLS = ["dense-32", "dense-13", "erdos-renyi-0.256"]
HOSTILE = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>"


@pytest.fixture(scope="module")
def report(made_up_once: Any) -> Path:
    """A report of three arms, one of them with a run that failed, with a probe, and with text that means harm."""
    folder: Path = made_up_once.comparison(
        lambda arm, seed: LEVELS.get(arm, 0.92) + 0.01 * seed,
        arms=ARMS, probes=["activity"], question=HOSTILE, source=HOSTILE,
    )  # fmt: skip
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == sorted([*ARMS, *CONTROLS])
    for run in folder.glob("*/seed-*"):
        records = [
            {"epoch": epoch, "probe": "activity", "value": {"mean": {"hidden.1": epoch + 1.0, HOSTILE: 2.0}}}
            for epoch in range(3)
        ]
        (run / "probes.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    failed = made_up_once.remove_summary("mixer-group", 2)
    (failed / "failure.json").write_text(json.dumps({"reason": f"no memory left {HOSTILE}"}), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:  # they take most of the time, and are looked at elsewhere
        for name in ("differences", "learning_curves", "accuracy_by_parameters", "accuracy_by_time"):
            patch.setattr(figures, name, lambda results: EMPTY)
        patch.setattr(figures, "wiring_pictures", lambda results: dict.fromkeys(ARMS, EMPTY))
        patch.setattr(rewiring_figures, "rewiring_pictures", lambda results: {})
        patch.setattr(probe_figures, "_draw", lambda *arguments: EMPTY)
        return write_report(folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


Visit = Callable[..., Any]


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Visit]:
    """Open the report; whatever it complains of, or asks of the network, fails the test."""
    contexts, complaints = [], []

    def visit(fragment: str = "", *, width: int = 1280, **settings: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 800}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda asked: complaints.append(asked.url) if asked.url[:5] not in ("file:", "data:") else 0)
        page.goto(report.as_uri() + fragment)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


def shown(page: Any, selector: str) -> list[str]:
    """Return the arms that elements of the page name, of those that are visible, in their order."""
    return page.evaluate(  # type: ignore[no-any-return]
        "selector => [...document.querySelectorAll(selector)].filter(e => e.getClientRects().length).map(e => e.dataset.arm)",
        selector,
    )


RESULTS = "section:has(#results) tr[data-arm]"
PICTURES = ("svg.panel[data-arm]", "figure[data-arm]", "dl[data-arm]")


def test_text_filters_everything_by_arm_and_stays_in_the_link(visit: Visit) -> None:
    page = visit()
    assert shown(page, RESULTS) == [*CONTROLS, *ARMS]
    page.fill("[name=arms]", "MIXER")
    assert shown(page, RESULTS) == ["mixer", "mixer-group"]
    assert [shown(page, selector) for selector in PICTURES] == [["mixer", "mixer-group"]] * len(PICTURES)
    assert set(shown(page, "svg.panel .line")) == {"mixer", "mixer-group"}
    assert page.inner_text("output").startswith("2 of 6 arms shown")
    assert not page.is_visible("section:has(#results) tr.group >> nth=0")
    page.fill("[name=arms]", "index dense-32")
    page.select_option("[name=controls]", "always")
    assert shown(page, RESULTS) == [*CONTROLS, "index"]
    page.click("nav a >> text=Results")
    assert "#results&" in page.url
    again = visit("#" + page.url.partition("#")[2])
    assert shown(again, RESULTS) == [*CONTROLS, "index"]
    assert again.input_value("[name=arms]") == "index dense-32"
    assert abs(again.evaluate("document.getElementById('results').getBoundingClientRect().top")) < 300
    again.click("text=Show all")
    assert shown(again, RESULTS) == [*CONTROLS, *ARMS]
    assert again.url.partition("#")[2] == "results"


def test_filters_by_kind(visit: Visit) -> None:
    page = visit("#controls=never")
    assert shown(page, RESULTS) == [*ARMS]
    assert set(shown(page, "svg.panel .line")) == {*ARMS}
    page.select_option("[name=runs]", "failed")
    assert shown(page, RESULTS) == ["mixer-group"]
    page.select_option("[name=runs]", "done")
    assert shown(page, RESULTS) == ["index", "mixer"]
    page.select_option("[name=controls]", "")
    assert shown(page, RESULTS) == [*CONTROLS, "index", "mixer"]


def test_links_that_make_no_sense_show_everything(visit: Visit) -> None:
    page = visit("#nowhere&controls=perhaps&sort=7.1.ascending,0.99.ascending,0.1.sideways,&hidden=%E2%80%93")
    assert shown(page, RESULTS) == [*CONTROLS, *ARMS]
    assert page.locator("[aria-sort]").count() == 0


def test_sorting(visit: Visit) -> None:
    page = visit()
    header = "section:has(#results) thead th:nth-child(3)"
    page.click(f"{header} button")
    assert page.get_attribute(header, "aria-sort") == "ascending"
    assert shown(page, RESULTS) == [*CONTROLS, "mixer-group", "index", "mixer"]
    page.focus(f"{header} button")
    page.keyboard.press("Enter")
    assert page.get_attribute(header, "aria-sort") == "descending"
    assert shown(page, RESULTS) == [*CONTROLS, "mixer", "index", "mixer-group"]
    page.uncheck("[name=apart]")
    assert shown(page, RESULTS) == ["mixer", *CONTROLS, "index", "mixer-group"]
    assert page.locator("tr.group:visible").count() == 0
    again = visit("#" + page.url.partition("#")[2])
    assert shown(again, RESULTS) == ["mixer", *CONTROLS, "index", "mixer-group"]
    page.click(f"{header} button")
    assert page.get_attribute(header, "aria-sort") is None
    assert shown(page, RESULTS) == [*CONTROLS, *ARMS]


def test_order_of_cells(visit: Visit) -> None:
    order = """([cells, direction]) => {
      const rows = cells.map(text => { const row = document.createElement("tr");
        for (const content of ["name", text]) row.insertCell().append(content);
        return row; });
      return sorted(rows, { column: 1, direction }).map(row => row.cells[1].textContent);
    }"""
    page = visit()
    for ascending in (
        ["−12.5", "−0.3", "+0.28", "9.5 ± 3", "97.53 ± 0.12", "1,234", "150,794", "–"],
        ["0.25", "2 of 3", "3", "12 %", "–", "–"],
        ["arm-2", "arm-10", "blocks 32 × 1", "dense", "–"],
        ["0.1-arm", "0.5-arm", "2nd", "x"],
    ):
        known = [cell for cell in ascending if cell != "–"]
        nothing = ascending[len(known) :]
        assert page.evaluate(order, [ascending[::-1], "ascending"]) == ascending
        assert page.evaluate(order, [ascending, "descending"]) == [*reversed(known), *nothing]
    ties = ["3 first", "1", "3 second", "3 third"]
    assert page.evaluate(order, [ties, "ascending"]) == ["1", "3 first", "3 second", "3 third"]
    assert page.evaluate(order, [ties, "descending"]) == ["3 first", "3 second", "3 third", "1"]


def place(page: Any, arm: str, epoch: int) -> tuple[float, float]:
    """Return where the mean of an arm lies on the screen, in its own panel, which is scrolled to."""
    panel = f"svg.panel[data-arm='{arm}']"
    page.locator(panel).scroll_into_view_if_needed()
    x, y = page.evaluate(
        """([selector, arm, epoch]) => {
          const svg = document.querySelector(selector), box = svg.getBoundingClientRect();
          const panel = data.charts[0].panels.find(panel => panel.arm === arm), line = panel.lines.at(-1);
          const to = scales(panel), scale = box.width / 320;
          const k = line.x.indexOf(epoch);
          return [box.left + to.x(epoch) * scale, box.top + to.y(line.mean[k]) * scale];
        }""",
        [panel, arm, epoch],
    )
    return x, y


def test_readings_under_the_pointer(visit: Visit, report: Path) -> None:
    page = visit()
    page.mouse.move(*place(page, "mixer", 2))
    runs = load_results(report.parent).arms["mixer"].single_runs
    found = estimate([100 * run.metrics[-1]["validation_accuracy"] for run in runs])
    assert found.interval is not None
    low, high = (float(f"{end:.4g}") for end in found.interval)
    assert page.inner_text("#reading").splitlines() == [
        "mixer",
        "epoch 2",
        f"mean {float(f'{found.mean:.4g}'):g}, 3 runs",
        f"95 % t interval {low:g} to {high:g}",
        "lowest to highest 95 to 97",
    ]
    assert set(shown(page, RESULTS + ".lit")) == {"mixer"}
    assert set(shown(page, ".line.lit")) == {"mixer"}
    assert len(shown(page, ".line.lit")) == 3  # in its own panel, and in two of the probe
    page.mouse.move(5, 5)
    assert not page.is_visible("#reading")
    assert shown(page, ".lit") == []
    page.hover(f"{RESULTS}:has-text('index')")
    assert set(shown(page, ".line.lit")) == {"index"}


def test_readings_by_touch_and_by_keyboard(visit: Visit) -> None:
    page = visit(width=360, has_touch=True)
    page.touchscreen.tap(*place(page, "index", 1))
    assert "epoch 1" in page.inner_text("#reading")
    right = page.evaluate("document.getElementById('reading').getBoundingClientRect().right")
    assert right <= 360
    page.focus("svg.panel[data-arm='index']")
    for key, text in (("ArrowRight", "epoch 2"), ("ArrowRight", "epoch 2"), ("ArrowLeft", "epoch 1")):
        page.keyboard.press(key)
        assert text in page.inner_text("#reading")
    page.keyboard.press("ArrowUp")
    assert not page.inner_text("#reading").startswith("index")
    page.keyboard.press("Escape")
    assert not page.is_visible("#reading")


def test_legend_hides(visit: Visit) -> None:
    page = visit()
    assert CONTROLS[0] in shown(page, "svg.panel[data-arm] .line")
    page.click(".legend button >> text=dense, same width")
    assert CONTROLS[0] not in shown(page, "svg.panel[data-arm] .line")
    assert CONTROLS[0] in shown(page, "svg.panel:not([data-arm]) .line")
    page.click(".legend button[data-arm=mixer]")
    again = visit("#" + page.url.partition("#")[2])
    for each in (page, again):
        assert "mixer" not in shown(each, "svg.panel:not([data-arm]) .line")
        assert each.get_attribute(".legend button[data-arm=mixer]", "aria-pressed") == "false"
        assert "mixer" in shown(each, RESULTS)
    again.click(".legend button[data-arm=mixer]")
    assert "mixer" in shown(again, "svg.panel:not([data-arm]) .line")


def test_hostile_text_does_nothing(visit: Visit) -> None:
    page = visit()
    assert page.evaluate("window.broken") is None
    assert page.inner_text("h1") == HOSTILE
    assert f"no memory left {HOSTILE}" in page.inner_text(".failures")
    assert HOSTILE in page.text_content("svg.panel:not([data-arm]) >> nth=1")


def test_the_page_runs_no_script_but_its_own(browser: Any, report: Path) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    page.evaluate(
        """() => { const script = document.createElement("script"); script.textContent = "window.broken = 1";
        document.body.append(script); document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.broken = 1'>"); }"""
    )
    page.wait_for_timeout(100)
    assert page.evaluate("window.broken") is None
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(visit: Visit, scheme: str) -> None:
    page = visit(width=360, has_touch=True, color_scheme=scheme)
    page.click("summary >> text=Filters")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    small = page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter(e => e.getClientRects().length && !e.closest("script")
          && [...e.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
          .map(e => [parseFloat(getComputedStyle(e).fontSize) * (e.closest("svg.panel")
             ? e.closest("svg.panel").getBoundingClientRect().width / 320 : 1), e.outerHTML.slice(0, 80)])
          .filter(([size]) => size < 14)"""
    )
    assert small == []
    narrow = page.evaluate(
        """() => [...document.querySelectorAll("nav a, .legend button, thead button, form input, form select, summary")]
          .filter(e => e.getClientRects().length && e.type !== "checkbox" && e.getBoundingClientRect().height < 40)
          .map(e => e.outerHTML)"""
    )
    assert narrow == []
    dark = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")


def test_without_scripts_everything_is_there(visit: Visit) -> None:
    page = visit(java_script_enabled=False)
    assert page.locator(f"{RESULTS}:visible").count() == 6
    assert page.locator("form:visible").count() == 0
    assert page.locator(".chart:visible").count() == 0
    assert page.locator("img").count() == page.locator("img:not([hidden])").count() == 9
    assert page.locator("nav a:visible").count() == page.locator("h2").count()
    with_scripts = visit()
    assert with_scripts.locator(".chart:visible").count() == 2
    assert with_scripts.locator("img[hidden]").count() == 2


def test_printed_without_controls_of_the_screen(visit: Visit) -> None:
    page = visit(color_scheme="dark")
    page.emulate_media(media="print")
    assert not page.is_visible("nav")
    assert not page.is_visible("form")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(f"{RESULTS}:visible").count() == 6
