"""The training loop."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from neuropil.data import Dataset, Split
from neuropil.evaluation import evaluation_mode
from neuropil.learn import Backpropagation, LearningRule
from neuropil.measure import layer_activity, synaptic_work
from neuropil.randomness import derived_seed, stream
from neuropil.rewire import Event, Rewirer, TopKast
from neuropil.train.distributed import Ranks
from neuropil.train.firing_rates import RatePenalty
from neuropil.train.memory import PeakMemory, keep_memory
from neuropil.train.penalty import Penalty
from neuropil.train.precision import PRECISIONS, Precision, computing_in
from neuropil.train.probes import Probe, Probing
from neuropil.train.run import Run
from neuropil.train.subnormals import flush_subnormals
from neuropil.train.tracking import Tracker, tell
from neuropil.units import Unit

logger = logging.getLogger(__name__)

Loss = Callable[[Tensor, Tensor], Tensor]

_LOSS_CHECK_STEPS = 50  # how often the loss is looked at; looking stalls a GPU
_SAMPLES_AT_ONCE = 1000
_TOO_MANY = 0.5  # share of dead or saturated units above which the user is warned
_SILENT = 0.99  # likewise, of spiking neurons that never fire on one batch, of which most are often silent

_SPIKING_WARNINGS = {
    "dead": "%.0f %% of the %d neurons of layer %r never fired on the probe batch in epoch %d: a silent layer passes "
    "nothing on; if it stays so, try a lower learning rate, or a stronger input",
    "saturated": "%.0f %% of the %d neurons of layer %r fired at nearly every time step of the probe batch in epoch "
    "%d, whatever the image; if it stays so, try a lower learning rate, or a weaker input",
}


@dataclass
class Result:
    """What came out of a run.

    Attributes:
        status: ``finished``, or ``diverged`` where the loss was no longer a finite number.
        history: one record an epoch, as in ``metrics.jsonl``.
        test_loss, test_accuracy: on the test set after the last epoch, accuracy in [0, 1]; None if it diverged.
        probes: what probes have recorded, as in ``probes.jsonl``: epoch, perhaps step, probe, value.
    """

    status: Literal["finished", "diverged"]
    history: list[dict[str, Any]] = field(default_factory=list)
    test_loss: float | None = None
    test_accuracy: float | None = None
    probes: list[dict[str, Any]] = field(default_factory=list)


def fit(
    model: nn.Module,
    dataset: Dataset,
    rule: Optimizer | LearningRule,
    *,
    epochs: int,
    batch_size: int = 256,
    loss: Loss = F.cross_entropy,
    scheduler: LRScheduler | None = None,
    precision: Precision = "float32",
    clip_norm: float | None = None,
    seed: int = 0,
    run: Run | None = None,
    rewirer: Rewirer | TopKast | None = None,
    rate_penalty: RatePenalty | None = None,
    penalties: Sequence[Penalty] = (),
    probes: Sequence[Probe] = (),
    ranks: Ranks | None = None,
    after_epoch: Callable[[Mapping[str, Any]], None] | None = None,
    trackers: Sequence[Tracker] = (),
) -> Result:
    """Train a classifier, measure it on the validation split after each epoch, and on the test set once, at the end.

    With a run folder, every epoch ends in a checkpoint, and training goes on from the last one: to the same weights,
    bit for bit, on the same processor with the same number of threads (a GPU's libraries do not promise that). The
    order of the data and the global random state that dropout uses are derived from the seed and the epoch, so nothing
    else needs to be kept.

    The process keeps what memory it has freed from then on (:func:`neuropil.train.keep_memory`), and flushes subnormal
    numbers to zero.

    Args:
        model: maps images ``[b, c, h, w]`` to logits ``[b, n_classes]``; trained on the device it is on.
        dataset: with or without a validation split.
        rule: how the model's weights change; an optimizer of its parameters stands for backpropagation.
        epochs: how often all training images are seen, at least 1.
        batch_size: images a step, at least 1.
        loss: of logits and labels, averaged over the batch; what is told of validation and test, and, with an
            optimizer, what is minimized.
        scheduler: stepped after every epoch.
        precision: ``tf32`` rounds the factors of products to 10 bits, on a GPU; ``bfloat16`` runs them under autocast;
            weights stay float32. ``bfloat16`` needs backpropagation.
        clip_norm: with an optimizer, largest norm of the whole gradient; None: not clipped. Rules have their own.
        seed: of data order and noise.
        run: where the run is kept; None: nowhere.
        rewirer: rewires the model, one step after each of the optimizer; it is told how long training is. The penalty
            of a :class:`neuropil.rewire.TopKast` is added to what is minimized, not to the loss that is told.
        rate_penalty: draws spiking neurons towards a firing rate; likewise: one of the penalties.
        penalties: what else is minimized, such as a :class:`neuropil.rewire.MaskLoss`; likewise. All of these need
            backpropagation.
        probes: measures that are recorded on the way. Training is the same, bit for bit, with and without them; the
            seconds of an epoch are told without theirs, its memory with.
        ranks: the processes that train the network together, each on its share of every batch, which stays of the size
            that it would have in one process; all of them call this. ``run`` and ``probes`` are those of the lead.
        after_epoch: called with the record of each epoch once it is kept, before the test set is used; to stop
            training, it raises an exception, which is passed on.
        trackers: where each epoch's record and the test figures go too, such as a :class:`neuropil.train.TensorBoard`.

    Returns:
        The history and the test figures, on all ranks. A loss that is not finite stops the run, with status
        ``diverged``.

    Raises:
        ValueError: a number is out of range, the precision is unknown, the optimizer lacks parameters, or the rule
            cannot do what is asked.
        RanksError: what several processes are asked to share cannot be shared, or they came to differ.

    Example:
        >>> from neuropil import data, models
        >>> digits = data.load("digits")
        >>> net = models.ensemble_net(digits.input_shape, digits.n_classes, hidden=[64, 64])
        >>> result = fit(net, digits, torch.optim.Adam(net.parameters(), lr=1e-2), epochs=5, batch_size=64)
        >>> result.test_accuracy > 0.8
        True
    """
    _check(model, rule, epochs, batch_size, precision, clip_norm)
    flush_subnormals()
    keep_memory()
    device = next(model.parameters()).device
    all_penalties = [*penalties] if rate_penalty is None else [rate_penalty, *penalties]
    if isinstance(rule, Optimizer):
        rule = Backpropagation(model, optimizer=partial(_given, rule), loss=loss, clip_norm=clip_norm)
    _prepare(rule, device, precision, all_penalties, rewirer)
    optimizer = rule.optimizer
    _load_kernels(model, dataset, device)
    peak = PeakMemory(device)
    model_bytes = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    steps_per_epoch = -(-len(dataset.train) // batch_size)
    if rewirer is not None:
        rewirer.set_length(epochs=epochs, steps_per_epoch=steps_per_epoch)
    rule.set_length(epochs=epochs, steps_per_epoch=steps_per_epoch)
    leads = ranks is None or ranks.is_lead
    if not leads:
        run, probes, trackers = None, (), ()
    if ranks is not None:
        done = ranks.restore(run, rule, scheduler, rewirer)
        ranks.attach(rule, rewirer, all_penalties, dataset.normalize(dataset.train.images[:2]).to(device))
    else:
        done = run.restore(model, optimizer, scheduler, rewirer, rule) if run else 0
    result = Result("finished", run.metrics() if run else [], probes=run.probes() if run else [])
    tell(trackers, result.history)
    n_samples = _samples_at_once(model, batch_size)
    probing = Probing(probes, model, dataset, seed, steps_per_epoch)
    if done == 0 and not result.probes:
        probing.after_epoch(0)

    warned: set[str] = set()
    for epoch in range(done + 1, epochs + 1):
        started, probed = time.perf_counter(), probing.seconds
        noise = epoch if ranks is None or leads else f"{epoch}, rank {ranks.rank}"
        with ExitStack() as due, _seeded(device, seed, noise), computing_in(precision):
            if ranks is not None:
                due.enter_context(ranks.at_work())
            for penalty in all_penalties:
                due.enter_context(penalty.due(epoch, epochs))
            events: list[Event] = []
            trained = _train_epoch(
                rule, dataset, batch_size, device, stream(seed, "order", epoch), rewirer, events,
                partial(probing.after_step, epoch), ranks,
            )  # fmt: skip
        seconds = time.perf_counter() - started - (probing.seconds - probed)
        if trained is None:
            logger.warning("the loss is no longer a finite number in epoch %d: stopped", epoch)
            result.status = "diverged"
            _keep_probes(probing, result, run)
            break
        if not leads:
            if scheduler is not None:
                scheduler.step()
            continue
        record: dict[str, Any] = {"epoch": epoch, "train_loss": trained[0], "train_accuracy": trained[1]}
        if dataset.validation is not None:
            with _seeded(device, seed, "validation"):
                scores = evaluate(
                    rule.predictor, dataset, dataset.validation, loss=loss, precision=precision, batch_size=n_samples
                )
            record["validation_loss"], record["validation_accuracy"] = scores
        record["learning_rate"] = optimizer.param_groups[0]["lr"]
        record["seconds"] = seconds
        record["peak_memory_bytes"] = peak.bytes() + model_bytes
        with _seeded(device, seed, "activity"):
            record.update(_activity(model, dataset, device, n_samples, epoch, warned))
        if scheduler is not None:
            scheduler.step()
        result.history.append(record)
        probing.after_epoch(epoch)
        _keep_probes(probing, result, run)
        if run is not None:
            run.append(record)
            run.append_events(epoch, events)
            run.save(epoch, model, optimizer, scheduler, rewirer, rule)
        if after_epoch is not None:
            after_epoch(record)
        tell(trackers, [record])
    if result.status == "finished" and leads:
        test_loss, test_accuracy = evaluate_test(
            rule.predictor, dataset, loss=loss, precision=precision, seed=seed, batch_size=batch_size
        )
        if math.isfinite(test_loss):
            result.test_loss, result.test_accuracy = test_loss, test_accuracy
        else:
            result.status = "diverged"
    for tracker in trackers:
        tracker.finish({key: getattr(result, key) for key in ("status", "test_loss", "test_accuracy")})
    if ranks is None:
        return result
    ranks.detach()
    return Result(**ranks.tell(asdict(result)))


@contextmanager
def _seeded(device: torch.device, seed: int, purpose: str | int) -> Iterator[None]:
    """Seed PyTorch's global state, from which dropout, rate codes and the like draw, and put it back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derived_seed(seed, "noise", purpose))
        yield


def evaluate_test(
    model: nn.Module,
    dataset: Dataset,
    *,
    loss: Loss = F.cross_entropy,
    precision: Precision = "float32",
    seed: int = 0,
    batch_size: int = 256,
) -> tuple[float, float]:
    """Return mean loss and accuracy on the test set as :func:`fit` of the same arguments tells them.

    A model that draws, such as one with a rate code, draws the same each time: a network can be measured once more
    after something was done to it.
    """
    n_samples = _samples_at_once(model, batch_size)
    with _seeded(next(model.parameters()).device, seed, "test"):
        return evaluate(model, dataset, dataset.test, loss=loss, precision=precision, batch_size=n_samples)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    dataset: Dataset,
    split: Split,
    *,
    loss: Loss = F.cross_entropy,
    precision: Precision = "float32",
    batch_size: int = 1000,
) -> tuple[float, float]:
    """Return mean loss and accuracy, in [0, 1], of a model in evaluation mode on one split of a dataset.

    A model that draws, such as one with a rate code, does so from PyTorch's global state.
    """
    device = next(model.parameters()).device
    total = correct = 0.0
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with evaluation_mode(model), computing_in(precision), autocast:
        for images, labels in dataset.batches(split, batch_size):
            images, labels = images.to(device), labels.to(device)
            logits = model(images).float()
            total += float(loss(logits, labels)) * len(labels)
            correct += float((logits.argmax(1) == labels).sum())
    return total / len(split), correct / len(split)


