"""Rewiring a network while it learns."""

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neuropil.connect import SparseLinear
from neuropil.connect.block_grid import IntArray
from neuropil.connect.change import Change
from neuropil.connect.rewire_layer import rewire_layer
from neuropil.rewire.chain import drop_chains, followers
from neuropil.rewire.choose import come, drop
from neuropil.rewire.history import Event
from neuropil.rewire.layers import layers_to_rewire
from neuropil.rewire.limits import Limits
from neuropil.rewire.pool import EMPTY
from neuropil.rewire.record import Recorder, Samples
from neuropil.rewire.rewind import Rewind, Rewinder
from neuropil.rewire.rule import Rule
from neuropil.rewire.schedule import Cubic, Rounds, Schedule, Stages, count_steps
from neuropil.rewire.site import Reduction, Site
from neuropil.rewire.track import Track, summarize

logger = logging.getLogger(__name__)


class Rewirer:
    """Let connections of a model's sparse layers come and go while it learns.

    Call :meth:`step` after each step of the optimizer. When an event is due, each layer drops the share of its blocks
    that the prune rule values least, and connects as many that the growth rule values most. The number of blocks
    stays exactly the same, unless the schedule says otherwise. New ones start at 0, their optimizer state too; all
    others keep theirs. Activity and gradients are recorded in those steps only whose event needs them.

    A copy of the model, such as an average of its weights, does not follow by itself: call its layers' ``rewire`` with
    the model's wirings. With ``torch.compile``, rules that look at activity or gradients need
    ``torch._dynamo.config.skip_nnmodule_hook_guards = False`` before the model is compiled.

    Args:
        model: holds at least one :class:`neuropil.connect.SparseLinear`.
        optimizer: trains the layers that are rewired; any whose state per parameter is shaped like it, or scalar.
        prune: what goes; None where nothing is ever dropped.
        grow: what comes; None where nothing ever is to come.
        schedule: when, and how much; None: never.
        limits: what must hold whatever the rules say.
        rewind: to which earlier weights the whole model is set back after each event, its optimizer's state cleared;
            None: training goes on. For pruning in :class:`Rounds`; keeps a copy of the model.
        reduction: ``mean`` or ``sum`` over the synapses of a block.
        activity: from a layer's output to its targets' activity, for rules that look at it. None: found by following
            the output through normalization to the activation module; the output itself where there is none.
        skip: names of sparse layers that stay as they are.
        generator: where chance comes from; default: one seeded with 0. The rewirer keeps it to itself.

    Attributes:
        history: what each event did to each layer, since the rewirer was made.
        gather: what is made of the activity and gradients of a step before rules look at them, by layer; None: nothing.

    Raises:
        ValueError: there is no sparse layer, the optimizer does not train one, a rule cannot do what it is asked to,
            or the limits cannot be met.

    Reference:
        Drop and grow: SET, arXiv 1707.04780, and RigL, arXiv 1911.11134; Hebbian growth: G2GNet, arXiv 2508.14140.

    Example:
        >>> from neuropil.connect import ErdosRenyi, sparsify
        >>> from neuropil.rewire import Magnitude, Random, Schedule
        >>> model = sparsify(nn.Linear(32, 16), ErdosRenyi(0.25, exact=True))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> schedule = Schedule(every=2, fraction=0.5)
        >>> rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=Random(), schedule=schedule)
        >>> for _ in range(2):
        ...     optimizer.zero_grad()
        ...     model(torch.randn(8, 32)).square().mean().backward()
        ...     optimizer.step()
        ...     events = rewirer.step()
        >>> events[0].dropped, model.wiring.n_connections
        (64, 128)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        prune: Rule | None,
        grow: Rule | None,
        schedule: Schedule | None,
        limits: Limits | None = None,
        rewind: Rewind | None = None,
        reduction: Reduction = "mean",
        activity: Callable[[Tensor], Tensor] | None = None,
        skip: Sequence[str] = (),
        generator: torch.Generator | None = None,
    ) -> None:
        self._layers = layers_to_rewire(model, optimizer, skip, who="Rewirer")
        self._optimizer = optimizer
        self._prune, self._grow, self._schedule = prune, grow, schedule
        self._limits = limits or Limits()
        self._reduction = reduction
        self._generator = torch.Generator().manual_seed(0) if generator is None else generator
        self._rewind = rewind
        self._check()
        self._tracks = {name: self._track(name, layer, model) for name, layer in self._layers.items()}
        self._followers = followers(model, self._layers) if self._limits.chain_removal else []
        self._rewinder = None
        if rewind is not None:
            self._rewinder = Rewinder(model, optimizer, self._layers, rewind, self._generator)
        self._recorder = Recorder(model, self._layers, activity)
        rules = [rule for rule in (prune, grow) if rule is not None]
        self._needs = frozenset().union(*(rule.needs for rule in rules))
        self._needs_length = schedule is not None and (
            schedule.needs_length
            or any(rule.needs_progress for rule in rules)
            or (rewind is not None and rewind.needs_length)
        )
        self._window = max((rule.window for rule in rules if rule.needs), default=0)
        self._samples: deque[Mapping[str, Samples]] = deque(maxlen=self._window or None)
        self._step = self._n_events = 0
        self._steps_per_epoch: int | None = None
        self._n_steps: int | None = None
        self.history: list[Event] = []
        self.gather: Callable[[Mapping[str, Samples]], Mapping[str, Samples]] | None = None
        self._record_if_needed()

    # In the course of training

    @property
    def layers(self) -> Mapping[str, SparseLinear]:
        """The layers that are rewired, by their names in the model."""
        return self._layers

    def set_length(self, *, epochs: int, steps_per_epoch: int) -> None:
        """Say how long training is, for schedules that count in epochs or in shares of it.

        Raises:
            ValueError: a number is below 1, or not all rounds of pruning fall into training.
        """
        self._n_steps = count_steps(epochs, steps_per_epoch, who="Rewirer.set_length")
        self._steps_per_epoch = steps_per_epoch
        self._check_rounds(self._n_steps)
        first = next((step for step in range(1, self._n_steps + 1) if self._is_due(step)), None)
        if self._rewinder is not None and first is not None:
            self._rewinder.check(first, self._n_steps)
        if self._schedule is not None and first is None:
            logger.warning(
                "no rewiring event falls into the %d steps of this training: nothing will be rewired; try a shorter "
                "interval",
                self._n_steps,
            )
        self._record_if_needed()

    def step(self) -> list[Event]:
        """Count one step of the optimizer, and rewire if an event is due; return what it did, layer by layer.

        Nothing is replaced after the last step of a training whose length is known.

        Raises:
            ValueError: the length of training is needed and unknown, or a rule lacks activity or gradients.
        """
        if self._needs_length and self._n_steps is None:
            raise ValueError(
                "Rewirer: how long training is must be known, for something counts in epochs or shares of it; try "
                "rewirer.set_length(epochs=…, steps_per_epoch=…) before training, or Schedule(every=…)"
            )
        self._step += 1
        if self._recorder.is_on:
            collected = self._recorder.collect()
            self._samples.append(collected if self.gather is None else self.gather(collected))
        if self._rewinder is not None and self._step == self._rewinder.rewind.moment(self._n_steps):
            self._rewinder.keep()
        events = []
        if self._is_due(self._step):
            if self._rewinder is not None:
                self._rewinder.check(self._step, self._n_steps)
            device = next(iter(self._layers.values())).weight.device.type
            with torch.autocast(device, enabled=False):
                events = self._rewire()
            if self._rewinder is not None:
                self._rewinder.restore(is_last=self._is_last_round())
        self._n_events += bool(events)
        self.history += events
        self._record_if_needed()
        return events

    def _is_due(self, step: int) -> bool:
        schedule = self._schedule
        if schedule is None or (self._needs_length and self._n_steps is None):
            return False
        if self._density_is_due(step):
            return True
        if self._n_steps is not None and step >= self._n_steps:
            return False  # nothing would be learnt after it
        changes = schedule.density is not None or schedule.fraction_at(self._progress(step)) > 0
        return changes and schedule.is_due(step, self._steps_per_epoch, self._n_steps)

    def _is_last_round(self) -> bool:
        assert self._schedule is not None
        density = self._schedule.density
        return isinstance(density, Rounds) and self._events_due(self._step) >= density.n

    def _events_due(self, step: int) -> int:
        assert self._schedule is not None
        return self._schedule.n_due(step, self._steps_per_epoch, self._n_steps)

    def _check_rounds(self, n_steps: int) -> None:
        """Raise a ``ValueError`` if training of a length is over before the last round of pruning."""
        density = None if self._schedule is None else self._schedule.density
        if isinstance(density, Rounds) and (n := self._events_due(n_steps - 1)) < density.n:
            raise ValueError(
                f"Rewirer: every round of pruning must come before the last step of training, got {n} of {density.n} "
                f"in {n_steps} steps; try longer training, fewer rounds, or a shorter interval"
            )

    def _density_is_due(self, step: int) -> bool:
        """Return whether the density must be set after this step whenever else events may be."""
        density = None if self._schedule is None else self._schedule.density
        if density is None or isinstance(density, Rounds) or self._n_steps is None:
            return False
        if isinstance(density, Stages) and step == 1:
            return True  # what is denser at first is so from the start
        ends = [density.until] if isinstance(density, Cubic) else [until for until, _ in density.stages]
        return step in {math.ceil(end * self._n_steps - 1e-9) for end in ends}

    def _progress(self, step: int) -> float:
        return min(1.0, step / self._n_steps) if self._n_steps else 0.0

    def _record_if_needed(self) -> None:
        """Put the hooks in place if an event within the rules' window needs them, and take them away otherwise."""
        if any(self._is_due(self._step + ahead) for ahead in range(1, self._window + 1)):
            self._recorder.start(self._needs)
        else:
            self._recorder.stop()
            self._samples.clear()

    def summary(self) -> dict[str, Any]:
        """Return what rewiring has come to so far, as plain values.

        ``events``: how many there were; ``replaced``: blocks that came over those there were at the start, which may
        exceed 1; ``explored``: share of all possible blocks that have been live (R_s); ``modularity``: mean over the
        layers, None without groups.
        """
        return summarize(self._tracks.values(), self._n_events)

    # An event

    @torch.no_grad()
    def _rewire(self) -> list[Event]:
        assert self._schedule is not None
        progress = self._progress(self._step)
        is_last = self._n_steps is not None and self._step >= self._n_steps
        regular = self._schedule.is_due(self._step, self._steps_per_epoch, self._n_steps) and not is_last
        fraction = self._schedule.fraction_at(progress) if regular else 0.0
        sites = {
            name: Site(name, layer, self._samples_of(name), progress, self._generator, self._reduction)
            for name, layer in self._layers.items()
            if not self._tracks[name].is_stopped
        }
        targets = self._targets(sites, progress)
        going = dict.fromkeys(sites, EMPTY)
        if self._prune is not None:
            for name, site in sites.items():
                constraints = self._tracks[name].constraints
                going[name] = drop(
                    site, self._prune, self._grow, constraints, n_target=targets[name], fraction=fraction
                )
        dropped = {name: len(blocks) for name, blocks in going.items()}
        if self._followers:
            going = self._without_chains(sites, going)
        events = []
        for name, site in sites.items():
            site, cells = replace(site, gone=going[name]), EMPTY
            if self._grow is not None and (fraction > 0 or targets[name] > site.wiring.n_blocks):
                cells = come(site, self._grow, self._tracks[name].constraints, n_target=targets[name])
            events.append(self._apply(site, cells, dropped[name]))
        return events

    def _without_chains(self, sites: Mapping[str, Site], going: Mapping[str, IntArray]) -> dict[str, IntArray]:
        """Return what goes, and with it what leads nowhere then."""
        goes = {name: np.zeros(site.wiring.n_blocks, dtype=np.bool_) for name, site in sites.items()}
        for name, blocks in going.items():
            goes[name][blocks] = True
        pairs = [pair for pair in self._followers if set(pair) <= set(sites)]
        eligible = {name: self._tracks[name].constraints.eligible(site) for name, site in sites.items()}
        drop_chains({name: site.wiring for name, site in sites.items()}, pairs, goes, eligible)
        return {name: np.flatnonzero(blocks) for name, blocks in goes.items()}

    def _targets(self, sites: Mapping[str, Site], progress: float) -> dict[str, int]:
        """Return how many blocks each layer should have."""
        assert self._schedule is not None
        density, falls = self._schedule.density, self._schedule.prunes
        live = {name: site.wiring.n_blocks for name, site in sites.items()}
        if density is None:
            return {name: self._tracks[name].n_blocks for name in sites}
        if not isinstance(density, Stages) and density.scope == "global":
            return self._global_targets(sites, progress)
        targets = {}
        for name, site in sites.items():
            track, n_cells = self._tracks[name], site.wiring.grid[0] * site.wiring.grid[1]
            wanted = max(1, round(self._density(track.n_blocks / n_cells, progress) * n_cells))
            targets[name] = min(live[name], wanted) if falls else wanted
        return targets

    def _density(self, initial: float, progress: float) -> float:
        """Return the density that is wanted now, of a network or layer that started with another."""
        assert self._schedule is not None
        density = self._schedule.density
        assert density is not None
        if isinstance(density, Rounds):
            return density.after(self._events_due(self._step), initial)
        return density.at(progress, initial)

    def _global_targets(self, sites: Mapping[str, Site], progress: float) -> dict[str, int]:
        """Return how many blocks of each layer lie above the threshold on |w| that leaves all at one density."""
        possible = sum(site.layer.in_features * site.layer.out_features for site in sites.values())
        initial = sum(self._tracks[name].n_connections for name in sites) / possible
        budget = self._density(initial, progress) * possible
        sizes = np.concatenate([site.wiring.block_sizes() for site in sites.values()])
        worth = [site.magnitudes() for site in sites.values()]
        owner = np.repeat(np.arange(len(sites)), [len(scores) for scores in worth])
        order = np.argsort(-np.concatenate(worth), kind="stable")
        kept = order[np.cumsum(sizes[order]) <= budget + 0.5]
        counts = np.bincount(owner[kept], minlength=len(sites))
        return {name: max(1, int(count)) for name, count in zip(sites, counts, strict=True)}

    def _samples_of(self, name: str) -> tuple[Samples, ...]:
        return tuple(step[name] for step in self._samples if name in step)

    def _apply(self, site: Site, cells: IntArray, dropped: int) -> Event:
        """Change the layer and all that belongs to its weights; say what was done."""
        from neuropil.connect.merge import in_common  # Numba takes a while to load

        track = self._tracks[site.name]
        again, back = in_common(site.gone_cells, cells)
        change = Change.of(site.wiring, went=site.gone[~again], came=cells[~back])
        if len(change.went) or len(change.came):
            rewire_layer(site.layer, self._optimizer, change)
            if self._rewinder is not None:
                self._rewinder.carry(site.name, change)
        if self._limits.stop_overlap is not None and len(again) and again.mean() > self._limits.stop_overlap:
            track.is_stopped = True
        return track.event(self._step, change, dropped)

    # Making one

    def _check(self) -> None:
        for role, rule, able in (("prune", self._prune, "can_prune"), ("grow", self._grow, "can_grow")):
            if rule is not None and not isinstance(rule, Rule):
                raise TypeError(f"Rewirer: {role} must be a rule, such as Random(), got {rule!r}")
            if rule is not None and not getattr(rule, able):
                raise ValueError(f"Rewirer: {role} must be a rule that can {role}, got {rule!r}")
        for role, value, kind in (
            ("schedule", self._schedule, Schedule),
            ("limits", self._limits, Limits),
            ("rewind", self._rewind, Rewind),
        ):
            if value is not None and not isinstance(value, kind):
                raise TypeError(f"Rewirer: {role} must be a {kind.__name__}, got {value!r}")
        strangers = [name for name in self._limits.frozen if name not in self._layers]
        if strangers:
            raise ValueError(
                f"Limits: frozen must name layers that are rewired, got {strangers[0]!r}; they are "
                f"{', '.join(self._layers)}"
            )
        if self._reduction not in get_args(Reduction):
            raise ValueError(f"Rewirer: reduction must be mean or sum, got {self._reduction!r}")
        schedule = self._schedule
        if self._rewind is not None and (schedule is None or not isinstance(schedule.density, Rounds)):
            raise ValueError("Rewirer: rewind must go with a schedule whose density falls in Rounds, got another")
        if schedule is None:
            return
        if schedule.fraction is not None and (self._prune is None or self._grow is None):
            raise ValueError(
                "Rewirer: a schedule that replaces connections needs a prune rule and a growth rule, got "
                f"prune={self._prune!r} and grow={self._grow!r}; try Schedule(fraction=None, density=…) to prune alone"
            )
        if schedule.prunes and self._prune is None:
            raise ValueError("Rewirer: gradual pruning needs a prune rule, got None")
        if isinstance(schedule.density, Stages) and (self._prune is None or self._grow is None):
            raise ValueError("Rewirer: a density in stages needs a prune rule and a growth rule, got None for one")

    def _track(self, name: str, layer: SparseLinear, model: nn.Module) -> Track:
        weighted = (SparseLinear, nn.Linear, nn.modules.conv._ConvNd)
        last = [module for module in model.modules() if isinstance(module, weighted)][-1]
        return Track.of(name, layer, self._limits, is_last=layer is last)

    # Storing

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on: plain values and tensors under flat names."""
        state: dict[str, Any] = {
            "step": self._step,
            "n_events": self._n_events,
            "generator": self._generator.get_state(),
        }
        for name, track in self._tracks.items():
            state |= {f"layers.{name}.{key}": value for key, value in track.state_dict().items()}
        state["n_samples"] = len(self._samples)
        for i, step in enumerate(self._samples):
            for name, samples in step.items():
                for key, value in vars(samples).items():
                    if value is not None:
                        state[f"samples.{i}.{key}.{name}"] = value
        return state if self._rewinder is None else state | self._rewinder.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another rewirer, made alike for a model alike, was; load the model's own state first.

        Raises:
            ValueError: the state is that of other layers.
        """
        missing = {"step", "n_events", "n_samples", "generator"} - set(state)
        if missing:
            raise ValueError(f"Rewirer: a stored state must be that of a Rewirer, got one without {min(missing)!r}")
        for name, track in self._tracks.items():
            prefix = f"layers.{name}."
            own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            track.load_state_dict(own)
        if self._rewinder is not None:
            self._rewinder.load_state_dict(state)
        self._step, self._n_events = int(state["step"]), int(state["n_events"])
        self._generator.set_state(state["generator"].cpu())
        steps: list[dict[str, Samples]] = [{} for _ in range(int(state["n_samples"]))]
        for key, value in state.items():
            if key.startswith("samples."):
                _, i, kind, name = key.split(".", 3)
                device = self._layers[name].weight.device
                setattr(steps[int(i)].setdefault(name, Samples()), kind, value.to(device))
        self._samples.clear()
        self._samples.extend(steps)
        self._record_if_needed()
