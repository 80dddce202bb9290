"""What every unit does: it turns a sequence of currents into a sequence of outputs, and hands its state on."""

import os
from abc import abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from neuropil.units.surrogate import Surrogate

State = tuple[Tensor, ...]
Number = float | Tensor

KERNELS = ("auto", "numba", "torch", "triton")


# what compiles loops for a type of device; PyTorch for Windows comes without Triton
_COMPILERS = {"cpu": "numba"} | ({"cuda": "triton"} if find_spec("triton") else {})


AnyState = TypeVar("AnyState", bound=State)


def detached(state: AnyState) -> AnyState:
    """Return a state from which no gradient flows back, of the same kind.

    Between two pieces of a long sequence it ends backpropagation through time; without it, a second ``backward`` would
    go back into the first piece.

    Example:
        >>> from neuropil.units import LIF
        >>> neurons, state = LIF(learn=("decay",)), None
        >>> for piece in torch.rand(20, 2, 3, generator=torch.Generator().manual_seed(0)).split(10):
        ...     spikes, state = neurons(piece, state)
        ...     spikes.sum().backward()
        ...     state = detached(state)
    """
    tensors = [part.detach() for part in state]
    return cast(AnyState, tuple(tensors) if type(state) is tuple else type(state)(*tensors))


