"""Rules of learning: a step of each, against one of backpropagation and against the arithmetic that it does."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from neuropil.bench.footprint import TensorBytes
from neuropil.bench.records import Row
from neuropil.bench.settings import Settings, block_of
from neuropil.bench.timing import clock_of, measure, summary
from neuropil.compare.rules import RULES, build_rule
from neuropil.connect import Dense, Ensembles
from neuropil.learn import LearningRule
from neuropil.models import ensemble_net
from neuropil.randomness import stream

REFERENCE = "backpropagation"
NETWORKS = ("dense", "groupx1")
ACTIVATION = "hard-sigmoid"  # all rules can train it
N_HIDDEN = 5
_SHAPE, _CLASSES = (1, 28, 28), 10
_LEARNING = {"optimizer": "sgd", "learning_rate": 1e-3, "momentum": 0.9, "weight_decay": 1e-4, "clip_norm": None}


class Contestant(NamedTuple):
    """One rule on one network.

    Attributes:
        rule: its name.
        network: ``dense``, or the block of its ensembles.
        hidden: width of each of five hidden layers.
        batch: images a step.
        device: where.
    """

    rule: str
    network: str
    hidden: int
    batch: int
    device: str


def run(settings: Settings) -> Iterator[list[Row]]:
    """Give the rows of all rules, network by network."""
    sizes = settings.sizes or ((64,) if settings.quick else (1024,))
    batches = settings.batches or ((32,) if settings.quick else (256,))
    for network, size, batch in product(NETWORKS, sizes, batches):
        yield run_one(network, size, batch, settings)


def run_one(network: str, hidden: int, batch: int, settings: Settings) -> list[Row]:
    """Return the rows of all rules on one network, which have taken turns."""
    rounds = settings.rounds or (3 if settings.quick else 11)
    contestants = {name: Contestant(name, network, hidden, batch, settings.device) for name in RULES}
    timings = measure(
        {name: partial(training_step, one) for name, one in contestants.items()},
        rounds=rounds,
        clock=clock_of(settings.device),
        shortest=settings.shortest,
    )
    rows: list[Row] = []
    operations = {name: flops(one) for name, one in contestants.items() if name in timings.seconds}
    for name, one in contestants.items():
        row: Row = {"rule": name, "network": network, "hidden": hidden, "batch": batch}
        row |= summary(timings, name, {"backpropagation": REFERENCE}, rounds=rounds)
        row |= {"of_backpropagation": None, "flops_of_backpropagation": None, "peak_bytes": None, "passing_bytes": None}
        if name in timings.seconds:
            row["of_backpropagation"] = round(1 / float(str(row["over_backpropagation"])), 3)
            mine, base = operations[name], operations.get(REFERENCE)
            if mine and base:
                row["flops_of_backpropagation"] = round(mine / base, 3)
            row["peak_bytes"], row["passing_bytes"] = peaks_of(one)
        rows.append(row)
    return rows


def attached(one: Contestant) -> LearningRule:
    """Return the rule on its network, told that training is long."""
    pattern = Dense() if one.network == "dense" else Ensembles(p_inter=0.15, block=block_of(one.network))
    net = ensemble_net(_SHAPE, _CLASSES, hidden=[one.hidden] * N_HIDDEN, pattern=pattern, activation=ACTIVATION)
    rule = build_rule({**_LEARNING, "rule": one.rule}, net.to(one.device), stream(0, "rule"))
    rule.set_length(epochs=100, steps_per_epoch=1000)
    rule.train()
    return rule


def training_step(one: Contestant) -> Callable[[], float]:
    """Return a function that does one step and gives the loss."""
    rule = attached(one)
    images = torch.randn(one.batch, *_SHAPE, generator=stream(0, "images")).to(one.device)
    labels = torch.randint(_CLASSES, (one.batch,), generator=stream(0, "labels")).to(one.device)
    return lambda: float(rule.step(images, labels)["loss"])


def flops(one: Contestant) -> int | None:
    """Return the operations of a step that PyTorch counts, products and convolutions; None of sparse networks.

    A sparse layer's products are not all PyTorch's own.
    """
    if one.network != "dense":
        return None
    step = training_step(one)
    step()  # what is made at the first step is not part of it
    with _Counting() as counting:
        step()
    flops: int = counting.flops
    return flops


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations as PyTorch's own counter does, which cannot watch gradients that are asked for one by one."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.flops += int(count(*args, **(kwargs or {}), out_val=result))
        return result


def peaks_of(one: Contestant) -> tuple[int, int]:
    """Return the most bytes of tensors that a step makes: with gradients; and of what passes, activities above all."""
    step = training_step(one)
    step()  # states of the optimizer are made at the first step
    made = TensorBytes()
    with made:
        step()
    return made.peak(), made.passing_peak()  # while the network, which has the gradients, is there
