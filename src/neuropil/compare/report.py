"""A comparison as one page: question, findings, table, curves, costs, and what a reader needs to judge them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from neuropil.compare import activity_figures, figures, probe_figures, rewiring_figures
from neuropil.compare.activity_words import describe_activity, describe_silence, explain_activity
from neuropil.compare.charts import learning_chart
from neuropil.compare.difference_table import difference_rows, difference_table_note
from neuropil.compare.equal_seconds_words import equal_seconds_note, equal_seconds_table
from neuropil.compare.labels import describe_start
from neuropil.compare.notices import collect_notices
from neuropil.compare.page import fill_page
from neuropil.compare.probe_ranks import RANKS_NOTE, ranks_table
from neuropil.compare.probe_words import describe_probe
from neuropil.compare.recipe import Recipe
from neuropil.compare.registry import split_arm
from neuropil.compare.results import Results, load_results
from neuropil.compare.rewiring_words import describe_rewiring, name_rule
from neuropil.compare.rules import rule_name
from neuropil.compare.sentences import caveats, findings
from neuropil.compare.sparsity_words import HEADER, sparsity_rows
from neuropil.compare.spiking_words import describe_spiking
from neuropil.compare.statistics import FEWEST_SEEDS
from neuropil.compare.sweep_figures import sweep_pictures
from neuropil.compare.sweeps import expand_sweeps
from neuropil.compare.table import DIFFERENCE, NONE, difference_note, table_columns, table_note, table_rows
from neuropil.compare.tuned import NOTE, passed_over, tuned_table
from neuropil.connect import Dense
from neuropil.data import SOURCES
from neuropil.train.remote import is_remote, working_copy
from neuropil.train.whole_files import write_whole

# environment.json's names, in the order of the report; all others follow as they are
_MACHINE = {
    "processor": "processor",
    "gpu": "GPU",
    "cores": "cores",
    "threads": "threads of each run",
    "system": "system",
    "neuropil": "neuropil",
    "commit": "commit of neuropil",
    "python": "Python",
    "torch": "PyTorch",
}


def write_report(folder: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Path:
    """Write the report of a comparison, finished or not: one HTML file that needs no other and no network.

    Its scripts filter, sort and read out curves; without them, everything is shown.

    Args:
        folder: what :func:`neuropil.compare.compare` has written, or its URL.
        path: of the report; default: ``report.html`` in the folder.

    Returns:
        The path of the report; of one that was sent to a URL, that of its copy on this machine.

    Raises:
        ValueError: the folder is not that of a comparison.
    """
    if path is None and is_remote(folder):
        with working_copy(folder, checkpoints="none") as copy:
            return write_report(copy)
    results = load_results(folder)
    path = Path(path) if path is not None else Path(folder) / "report.html"
    write_whole(path, render_report(results))
    return path


def render_report(results: Results) -> str:
    """Return the report as HTML text."""
    controls = results.controls
    notices = collect_notices(results)
    probes = probe_figures.probe_pictures(results)
    charts = [chart.as_data() for chart in (learning_chart(results), *(probe.chart for probe in probes)) if chart]
    return fill_page(
        data={"arms": _states(results), "charts": charts},
        passed_over=passed_over(results),
        recipe=results.recipe,
        setting=describe_setting(results.recipe),
        progress=describe_progress(results),
        findings=findings(results),
        caveats=[*caveats(results), *([silence] if (silence := describe_silence(results)) is not None else [])],
        columns=table_columns(results),
        tables=_tables(results),
        has_controls=bool(controls),
        has_twins=bool(results.sparse_arms),
        table_note=" ".join(filter(None, [table_note(results), difference_note(results)])),
        interval=results.recipe.interval,
        tested=difference_rows(results),
        tested_note=difference_table_note(results),
        timed=equal_seconds_table(results),
        timed_note=equal_seconds_note(results),
        unit=results.unit,
        accuracy="Accuracy on held-out folds" if results.recipe.folds is not None else "Test accuracy",
        differences=figures.differences(results),
        curves=figures.learning_curves(results),
        by_parameters=figures.accuracy_by_parameters(results),
        by_operations=figures.accuracy_by_operations(results),
        by_time=figures.accuracy_by_time(results),
        by_energy=activity_figures.accuracy_by_energy(results),
        wirings=sorted(figures.wiring_pictures(results).items(), key=lambda item: item[0] in controls),
        sweeps=sweep_pictures(results),
        tuned=tuned_table(results),
        tuned_note=NOTE,
        probes=[(shown.plan.name, *describe_probe(shown), shown.picture) for shown in probes],
        ranks=ranks_table(results),
        ranks_note=RANKS_NOTE,
        sparsity_header=HEADER,
        sparsity=sparsity_rows(results),
        activities=_activities(results),
        activity_note=explain_activity(results),
        rewirings=_rewirings(results),
        has_static="static" in results.twin_words,
        static_control=any(arm.arm.twins.get("static") in results.controls for arm in results.rewired_arms),
        starts_like=_starts_like(results),
        labels={name: arm.label for name, arm in results.arms.items()},
        fewest_seeds=FEWEST_SEEDS,
        failures=[notice for notice in notices if notice.is_failure],
        notices=[notice for notice in notices if not notice.is_failure],
        machine=_machine(results),
        kernels=_kernels(results),
        recipe_text=yaml.safe_dump(
            results.recipe.model_dump(), sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
        ),
    )


def _states(results: Results) -> dict[str, dict[str, bool]]:
    """Return what the page's filters must know of each arm."""
    left_out = passed_over(results)
    return {
        name: {
            "control": name in results.controls,
            "done": arm.count("done") == len(arm.runs),
            "chosen": name not in left_out,
        }
        for name, arm in results.arms.items()
    }


