"""The layers with weights that a batch passes one after the other, and what each of them reads."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from neuropil.connect import SparseConv2d, SparseLinear
from neuropil.evaluation import run_watched

Convolution = nn.Conv2d | SparseConv2d
Weighted = nn.Linear | SparseLinear | Convolution
Pool = nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveMaxPool2d | nn.AdaptiveAvgPool2d

_INPUT = "the model's input"


@dataclass
class Call:
    """One call of a layer with weights.

    Attributes:
        name: of the layer in the model.
        layer: the layer.
        reads: its input.
        gives: its output.
        pools: what pools the output before the next layer reads it, each with the shapes before and after.
    """

    name: str
    layer: Weighted
    reads: Tensor
    gives: Tensor
    pools: list[tuple[Pool, torch.Size, torch.Size]] = field(default_factory=list)


def is_convolution(layer: nn.Module) -> TypeGuard[Convolution]:
    """Say whether a layer reads images."""
    return isinstance(layer, Convolution)


def weight_chain(model: nn.Module, x: Tensor) -> list[Call]:
    """Run a batch through a model in evaluation mode; return its layers with weights, in the order of their calls.

    While the hooks are in place, every layer hands on a copy of its output that autograd takes for a beginning, so the
    graph behind the next layer's input tells which outputs that input is made of. No gradient is computed; memory
    is that of a training step's forward pass. Spikes that an encoder draws have no such graph: where
    else than into the first layer they go is not seen.

    Raises:
        ValueError: the layers are not a chain, in which each reads what the one before gives, and nothing else.
    """
    layers = {module: name for name, module in model.named_modules() if isinstance(module, Weighted)}
    parts = {part for layer in layers for part in layer.modules() if part is not layer}
    calls: list[Call] = []
    origins: dict[int, str] = {}  # of each beginning, by its id; `beginnings` keeps them alive
    beginnings: list[Tensor] = []

    def begin(tensor: Tensor, name: str) -> Tensor:
        beginning = tensor.detach().clone()
        if not beginning.is_floating_point():
            return beginning
        beginnings.append(beginning.requires_grad_())
        origins[id(beginning)] = name
        return beginning.clone()  # layers that work in place may not touch a beginning itself

    def watch(part: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> Tensor | None:
        if isinstance(part, Weighted):
            reads = (*inputs, *named.values())[0]
            name = layers[part]
            if any(call.layer is part for call in calls):
                raise ValueError(f"emergence: each layer must be called once, got several calls of {_told(name, part)}")
            _check_source(reads, origins, calls, f"the input of {_told(name, part)}")
            calls.append(Call(name, part, reads.detach(), output.detach()))
            return begin(output, _told(name, part))
        if isinstance(part, Pool) and calls:
            pooled = output[0] if isinstance(output, tuple) else output
            calls[-1].pools.append((part, (*inputs, *named.values())[0].shape, pooled.shape))
        return None

    def refuse(part: nn.Module, *_: Any) -> None:
        raise ValueError(
            f"emergence: weights must be those of linear layers and two-dimensional convolutions, got a "
            f"{type(part).__name__}"
        )

    others = [part for part in model.modules() if part not in parts and not isinstance(part, Weighted)]
    pools = [part for part in others if isinstance(part, Pool)]
    outputs: list[Any] = []

    def keep(_: nn.Module, __: Any, ___: Any, output: Any) -> None:
        outputs.append(output)

    watchers: list[tuple[nn.Module, Callable[..., Any]]] = [(part, refuse) for part in others if _connects(part)]
    watchers += [(part, watch) for part in (*layers, *pools) if part not in parts]
    watchers.append((model, keep))
    with torch.inference_mode(False), torch.enable_grad():
        run_watched(model, begin(x, _INPUT), watchers)
        if not calls:
            raise ValueError(
                f"emergence: the model must call a linear layer or a convolution, got a {type(model).__name__} "
                f"that calls none"
            )
        output = outputs[-1][0] if isinstance(outputs[-1], (tuple, list)) and outputs[-1] else outputs[-1]
        if isinstance(output, Tensor) and output.requires_grad:
            _check_source(output, origins, calls, "the model's output")
    return calls


def _told(name: str, layer: nn.Module) -> str:
    return f"{name!r}" if name else f"the {type(layer).__name__}"


def _connects(part: nn.Module) -> bool:
    """Say whether a module that is not known has weights of its own which may connect units."""
    if isinstance(part, (nn.LayerNorm, nn.RMSNorm)):
        return False
    return any(parameter.dim() > 1 for parameter in part.parameters(recurse=False))


def _check_source(tensor: Tensor, origins: dict[int, str], calls: list[Call], what: str) -> None:
    """Refuse a tensor that is not made of the last layer's output, the model's input before all, and of that alone."""
    found = {origins[id(leaf)] for leaf in _leaves(tensor) if id(leaf) in origins}
    wanted = _told(calls[-1].name, calls[-1].layer) if calls else _INPUT
    if found == {wanted} or not (calls or found):  # an encoder may draw spikes, which no gradient passes
        return
    read = " and ".join(sorted(found)) or "nothing that gradients could flow back to"
    raise ValueError(
        f"emergence: layers must form a chain, without branches and residual connections, but {what} must come from "
        f"{wanted} alone and comes from {read}"
    )


def _leaves(tensor: Tensor) -> Iterable[Tensor]:
    """Return the tensors that autograd would send a tensor's gradient to."""
    if tensor.grad_fn is None:
        return [tensor]
    seen, ahead, leaves = {tensor.grad_fn}, [tensor.grad_fn], []
    while ahead:
        node = ahead.pop()
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        for before, _ in node.next_functions:
            if before is not None and before not in seen:
                seen.add(before)
                ahead.append(before)
    return leaves
