"""The names that recipes use for probes, what each of them measures, and how they become probes of a run."""

import dataclasses
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError, validate_call
from torch import Tensor, nn

from neuropil import measure
from neuropil.compare import probe_measures
from neuropil.compare.probe_measures import Numbers, ProbeMeasure, of_activity, of_activity_since_start, sparse_wirings
from neuropil.compare.registry import first_problem, nearest
from neuropil.data import Dataset
from neuropil.train import Probe
from neuropil.train.probes import measure_once

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quantity:
    """One of the numbers that a probe gives.

    Attributes:
        title: over its picture, a few words.
        percent: whether it is a share, told in per cent.
        wide: whether it may span orders of magnitude, for a logarithmic axis.
    """

    title: str
    percent: bool = False
    wide: bool = False


@dataclass(frozen=True)
class ProbeKind:
    """What recipes can have measured under a name.

    Attributes:
        make: from its settings to what is measured.
        quantities: what it gives, by the keys of its records.
        what: what it is, formula and range, in plain words.
        source: where it comes from; empty where nobody need be named.
        n_samples: images it is measured on where nothing else is said.
        of_images: whether it depends on images at all.
        for_wirings: whether it is of sparse layers alone.
        for_rates: whether it makes no sense of neurons that spike.
    """

    make: Callable[..., ProbeMeasure]
    quantities: Mapping[str, Quantity]
    what: str
    source: str = ""
    n_samples: int = 256
    of_images: bool = True
    for_wirings: bool = False
    for_rates: bool = False