def _tables(results: Results) -> list[tuple[list[str], list[list[str]], list[list[str]]]]:
    """Return header, controls and arms of the table of results; of spiking networks in two parts, for it is wide.

    The second part has the differences, and only the arms that have one.
    """
    header, rows = table_rows(results)
    named = list(zip(results.arms, rows, strict=True))
    differences = [i for i, title in enumerate(header) if title.startswith(DIFFERENCE)]
    parts = [[*range(len(header))]]
    if results.recipe.spiking is not None:
        parts = [[i for i in parts[0] if i not in differences], [0, *differences]]
    tables = []
    for columns in parts:
        shown = [(name, [row[i] for i in columns]) for name, row in named]
        if columns[1:] == differences:
            shown = [(name, row) for name, row in shown if set(row[1:]) != {NONE}]
        controls = [row for name, row in shown if name in results.controls]
        arms = [row for name, row in shown if name not in results.controls]
        if shown:
            tables.append(([header[i] for i in columns], controls, arms))
    return tables


def describe_setting(recipe: Recipe) -> str:
    """Say in one paragraph what was done: data, network, training, seeds.

    Example:
        >>> from neuropil.compare.recipe import load_recipe
        >>> describe_setting(load_recipe("digits")).split(". ")[0][:39]
        'Data: Optical recognition of handwritte'
    """
    source, model, training = SOURCES[recipe.data.name], recipe.model, recipe.training
    channels, height, width = source.image_shape
    data = (
        f"Data: {source.title}, {source.n_train:,} training and {source.n_test:,} test images of {height} × {width} "
        f"pixels{f' in {channels} channels' if channels > 1 else ''}; {_division(recipe)}."
    )
    encoder = "the flat pixels"
    if model.patches is not None:
        grid = f"{model.patches} × {model.patches}"
        encoder = f"a patch encoder, {grid} patches with {_count(model.patch_channels, 'feature')} each"
    if model.convolutions is not None:
        encoder = f"convolutions of 3 × 3 with {', '.join(map(str, model.convolutions))} features, each halved in size"
    normalized = ", the input of every activation normalized over the batch" if model.batch_norm else ""
    network = f"Network: {encoder}, {_hidden_layers(recipe)}{normalized}. {_arms_differ(recipe)}"
    if recipe.spiking is not None:
        network += f" {describe_spiking(recipe.spiking, patches=model.patches is not None)}"
    if model.start == "kaiming":
        network += " Weights start uniform at Kaiming's scale, biases at 0."
    elif model.start != "default":
        network += f" Weights start by the scheme {describe_start(model.start)}, biases at 0."
    optimizer = {
        "adam": "Adam",
        "adamw": "AdamW",
        "sgd": f"SGD with momentum {training.momentum:g}",
        "exponentiated-gradient": f"exponentiated gradient steps with momentum {training.momentum:g}",
        "exponentiated-adam": "exponentiated Adam",
    }
    falling = " falling to 0 along a cosine" if training.schedule == "cosine" else ""
    clipping = "" if training.clip_norm is None else f", gradients clipped to norm {training.clip_norm:g}"
    how = (
        f"Training: {_count(training.epochs, 'epoch')} in batches of {training.batch_size} with "
        f"{optimizer[training.optimizer]}, learning rate {training.learning_rate:g}{falling}, weight decay "
        f"{training.weight_decay:g}{clipping}, {training.precision}."
    )
    if training.rule != "backpropagation":
        how += f" Weights change by the rule {rule_name(training.rule)}."
    seeds = (
        f"{_count(len(recipe.seeds), 'seed')} ({', '.join(map(str, recipe.seeds))}): a seed sets the wiring, the start "
        "of the weights and the order of the images."
    )
    cut = ""
    if recipe.intra_only:
        cut = (
            " After training, each network with groups was scored once more with every connection between groups cut, "
            "nothing being trained again."
        )
    return " ".join([data, network, how, seeds]) + cut


