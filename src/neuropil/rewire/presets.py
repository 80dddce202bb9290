"""Ways to rewire by the names of their papers, with published settings as defaults."""

from typing import Literal

from neuropil.rewire.limits import Limits
from neuropil.rewire.rewiring import Rewiring, Within, schedule_of
from neuropil.rewire.rule import Mixture, Rule, Sampled
from neuropil.rewire.rules import (
    CannistraciHebb,
    Contribution,
    Gradient,
    Hebbian,
    Magnitude,
    MagnitudeAndGradient,
    Random,
    SignedMagnitude,
)
from neuropil.rewire.schedule import Anneal, Cubic, Stages
from neuropil.rewire.top_kast import TopKastRewiring


def static() -> Rewiring:
    """Never rewire: the control that shows whether rewiring helps."""
    return Rewiring(None, None, None)


def set_(
    *,
    every: int | None = None,
    per_epoch: float | None = None,
    fraction: float = 0.3,
    anneal: Anneal = "constant",
    until: float = 1.0,
    within: Within = None,
) -> Rewiring:
    """SET: drop the smallest positive and the largest negative weights, grow at random.

    Args:
        every, per_epoch: steps between events, or events in an epoch; default: one an epoch.
        fraction: share of connections replaced by the first event.
        anneal: how that share falls.
        until: share of training after which the wiring stays.
        within: share of connections within groups; see :class:`Limits`.

    Reference:
        D. C. Mocanu et al., arXiv 1707.04780.
    """
    schedule = schedule_of(every, per_epoch, fraction, default=1.0, anneal=anneal, until=until)
    return Rewiring(SignedMagnitude(), Random(), schedule, Limits(within=within))


def rigl(
    *,
    every: int | None = None,
    per_epoch: float | None = None,
    fraction: float = 0.3,
    anneal: Anneal = "cosine",
    until: float = 0.75,
    within: Within = None,
) -> Rewiring:
    """RigL: drop the smallest weights, grow where the gradient is largest.

    Args:
        every, per_epoch: steps between events, or events in an epoch; default: 100 steps.
        fraction: share of connections replaced by the first event.
        anneal: how that share falls; the authors' code keeps it constant unless told otherwise.
        until: share of training after which the wiring stays.
        within: share of connections within groups; see :class:`Limits`.

    Reference:
        U. Evci et al., arXiv 1911.11134. There, the first event comes before the first step, and the step of an event
        leaves the weights alone; here each event follows a normal step.
    """
    schedule = schedule_of(every, per_epoch, fraction, default=100, anneal=anneal, until=until)
    return Rewiring(Magnitude(), Gradient(), schedule, Limits(within=within))


def g2g(
    *,
    prune: Literal["set", "random", "hebb", "three"] = "set",
    grow: Literal["hebb", "random"] = "hebb",
    every: int | None = None,
    per_epoch: float | None = None,
    fraction: float = 0.1,
    anneal: Anneal = "constant",
    until: float = 1.0,
    centered: bool = False,
    window: int = 1,
    within: Within = None,
) -> Rewiring:
    """G2GNet's rewiring: grow between neurons that fire together.

    Args:
        prune: C_P: ``set`` (smallest |w|), ``random``, ``hebb`` (lowest correlation), or ``three`` (a third each, in
            this order).
        grow: C_G: ``hebb`` (highest correlation) or ``random``.
        every, per_epoch: steps between events, or events in an epoch; default: 1,000 steps.
        fraction: share of connections replaced by the first event.
        anneal: how that share falls.
        until: share of training after which the wiring stays.
        centered: Pearson's correlation in place of the cosine.
        window: training steps whose activity is looked at.
        within: share of connections within groups; see :class:`Limits`.

    Raises:
        ValueError: prune or grow is unknown.

    Reference:
        G2GNet, arXiv 2508.14140, after the same laboratory's public spiking code. New connections start at 0, and
        their optimizer state is cleared, which that code does not do.
    """
    hebbian = Hebbian(centered=centered, window=window)
    pruning: dict[str, Rule] = {
        "set": Magnitude(),
        "random": Random(),
        "hebb": hebbian,
        "three": Mixture(((Magnitude(), 1.0), (Random(), 1.0), (hebbian, 1.0))),
    }
    growing: dict[str, Rule] = {"hebb": hebbian, "random": Random()}
    for name, value, known in (("prune", prune, pruning), ("grow", grow, growing)):
        if value not in known:
            raise ValueError(f"g2g: {name} must be one of {', '.join(known)}, got {value!r}")
    schedule = schedule_of(every, per_epoch, fraction, default=1000, anneal=anneal, until=until)
    return Rewiring(pruning[prune], growing[grow], schedule, Limits(within=within))


