"""Commands that tell what there is: lists, one thing in full, the state of the data."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from neuropil.cli.folders import show_folder
from neuropil.cli.runs import DataRoot

Topic = Annotated[
    str | None,
    typer.Argument(
        help="recipes, patterns, rewiring, rules, initialization, probes or data; default: all.", show_default=False
    ),
]

_PLAIN_STARTS = {  # those that networks are built with
    "default": "PyTorch's start of a layer, with the fan-in that each neuron has.",
    "kaiming": "As kaiming-uniform, drawn from other random numbers: the start of the first recipes.",
}


def list_(topic: Topic = None) -> None:
    """List what there is: recipes, patterns, ways to rewire, rules of learning, starts of weights, probes, data."""
    from neuropil.compare.registry import nearest

    topics: dict[str, Callable[[], dict[str, str]]] = {
        "recipes": _recipes,
        "patterns": _patterns,
        "rewiring": _rewirings,
        "rules": _rules,
        "initialization": _starts,
        "probes": _probes,
        "data": _data_sets,
    }
    if topic is not None and topic not in topics:
        raise ValueError(f"list: topic must be one of {', '.join(topics)}, got {topic!r}{nearest(topic, [*topics])}")
    console = Console()
    for title, entries in topics.items():
        if topic not in (None, title):
            continue
        table = Table(
            title=title, title_style="bold", title_justify="left", show_header=False, box=None, padding=(0, 2)
        )
        for name, what in entries().items():
            table.add_row(f"[cyan]{escape(name)}[/]", escape(what))
        console.print(table)
        console.print()
    console.print("more on one of them: neuropil show NAME", style="dim")


def show(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of a recipe, a pattern, a way to rewire, a rule of learning, a start, a probe or a data set; or "
            "the folder of a run or a comparison, or its URL."
        ),
    ],
    sparsity: Annotated[
        bool, typer.Option("--sparsity", help="Of a folder: what is sparse, since when, how, and how fast it is.")
    ] = False,
) -> None:
    """Show what goes by a name, where it comes from, its settings; or what a run or a comparison came to."""
    from neuropil.compare.probes import PROBES
    from neuropil.compare.recipe import bundled_recipes
    from neuropil.compare.registry import ARRANGEMENTS, PATTERNS, REWIRINGS, nearest
    from neuropil.compare.rules import ALL_RULES
    from neuropil.data import SOURCES
    from neuropil.initialize import STARTS
    from neuropil.models import mixer

    console = Console()
    known = [
        *bundled_recipes(), *PATTERNS, *ARRANGEMENTS, *REWIRINGS, *ALL_RULES, *_PLAIN_STARTS, *STARTS, *PROBES,
        *SOURCES, "recipe",
    ]  # fmt: skip
    if "://" in name:
        from neuropil.train import local_copy

        show_folder(local_copy(name, checkpoints="all" if sparsity else "none"), console, sparsity=sparsity)
        return
    if sparsity and not Path(name).is_dir():
        raise ValueError(f"show: --sparsity needs the folder of a run or a comparison, got {name!r}; try runs/digits")
    if sparsity or (name not in known and Path(name).is_dir()):
        show_folder(Path(name), console, sparsity=sparsity)
        return
    found = False
    if name in SOURCES:
        found = True
        _show_data_set(name, console)
    if name in PATTERNS:
        found = True
        _show_pattern(name, PATTERNS[name], console)
    if name in ARRANGEMENTS:
        found = True
        _print_text(_text(mixer, until="Args:").removeprefix("Return "), console)
        console.print()
        _show_pattern(name, ARRANGEMENTS[name][0], console, without=ARRANGEMENTS[name][1])
    if name in REWIRINGS:
        found = True
        _show_rewiring(name, console)
    if name in ALL_RULES:
        found = True
        _show_rule(name, console)
    if name in _PLAIN_STARTS:
        found = True
        console.print(f"[bold]initialization {name}[/]\n\n{_PLAIN_STARTS[name]}")
    if name in STARTS:
        found = True
        _show_start(name, console)
    if name in PROBES:
        found = True
        _show_probe(name, console)
    if name in bundled_recipes():
        found = True
        path = bundled_recipes()[name]
        console.print(f"[bold]recipe {name}[/]  [dim]{escape(str(path))}[/]", soft_wrap=True)
        console.print(
            Syntax("", "yaml", background_color="default").highlight(path.read_text(encoding="utf-8")), soft_wrap=True
        )
    if name == "recipe":
        found = True
        _show_recipe_keys(console)
    if not found:
        raise ValueError(f"show: name must be one that `neuropil list` shows, got {name!r}{nearest(name, known)}")


def check_data(
    name: Annotated[str | None, typer.Argument(help="Name of a data set; default: all.", show_default=False)] = None,
    data: DataRoot = None,
) -> None:
    """Check the files of data sets: there, whole, and of the right structure. Downloads nothing."""
    from neuropil.data import SOURCES, check

    colours = {"ok": "green", "missing": "yellow", "damaged": "red"}
    table = Table("data set", "state", "what was found", "the publisher's files", box=None, padding=(0, 2))
    checks = [check(one, data) for one in ([name] if name else SOURCES)]
    for found in checks:
        state = f"[{colours[found.state]}]{found.state}[/]"
        table.add_row(found.name, state, escape(found.detail), found.published)
    Console().print(table)
    if any(found.state == "damaged" or (name and found.state == "missing") for found in checks):
        raise typer.Exit(2)


def _recipes() -> dict[str, str]:
    from neuropil.compare.recipe import bundled_recipes

    return {
        name: yaml.safe_load(path.read_text(encoding="utf-8"))["question"] for name, path in bundled_recipes().items()
    }


def _patterns() -> dict[str, str]:
    from neuropil.compare.registry import ARRANGEMENTS, PATTERNS
    from neuropil.models import mixer

    lines = {name: _first_line(cls) for name, cls in PATTERNS.items()}
    return lines | dict.fromkeys(ARRANGEMENTS, _first_line(mixer))


def _rewirings() -> dict[str, str]:
    from neuropil.compare.registry import REWIRINGS

    return {name: _first_line(preset) for name, preset in REWIRINGS.items()}


def _rules() -> dict[str, str]:
    from neuropil.compare.rules import ALL_RULES

    return {name: _first_line(rule) for name, rule in ALL_RULES.items()}


def _starts() -> dict[str, str]:
    from neuropil.initialize import STARTS

    return _PLAIN_STARTS | {name: _first_line(scheme) for name, scheme in STARTS.items()}


def _probes() -> dict[str, str]:
    from neuropil.compare.probes import PROBES

    return {name: _first_line(kind.make) for name, kind in PROBES.items()}


def _data_sets() -> dict[str, str]:
    from neuropil.data import SOURCES

    return {name: source.what for name, source in SOURCES.items()}


def _first_line(thing: Any) -> str:
    return _text(thing, until="\n").removeprefix("Return ")


def _text(thing: Any, *, until: str) -> str:
    """Return a docstring up to a mark, without the markup that only a page of documentation needs."""
    text = (inspect.getdoc(thing) or "").partition(until)[0].strip()
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?([^`]+)`", r"\1", text)
    return text.replace("``", "")


def _print_text(text: str, console: Console) -> None:
    """Print a docstring with its lines broken anew for the width of the terminal."""
    paragraphs: list[tuple[int, str]] = []
    open_paragraph = False
    for line in text.splitlines():
        words, indent = line.strip(), len(line) - len(line.lstrip())
        is_title = indent == 0 and words.endswith(":") and " " not in words
        is_entry = words.startswith("* ") or (indent == 4 and re.match(r"[\w, ]+: ", words))
        if open_paragraph and words and not is_title and not is_entry:
            paragraphs[-1] = (paragraphs[-1][0], f"{paragraphs[-1][1]} {words}")
        else:
            paragraphs.append((indent, words))
        open_paragraph = bool(words) and not is_title
    for indent, words in paragraphs:
        console.print(Padding(Text(words), (0, 0, 0, indent)))


def _show_pattern(name: str, cls: type, console: Console, *, without: frozenset[str] = frozenset()) -> None:
    """Print a pattern's docstring up to its example, then its settings with their defaults."""
    console.print(f"[bold]pattern {name}[/]  [dim]{cls.__module__}.{cls.__qualname__}[/]\n")
    _print_text(_text(cls, until="\nExample:"), console)
    _print_settings(
        {field.name: field.default for field in dataclasses.fields(cls) if field.name not in without},
        dataclasses.MISSING,
        console,
    )


def _show_rewiring(name: str, console: Console) -> None:
    """Print a preset's docstring up to its example, then its settings with their defaults."""
    from neuropil.compare.registry import REWIRINGS

    preset = REWIRINGS[name]
    console.print(f"[bold]rewiring {name}[/]  [dim]{preset.__module__}.{preset.__qualname__}[/]\n")
    _print_text(_text(preset, until="\nExample:"), console)
    parameters = inspect.signature(preset).parameters.values()
    _print_settings({p.name: p.default for p in parameters}, inspect.Parameter.empty, console)
    required = "".join(f", {p.name}: …" for p in parameters if p.default is inspect.Parameter.empty)
    short = f"rewiring: {name}" if not required else f"rewiring: {{rule: {name}{required}}}"
    # what asks for a final density starts from more than that
    wiring = "erdos-renyi, density: 1.0" if "density" in required else "mixer"
    console.print(f"\nan arm: {{pattern: {wiring}, {short}}}", highlight=False)


def _show_rule(name: str, console: Console) -> None:
    """Print a rule's docstring up to its example, then its settings with their defaults."""
    from neuropil.compare.rules import ALL_RULES, settings_of_rule

    rule = ALL_RULES[name]
    console.print(f"[bold]rule {name}[/]  [dim]{rule.__module__}.{rule.__qualname__}[/]\n")
    _print_text(_text(rule, until="\nExample:"), console)
    settings = settings_of_rule(name)
    _print_settings({key: one.default for key, one in settings.items()}, inspect.Parameter.empty, console)
    console.print(
        f"\nan arm: {{pattern: dense, training: {{rule: {name}}}}}; its optimizer, rate and clipping are those of the "
        "section training, which the arm may replace there too",
        highlight=False,
    )


