"""Does a network that chooses channels for each image beat one whose channels are drawn, or always the same?

The smallest honest check of dynamic channel pruning (Fire Together Wire Together, arXiv 2110.08232): three convolutions
of 16, 32 and 32 channels with batch normalization and ReLU, and a linear read-out, are trained dense; then trained on
for five epochs with predicted channels at several kept masses, and, at equal mean multiply-accumulates, with channels
drawn for each image and with the channels of the largest mean peaks. All arms have their masks while they train on.

    python examples/dynamic_pruning.py digits results/dynamic-pruning-digits.csv
    python examples/dynamic_pruning.py fashion-mnist results/dynamic-pruning-fashion-mnist.csv --images 3000

Data comes from NEUROPIL_DATA. One row a seed and arm; it takes minutes on one core.
"""

import argparse
import copy
import csv
import datetime
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuropil import data
from neuropil.measure import ChannelCost, channel_cost, layer_outputs
from neuropil.randomness import derived_seed, stream
from neuropil.rewire import (
    FixedChannels,
    MaskLoss,
    RandomChannels,
    gate_channels,
    gated_layers,
    peaks,
    split_parameters,
)
from neuropil.train import fit

RATIOS = (1.0, 0.9, 0.8)
PREDICTED: dict[str, dict[str, Any]] = {
    "predicted": {},
    "predicted, straight through": {"straight_through": True},
    "predicted, no softmax": {"softmax": False},
}
DENSE_EPOCHS, EPOCHS = 15, 5
COUNTED = 2000  # images on which channels are counted; accuracy is that of the whole test set
BATCH = {"digits": 32, "fashion-mnist": 64}


def build(shape: tuple[int, int, int], n_classes: int, seed: int) -> nn.Sequential:
    """Return the network as it is before training."""
    channels, height, width = shape
    stride = 1 if height <= 16 else 2  # larger images are halved by the first convolution
    features = 32 * (-(-height // stride) // 4) * (-(-width // stride) // 4)
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "weights"))
        for i, n in enumerate((16, 32, 32)):
            layers += [nn.Conv2d(channels, n, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(n), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if i < 2 else []
            channels, stride = n, 1
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, n_classes))


def train_on(model: nn.Module, dataset: data.Dataset, seed: int) -> float:
    """Train a model on for the last epochs; return its test accuracy."""
    backbone, predictors = split_parameters(model)
    groups = [{"params": backbone, "weight_decay": 5e-4}]
    penalties = []
    if predictors:
        groups.append({"params": predictors, "lr": 0.1})
        penalties.append(MaskLoss(model))
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
    result = fit(
        model, dataset, optimizer, epochs=EPOCHS, batch_size=BATCH[dataset.name], seed=seed, penalties=penalties
    )
    if result.test_accuracy is None:
        raise RuntimeError(f"training diverged at seed {seed}")
    return result.test_accuracy


def controls(dense: nn.Module, like: ChannelCost, images: torch.Tensor, seed: int) -> Iterator[tuple[str, nn.Module]]:
    """Give networks with as many open channels as a predicted one: drawn for each image, and always the same."""
    drawn, fixed = gate_channels(dense), gate_channels(dense)
    for use in like.layers:
        layer = gated_layers(drawn)[use.name]
        layer.gate = RandomChannels(use.channels, use.open, generator=stream(seed, "channels", use.name))
    strength = layer_outputs(dense, images)
    for use, output in zip(like.layers, strength.values(), strict=True):
        best = peaks(output).mean(0).argsort(descending=True)[: math.ceil(use.open)]
        layer = gated_layers(fixed)[use.name]
        layer.gate = FixedChannels(torch.zeros(use.channels, dtype=torch.bool).index_fill(0, best, True))
    yield "drawn for each image", drawn
    yield "largest mean peaks", fixed


def arms(dense: nn.Module, dataset: data.Dataset, seed: int) -> Iterator[dict[str, Any]]:
    """Train every arm from one dense network; give what came out."""
    test, images = (dataset.normalize(split.images[:COUNTED]) for split in (dataset.test, dataset.train))
    reference = train_on(copy.deepcopy(dense), dataset, seed)
    yield {"arm": "dense", "test_accuracy": reference, "drop": 0.0, "cut": 0.0}

    def row(arm: str, ratio: float, model: nn.Module) -> dict[str, Any]:
        accuracy = train_on(model, dataset, seed)
        cost = channel_cost(model, test)
        found = {"arm": arm, "ratio": ratio, "test_accuracy": accuracy, "drop": reference - accuracy, "cut": cost.cut}
        found["open"] = " ".join(f"{layer.open:.2f}" for layer in cost.layers)
        if arm.startswith("predicted"):
            fixed = sum(layer.best_fixed * layer.channels for layer in cost.layers)
            found["cut_with_predictors"] = 1 - (cost.active + cost.predictors) / cost.dense
            found["agreement"] = cost.agreement
            found["best_fixed_agreement"] = fixed / sum(layer.channels for layer in cost.layers)
        return found

    for ratio in RATIOS:
        gated = {}
        for name, settings in PREDICTED.items():
            gated[name] = gate_channels(dense, ratio=ratio, generator=stream(seed, "predictors"), **settings)
            yield row(name, ratio, gated[name])
        like = channel_cost(gated["predicted"], images)
        for name, control in controls(dense, like, images, seed):
            yield row(name, ratio, control)


COLUMNS = (
    "data", "train_images", "seed", "arm", "ratio", "test_accuracy", "drop", "cut", "cut_with_predictors", "agreement",
    "best_fixed_agreement", "open", "torch", "date",
)  # fmt: skip


def main() -> None:
    """Run the check and write its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=sorted(BATCH))
    parser.add_argument("table", type=Path, help="CSV file to write")
    parser.add_argument("--images", type=int, help="train on the first so many images only")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    dataset = data.load(given.data)
    if given.images is not None:
        part = dataset.train
        dataset = replace(dataset, train=data.Split(part.images[: given.images], part.labels[: given.images]))
    with given.table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for seed in range(given.seeds):
            dense = build(dataset.input_shape, dataset.n_classes, seed)
            optimizer = torch.optim.SGD(dense.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
            cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, DENSE_EPOCHS)
            batch = BATCH[dataset.name]
            fit(dense, dataset, optimizer, epochs=DENSE_EPOCHS, batch_size=batch, scheduler=cosine, seed=seed)
            about = {"data": dataset.name, "train_images": len(dataset.train), "seed": seed}
            about |= {"torch": torch.__version__, "date": datetime.date.today().isoformat()}
            for found in arms(dense, dataset, seed):
                writer.writerow({**about, **found})
                file.flush()


if __name__ == "__main__":
    main()
