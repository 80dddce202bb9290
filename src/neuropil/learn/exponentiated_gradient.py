"""Optimizers whose steps multiply weights, so that no synapse ever changes its sign (Dale's law)."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class _Multiplicative(Optimizer):
    """What both forms share: who is stepped how; weights that underflow; weights at 0."""

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        for group in self.param_groups:
            self._check(group)

    def _check(self, group: dict[str, Any]) -> None:
        who = type(self).__name__
        for name in ("lr", "weight_decay", "additive_scale", "revive"):
            if not (math.isfinite(group[name]) and group[name] >= 0):
                raise ValueError(f"{who}: {name} must be finite and at least 0, got {group[name]}")
        if not group["largest"] > 0:
            raise ValueError(f"{who}: largest must be above 0, got {group['largest']}; inf does not clamp")

    @abstractmethod
    def _direction(self, weight: Tensor, gradient: Tensor, group: dict[str, Any], multiplies: bool) -> Tensor:
        """Return what a step of rate 1 goes down by: the exponent without its sign, or the difference."""

    def _shrink(self, weight: Tensor, group: dict[str, Any], rate: float) -> None:
        """Let a weight decay before its step, where that is not part of the gradient."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step with the gradients that are there; returns what the closure does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                multiplies = weight.dim() > 1 if group["multiplicative"] is None else group["multiplicative"]
                direction = self._direction(weight, weight.grad, group, multiplies)
                rate = group["lr"] if multiplies else group["lr"] * group["additive_scale"]
                self._shrink(weight, group, rate)
                if multiplies:
                    _multiply(weight, direction, rate, group["largest"])
                    if group["revive"]:
                        weight.sub_(torch.sign(weight.grad).mul_(weight == 0), alpha=group["revive"])
                else:
                    weight.sub_(direction, alpha=rate)
        return loss