def _show_start(name: str, console: Console) -> None:
    """Print the docstring of a start of the weights, then its settings with their defaults."""
    from neuropil.initialize import STARTS, settings_of

    console.print(f"[bold]initialization {name}[/]  [dim]neuropil.initialize.start_(model, {name!r}, …)[/]\n")
    _print_text(_text(STARTS[name], until="\nExample:"), console)
    settings = settings_of(name)
    _print_settings({key: one.default for key, one in settings.items()}, inspect.Parameter.empty, console)
    example = {"emergence": ", alpha: 1.5"}.get(name, "")
    console.print(f"\nan arm: {{pattern: dense, start: {{scheme: {name}{example}}}}}", highlight=False)


def _show_probe(name: str, console: Console) -> None:
    """Print what a probe measures, the numbers that it gives, and its settings with their defaults."""
    from neuropil.compare.probes import PROBES, probe_settings

    kind = PROBES[name]
    console.print(f"[bold]probe {name}[/]\n")
    console.print(Text(kind.what + (f"\n\nSource: {kind.source}." if kind.source else "")))
    table = Table("in its records", "", title="\nit gives", title_justify="left", box=None, padding=(0, 2))
    for key, quantity in kind.quantities.items():
        table.add_row(key, escape(quantity.title))
    console.print(table)
    _print_settings(probe_settings(name), inspect.Parameter.empty, console)
    console.print(
        "\nevery: also every so many steps of the optimizer; epochs: after which epochs, 0 being the state before "
        "training (none said: after each, and before the first); n_samples: how many of the first training images; "
        f"name: of the probe, where there are several of a measure\n\nin a recipe: probes: [{name}, …] or probes: "
        f"[{{measure: {name}, every: 100}}, …]",
        highlight=False, markup=False,
    )  # fmt: skip


def _print_settings(defaults: Mapping[str, Any], missing: Any, console: Console) -> None:
    table = Table("setting", "default", title="\nin a recipe", title_justify="left", box=None, padding=(0, 2))
    for name, default in defaults.items():
        table.add_row(name, "(required)" if default is missing else escape(str(default)))
    if table.row_count:
        console.print(table)


def _show_data_set(name: str, console: Console) -> None:
    from neuropil.data import SOURCES

    source = SOURCES[name]
    channels, height, width = source.image_shape
    console.print(f"[bold]data {name}[/]  {escape(source.title)}\n{escape(source.what)}", highlight=False)
    table = Table(show_header=False, box=None, padding=(0, 2))
    for key, value in {
        "images": f"{source.n_train:,} training, {source.n_test:,} test, {channels} × {height} × {width}",
        "classes": f"{source.n_classes}: {', '.join(source.classes)}",
        "from": source.url,
        "files": ", ".join(file.name for file in source.files) or "comes with a dependency",
        "cite": source.citation,
    }.items():
        table.add_row(key, escape(value))
    console.print(table, highlight=False)
    console.print()


def _show_recipe_keys(console: Console) -> None:
    from neuropil.compare.recipe import DataSection, ModelSection, Recipe, SpikingSection, TrainingSection

    console.print("[bold]recipe[/]  keys of a recipe file, and of key=value on the command line\n")
    table = Table("key", "default", "meaning", box=None, padding=(0, 2))
    for prefix, section in (
        ("", Recipe),
        ("data.", DataSection),
        ("model.", ModelSection),
        ("spiking.", SpikingSection),
        ("training.", TrainingSection),
    ):
        for key, field in section.model_fields.items():
            if field.description:
                default = "(required)" if field.is_required() else escape(str(field.default))
                table.add_row(prefix + key, default, field.description)
    console.print(table)
    console.print(
        "\nan arm: {pattern: NAME, setting: value, …}, or {layers: a list of one such for each hidden layer}; beside "
        "either, readout: {pattern: NAME, …}, and rewiring: NAME or {rule: NAME, setting: value, …}, where the wiring "
        "changes in the course of training, start: NAME or {scheme: NAME, setting: value, …}, where weights start "
        "elsewhere than model.start says, and training: {rule: NAME, learning_rate: value, …}, where the arm learns "
        "otherwise; "
        "sweep: {setting: a list of values, …} stands for one arm a value, and tune: {setting: a list of values, …} "
        "for candidates of which validation chooses one; a setting of a part has a dot, as training.learning_rate; see "
        "neuropil list patterns, neuropil list rewiring, neuropil list rules, neuropil list initialization"
    )
    console.print(
        "\nprobes: a list of names, or of {measure: NAME, every: STEPS, epochs: [0, 5, …], n_samples: …, setting: "
        "value, …}, or a mapping from names to such settings. They are measured before training and after each epoch "
        "where nothing else is said, always on the same images; training is the same with and without them, and its "
        "seconds are told without theirs; see neuropil list probes",
        markup=False,
    )
    console.print(
        "\nspiking: where a recipe has this section, if only as spiking: {}, neurons spike, and its keys have the "
        "defaults above; without it they do not spike. On the command line, spiking.steps=50 adds it."
    )
