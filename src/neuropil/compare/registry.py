"""The names that recipes use for wirings and rewirings, and how they become objects and plain values again."""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pydantic import TypeAdapter, ValidationError, validate_call

from neuropil import rewire
from neuropil.connect import Dense, Ensembles, ErdosRenyi, Pattern, ScaleFree, SmallWorld
from neuropil.initialize import STARTS, settings_of, start_
from neuropil.models import START_NAMES, mixer
from neuropil.rewire import Rewiring, TopKastRewiring

PATTERNS: dict[str, type[Pattern]] = {
    "dense": Dense,
    "ensembles": Ensembles,
    "erdos-renyi": ErdosRenyi,
    "small-world": SmallWorld,
    "scale-free": ScaleFree,
}
# wirings of a whole network: settings are those of the pattern, less what the arrangement fixes
ARRANGEMENTS: dict[str, tuple[type[Pattern], frozenset[str]]] = {"mixer": (Ensembles, frozenset({"grouping"}))}
REWIRINGS: dict[str, Callable[..., Rewiring | TopKastRewiring]] = {
    "static": rewire.static,
    "drop-grow": rewire.drop_grow,
    "set": rewire.set_,
    "rigl": rewire.rigl,
    "g2g": rewire.g2g,
    "hebbian": rewire.hebbian,
    "itop": rewire.itop,
    "mest": rewire.mest,
    "cht": rewire.cht,
    "chts": rewire.chts,
    "srigl": rewire.srigl,
    "gmp": rewire.gmp,
    "granet": rewire.granet,
    "one-shot": rewire.one_shot,
    "iterative-magnitude": rewire.iterative_magnitude,
    "lottery-ticket": rewire.lottery_ticket,
    "top-kast": rewire.top_kast,
}


def read_patterns(description: Mapping[str, Any], n_layers: int) -> tuple[Pattern, ...]:
    """Turn what a recipe says of an arm into one pattern for each hidden layer.

    Args:
        description: ``{"pattern": name, **settings}`` for all layers, or ``{"layers": [...]}`` with one such mapping
            a layer.
        n_layers: number of hidden layers.

    Raises:
        ValueError: a name or a setting is unknown or wrong.
    """
    if "layers" in description:
        layers = description["layers"]
        if set(description) != {"layers"} or not isinstance(layers, list) or len(layers) != n_layers:
            raise ValueError(f"layers must list one pattern for each of the {n_layers} hidden layers, and stand alone")
        for layer in layers:
            if not isinstance(layer, Mapping) or "layers" in layer or layer.get("pattern") in [*ARRANGEMENTS]:
                raise ValueError(f"layers: each must be a pattern of one layer with its settings, got {layer!r}")
        return tuple(read_patterns(layer, 1)[0] for layer in layers)
    settings = {key: value for key, value in description.items() if key != "pattern"}
    name = description.get("pattern")
    name = name if isinstance(name, str) else repr(name)
    if name in ARRANGEMENTS:
        cls, fixed = ARRANGEMENTS[name]
        _check_settings(name, cls, settings, fixed)
        pattern = _build(name, cls, settings)
        return tuple(mixer(n_layers, **{f.name: getattr(pattern, f.name) for f in dataclasses.fields(pattern)  # type: ignore[arg-type]
                                        if f.name not in fixed}))  # fmt: skip
    if name not in PATTERNS:
        raise ValueError(f"pattern must be one of {', '.join([*PATTERNS, *ARRANGEMENTS])}, got {name!r}"
                         + nearest(name, [*PATTERNS, *ARRANGEMENTS]))  # fmt: skip
    _check_settings(name, PATTERNS[name], settings, frozenset())
    return (_build(name, PATTERNS[name], settings),) * n_layers


def describe_pattern(pattern: Pattern) -> dict[str, Any]:
    """Return the plain values from which :func:`read_patterns` builds the same pattern."""
    name = next(name for name, cls in PATTERNS.items() if type(pattern) is cls)
    values = dataclasses.asdict(pattern)  # type: ignore[call-overload]
    return {"pattern": name, **{key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}}


class ArmParts(NamedTuple):
    """What a recipe says of an arm, in parts.

    Attributes:
        patterns: of the hidden layers.
        readout: the read-out's pattern.
        rewiring: ``{"rule": name, **settings}``, or None where the wiring stays as it is.
        start: as :func:`plain_start` gives it, or None where it is the recipe's.
        training: what is other than in the recipe's training.
    """

    patterns: tuple[Pattern, ...]
    readout: Pattern
    rewiring: dict[str, Any] | None
    start: str | dict[str, Any] | None
    training: dict[str, Any]


def split_arm(description: Mapping[str, Any], n_layers: int) -> ArmParts:
    """Turn what a recipe says of an arm into its parts.

    Args:
        description: as for :func:`read_patterns`; beside it ``readout``, a pattern with its settings (default: dense),
            ``rewiring``, as for :func:`plain_rewiring`, ``start``, as for :func:`plain_start`, and ``training``.
        n_layers: number of hidden layers.

    Raises:
        ValueError: a name or a setting is unknown or wrong, or there is nothing to rewire.
    """
    others = ("readout", "rewiring", "start", "training")
    patterns = read_patterns({key: value for key, value in description.items() if key not in others}, n_layers)
    if n_layers == 0 and description.get("pattern", "dense") != "dense":
        raise ValueError(f"pattern must be dense where there is no hidden layer, got {description['pattern']!r}")
    try:
        (readout,) = read_patterns({"layers": [description.get("readout", {"pattern": "dense"})]}, 1)
    except ValueError as error:
        raise ValueError(f"readout: {error}") from error
    rewiring = plain_rewiring(description.get("rewiring"))
    if rewiring is not None and all(isinstance(pattern, Dense) for pattern in (*patterns, readout)):
        raise ValueError(
            "rewiring needs a sparse pattern, got dense; to prune a dense network, try erdos-renyi with density 1.0"
        )
    start = plain_start(description["start"]) if "start" in description else None
    training = description.get("training", {})
    if not isinstance(training, Mapping):
        raise ValueError(f"training must hold keys and values, got {training!r}; try {{learning_rate: 0.01}}")  # noqa: TRY004
    return ArmParts(patterns, readout, rewiring, start, dict(training))