def _train_epoch(
    rule: LearningRule,
    dataset: Dataset,
    batch_size: int,
    device: torch.device,
    order: torch.Generator,
    rewirer: Rewirer | TopKast | None,
    events: list[Event],
    after_step: Callable[[int], None],
    ranks: Ranks | None,
) -> tuple[float, float] | None:
    """Train on every image once; return mean loss and accuracy on the way, or None if the loss diverged.

    What rewiring did is added to ``events``; ``after_step`` is called with the number of each step, from 1 on. All
    ranks return the same.
    """
    rule.train()
    total = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros((), dtype=torch.float64, device=device)
    n_images = len(dataset.train)
    shared: dict[str, Any] = {} if ranks is None else {"part": ranks.part}
    batches = dataset.batches(dataset.train, batch_size, generator=order, **shared)
    for step, (images, labels) in enumerate(batches, start=1):
        n = len(labels) if ranks is None else ranks.begin(min(batch_size, n_images - (step - 1) * batch_size))
        found = rule.step(images.to(device), labels.to(device))
        if rewirer is not None:
            new = rewirer.step()
            if ranks is not None:
                ranks.after_rewiring(rewirer, new)
            events += new
        after_step(step)
        if n:
            total += found["loss"] * n
            correct += (found["accuracy"] * n).round()
        if step % _LOSS_CHECK_STEPS == 0 and not math.isfinite(_summed(total, ranks)):
            return None
    mean = _summed(total, ranks) / n_images
    return (mean, int(_summed(correct, ranks)) / n_images) if math.isfinite(mean) else None


