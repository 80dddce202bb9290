"""That every kernel computes the same layer."""

import torch
from torch import Tensor

from neuropil.connect import SparseLinear, Wiring
from neuropil.connect.kernels import KERNELS
from neuropil.connect.storage import as_stored

_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
_ACTIVE = 0.1  # share of the mostly silent input that is not zero


def assert_kernels_agree(
    wiring: Wiring, *, batch: int = 3, dtype: torch.dtype = torch.float64, generator: torch.Generator | None = None
) -> list[str]:
    """Raise an ``AssertionError`` unless every kernel that can compute a wiring agrees with the masked dense product.

    Compared are the output and the gradients of input, weights and bias, each relative to its largest value: within
    1e-10 in float64, within 1e-5 in float32; for an input without zeros, and for one that is mostly zero.

    Args:
        wiring: who connects to whom.
        batch: samples, 0 included.
        dtype: ``torch.float64`` or ``torch.float32``.
        generator: where weights, input and the gradient that comes in are drawn from.

    Returns:
        Names of the kernels that were compared.

    Example:
        >>> from neuropil.connect import Ensembles
        >>> generator = torch.Generator().manual_seed(0)
        >>> assert_kernels_agree(Ensembles(n_groups=2, block=("group", 1)).wire(6, 4, generator=generator))
        ['blocks', 'events', 'masked']
    """
    layer = SparseLinear(wiring, kernel="masked", dtype=dtype, generator=generator)
    x = torch.randn(batch, wiring.in_features, dtype=dtype, generator=generator)
    incoming = torch.randn(batch, wiring.out_features, dtype=dtype, generator=generator)
    dense, bias = layer.dense_weight().detach().requires_grad_(), layer.bias
    assert bias is not None
    assert torch.equal(dense != 0, (dense != 0) & wiring.mask()), (
        "the dense weights must be zero where nothing connects"
    )

    names = [name for name, kernel in KERNELS.items() if not kernel.obstacle(wiring)]
    spiking = x * (torch.rand(x.shape, generator=generator, device="cpu") < _ACTIVE)
    for values in (x, spiking):
        expected: tuple[Tensor, ...] | None = None
        for name in sorted(names, key=lambda name: name != "masked"):
            candidate = SparseLinear(wiring, kernel=name, dtype=dtype)
            candidate.load_state_dict(layer.state_dict())
            given = values.clone().requires_grad_()
            output = candidate(given)
            output.backward(incoming)
            assert given.grad is not None
            assert candidate.bias is not None
            assert candidate.weight.grad is not None
            assert candidate.bias.grad is not None
            of_weight = as_stored(candidate.weight.grad, wiring, dense=layer.stores_dense)
            found = (output.detach(), given.grad, of_weight, candidate.bias.grad)
            if expected is None:
                # the reference itself, against plain PyTorch
                plain = values.clone().requires_grad_()
                result = torch.nn.functional.linear(plain, dense, bias.detach())
                result.backward(incoming)  # type: ignore[no-untyped-call]
                assert plain.grad is not None
                _assert_equal(name, ("output", "gradient of the input"), found[:2], (result.detach(), plain.grad))
                expected = found
            _assert_equal(name, ("output", "input gradient", "weight gradient", "bias gradient"), found, expected)
    return names


def _assert_equal(kernel: str, what: tuple[str, ...], found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for name, a, b in zip(what, found, expected, strict=True):
        difference = float((a - b).abs().max()) if b.numel() else 0.0
        scale = max(1.0, float(b.abs().max()) if b.numel() else 0.0)
        assert difference <= _TOLERANCE[a.dtype] * scale, f"{name} of kernel {kernel!r} differs by {difference:g}"