class ExponentiatedGradient(_Multiplicative):
    """Multiply each weight by the exponential of its gradient: signs stay, and weights become log-normal.

        buf ← μ buf + (1 − d) (g + λ sign w);  w ← w · exp(clamp(−η sign(w) buf, ±c))

    The first buf is the first gradient, as in ``torch.optim.SGD``. The step is η |w| g to first order, so rates are
    10 to 100 times those of SGD. Weight decay enters by its sign: it shrinks weights of either sign by e^(−ηλ).

    **A weight at 0 stays at 0**, so stored zeros that are no connection stay so; but connections that rewiring brings,
    which start at 0, would never grow. ``revive`` starts them: a weight of exactly 0 that has a gradient, which only a
    connection has, becomes −revive · sign g. Its sign is then the one that lowers the loss, not that of its neuron's
    other synapses.

    Args:
        params: parameters, or groups of them, each of which may have settings of its own.
        lr: η, at least 0.
        momentum: μ in [0, 1).
        dampening: d in [0, 1].
        weight_decay: λ, at least 0; of additive parameters, λ p is added to the gradient.
        largest: c, how much the logarithm of a weight may change in a step; infinity: any.
        multiplicative: whether parameters are multiplied; None: those with two axes or more are, and all others
            (biases, scales of normalizations, neurons' numbers), whose sign means nothing or which start at 0, take
            the additive step p ← p − s η buf.
        additive_scale: s, at least 0, the share of the rate that additive parameters get.
        revive: magnitude at which connections at 0 start, at least 0; 0: they stay at 0.

    Raises:
        ValueError: a setting is out of range.

    Reference:
        J. Kivinen, M. Warmuth, 1997; J. Cornford et al., bioRxiv 2024.10.25.620272, by its public code, which has
        biases as a sum of a positive and a negative parameter, each multiplied; here they take an additive step. The
        clamped exponent, ``revive`` and the additive step are ours, and a weight that would underflow stays as it is.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([[1.0, -1.0, 0.0]]))
        >>> weight.grad = torch.tensor([[1.0, 1.0, 1.0]])
        >>> ExponentiatedGradient([weight], lr=0.5).step()
        >>> [round(value, 4) for value in weight[0].tolist()]
        [0.6065, -1.6487, 0.0]
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        largest: float = 1.0,
        multiplicative: bool | None = None,
        additive_scale: float = 0.01,
        revive: float = 0.0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "largest": largest,
                "multiplicative": multiplicative,
                "additive_scale": additive_scale,
                "revive": revive,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if not 0 <= group["momentum"] < 1:
            raise ValueError(f"ExponentiatedGradient: momentum must be in [0, 1), got {group['momentum']}")
        if not 0 <= group["dampening"] <= 1:
            raise ValueError(f"ExponentiatedGradient: dampening must be in [0, 1], got {group['dampening']}")

    def _direction(self, weight: Tensor, gradient: Tensor, group: dict[str, Any], multiplies: bool) -> Tensor:
        if group["weight_decay"]:
            gradient = gradient.add(weight.sign() if multiplies else weight, alpha=group["weight_decay"])
        if not group["momentum"]:
            return gradient
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = gradient.clone()
        else:
            state["momentum_buffer"].mul_(group["momentum"]).add_(gradient, alpha=1 - group["dampening"])
        buffer: Tensor = state["momentum_buffer"]
        return buffer


class ExponentiatedAdam(_Multiplicative):
    """The form of :class:`ExponentiatedGradient` with Adam's moments: the exponent is Adam's step, times the sign.

        w ← w (1 − ηλ) · exp(clamp(−η sign(w) m̂ / (√v̂ + ε), ±c))

    m̂ and v̂ are Adam's moments of the gradient, corrected for their start.

    Args:
        params, largest, multiplicative, revive: as for :class:`ExponentiatedGradient`.
        lr: η, at least 0: about by how much the logarithm of a weight changes in a step.
        betas: decay of the two moments, in [0, 1).
        eps: ε, above 0.
        weight_decay: λ, at least 0, with ηλ below 1; apart from the gradient, as in AdamW, for additive parameters too.
        additive_scale: the share of the rate that additive parameters get.

    Raises:
        ValueError: a setting is out of range.

    Reference:
        As for :class:`ExponentiatedGradient`.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([[1.0, -1.0]]))
        >>> weight.grad = torch.tensor([[3.0, 0.1]])
        >>> ExponentiatedAdam([weight], lr=0.1, weight_decay=0.0).step()
        >>> [round(value, 4) for value in weight[0].tolist()]
        [0.9048, -1.1052]
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.01,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        largest: float = 1.0,
        multiplicative: bool | None = None,
        additive_scale: float = 0.1,
        revive: float = 0.0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "largest": largest,
                "multiplicative": multiplicative,
                "additive_scale": additive_scale,
                "revive": revive,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if not all(0 <= beta < 1 for beta in group["betas"]):
            raise ValueError(f"ExponentiatedAdam: betas must be in [0, 1), got {group['betas']}")
        if not group["eps"] > 0:
            raise ValueError(f"ExponentiatedAdam: eps must be above 0, got {group['eps']}")
        if not group["lr"] * group["weight_decay"] < 1:
            raise ValueError(
                f"ExponentiatedAdam: lr · weight_decay must be below 1, got {group['lr']} · {group['weight_decay']}"
            )

    def _direction(self, weight: Tensor, gradient: Tensor, group: dict[str, Any], multiplies: bool) -> Tensor:
        state, (of_mean, of_square) = self.state[weight], group["betas"]
        if "step" not in state:
            state["step"] = torch.zeros((), device="cpu")
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        state["exp_avg"].lerp_(gradient, 1 - of_mean)
        state["exp_avg_sq"].mul_(of_square).addcmul_(gradient, gradient, value=1 - of_square)
        n = state["step"].item()
        scale = (state["exp_avg_sq"] / (1 - of_square**n)).sqrt_().add_(group["eps"])
        direction: Tensor = state["exp_avg"] / scale.mul_(1 - of_mean**n)
        return direction

    def _shrink(self, weight: Tensor, group: dict[str, Any], rate: float) -> None:
        if group["weight_decay"]:
            weight.mul_(1 - rate * group["weight_decay"])


class SignConstrainedSGD(torch.optim.SGD):
    """The additive control of :class:`ExponentiatedGradient`: SGD, but a weight that would change its sign stops at 0.

    It stops at 1e-18 of its sign, from where it can grow again. Weights at 0 stay at 0. Parameters with one axis or
    none are not constrained.

    Args:
        params, settings: as for ``torch.optim.SGD``.

    Reference:
        The control of J. Cornford et al., bioRxiv 2024.10.25.620272.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([[1.0, -1.0]]))
        >>> weight.grad = torch.tensor([[3.0, 3.0]])
        >>> SignConstrainedSGD([weight], lr=1.0).step()
        >>> [round(value, 4) for value in weight[0].tolist()], bool((weight.sign() == torch.tensor([1.0, -1.0])).all())
        ([0.0, -4.0], True)
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step with the gradients that are there; returns what the closure does."""
        constrained = [weight for group in self.param_groups for weight in group["params"] if weight.dim() > 1]
        signs = [weight.sign() for weight in constrained]
        loss = super().step(closure)
        for weight, sign in zip(constrained, signs, strict=True):
            torch.where(weight.sign() == sign, weight, 1e-18 * sign, out=weight)
        return loss


def _multiply(weight: Tensor, direction: Tensor, rate: float, largest: float) -> None:
    """Multiply a weight by the exponential of −rate · sign · direction; one that would become 0 stays as it is."""
    exponent = (weight.sign() * direction).mul_(-rate).clamp_(-largest, largest)
    product = exponent.exp_().mul_(weight)
    torch.where(product == 0, weight, product, out=weight)
