"""The feed-forward network of neuronal ensembles."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn

from neuropil.connect import Dense, Ensembles, Pattern, SparseLinear
from neuropil.initialize import kaiming_uniform_, reset_
from neuropil.models.conv_encoder import ConvEncoder
from neuropil.models.patch_encoder import PatchEncoder
from neuropil.randomness import stream

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "hard-sigmoid": nn.Hardsigmoid,
}
Start = Literal["default", "kaiming"]
START_NAMES: tuple[str, ...] = get_args(Start)


class EnsembleNet(nn.Module):
    """A classifier: encoder → hidden layers of any wiring, each with its activation → read-out, most often dense.

    Build one with :func:`ensemble_net`.

    Attributes:
        encoder: a :class:`PatchEncoder`, a :class:`ConvEncoder`, or ``nn.Flatten``.
        hidden: the hidden layers, each followed by its batch normalization, if any, and its activation.
        readout: ``nn.Linear`` to the classes, or a :class:`neuropil.connect.SparseLinear`.
        arguments: what :func:`ensemble_net` was called with; :func:`neuropil.models.twins` starts from it.

    Shape:
        images ``[b, c, h, w]`` → logits ``[b, n_classes]``.
    """

    def __init__(
        self, encoder: nn.Module, hidden: nn.Sequential, readout: nn.Linear | SparseLinear, arguments: dict[str, Any]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.hidden = hidden
        self.readout = readout
        self.arguments = arguments

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[b, n_classes]`` of images ``[b, c, h, w]``."""
        logits: Tensor = self.readout(self.hidden(self.encoder(images)))
        return logits

    def sequence(self) -> list[nn.Module]:
        """Return the modules that are called one after the other, for rules of learning."""
        return [self.encoder, self.hidden, self.readout]

    def sparse_layers(self) -> list[SparseLinear]:
        """Return the layers that are not dense, first to last, a sparse read-out included."""
        return [layer for layer in (*self.hidden, self.readout) if isinstance(layer, SparseLinear)]


