"""From the arms of a recipe to all that is run: their controls come with them."""

import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from neuropil.compare.recipe import Recipe, RecipeError, SpikingSection, TrainingSection
from neuropil.compare.registry import describe_pattern, nearest, plain_start, read_rewiring, split_arm
from neuropil.compare.rules import SPIKING_RULES, build_rule, rule_name, trains_spikes
from neuropil.compare.sweeps import expand_sweeps
from neuropil.connect import Dense, Ensembles, ErdosRenyi, Pattern
from neuropil.data import SOURCES
from neuropil.models import ensemble_net, layer_sizes, readout_size, spiking_ensemble_net, twin_arguments
from neuropil.randomness import stream
from neuropil.rewire import Rewiring


@dataclass
class Arm:
    """One network of a comparison.

    Attributes:
        name: its name in tables, and of its folder.
        hidden: width of each hidden layer.
        patterns: wiring of each hidden layer.
        readout: wiring of the read-out.
        is_control: whether it was added as another arm's twin.
        rewiring: ``{"rule": name, **settings}``, or None where the wiring stays as it is.
        start: where its weights start, if not where the recipe says, see
            :func:`neuropil.compare.registry.plain_start`.
        training: what is other than in the recipe's training.
        twins: name of the arm that serves as each twin (keys of :data:`neuropil.models.TWINS`, and ``static``: the
            same wiring never rewired, for arms that are rewired at one density); empty for controls and dense arms.
    """

    name: str
    hidden: tuple[int, ...]
    patterns: tuple[Pattern, ...]
    readout: Pattern = field(default_factory=Dense)
    is_control: bool = False
    rewiring: dict[str, Any] | None = None
    start: str | dict[str, Any] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    twins: dict[str, str] = field(default_factory=dict)

    @property
    def is_dense(self) -> bool:
        """Whether every layer is dense."""
        return all(isinstance(pattern, Dense) for pattern in (*self.patterns, self.readout))

    @property
    def has_groups(self) -> bool:
        """Whether the neurons of some layer belong to groups."""
        return any(isinstance(pattern, Ensembles) for pattern in (*self.patterns, self.readout))


def expand_arms(recipe: Recipe, *, tuned: Collection[str] = ()) -> list[Arm]:
    """Return the arms of a recipe, a swept one as many arms, and their controls, controls first.

    Every sparse arm is compared with a dense network of the same width, a dense one of the same number of
    parameters, and an Erdős–Rényi one of the same density. Arms of the same expected density share them; an arm of
    the recipe that is such a network already serves as the control. Controls start and learn as their arms do, but
    for what the recipe's ``controls`` say; the settings that these name are not looked at where arms share controls.

    Args:
        recipe: of the comparison.
        tuned: settings of start and training, as ``training.learning_rate``, of which controls are to have values of
            their own, like those that ``controls`` name.

    Raises:
        RecipeError: a wiring does not fit the layers, or there is no control of a name.
    """
    source = SOURCES[recipe.data.name]
    arms = []
    described = expand_sweeps(recipe.arms)
    for name, description in described.items():
        parts = split_arm(description, len(recipe.model.hidden))
        arms.append(Arm(name, tuple(recipe.model.hidden), **parts._asdict()))
    controls: list[Arm] = []
    own = {*tuned, *(key for control in recipe.controls.values() for key in _keys(control))}
    for arm in arms:
        arguments = {
            "input_shape": source.image_shape,
            "n_classes": source.n_classes,
            "hidden": arm.hidden,
            "pattern": arm.patterns,
            "patches": recipe.model.patches,
            "patch_channels": recipe.model.patch_channels,
            "convolutions": recipe.model.convolutions,
            "batch_norm": recipe.model.batch_norm,
            "activation": recipe.model.activation,
            "bias": recipe.model.bias,
            "readout": arm.readout,
        }
        try:
            if not arm.is_dense:
                _try_wiring(arguments)
                _try_rewiring(arm, arguments)
            _try_rule(recipe, arm, arguments)
            wanted = {} if arm.is_dense else twin_arguments(**_at_the_end(arm, arguments))
        except ValueError as error:
            raise RecipeError(f"recipe {recipe.name}: arms.{arm.name}: {error}") from error
        if arm.rewiring is not None and read_rewiring(arm.rewiring).keeps_density:
            wanted["static"] = arguments
        for kind, twin in wanted.items():
            same = [
                other
                for other in (*arms, *controls)
                if other.rewiring is None
                and _in_common(recipe, other, own) == _in_common(recipe, arm, own)
                and (other.hidden, other.patterns, other.readout) == (twin["hidden"], twin["pattern"], twin["readout"])
            ]
            if not same:
                taken = [other.name for other in (*arms, *controls)]
                if kind == "static":
                    name = _static_name(described[arm.name], taken)
                else:
                    same_way = [
                        control
                        for control in controls
                        if _in_common(recipe, control, own) == _in_common(recipe, arm, own)
                    ]
                    name = _control_name(twin, taken=[control.name for control in same_way])
                    if name in {control.name for control in controls}:
                        name = f"{name}-{arm.name}"  # wired alike, but started or trained as that arm
                control = Arm(name, twin["hidden"], twin["pattern"], twin["readout"], is_control=True)
                same = [replace(control, start=arm.start, training=arm.training)]
                controls += same
            arm.twins[kind] = same[0].name
    clash = {arm.name for arm in arms} & {control.name for control in controls}
    if clash:
        raise RecipeError(
            f"recipe {recipe.name}: arms.{clash.pop()}: this name belongs to a control that is added; try another"
        )
    for name in recipe.controls:
        if name not in {control.name for control in controls}:
            known = [control.name for control in controls]
            hint = nearest(name, known) or f"; there are {', '.join(known) or 'none'}"
            raise RecipeError(f"recipe {recipe.name}: controls.{name} must be a control that is added{hint}")
    return [_with_own(control, recipe) for control in controls] + arms


