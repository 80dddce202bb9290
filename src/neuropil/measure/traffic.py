"""What a network moves between memory and processor, and what energy that would take."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuropil.connect import SparseConv2d, SparseLinear
from neuropil.connect.conv import synapses_of_convolutions
from neuropil.evaluation import run_watched
from neuropil.measure.energy import DRAM_JOULES_PER_BYTE, SRAM_JOULES_PER_BYTE
from neuropil.measure.outputs import WEIGHT_LAYERS
from neuropil.measure.samples import check_batch


@dataclass(frozen=True)
class MemoryTraffic:
    """Bytes that the linear and convolutional layers of a network read and write in one forward pass of a batch.

    Weights and indices are read once, however large the batch: a larger one shares them.

    Attributes:
        batch_size: b.
        weight_bytes: W, weights and biases as they are stored.
        index_bytes: I, what says who connects to whom, as it is stored: see
            :attr:`neuropil.connect.SparseLinear.index_bytes`.
        input_bytes: X, activations that are read, of the whole batch.
        output_bytes: Y, activations that are written, of the whole batch.
    """

    batch_size: int
    weight_bytes: int
    index_bytes: int
    input_bytes: int
    output_bytes: int

    @property
    def bytes_per_sample(self) -> float:
        """(W + I + X + Y) / b: from W + I on for one sample alone, down to the activations of one for a large batch."""
        moved = self.weight_bytes + self.index_bytes + self.input_bytes + self.output_bytes
        return moved / self.batch_size

    @property
    def energy_joules(self) -> float:
        """Estimated energy of one sample if all of it is in main memory: 162.5 pJ a byte (45 nm, the lower end).

        The energy of arithmetic comes on top: :attr:`neuropil.measure.Cost.energy_joules`, or
        :attr:`neuropil.measure.SynapticWork.energy_joules` where spikes are additions and silence is skipped.
        """
        return DRAM_JOULES_PER_BYTE * self.bytes_per_sample

    @property
    def on_chip_energy_joules(self) -> float:
        """The same if all of it is in a cache of 1 MB: 12.5 pJ a byte."""
        return SRAM_JOULES_PER_BYTE * self.bytes_per_sample


@torch.no_grad()
def memory_traffic(model: nn.Module, batch: Tensor) -> MemoryTraffic:
    """Count the bytes that the layers of a model read and write; one forward pass finds what runs, and how often.

    Each call of a linear or convolutional layer reads its weights, its indices and its input, and writes its output,
    each once. This is the least that must move between layers that fit no cache: normalization, activations and
    neurons count as part of the layer before them; copies that a kernel makes on its way, such as gathered sources, do
    not count, nor does skipped silence (:func:`synaptic_work`). An input that is the same at every time step counts
    once.

    Args:
        model: any module.
        batch: what it takes, at least one sample. Traffic depends on its size: compare networks at an equal one.

    Returns:
        Numbers of at least 0. Cost: one forward pass.

    Raises:
        ValueError: there is no sample.

    Reference:
        Energy: M. Horowitz, ISSCC 2014, 10.1109/ISSCC.2014.6757323. The rule for what counts is ours.

    Example:
        >>> found = memory_traffic(nn.Linear(100, 10, bias=False), torch.ones(4, 100))
        >>> found
        MemoryTraffic(batch_size=4, weight_bytes=4000, index_bytes=0, input_bytes=1600, output_bytes=160)
        >>> found.bytes_per_sample
        1440.0
    """
    check_batch("memory_traffic", batch)
    weights = indices = read = written = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> None:
        nonlocal weights, indices, read, written
        weights += sum(_bytes(parameter) for parameter in layer.parameters())
        if isinstance(layer, SparseConv2d):
            layer = layer.synapses
        indices += layer.index_bytes if isinstance(layer, SparseLinear) else 0
        read += _bytes((*inputs, *named.values())[0])
        written += _bytes(output)

    inner = synapses_of_convolutions(model)
    counted = [layer for layer in model.modules() if isinstance(layer, WEIGHT_LAYERS) and layer not in inner]
    run_watched(model, batch, [(layer, count) for layer in counted])
    return MemoryTraffic(len(batch), weights, indices, read, written)


def _bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's numbers; those that an axis without a stride repeats lie in memory once."""
    sizes: list[Any] = [size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or not size]
    return int(torch.Size(sizes).numel()) * tensor.element_size()
