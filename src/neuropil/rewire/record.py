"""Writing down activity and gradients, in the few steps whose rules need them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neuropil.connect import SparseLinear

NEEDS = ("pre", "post", "gradient")
# modules that may stand between a layer and its activation
_PASSED = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
    nn.Dropout,
    nn.Identity,
)
_NOT_AN_ACTIVATION = (
    SparseLinear,
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,
    nn.Embedding,
    nn.Flatten,
    nn.Unflatten,
    nn.RNNBase,
    nn.RNNCellBase,
)


@dataclass
class Samples:
    """What one layer saw in one step: a row for each sample (and time step); None where nobody asked.

    Attributes:
        pre: its input, ``[samples, in_features]``.
        post: the activity of its targets, ``[samples, out_features]``.
        gradient: of the loss by its output, ``[samples, out_features]``.
    """

    pre: Tensor | None = None
    post: Tensor | None = None
    gradient: Tensor | None = None


@dataclass
class _Call:
    """One call of a layer, each tensor flattened only when the step is over."""

    pre: Tensor
    post: Tensor
    gradient: Tensor | None = None

    def keep_gradient(self, gradient: Tensor) -> None:
        """Add up what comes back; more than once where the output was differentiated more than once."""
        self.gradient = gradient.detach() if self.gradient is None else self.gradient + gradient.detach()


class _Hook:
    """A hook that records for one model alone: copies of the model, pickled ones too, have hooks that do nothing."""

    def __init__(self, record: Callable[..., None] | None = None) -> None:
        self._record = record

    def __call__(self, *call: Any) -> None:
        if self._record is not None:
            self._record(*call)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Hook":
        return _Hook()

    def __reduce__(self) -> tuple[type["_Hook"], tuple[()]]:
        return _Hook, ()


@dataclass
class Recorder:
    """Hooks on a model that are there only while they are needed.

    The activity of a layer's targets is what comes out of the activation module that takes the layer's output,
    normalization in between allowed; the last of these outputs where none does; or a function of the layer's own,
    if one is given. Calls in evaluation mode, or without gradients, are not recorded.

    Attributes:
        model: what is watched.
        layers: its sparse layers by name.
        activity: from a layer's output to its targets' activity; None: see above.
    """

    model: nn.Module
    layers: Mapping[str, SparseLinear]
    activity: Callable[[Tensor], Tensor] | None = None
    _wanted: frozenset[str] = frozenset()
    _calls: dict[str, list[_Call]] = field(default_factory=dict)
    _following: dict[int, tuple[Tensor, _Call]] = field(default_factory=dict)
    _handles: list[torch.utils.hooks.RemovableHandle] = field(default_factory=list)

    @property
    def is_on(self) -> bool:
        """Whether the hooks are in place."""
        return bool(self._handles)

    def start(self, needs: Iterable[str]) -> None:
        """Record from now on what is needed, of ``NEEDS``."""
        if self.is_on:
            return
        self._wanted = frozenset(needs)
        for name, layer in self.layers.items():
            self._handles.append(layer.register_forward_hook(_Hook(partial(self._keep, name)), with_kwargs=True))
        if "post" in self._wanted and self.activity is None:
            for module in self.model.modules():
                if not any(module.children()) and not isinstance(module, _NOT_AN_ACTIVATION):
                    self._handles.append(module.register_forward_hook(_Hook(self._follow), with_kwargs=True))

    def stop(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def collect(self) -> dict[str, Samples]:
        """Return what was recorded since the last time, by layer; forget it here."""
        collected = {name: _together(calls) for name, calls in self._calls.items()}
        self._calls.clear()
        self._following.clear()
        return collected

    def _keep(
        self, name: str, layer: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor
    ) -> None:
        if layer is not self.layers[name] or not layer.training or not torch.is_grad_enabled():
            return
        call = _Call(
            (*inputs, *named.values())[0].detach(),
            output.detach() if self.activity is None else self.activity(output.detach()),
        )
        self._calls.setdefault(name, []).append(call)
        if "post" in self._wanted and self.activity is None:
            self._following[id(output)] = (output, call)  # holds the output: its id stays its own
        if "gradient" in self._wanted and output.requires_grad:
            # an in-place activation would make another tensor of a view, and its hook would never be called; one that
            # is expanded over time has a smaller base, and cannot be written to
            base = output._base if output._is_view() else None
            whole = output if base is None or base.numel() < output.numel() else base
            whole.register_hook(call.keep_gradient)  # type: ignore[no-untyped-call]

    def _follow(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        taken = (*inputs, *named.values())
        followed = self._following.pop(id(taken[0]), None) if taken else None
        if followed is None:
            return
        call = followed[1]
        activity = output[0] if isinstance(output, tuple) else output
        if not isinstance(activity, Tensor) or activity.shape != followed[0].shape:
            return
        call.post = activity.detach()
        if isinstance(module, _PASSED):
            self._following[id(activity)] = (activity, call)


def _together(calls: list[_Call]) -> Samples:
    def rows(tensors: list[Tensor]) -> Tensor:
        return torch.cat([tensor.reshape(-1, tensor.shape[-1]).float() for tensor in tensors])

    # a call that the loss does not depend on gets no gradient: it counts as 0 if another one gets some
    some = any(call.gradient is not None for call in calls)
    gradients = [torch.zeros_like(call.post) if call.gradient is None else call.gradient for call in calls]
    return Samples(
        pre=rows([call.pre for call in calls]),
        post=rows([call.post for call in calls]),
        gradient=rows(gradients) if some else None,
    )