class Unit(nn.Module):
    """Neurons of one kind, one for each feature of the current that drives them.

    Whoever writes another kind says how one time step goes (:meth:`step`), and with what state it starts
    (:meth:`rest`); a whole sequence is then a loop over time under autograd. A compiled loop, where there is one, goes
    into :meth:`run`.

    Args:
        kernel: how a sequence is computed: ``auto``, ``numba`` (compiled, on a CPU), ``triton`` (compiled, on a GPU)
            or ``torch`` (the loop over :meth:`step`).

    Shape:
        current ``[t, b, n]`` → outputs ``[t, b, n]`` and the state, a tuple of tensors ``[b, n]``.
    """

    def __init__(self, kernel: str = "auto") -> None:
        super().__init__()
        if kernel not in KERNELS:
            raise ValueError(f"{type(self).__name__}: kernel must be one of {', '.join(KERNELS)}, got {kernel!r}")
        self.kernel = kernel

    @abstractmethod
    def rest(self, current: Tensor) -> State:
        """Return the state in which neurons begin, for the current ``[b, n]`` of one time step."""

    @abstractmethod
    def step(self, current: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Go one time step: from current ``[b, n]`` and state to output ``[b, n]`` and state, in plain PyTorch."""

    def forward(self, current: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run a whole sequence, from rest or from the state that another one has ended with.

        Args:
            current: ``[t, b, n]``, at least one step.
            state: as returned by an earlier call; None: at rest. Gradients flow into it: for truncated
                backpropagation through time, give :func:`detached` state.

        Returns:
            Outputs ``[t, b, n]``, and the state to go on from.

        Raises:
            ValueError: the current has another shape, or the state is of another batch or number of neurons.
            TypeError: the current is not of a floating-point type, or the state is of other neurons.
        """
        if not isinstance(current, Tensor):
            raise TypeError(f"{type(self).__name__}: current must be a tensor, got {type(current).__name__}")
        if current.dim() != 3 or len(current) < 1:
            raise ValueError(
                f"{type(self).__name__}: current must have the shape [t, b, n] with at least one time step, got "
                f"{list(current.shape)}"
            )
        if not current.is_floating_point():
            raise TypeError(
                f"{type(self).__name__}: current must be a floating-point tensor, got {current.dtype}; try .float()"
            )
        state = self._checked(current, state)
        kernel = self.chosen_kernel(current)
        return self.run_steps(current, state) if kernel == "torch" else self.run(current, state, kernel)

    def run(self, current: Tensor, state: State, kernel: str) -> tuple[Tensor, State]:
        """Run a whole sequence in one compiled call; only called where :attr:`compiled` names the kernel."""
        raise NotImplementedError

    @property
    def compiled(self) -> tuple[str, ...]:
        """Names of the kernels that :meth:`run` knows."""
        return ()

    @property
    def traced(self) -> bool:
        """Whether ``torch.compile`` can take :meth:`run` into its graph; otherwise it unrolls :meth:`step`."""
        return False

    def run_steps(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        """Run a whole sequence step by step, under autograd: what compiled loops must agree with."""
        outputs = []
        for now in current.unbind(0):  # indexing would make the backward pass quadratic in time
            output, state = self.step(now, state)
            outputs.append(output)
        return torch.stack(outputs), state

    def chosen_kernel(self, current: Tensor) -> str:
        """Return the name of the kernel that computes this current."""
        place = "torch"
        if current.dtype in (torch.float32, torch.float64) and (self.traced or not torch.compiler.is_compiling()):
            # Triton's interpreter runs anywhere
            interpreted = self.kernel == "triton" and os.environ.get("TRITON_INTERPRET") == "1"
            place = "triton" if interpreted else _COMPILERS.get(current.device.type, "torch")
        if place not in self.compiled:
            place = "torch"
        if self.kernel == "auto":
            return place
        if self.kernel not in ("torch", place):
            known = sorted(("auto", "torch", *self.compiled))
            if self.kernel not in known:
                raise ValueError(
                    f"{type(self).__name__}: kernel must be one of {', '.join(known)} for these neurons, got "
                    f"{self.kernel!r}"
                )
            raise ValueError(
                f"{type(self).__name__}: kernel {self.kernel!r} cannot compute {current.dtype} on "
                f"{current.device.type}; try 'auto'"
            )
        return self.kernel

    def _checked(self, current: Tensor, state: State | None) -> State:
        """Return a state that fits the current: at rest where none is given."""
        rest = self.rest(current[0])
        if state is None:
            return rest
        wanted = list(current.shape[1:])
        if not isinstance(state, tuple) or type(state) not in (tuple, type(rest)):
            raise TypeError(
                f"{type(self).__name__}: state must be what an earlier call of such neurons has returned, a "
                f"{type(rest).__name__}, got {type(state).__name__}"
            )
        if len(state) != len(rest) or any(list(part.shape) != wanted for part in state):
            count = f"{len(rest)} tensor{'s' * (len(rest) > 1)}"
            found = ", ".join(str(list(part.shape)) for part in state) or "none"
            raise ValueError(
                f"{type(self).__name__}: state must hold {count} of shape {wanted}, like a step of the current, got "
                f"{found}; start anew with state=None"
            )
        return state

    # Numbers of neurons: fixed or learned, one a layer or one a neuron

    def _set_number(self, name: str, value: Number, learn: Sequence[str]) -> None:
        """Keep a number under its name, as a parameter if it is learned, as a buffer otherwise."""
        if not isinstance(value, (int, float, Tensor)) or isinstance(value, bool):
            raise TypeError(
                f"{type(self).__name__}: {name} must be a number or a tensor of one for each neuron, got {value!r}"
            )
        tensor = torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else torch.get_default_dtype())
        if tensor.dim() > 1:
            raise ValueError(
                f"{type(self).__name__}: {name} must be one number, or one for each neuron, got shape "
                f"{list(tensor.shape)}"
            )
        tensor = tensor.detach().clone()
        if name in learn:
            self.register_parameter(name, nn.Parameter(tensor))
        else:
            self.register_buffer(name, tensor)

    def _set_fraction(self, name: str, value: Number, learn: Sequence[str]) -> None:
        """Keep a number in [0, 1), such as a decay, under its name."""
        self._set_number(name, value, learn)
        tensor: Tensor = getattr(self, name)
        outside = tensor[~((tensor >= 0) & (tensor < 1))]
        if outside.numel():
            raise ValueError(f"{type(self).__name__}: {name} must lie in [0, 1), got {outside.flatten()[0].item():g}")

    def _check_learned(self, learn: Sequence[str], known: Sequence[str]) -> None:
        if not isinstance(learn, (tuple, list, set, frozenset)) or not set(learn) <= set(known):
            raise ValueError(f"{type(self).__name__}: learn must list some of {', '.join(known)}, got {learn!r}")

    def _set_surrogate(self, surrogate: Surrogate) -> None:
        if not isinstance(surrogate, Surrogate):
            told = f"the class {surrogate.__name__}" if isinstance(surrogate, type) else repr(surrogate)
            raise TypeError(f"{type(self).__name__}: surrogate must be a Surrogate, got {told}; try units.ATan()")
        self.surrogate = surrogate

    def _per_neuron(self, value: Tensor, current: Tensor) -> Tensor:
        """Return one number for each neuron, ``[n]``, in the type of the current."""
        n = current.shape[-1]
        if value.dim() == 1 and len(value) != n:
            raise ValueError(
                f"{type(self).__name__}: the current must have {len(value)} neurons, each with its own numbers, got {n}"
            )
        return value.to(current.dtype).expand(n)

    def _told(self, names: Sequence[str]) -> str:
        """Return how ``repr`` shows numbers."""
        told = []
        for name in names:
            value: Any = getattr(self, name)
            shown = f"{value.item():.4g}" if value.dim() == 0 else f"[{len(value)}]"
            told.append(f"{name}={shown}{' (learned)' if isinstance(value, nn.Parameter) else ''}")
        return ", ".join(told)
