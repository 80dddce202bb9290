"""What the command shows of a folder: of one run, or of a whole comparison."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from neuropil.cli.table import print_results

if TYPE_CHECKING:
    from neuropil.compare.run_result import RunResult


def show_folder(folder: Path, console: Console, *, sparsity: bool) -> None:
    """Print what a run or a comparison is and came to, or what is sparse about it.

    Raises:
        ValueError: it is neither, or its recipe is damaged.
    """
    if (folder / "recipe.yaml").is_file():
        run = _read_recipe(folder / "recipe.yaml")
        (_print_run_sparsity if sparsity else _print_run)(folder, run, console)
    elif (folder / "comparison.yaml").is_file():
        (_print_arms_sparsity if sparsity else _print_comparison)(folder, console)
    else:
        raise ValueError(
            f"show: {_named(folder)} must be the folder of a run or a comparison, got one without recipe.yaml and "
            "comparison.yaml; try the folder that neuropil compare has written"
        )


def _named(folder: Path) -> str:
    from neuropil.train.remote import remote_of

    return remote_of(folder) or str(folder)


def _read_recipe(path: Path) -> Mapping[str, Any]:
    """Return what a run was made by."""
    try:
        run = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        run = None
    if not isinstance(run, dict) or not {"arm", "seed", "data", "model", "training"} <= run.keys():
        raise ValueError(f"show: {path} must be the recipe of a run of a comparison, got a damaged or foreign file")
    return run


def _read(folder: Path, run: Mapping[str, Any]) -> "RunResult":
    from neuropil.compare.run_result import read_run_folder

    return read_run_folder(folder, run["arm"], run["seed"], run["data"].get("fold"))


def _print_run(folder: Path, run: Mapping[str, Any], console: Console) -> None:
    result = _read(folder, run)
    summary = result.summary
    accuracy = result.accuracy
    known = {
        "arm": f"{run['arm']}, seed {run['seed']}" + ("" if result.fold is None else f", fold {result.fold}"),
        "state": result.state + (f": {result.reason}" if result.reason else ""),
        "epochs": f"{len(result.metrics)} of {run['training']['epochs']}",
        "accuracy": None if accuracy is None else f"{100 * accuracy:.2f} % "
        + ("on the test set" if result.fold is None else "on the held-out fold"),
        "parameters": _said(summary, "parameters", "{:,}"),
        "density": _said(summary, "density", "{:.3f}"),
        "seconds an epoch": _said(summary, "seconds_per_epoch", "{:.3g}"),
        "kernels": " ".join(summary.get("kernels", ())) or None,
        "probes": ", ".join(dict.fromkeys(str(record.get("probe")) for record in result.probes)) or None,
        "machine": result.environment.get("gpu") or result.environment.get("processor"),
        "warnings": "\n".join(summary.get("warnings", ())) or None,
    }  # fmt: skip
    console.print(
        f"[bold]run of {escape(str(run.get('comparison')))}[/]  [dim]{escape(_named(folder))}[/]", soft_wrap=True
    )
    table = Table(show_header=False, box=None, padding=(0, 2))
    for key, value in known.items():
        if value is not None:
            table.add_row(key, escape(str(value)))
    console.print(table, highlight=False)
    console.print("\nits recipe", style="bold")
    text = yaml.safe_dump(dict(run), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    console.print(Syntax("", "yaml", background_color="default").highlight(text.rstrip()), soft_wrap=True)
    console.print("what is sparse about it: neuropil show FOLDER --sparsity", style="dim", highlight=False)


def _said(summary: Mapping[str, Any], key: str, form: str) -> str | None:
    value = summary.get(key)
    return None if value is None else form.format(value)


def _print_comparison(folder: Path, console: Console) -> None:
    from neuropil.compare import load_results
    from neuropil.compare.report import describe_progress, describe_setting

    results = load_results(folder)
    console.print(f"[bold]{escape(results.recipe.question)}[/]  [dim]{escape(_named(folder))}[/]", soft_wrap=True)
    console.print(escape(describe_setting(results.recipe)), highlight=False)
    console.print(f"{describe_progress(results)}\n", highlight=False)
    print_results(results, console)


def _print_arms_sparsity(folder: Path, console: Console) -> None:
    from neuropil.compare import load_results
    from neuropil.compare.sparsity import state_arm

    results = load_results(folder)
    for name, arm in results.arms.items():
        console.print(f"[bold]{escape(name)}[/]  [dim]{escape(arm.label)}[/]", highlight=False)
        _print_statement(state_arm(results, arm), console)


def _print_run_sparsity(folder: Path, run: Mapping[str, Any], console: Console) -> None:
    from neuropil.compare.sparsity import state_sparsity

    result = _read(folder, run)
    checkpoints = sorted(folder.glob("checkpoint-*.safetensors"))
    console.print(f"[bold]{escape(str(run['arm']))}[/]  [dim]{escape(_named(folder))}[/]", soft_wrap=True)
    found = state_sparsity(
        run,
        summary=result.summary,
        events=result.events,
        checkpoint=checkpoints[-1] if checkpoints else None,
        seconds=result.number("seconds_per_epoch"),
        dense_seconds=_dense_seconds(folder, result),
    )
    _print_statement(found, console)


def _dense_seconds(folder: Path, run: "RunResult") -> float | None:
    """Return what an epoch took the dense network of the same widths, seed and fold; None where there is none."""
    from neuropil.compare import load_results

    comparison = folder.resolve().parents[1 if run.fold is None else 2]
    if not (comparison / "comparison.yaml").is_file():
        return None
    results = load_results(comparison)
    twin = results.dense_twin(results.arms[run.arm].arm) if run.arm in results.arms else None
    same = [each for each in (twin.single_runs if twin else ()) if (each.seed, each.fold) == (run.seed, run.fold)]
    return same[0].number("seconds_per_epoch") if same else None


def _print_statement(found: Any, console: Console) -> None:
    from neuropil.compare.sparsity_words import sparsity_lines

    for line in sparsity_lines(found):
        console.print(Text(line))
    console.print()
