"""The feed-forward network of spiking neuronal ensembles."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

from torch import Tensor, nn

from neuropil.connect import Dense, Ensembles, EventLinear, Pattern, SparseLinear
from neuropil.models.ensemble_net import build_encoder, build_layer, check_sizes
from neuropil.units import LIF, ATan, FastSigmoid, LeakyIntegrator, Unit
from neuropil.units.encode import CurrentEncoder, LatencyEncoder, MinMax, RateEncoder

ENCODINGS = ("rate", "current", "latency")


def fixed_neurons() -> LIF:
    """Return G2GNet's earlier neurons: decay 0.95, threshold 1, fast sigmoid of slope 25."""
    return LIF(decay=0.95, threshold=1.0, surrogate=FastSigmoid(slope=25.0))


def learned_neurons() -> LIF:
    """Return G2GNet's later neurons: decay from 0.9 and threshold from 1, one each a layer, learned; arctangent."""
    return LIF(decay=0.9, threshold=1.0, learn=("decay", "threshold"), surrogate=ATan(alpha=2.0))


Output = Literal["spikes", "potentials"]
OUTPUTS: tuple[str, ...] = get_args(Output)
NEURONS: dict[str, Callable[[], Unit]] = {"fixed": fixed_neurons, "learned": learned_neurons}


