"""How curved the loss is where a model stands: the Hessian's largest eigenvalue, and the worst loss nearby."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuropil.measure.trained_function import Loss, TrainedFunction, differentiable

_PRODUCTS = ("exact", "differences")
_REFUSAL = "autograd formula"  # of an operation that cannot be differentiated twice


@dataclass(frozen=True)
class Sharpness:
    """The largest eigenvalue of a loss's Hessian, and how far it is known.

    Attributes:
        value: the estimate, never above the true one but for rounding; may be negative.
        residual: ‖H v − value · v‖ for the unit vector found: some eigenvalue lies within this of ``value``.
        products: Hessian-vector products it took.
    """

    value: float
    residual: float
    products: int


def sharpness(
    model: nn.Module,
    batch: Tensor,
    target: Tensor,
    loss: Loss,
    *,
    generator: torch.Generator,
    products: str = "exact",
    tolerance: float = 1e-3,
    most: int = 64,
) -> Sharpness:
    """Return the largest eigenvalue of the Hessian of a loss on a batch, by Lanczos iteration, in evaluation mode.

    λ = max over ‖v‖ = 1 of vᵀ H v, H = ∂²L/∂w² over all trained parameters, connections that are neither dead nor
    silent; gradient descent of rate η is stable on a quadratic while λ < 2/η. It is a property of the parametrization:
    a network that computes the same with other weights may have another λ. All vectors are kept orthogonal.

    Products H v are ``exact`` (the gradient is differentiated again: one forward, two backward passes) or central
    ``differences`` of gradients, (g(w + ε v) − g(w − ε v)) / 2ε with ε = ∛(machine epsilon) · (1 + ‖w‖): two forward,
    two backward passes, an error of about ε² times the third derivatives, and rounding of relative ∛ε² (float32:
    about 10⁻³ to 10⁻²). Where activations have kinks, as ReLU has, exact products do not see these, and differences
    do. Differences are for layers without second derivatives: kernel ``events``, compiled spiking neurons. Surrogate
    gradients have no Hessian: differences of theirs need not be symmetric, and their λ means little.

    Cost: at most ``most`` products, and as many vectors of all parameters in memory.

    Args:
        model: any module.
        batch, target: what it takes, and what the loss compares its output with.
        loss: from output and target to one number, such as ``torch.nn.functional.cross_entropy``.
        generator: where the first vector comes from.
        products: ``exact`` or ``differences``.
        tolerance: it stops when the residual is at most this share of the estimate, at least 0.
        most: products at most, at least 1; it ends earlier where the vectors span all that the first one reaches.

    Raises:
        ValueError: an argument is out of range, the loss gives no single number, a layer has no second derivative,
            there is no sample, or parameters or derivatives are not finite, as those of a network that has diverged.
        TypeError: the model returns no floating-point tensor.

    Reference:
        C. Lanczos, J. Res. Natl. Bur. Stand. 45 (1950); differences: B. A. Pearlmutter, Neural Comput. 6 (1994), who
        compares them with exact products.

    Example:
        >>> model, x = nn.Linear(2, 1, bias=False), torch.tensor([[3.0, 0.0], [0.0, 1.0]])
        >>> found = sharpness(
        ...     model, x, torch.zeros(2, 1), nn.functional.mse_loss, generator=torch.Generator().manual_seed(0)
        ... )
        >>> round(found.value, 4)  # of 2 XᵀX / n
        9.0
    """
    if products not in _PRODUCTS:
        raise ValueError(f"sharpness: products must be one of {', '.join(_PRODUCTS)}, got {products!r}")
    if not tolerance >= 0:
        raise ValueError(f"sharpness: tolerance must be at least 0, got {tolerance:g}")
    if most < 1:
        raise ValueError(f"sharpness: most must be at least 1, got {most}")
    function = TrainedFunction(model, "sharpness")
    if not function.n_entries:  # nothing but silent connections
        return Sharpness(0.0, 0.0, 0)
    with differentiable():
        times = (_exact if products == "exact" else _differences)(function, batch, target, loss)
        start = [
            torch.randn(value.shape, generator=generator, device=generator.device, dtype=torch.float64).to(value)
            for value in function.values
        ]
        return _lanczos(times, function.live(start), tolerance, min(most, function.n_entries))


Product = Callable[[list[Tensor]], list[Tensor]]


def _exact(function: TrainedFunction, batch: Tensor, target: Tensor, loss: Loss) -> Product:
    """Return what multiplies a vector by the Hessian; the gradient's graph is made once."""
    slope = function.gradient(function.loss(batch, target, loss), again=True)
    refusal = (
        "sharpness: products='exact' must differentiate each layer twice, got one that refuses; try "
        "products='differences'"
    )
    if _has_refusal(slope):
        raise ValueError(refusal)

    def times(vector: list[Tensor]) -> list[Tensor]:
        try:
            return [part.detach() for part in function.gradient(_inner(slope, vector), keep=True)]
        except RuntimeError as error:
            if _REFUSAL not in str(error):
                raise
            raise ValueError(refusal) from error

    return times


def _has_refusal(slope: Sequence[Tensor]) -> bool:
    """Return whether a gradient came through an operation that is differentiable once.

    PyTorch puts a node there that raises when it is reached; but nothing lies behind it, so it is left out, and the
    second derivative lacks whatever passes there, without a word.
    """
    seen, ahead = set(), [part.grad_fn for part in slope]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        if node.name() == "torch::autograd::Error":
            return True
        seen.add(node)
        ahead.extend(following for following, _ in node.next_functions)
    return False


