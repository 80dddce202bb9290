"""A convolution of any wiring: the same connections at every place of an image."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuropil.connect.kernels import choose_kernel
from neuropil.connect.linear import SparseLinear
from neuropil.connect.wiring import Wiring

Size = int | tuple[int, int]


class SparseConv2d(nn.Module):
    """Apply a two-dimensional convolution whose connections are given by a wiring.

    :attr:`synapses`, a :class:`SparseLinear`, connects the *taps* of a patch, (channel, row, column), to the channels
    that come out. So all that is known of sparse layers goes for this one: its kernels, rewiring, silence, checkpoints,
    measures. (Rewiring by activity takes what comes out for the activity of the targets, before any non-linearity.)

    How it is computed follows from the kernel: ``blocks`` of whole filters are one dense convolution for each row of
    blocks, with the channels that it reads; ``masked`` is a dense one; all others multiply a matrix of all patches
    (``F.unfold``), which takes ``kernel height × width`` times the input's memory. ``auto`` takes ``blocks`` from 32
    channels in a block on, and ``masked`` otherwise: a training step of 256 → 256 channels, 3 × 3, 8 × 8 places, batch
    64, two cores, takes 0.5 of a dense one's time at 75 % sparsity in eight groups, 0.3 at 87.5 %; with fewer channels
    there is little to gain, and single taps are slower than a dense convolution (``synapses`` saves memory, though).
    While hooks watch :attr:`synapses`, as rewiring and measures do now and then, patches are multiplied.

    Args:
        wiring: who connects to whom, from the ``channels · height · width`` taps of a kernel to the channels that come
            out; or from channels to channels, where each connection stands for a whole filter, see :func:`filters`.
        in_channels: channels of an image.
        kernel_size, stride, padding, dilation: numbers, or (height, width), as for ``nn.Conv2d``, zeros around.
        bias, kernel, generator, device, dtype: as for :class:`SparseLinear`.

    Attributes:
        synapses: the layer that maps patches to channels; its weights are trained, and its wiring may be rewired.

    Shape:
        ``[b, in_channels, height, width]`` → ``[b, out_channels, height', width']``.

    Raises:
        ValueError: the wiring is neither from channels nor from taps, a size is out of range; at the call: the input
            has other channels, or is smaller than the kernel.

    Reference:
        The wiring of whole filters by groups is ours; unstructured taps are what RigL (arXiv 1911.11134) trains.

    Example:
        >>> from neuropil.connect import Ensembles
        >>> generator = torch.Generator().manual_seed(0)
        >>> wiring = Ensembles(n_groups=4, block=("group", 1)).wire(16, 32, generator=generator)
        >>> layer = SparseConv2d(wiring, 16, kernel_size=3, padding=1, generator=generator)
        >>> layer(torch.ones(2, 16, 8, 8)).shape
        torch.Size([2, 32, 8, 8])
    """

    def __init__(
        self,
        wiring: Wiring,
        in_channels: int,
        kernel_size: Size,
        *,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        bias: bool = True,
        kernel: str = "auto",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.kernel_size, self.stride = _pair("kernel_size", kernel_size, 1), _pair("stride", stride, 1)
        self.padding, self.dilation = _pair("padding", padding, 0), _pair("dilation", dilation, 1)
        taps = in_channels * self.kernel_size[0] * self.kernel_size[1]
        if wiring.in_features == in_channels != taps:
            wiring = filters(wiring, self.kernel_size)
        if wiring.in_features != taps:
            raise ValueError(
                f"SparseConv2d: the wiring must be from {in_channels} channels or from {taps} taps, got {wiring!r}"
            )
        if kernel == "auto" and choose_kernel(wiring, device=device).name == "synapses":
            kernel = "masked"
        self.synapses = SparseLinear(wiring, bias=bias, kernel=kernel, generator=generator, device=device, dtype=dtype)
        self.synapses.taps = self.kernel_size[0] * self.kernel_size[1]
        self._known: tuple[Wiring, _Rows | None] | None = None

    @property
    def out_channels(self) -> int:
        """Number of channels that come out."""
        return self.synapses.out_features

    @property
    def wiring(self) -> Wiring:
        """Who connects to whom, from taps to channels."""
        return self.synapses.wiring

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of images ``[b, in_channels, height, width]``."""
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"SparseConv2d: images must have the shape [b, {self.in_channels}, height, width], got {list(x.shape)}"
            )
        sizes = zip(x.shape[2:], self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        height, width = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in sizes
        )
        if min(height, width) < 1:
            raise ValueError(
                f"SparseConv2d: images must be at least as large as the kernel, got {list(x.shape)} for {self!r}"
            )
        if not _is_watched(self.synapses):
            if self.synapses.kernel == "masked":
                return F.conv2d(x, self.dense_weight(), self.synapses.bias, self.stride, self.padding, self.dilation)
            if (rows := self._rows_of_filters()) is not None:
                return self._convolve(x, rows)
        patches = F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)
        y: Tensor = self.synapses(patches.transpose(1, 2))
        return y.transpose(1, 2).reshape(len(x), self.out_channels, height, width)

    def _rows_of_filters(self) -> "_Rows | None":
        """Return what each row of blocks reads, where blocks are whole filters that kernel ``blocks`` computes."""
        if self.synapses.kernel != "blocks":
            return None
        if self._known is None or self._known[0] is not self.wiring:
            self._known = self.wiring, _rows_of_filters(self.wiring, self.kernel_size[0] * self.kernel_size[1])
        rows = self._known[1]
        return None if rows is None else rows.to(self.synapses.weight.device)

    def _convolve(self, x: Tensor, rows: "_Rows") -> Tensor:
        """Convolve the channels that each row of blocks reads."""
        weight, outputs = self.synapses.effective_weight(), []
        for channels, own in zip(rows.channels, torch.split(weight, rows.n_blocks), strict=True):
            filters = own.permute(2, 0, 1).reshape(own.shape[2], len(channels), *self.kernel_size)
            read = x.index_select(1, channels)
            outputs.append(F.conv2d(read, filters, None, self.stride, self.padding, self.dilation))
        y = torch.cat(outputs, 1)
        if rows.targets is not None:
            y = y.index_select(1, rows.targets)
        bias = self.synapses.bias
        return y if bias is None else y + bias[:, None, None]

    def dense_weight(self) -> Tensor:
        """Return the weights as ``nn.Conv2d`` has them, ``[out_channels, in_channels, height, width]``."""
        return self.synapses.dense_weight().view(self.out_channels, self.in_channels, *self.kernel_size)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows of the layer."""
        shown = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0, 0):
            shown += f", padding={self.padding}"
        return shown if self.dilation == (1, 1) else f"{shown}, dilation={self.dilation}"


def synapses_of_convolutions(model: nn.Module) -> set[SparseLinear]:
    """Return the layers that are part of a model's sparse convolutions, to tell them from layers of their own."""
    return {part.synapses for part in model.modules() if isinstance(part, SparseConv2d)}


