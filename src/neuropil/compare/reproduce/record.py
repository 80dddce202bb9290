"""The outcomes of claims that were judged, one row each, and the page that shows them."""

import csv
import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import neuropil
from neuropil.compare.reproduce.claims import Claim, all_claims
from neuropil.compare.reproduce.conditions import write_number
from neuropil.compare.reproduce.judge import Finding, Judgement, measured_text, unit_of
from neuropil.compare.reproduce.rows import Rows

COLUMNS = (
    "name", "claim", "verdict", "measured", "published", "seeds", "commit", "date", "seconds", "made_from",
)  # fmt: skip
_PART = " | "  # between conditions
_TITLES = {
    "holds": "What holds",
    "does not hold": "What does not hold",
    "cannot be judged": "What cannot be judged",
}


def root_folder() -> Path:
    """Return the source tree if neuropil runs from one, else the current folder: where ``results`` and ``docs`` are."""
    root = Path(neuropil.__file__).parents[2]
    return root if (root / "pyproject.toml").exists() and (root / "results").is_dir() else Path()


def make_row(judgement: Judgement, rows: Rows, made_from: str) -> dict[str, str]:
    """Return a judgement as a row of ``reproductions.csv``, columns as in ``COLUMNS``.

    ``seconds`` is what training took in all runs of the check, one after another; ``commit`` is that of the runs, and
    ``date`` that of the judgement.

    Args:
        judgement: of a claim.
        rows: that it was judged by.
        made_from: where these come from.
    """
    claim = judgement.claim
    arms = [*rows.by_arm] if claim.recipe is None else [arm.name for arm in claim.all_arms()]
    seconds = rows.seconds(arms)
    by_quantity = group_findings(judgement.findings)
    return {
        "name": claim.name,
        "claim": claim.claim,
        "verdict": judgement.verdict,
        "measured": _PART.join(f"{what}: {describe_findings(found)}" for what, found in by_quantity.items()),
        "published": _PART.join(found[0].published or "–" for found in by_quantity.values()),
        "seeds": str(judgement.n),
        "commit": rows.commit(arms),
        "date": date.today().isoformat(),
        "seconds": "" if seconds is None else f"{seconds:.0f}",
        "made_from": made_from,
    }


def group_findings(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Return findings by their quantity: one may have a threshold on either side."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.condition.quantity.text, []).append(finding)
    return groups


def describe_findings(found: Sequence[Finding]) -> str:
    """Say what was measured of one quantity, and how it stands to its thresholds."""
    unit = unit_of(found[0].condition.quantity)
    said = "; ".join(
        f"{finding.condition.relation} {write_number(finding.condition.threshold)} {finding.verdict}"
        + (f" ({finding.reason})" if finding.reason else "")
        for finding in found
    )
    value = " ".join([measured_text(found[0]), *([unit] if unit and found[0].measured else [])])
    return f"{value}, {said}"


def read_record(path: Path) -> dict[str, dict[str, str]]:
    """Return the rows of ``reproductions.csv`` by name of the claim; none where there is no file.

    Raises:
        ValueError: the file is not such a table.
    """
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ValueError(f"reproduce: {path} must have the columns {', '.join(COLUMNS)}; remove it or repair it")
    return {row["name"]: row for row in rows}


def write_record(path: Path, row: Mapping[str, str]) -> None:
    """Put a row into ``reproductions.csv``, in place of the claim's former one, in the order of the claims."""
    rows = read_record(path) | {row["name"]: dict(row)}
    order = [*all_claims(), *rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[name] for name in sorted(rows, key=order.index))
    os.replace(partial, path)


def render_page(rows: Mapping[str, Mapping[str, str]]) -> str:
    """Return the page of the latest outcomes, as Markdown."""
    claims = all_claims()
    counts = {verdict: sum(row["verdict"] == verdict for row in rows.values()) for verdict in _TITLES}
    waiting = [claim for name, claim in claims.items() if name not in rows]
    lines = [
        "# Published claims, run again",
        "",
        "Made by `neuropil reproduce --page` from [reproductions.csv](../results/reproductions.csv); do not edit it. "
        "`neuropil reproduce NAME` runs a claim's smallest honest check again, `neuropil reproduce --list` shows how "
        "long each takes.",
        "",
        f"Of {len(claims)} claims {counts['holds']} hold, {counts['does not hold']} do not, "
        f"{counts['cannot be judged']} cannot be judged, and {len(waiting)} are not run yet.",
        "",
        "A condition holds where the whole 95 % interval over seeds lies on its side of the threshold, and does not "
        "hold where the whole interval lies on the other side. With the threshold inside, with runs that are missing "
        "or diverged, or with fewer than three seeds it cannot be judged. A claim holds if all its conditions do, and "
        "does not if one of them does not. Differences are paired by seed, in percentage points; no correction for the "
        "number of claims is made. These are small checks: a verdict speaks of the data and the size named, not of the "
        "paper's own experiments.",
    ]
    for verdict, title in _TITLES.items():
        chosen = [row for row in rows.values() if row["verdict"] == verdict]
        if not chosen:
            continue
        lines += [
            "",
            f"## {title}",
            "",
            "| claim | measured | published | seeds | from |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [_page_row(row, claims.get(row["name"])) for row in chosen]
    if waiting:
        lines += ["", "## Not run yet", "", "| claim | minutes on two cores |", "| --- | --- |"]
        lines += [f"| **{claim.name}**<br>{claim.claim}<br>{claim.source} | {claim.minutes:g} |" for claim in waiting]
    return "\n".join(lines) + "\n"


def _page_row(row: Mapping[str, str], claim: Claim | None) -> str:
    parts = [f"**{row['name']}**", row["claim"], *([claim.source] if claim else [])]
    parts += [claim.note] if claim is not None and claim.note else []
    made_from = row["made_from"]
    link = f"[{made_from}](../{made_from})" if made_from.startswith("results/") else made_from
    cells = ["<br>".join(parts), row["measured"].replace(_PART, "<br>"), row["published"].replace(_PART, "<br>")]
    return f"| {' | '.join([*cells, row['seeds'], ', '.join([link, row['date']])])} |"
