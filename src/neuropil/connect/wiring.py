"""Who connects to whom between two layers, as an immutable value."""

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from neuropil.connect.block_grid import (
    IntArray,
    check_block,
    checked_groups,
    checked_order,
    compressed_rows,
    frozen,
    per_neuron,
    renumbered,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from scipy.sparse import csr_array


class Wiring:
    """The connections between two layers: a set of equal blocks, plus a permutation of each side.

    A block of shape ``(rows, columns)`` joins ``rows`` target neurons to ``columns`` source neurons, all to all.
    The block is the unit in which connections are drawn, stored, computed and rewired: ``(1, 1)`` is a single
    synapse, ``(group, 1)`` one source neuron that projects onto a whole target ensemble, ``(t, t)`` a tile,
    ``(group, group)`` ensemble to ensemble. Blocks lie on a grid over the *positions* of either side;
    ``out_order[p]`` is the target neuron at position ``p`` (−1: nobody, where a block reaches past a group of
    uneven size), likewise ``in_order`` for sources; for single synapses, whatever order they are given in, positions
    are neurons. Nothing in a wiring can be changed; rewiring makes a new one.

    Two wirings are equal when they join the same neurons in blocks of the same shape. In which order the blocks
    are stored, and how neurons are labelled with groups, plays no part.

    Args:
        in_features: number of source neurons, at least 1.
        out_features: number of target neurons, at least 1.
        block_rows: row of each block on the block grid, ``[n_blocks]``, in any order.
        block_columns: column of each block on the block grid, ``[n_blocks]``.
        block: shape ``(rows, columns)`` of every block.
        out_order: target neuron at each position, −1 for nobody; default: positions are neurons.
        in_order: source neuron at each position, −1 for nobody; default: positions are neurons.
        out_groups: group of each target neuron, ``[out_features]``, 0 to n_groups − 1; default: no groups.
        in_groups: group of each source neuron, ``[in_features]``; both sides or neither.

    Raises:
        ValueError: nothing is connected, a block lies outside the grid or is named twice, an order is not a
            permutation, or group labels do not fit.

    Example:
        >>> wiring = Wiring(4, 4, [0, 1], [0, 1], block=(2, 2))
        >>> wiring
        Wiring(4 → 4, block=(2, 2), density=0.5, n_connections=8)
        >>> wiring.mask().int().tolist()
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        block_rows: ArrayLike,
        block_columns: ArrayLike,
        *,
        block: tuple[int, int] = (1, 1),
        out_order: ArrayLike | None = None,
        in_order: ArrayLike | None = None,
        out_groups: ArrayLike | None = None,
        in_groups: ArrayLike | None = None,
    ) -> None:
        for name, value in (("in_features", in_features), ("out_features", out_features)):
            if value < 1:
                raise ValueError(f"Wiring: {name} must be at least 1, got {value}")
        check_block(block)
        self.in_features = int(in_features)
        self.out_features = int(out_features)
        self.block = (int(block[0]), int(block[1]))
        rows = checked_order("out_order", out_order, self.out_features, self.block[0])
        columns = checked_order("in_order", in_order, self.in_features, self.block[1])
        if (out_groups is None) != (in_groups is None):
            raise ValueError("Wiring: groups must be given for both sides or for neither, got one side only")
        self.out_groups = checked_groups("out_groups", out_groups, self.out_features)
        self.in_groups = checked_groups("in_groups", in_groups, self.in_features)
        grid = len(rows) // self.block[0], len(columns) // self.block[1]
        indptr, indices = compressed_rows(block_rows, block_columns, grid)
        if self.block == (1, 1):
            rows, columns, indptr, indices = renumbered(rows, columns, indptr, indices, self.shape)
        self.out_order, self.in_order, self.indptr, self.indices = rows, columns, indptr, indices
        self._check_connected()

    def _check_connected(self) -> None:
        if self.n_connections == 0:
            raise ValueError(
                f"Wiring: a layer must have at least one connection, got none between {self.in_features} and "
                f"{self.out_features} neurons; try a higher density"
            )

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            raise AttributeError(f"Wiring: {name} cannot be changed, a wiring is a value; make a new one")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Wiring: {name} cannot be removed, a wiring is a value; make a new one")

    # What it consists of

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the block grid."""
        return len(self.out_order) // self.block[0], len(self.in_order) // self.block[1]

    @property
    def shape(self) -> tuple[int, int]:
        """``(out_features, in_features)``, the shape of the mask and of dense weights."""
        return self.out_features, self.in_features

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return len(self.indices)

    @cached_property
    def block_rows(self) -> IntArray:
        """Row of each block on the grid, ``[n_blocks]``, ascending."""
        return frozen(np.repeat(np.arange(self.grid[0], dtype=np.int32), np.diff(self.indptr)))

    @property
    def block_columns(self) -> IntArray:
        """Column of each block on the grid, ``[n_blocks]``, ascending within a row."""
        return self.indices

    def cells(self) -> IntArray:
        """Return the cell of each block, row · columns of the grid + column, int64 ``[n_blocks]``, ascending."""
        n_rows, n_columns = self.grid
        cells = np.repeat(np.arange(n_rows) * n_columns, np.diff(self.indptr))
        cells += self.indices
        return cells

    @property
    def n_groups(self) -> int:
        """Number of groups (ensembles), 0 where neurons carry no group labels."""
        if self.out_groups is None or self.in_groups is None:
            return 0
        return int(max(self.out_groups.max(), self.in_groups.max())) + 1

    @cached_property
    def n_connections(self) -> int:
        """Number of connections between two neurons."""
        if not self.is_padded:
            return self.n_blocks * self.block[0] * self.block[1]
        return int(self.block_sizes().sum())

    def block_sizes(self) -> IntArray:
        """Return the number of connections in each block, int64 ``[n_blocks]``; padded ones have fewer."""
        if not self.is_padded:
            return np.full(self.n_blocks, self.block[0] * self.block[1], dtype=np.int64)
        rows = (self.out_order.reshape(self.grid[0], -1) >= 0).sum(axis=1)
        columns = (self.in_order.reshape(self.grid[1], -1) >= 0).sum(axis=1)
        sizes: IntArray = rows[self.block_rows].astype(np.int64) * columns[self.block_columns]
        return sizes

    @property
    def density(self) -> float:
        """Connections over possible connections, in (0, 1]."""
        return self.n_connections / (self.in_features * self.out_features)

    @property
    def is_padded(self) -> bool:
        """Whether some blocks reach past the neurons that exist (groups of uneven size)."""
        return len(self.out_order) > self.out_features or len(self.in_order) > self.in_features

    # What follows from it

    def fan_in(self) -> Tensor:
        """Number of sources of each target neuron, int64 ``[out_features]``."""
        per_row = np.diff(self.indptr) * self.block[1]
        if self.is_padded:
            columns = (self.in_order.reshape(self.grid[1], -1) >= 0).sum(axis=1)
            per_row = np.bincount(self.block_rows, weights=columns[self.block_columns], minlength=self.grid[0])
        return per_neuron(per_row, self.out_order, self.block[0], self.out_features)

    def fan_out(self) -> Tensor:
        """Number of targets of each source neuron, int64 ``[in_features]``."""
        per_column = np.bincount(self.block_columns, minlength=self.grid[1]) * self.block[0]
        if self.is_padded:
            rows = (self.out_order.reshape(self.grid[0], -1) >= 0).sum(axis=1)
            per_column = np.bincount(self.block_columns, weights=rows[self.block_rows], minlength=self.grid[1])
        return per_neuron(per_column, self.in_order, self.block[1], self.in_features)

    def connections(self) -> tuple[Tensor, Tensor]:
        """Target and source neuron of each connection, two int64 ``[n_connections]``, by target, then source."""
        rows, columns = self.block
        targets = self.out_order.reshape(-1, rows)[self.block_rows][:, :, None]
        sources = self.in_order.reshape(-1, columns)[self.block_columns][:, None, :]
        targets, sources = (side.ravel() for side in np.broadcast_arrays(targets, sources))
        real = (targets >= 0) & (sources >= 0)
        keys = targets[real].astype(np.int64) * self.in_features + sources[real]
        keys.sort()
        return torch.from_numpy(keys // self.in_features), torch.from_numpy(keys % self.in_features)

    def mask(self) -> Tensor:
        """Return the dense mask, bool ``[out_features, in_features]``: for checks and pictures."""
        mask = torch.zeros(self.shape, dtype=torch.bool, device="cpu")
        mask[self.connections()] = True
        return mask

    def to_scipy(self) -> "csr_array":
        """Return the wiring as a SciPy ``csr_array`` of ones, ``[out_features, in_features]``."""
        from scipy.sparse import csr_array

        targets, sources = (side.numpy() for side in self.connections())
        return csr_array((np.ones(len(targets), dtype=np.int8), (targets, sources)), shape=self.shape)

    def group_densities(self) -> Tensor:
        """Density between every two groups, float64 ``[n_groups, n_groups]``, target groups first.

        Raises:
            ValueError: the neurons carry no group labels.
        """
        if self.out_groups is None or self.in_groups is None:
            raise ValueError("Wiring.group_densities: neurons must carry group labels, this wiring has none")
        n = self.n_groups
        targets, sources = (side.numpy() for side in self.connections())
        pairs = self.out_groups[targets].astype(np.int64) * n + self.in_groups[sources]
        live = np.bincount(pairs, minlength=n * n).reshape(n, n)
        sizes = [np.bincount(side, minlength=n) for side in (self.out_groups, self.in_groups)]
        return torch.from_numpy(live / np.maximum(np.outer(*sizes), 1))

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the connections as a picture, neurons ordered by group, groups framed; return the axes."""
        from neuropil.connect.picture import plot_wiring

        return plot_wiring(self, ax)

    # Making one

    @classmethod
    def from_mask(
        cls,
        mask: ArrayLike | Tensor,
        *,
        block: tuple[int, int] = (1, 1),
        out_order: ArrayLike | None = None,
        in_order: ArrayLike | None = None,
        out_groups: ArrayLike | None = None,
        in_groups: ArrayLike | None = None,
    ) -> Self:
        """Read a wiring from a dense mask ``[out_features, in_features]``; non-zero means connected.

        Args:
            mask: the connections.
            block: shape of the blocks that the mask is made of.
            out_order, in_order, out_groups, in_groups: as for :class:`Wiring`.

        Raises:
            ValueError: the mask is not a matrix, is empty, or a block is only partly connected.
        """
        check_block(block)
        dense = (mask != 0).cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask) != 0
        if dense.ndim != 2:
            raise ValueError(f"Wiring.from_mask: mask must be a matrix [out, in], got shape {dense.shape}")
        out_features, in_features = dense.shape
        rows, columns = (checked_order(n, o, s, b) for n, o, s, b in (
            ("out_order", out_order, out_features, block[0]),
            ("in_order", in_order, in_features, block[1]),
        ))  # fmt: skip
        real = (rows >= 0)[:, None] & (columns >= 0)[None, :]
        blocks = (len(rows) // block[0], block[0], len(columns) // block[1], block[1])
        live, dead = ((real & (dense[rows][:, columns] == value)).reshape(blocks) for value in (True, False))
        some, every = live.any(axis=(1, 3)), ~dead.any(axis=(1, 3))
        partly = np.argwhere(some & ~every)
        if len(partly):
            raise ValueError(
                f"Wiring.from_mask: each block {tuple(block)} must be connected wholly or not at all, got "
                f"{len(partly)} that are partly connected, the first at block row {partly[0][0]}, block column "
                f"{partly[0][1]}; try block=(1, 1)"
            )
        block_rows, block_columns = np.nonzero(some)
        return cls(
            in_features,
            out_features,
            block_rows,
            block_columns,
            block=block,
            out_order=out_order,
            in_order=in_order,
            out_groups=out_groups,
            in_groups=in_groups,
        )

    def rewired(self, block_rows: ArrayLike, block_columns: ArrayLike) -> Self:
        """Return a wiring of the same neurons, block shape, orders and groups with other blocks."""
        return type(self)(
            self.in_features,
            self.out_features,
            block_rows,
            block_columns,
            block=self.block,
            out_order=self.out_order,
            in_order=self.in_order,
            out_groups=self.out_groups,
            in_groups=self.in_groups,
        )

    def with_rows(self, indptr: IntArray, indices: IntArray) -> Self:
        """Return a wiring as :meth:`rewired` does, from compressed rows that are taken as they are.

        Args:
            indptr: where each row of the grid starts in ``indices``, int64 ``[rows + 1]``.
            indices: columns, int32, ascending within a row: not checked, the caller vouches for it.

        Raises:
            ValueError: nothing is connected.
        """
        other = self.__new__(type(self))
        for name in ("in_features", "out_features", "block", "out_order", "in_order", "out_groups", "in_groups"):
            setattr(other, name, getattr(self, name))
        other.indptr, other.indices = frozen(indptr), frozen(indices)
        other._check_connected()
        return other

    # Storing it

    def to_tensors(self) -> dict[str, Tensor]:
        """Return all that is needed to build the wiring again, as a few small tensors.

        Takes 4 bytes a block, plus 8 a block row, plus 4 a neuron and side for orders and for groups.
        """
        named = {
            "shape": np.array([*self.shape, *self.block], dtype=np.int64),
            "indptr": self.indptr,
            "indices": self.indices,
            "out_order": self.out_order,
            "in_order": self.in_order,
            "out_groups": self.out_groups,
            "in_groups": self.in_groups,
        }
        return {name: torch.from_numpy(array.copy()) for name, array in named.items() if array is not None}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Build the wiring that :meth:`to_tensors` has described.

        Raises:
            ValueError: a tensor is missing, or they do not describe a wiring.
        """
        missing = {"shape", "indptr", "indices", "out_order", "in_order"} - set(tensors)
        if missing:
            raise ValueError(f"Wiring.from_tensors: {', '.join(sorted(missing))} must be given, got none")
        for name, tensor in tensors.items():
            if tensor.dtype not in (torch.int8, torch.int16, torch.int32, torch.int64):
                raise ValueError(f"Wiring.from_tensors: {name} must hold integers, got {tensor.dtype}")
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        shape, indptr = arrays["shape"], arrays["indptr"]
        if shape.shape != (4,):
            raise ValueError(f"Wiring.from_tensors: shape must hold four integers, got {shape.shape}")
        ends = (0, arrays["indices"].size)
        if indptr.ndim != 1 or len(indptr) < 1 or (indptr[0], indptr[-1]) != ends or (np.diff(indptr) < 0).any():
            raise ValueError(
                f"Wiring.from_tensors: indptr must ascend from 0 to the {ends[1]} indices, got other values"
            )
        return cls(
            int(shape[1]),
            int(shape[0]),
            np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)),
            arrays["indices"],
            block=(int(shape[2]), int(shape[3])),
            out_order=arrays["out_order"],
            in_order=arrays["in_order"],
            out_groups=arrays.get("out_groups"),
            in_groups=arrays.get("in_groups"),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the wiring to a ``.safetensors`` file."""
        from safetensors.torch import save_file

        save_file(self.to_tensors(), path, metadata={"neuropil": json.dumps({"kind": "wiring", "version": 1})})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a wiring that :meth:`save` has written.

        Raises:
            ValueError: the file is missing, damaged, or holds something else.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if not Path(path).is_file():
            raise ValueError(f"Wiring.load: path must name a file, got {os.fspath(path)!r}, which is none")
        try:
            return cls.from_tensors(load_file(path))
        except (SafetensorError, ValueError) as error:
            raise ValueError(f"Wiring.load: {os.fspath(path)!r} does not hold a wiring: {error}") from error

    # Comparing and showing it

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Wiring):
            return NotImplemented
        if (self.shape, self.block, self.n_connections) != (other.shape, other.block, other.n_connections):
            return False
        stored = ("out_order", "in_order", "indptr", "indices")
        if all(np.array_equal(getattr(self, name), getattr(other, name)) for name in stored):
            return True
        return all(torch.equal(*pair) for pair in zip(self.connections(), other.connections(), strict=True))

    def __hash__(self) -> int:
        return hash((self.shape, self.block, self.n_connections))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_tensors, (self.to_tensors(),)

    def __repr__(self) -> str:
        groups = f", n_groups={self.n_groups}" if self.n_groups else ""
        deaf, unread = int((self.fan_in() == 0).sum()), int((self.fan_out() == 0).sum())
        notes = [f"{deaf} targets without input"] * bool(deaf) + [f"{unread} sources without target"] * bool(unread)
        return (
            f"Wiring({self.in_features} → {self.out_features}, block={self.block}{groups}, "
            f"density={self.density:.4g}, n_connections={self.n_connections}"
            + "".join(f", {note}" for note in notes)
            + ")"
        )
