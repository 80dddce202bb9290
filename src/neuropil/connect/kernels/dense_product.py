"""A dense product by the faster of the libraries that PyTorch brings."""

import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
from torch import Tensor


def dense_product(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, narrow: bool = False) -> Tensor:
    """Return x Wᵀ + b, without a gradient, as ``F.linear`` does, in the type of x.

    In float32 oneDNN computes it on processors with AVX-512 that are not Intel's: PyTorch's default library uses half
    of their width (oneDNN was 1.6 to 2.3 times as fast on an AMD EPYC with AVX-512). Without AVX-512 the default
    library is as fast, and for the gradient of weights faster by half.

    Args:
        x: ``[r, i]``, of any strides.
        weight: ``[o, i]``, likewise.
        bias: ``[o]`` or None.
        narrow: multiply in bfloat16, with sums in float32: in half the time or less where the processor can.
    """
    if narrow:
        product = torch.mm(x.to(torch.bfloat16), weight.to(torch.bfloat16).t()).to(x.dtype)
        return product if bias is None else product.add_(bias)
    if prefers_onednn(x) and weight.numel():
        x, weight = _packed(x), _packed(weight)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]
    with torch.autocast(x.device.type, enabled=False):
        return torch.nn.functional.linear(x, weight, bias)


def multiply_into(out: Tensor, a: Tensor, b: Tensor, *, add: bool = False, narrow: bool = False) -> None:
    """Write a b into ``out``, or add it to it, without a gradient.

    Args:
        out: ``[r, o]``, rows contiguous.
        a: ``[r, i]``, rows or columns contiguous.
        b: ``[i, o]``, likewise.
        add: whether to add.
        narrow: multiply in bfloat16, with sums in float32 that are rounded to bfloat16 at the end.
    """
    if narrow or prefers_onednn(a):
        if narrow:
            product = torch.mm(a.to(torch.bfloat16), b.to(torch.bfloat16))
        else:  # it takes matrices as they are only where nothing lies between their rows
            product = torch.ops.mkldnn._linear_pointwise(_packed(a), _packed(b).t(), None, "none", [], "")
        if add:
            out.add_(product)
        else:
            out.copy_(product)
    elif add:
        out.addmm_(a, b)
    else:
        torch.mm(a, b, out=out)


def _packed(matrix: Tensor) -> Tensor:
    """Return a matrix without gaps, its rows or its columns contiguous."""
    return matrix if matrix.is_contiguous() or matrix.t().is_contiguous() else matrix.contiguous()


def prefers_onednn(x: Tensor) -> bool:
    """Whether oneDNN is faster than PyTorch's default library by more than a copy of the result takes."""
    if x.dtype != torch.float32 or x.device.type != "cpu" or not x.numel() or not _has_onednn():
        return False
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512") and not _is_intel()


@cache
def _is_intel() -> bool:
    """Whether the processor is Intel's, whose full width PyTorch's default library uses."""
    with suppress(OSError):
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return "intel" in platform.processor().lower()


def _has_onednn() -> bool:
    """Whether PyTorch was built with oneDNN, and nobody has switched it off."""
    usable = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled  # type: ignore[no-untyped-call]
    return bool(usable) and hasattr(torch.ops.mkldnn, "_linear_pointwise")
