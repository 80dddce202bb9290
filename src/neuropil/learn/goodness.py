"""A network whose input holds a label, and how strongly its layers answer: what Forward-Forward trains."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neuropil.connect import SparseLinear
from neuropil.learn.settings import check_choice
from neuropil.learn.stages import Stage, hidden_and_readout, n_outputs

Normalization = Literal["rms", "l2"]
Predict = Literal["softmax", "goodness"]


def goodness(activity: Tensor) -> Tensor:
    """Return the goodness of each image, ``[b]``: the sum of squares of a layer's activity ``[b, n]``."""
    return activity.square().sum(1)


class LabelledNetwork(nn.Module):
    """Map inputs to logits by a network that reads a label in place of its first pixels.

    Each layer reads what the one before gave, divided by its root mean square (``rms``) or its norm (``l2``), so that
    nothing of its goodness is passed on. All hidden layers but the first are read out, or the only one.

    Args:
        model: an ``nn.Sequential``, or a network of ensembles, whose layers are all linear.
        normalization: ``rms`` or ``l2``.
        straight_through: whether a ReLU passes gradients on where it is silent.
        predict: ``softmax``: one pass with a neutral label, 1/n_classes for each class, and a linear read-out, of which
            the model's own reads the last hidden layer; ``goodness``: one pass for each label, whose goodness is its
            logit.
        label_scale: what stands for the 1 of a label in the input; the 1 of the publication is 3 times the root mean
            square of the pixels that it is written over, which is 1 where inputs are standardized.
        who: whom an error names.

    Attributes:
        hidden, readout: stages of the model.
        n_classes: number of classes.
        skips: read-outs of the hidden layers between the first and the last, without biases; they start at 0.

    Shape:
        inputs ``[b, …]``, logits ``[b, n_classes]``.

    Raises:
        ValueError: the model cannot be trained so, or a setting is out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        normalization: Normalization = "rms",
        straight_through: bool = True,
        predict: Predict = "softmax",
        label_scale: float = 3.0,
        who: str = "LabelledNetwork",
    ) -> None:
        super().__init__()
        check_choice(who, "normalization", normalization, Normalization)
        check_choice(who, "predict", predict, Predict)
        if label_scale <= 0:
            raise ValueError(f"{who}: label_scale must be above 0, got {label_scale:g}")
        self.model = model
        self.hidden, self.readout = hidden_and_readout(model, who=who)
        self.n_classes = n_outputs(self.readout)
        self._check_layers(who)
        self.normalization, self.straight_through, self.predict = normalization, straight_through, predict
        self.label_scale = label_scale
        self._first_read = min(1, len(self.hidden) - 1)
        like = next(model.parameters())
        self.skips = nn.ModuleDict()
        for i, stage in enumerate(self.hidden[1:-1], start=1):
            skip = nn.utils.skip_init(nn.Linear, n_outputs(stage), self.n_classes, bias=False, dtype=like.dtype)  # type: ignore[no-untyped-call]
            nn.init.zeros_(skip.weight)
            self.skips[str(i)] = skip.to(like.device)

    def _check_layers(self, who: str) -> None:
        for stage in self.hidden:
            wrong: list[nn.Module] = [] if isinstance(stage.layer, nn.Linear | SparseLinear) else [stage.layer]
            wrong += [module for module in stage.before if not isinstance(module, nn.Flatten | nn.Identity)]
            wrong += [module for module in stage.after if isinstance(module, nn.Unflatten)]
            if wrong:
                raise ValueError(
                    f"{who}: all layers must be linear, the first one on flat pixels, some of which the label takes, "
                    f"got a {type(wrong[0]).__name__}"
                )
        n_in = int(self.hidden[0].layer.in_features)  # type: ignore[arg-type]
        if n_in <= self.n_classes:
            raise ValueError(
                f"{who}: the model must have more inputs than classes, as the label takes one for each, got {n_in} and "
                f"{self.n_classes}"
            )

    def extra_repr(self) -> str:
        """Say how it reads."""
        return f"normalization={self.normalization!r}, predict={self.predict!r}, label_scale={self.label_scale:g}"

    def with_label(self, x: Tensor, label: Tensor) -> Tensor:
        """Return inputs, flat, with a label ``[b, n_classes]``, or ``[n_classes]`` for all, over the first ones."""
        rest = x.flatten(1)[:, self.n_classes :]
        return torch.cat([(label * self.label_scale).to(rest).expand(len(rest), -1), rest], dim=1)

    def neutral(self, x: Tensor) -> Tensor:
        """Return inputs, flat, with the label that tells nothing."""
        return self.with_label(x, x.new_full((self.n_classes,), 1 / self.n_classes))

    def normalize(self, activity: Tensor) -> Tensor:
        """Return what the next layer reads of an activity ``[b, n]``."""
        size = goodness(activity) if self.normalization == "l2" else activity.square().mean(1)
        return activity / (size.sqrt() + 1e-8)[:, None]

    def answer(self, stage: Stage, reads: Tensor) -> Tensor:
        """Return the activity of a hidden layer, of an input that is normalized already."""
        current: Tensor = stage.layer(reads)
        for module in stage.after:
            passes_all = self.straight_through and isinstance(module, nn.ReLU)
            current = _StraightThroughReLU.apply(current) if passes_all else module(current)  # type: ignore[no-untyped-call]
        return current

    def read(self, labelled: Tensor) -> Iterator[Tensor]:
        """Iterate over the activities ``[b, n]`` of the hidden layers that are read out, without a graph."""
        for i, stage in enumerate(self.hidden):
            with torch.no_grad():
                labelled = self.answer(stage, self.normalize(labelled))
            if i >= self._first_read:
                yield labelled

    def read_out(self, x: Tensor) -> Tensor:
        """Return the logits of inputs with the neutral label, with the graph of the read-out only."""
        *between, last = (self.normalize(activity) for activity in self.read(self.neutral(x)))
        logits: Tensor = self.readout.layer(last)
        for skip, activity in zip(self.skips.values(), between, strict=True):
            logits = logits + skip(activity)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        if self.predict == "softmax":
            return self.read_out(x)
        found = []
        for label in torch.eye(self.n_classes, device=x.device):
            labelled = self.with_label(x, label)
            found.append(torch.stack([goodness(activity) for activity in self.read(labelled)]).sum(0))
        return torch.stack(found, dim=1)


class PeerNormalization(nn.Module):
    """Say how far units are from being as active as their peers: mean_j (mean_k m_k − m_j)².

    m is each unit's mean activity, followed from batch to batch: m ← 0.9 m + 0.1 mean over the batch; it starts at 0.5.

    Attributes:
        mean: m, ``[n]``.
    """

    mean: Tensor

    def __init__(self, n_units: int, *, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((n_units,), 0.5, dtype=dtype))

    def forward(self, activity: Tensor) -> Tensor:
        """Take in activities ``[b, n]``, and return the penalty, without dimensions."""
        mean = 0.9 * self.mean + 0.1 * activity.mean(0)
        self.mean = mean.detach()
        return (mean.mean() - mean).square().mean()


class _StraightThroughReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor) -> Tensor:
        return current.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient
