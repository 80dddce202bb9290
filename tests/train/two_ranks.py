"""What is trained by one process, or by two together: ``python two_ranks.py FOLDER`` starts the two."""

import contextlib
import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from neuropil import data, learn, models, rewire
from neuropil.connect import Ensembles, ErdosRenyi, SparseLinear
from neuropil.randomness import stream
from neuropil.train import Ranks, RatePenalty, RateSchedule, Run, fit
from neuropil.units import LIF, LeakyIntegrator
from neuropil.units.encode import CurrentEncoder

PATTERNS = {
    "dense": None,
    "synapses": ErdosRenyi(0.3),
    "blocks": Ensembles(n_groups=4, p_inter=0.3, block=("group", 1)),
}
REWIRINGS = {
    "set": lambda: rewire.set_(every=5),
    "rigl": lambda: rewire.rigl(every=7),
    "hebbian": lambda: rewire.hebbian(every=7, window=2),
    "gmp": lambda: rewire.gmp(density=0.1, every=3),
    "top-kast": lambda: rewire.top_kast(density=0.05, backward_density=0.1, every=4),
}
# what is trained: pattern, rewiring, rule; None: none, and backpropagation
CASES = {
    "dense": ("dense", None, None),
    "synapses": ("synapses", None, None),
    "synapses set": ("synapses", "set", None),
    "synapses rigl": ("synapses", "rigl", None),
    "blocks rigl": ("blocks", "rigl", None),
    "blocks hebbian": ("blocks", "hebbian", None),
    "blocks gmp": ("blocks", "gmp", None),  # weights become fewer
    "synapses top-kast": ("synapses", "top-kast", None),
    "counter-current": ("synapses", "set", learn.CounterCurrent),
    "kolen-pollack": ("blocks", None, learn.KolenPollack),
    "pepita": ("dense", None, learn.Pepita),
}
N_IMAGES, BATCH_SIZE = 235, 39  # the last batch has one image: none for the second rank


def few_digits():
    digits = data.load("digits")
    n = N_IMAGES + 45
    part = data.Split(digits.train.images[:n], digits.train.labels[:n])
    small = data.Dataset("digits", part, part, digits.classes, 16, digits.mean, digits.std)
    return data.with_validation(small, 45 / n, stream(0, "validation"))


def train(case, dataset, *, ranks=None, run=None, epochs=3, strange=False):
    """Return what was told of a case, its wirings and its weights."""
    pattern, rewiring, rule = CASES[case]
    patterns = {} if PATTERNS[pattern] is None else {"pattern": PATTERNS[pattern]}
    net = models.ensemble_net(dataset.input_shape, 10, hidden=[32, 32], seed=0, **patterns)
    learner = torch.optim.Adam(net.parameters(), lr=3e-3) if rule is None else rule(net, clip_norm=1.0)
    optimizer = learner if rule is None else learner.optimizer
    generator = stream(int(strange), "rewiring")
    rewirer = None if rewiring is None else REWIRINGS[rewiring]().attach(net, optimizer, generator=generator)
    result = fit(
        net, dataset, learner, epochs=epochs, batch_size=BATCH_SIZE, rewirer=rewirer, ranks=ranks, run=run,
        clip_norm=0.5 if rule is None else None,
    )  # fmt: skip
    return summary(net, result) | {"events": 0 if rewirer is None else rewirer.summary()["events"]}


def train_spiking(dataset, *, ranks=None):
    wiring = ErdosRenyi(0.5).wire(64, 32, generator=stream(0, "wiring"))
    layer = SparseLinear(wiring, generator=stream(0, "weights"))
    readout = nn.utils.skip_init(nn.Linear, 32, 10)
    nn.init.normal_(readout.weight, std=0.2, generator=stream(0, "weights", 1))
    nn.init.zeros_(readout.bias)
    unused = nn.Linear(1, 1)  # gets no gradient, which the ranks must know
    nn.init.zeros_(unused.weight)
    nn.init.zeros_(unused.bias)
    neurons, answer = LIF(), LeakyIntegrator()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([CurrentEncoder(6), layer, neurons, readout, answer, unused])

        def forward(self, x):
            spikes, _ = neurons(layer(self.parts[0](x.flatten(1))))
            return answer(readout(spikes))[0].mean(0)

    net = Net()
    penalty = RatePenalty(net, RateSchedule(warm_up=0, weight=(0.1, 0.1)), units=[neurons])
    optimizer = torch.optim.Adam([*layer.parameters(), *readout.parameters()], lr=1e-2)
    result = fit(
        net, dataset.in_unit_range(), optimizer, epochs=2, batch_size=BATCH_SIZE, rate_penalty=penalty, ranks=ranks
    )
    return summary(net, result)


def summary(net, result):
    return {
        "losses": [[record[key] for key in ("train_loss", "train_accuracy", "validation_loss")]
                   for record in result.history] + [[result.test_loss, result.test_accuracy]],
        "wirings": [layer.wiring.cells().tolist() for layer in net.modules() if isinstance(layer, SparseLinear)],
        "weights": [parameter.double().sum().item() for parameter in net.parameters()],
    }  # fmt: skip


def refusal(build, ranks, dataset):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), *build, nn.ReLU(), nn.Linear(16, 10))
    learner = torch.optim.SGD(net.parameters(), lr=0.1) if build else learn.Oja(net)
    try:
        fit(net, dataset, learner, epochs=1, ranks=ranks)
    except ValueError as error:
        return str(error)


def two(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    ranks, digits = Ranks(), few_digits()
    told = {case: train(case, digits, ranks=ranks) for case in CASES}
    told["spiking"] = train_spiking(digits, ranks=ranks)
    lead = ranks.is_lead
    # of four epochs, one process has done the first two, or will do the last two
    told["after one"] = train(
        "synapses set", digits, ranks=ranks, run=Run(folder / "one", {}) if lead else None, epochs=4
    )
    told["before one"] = train(
        "synapses set", digits, ranks=ranks, run=Run(folder / "two", {}) if lead else None, epochs=2
    )
    told["oja"] = refusal([], ranks, digits)
    told["normalized"] = refusal([nn.BatchNorm1d(16)], ranks, digits)
    try:
        train("synapses set", digits, ranks=ranks, strange=rank == 1)
    except ValueError as error:
        told["strange"] = str(error)
    with contextlib.suppress(FileExistsError):
        (folder / f"told-{rank}.json").write_text(json.dumps(told))
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    child = os.fork()
    two(0 if child else 1, Path(sys.argv[1]))
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
