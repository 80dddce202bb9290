"""How a model's outputs move together in training: the empirical tangent kernel, and what becomes of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuropil.measure.samples import check_batch
from neuropil.measure.trained_function import TrainedFunction, differentiable, flat

_OUTPUTS = ("trace", "full", "sum")


@dataclass(frozen=True)
class KernelDrift:
    """How far one kernel is from an earlier one.

    Attributes:
        cosine: 1 − ⟨K, K₀⟩ / (‖K‖ ‖K₀‖), in [0, 1] for tangent kernels; a change of scale is none.
        relative: ‖K − K₀‖ / ‖K₀‖ in Frobenius norm, at least 0; a change of scale counts.
    """

    cosine: float
    relative: float


def tangent_kernel(
    model: nn.Module,
    batch: Tensor,
    *,
    outputs: str = "trace",
    only: Sequence[str] | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Return the empirical neural tangent kernel of a model on a batch, in evaluation mode.

    Θ_ik,jl = Σ_p ∂f_k(x_i)/∂p · ∂f_l(x_j)/∂p, the sum over all trained parameters p, connections that are neither dead
    nor silent: gradient descent with a small rate η moves the outputs by Δf = −η Θ ∂L/∂f. Parameters are taken as they
    are (PyTorch's parametrization, no factors 1/√n), so values of networks of different widths do not compare; cosines
    do. Samples are taken one at a time, by backward passes alone, so any module will do whose output for a sample does
    not depend on the others; neurons that spike give their surrogates' kernel.

    Cost: n k backward passes of one sample for n samples and k outputs (n for ``sum``), and a product of Jacobians,
    n² k P multiplications (n² k² P for ``full``) with P parameters. Memory: the Jacobian, n k P numbers (n P for
    ``sum``), or, with ``chunk``, two pieces of ``chunk`` samples each, for n / (2 · chunk) times as many passes.

    Args:
        model: from a batch ``[n, …]`` to outputs ``[n, …]``, k numbers a sample.
        batch: ``[n, …]``.
        outputs: ``trace``: Σ_k Θ_ik,jk, ``[n, n]``; ``full``: ``[n, k, n, k]``; ``sum``: the kernel of Σ_k f_k / √k,
            ``[n, n]``, k times as cheap.
        only: names of parameters to take, such as recurrent weights alone; None: all that require a gradient.
        chunk: samples whose Jacobian is held at a time, at least 1; None: all.

    Returns:
        Symmetric and positive semi-definite, in the type of the parameters.

    Raises:
        ValueError: an argument is out of range, the batch is empty, the model has nothing to train, or parameters are
            not finite.
        TypeError: the model returns no floating-point tensor.

    Reference:
        A. Jacot et al., arXiv 1806.07572; ``sum``: M. A. Mohamadi et al., arXiv 2206.12543.

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
        >>> tangent_kernel(nn.Linear(2, 1), x).tolist(), (x @ x.T + 1).tolist()
        ([[6.0, 2.0], [2.0, 11.0]], [[6.0, 2.0], [2.0, 11.0]])
    """
    if outputs not in _OUTPUTS:
        raise ValueError(f"tangent_kernel: outputs must be one of {', '.join(_OUTPUTS)}, got {outputs!r}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"tangent_kernel: chunk must be at least 1, got {chunk}")
    check_batch("tangent_kernel", batch)
    function = TrainedFunction(model, "tangent_kernel", only)
    n, step = len(batch), min(chunk or len(batch), len(batch))
    pieces = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    kernel = torch.empty(0)
    with differentiable():
        for i, rows in enumerate(pieces):
            left = _jacobian(function, batch[rows], outputs)
            k = left.shape[1]
            if not i:
                kernel = left.new_zeros(n, k, n, k)
            for columns in pieces[i:]:
                right = left if columns == rows else _jacobian(function, batch[columns], outputs)
                product = (left.flatten(0, 1) @ right.flatten(0, 1).T).view(len(left), k, len(right), k)
                if columns == rows:  # a product rounds the two halves apart
                    product = (product + product.permute(2, 3, 0, 1)) / 2
                kernel[rows, :, columns] = product
                kernel[columns, :, rows] = product.permute(2, 3, 0, 1)
    return kernel if outputs == "full" else kernel.view(n, n)


def _jacobian(function: TrainedFunction, batch: Tensor, outputs: str) -> Tensor:
    """Return ``[samples, rows of the kernel for each, …]``: of ``trace``, one row of all outputs' gradients."""
    samples = []
    for i in range(len(batch)):
        output = function(batch[i : i + 1])
        if output.dim() < 1 or len(output) != 1:
            raise ValueError(
                f"tangent_kernel: the model must return [n, …] for n samples, got shape {tuple(output.shape)} for one"
            )
        each = output.reshape(-1)
        if outputs == "sum":
            each = (each.sum() / each.numel() ** 0.5).reshape(1)
        gradients = [flat(function.gradient(one, keep=True)) for one in each]
        samples.append(torch.stack(gradients) if outputs == "full" else torch.cat(gradients)[None])
    return torch.stack(samples)


def kernel_alignment(first: Tensor, second: Tensor) -> float:
    """Return the cosine between two kernels, ⟨A, B⟩ / (‖A‖ ‖B‖) over all entries.

    In [−1, 1]; in [0, 1] where both are positive semi-definite; 1 where they are alike up to a positive factor. One
    pass over the entries, in float64.

    Args:
        first, second: of the same shape, ``[n, n]`` or ``[n, k, n, k]``, neither of them 0 throughout.

    Raises:
        ValueError: the shapes differ, or a kernel is 0 throughout or not finite.

    Reference:
        N. Cristianini et al., On Kernel-Target Alignment, NeurIPS 2001 (not centred).

    Example:
        >>> a = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
        >>> round(kernel_alignment(a, 3 * a), 6), round(kernel_alignment(a, torch.eye(2)), 6)
        (1.0, 0.894427)
    """
    _check_pair("kernel_alignment", first, second)
    a, b = first.detach().double(), second.detach().to(first.device).double()
    return min(max(float((a * b).sum() / (a.norm() * b.norm())), -1.0), 1.0)


def kernel_drift(before: Tensor, after: Tensor) -> KernelDrift:
    """Return how far a kernel has moved: 0 for a model that learns lazily, as if it were linear in its weights.

    Both figures as :class:`KernelDrift` says; one pass over the entries, in float64. Compare models at the same loss
    rather than after the same number of steps.

    Args:
        before, after: kernels of the same samples, of the same shape, neither of them 0 throughout.

    Raises:
        ValueError: the shapes differ, or a kernel is 0 throughout or not finite.

    Reference:
        The cosine is the tangent kernel alignment of Y. H. Liu et al., arXiv 2310.08513, taken from 1.

    Example:
        >>> drift = kernel_drift(torch.eye(2), 3 * torch.eye(2))
        >>> round(drift.cosine, 6), round(drift.relative, 6)
        (0.0, 2.0)
    """
    _check_pair("kernel_drift", before, after)
    start, end = before.detach().double(), after.detach().to(before.device).double()
    return KernelDrift(
        cosine=max(0.0, 1.0 - kernel_alignment(start, end)), relative=float((end - start).norm() / start.norm())
    )


def target_alignment(kernel: Tensor, target: Tensor, *, centred: bool = True) -> float:
    """Return the cosine between a kernel and that of the targets, Y Yᵀ: how much of it serves the task.

    In [−1, 1], and in [0, 1] for positive semi-definite kernels; 1 where the kernel is Y Yᵀ up to a factor. Centred,
    both kernels become H K H with H = 1 − 1/n first: what is the same for all samples does not count, and with two
    classes of different size the figure keeps its meaning. n² operations, in float64.

    Args:
        kernel: ``[n, n]``.
        target: classes, integers ``[n]``, which become one-hot rows; or numbers ``[n]`` or ``[n, k]``.
        centred: see above.

    Raises:
        ValueError: the shapes do not fit, or a kernel is 0 throughout (once centred) or not finite.

    Reference:
        N. Cristianini et al., NeurIPS 2001; centred: C. Cortes et al., arXiv 1203.0550.

    Example:
        >>> classes = torch.tensor([0, 0, 1])
        >>> kernel = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> round(target_alignment(kernel, classes), 6)
        1.0
    """
    if kernel.dim() != 2 or kernel.shape[0] != kernel.shape[1]:
        raise ValueError(
            f"target_alignment: kernel must be [n, n], got shape {tuple(kernel.shape)}; try outputs='trace'"
        )
    if target.dim() not in (1, 2) or len(target) != len(kernel):
        raise ValueError(
            f"target_alignment: target must be [n] or [n, k] for the kernel's n={len(kernel)} samples, got shape "
            f"{tuple(target.shape)}"
        )
    _check_finite("target_alignment", kernel, target)
    if target.dim() == 1 and not target.is_floating_point():
        rows = target[:, None] == torch.unique(target)
    else:
        rows = target.reshape(len(target), -1)
    exact = rows.to(kernel.device).double()
    own, wanted = kernel.detach().double(), exact @ exact.T
    if centred:
        own, wanted = _centred(own), _centred(wanted)
    _check_pair("target_alignment", own, wanted, hint=", once centred" if centred else "")
    return kernel_alignment(own, wanted)


def _check_finite(owner: str, *kernels: Tensor) -> None:
    if not all(bool(kernel.isfinite().all()) for kernel in kernels):
        raise ValueError(f"{owner}: kernels must be finite, got inf or nan; try a smaller learning rate")


def _centred(kernel: Tensor) -> Tensor:
    """Return H K H, and 0 where nothing but rounding is left of K."""
    rest = kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
    return rest if rest.norm() > 1e-12 * kernel.norm() else torch.zeros_like(kernel)


def _check_pair(owner: str, first: Tensor, second: Tensor, hint: str = "") -> None:
    if first.shape != second.shape:
        raise ValueError(
            f"{owner}: both kernels must have the same shape, got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    _check_finite(owner, first, second)
    for which, kernel in (("first", first), ("second", second)):
        if not bool(kernel.any()):
            raise ValueError(f"{owner}: a kernel must not be 0 throughout{hint}, got such a {which} one")
