"""A model as a function of what it trains: what measures of learning differentiate, without touching the model."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from neuropil.connect import SparseLinear
from neuropil.evaluation import evaluation_mode, same_draws
from neuropil.measure.samples import check_batch

Loss = Callable[[Tensor, Tensor], Tensor]


def live_entries(layer: SparseLinear, *, silent: bool = True) -> Tensor:
    """Return which entries of a sparse layer's weight are connections, bool of the weight's shape.

    Args:
        layer: of any wiring, however it stores its weights.
        silent: whether silent connections are among them.
    """
    targets, sources = layer.weight_units()
    live = layer.wiring.mask() if layer.stores_dense else ((targets >= 0) & (sources >= 0)).expand(layer.weight.shape)
    live = live.to(layer.weight.device).clone()
    quiet = layer.silent
    if quiet is None or silent:
        return live
    if layer.stores_dense:
        cells = torch.from_numpy(layer.wiring.cells()).to(live.device)
        live.view(-1)[cells] &= ~quiet
    else:
        live &= ~quiet.view(-1, 1, 1)
    return live


def live_masks(model: nn.Module, *, silent: bool) -> dict[nn.Parameter, Tensor]:
    """Return :func:`live_entries` of each sparse layer's weight; of one that layers share, what any of them uses."""
    masks: dict[nn.Parameter, Tensor] = {}
    for layer in model.modules():
        if isinstance(layer, SparseLinear):
            live = live_entries(layer, silent=silent)
            masks[layer.weight] = masks[layer.weight] | live if layer.weight in masks else live
    return masks


class TrainedFunction:
    """A model in evaluation mode, as a function of its trained parameters.

    Each call computes with stand-ins for the parameters and with copies of the buffers, and starts from the state that
    random generators (PyTorch's own, and those that modules hold as attributes) have at the time, which it puts back:
    the model is not written to, and calls with the same values give the same output. Hooks of modules run. What was
    made in inference mode is copied, so that gradients can be taken of it.

    Args:
        model: any module.
        owner: the public function, for errors.
        only: names of parameters; None: all that require a gradient.

    Attributes:
        names: of the parameters, in the order of the model.
        values: stand-ins for them, which share their memory (copies of those made in inference mode).
        masks: for each, which entries are connections that are not silent; None: all.

    Raises:
        ValueError: there is no such parameter, or none at all; or one is not finite.
    """

    def __init__(self, model: nn.Module, owner: str, only: Sequence[str] | None = None) -> None:
        parameters = dict(model.named_parameters())
        if unknown := sorted(set(only or ()) - set(parameters)):
            raise ValueError(f"{owner}: only must name parameters of the model, got {unknown}; try {list(parameters)}")
        chosen = only if only is not None else [name for name, value in parameters.items() if value.requires_grad]
        if not chosen:
            raise ValueError(f"{owner}: the model must have parameters to differentiate, got a {type(model).__name__}")
        for name, value in parameters.items():
            if not bool(value.detach().isfinite().all()):
                raise ValueError(
                    f"{owner}: parameters must be finite, got inf or nan in {name!r}; try a smaller learning rate"
                )
        self.owner, self._model = owner, model
        self.names = [name for name in parameters if name in set(chosen)]
        masks = live_masks(model, silent=False)
        self.masks = [masks.get(parameters[name]) for name in self.names]
        with torch.inference_mode(False):
            stand_ins = {name: _differentiated(value).detach() for name, value in parameters.items()}
            self.values = [stand_ins.pop(name).requires_grad_() for name in self.names]
            self._others = stand_ins

    @property
    def n_entries(self) -> int:
        """Number of trained numbers: entries that connect, and all entries of other parameters."""
        return sum(
            value.numel() if mask is None else int(mask.sum())
            for value, mask in zip(self.values, self.masks, strict=True)
        )

    def live(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Return tensors shaped like the parameters, with 0 where nothing connects."""
        return [
            value if mask is None else value * mask.to(value.dtype)
            for value, mask in zip(values, self.masks, strict=True)
        ]

    def __call__(self, batch: Tensor, values: Sequence[Tensor] | None = None) -> Tensor:
        """Return the output for a batch, with other values of the parameters if they are given."""
        state = dict(zip(self.names, self.values if values is None else values, strict=True)) | self._others
        state |= {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        with same_draws(self._model), evaluation_mode(self._model):
            output = functional_call(self._model, state, (_differentiated(batch),))
        if not isinstance(output, Tensor) or not output.is_floating_point():
            what = output.dtype if isinstance(output, Tensor) else type(output).__name__
            raise TypeError(f"{self.owner}: the model must return a floating-point tensor, got {what}")
        return output

    def loss(self, batch: Tensor, target: Tensor, loss: Loss, values: Sequence[Tensor] | None = None) -> Tensor:
        """Return the loss of a batch.

        Raises:
            ValueError: it is no single number, or there is no sample.
        """
        check_batch(self.owner, batch)
        value = loss(self(batch, values), _differentiated(target) if isinstance(target, Tensor) else target)
        if value.numel() != 1:
            raise ValueError(
                f"{self.owner}: loss must give one number for the batch, got shape {tuple(value.shape)}; try its mean"
            )
        return value.reshape(())

    def gradient(
        self, output: Tensor, values: Sequence[Tensor] | None = None, *, again: bool = False, keep: bool = False
    ) -> list[Tensor]:
        """Return the gradient of one number with respect to the parameters, 0 where nothing connects.

        Args:
            output: the number.
            values: the stand-ins that it was computed from, if other than the parameters.
            again: whether the gradient is to be differentiated itself.
            keep: whether the graph is needed afterwards.
        """
        given = self.values if values is None else list(values)
        if not output.requires_grad:
            return [torch.zeros_like(value) for value in given]
        found = torch.autograd.grad(
            output, given, create_graph=again, retain_graph=again or keep, allow_unused=True, materialize_grads=True
        )
        return self.live(found)


def _differentiated(tensor: Tensor) -> Tensor:
    """Return a tensor that autograd takes: a copy of one made in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


@contextmanager
def differentiable() -> Iterator[None]:
    """Let gradients be computed while the block runs, whatever the caller has switched off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors as one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