def _keys(description: Mapping[str, Any]) -> list[str]:
    """Return the settings that a control has of its own, those of a part with a dot."""
    return [
        key
        for part, values in description.items()
        for key in (
            [f"{part}.{inner}" for inner in values if inner != "scheme"] if isinstance(values, dict) else [part]
        )
    ]


def _in_common(recipe: Recipe, arm: Arm, own: Collection[str]) -> tuple[Any, dict[str, Any]]:
    """Return start and training of an arm, less the settings of which its controls have values of their own."""
    start, training = start_and_training(recipe, arm)
    if isinstance(start, dict):
        start = {key: value for key, value in start.items() if f"start.{key}" not in own}
    left = {key: value for key, value in training.model_dump().items() if f"training.{key}" not in own}
    return None if "start" in own else start, left


def _with_own(control: Arm, recipe: Recipe) -> Arm:
    """Return a control with what the recipe says of it in place of what it has of its arm."""
    said = recipe.controls.get(control.name, {})
    try:
        start = plain_start(said["start"]) if "start" in said else control.start
        training = {**control.training, **said.get("training", {})}
        recipe.training.replaced(training)
    except ValueError as error:
        raise RecipeError(f"recipe {recipe.name}: controls.{control.name}: {error}") from error
    return replace(control, start=start, training=training)


def start_and_training(recipe: Recipe, arm: Arm) -> tuple[Any, TrainingSection]:
    """Return where an arm starts and how it learns, be it said by itself or by the recipe."""
    return recipe.model.start if arm.start is None else arm.start, recipe.training.replaced(arm.training)


def run_recipe(recipe: Recipe, arm: Arm, seed: int, fold: int | None = None) -> dict[str, Any]:
    """Return, as plain values, all that decides what one run gives.

    Args:
        recipe: of the comparison.
        arm: one of :func:`expand_arms`.
        seed: of wiring, weights and the order of the images.
        fold: which part of the training images is held out and scored; None: the test images are scored.
    """
    # what is as it has always been is left out: run folders made before it could be said stay valid
    readout = {} if isinstance(arm.readout, Dense) else {"readout": describe_pattern(arm.readout)}
    chosen, learning = start_and_training(recipe, arm)
    start = {} if chosen == "default" else {"start": chosen}
    new = {"convolutions": None, "batch_norm": False, "activation": "relu", "bias": True}
    others = {key: value for key, ordinary in new.items() if (value := getattr(recipe.model, key)) != ordinary}
    training = learning.model_dump()
    if training["rate_profile"] == 1:
        del training["rate_profile"]
    if training["rule"] == "backpropagation":
        del training["rule"]
    rewiring = {} if arm.rewiring is None else {"rewiring": arm.rewiring}
    spiking = {} if recipe.spiking is None else {"spiking": _spiking(recipe.spiking)}
    intra_only = {"intra_only": True} if recipe.intra_only and arm.has_groups else {}
    probes = {"probes": recipe.probes} if recipe.probes else {}
    data = recipe.data.model_dump()
    if fold is not None:
        data |= {"validation": None, "fold": fold, "n_folds": recipe.folds, "fold_order": recipe.fold_order}
    return {
        "comparison": recipe.name,
        "arm": arm.name,
        "seed": seed,
        "data": data,
        "model": {
            "hidden": list(arm.hidden),
            "patches": recipe.model.patches,
            "patch_channels": recipe.model.patch_channels,
            **others,
            "layers": [describe_pattern(pattern) for pattern in arm.patterns],
            **readout,
            **start,
        },
        **spiking,
        **rewiring,
        "training": training,
        **intra_only,
        **probes,
    }


def _spiking(section: SpikingSection) -> dict[str, Any]:
    """Return what decides how neurons spike, the penalty only where there is one, the output where it is no spikes."""
    left_out = set() if section.rate_penalty else {"rate_penalty", "rate_warm_up"}
    return section.model_dump(exclude=left_out | ({"output"} if section.output == "spikes" else set()))