def _division(recipe: Recipe) -> str:
    """Say which images train and which are held out."""
    if recipe.folds is None:
        return (
            f"{100 * recipe.data.validation:g} % of the training images are held out for validation, the same ones in "
            "every run"
        )
    how = (
        "drawn at random by class" if recipe.fold_order == "stratified" else "of neighbours in their order, unshuffled"
    )
    return (
        f"the training images are divided into {recipe.folds} folds, {how}, the same ones for every arm and seed: each "
        "is held out once, and scored by a network that has trained with the others; no validation split is taken"
    )


def _has_sparse_readout(recipe: Recipe) -> bool:
    arms = expand_sweeps(recipe.arms).values()
    return any(not isinstance(split_arm(arm, len(recipe.model.hidden)).readout, Dense) for arm in arms)


def _hidden_layers(recipe: Recipe) -> str:
    """Say what follows the encoder: hidden layers, if any, and the read-out."""
    hidden = recipe.model.hidden
    if not hidden:
        return _neurons(recipe).removeprefix("neurons, ")
    return f"then {_count(len(hidden), 'hidden layer')} of {', '.join(f'{n:,}' for n in hidden)} {_neurons(recipe)}"


def _neurons(recipe: Recipe) -> str:
    readout = "read-out, dense where nothing else is said" if _has_sparse_readout(recipe) else "dense read-out"
    if recipe.spiking is None:
        activations = {"relu": "a ReLU", "elu": "an ELU", "tanh": "a tanh", "sigmoid": "a sigmoid"}
        activation = activations.get(recipe.model.activation, "a hard sigmoid")
        biases = "" if recipe.model.bias else ", without biases"
        return f"neurons, each with {activation}{biases}, then a {readout}"
    score = "count of spikes" if recipe.spiking.output == "spikes" else "potential, which leaks, summed over time,"
    return f"spiking neurons, then a {readout} to a neuron for each class, whose {score} is its score"