def hebbian(
    *,
    every: int | None = None,
    per_epoch: float | None = None,
    fraction: float = 0.1,
    anneal: Anneal = "constant",
    until: float = 1.0,
    window: int = 1,
    within: Within = None,
) -> Rewiring:
    """Hebbian rewiring that works: drop the smallest |w| · |correlation|, grow the largest |correlation|.

    G2GNet's pair hebb + hebb of :func:`g2g` takes inhibition and selective neurons away and lets a few sources
    collect most connections. Here the correlation is centred, its sign does not matter, and what is pruned must also
    be weak.

    Args:
        every, per_epoch: steps between events, or events in an epoch; default: 1,000 steps.
        fraction: share of connections replaced by the first event.
        anneal: how that share falls.
        until: share of training after which the wiring stays.
        window: training steps whose activity is looked at.
        within: share of connections within groups; see :class:`Limits`.

    Reference:
        Ours, after G2GNet, arXiv 2508.14140. It reaches what a static wiring reaches on digits, not more.
    """
    schedule = schedule_of(every, per_epoch, fraction, default=1000, anneal=anneal, until=until)
    growth = Hebbian(centered=True, absolute=True, window=window)
    return Rewiring(Contribution(centered=True, window=window), growth, schedule, Limits(within=within))


def itop(
    *,
    grow: Literal["random", "gradient"] = "random",
    every: int | None = None,
    per_epoch: float | None = None,
    fraction: float = 0.5,
    final_fraction: float = 0.005,
) -> Rewiring:
    """ITOP: SET or RigL with fewer and larger events over all of training, so that more of the space is explored.

    Args:
        grow: ``random`` (SET, then signed magnitudes are pruned) or ``gradient`` (RigL).
        every, per_epoch: steps between events, or events in an epoch; default: 1,500 steps (4,000 for ``gradient``).
        fraction, final_fraction: share of connections replaced by the first and the last event, a cosine between.

    Raises:
        ValueError: grow is unknown.

    Reference:
        S. Liu et al., arXiv 2102.02887.
    """
    if grow not in ("random", "gradient"):
        raise ValueError(f"itop: grow must be random or gradient, got {grow!r}")
    by_gradient = grow == "gradient"
    schedule = schedule_of(
        every, per_epoch, fraction, default=4000 if by_gradient else 1500, anneal="cosine",
        final_fraction=final_fraction,
    )  # fmt: skip
    if by_gradient:
        return Rewiring(Magnitude(), Gradient(), schedule)
    return Rewiring(SignedMagnitude(), Random(), schedule)


def mest(
    *,
    every: int | None = None,
    per_epoch: float | None = None,
    fraction: float = 0.3,
    coefficient: float = 0.01,
    soft: bool = False,
) -> Rewiring:
    """MEST: drop the smallest |w| + coefficient · |gradient|, grow at random.

    Args:
        every, per_epoch: steps between events, or events in an epoch; default: 100 steps.
        fraction: share of connections replaced by the first event, falling along a cosine.
        coefficient: of the gradient.
        soft: EM&S: 5 % of all possible connections more until 0.6 of training, then 2.5 % more until 0.8.

    Reference:
        G. Yuan et al., MEST (NeurIPS 2021), as re-implemented in the CHT repository. How often, how much, and the
        second stage's end could not be read there: the first two are RigL's, the last lies half way.
    """
    density = Stages(((0.6, 0.05), (0.8, 0.025))) if soft else None
    schedule = schedule_of(every, per_epoch, fraction, default=100, anneal="cosine", density=density)
    return Rewiring(MagnitudeAndGradient(coefficient), Random(), schedule)


def cht(
    *,
    every: int | None = None,
    per_epoch: float | None = None,
    fraction: float = 0.3,
    order: int = 3,
    anneal: Anneal = "constant",
    until: float = 1.0,
) -> Rewiring:
    """CHT: drop the smallest weights, grow what the topology predicts, until a layer's wiring settles.

    Connections to neurons without output and from neurons without input go as well; a layer is left alone once more
    than 90 % of what it drops comes back.

    Args:
        every, per_epoch: steps between events, or events in an epoch; default: one an epoch.
        fraction: share of connections replaced by each event.
        order: 3 (CH3-L3n) or 2 (CH2-L3n).
        anneal: how the share falls.
        until: share of training after which the wiring stays.

    Reference:
        Y. Zhang et al., CHT (ICLR 2024), with the node-based score of the later code. Its correlated start of wiring
        and weights is not part of rewiring.
    """
    schedule = schedule_of(every, per_epoch, fraction, default=1.0, anneal=anneal, until=until)
    return Rewiring(Magnitude(), CannistraciHebb(order), schedule, Limits(chain_removal=True, stop_overlap=0.9))