def _summed(total: Tensor, ranks: Ranks | None) -> float:
    return float(total if ranks is None else ranks.sum(total))


def _given(optimizer: Optimizer, parameters: Any) -> Optimizer:
    """Return an optimizer that is there already, where one is to be made."""
    return optimizer


def _prepare(
    rule: LearningRule,
    device: torch.device,
    precision: Precision,
    penalties: Sequence[Penalty],
    rewirer: Rewirer | TopKast | None,
) -> None:
    """Tell backpropagation what else is minimized and how products are computed; refuse that of other rules."""
    adds: list[Callable[[], Tensor | float]] = [
        *([rewirer.penalty] if isinstance(rewirer, TopKast) else []),
        *penalties,
    ]
    if isinstance(rule, Backpropagation):
        if precision == "bfloat16":
            rule.autocast = torch.autocast(device.type, torch.bfloat16)
        rule.penalties += adds
        return
    who = type(rule).__name__
    if adds:
        raise ValueError(f"fit: penalties, and Top-KAST, need backpropagation, got {who}")
    if precision == "bfloat16":
        raise ValueError(f"fit: precision bfloat16 needs backpropagation, got {who}; try float32")


def _keep_probes(probing: Probing, result: Result, run: Run | None) -> None:
    taken = probing.taken()
    result.probes += taken
    if run is not None:
        run.append_probes(taken)