@dataclass(frozen=True)
class _Rows:
    """The rows of blocks of a wiring of filters.

    Attributes:
        n_blocks: of each row.
        channels: that each row reads, int64.
        targets: row by row, where each channel that comes out is among all rows' channels; None: where it is.
    """

    n_blocks: list[int]
    channels: list[Tensor]
    targets: Tensor | None

    def to(self, device: torch.device) -> "_Rows":
        """Return the same on a device."""
        if not self.channels or self.channels[0].device == device:
            return self
        targets = None if self.targets is None else self.targets.to(device)
        return _Rows(self.n_blocks, [channels.to(device) for channels in self.channels], targets)


def _rows_of_filters(wiring: Wiring, taps: int) -> _Rows | None:
    """Return what each row of blocks reads; None where blocks are not of whole filters, or a row reads nothing."""
    if wiring.is_padded or wiring.block[1] % taps:
        return None
    order = wiring.in_order.reshape(-1, taps)
    n_blocks = np.diff(wiring.indptr)
    if (order != order[:, :1] + np.arange(taps)).any() or (order[:, 0] % taps).any() or not n_blocks.all():
        return None
    by_block = (order[:, 0] // taps).reshape(-1, wiring.block[1] // taps).astype(np.int64)
    read = torch.from_numpy(by_block[wiring.block_columns].ravel())
    targets = np.argsort(wiring.out_order, kind="stable")
    return _Rows(
        n_blocks.tolist(),
        list(torch.split(read, (n_blocks * by_block.shape[1]).tolist())),
        None if np.array_equal(targets, np.arange(len(targets))) else torch.from_numpy(targets),
    )


def _is_watched(layer: nn.Module) -> bool:
    """Return whether hooks want to see the calls of a layer."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def filters(wiring: Wiring, kernel_size: Size) -> Wiring:
    """Return the wiring of taps in which each connection between channels is a whole filter.

    Its blocks are those of ``wiring``, ``height · width`` times as many columns wide: a filter is drawn, stored,
    computed and rewired as one.

    Args:
        wiring: from channels to channels.
        kernel_size: of the filters.

    Example:
        >>> filters(Wiring(2, 2, [0, 1], [1, 0]), 3)
        Wiring(18 → 2, block=(1, 9), density=0.5, n_connections=18)
    """
    height, width = _pair("kernel_size", kernel_size, 1)
    taps = height * width
    order = wiring.in_order.astype(np.int64)[:, None] * taps + np.arange(taps)
    return Wiring(
        wiring.in_features * taps,
        wiring.out_features,
        wiring.block_rows,
        wiring.block_columns,
        block=(wiring.block[0], wiring.block[1] * taps),
        out_order=wiring.out_order,
        in_order=np.where(wiring.in_order[:, None] < 0, -1, order).ravel(),
        out_groups=wiring.out_groups,
        in_groups=None if wiring.in_groups is None else np.repeat(wiring.in_groups, taps),
    )


def _pair(name: str, size: Size, least: int) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(one, int) and one >= least for one in pair):
        raise ValueError(
            f"SparseConv2d: {name} must be a whole number of at least {least}, or two of them, got {size!r}"
        )
    return pair[0], pair[1]
