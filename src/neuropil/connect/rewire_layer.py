"""What follows when a layer that is being trained is rewired."""

from torch import Tensor
from torch.optim import Optimizer

from neuropil.connect.change import Change
from neuropil.connect.linear import SparseLinear


def rewire_layer(layer: SparseLinear, optimizer: Optimizer, change: Change) -> None:
    """Change a layer's wiring; new blocks start at 0, and whatever the optimizer keeps of the weights follows.

    Raises:
        ValueError: the optimizer keeps something of the weights that is not shaped like them. Nothing is changed then.
    """
    shape, gradient = layer.weight.shape, layer.weight.grad
    for key, value in optimizer.state.get(layer.weight, {}).items():
        if isinstance(value, Tensor) and value.numel() > 1 and value.shape != shape:
            raise ValueError(
                f"Rewirer: an optimizer must keep what is shaped like a weight, or one number, got {key!r} of "
                f"shape {tuple(value.shape)} for {tuple(shape)}; try Adam, or another optimizer that does not factor"
            )
    layer.rewire(change)
    carried: dict[int, Tensor] = {}  # by where it lies: an optimizer may keep one tensor twice, or the gradient itself
    if gradient is not None and layer.weight.grad is not None:
        carried[gradient.data_ptr()] = layer.weight.grad
    state = optimizer.state.get(layer.weight, {})
    for key, value in state.items():
        if isinstance(value, Tensor) and value.dim() and value.shape == shape:
            if value.data_ptr() not in carried:
                carried[value.data_ptr()] = change.carry(value)
            state[key] = carried[value.data_ptr()]
