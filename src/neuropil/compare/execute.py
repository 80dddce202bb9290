"""One run from its recipe: data, network, optimizer, training, summary."""

import logging
import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from neuropil import data
from neuropil.compare.activity import summarize_epoch
from neuropil.compare.arms import spiking_arguments
from neuropil.compare.probes import build_probes
from neuropil.compare.registry import read_patterns, read_rewiring
from neuropil.compare.rules import build_rule, make_optimizer
from neuropil.compare.splits import split_data
from neuropil.connect import SparseLinear
from neuropil.initialize import middle_exponents, start_, weight_layers
from neuropil.learn import Backpropagation, LearningRule
from neuropil.measure import intra_only, memory_traffic, network_cost
from neuropil.models import START_NAMES, EnsembleNet, SpikingEnsembleNet, ensemble_net, spiking_ensemble_net
from neuropil.randomness import stream
from neuropil.rewire import Rewiring, TopKastRewiring
from neuropil.train import Ranks, RatePenalty, RateSchedule, Run, cosine_in_rounds, evaluate_test, fit

_START_SAMPLES = 256  # images that a start may measure on


def execute(
    recipe: Mapping[str, Any],
    folder: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    dataset: data.Dataset | None = None,
    keep_checkpoint: bool = False,
    device: str = "cpu",
    patience: float = 0,
    ranks: Ranks | None = None,
    after_epoch: Callable[[Mapping[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Do one run, or the rest of it, in this process; return its summary.

    Args:
        recipe: what :func:`neuropil.compare.arms.run_recipe` gives.
        folder: the run folder; a run that is done is not repeated.
        data_root: where data is looked for, see :func:`neuropil.data.load`.
        dataset: the data as :func:`neuropil.compare.splits.split_data` divides it for this run; None: it is loaded.
        keep_checkpoint: keep the trained weights.
        device: where to compute, as PyTorch names it.
        patience: seconds to wait where another process is at work on the folder.
        ranks: the processes that share the run; all of them call this, each with a folder of its own.
        after_epoch: as for :func:`neuropil.train.fit`; what it raises leaves a run that can be gone on with.

    Raises:
        ValueError: the folder belongs to another recipe, or the data is missing or damaged.
    """
    run = Run(folder, recipe, device=device)
    if run.summary is not None:
        return run.summary
    with run.held(patience), _log_to(run.folder / "log.txt") as warnings:
        if dataset is None:
            dataset = split_data(data.load(recipe["data"]["name"], data_root, download=False), recipe["data"])
        if "spiking" in recipe:
            dataset = dataset.in_unit_range()
        # drawn on the CPU and moved: the same wirings and weights everywhere
        net = build_network(recipe, dataset.input_shape, dataset.n_classes)
        start_network(net, recipe, dataset)
        if ranks is not None and torch.device(device).type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]  # those inside, in place
        net, dataset = net.to(device), dataset.to(device)
        training = recipe["training"]
        rule = attach_rule(net, recipe)
        rewiring = read_rewiring(recipe["rewiring"]) if "rewiring" in recipe else None
        rewirer = None
        if rewiring is not None:
            rewirer = rewiring.attach(net, rule.optimizer, generator=stream(recipe["seed"], "rewiring"))
        result = fit(
            net,
            dataset,
            rule,
            epochs=training["epochs"],
            batch_size=training["batch_size"],
            scheduler=_scheduler(rule.optimizer, training, rewiring, len(dataset.train)),
            precision=training["precision"],
            seed=recipe["seed"],
            run=run,
            rewirer=rewirer,
            rate_penalty=_rate_penalty(net, recipe.get("spiking", {})),
            # here the network is always as training begins with it: fit takes up what was done before
            probes=build_probes(recipe, net, dataset),
            ranks=ranks,
            after_epoch=after_epoch,
        )
        summary = {
            "status": result.status,
            "test_accuracy": result.test_accuracy,
            "test_loss": result.test_loss,
            "epochs": len(result.history),
            **describe_network(net, dataset.input_shape),
            "seconds_per_epoch": _median(result.history, "seconds"),
            "peak_memory_bytes": max((record["peak_memory_bytes"] for record in result.history), default=None),
            "warnings": warnings,
            **({} if ranks is None else {"processes": ranks.n}),
        }
        if result.history:
            summary |= summarize_epoch(result.history[-1], recipe["model"]["hidden"])
        if rewirer is not None:
            summary["rewiring"] = rewirer.summary()
        if recipe.get("intra_only") and result.test_accuracy is not None:
            accuracy = _intra_only_accuracy(net, dataset, recipe)
            summary |= {"intra_only_accuracy": accuracy, "intra_only_drop": result.test_accuracy - accuracy}
        run.finish(summary, keep_checkpoint=keep_checkpoint)
    return summary


def _intra_only_accuracy(net: nn.Module, dataset: data.Dataset, recipe: Mapping[str, Any]) -> float:
    """Return the accuracy that :func:`neuropil.train.fit` told last, with every connection between groups cut."""
    training = recipe["training"]
    with intra_only(net):
        return evaluate_test(
            net, dataset, precision=training["precision"], seed=recipe["seed"], batch_size=training["batch_size"]
        )[1]


def build_network(
    recipe: Mapping[str, Any], input_shape: tuple[int, int, int], n_classes: int
) -> EnsembleNet | SpikingEnsembleNet:
    """Build the network of a run's recipe as it is before training, but for what :func:`start_network` does."""
    model = recipe["model"]
    arguments = {
        "hidden": model["hidden"],
        "pattern": read_patterns({"layers": model["layers"]}, len(model["hidden"])),
        "readout": read_patterns({"layers": [model.get("readout", {"pattern": "dense"})]}, 1)[0],
        "patches": model["patches"],
        "patch_channels": model["patch_channels"],
        "seed": recipe["seed"],
    }
    if "spiking" in recipe:
        return spiking_ensemble_net(input_shape, n_classes, **arguments, **spiking_arguments(recipe["spiking"]))
    options = {key: model[key] for key in ("convolutions", "batch_norm", "activation", "bias") if key in model}
    start = model.get("start", "default")
    return ensemble_net(
        input_shape, n_classes, **arguments, **options, start=start if start in START_NAMES else "default"
    )


def start_network(net: nn.Module, recipe: Mapping[str, Any], dataset: data.Dataset) -> None:
    """Start a network by the scheme of its run's recipe, where that names one that needs more than layers' sizes.

    Args:
        net: of :func:`build_network`, changed in place.
        recipe: of the run.
        dataset: its first training images are what schemes measure on.
    """
    start = recipe["model"].get("start", "default")
    if start in START_NAMES:
        return
    settings = {key: value for key, value in start.items() if key != "scheme"}
    sample = dataset.normalize(dataset.train.images[:_START_SAMPLES])
    start_(net, start["scheme"], sample=sample, generator=stream(recipe["seed"], "weights", "start"), **settings)


def describe_network(net: EnsembleNet | SpikingEnsembleNet, input_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Return size and density of a network, the density that of its hidden layers and a sparse read-out together.

    Without hidden layers it is 1: convolutions are dense. Memory traffic is that of one sample alone.
    """
    sample = torch.zeros(1, *input_shape, device=next(net.parameters()).device)
    cost = network_cost(net, sample)
    hidden = [layer for layer in net.hidden if isinstance(layer, nn.Linear | SparseLinear)]
    wired = [*hidden, net.readout] if isinstance(net.readout, SparseLinear) else hidden
    sparse = net.sparse_layers()
    live = sum(layer.n_transmitting if isinstance(layer, SparseLinear) else layer.weight.numel() for layer in wired)
    possible = sum(layer.in_features * layer.out_features for layer in wired)
    return {
        "parameters": cost.parameters,
        "density": live / possible if possible else 1.0,
        "multiply_accumulates": cost.multiply_accumulates,
        "memory_traffic_bytes": memory_traffic(net, sample).bytes_per_sample,
        "kernels": [layer.kernel if isinstance(layer, SparseLinear) else "dense" for layer in hidden],
        "neurons_without_input": sum(int((layer.wiring.fan_in() == 0).sum()) for layer in sparse),
        "neurons_without_output": sum(int((layer.wiring.fan_out() == 0).sum()) for layer in sparse),
        "negative_weights": _share_below_zero(sparse),
    }


def _share_below_zero(layers: list[SparseLinear]) -> float | None:
    """Return the share of live weights that are negative: how much inhibition there is; None without sparse layers."""
    negative = sum(int((layer.weight.detach() < 0).sum()) for layer in layers)
    return negative / sum(layer.wiring.n_connections for layer in layers) if layers else None


def _rate_penalty(net: nn.Module, spiking: Mapping[str, Any]) -> RatePenalty | None:
    return RatePenalty(net, RateSchedule(warm_up=spiking["rate_warm_up"])) if spiking.get("rate_penalty") else None


def attach_rule(net: nn.Module, recipe: Mapping[str, Any]) -> LearningRule:
    """Return the rule by which the network of a run's recipe learns; backpropagation may have rates by layer."""
    training = recipe["training"]
    if (profile := training.get("rate_profile", 1.0)) == 1:
        return build_rule(training, net, stream(recipe["seed"], "rule"))
    groups = _rated(net, training["learning_rate"], profile)
    return Backpropagation(
        net, optimizer=lambda _: make_optimizer(groups, training), clip_norm=training["clip_norm"]
    )  # fmt: skip


def _rated(net: nn.Module, learning_rate: float, profile: float) -> list[Any]:
    """Return groups of parameters with a learning rate for each layer.

    Normalizations have the rate of the recipe; weight layers count from the middle, in the order of registration.
    """
    layers = weight_layers(net)
    groups: list[dict[str, Any]] = [
        {"params": list(layer.parameters()), "lr": learning_rate * profile**-exponent}
        for (_, layer), exponent in zip(layers, middle_exponents(len(layers)), strict=True)
    ]
    rated = {id(parameter) for group in groups for parameter in group["params"]}
    others = [parameter for parameter in net.parameters() if id(parameter) not in rated]
    return [*groups, *([{"params": others}] if others else [])]


def _scheduler(
    optimizer: torch.optim.Optimizer,
    training: Mapping[str, Any],
    rewiring: Rewiring | TopKastRewiring | None,
    n_images: int,
) -> LRScheduler | None:
    """Return the schedule of the learning rate, which starts anew where a network is set back to earlier weights."""
    if training["schedule"] != "cosine":
        return None
    epochs = training["epochs"]
    if isinstance(rewiring, Rewiring) and rewiring.rewind is not None:
        steps = -(-n_images // training["batch_size"])
        return cosine_in_rounds(optimizer, epochs, rewiring.rewinds_at(epochs=epochs, steps_per_epoch=steps))
    return CosineAnnealingLR(optimizer, epochs)


def _median(history: list[dict[str, Any]], key: str) -> float | None:
    return statistics.median(record[key] for record in history) if history else None


@contextmanager
def _log_to(path: Path) -> Iterator[list[str]]:
    """Keep the library's log in a file while the block runs; give the list of warnings."""
    warnings: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warnings.append(record.getMessage())

    file = logging.FileHandler(path, encoding="utf-8", delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handlers = [file, Collect(logging.WARNING)]
    logger = logging.getLogger("neuropil")
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield warnings
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