def chts(
    *,
    every: int | None = None,
    per_epoch: float | None = None,
    fraction: float = 0.3,
    order: int = 3,
    temperature: tuple[float, float] = (1.0, 3.0),
    anneal: Anneal = "constant",
    until: float = 1.0,
) -> Rewiring:
    """CHTs: CHT by chance: what stays is drawn ∝ |w|^T, what comes ∝ its topological score.

    Args:
        every, per_epoch: steps between events, or events in an epoch; default: one an epoch.
        fraction: share of connections replaced by each event.
        order: 3 (CH3-L3n) or 2 (CH2-L3n).
        temperature: T at the start and at the end of training.
        anneal: how the share falls.
        until: share of training after which the wiring stays.

    Reference:
        Y. Zhang et al., arXiv 2501.19107.
    """
    schedule = schedule_of(every, per_epoch, fraction, default=1.0, anneal=anneal, until=until)
    return Rewiring(
        Sampled(Magnitude(), temperature), Sampled(CannistraciHebb(order)), schedule, Limits(chain_removal=True)
    )


def srigl(
    *,
    every: int | None = None,
    per_epoch: float | None = None,
    fraction: float = 0.3,
    until: float = 0.75,
    ablation: float | None = 0.3,
) -> Rewiring:
    """SRigL: RigL with the same fan-in for every neuron, and neurons without salient connections ablated.

    Args:
        every, per_epoch: steps between events, or events in an epoch; default: 100 steps.
        fraction: share of connections replaced by the first event, falling along a cosine.
        until: share of training after which the wiring stays.
        ablation: a neuron goes with fewer than this share of its fan-in salient: 0.3 for convolutional networks, 0.95
            for transformers; None: none goes.

    Reference:
        M. Lasby et al., arXiv 2305.02299. Where a row must be trimmed its smallest weights go; in the authors' code
        any do.
    """
    schedule = schedule_of(every, per_epoch, fraction, default=100, anneal="cosine", until=until)
    return Rewiring(Magnitude(), Gradient(), schedule, Limits(constant_fan_in=True, ablation=ablation))


def gmp(
    density: float,
    *,
    every: int | None = None,
    per_epoch: float | None = None,
    start: float = 0.2,
    until: float = 0.75,
) -> Rewiring:
    """GMP: gradually prune the smallest weights of each layer, from the density it starts with to another.

    Args:
        density: at the end, in (0, 1].
        every, per_epoch: steps between events, or events in an epoch; default: 1,000 steps.
        start, until: shares of training in which the density falls.

    Reference:
        M. Zhu and S. Gupta, arXiv 1710.01878; start and until as in RigL's comparison (20k to 75k of 97.7k steps).
        What is pruned here never comes back; there, the mask is drawn again from all weights.
    """
    schedule = schedule_of(every, per_epoch, None, default=1000, density=Cubic(density, start, until))
    return Rewiring(Magnitude(), None, schedule)


def granet(
    density: float,
    *,
    every: int | None = None,
    per_epoch: float | None = None,
    fraction: float = 0.5,
    until: float = 0.7,
) -> Rewiring:
    """GraNet: gradually prune all layers by one threshold, and regrow by gradient what each event prunes beyond that.

    Args:
        density: at the end, in (0, 1].
        every, per_epoch: steps between events, or events in an epoch; default: 1,000 steps.
        fraction: share of connections replaced by the first event, falling along a cosine.
        until: share of training in which the density falls.

    Reference:
        S. Liu et al., arXiv 2106.10404, which starts from a density of 0.5 or 1.
    """
    schedule = schedule_of(
        every, per_epoch, fraction, default=1000, anneal="cosine", density=Cubic(density, 0.0, until, "global")
    )
    return Rewiring(Magnitude(), Gradient(), schedule)


def top_kast(
    density: float,
    *,
    backward_density: float | None = None,
    every: int = 100,
    penalty: float = 1e-4,
) -> TopKastRewiring:
    """Top-KAST: the largest weights transmit, and the next largest learn with them in silence.

    Put it on layers that are built with all they may use, such as ``ErdosRenyi(1.0)``: see :class:`TopKast`. Its
    penalty is to be added to the loss.

    Args:
        density: share of possible connections that transmit, in (0, 1].
        backward_density: share that gets gradients, from ``density`` to 1; default: twice ``density``.
        every: steps from one choice to the next.
        penalty: factor α of the penalty on live weights.

    Reference:
        S. Jayakumar et al., arXiv 2106.03517. That a choice every 100 steps does is theirs; the defaults of
        backward_density and penalty are ours, for theirs could not be read.
    """
    if backward_density is None:
        backward_density = min(1.0, 2 * density)
    return TopKastRewiring(density, backward_density, every, penalty)