def _differences(function: TrainedFunction, batch: Tensor, target: Tensor, loss: Loss) -> Product:
    weights = [value.detach() for value in function.values]
    epsilon = max(torch.finfo(value.dtype).eps for value in weights)
    step = epsilon ** (1 / 3) * (1 + float(_inner(weights, weights)) ** 0.5)

    def slope(vector: list[Tensor], by: float) -> list[Tensor]:
        moved = moved_by(weights, vector, by)
        return function.gradient(function.loss(batch, target, loss, moved), moved)

    def times(vector: list[Tensor]) -> list[Tensor]:
        pair = zip(slope(vector, step), slope(vector, -step), strict=True)
        return [(ahead - behind) / (2 * step) for ahead, behind in pair]

    return times


def moved_by(values: Sequence[Tensor], direction: Sequence[Tensor], by: float) -> list[Tensor]:
    """Return new leaves of a graph, some way off in a direction."""
    pairs = zip(values, direction, strict=True)
    return [(value.detach() + by * part.detach()).requires_grad_() for value, part in pairs]


def _inner(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()


def _lanczos(times: Product, start: list[Tensor], tolerance: float, most: int) -> Sharpness:
    norm = float(_inner(start, start)) ** 0.5
    basis = [[part / norm for part in start]]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        image = times(basis[-1])
        diagonal.append(float(_inner(image, basis[-1])))
        if not math.isfinite(diagonal[-1]):
            raise ValueError(
                f"sharpness: the second derivatives of the loss must be finite, got {diagonal[-1]:g}; try a smaller "
                "learning rate"
            )
        for _ in range(2):  # once leaves what rounding adds
            for vector in basis:
                share = float(_inner(image, vector))
                image = [part - share * other for part, other in zip(image, vector, strict=True)]
        length = float(_inner(image, image)) ** 0.5
        if not math.isfinite(length):
            raise ValueError("sharpness: the loss must have finite derivatives, got inf or nan; try another batch")
        small = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
        if beside:
            off = torch.tensor(beside, dtype=torch.float64)
            small += torch.diag(off, 1) + torch.diag(off, -1)
        eigenvalues, vectors = torch.linalg.eigh(small)
        value, residual = float(eigenvalues[-1]), length * abs(float(vectors[-1, -1]))
        rounding = torch.finfo(basis[0][0].dtype).eps * float(eigenvalues.abs().max())
        if residual <= tolerance * abs(value) or length <= 8 * rounding or len(diagonal) >= most:
            return Sharpness(value, residual, len(diagonal))
        beside.append(length)
        basis.append([part / length for part in image])


def ascent_sharpness(
    model: nn.Module,
    batch: Tensor,
    target: Tensor,
    loss: Loss,
    *,
    radius: float = 0.05,
    adaptive: bool = False,
) -> float:
    """Return by how much one step uphill raises the loss on a batch, in evaluation mode: L(w + δ) − L(w).

    δ = ρ g / ‖g‖, with the gradient g of all trained parameters together; adaptive, δ = ρ T² g / ‖T g‖ with T = |w|,
    entry by entry: scaling one layer up and the next down by the same factor, which a ReLU network does not notice,
    then changes nothing; entries that are 0 stay there. Dead and silent connections do not move. To first order the
    figure is ρ ‖g‖ (ρ ‖T g‖), so compare models at the same loss, or near a minimum; 0 where the gradient is 0. It may
    be negative where ρ is large. Two forward passes, one backward pass, one copy of the parameters.

    Args:
        model: any module.
        batch, target: what it takes, and what the loss compares its output with.
        loss: from output and target to one number.
        radius: ρ, finite, above 0.
        adaptive: see above.

    Raises:
        ValueError: the radius is out of range, the loss gives no single number, there is no sample, or parameters are
            not finite.
        TypeError: the model returns no floating-point tensor.

    Reference:
        P. Foret et al., arXiv 2010.01412; adaptive: J. Kwon et al., arXiv 2102.11600, who add a small constant to T.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = model.weight.data.fill_(2.0)
        >>> x, y = torch.ones(1, 1), torch.zeros(1, 1)
        >>> round(ascent_sharpness(model, x, y, nn.functional.mse_loss, radius=0.5), 6)  # 2.5² − 2²
        2.25
        >>> round(ascent_sharpness(model, x, y, nn.functional.mse_loss, radius=0.5, adaptive=True), 6)  # 3² − 2²
        5.0
    """
    if not 0 < radius < float("inf"):
        raise ValueError(f"ascent_sharpness: radius must be finite and above 0, got {radius:g}")
    function = TrainedFunction(model, "ascent_sharpness")
    with differentiable():
        here = function.loss(batch, target, loss)
        slope = function.gradient(here)
        scale = [value.detach().abs() if adaptive else torch.ones_like(value) for value in function.values]
        scaled = [part * by for part, by in zip(slope, scale, strict=True)]
        norm = float(_inner(scaled, scaled)) ** 0.5
        if norm == 0:
            return 0.0
        direction = [part * by for part, by in zip(scaled, scale, strict=True)]
        with torch.no_grad():
            there = function.loss(batch, target, loss, moved_by(function.values, direction, radius / norm))
    return float(there - here.detach())
