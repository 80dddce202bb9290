"""What is read of rewiring from run folders, whole and broken."""

import json
from pathlib import Path
from typing import Any

import pytest

from neuropil.compare.events import Rewired, read_whole_events, summarize_rewiring
from neuropil.compare.results import load_results

WHOLE: dict[str, Any] = {
    "epoch": 1, "step": 5, "layer": "hidden.0", "dropped": 3, "went": 2, "came": 2, "went_within": 1,
    "came_within": 0, "n_blocks": 20, "density": 0.25, "explored": 0.3, "modularity": -0.1, "neurons_without_input": 0,
}  # fmt: skip


def write(folder: Path, *lines: Any) -> None:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / "rewiring.jsonl").write_text(text, encoding="utf-8")


def test_events_are_read_in_order(tmp_path: Path) -> None:
    later = {**WHOLE, "step": 10, "went_within": None, "came_within": None, "modularity": None}
    write(tmp_path, later, WHOLE)
    assert read_whole_events(tmp_path) == (WHOLE, later)


def test_no_file_no_events(tmp_path: Path) -> None:
    assert read_whole_events(tmp_path) == ()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null\n", b"[1]\n", b"{}\n", b"7\n", b"\n\n"])
def test_damaged_files_hold_no_events(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rewiring.jsonl").write_bytes(content)
    assert read_whole_events(tmp_path) == ()


@pytest.mark.parametrize(
    "damage",
    [
        {"epoch": 0}, {"epoch": "1"}, {"step": 1.5}, {"step": None}, {"layer": 3}, {"went": -1}, {"came": True},
        {"came": None}, {"n_blocks": "20"}, {"density": 1.5}, {"density": None}, {"explored": float("nan")},
        {"came_within": None}, {"went_within": "1"}, {"modularity": "high"}, {"neurons_without_input": None},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_whole_event_is_left_out(tmp_path: Path, damage: dict[str, Any]) -> None:
    second = {**WHOLE, "step": 9}
    write(tmp_path, {**WHOLE, **damage}, second)
    assert read_whole_events(tmp_path) == (second,)


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    write(tmp_path, WHOLE, json.dumps({**WHOLE, "step": 9})[:40])
    assert read_whole_events(tmp_path) == (WHOLE,)


def test_of_the_same_event_the_last_record_counts(tmp_path: Path) -> None:
    again = {**WHOLE, "came": 1}
    write(tmp_path, WHOLE, again)
    assert read_whole_events(tmp_path) == (again,)


def test_summaries_are_averaged() -> None:
    first = {"events": 4, "replaced": 0.5, "explored": 0.4, "modularity": 0.2}
    second = {"events": 6, "replaced": 1.5, "explored": 0.6, "modularity": None}
    found = summarize_rewiring([{"rewiring": first}, {"rewiring": second}, {}, {"rewiring": None}])
    assert found == Rewired(events=5.0, replaced=1.0, explored=0.5, modularity=0.2)


@pytest.mark.parametrize("value", [None, 3, [], {}, {"events": 1}, {"events": "1", "replaced": 1, "explored": 1}])
def test_summaries_that_say_nothing(value: object) -> None:
    assert summarize_rewiring([{"rewiring": value}, {}]) is None


def test_a_comparison_with_damaged_events_is_read(made_up: Any) -> None:
    folder = made_up.rewired()
    (made_up.run("mixer-set", 0) / "rewiring.jsonl").write_bytes(b"\xff\xfe{")
    (made_up.run("mixer-set", 1) / "rewiring.jsonl").write_text("[]\n{}\nnull\n")
    made_up.write_summary("mixer-set", 2, rewiring="much")
    arm = load_results(folder).arms["mixer-set"]
    assert [len(run.events) for run in arm.runs.values()] == [0, 0, 8]
    assert arm.rewired == Rewired(events=4.0, replaced=0.5, explored=0.5, modularity=0.25)
    assert all(run.state == "done" for run in arm.runs.values())
