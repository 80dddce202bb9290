"""A linear layer of any wiring, which stores and trains its live weights."""

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from neuropil.connect.change import Change
from neuropil.connect.kernels import choose_kernel, explain
from neuropil.connect.kernels.gathering import Gathering, gathering_on
from neuropil.connect.kernels.input_gradient import check_input_gradient
from neuropil.connect.kernels.kernel import is_single
from neuropil.connect.needed import pass_on
from neuropil.connect.storage import as_stored, drawn
from neuropil.connect.synapses import Synapses
from neuropil.connect.wiring import Wiring


class SparseLinear(nn.Module):
    """Apply a linear map whose connections are given by a wiring: y = x Wᵀ + b, W zero where nothing connects.

    Live connections may be :meth:`silent <set_silent>`: they have a weight that learns, but transmit nothing.

    Args:
        wiring: who connects to whom.
        bias: whether each target neuron has a bias.
        kernel: how the product is computed: ``auto`` (the fastest that is measured for the wiring), ``blocks``
            (gathered dense products, for blocks larger than one synapse), ``synapses`` (single synapses, from their
            live weights alone), ``events`` (what is zero in the input, such as the silence of spiking neurons, is
            skipped) or ``masked`` (the dense reference). :meth:`explain` says what was chosen, and why.
        input_gradient: how the gradient of the input is computed, with kernel ``events``: ``full``; ``needed`` (only
            where the neurons that made the input let it pass, as :class:`neuropil.units.LIF` with a ``Boxcar`` or
            ``Triangle`` does; elsewhere it is left at 0, where those neurons multiply it by 0: gradients of
            everything before them are the same, only what is read of the spikes' own gradient is not); ``bfloat16``
            (float32 factors and sums are rounded to 8 bits: an error of up to 2⁻⁷ Σ |g w| in each entry; meant for
            processors with matrix units, and not yet measured on one).
        generator: where the initial weights come from; default: PyTorch's default generator.
        device: where the parameters live.
        dtype: floating-point type of the parameters.

    Attributes:
        weight: the live weights, ``[n_blocks, columns, rows]``, in the order of ``wiring.block_rows``: whatever a row
            of blocks reads is then one contiguous matrix. Where the layer :attr:`stores_dense`, the matrix
            ``[out_features, in_features]``, zero where nothing connects; those entries get no gradient.
        bias: ``[out_features]`` or None.

    Shape:
        ``[..., in_features]`` → ``[..., out_features]``.

    Raises:
        ValueError: the kernel is unknown or cannot compute the wiring; at the call: the input has other features.

    Reference:
        G2GNet, arXiv 2508.14140, for ``block=(1, 1)`` with ``kernel="masked"`` and the initial weights of
        :meth:`reset_parameters`; other blocks are ours.

    Example:
        >>> from neuropil.connect import Ensembles
        >>> generator = torch.Generator().manual_seed(0)
        >>> wiring = Ensembles(n_groups=4, block=("group", 1)).wire(64, 128, generator=generator)
        >>> layer = SparseLinear(wiring, generator=generator)
        >>> layer(torch.ones(2, 64)).shape
        torch.Size([2, 128])
    """

    taps = 1  # sources in a row that are one unit, seen at as many places: the taps of a channel in a convolution
    weight: nn.Parameter
    bias: nn.Parameter | None
    _wiring: Wiring
    _synapses: Synapses | None  # single synapses that are not stored as a matrix
    _mask: Tensor | None
    _gather: Tensor | None
    _gathering: Gathering | None  # the same for a GPU
    _scatter: Tensor | None
    _silence: Tensor | None  # 1 where a live weight is silent, else 0; broadcasts to the shape of weight

    def __init__(
        self,
        wiring: Wiring,
        *,
        bias: bool = True,
        kernel: str = "auto",
        input_gradient: str = "full",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._kernel, self._is_forced, self._built_on = choose_kernel(wiring, kernel, device), kernel != "auto", device
        self._stores_dense = is_single(wiring) and self._kernel.stores_dense(wiring, input_gradient)
        check_input_gradient(
            "SparseLinear",
            input_gradient,
            kernel=self._kernel.name,
            block=wiring.block,
            stores_dense=self._stores_dense,
        )
        self.input_gradient = input_gradient
        self.weight = nn.Parameter(torch.empty(self._weight_shape(wiring), device=device, dtype=dtype))
        self.register_parameter(
            "bias", nn.Parameter(torch.empty(wiring.out_features, device=device, dtype=dtype)) if bias else None
        )
        for name in ("_mask", "_gather", "_scatter", "_silence"):
            self.register_buffer(name, None, persistent=False)
        self._synapses = None
        self._set_wiring(wiring)
        self.reset_parameters(generator)

    # Wiring

    @property
    def wiring(self) -> Wiring:
        """Who connects to whom."""
        return self._wiring

    @property
    def in_features(self) -> int:
        """Number of source neurons."""
        return self._wiring.in_features

    @property
    def out_features(self) -> int:
        """Number of target neurons."""
        return self._wiring.out_features

    @property
    def kernel(self) -> str:
        """Name of the kernel that computes the product."""
        return self._kernel.name

    @property
    def stores_dense(self) -> bool:
        """Whether ``weight`` is the dense matrix, which only single synapses may have; it follows from the kernel."""
        return self._stores_dense

    @property
    def synapses(self) -> Synapses | None:
        """Single synapses by target and by source, for compiled loops; None where weights are stored otherwise."""
        return self._synapses

    @property
    def index_bytes(self) -> int:
        """Bytes of what says who connects to whom, as the layer holds it for its forward product where it is now.

        Of a stored matrix, a mask of the weights' type; of single synapses, 4 a connection and 8 a target (if all are
        computed); of blocks, 8 a column of a row of blocks, and 8 a target, each only where neurons are not in order
        (4 each on a GPU). Silence has a number a block, of a matrix one an entry.
        """
        parts: tuple[Tensor | None, ...] = self._mask, self._gather, self._scatter
        if self._synapses is not None:
            parts = self._synapses.pointers, self._synapses.sources
        elif self._gathering is not None:
            parts = self._gathering.sources, self._gathering.stored, self._gathering.position
        return sum(part.numel() * part.element_size() for part in (*parts, self._silence) if part is not None)

    def explain(self) -> str:
        """Say which kernel computes the layer, how its weights are stored, why, and which kernels could do so too.

        Example:
            >>> layer = SparseLinear(Wiring.from_mask([[1, 0], [1, 1]]), kernel="masked")
            >>> for line in layer.explain().splitlines():
            ...     line
            'kernel: masked, forced by name'
            'storage: the dense matrix [2, 2], of which 3 entries are live (0.75)'
            'product: dense, with a mask'
            'others that can: events, synapses'
            'others that cannot: blocks (needs blocks larger than one synapse, got block=(1, 1))'
        """
        return explain(self, is_forced=self._is_forced, device=self._built_on)

    def _weight_shape(self, wiring: Wiring) -> tuple[int, ...]:
        return wiring.shape if self._stores_dense else (wiring.n_blocks, wiring.block[1], wiring.block[0])

    def rewire(self, wiring: Wiring | Change) -> Change:
        """Put another wiring in place: blocks that both have keep their weights, those that come start at 0.

        The parameter stays the same object, with another number of blocks where the wiring has one. Whatever else
        belongs to weights, such as the optimizer's moments, follows by :meth:`Change.carry` of what is returned;
        :class:`neuropil.rewire.Rewirer` does that.

        Silent blocks stay silent; those that come are not.

        Args:
            wiring: of the same neurons, order and block; or the change from this layer's wiring to it.

        Raises:
            ValueError: the wiring is of other neurons or blocks, or the change starts from another wiring.
        """
        change = Change.between(self._wiring, wiring) if isinstance(wiring, Wiring) else wiring
        if change.before is not self._wiring:
            raise ValueError("SparseLinear.rewire: the change must start from this layer's wiring, got another's")
        gradient = self.weight.grad
        self._set_weight(change.carry(self.weight.data))
        self.weight.grad = None if gradient is None else change.carry(gradient)
        if self._silence is not None:
            silence = change.carry(self._silence)
            self._silence = silence if bool(silence.any()) else None
        if self._mask is None:
            self._set_wiring(change.after)
        else:
            self._wiring = change.after
            change.fill(self._mask, came=1.0)
        return change

    def _set_weight(self, values: Tensor) -> None:
        """Give the parameter other values, of another number of blocks perhaps, without a gradient."""
        self.weight.grad = None
        if self.weight.shape != values.shape:
            # a node of an older graph may still stand for the parameter, with its old shape; a change of type
            # makes PyTorch forget that node
            other = torch.float32 if values.dtype == torch.float16 else torch.float16
            self.weight.data = torch.empty(0, dtype=other, device=values.device)
        self.weight.data = values

    def _set_wiring(self, wiring: Wiring) -> None:
        """Put a wiring in place that the weights fit."""
        self._wiring = wiring
        device = self.weight.device
        if self._stores_dense:
            self._mask = wiring.mask().to(device=device, dtype=self.weight.dtype)
            self._gathering = None
            return
        if is_single(wiring):
            self._gathering = None
            self._synapses = Synapses(wiring)
            return
        gather = wiring.in_order.reshape(-1, wiring.block[1])[wiring.block_columns].ravel().astype(np.int64)
        self._reads_nobody = bool((gather < 0).any())
        gather[gather < 0] = wiring.in_features
        in_order = np.array_equal(gather, np.arange(wiring.in_features))
        self._gather = None if in_order else torch.from_numpy(gather).to(device)
        position = np.empty(wiring.out_features, dtype=np.int64)
        real = wiring.out_order >= 0
        position[wiring.out_order[real]] = np.flatnonzero(real)
        in_order = len(real) == len(position) and np.array_equal(position, np.arange(len(position)))
        self._scatter = None if in_order else torch.from_numpy(position).to(device)
        _ = wiring.block_rows  # made once here: torch.compile cannot trace how
        self._columns_per_row = (np.diff(wiring.indptr) * wiring.block[1]).tolist()
        self._gathering = gathering_on(device, wiring, bias=self.bias is not None)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        is_stale = self._gathering is None or self._gathering.stored.device != self.weight.device
        if is_stale and not is_single(self._wiring):
            self._gathering = gathering_on(self.weight.device, self._wiring, bias=self.bias is not None)
        return self

    # Silent connections

    @property
    def silent(self) -> Tensor | None:
        """Which blocks are silent, bool ``[n_blocks]`` in the order of ``wiring.block_rows``; None: none of them is."""
        if self._silence is None:
            return None
        flat = self._silence.reshape(-1)
        if self._stores_dense:
            flat = flat.index_select(0, torch.from_numpy(self._wiring.cells()).to(flat.device))
        return flat != 0

    def set_silent(self, blocks: Tensor | None) -> None:
        """Say which live blocks transmit nothing, and let all others transmit.

        A silent block counts as 0 in the output and in the gradient of the input. Its weights get the gradient that
        they would get if they transmitted (straight through), and so learn what they could be good for; kernels
        compute them as zeros, so silence saves no time.

        Args:
            blocks: bool ``[n_blocks]``, in the order of ``wiring.block_rows``, which for single synapses is that of
                ``wiring.cells()``; None: nobody is silent.

        Raises:
            ValueError: there is not one bool for each block.

        Reference:
            S. Jayakumar et al., Top-KAST, arXiv 2106.03517, whose set B∖A this is.

        Example:
            >>> layer = SparseLinear(Wiring.from_mask([[1, 1]]), bias=False)
            >>> layer.copy_dense_weight(torch.tensor([[2.0, 3.0]]))
            >>> layer.set_silent(torch.tensor([False, True]))
            >>> y = layer(torch.tensor([10.0, 10.0]))
            >>> y.backward()
            >>> y.tolist(), layer.weight.grad.tolist()
            ([20.0], [[10.0, 10.0]])
        """
        wiring = self._wiring
        if blocks is not None and (blocks.dtype != torch.bool or tuple(blocks.shape) != (wiring.n_blocks,)):
            raise ValueError(
                f"SparseLinear.set_silent: blocks must be a bool for each of the {wiring.n_blocks} blocks, got "
                f"{blocks.dtype} of shape {tuple(blocks.shape)}"
            )
        if blocks is None or not bool(blocks.any()):
            self._silence = None
        elif self._stores_dense:
            silence = torch.zeros_like(self.weight, requires_grad=False)
            cells = torch.from_numpy(wiring.cells()).to(silence.device)
            self._silence = silence.view(-1).index_copy_(0, cells, blocks.to(silence)).view_as(silence)
        else:
            self._silence = blocks.to(self.weight).reshape(-1, 1, 1)

    @property
    def n_transmitting(self) -> int:
        """Number of connections that are live and not silent."""
        silent = self.silent
        if silent is None:
            return self._wiring.n_connections
        return int(self._wiring.block_sizes()[~silent.cpu().numpy()].sum())

    def effective_weight(self) -> Tensor:
        """Return the weights as they are transmitted, of the shape of ``weight``: those of silent blocks are 0.

        Gradients flow through to all of them.
        """
        if self._silence is None:
            return self.weight
        return torch.addcmul(self.weight, self.weight.detach(), self._silence, value=-1)

    # Weights

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw weights U(−b, b) with b = 1/√fan_in of each target neuron, and biases with 1/√(mean fan_in).

        This is PyTorch's own start of a dense layer, with the fan-in that each neuron really has; it equals G2GNet's
        (a dense start, each row's live weights multiplied by √(in_features / fan_in)).
        """
        fan_in = self._wiring.fan_in().clamp(min=1)
        with torch.no_grad():
            uniform = drawn(torch.rand, self.weight.shape, self._wiring, generator)
            bound = fan_in.to(torch.float64).rsqrt()
            self.weight.copy_(uniform.mul_(2).sub_(1).mul_(bound[self._weight_targets().clamp_(min=0)]))
            del uniform
            self.clear_dead_weights()
            if self.bias is not None:
                uniform = torch.rand(self.out_features, generator=generator, device="cpu", dtype=torch.float64) * 2 - 1
                self.bias.copy_(uniform / math.sqrt(self._wiring.fan_in().double().mean()))

    def weight_units(self) -> tuple[Tensor, Tensor]:
        """Return the target and the source neuron of every entry of ``weight``, two int64 tensors on the CPU.

        They broadcast to the shape of ``weight``; −1 marks an entry beyond the neurons that exist (groups of
        uneven size).
        """
        wiring = self._wiring
        if self._stores_dense:
            return self._weight_targets(), torch.arange(wiring.in_features, device="cpu")[None, :]
        sources = wiring.in_order.reshape(-1, wiring.block[1], 1)[wiring.block_columns]
        return self._weight_targets(), torch.from_numpy(sources.astype(np.int64))

    def _weight_targets(self) -> Tensor:
        """Return the target neuron of every entry of ``weight``, as :meth:`weight_units` does."""
        wiring = self._wiring
        if self._stores_dense:
            return torch.arange(wiring.out_features, device="cpu")[:, None]
        by_row = wiring.out_order.reshape(-1, 1, wiring.block[0]).astype(np.int64)
        return torch.from_numpy(np.repeat(by_row, np.diff(wiring.indptr), axis=0))

    @torch.no_grad()
    def clear_dead_weights(self) -> None:
        """Set to zero every stored entry that no connection uses."""
        if self._mask is not None:
            self.weight.mul_(self._mask)
        elif self._wiring.is_padded:
            targets, sources = self.weight_units()
            self.weight.mul_(((targets >= 0) & (sources >= 0)).to(self.weight.device))

    def dense_weight(self) -> Tensor:
        """Return W, ``[out_features, in_features]``, zero where nothing connects or is transmitted.

        Gradients flow through, to silent connections too.
        """
        weight = self.effective_weight()
        if self._mask is not None:
            return weight * self._mask
        wiring = self._wiring
        (grid_rows, grid_columns), (rows, columns) = wiring.grid, wiring.block
        at = tuple(torch.from_numpy(side.astype(np.int64)).to(self.weight.device)
                   for side in (wiring.block_rows, wiring.block_columns))  # fmt: skip
        blocks = self.weight.new_zeros(grid_rows, grid_columns, columns, rows).index_put(at, weight)
        dense = blocks.permute(0, 3, 1, 2).reshape(grid_rows * rows, grid_columns * columns)
        if self._scatter is not None:
            dense = dense.index_select(0, self._scatter)
        position = np.argsort(wiring.in_order, kind="stable")[len(wiring.in_order) - wiring.in_features :]
        return dense.index_select(1, torch.from_numpy(position).to(dense.device))

    @torch.no_grad()
    def copy_dense_weight(self, dense: Tensor) -> None:
        """Take the live weights, silent ones among them, from a dense matrix ``[out_features, in_features]``.

        Raises:
            ValueError: the matrix has another shape.
        """
        if tuple(dense.shape) != self._wiring.shape:
            raise ValueError(
                f"SparseLinear.copy_dense_weight: dense must have shape {self._wiring.shape}, got {tuple(dense.shape)}"
            )
        targets, sources = self.weight_units()
        self.weight.copy_(dense.cpu()[targets.clamp(min=0), sources.clamp(min=0)])
        self.clear_dead_weights()

    # Computing

    def forward(self, x: Tensor) -> Tensor:
        """Return x Wᵀ + b, ``[..., out_features]``, from ``[..., in_features]``."""
        if x.shape[-1] != self.in_features:
            raise ValueError(
                f"SparseLinear: the input's last dimension must be in_features={self.in_features}, got shape "
                f"{tuple(x.shape)}"
            )
        if x.dim() > 2 and len(x) > 1 and x.stride(0) == 0:  # the same at every time step: computed once
            once = self._compute(x[:1])
            return once.expand(len(x), *once.shape[1:])
        return self._compute(x)

    def _compute(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, self.in_features)
        if self.input_gradient == "needed":
            pass_on(x, flat)
        y: Tensor = self._kernel.product(self, flat)
        return y.reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows of the layer."""
        silent = ""
        if self._silence is not None:
            silent = f"silent={1 - self.n_transmitting / self._wiring.n_connections:.4g}, "
        missing = ""
        if self.kernel == "blocks" and self.weight.is_cuda and self._gathering is None:
            missing = " without Triton"
        gradient = "" if self.input_gradient == "full" else f", input_gradient={self.input_gradient}"
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, block={self._wiring.block}, "
            f"density={self._wiring.density:.4g}, {silent}bias={self.bias is not None}, kernel={self.kernel}{missing}"
            f"{gradient}"
        )

    # Storing: wiring and silence travel with the weights

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, tensor in self._wiring.to_tensors().items():
            destination[f"{prefix}wiring.{name}"] = tensor
        if (silent := self.silent) is not None:
            destination[f"{prefix}silent"] = silent

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        start, name = f"{prefix}wiring.", f"{prefix}weight"
        stored = {key.removeprefix(start): value for key, value in state_dict.items() if key.startswith(start)}
        if stored:
            try:
                self._take_wiring(Wiring.from_tensors(stored))
                if isinstance(weight := state_dict.get(name), Tensor):
                    # the same wiring may have been stored the other way
                    state_dict = {**state_dict, name: as_stored(weight, self._wiring, dense=self._stores_dense)}
            except ValueError as error:
                error_msgs.append(str(error))
        else:
            missing_keys.append(f"{start}indices")
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        self._set_wiring(self._wiring)  # the weights may have come to another device
        try:
            self.set_silent(state_dict.get(f"{prefix}silent"))
        except ValueError as error:
            error_msgs.append(str(error))
        unexpected_keys[:] = [key for key in unexpected_keys if not key.startswith(start) and key != f"{prefix}silent"]

    def _take_wiring(self, wiring: Wiring) -> None:
        """Make room for the weights of a stored wiring, whatever its number of blocks."""
        if (wiring.shape, wiring.block) != (self._wiring.shape, self._wiring.block):
            raise ValueError(
                f"SparseLinear: a stored wiring must be of this layer's sizes and block, {self._wiring!r}, got "
                f"{wiring!r}; build the layer from the stored wiring first"
            )
        if tuple(self.weight.shape) != self._weight_shape(wiring):
            self._set_weight(self.weight.new_zeros(self._weight_shape(wiring)).detach())
        self._set_wiring(wiring)