def run_folder(comparison: Path, arm: str, seed: int, fold: int | None = None) -> Path:
    """Return where a run lies in the folder of its comparison."""
    folder = comparison / arm / f"seed-{seed}"
    return folder if fold is None else folder / f"fold-{fold}"


def run_folds(recipe: Recipe) -> list[int | None]:
    """Return the folds that every arm and seed is run with: None alone where there is no cross-validation."""
    return [None] if recipe.folds is None else list(range(recipe.folds))


def _at_the_end(arm: Arm, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments whose patterns have the density of an arm after training: what its twins are matched to."""
    rewiring = None if arm.rewiring is None else read_rewiring(arm.rewiring)
    if rewiring is None or rewiring.keeps_density:
        return arguments

    def end(pattern: Pattern, size: tuple[int, int]) -> Pattern:
        if isinstance(pattern, Dense):
            return pattern
        return ErdosRenyi(density=rewiring.final_density(pattern.expected_density(*size)), exact=True)

    patterns = tuple(end(pattern, size) for pattern, size in zip(arm.patterns, layer_sizes(arguments), strict=True))
    return {**arguments, "pattern": patterns, "readout": end(arm.readout, readout_size(arguments))}


def _static_name(description: Mapping[str, Any], taken: list[str]) -> str:
    """Name the static twin of a rewired arm by its pattern, with a number where that name is taken."""
    name = f"{description.get('pattern', 'layers')}-static"
    return next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(taken) + 3))) if n not in taken)


def _control_name(arguments: dict[str, Any], taken: list[str]) -> str:
    """Name a control by its width or its density, the latter with as many digits as tell it from others."""
    hidden = arguments["hidden"]
    random = [p.density for p in (*arguments["pattern"], arguments["readout"]) if isinstance(p, ErdosRenyi)]
    for digits in range(3, 18):
        if random:
            name = "erdos-renyi-" + "-".join(_without_repeats([f"{density:.{digits}g}" for density in random]))
        else:
            name = "dense-" + "-".join(_without_repeats([str(width) for width in hidden]))
        if name not in taken:
            break
    return name


def _without_repeats(values: list[str]) -> list[str]:
    """Return one value where all are equal, else all."""
    return values[:1] if len(set(values)) == 1 else values


def _try_rewiring(arm: Arm, arguments: dict[str, Any]) -> None:
    """Put a rewiring with demands on a network of these wirings: those that cannot be met are found before any run."""
    rewiring = None if arm.rewiring is None else read_rewiring(arm.rewiring)
    if rewiring is None:
        return
    layers = zip(arguments["pattern"], layer_sizes(arguments), strict=True)
    densities = [pattern.expected_density(*size) for pattern, size in layers if not isinstance(pattern, Dense)]
    if not rewiring.keeps_density and densities and rewiring.final_density(max(densities)) >= max(densities):
        raise ValueError(
            f"rewiring to a density must start above it, got {max(densities):.3g}; try erdos-renyi with density 1.0"
        )
    limits = rewiring.limits if isinstance(rewiring, Rewiring) else None
    if limits is None or limits.within is not None or limits.constant_fan_in:
        net = ensemble_net(**arguments)
        rewiring.attach(net, torch.optim.SGD(net.parameters()))


def _try_rule(recipe: Recipe, arm: Arm, arguments: dict[str, Any]) -> None:
    """Attach a rule to a network of these wirings: one that cannot train it is found before any run."""
    training = recipe.training.replaced(arm.training)
    if training.rule == "backpropagation":
        return
    if recipe.spiking is None:
        net: torch.nn.Module = ensemble_net(**arguments)
    elif trains_spikes(training.rule):
        ours = {key: arguments[key] for key in inspect.signature(spiking_ensemble_net).parameters if key in arguments}
        net = spiking_ensemble_net(**ours, **spiking_arguments(_spiking(recipe.spiking)))
    else:
        known = ", ".join(["backpropagation", *SPIKING_RULES])
        raise ValueError(f"the rule of neurons that spike must be one of {known}, got {rule_name(training.rule)}")
    build_rule(training.model_dump(), net, stream(0, "trial"))


def spiking_arguments(spiking: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a run's section ``spiking`` makes its network: all but the penalty of rates."""
    return {key: value for key, value in spiking.items() if not key.startswith("rate_")}


def _try_wiring(arguments: dict[str, Any]) -> None:
    """Draw each wiring once, so that one that does not fit is found before anything runs."""
    sizes = layer_sizes(arguments)
    layers = [(f"hidden layer {i}", *layer) for i, layer in enumerate(zip(arguments["pattern"], sizes, strict=True), 1)]
    layers.append(("read-out", arguments["readout"], readout_size(arguments)))
    for title, pattern, size in layers:
        try:
            _draw_once(pattern, size)
        except ValueError as error:
            raise ValueError(f"{title}: {error}") from error


@cache
def _draw_once(pattern: Pattern, size: tuple[int, int]) -> None:
    """Draw a wiring that is of no further use, unless the same was drawn without an error before."""
    pattern.wire(*size, generator=stream(0, "trial"))