def _activity(
    model: nn.Module, dataset: Dataset, device: torch.device, n_samples: int, epoch: int, warned: set[str]
) -> dict[str, Any]:
    """Return the shares of dead and saturated units by layer; warn once where they are most of a layer.

    Of spiking layers also the firing rates, with a warning once where a whole layer is silent; and what passes the
    synapses for one sample.
    """
    images = dataset.normalize(dataset.train.images[:n_samples]).to(device)
    layers = layer_activity(model, images)
    for layer in layers:
        for state, share in (("dead", layer.dead), ("saturated", layer.saturated)):
            spiking = layer.firing_rate is not None
            limit = _SILENT if spiking and state == "dead" else _TOO_MANY
            if share <= limit or f"{layer.name} {state}" in warned:
                continue
            warned.add(f"{layer.name} {state}")
            if spiking:
                logger.warning(_SPIKING_WARNINGS[state], 100 * share, layer.n_units, layer.name, epoch)
            else:
                logger.warning(
                    "%.0f %% of the %d units of layer %r are %s: they no longer learn; try a lower learning rate",
                    100 * share, layer.n_units, layer.name, state,
                )  # fmt: skip
    rates = {layer.name: layer.firing_rate for layer in layers if layer.firing_rate is not None}
    work = synaptic_work(model, images)
    return {
        "dead": {layer.name: layer.dead for layer in layers},
        "saturated": {layer.name: layer.saturated for layer in layers},
        **({"firing_rates": rates} if rates else {}),
        "synaptic_operations": work.synaptic_operations,
        "synaptic_multiply_accumulates": work.multiply_accumulates,
        "energy_joules": work.energy_joules,
    }


def _load_kernels(model: nn.Module, dataset: Dataset, device: torch.device) -> None:
    """Have compiled loops loaded: their memory and time are no part of training, and not every network's first epoch.

    Spiking networks have them. A pass to and fro of two images does it, without a trace in the model.
    """
    if not _spikes(model):
        return
    images = dataset.normalize(dataset.train.images[:2]).to(device)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with _seeded(device, 0, "trial"), evaluation_mode(model):
        torch.autograd.grad(model(images).sum(), learned, allow_unused=True)


def _spikes(model: nn.Module) -> bool:
    return any(isinstance(module, Unit) for module in model.modules())


def _samples_at_once(model: nn.Module, batch_size: int) -> int:
    """Return how many samples are measured at once: of spiking networks, which hold all time steps, a batch."""
    return batch_size if _spikes(model) else _SAMPLES_AT_ONCE


def _check(
    model: nn.Module,
    rule: Optimizer | LearningRule,
    epochs: int,
    batch_size: int,
    precision: str,
    clip_norm: float | None,
) -> None:
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"fit: {name} must be at least 1, got {value}")
    if precision not in PRECISIONS:
        raise ValueError(f"fit: precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    device = next(model.parameters()).device.type
    if precision == "tf32" and device != "cuda":
        raise ValueError(f"fit: precision tf32 needs a model on a GPU, got one on {device}; try float32")
    if clip_norm is not None and clip_norm <= 0:
        raise ValueError(f"fit: clip_norm must be above 0, or None, got {clip_norm:g}")
    if isinstance(rule, LearningRule):
        if rule.model is not model:
            raise ValueError("fit: the rule must be attached to the model, got one of another model")
        if clip_norm is not None:
            raise ValueError(f"fit: clip_norm must be given to the rule itself, got {clip_norm:g} beside one")
        return
    held = {id(parameter) for group in rule.param_groups for parameter in group["params"]}
    if not any(id(parameter) in held for parameter in model.parameters()):
        raise ValueError("fit: the optimizer must hold parameters of the model, got one that holds none of them")
