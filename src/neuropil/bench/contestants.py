"""What is timed: layers of one wiring by every kernel, PyTorch's own sparse layers, and one training step of any."""

import warnings
from collections.abc import Callable, Iterator
from typing import TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuropil.connect import SparseLinear, Wiring
from neuropil.connect.kernels import KERNELS
from neuropil.randomness import stream

Build = Callable[[], nn.Module]


class Place(TypedDict):
    """Where parameters and numbers live, and their type."""

    device: str
    dtype: torch.dtype


def sparse_layers(
    wiring: Wiring, *, device: str = "cpu", dtype: torch.dtype | None = None, kernels: tuple[str, ...] = tuple(KERNELS)
) -> Iterator[tuple[str, Build]]:
    """Give what builds the layer of a wiring for each kernel, by the kernel's name.

    One that cannot compute the wiring raises the reason when it is built.
    """
    for name in kernels:

        def build(kernel: str = name) -> nn.Module:
            return SparseLinear(wiring, kernel=kernel, generator=stream(0, "weights"), device=device, dtype=dtype)

        yield name, build


def automatic_kernel(wiring: Wiring, *, device: str = "cpu", dtype: torch.dtype | None = None) -> str | None:
    """Return the name of the kernel that a layer of this wiring chooses by itself; None where it can have none."""
    try:
        return SparseLinear(wiring, generator=stream(0, "weights"), device=device, dtype=dtype).kernel
    except (ValueError, RuntimeError):
        return None


class TorchSparse(nn.Module):
    """A layer without bias whose weights are one of PyTorch's sparse matrices, made anew of live weights at each call.

    Args:
        wiring: single synapses in index order for CSR, square blocks for BSR.
        device, dtype: of the weights.
    """

    crow: Tensor
    column: Tensor

    def __init__(self, wiring: Wiring, *, device: str = "cpu", dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.shape = wiring.shape
        self.is_blocked = wiring.block != (1, 1)
        values = (wiring.n_blocks, *wiring.block) if self.is_blocked else (wiring.n_blocks,)
        bound = (wiring.in_features * wiring.density) ** -0.5
        start = (torch.rand(values, generator=stream(0, "weights")) * 2 - 1) * bound
        self.weight = nn.Parameter(start.to(device=device, dtype=dtype))
        for name, index in (("crow", wiring.indptr), ("column", wiring.indices)):
            self.register_buffer(name, torch.from_numpy(index.astype(np.int64)).to(device))
        with warnings.catch_warnings():  # once, that sparse matrices are in beta and not checked
            warnings.simplefilter("ignore")
            self.matrix()

    def matrix(self) -> Tensor:
        """Return the sparse matrix."""
        if self.is_blocked:
            return torch.sparse_bsr_tensor(self.crow, self.column, self.weight, self.shape)
        return torch.sparse_csr_tensor(self.crow, self.column, self.weight, self.shape)

    def forward(self, x: Tensor) -> Tensor:
        """Return x Wᵀ, ``[b, out_features]``, from ``[b, in_features]``."""
        y: Tensor = torch.sparse.mm(self.matrix(), x.t()).t()
        return y


class TrainingStep:
    """One training step of a layer: forward, backward to weights and input, and Adam.

    Args:
        layer: to train.
        x: its input, ``[b, in_features]``.
        incoming: gradient of its output.
        learns_input: whether the input wants its gradient.
    """

    def __init__(self, layer: nn.Module, x: Tensor, incoming: Tensor, *, learns_input: bool = True) -> None:
        self.layer = layer
        self.optimizer = torch.optim.Adam(layer.parameters(), fused=True)
        self._x = x.detach().clone().requires_grad_(learns_input)
        self._incoming = incoming

    def __call__(self) -> None:
        """Do one."""
        self.optimizer.zero_grad(set_to_none=True)
        self._x.grad = None
        self.layer(self._x).backward(self._incoming)
        self.optimizer.step()


def draw(*shape: int, name: str, device: str = "cpu", dtype: torch.dtype | None = None) -> Tensor:
    """Return normal numbers from a stream of their own."""
    return torch.randn(shape, generator=stream(0, name)).to(device=device, dtype=dtype)


class Masked(nn.Module):
    """A dense layer whose weights are multiplied with a mask whenever it is called, as sparse training is published.

    Args:
        weight: dense, ``[out_features, in_features]``.
        bias: ``[out_features]`` or None.
        mask: 1 where there is a connection; None: everywhere.
    """

    mask: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, mask: Tensor | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.register_buffer("mask", None if mask is None else mask.to(weight))

    @classmethod
    def of(cls, layer: nn.Module) -> "Masked":
        """Return the same layer as another one, sparse or dense, masked."""
        if isinstance(layer, SparseLinear):
            return cls(layer.dense_weight(), layer.bias, layer.wiring.mask())
        if isinstance(layer, nn.Linear):
            return cls(layer.weight, layer.bias, None)
        raise TypeError(f"Masked.of: layer must be a SparseLinear or an nn.Linear, got {type(layer).__name__}")

    def forward(self, x: Tensor) -> Tensor:
        """Return x (W ⊙ M)ᵀ + b."""
        return F.linear(x, self.weight if self.mask is None else self.weight * self.mask, self.bias)
