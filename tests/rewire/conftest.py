"""Small networks whose insides can be seen, and naive ways to look at wirings; fixtures hand out the functions."""

import numpy as np
import pytest
import torch
from torch import nn

from neuropil.connect import SparseLinear


class Net(nn.Module):
    """Sparse layers with activations in between and a dense head; keeps what each layer reads, gives and gets back."""

    def __init__(self, wirings, *, n_classes=3, dtype=torch.float32, seed=0, activation=nn.ReLU):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        layers = [SparseLinear(wiring, generator=generator, dtype=dtype) for wiring in wirings]
        self.layers = nn.ModuleList(layers)
        self.activations = nn.ModuleList(activation() for _ in layers)
        self.head = nn.Linear(layers[-1].out_features, n_classes, dtype=dtype)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.5)
        self.seen = []  # of each call: for each layer its input, its output, and its targets' activity

    def forward(self, x):
        call = []
        for layer, activation in zip(self.layers, self.activations, strict=True):
            y = layer(x)
            if y.requires_grad:
                y.retain_grad()
            post = activation(y)
            call.append((x.detach().clone(), y, post.detach().clone()))
            x = post
        self.seen.append(call)
        return self.head(x)


def batch_of(model, generator, *, n=7):
    """A batch of images and labels for a network."""
    layer = next(module for module in model.modules() if isinstance(module, SparseLinear))
    x = torch.rand(n, layer.in_features, generator=generator).to(layer.weight.dtype)
    return x, torch.randint(3, (n,), generator=generator)


def learn(model, optimizer, generator, *, n=7, zero=True):
    """One step of training on random data, the rewirer's not included; return the loss."""
    x, y = batch_of(model, generator, n=n)
    if zero:
        optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


def laid_out(layer, values):
    """Lay values shaped like a layer's weight out as a matrix ``[out, in]``, 0 where nothing is stored."""
    targets, sources = (side.expand(layer.weight.shape) for side in layer.weight_units())
    real = (targets >= 0) & (sources >= 0)
    dense = torch.zeros(layer.wiring.shape, dtype=values.dtype)
    dense[targets[real], sources[real]] = values.detach()[real]
    return dense


def cells_of(wiring):
    """The cells of a wiring's blocks as a set, after a check that rows are stored as they should be."""
    n_rows, n_columns = wiring.grid
    assert wiring.indptr[0] == 0
    assert wiring.indptr[-1] == len(wiring.indices)
    assert len(wiring.indptr) == n_rows + 1
    cells = []
    for row in range(n_rows):
        columns = wiring.indices[wiring.indptr[row] : wiring.indptr[row + 1]].tolist()
        assert columns == sorted(set(columns))  # ascending, none twice
        assert all(0 <= column < n_columns for column in columns)
        cells += [row * n_columns + column for column in columns]
    assert len(cells) == wiring.n_blocks
    return set(cells)


def members(wiring, row, column):
    """The target and source neurons of one cell of the grid."""
    (height, width) = wiring.block
    targets = [o for o in wiring.out_order[row * height : (row + 1) * height].tolist() if o >= 0]
    sources = [i for i in wiring.in_order[column * width : (column + 1) * width].tolist() if i >= 0]
    return targets, sources


def by_block(wiring, dense, reduction="mean"):
    """Reduce a matrix ``[out, in]`` to one number a cell of the grid: a loop over blocks."""
    n_rows, n_columns = wiring.grid
    scores = np.zeros((n_rows, n_columns))
    for row in range(n_rows):
        for column in range(n_columns):
            targets, sources = members(wiring, row, column)
            values = [float(dense[o, i]) for o in targets for i in sources]
            scores[row, column] = sum(values) / (len(values) if reduction == "mean" else 1)
    return scores


def within(wiring):
    """Cells whose neurons all belong to one and the same group."""
    n_rows, n_columns = wiring.grid
    inside = set()
    for row in range(n_rows):
        for column in range(n_columns):
            targets, sources = members(wiring, row, column)
            labels = {int(wiring.out_groups[o]) for o in targets} | {int(wiring.in_groups[i]) for i in sources}
            if len(labels) == 1:
                inside.add(row * n_columns + column)
    return inside


def assert_largest(chosen, candidates, scores, n):
    """Check that n of the candidates were chosen, none of which scores less than one that was not."""
    chosen, candidates, scores = set(chosen), set(candidates), np.asarray(scores).ravel()
    assert len(chosen) == n
    assert chosen <= candidates
    left = candidates - chosen
    if chosen and left:
        tolerance = 1e-5 * max(1e-3, float(np.abs(scores[sorted(candidates)]).max()))
        assert min(scores[c] for c in chosen) >= max(scores[c] for c in left) - tolerance


def assert_sound(layer):
    """Check that a layer computes its wiring, and that nothing is stored where nothing connects."""
    dense = laid_out(layer, layer.weight)
    assert torch.equal(dense, layer.dense_weight().detach())
    assert (dense[~layer.wiring.mask()] == 0).all()
    if layer.wiring.block != (1, 1):
        assert layer.weight.numel() == layer.wiring.n_blocks * np.prod(layer.wiring.block)
    targets, sources = (side.expand(layer.weight.shape) for side in layer.weight_units())
    assert (layer.weight[(targets < 0) | (sources < 0)] == 0).all()
    x = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(5)).to(layer.weight.dtype)
    expected = nn.functional.linear(x, dense, layer.bias)
    with torch.no_grad():  # no rewirer is to see it
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


class Tools:
    """Everything above under one name."""

    Net = Net
    batch_of = staticmethod(batch_of)
    learn = staticmethod(learn)
    laid_out = staticmethod(laid_out)
    cells_of = staticmethod(cells_of)
    members = staticmethod(members)
    by_block = staticmethod(by_block)
    within = staticmethod(within)
    assert_largest = staticmethod(assert_largest)
    assert_sound = staticmethod(assert_sound)


@pytest.fixture(scope="session")
def tools():
    return Tools
