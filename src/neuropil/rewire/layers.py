"""The layers of a model that are rewired."""

from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer

from neuropil.connect import SparseLinear
from neuropil.connect.convert import check_not_shared


def layers_to_rewire(
    model: nn.Module, optimizer: Optimizer, skip: Sequence[str], *, who: str
) -> dict[str, SparseLinear]:
    """Return the sparse layers of a model by name, less those to skip.

    Args:
        model: holds the layers.
        optimizer: must train their weights.
        skip: names of sparse layers that stay as they are.
        who: named in errors.

    Raises:
        ValueError: no layer is left, a name to skip is not that of one, or the optimizer lacks weights.
    """
    found = {name: layer for name, layer in model.named_modules() if isinstance(layer, SparseLinear)}
    skip = (skip,) if isinstance(skip, str) else skip
    unknown = [name for name in skip if name not in found]
    if unknown:
        raise ValueError(
            f"{who}: skip must name sparse layers of the model, got {unknown[0]!r}; it has {', '.join(found)}"
        )
    layers = {name: layer for name, layer in found.items() if name not in skip}
    for name, layer in layers.items():
        check_not_shared(who, model, name, layer.weight)
    if not layers:
        what = "only skipped ones" if found else "none"
        raise ValueError(
            f"{who}: the model must have sparse layers, got {what}; try neuropil.connect.sparsify(model, pattern)"
        )
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name, layer in layers.items():
        if id(layer.weight) not in held:
            raise ValueError(
                f"{who}: the optimizer must hold the weights of every sparse layer, got one without {name!r}; "
                "make it from model.parameters() after sparsify, or name the layer in skip"
            )
    return layers
