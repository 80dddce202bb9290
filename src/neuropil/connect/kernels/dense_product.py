"""A dense product by the faster of the libraries that PyTorch brings."""

import torch
from torch import Tensor


def dense_product(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, narrow: bool = False) -> Tensor:
    """Return x Wᵀ + b, without a gradient, as ``F.linear`` does, in the type of x.

    In float32 on a CPU, oneDNN computes it where PyTorch has it: with AVX-512 on every maker's processors, for which
    PyTorch's default library has only been seen to use half of their width (1.6 to 2.3 times as slow there, see
    benchmarks/results/events.csv).

    Args:
        x: ``[r, i]``, of any strides.
        weight: ``[o, i]``, likewise.
        bias: ``[o]`` or None.
        narrow: multiply in bfloat16, with sums in float32: in half the time or less where the processor can.
    """
    if narrow:
        product = torch.mm(x.to(torch.bfloat16), weight.to(torch.bfloat16).t()).to(x.dtype)
        return product if bias is None else product.add_(bias)
    if x.dtype == torch.float32 and x.device.type == "cpu" and _has_onednn() and x.numel() and weight.numel():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]
    with torch.autocast(x.device.type, enabled=False):
        return torch.nn.functional.linear(x, weight, bias)


def _has_onednn() -> bool:
    """Whether PyTorch was built with oneDNN, and nobody has switched it off."""
    usable = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled  # type: ignore[no-untyped-call]
    return bool(usable) and hasattr(torch.ops.mkldnn, "_linear_pointwise")