PROBES: dict[str, ProbeKind] = {
    "emergence": ProbeKind(
        probe_measures.emergence,
        {
            "log10": Quantity("log₁₀ of emergence"),
            "relative_to_weights": Quantity("emergence over weights", wide=True),
            "relative_to_most": Quantity("emergence over its maximum", wide=True),
        },
        "Emergence counts the directed paths that lead from an inactive unit to an active one of a later layer; 0 "
        "where all units or none are active. A unit is active when its mean magnitude over the images (by the rule "
        "any: that of some image) is above 1 % of the root mean square that its layer had before training: "
        "thresholds stay as they were then. It grows with width, so beside its logarithm it is told over the number "
        "of weights, and over the most that dense layers of these widths could have, in [0, 1].",
        "AlShinaifi et al., arXiv 2409.01568; thresholds, and what it is divided by, are ours",
    ),
    "activity": ProbeKind(
        probe_measures.activity,
        {"mean": Quantity("mean |activation|"), "dead": Quantity("dead units (%)", percent=True)},
        "How large a layer's output is, the mean of its magnitude over units and images (of spiking neurons, their "
        "firing rate); and the share of its units that give exactly 0 for every image.",
    ),
    "norms": ProbeKind(
        probe_measures.norms,
        {"weight": Quantity("norm of weights"), "gradient": Quantity("norm of gradient", wide=True)},
        "The Frobenius norm of each layer's weights, the root of the sum of their squares, and that of the gradient of "
        "the cross-entropy with respect to them; of connections that transmit, from 0 on.",
    ),
    "weight-change": ProbeKind(
        probe_measures.weight_change,
        {"relative": Quantity("relative change of weights"), "signs": Quantity("signs changed (%)", percent=True)},
        "How far weights have come from where they started, the norm of the difference over the norm at the start, and "
        "the share of connections whose sign is another. From 0 on; little change means lazy learning, much means rich."
        " A connection that came counts from 0, one that went as gone to 0.",
        "Chizat et al., arXiv 1812.07956",
        n_samples=1,
        of_images=False,
    ),
    "representation-change": ProbeKind(
        probe_measures.representation_change,
        {"relative": Quantity("relative change of activity"), "alignment": Quantity("alignment with the start")},
        "How far hidden activity has come from what it was before training, on the same images: the norm of the "
        "difference over the norm at the start; and the cosine between the two tables of similarities between images, "
        "in [0, 1], 1 where nothing but scale or rotation has changed.",
        "Liu et al., arXiv 2310.08513",
    ),
    "alignment": ProbeKind(
        of_activity_since_start("cka", measure.LinearAlignment),
        {"cka": Quantity("CKA with the start")},
        "How alike hidden activity and that before training are on the same images: their linear centred kernel "
        "alignment, in [0, 1], 1 where nothing but rotation and scale has changed: the cosine of the two tables of "
        "similarities between images, centred.",
        "Kornblith et al., arXiv 1905.00414",
    ),
    "dimensionality": ProbeKind(
        of_activity("ratio", measure.participation_ratio),
        {"ratio": Quantity("participation ratio", wide=True)},
        "In how many directions hidden activity varies over the images: the squared sum of the eigenvalues of its "
        "covariance over the sum of their squares, from 1, where all of it lies on a line, to the number of units.",
        "Gao et al., bioRxiv 214262",
    ),
    "sparseness": ProbeKind(
        of_activity("population", probe_measures.mean_population_sparseness),
        {"population": Quantity("population sparseness")},
        "How few units answer an image, mean over the images: from 0, where all answer alike, to 1, where one alone "
        "does; images that nothing answers do not count. Of magnitudes, where activity has two signs.",
        "Vinje, Gallant, Science 287 (2000); Treves, Rolls, Network 2 (1991)",
    ),
    "tangent-kernel": ProbeKind(
        probe_measures.tangent_kernel,
        {
            "cosine": Quantity("drift of direction"),
            "relative": Quantity("relative drift"),
            "target_alignment": Quantity("alignment with the task"),
        },
        "The tangent kernel says how a step of training on one image moves the output for another. Its drift of "
        "direction is 1 less the cosine with that before training, in [0, 1], 0 where learning is lazy; the relative "
        "drift, the norm of the difference over the norm at the start, counts scale as well. Its alignment with the "
        "task is the cosine, both centred, with the table that holds 1 where two images are of the same class.",
        "Jacot et al., arXiv 1806.07572; drift: Liu et al., 2310.08513; alignment: Cortes et al., 1203.0550",
        n_samples=32,
    ),
    "sharpness": ProbeKind(
        probe_measures.sharpness,
        {"eigenvalue": Quantity("largest eigenvalue", wide=True)},
        "How curved the loss is in its steepest direction: the largest eigenvalue of the Hessian, the second "
        "derivatives of the cross-entropy with respect to all weights. Plain gradient descent of rate η is stable "
        "below 2/η. It depends on how a network is written: compare networks that are built alike.",
        "Lanczos, J. Res. Natl. Bur. Stand. 45 (1950)",
        for_rates=True,
    ),
    "topology": ProbeKind(
        probe_measures.topology,
        {
            "modularity": Quantity("modularity"),
            "spectral_gap": Quantity("spectral gap"),
            "fan_in": Quantity("variation of fan-in"),
            "fan_out": Quantity("variation of fan-out"),
        },
        "The shape of the wiring, which changes only where it is rewired. Modularity: how many more connections lie "
        "within groups than degrees alone would put there, 0 where groups do not matter. Spectral gap, in [0, 1]: 0 "
        "where the wiring falls apart, the wider the better it mixes. Variation of fan-in and fan-out: standard "
        "deviation over mean, 0 where all neurons have as many connections, large where there are hubs.",
        "Barber, Phys. Rev. E 76, 066102 (2007)",
        n_samples=1,
        of_images=False,
        for_wirings=True,
    ),
}

_Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class ProbePlan:
    """A probe as a recipe describes it.

    Attributes:
        name: in the records.
        kind: what is measured.
        settings: of the measure.
        epochs, every, n_samples: when, and on how many images, see :class:`neuropil.train.Probe`.
    """

    name: str
    kind: ProbeKind
    settings: Mapping[str, Any]
    epochs: Sequence[int] | None
    every: int | None
    n_samples: int


@dataclass(frozen=True)
class _When:
    epochs: list[Annotated[int, Field(ge=0)]] | None = None
    every: _Count | None = None
    n_samples: _Count | None = None
    name: Annotated[str, Field(min_length=1)] | None = None


WHEN = ("every", "epochs", "n_samples", "name")  # what every probe can be told beside the settings of its measure


def plain_probes(description: Any) -> list[dict[str, Any]]:
    """Return ``{"measure": name, **settings}`` for each probe that a recipe asks for.

    Args:
        description: a list of names and of such mappings; a mapping from names to settings; one name; or None.

    Raises:
        ValueError: a name or a setting is unknown or wrong, or two probes have the same name.
    """
    if isinstance(description, Mapping):
        items: list[Any] = [_named(name, settings) for name, settings in description.items()]
    elif description is None:
        items = []
    else:
        items = list(description) if isinstance(description, list | tuple) else [description]
    probes = [dict(item) if isinstance(item, Mapping) else {"measure": item} for item in items]
    names = [read_probe(probe).name for probe in probes]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"probes must have different names, got {name} twice; try name: {name}-2 in one of them")
    return probes