def ensemble_net(
    input_shape: tuple[int, int, int],
    n_classes: int,
    *,
    hidden: Sequence[int] = (1024, 1024, 1024),
    pattern: Pattern | Sequence[Pattern] = Ensembles(),  # noqa: B008 (an immutable value)
    patches: int | None = None,
    patch_channels: int = 32,
    convolutions: Sequence[int] | None = None,
    batch_norm: bool = False,
    activation: str = "relu",
    bias: bool = True,
    readout: Pattern = Dense(),  # noqa: B008 (an immutable value)
    start: Start = "default",
    kernel: str = "auto",
    seed: int = 0,
) -> EnsembleNet:
    """Build a network of ensembles, or, with another pattern, one that is wired otherwise but alike in all else.

    Args:
        input_shape: ``(channels, height, width)`` of an image.
        n_classes: number of classes.
        hidden: width of each hidden layer; none after convolutions: the read-out takes their features.
        pattern: wiring of all hidden layers, or one pattern a layer (:func:`mixer` gives such a list). ``Dense()``
            makes a plain ``nn.Linear``.
        patches: grid of the patch encoder along either side; None: pixels go in flat, (channel, row, column).
        patch_channels: features per patch.
        convolutions: features of each convolution of a :class:`ConvEncoder`, in place of patches; None: none.
        batch_norm: normalize the input of every activation, those of convolutions included, over the batch.
        activation: ``relu``, ``elu``, ``tanh``, ``sigmoid`` or ``hard-sigmoid``, that of convolutions too. A patch
            encoder has its ReLU.
        bias: whether neurons have biases, those of the read-out and of convolutions included.
        readout: wiring of the layer to the classes.
        start: ``default``: PyTorch's start of a layer with the fan-in that each neuron has; ``kaiming``: uniform,
            √6 times as wide, so that activity keeps its size through layers with ReLUs. Biases start at 0 then.
        kernel: as for :class:`neuropil.connect.SparseLinear`.
        seed: wirings and weights come from separate streams derived from it, one for each layer, so that networks
            of the same seed share the encoder's and the read-out's start whatever their wiring.

    Raises:
        ValueError: neither a hidden layer nor a convolution, a width or n_classes below 1, not one pattern a layer, an
            unknown start or activation, patches and convolutions both, or a pattern or an encoder does not fit.

    Reference:
        G2GNet, arXiv 2508.14140. Its ANN section could not be read: widths, groups and p_inter follow the same
        laboratory's public spiking code, ReLU is our choice.

    Example:
        >>> net = ensemble_net((1, 8, 8), 10, hidden=[64, 64], pattern=mixer(2, n_groups=8))
        >>> [layer.wiring.block for layer in net.sparse_layers()]
        [(1, 1), (1, 1)]
    """
    patterns = check_sizes("ensemble_net", hidden, n_classes, pattern, fewest=1 if convolutions is None else 0)
    if start not in START_NAMES:
        raise ValueError(f"ensemble_net: start must be one of {', '.join(START_NAMES)}, got {start!r}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"ensemble_net: activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    arguments = {
        "input_shape": tuple(input_shape),
        "n_classes": n_classes,
        "hidden": tuple(hidden),
        "pattern": tuple(patterns),
        "patches": patches,
        "patch_channels": patch_channels,
        "convolutions": None if convolutions is None else tuple(convolutions),
        "batch_norm": batch_norm,
        "activation": activation,
        "bias": bias,
        "readout": readout,
        "start": start,
        "kernel": kernel,
        "seed": seed,
    }
    if convolutions is None:
        encoder, in_features = build_encoder(input_shape, patches, patch_channels, seed)
    elif patches is not None:
        raise ValueError(f"ensemble_net: patches must be None beside convolutions, got {patches}")
    else:
        generator = stream(seed, "weights", "encoder")
        encoder = ConvEncoder(
            input_shape,
            convolutions,
            batch_norm=batch_norm,
            activation=ACTIVATIONS[activation],
            bias=bias,
            generator=generator,
        )
        in_features = encoder.out_features
    layers: list[nn.Module] = []
    for i, (width, chosen) in enumerate(zip(hidden, patterns, strict=True)):
        layer = build_layer(
            "ensemble_net", i, in_features, width, chosen, start=start, kernel=kernel, seed=seed, bias=bias
        )
        layers += [layer, *([nn.BatchNorm1d(width)] if batch_norm else []), ACTIVATIONS[activation]()]
        in_features = width
    last = build_layer(
        "ensemble_net", "readout", in_features, n_classes, readout, start=start, kernel=kernel, seed=seed, bias=bias
    )
    return EnsembleNet(encoder, nn.Sequential(*layers), last, arguments)


def check_sizes(
    who: str, hidden: Sequence[int], n_classes: int, pattern: Pattern | Sequence[Pattern], *, fewest: int = 1
) -> list[Pattern]:
    """Return one pattern for each hidden layer, of which there are ``fewest``; a ``ValueError`` if they make no net."""
    if not isinstance(hidden, Sequence) or isinstance(hidden, str):
        raise TypeError(f"{who}: hidden must list a width for each hidden layer, got {hidden!r}; try hidden=[1024]")
    if isinstance(pattern, str):
        raise TypeError(f"{who}: pattern must be a Pattern or one for each layer, got {pattern!r}; try Ensembles()")
    if len(hidden) < fewest:
        raise ValueError(f"{who}: hidden must hold at least one width, got none")
    for name, value in (("every width in hidden", min(hidden, default=1)), ("n_classes", n_classes)):
        if value < 1:
            raise ValueError(f"{who}: {name} must be at least 1, got {value}")
    patterns = [pattern] * len(hidden) if isinstance(pattern, Pattern) else list(pattern)
    if len(patterns) != len(hidden):
        raise ValueError(
            f"{who}: pattern must be one, or one for each of the {len(hidden)} hidden layers, got {len(patterns)}"
        )
    return patterns


def build_encoder(
    input_shape: tuple[int, int, int], patches: int | None, patch_channels: int, seed: int
) -> tuple[nn.Module, int]:
    """Return what makes features ``[b, n]`` of images, and n: patches of a network's seed, or flat pixels."""
    if patches is None:
        return nn.Flatten(), input_shape[0] * input_shape[1] * input_shape[2]
    generator = stream(seed, "weights", "encoder")
    encoder = PatchEncoder(input_shape, patches=patches, channels=patch_channels, generator=generator)
    return encoder, encoder.out_features


def build_layer(
    who: str,
    name: str | int,
    in_features: int,
    out_features: int,
    pattern: Pattern,
    *,
    kernel: str,
    seed: int,
    start: Start = "default",
    dense: type[nn.Linear] = nn.Linear,
    input_gradient: str = "full",
    bias: bool = True,
) -> nn.Linear | SparseLinear:
    """Build one layer, its wiring and its weights from streams of its name.

    Args:
        who: whom an error names.
        name: number of the hidden layer, or ``readout``.
        in_features, out_features: its sizes.
        pattern: its wiring.
        kernel, seed, start: as for :func:`ensemble_net`.
        dense: what a layer without a wiring is made of.
        input_gradient, bias: as for :class:`neuropil.connect.SparseLinear`.
    """
    weights = stream(seed, "weights", name)
    layer: nn.Linear | SparseLinear
    if isinstance(pattern, Dense):
        options: dict[str, Any] = {} if input_gradient == "full" else {"input_gradient": input_gradient}
        options |= {} if bias else {"bias": False}
        layer = nn.utils.skip_init(dense, in_features, out_features, **options)  # type: ignore[no-untyped-call]
        reset_(layer, generator=weights)
    else:
        try:
            wiring = pattern.wire(in_features, out_features, generator=stream(seed, "wiring", name))
        except ValueError as error:
            title = "read-out" if name == "readout" else f"hidden layer {int(name) + 1}"
            raise ValueError(f"{who}: {title}: {error}") from error
        layer = SparseLinear(wiring, bias=bias, kernel=kernel, input_gradient=input_gradient, generator=weights)
    if start == "kaiming":
        kaiming_uniform_(layer, nonlinearity="linear" if name == "readout" else "relu", generator=weights)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layer


def mixer(n_layers: int, **settings: Any) -> list[Ensembles]:
    """Return G2GNet's mixer: ensembles grouped by index and interleaved in turn, so that information crosses groups.

    Args:
        n_layers: number of hidden layers.
        settings: those of :class:`neuropil.connect.Ensembles`, without ``grouping``.

    Example:
        >>> [layer.grouping for layer in mixer(3)]
        ['index', 'interleaved', 'index']
    """
    return [Ensembles(grouping="interleaved" if i % 2 else "index", **settings) for i in range(n_layers)]
