"""One network that several processes train together, each on its share of every batch."""

import datetime
import hashlib
import inspect
import json
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler

from neuropil.evaluation import evaluation_mode, same_draws
from neuropil.learn import Backpropagation, LearningRule
from neuropil.rewire import Event, Rewirer, TopKast
from neuropil.rewire.record import Samples
from neuropil.train.checkpoint import load_checkpoint
from neuropil.train.firing_rates import RatePenalty
from neuropil.train.penalty import Penalty

if TYPE_CHECKING:
    from neuropil.train.run import Run

logger = logging.getLogger(__name__)

# buffers are the same everywhere; the setting that says so has another name in older versions of PyTorch
_NO_SYNC: dict[str, Any] = (
    {"forward_sync_buffers": False}
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else {"broadcast_buffers": False}
)


_PATIENCE = datetime.timedelta(hours=1)  # with the lead, while it measures
# what errors say where another process has gone
_LOST = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")


class RanksError(ValueError):
    """Processes that train one network together cannot go on."""


class RankLostError(RanksError):
    """One of them has gone."""


@contextmanager
def joined(device: str = "cpu") -> Iterator["Ranks"]:
    """Join the processes that ``torchrun`` has started, while the block runs: by gloo on the CPU, by NCCL on GPUs.

    Args:
        device: ``cpu``, or ``cuda:N``, another one for each process of a machine.

    Raises:
        RankLostError: another process is lost while the block runs.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(device)
    ranks = None
    try:
        dist.init_process_group("nccl" if torch.device(device).type == "cuda" else "gloo", timeout=_PATIENCE)
        ranks = Ranks()
        yield ranks
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(word in str(error) for word in _LOST):
            raise
        raise RankLostError(
            "fit: all processes that share a run must stay to its end, one of them is lost; the same command goes on "
            "from the last checkpoint"
        ) from error
    finally:
        if ranks is not None:
            ranks.detach()
        if dist.is_initialized():
            dist.destroy_process_group()


class Ranks:
    """The processes of a ``torch.distributed`` group that train one network together, for :func:`neuropil.train.fit`.

    All of them build the same network from the same seed and go through the same batches. Of a batch of n images, rank
    r of N works on n_r: the r-th of N runs of images, whose sizes differ by 1 at most. The gradient is Σ_r (n_r / n)
    g_r, that of one process with the whole batch up to the order of sums, for the last, smaller batch of an epoch too.
    What a rewiring rule looks at is gathered from all ranks before it is looked at, so that all rewire alike; that
    they did is checked after each event. Rank 0, the lead, alone measures and writes.

    What each image's noise is, in dropout or a rate code, depends on the number of ranks.

    Attributes:
        rank: of this process, from 0 on.
        n: how many processes there are.
        share: n_r / n of the batch that is at work.

    Raises:
        ValueError: there is no group: ``torch.distributed.init_process_group`` makes one, ``torchrun`` starts the
            processes.

    Reference:
        S. Li et al., arXiv 2006.15704: backpropagation's gradients are averaged by PyTorch's DistributedDataParallel,
        while it still goes on. That follows neither the gradients that other rules set by themselves nor weights whose
        number changes: the former are averaged here, in one piece; for the latter it is made anew.
    """

    def __init__(self) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise ValueError(
                "Ranks: a process group must be there, got none; try torchrun, and torch.distributed.init_process_group"
            )
        self.rank, self.n = dist.get_rank(), dist.get_world_size()
        self.share = 1 / self.n
        self._counts = [1] * self.n
        on_gpu = dist.get_backend() == "nccl"
        self._device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
        self._rule: LearningRule | None = None
        self._shapes: list[torch.Size] = []

    @property
    def is_lead(self) -> bool:
        """Whether this process is the one that measures and writes."""
        return self.rank == 0

    # Batches

    def part(self, n: int) -> slice:
        """Return which of a batch of n images are this rank's; the first one, which does not count, where none is."""
        counts = self._count(n)
        start = sum(counts[: self.rank])
        return slice(start, start + counts[self.rank]) if counts[self.rank] else slice(0, 1)

    def begin(self, n: int) -> int:
        """Note that a batch of n images is at work; return how many of them count here."""
        self._counts = self._count(n)
        self.share = self._counts[self.rank] / n
        return self._counts[self.rank]

    def _count(self, n: int) -> list[int]:
        return [n // self.n + (rank < n % self.n) for rank in range(self.n)]

    # Learning

    def attach(
        self, rule: LearningRule, rewirer: Rewirer | TopKast | None, penalties: Iterable[Penalty], example: Tensor
    ) -> None:
        """Have a rule, rewiring and penalties learn from all ranks' images.

        Args:
            rule: what learns.
            rewirer: what rewires.
            penalties: averages over the batch, or of weights alone; firing rates are averaged before they are compared.
            example: a few images, of which it is seen which parameters get gradients.

        Raises:
            RanksError: the rule, or batch normalization, cannot be shared.
        """
        name = type(rule).__name__
        if not rule.is_average:
            raise RanksError(
                f"fit: a rule that several processes share must learn from averages over the batch alone, got {name}, "
                "which does not as it is set; try one process, or backpropagation"
            )
        norms = [module for module in rule.model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        if any(not isinstance(module, nn.SyncBatchNorm) for module in norms):
            way_out = "one process" if self._device.type == "cpu" else "nn.SyncBatchNorm.convert_sync_batchnorm"
            raise RanksError(
                "fit: batch normalization that several processes share must be SyncBatchNorm, which needs GPUs, got "
                f"another; try {way_out}"
            )
        self._rule = rule
        for penalty in penalties:
            if isinstance(penalty, RatePenalty):
                penalty.average = self._average_rates
        if isinstance(rewirer, Rewirer):
            rewirer.gather = self._gather
        if isinstance(rule, Backpropagation):
            self._unused = _gets_no_gradient(rule.model, example)
            self._wrap(rule)
        else:
            rule.average = self._average_gradients

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Train in here: PyTorch's warning is off of gradients that are laid out otherwise than their weights.

        Those of blocks one synapse wide are, at no cost.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            try:
                yield
            except BaseException:
                self.detach()  # what is still wrapped when the process ends may keep it from ending
                raise

    def detach(self) -> None:
        """Leave rule and model as they were."""
        if isinstance(self._rule, Backpropagation):
            self._rule.through = self._rule.model
        elif self._rule is not None:
            self._rule.average = None
        self._rule = None

    def _wrap(self, rule: Backpropagation) -> None:
        rule.through = rule.model  # what stood there goes first, and its hooks with it
        wrapped = DistributedDataParallel(
            rule.model,
            device_ids=[self._device] if self._device.type == "cuda" else None,
            **_NO_SYNC,
            find_unused_parameters=self._unused,
        )
        wrapped.register_comm_hook(self, _average_bucket)
        rule.through = wrapped
        self._shapes = [parameter.shape for parameter in rule.model.parameters()]

    def weigh(self, gradient: Tensor) -> None:
        """Multiply a gradient, in place, by the share of the batch that it is of."""
        if self.share:
            gradient.mul_(self.share)
        else:
            gradient.zero_()

    def _average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients over all ranks, in one piece for each type of number."""
        found = {id(p.grad): p.grad for p in parameters if p.grad is not None}  # two weights may hold the same one
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for gradient in found.values():
            by_type.setdefault(gradient.dtype, []).append(gradient)
        for gradients in by_type.values():
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            self.weigh(flat)
            dist.all_reduce(flat)
            for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))

    def _average_rates(self, rates: list[Tensor]) -> list[Tensor]:
        """Return rates over the whole batch, through which each rank's gradient goes to its own images."""
        flat = torch.cat([rate.detach().reshape(-1) for rate in rates])
        self.weigh(flat)
        dist.all_reduce(flat)
        means = torch.split(flat, [rate.numel() for rate in rates])
        return [rate + (mean.view_as(rate) - rate.detach()) for rate, mean in zip(rates, means, strict=True)]

    # Rewiring

    def _gather(self, collected: Mapping[str, Samples]) -> dict[str, Samples]:
        """Return what all ranks' images gave, rank by rank, as if of one batch."""
        found = {}
        for name, samples in collected.items():
            gradient = None if samples.gradient is None else samples.gradient * self.share
            weighed = {**vars(samples), "gradient": gradient}
            rows = {key: None if value is None else self._gather_rows(value) for key, value in weighed.items()}
            found[name] = replace(samples, **rows)
        return found

    def _gather_rows(self, rows: Tensor) -> Tensor:
        """Return the rows of all ranks; there are as many for each image of the batch."""
        here = self._counts[self.rank]
        per_image = len(rows) // max(1, here)
        padded = rows.new_zeros(max(self._counts) * per_image, rows.shape[1])
        padded[: here * per_image] = rows[: here * per_image]
        everybody = [torch.empty_like(padded) for _ in range(self.n)]
        dist.all_gather(everybody, padded)
        return torch.cat([part[: n * per_image] for part, n in zip(everybody, self._counts, strict=True)])

    def after_rewiring(self, rewirer: Rewirer | TopKast, events: list[Event]) -> None:
        """Check, after a step with events, that all ranks have the same wirings, and follow weights' new number.

        Raises:
            RanksError: they do not.
        """
        if not events:
            return
        digest = hashlib.sha256()
        for layer in rewirer.layers.values():
            digest.update(layer.wiring.cells().tobytes())
            if layer.silent is not None:
                digest.update(layer.silent.cpu().numpy().tobytes())
        own = torch.frombuffer(bytearray(digest.digest()), dtype=torch.int64).to(self._device)
        everybody = [torch.empty_like(own) for _ in range(self.n)]
        dist.all_gather(everybody, own)
        others = [rank for rank, found in enumerate(everybody) if not torch.equal(found, everybody[0])]
        if others:
            raise RanksError(
                f"fit: all processes must rewire alike, got another wiring on rank {others[0]} than on rank 0 after "
                f"step {events[0].step}; try processes on machines of one kind"
            )
        rule = self._rule
        if isinstance(rule, Backpropagation) and [p.shape for p in rule.model.parameters()] != self._shapes:
            self._wrap(rule)

    # What one rank knows

    def sum(self, values: Tensor) -> Tensor:
        """Return numbers summed over all ranks."""
        total = values.clone()
        dist.all_reduce(total)
        return total

    def tell(self, value: Any) -> Any:
        """Return what the lead says, plain values, on every rank."""
        text = json.dumps(value).encode() if self.is_lead else b""
        return json.loads(self._send(text).numpy().tobytes())

    def restore(
        self,
        run: "Run | None",
        rule: LearningRule,
        scheduler: LRScheduler | None,
        rewirer: Rewirer | TopKast | None,
    ) -> int:
        """Take up, on every rank, the checkpoint that the lead finds; return the number of epochs done.

        Args:
            run: the lead's; None there: nothing is kept.
            rule, scheduler, rewirer: what goes on.
        """
        done, stored = 0, b""
        if self.is_lead and run is not None:
            done = run.restore(rule.model, rule.optimizer, scheduler, rewirer, rule)
            stored = run.checkpoint(done).read_bytes() if done else b""
        content = self._send(stored)
        if self.is_lead or not len(content):
            return done
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "checkpoint.safetensors")
            path.write_bytes(content.numpy().tobytes())
            return load_checkpoint(
                path, model=rule.model, optimizer=rule.optimizer, scheduler=scheduler, rewirer=rewirer, rule=rule
            )

    def _send(self, content: bytes) -> Tensor:
        """Return the lead's bytes, uint8 on the CPU."""
        size = torch.tensor([len(content)], device=self._device)
        dist.broadcast(size, 0)
        own = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
        sent = own.to(self._device) if self.is_lead else own.new_empty(int(size), device=self._device)
        if int(size):
            dist.broadcast(sent, 0)
        return sent.cpu()


def _average_bucket(
    ranks: Ranks,
    bucket: dist.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[torch.Tensor]:
    """Average gradients over all ranks as soon as DistributedDataParallel has some of them together."""
    gradients = bucket.buffer()
    ranks.weigh(gradients)
    future: torch.futures.Future[list[Tensor]] = dist.all_reduce(gradients, async_op=True).get_future()
    return future.then(lambda done: done.value()[0])


def _gets_no_gradient(model: nn.Module, example: Tensor) -> bool:
    """Say whether some parameter gets no gradient: DistributedDataParallel must look for those, or wait for ever."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with same_draws(model), evaluation_mode(model), torch.enable_grad():
        gradients = torch.autograd.grad(model(example).sum(), learned, allow_unused=True)
    return any(gradient is None for gradient in gradients)