def _named(name: Any, settings: Any) -> dict[str, Any]:
    """Return the probe that a mapping holds under a name: that of its measure, unless the settings name another."""
    if settings is not None and not isinstance(settings, Mapping):
        raise ValueError(f"probe {name} must hold keys and values, got {settings!r}; try {name}: {{every: 100}}")
    settings = dict(settings or {})
    return {"measure": name, **settings} if "measure" not in settings else {"name": name, **settings}


def read_probe(description: Mapping[str, Any]) -> ProbePlan:
    """Return the plan that ``{"measure": name, **settings}`` describes.

    Raises:
        ValueError: the name or a setting is unknown or wrong.
    """
    measure = description.get("measure")
    if not isinstance(measure, str) or measure not in PROBES:
        raise ValueError(f"probe must be one of {', '.join(PROBES)}, got {measure!r}{nearest(measure, [*PROBES])}")
    kind = PROBES[measure]
    own = [*inspect.signature(kind.make).parameters]
    settings = {key: value for key, value in description.items() if key != "measure"}
    for key in settings:
        if key not in (*own, *WHEN):
            hint = nearest(key, [*own, *WHEN]) or f"; it has {', '.join([*own, *WHEN])}"
            raise ValueError(f"probe {measure} has no setting {key!r}{hint}")
    of_measure = {key: value for key, value in settings.items() if key in own}
    try:
        when = TypeAdapter(_When).validate_python({key: settings[key] for key in settings if key not in own})
        validate_call(kind.make)(**of_measure)
    except ValidationError as error:
        raise ValueError(first_problem(error, prefix=f"probe {measure}: ")) from None
    return ProbePlan(
        when.name or measure, kind, of_measure, when.epochs, when.every, when.n_samples or kind.n_samples
    )  # fmt: skip


def check_probes(probes: Sequence[Mapping[str, Any]], *, spiking: bool) -> None:
    """Raise a ``ValueError`` where a probe makes no sense of any network of a recipe."""
    for description in probes:
        plan = read_probe(description)
        if spiking and plan.kind.for_rates:
            raise ValueError(
                f"probe {plan.name} needs neurons whose output can be differentiated twice, got spiking ones; leave it "
                "out"
            )


def build_probes(recipe: Mapping[str, Any], model: nn.Module, dataset: Dataset) -> list[Probe]:
    """Return the probes of a run, for a network that has not begun to learn; what they compare with is measured now.

    A measure that cannot be taken of the network, such as one of its wirings where all layers are dense, has no probe.
    One that fails later on, such as that of a network that no longer answers, gives None, with a warning.

    Args:
        recipe: what :func:`neuropil.compare.arms.run_recipe` gives.
        model: as training begins with it; the same whether a run begins or is resumed.
        dataset: what it is trained on.
    """
    plans = [read_probe(description) for description in recipe.get("probes", ())]
    return [
        _probe(plan, recipe["seed"], model, dataset)
        for plan in plans
        if not (plan.kind.for_wirings and not sparse_wirings(model))
    ]


def _probe(plan: ProbePlan, seed: int, model: nn.Module, dataset: Dataset) -> Probe:
    taken = validate_call(plan.kind.make)(**plan.settings)
    before = None
    if taken.start is not None:
        before = measure_once(taken.start, model, dataset, n_samples=plan.n_samples, seed=seed)
    failed: list[str] = []

    def measure(model: nn.Module, images: Tensor, labels: Tensor) -> Numbers | None:
        try:
            return taken.now(model, images, labels, before)
        except ValueError as error:
            if str(error) not in failed:
                failed.append(str(error))
                logger.warning("probe %s could not be taken: %s", plan.name, error)
            return None

    return Probe(plan.name, measure, epochs=plan.epochs, every=plan.every, n_samples=plan.n_samples)


def probe_settings(name: str) -> dict[str, Any]:
    """Return the settings of a probe with their defaults."""
    kind = PROBES[name]
    own = {p.name: p.default for p in inspect.signature(kind.make).parameters.values()}
    return {**own, **{field.name: field.default for field in dataclasses.fields(_When)}, "n_samples": kind.n_samples}