def _arms_differ(recipe: Recipe) -> str:
    """Say in what arms differ: in their wiring, in whether it changes, in where weights start and how they learn."""
    parts = {name: split_arm(arm, len(recipe.model.hidden)) for name, arm in expand_sweeps(recipe.arms).items()}
    rewired = [f"{name} by {name_rule(arm.rewiring)}" for name, arm in parts.items() if arm.rewiring is not None]
    sparse = any(not isinstance(pattern, Dense) for arm in parts.values() for pattern in (*arm.patterns, arm.readout))
    layers = "hidden layers and the read-out" if _has_sparse_readout(recipe) else "hidden layers"
    ways = [f"the wiring of the {layers}"] if sparse else []
    if any(arm.start is not None for arm in parts.values()):
        ways.append("where weights start")
    settings = list(dict.fromkeys(key.replace("_", " ") for arm in parts.values() for key in arm.training))
    if settings:
        ways.append(f"how they learn ({', '.join(settings)})")
    if not ways:
        return "Arms do not differ."
    words = f"Arms differ in {' and in '.join(ways)} alone"
    if rewired:
        words += (
            ": in how it starts, and in whether it is rewired in the course of training "
            if ways == [f"the wiring of the {layers}"]
            else ", and in whether the wiring changes in the course of training "
        ) + f"({', '.join(rewired)})"
    return words + ("; only the dense twin of the same parameters is narrower." if sparse else ".")


def _activities(results: Results) -> list[tuple[str, str, str, str | None]]:
    """Return name, label, activity in plain words and picture of each arm that spikes, controls left out."""
    if results.recipe.spiking is None:
        return []
    pictures = activity_figures.activity_pictures(results)
    return [
        (arm.arm.name, arm.label, describe_activity(arm) or "Nothing is known yet.", pictures.get(arm.arm.name))
        for arm in results.sparse_arms or results.arms.values()
    ]


def _rewirings(results: Results) -> list[tuple[str, str, str, str | None]]:
    """Return name, label, rule in plain words and picture of each rewired arm."""
    pictures = rewiring_figures.rewiring_pictures(results)
    return [
        (
            arm.arm.name,
            arm.label,
            f"{name_rule(arm.arm.rewiring)}: {describe_rewiring(arm.arm.rewiring)}.",
            pictures.get(arm.arm.name),
        )
        for arm in results.rewired_arms
        if arm.arm.rewiring is not None
    ]


def _starts_like(results: Results) -> dict[str, str]:
    """Return, for each static twin, the rewired arms that start with its wiring."""
    arms: dict[str, list[str]] = {}
    for arm in results.rewired_arms:
        if "static" in arm.arm.twins:
            arms.setdefault(arm.arm.twins["static"], []).append(arm.arm.name)
    return {twin: ", ".join(names) for twin, names in arms.items()}


def describe_progress(results: Results) -> str:
    """Say how many runs there are and how many of them are done, and what became of the rest."""
    runs = results.runs
    words = {"done": "done", "diverged": "diverged", "failed": "failed", "running": "begun but not ended",
             "missing": "missing"}  # fmt: skip
    counts = [(sum(run.state == state for run in runs), word) for state, word in words.items()]
    if counts[0][0] == len(runs):
        return f"All {len(runs)} runs are done."
    return f"Of {len(runs)} runs, " + ", ".join(f"{count} {word}" for count, word in counts if count) + "."


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _kernels(results: Results) -> list[tuple[str, str]]:
    """Return the kernels of the hidden layers, and the arms that use them."""
    arms: dict[str, list[str]] = {}
    for arm in results.arms.values():
        if arm.kernels:
            is_one = len(set(arm.kernels)) == 1
            name = f"{arm.kernels[0]} in all hidden layers" if is_one else ", ".join(arm.kernels)
            arms.setdefault(name, []).append(arm.arm.name)
    return [(kernels, ", ".join(names)) for kernels, names in arms.items()]


def _machine(results: Results) -> list[tuple[str, str]]:
    """Return what is known of machine and versions; several values where runs differ."""
    known: Mapping[str, list[Any]] = results.environments()
    order = [*(key for key in _MACHINE if key in known), *(key for key in known if key not in _MACHINE)]
    return [(_MACHINE.get(key, key), ", ".join(map(str, known[key]))) for key in order]