class SpikingEnsembleNet(nn.Module):
    """A spiking classifier: features → encoder → hidden layers of any wiring → read-out, each with its neurons.

    The logits are what the read-out's neurons give, summed over time: spike counts, or potentials. Build one with
    :func:`spiking_ensemble_net`.

    Attributes:
        features: from images to what is encoded, ``[b, n]``: pixels, or patch features scaled to [0, 1].
        encoder: from ``[b, n]`` to ``[t, b, n]``.
        hidden: the hidden layers, each followed by its neurons.
        readout: the layer to the classes.
        output: the neurons of the classes.
        arguments: what :func:`spiking_ensemble_net` was called with; :func:`neuropil.models.twins` starts from it.

    Shape:
        images ``[b, c, h, w]``, pixels in [0, 1] → logits ``[b, n_classes]``.
    """

    def __init__(
        self,
        features: nn.Module,
        encoder: nn.Module,
        hidden: nn.ModuleList,
        readout: nn.Linear | SparseLinear,
        output: Unit,
        arguments: dict[str, Any],
    ) -> None:
        super().__init__()
        self.features = features
        self.encoder = encoder
        self.hidden = hidden
        self.readout = readout
        self.output = output
        self.arguments = arguments

    @property
    def steps(self) -> int:
        """Number of time steps."""
        return int(self.arguments["steps"])

    @property
    def stages(self) -> list[tuple[nn.Module, Unit]]:
        """Each layer with its neurons, the read-out last."""
        modules = [*self.hidden, self.readout, self.output]
        return list(zip(modules[::2], modules[1::2], strict=True))

    def output_spikes(self, images: Tensor) -> Tensor:
        """Return the spikes, or potentials, of the classes' neurons, ``[t, b, n_classes]``, of images ``[b, c, h, w]``.

        A rate code draws anew at each call, in evaluation mode too.
        """
        spikes: Tensor = self.encoder(self.features(images))
        for layer, neurons in self.stages:
            spikes, _ = neurons(layer(spikes))
        return spikes

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the classes, ``[b, n_classes]``, of images ``[b, c, h, w]``."""
        wanted = self.arguments["input_shape"]
        if tuple(images.shape[1:]) != wanted:
            raise ValueError(
                f"SpikingEnsembleNet: images must have the shape [b, {', '.join(map(str, wanted))}], got "
                f"{list(images.shape)}"
            )
        return self.output_spikes(images).sum(0)

    def sparse_layers(self) -> list[SparseLinear]:
        """Return the layers that are not dense, first to last, a sparse read-out included."""
        return [layer for layer, _ in self.stages if isinstance(layer, SparseLinear)]


def spiking_ensemble_net(
    input_shape: tuple[int, int, int],
    n_classes: int,
    *,
    hidden: Sequence[int] = (1024, 1024, 1024),
    pattern: Pattern | Sequence[Pattern] = Ensembles(),  # noqa: B008 (an immutable value)
    patches: int | None = None,
    patch_channels: int = 32,
    frozen: bool = False,
    readout: Pattern = Dense(),  # noqa: B008 (an immutable value)
    neurons: str | Callable[[], Unit] = "learned",
    output: Output = "spikes",
    steps: int = 50,
    encoding: str | nn.Module = "rate",
    scale: float = 1.0,
    kernel: str = "events",
    input_gradient: str = "full",
    seed: int = 0,
) -> SpikingEnsembleNet:
    """Build a spiking network of ensembles, or, with another pattern, one that is alike in all but its wiring.

    Pixels must lie in [0, 1]: :meth:`neuropil.data.Dataset.in_unit_range` sees to that. A rate code draws from
    PyTorch's global state, in evaluation mode too.

    The published networks: pixels in a rate code (``encoding="rate"``) or as a current (``"current"``); a trainable
    encoder of patches, whose features are scaled to [0, 1] sample by sample and fed as a current (``patches=4,
    encoding="current"``); frozen features, scaled likewise, in a rate code (``patches=4, frozen=True``).

    Args:
        input_shape: ``(channels, height, width)`` of an image.
        n_classes: number of classes.
        hidden: width of each hidden layer.
        pattern: wiring of all hidden layers, or one pattern a layer (:func:`neuropil.models.mixer` gives such a list).
        patches: grid of the patch encoder along either side; None: pixels go in flat, (channel, row, column).
        patch_channels: features per patch.
        frozen: the patch encoder keeps the weights that it starts with. No gradient passes a rate code, so one that
            is fed in a rate code must be frozen.
        readout: wiring of the layer to the classes.
        neurons: ``fixed`` (:func:`fixed_neurons`), ``learned`` (:func:`learned_neurons`), or what makes the neurons
            of one layer.
        output: what the neurons of the classes give: ``spikes``, or ``potentials`` of neurons that leak and do not
            spike (:class:`neuropil.units.LeakyIntegrator`), as :class:`neuropil.learn.EProp` needs them.
        steps: number of time steps, at least 1; those of the encoding where that is a module.
        encoding: ``rate`` (Bernoulli), ``current``, ``latency`` (linear), or a module from ``[b, n]`` to ``[t, b, n]``.
        scale: factor on a current; for CIFAR-10, G2GNet's code takes 0.25.
        kernel, input_gradient: as for :class:`neuropil.connect.SparseLinear`.
        seed: wirings and weights come from separate streams derived from it, one for each layer, the same as those
            of :func:`neuropil.models.ensemble_net`.

    Raises:
        ValueError: as :func:`neuropil.models.ensemble_net`; a name is unknown, a number out of range, or encoding and
            features do not go together.
        TypeError: ``neurons`` are neurons, which every layer would share.

    Reference:
        G2GNet, arXiv 2508.14140, by the same laboratory's public spiking code. Its table-1 scripts scale features
        otherwise (by the largest of a batch); here they are always scaled sample by sample.
        Its frozen features are those of a pretrained ResNet; here they are those of the patch encoder as it starts,
        unless trained weights are loaded into ``net.features``.

    Example:
        >>> import torch
        >>> net = spiking_ensemble_net((1, 8, 8), 10, hidden=[64, 64], steps=8)
        >>> net(torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))).shape
        torch.Size([2, 10])
    """
    patterns = check_sizes("spiking_ensemble_net", hidden, n_classes, pattern)
    if isinstance(neurons, str) and neurons not in NEURONS:
        raise ValueError(f"spiking_ensemble_net: neurons must be one of {', '.join(NEURONS)}, got {neurons!r}")
    if not isinstance(neurons, str) and not callable(neurons):
        raise TypeError(f"spiking_ensemble_net: neurons must be a name or what makes neurons, got {neurons!r}")
    if isinstance(neurons, nn.Module):  # which can be called too
        kind = type(neurons).__name__
        raise TypeError(
            f"spiking_ensemble_net: neurons must be a name or what makes the neurons of one layer, got a {kind}; try "
            f"lambda: {kind}(…)"
        )
    if output not in OUTPUTS:
        raise ValueError(f"spiking_ensemble_net: output must be one of {', '.join(OUTPUTS)}, got {output!r}")
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"spiking_ensemble_net: steps must be a whole number of at least 1, got {steps!r}")
    check_encoding("spiking_ensemble_net", encoding, patches=patches, frozen=frozen, scale=scale)
    own = getattr(encoding, "steps", steps)
    if own != steps:
        raise ValueError(f"spiking_ensemble_net: steps must be those of the encoding, got {steps} for {own}")
    arguments = {
        "input_shape": tuple(input_shape),
        "n_classes": n_classes,
        "hidden": tuple(hidden),
        "pattern": tuple(patterns),
        "patches": patches,
        "patch_channels": patch_channels,
        "frozen": frozen,
        "readout": readout,
        "neurons": neurons,
        "output": output,
        "steps": steps,
        "encoding": encoding,
        "scale": scale,
        "kernel": kernel,
        "input_gradient": input_gradient,
        "seed": seed,
    }
    features, in_features = build_encoder(input_shape, patches, patch_channels, seed)
    if patches is not None:
        features = nn.Sequential(features.requires_grad_(not frozen), MinMax())
    if isinstance(encoding, nn.Module):
        encoder = encoding
    elif encoding == "rate":
        encoder = RateEncoder(steps)
    elif encoding == "latency":
        encoder = LatencyEncoder(steps)
    else:
        encoder = CurrentEncoder(steps, scale=scale)
    make = NEURONS[neurons] if isinstance(neurons, str) else neurons
    names = [*range(len(patterns)), "readout"]
    stages: list[nn.Module] = []
    for name, wiring, size in zip(
        names, (*patterns, readout), pairwise([in_features, *hidden, n_classes]), strict=True
    ):
        stages += [
            build_layer(
                "spiking_ensemble_net", name, *size, wiring, kernel=kernel, seed=seed, dense=EventLinear,
                input_gradient=input_gradient,
            ),
            make(),
        ]  # fmt: skip
    *body, last, classes = stages
    if not isinstance(classes, Unit):
        raise TypeError(f"spiking_ensemble_net: neurons must make a Unit, got what makes a {type(classes).__name__}")
    if output == "potentials":
        classes = LeakyIntegrator()
    return SpikingEnsembleNet(features, encoder, nn.ModuleList(body), last, classes, arguments)  # type: ignore[arg-type]


def check_encoding(who: str, encoding: str | nn.Module, *, patches: int | None, frozen: bool, scale: float) -> None:
    """Raise a ``ValueError`` where an encoding is unknown, or does not go together with what it is to encode.

    Args:
        who: whom an error names.
        encoding, patches, frozen, scale: as for :func:`spiking_ensemble_net`.
    """
    if not isinstance(encoding, (str, nn.Module)):
        told = f"the class {encoding.__name__}" if isinstance(encoding, type) else repr(encoding)
        raise TypeError(f"{who}: encoding must be a name or a module, got {told}")
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"{who}: scale must be finite and above 0, got {scale:g}")
    if isinstance(encoding, str) and encoding not in ENCODINGS:
        raise ValueError(f"{who}: encoding must be one of {', '.join(ENCODINGS)}, got {encoding!r}")
    if frozen and patches is None:
        raise ValueError(f"{who}: frozen needs features to freeze, got patches=None; try patches=4")
    if patches is not None and encoding in ("rate", "latency") and not frozen:
        raise ValueError(
            f"{who}: a trainable patch encoder needs encoding 'current', got {encoding!r}, which passes no gradient; "
            "or freeze it"
        )
    if scale != 1.0 and encoding != "current":
        shown = repr(encoding) if isinstance(encoding, str) else f"a {type(encoding).__name__}"
        raise ValueError(f"{who}: scale is a factor on a current, got {scale:g} for {shown}")