def plain_start(description: Any) -> str | dict[str, Any]:
    """Return what a recipe says of where weights start: ``default``, ``kaiming``, or ``{"scheme": name, **settings}``.

    Settings are tried once, on a small network, so that wrong ones are found before any run.

    Raises:
        ValueError: the name or a setting is unknown or wrong.
    """
    settings = dict(description) if isinstance(description, Mapping) else {"scheme": description}
    name = settings.pop("scheme", None)
    known = [*START_NAMES, *STARTS]
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"start must be one of {', '.join(known)}, got {name!r}{nearest(name, known)}")
    if name in START_NAMES:
        if settings:
            raise ValueError(f"start {name} has no settings, got {next(iter(settings))!r}")
        return name
    settings = read_settings(f"start {name}", settings, settings_of(name))
    trial = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8))
    generator = torch.Generator().manual_seed(0)
    try:
        start_(trial, name, sample=torch.rand(64, 8, generator=generator), generator=generator, **settings)
    except ValueError as error:
        raise ValueError(f"start {name}: {error}") from error
    return {"scheme": name, **settings}


def read_settings(who: str, settings: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Return settings with their values in the types of the parameters that they are for.

    Raises:
        ValueError: there is no such parameter, or a value is of another type; ``who`` is named.
    """
    read = {}
    for key, value in settings.items():
        if key not in parameters:
            hint = nearest(key, [*parameters]) or f"; it has {', '.join(parameters) or 'none'}"
            raise ValueError(f"{who} has no setting {key!r}{hint}")
        try:
            read[key] = TypeAdapter(parameters[key].annotation).validate_python(value)
        except ValidationError as error:
            raise ValueError(first_problem(error, prefix=f"{who}: {key}")) from None
    return read


def plain_rewiring(description: Any) -> dict[str, Any] | None:
    """Return ``{"rule": name, **settings}`` of what a recipe says of an arm's rewiring; None where it stays as it is.

    Raises:
        ValueError: the name or a setting is unknown or wrong.
    """
    settings = dict(description) if isinstance(description, Mapping) else {"rule": description}
    if description is None or settings == {"rule": "static"}:
        return None
    read_rewiring(settings)
    return settings


def read_rewiring(description: Mapping[str, Any]) -> Rewiring | TopKastRewiring:
    """Return the rewiring that ``{"rule": name, **settings}`` describes.

    Raises:
        ValueError: the name or a setting is unknown or wrong.
    """
    settings = {key: value for key, value in description.items() if key != "rule"}
    name = description.get("rule")
    if not isinstance(name, str) or name not in REWIRINGS:
        raise ValueError(f"rewiring must be one of {', '.join(REWIRINGS)}, got {name!r}{nearest(name, [*REWIRINGS])}")
    known = [*inspect.signature(REWIRINGS[name]).parameters]
    for key in settings:
        if key not in known:
            hint = nearest(key, known) or f"; it has {', '.join(known) or 'none'}"
            raise ValueError(f"rewiring {name} has no setting {key!r}{hint}")
    try:
        return validate_call(REWIRINGS[name])(**settings)
    except ValidationError as error:
        raise ValueError(first_problem(error, prefix=f"rewiring {name}: ")) from None


def nearest(word: Any, choices: Sequence[str]) -> str:
    """Return "; try 'x'" with the choice nearest to a word, or nothing where none is near."""
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.5) if isinstance(word, str) else []
    return f"; try {near[0]!r}" if near else ""


def _check_settings(name: str, cls: type[Pattern], settings: Mapping[str, Any], fixed: frozenset[str]) -> None:
    known = [field.name for field in dataclasses.fields(cls) if field.name not in fixed]  # type: ignore[arg-type]
    for key in settings:
        if key not in known:
            raise ValueError(f"{name} has no setting {key!r}{nearest(key, known) or '; it has ' + ', '.join(known)}")


def _build(name: str, cls: type[Pattern], settings: Mapping[str, Any]) -> Pattern:
    try:
        return TypeAdapter(cls).validate_python(dict(settings))
    except ValidationError as error:
        raise ValueError(first_problem(error, prefix=f"{name}: ")) from None


def first_problem(error: ValidationError, *, prefix: str = "") -> str:
    """Say the first thing that pydantic found wrong, in one sentence."""
    problem = error.errors()[0]
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    where = ".".join(str(part) for part in problem["loc"] if not str(part).startswith(("function-", "tuple[", "list[")))
    what = problem["msg"][0].lower() + problem["msg"][1:]
    if problem["type"].startswith("missing"):
        return f"{prefix}{where} is missing"
    return f"{prefix}{where}: {what}, got {problem['input']!r}"
