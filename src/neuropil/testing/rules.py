"""That a rule of learning is as local as it says."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from neuropil.connect import SparseConv2d, SparseLinear
from neuropil.learn import LearningRule
from neuropil.learn.stages import Weighted

_TOLERANCE = 1e-4  # of an update, relative to its largest entry: what may come from rounding
_NULL = 1e-6  # relative singular values that count as zero


def assert_local(make_rule: Callable[[], LearningRule], x: Tensor, y: Tensor) -> list[str]:
    """Raise an ``AssertionError`` unless one step of a rule is as local as the rule says.

    * ``is_local``: in no call of a layer with weights, of the model or of the rule's own parts, does autograd's graph
      lead from the layer's input back to the parameters of another.
    * not ``transports_weights``: the weights of each linear layer are changed in ways that the inputs which it reads in
      this step do not show (orthogonal to all of them), so that nothing that is forwarded changes. The updates of all
      other weights must stay as they were. An error that comes back over the weights, by autograd or by hand, would
      change them.

    Args:
        make_rule: builds rule and model anew, the same each time; best in float64, with smooth activations.
        x, y: a batch with fewer samples than layers have inputs, else there is no such change of their weights.

    Returns:
        Names of the layers whose weights were changed.

    Raises:
        ValueError: the rule claims neither, or no layer's weights could be changed unseen.

    Example:
        >>> from neuropil.learn import FeedbackAlignment
        >>> def make():
        ...     generator = torch.Generator().manual_seed(0)
        ...     layers = [nn.Linear(8, 6, dtype=torch.float64), nn.Tanh(), nn.Linear(6, 3, dtype=torch.float64)]
        ...     for layer in layers[::2]:
        ...         nn.init.normal_(layer.weight, generator=generator)
        ...         nn.init.zeros_(layer.bias)
        ...     return FeedbackAlignment(nn.Sequential(*layers), generator=generator)
        >>> x = torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        >>> assert_local(make, x, torch.tensor([0, 1, 2, 0]))
        ['0', '2']
    """
    rule = make_rule()
    who = type(rule).__name__
    if not rule.is_local and rule.transports_weights:
        raise ValueError(f"assert_local: {who} claims to be local in no way: there is nothing to check")
    layers = _layers(rule)
    reads: dict[str, list[Tensor]] = {name: [] for name in layers}
    with _watched(rule, layers, reads):
        expected = _updates(rule, x, y)
    if rule.transports_weights:
        return []
    changed = []
    for name, layer in layers.items():
        unseen = _unseen_change(layer, reads[name]) if isinstance(layer, nn.Linear | SparseLinear) else None
        if unseen is None:
            continue
        changed.append(name)
        other = make_rule()
        with torch.no_grad():
            weight = _layers(other)[name].weight
            assert isinstance(weight, nn.Parameter)
            weight.add_(unseen)
        for key, update in _updates(other, x, y).items():
            if key == f"model.{name}.weight":  # which may decay
                continue
            scale = max(float(expected[key].abs().max()), 1e-12)
            error = float((update - expected[key]).abs().max()) / scale
            assert error <= _TOLERANCE, (
                f"{who} claims not to transport weights, but the update of {key} depends on those of {name}: it "
                f"differs by {error:.1g} of its largest entry"
            )
    if not changed:
        raise ValueError(
            "assert_local: the batch must have fewer samples than some linear layer has inputs, else no change of its "
            f"weights goes unseen, got {len(x)} samples"
        )
    return changed


def _layers(rule: LearningRule) -> dict[str, Weighted]:
    """Return the layers with weights of the model, by name; those of sparse convolutions count as one each."""
    found = {name: module for name, module in rule.model.named_modules() if isinstance(module, Weighted)}
    inner = {layer.synapses for layer in found.values() if isinstance(layer, SparseConv2d)}
    return {name: layer for name, layer in found.items() if layer not in inner}


def _updates(rule: LearningRule, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Make one step; return by how much each parameter, and whatever else is kept, has changed."""
    kept = {"model": rule.model, "parts": rule.parts}
    before = {f"{k}.{name}": p.detach().clone() for k, part in kept.items() for name, p in part.named_parameters()}
    rule.train()
    rule.step(x, y)
    after = {f"{k}.{name}": p.detach() for k, part in kept.items() for name, p in part.named_parameters()}
    return {name: after[name] - value for name, value in before.items()}


@contextmanager
def _watched(rule: LearningRule, layers: dict[str, Weighted], reads: dict[str, list[Tensor]]) -> Iterator[None]:
    """Note what layers read, and, of a rule that is local, refuse inputs that lead back to others' parameters."""
    owners = {
        id(parameter): name or "the model"
        for part in (rule.model, rule.parts)
        for name, module in part.named_modules()
        for parameter in module.parameters(recurse=False)
    }
    who = type(rule).__name__

    def watch(name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if name in reads:
                reads[name].append(inputs[0].detach())
            own = {id(parameter) for parameter in module.parameters()}
            for leaf in _leaves(inputs[0]) if rule.is_local else ():
                owner = owners.get(id(leaf))
                assert owner is None or id(leaf) in own, (
                    f"{who} claims to be local, but a gradient can go from layer {name!r} back to {owner!r}"
                )

        return note

    named = {**layers}
    for part_name, module in rule.parts.named_modules():
        if isinstance(module, Weighted):
            named[f"parts.{part_name}"] = module
    handles = [module.register_forward_pre_hook(watch(name)) for name, module in named.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _unseen_change(layer: nn.Linear | SparseLinear, reads: list[Tensor]) -> Tensor | None:
    """Return a change of a layer's weights, as they are stored, that none of its inputs shows; None: there is none.

    Of a sparse layer, each target's change is orthogonal to what its live connections read.
    """
    if not reads:
        return None
    inputs = torch.cat([one.reshape(-1, one.shape[-1]) for one in reads]).double()
    mask = layer.wiring.mask() if isinstance(layer, SparseLinear) else torch.ones(layer.weight.shape, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    change = torch.zeros(mask.shape, dtype=torch.float64)
    for target, live in enumerate(mask):
        seen = inputs[:, live]
        if not live.any():
            continue
        _, sizes, directions = torch.linalg.svd(seen, full_matrices=True)
        rank = int((sizes > _NULL * sizes.max()).sum()) if len(sizes) else 0
        free = directions[rank:]
        change[target, live] = torch.randn(len(free), dtype=torch.float64, generator=generator, device="cpu") @ free
    if not change.any():
        return None
    if isinstance(layer, nn.Linear):
        return change.to(layer.weight)
    stored = SparseLinear(layer.wiring, kernel=layer.kernel, bias=False, dtype=layer.weight.dtype)
    stored.copy_dense_weight(change.to(layer.weight))
    return stored.weight.detach()


def _leaves(tensor: Tensor) -> Iterator[Tensor]:
    """Give the tensors that autograd would send a tensor's gradient to."""
    if tensor.grad_fn is None:
        yield tensor
        return
    seen, ahead = {tensor.grad_fn}, [tensor.grad_fn]
    while ahead:
        node = ahead.pop()
        if hasattr(node, "variable"):
            yield node.variable
        for before, _ in node.next_functions:
            if before is not None and before not in seen:
                seen.add(before)
                ahead.append(before)
