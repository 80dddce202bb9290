"""The feed-forward network of neuronal ensembles."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from neuropil.connect import Dense, Ensembles, Pattern, SparseLinear
from neuropil.initialize import reset_
from neuropil.models.patch_encoder import PatchEncoder
from neuropil.randomness import stream


class EnsembleNet(nn.Module):
    """A classifier: encoder → hidden layers of any wiring, each with a ReLU → dense read-out.

    Build one with :func:`ensemble_net`.

    Attributes:
        encoder: a :class:`PatchEncoder`, or ``nn.Flatten``.
        hidden: the hidden layers, each followed by its activation.
        readout: dense ``nn.Linear`` to the classes.
        arguments: what :func:`ensemble_net` was called with; :func:`neuropil.models.twins` starts from it.

    Shape:
        images ``[b, c, h, w]`` → logits ``[b, n_classes]``.
    """

    def __init__(
        self, encoder: nn.Module, hidden: nn.Sequential, readout: nn.Linear, arguments: dict[str, Any]
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

    def sparse_layers(self) -> list[SparseLinear]:
        """Return the hidden layers that are not dense, first to last."""
        return [layer for layer in self.hidden if isinstance(layer, SparseLinear)]


def ensemble_net(
    input_shape: tuple[int, int, int],
    n_classes: int,
    *,
    hidden: Sequence[int] = (1024, 1024, 1024),
    pattern: Pattern | Sequence[Pattern] = Ensembles(),  # noqa: B008 (an immutable value)
    patches: int | None = None,
    patch_channels: int = 32,
    kernel: str = "auto",
    seed: int = 0,
) -> EnsembleNet:
    """Build a network of ensembles, or, with another pattern, one that is wired otherwise but alike in all else.

    Args:
        input_shape: ``(channels, height, width)`` of an image.
        n_classes: number of classes.
        hidden: width of each hidden layer.
        pattern: wiring of all hidden layers, or one pattern a layer (:func:`mixer` gives such a list). ``Dense()``
            makes a plain ``nn.Linear``.
        patches: grid of the patch encoder along either side; None: pixels go in flat, (channel, row, column).
        patch_channels: features per patch.
        kernel: as for :class:`neuropil.connect.SparseLinear`.
        seed: wirings and weights come from separate streams derived from it, one for each layer, so that networks
            of the same seed share the encoder's and the read-out's start whatever their wiring.

    Raises:
        ValueError: no hidden layer, a width or n_classes below 1, not one pattern a layer, or a pattern does not fit.

    Reference:
        G2GNet, arXiv 2508.14140. Its ANN section could not be read: widths, groups and p_inter follow the same
        laboratory's public spiking code, ReLU is our choice.

    Example:
        >>> net = ensemble_net((1, 8, 8), 10, hidden=[64, 64], pattern=mixer(2, n_groups=8))
        >>> [layer.wiring.block for layer in net.sparse_layers()]
        [(1, 1), (1, 1)]
    """
    if not hidden:
        raise ValueError("ensemble_net: hidden must hold at least one width, got none")
    for name, value in (("every width in hidden", min(hidden)), ("n_classes", n_classes)):
        if value < 1:
            raise ValueError(f"ensemble_net: {name} must be at least 1, got {value}")
    patterns = [pattern] * len(hidden) if isinstance(pattern, Pattern) else list(pattern)
    if len(patterns) != len(hidden):
        raise ValueError(
            f"ensemble_net: pattern must be one, or one for each of the {len(hidden)} hidden layers, "
            f"got {len(patterns)}"
        )
    arguments = {
        "input_shape": tuple(input_shape),
        "n_classes": n_classes,
        "hidden": tuple(hidden),
        "pattern": tuple(patterns),
        "patches": patches,
        "patch_channels": patch_channels,
        "kernel": kernel,
        "seed": seed,
    }
    encoder: nn.Module = nn.Flatten()
    in_features = input_shape[0] * input_shape[1] * input_shape[2]
    if patches is not None:
        encoder = PatchEncoder(
            input_shape, patches=patches, channels=patch_channels, generator=stream(seed, "weights", "encoder")
        )
        in_features = encoder.out_features
    layers: list[nn.Module] = []
    for i, (width, chosen) in enumerate(zip(hidden, patterns, strict=True)):
        weights = stream(seed, "weights", i)
        if isinstance(chosen, Dense):
            layers.append(_dense(in_features, width, weights))
        else:
            try:
                wiring = chosen.wire(in_features, width, generator=stream(seed, "wiring", i))
            except ValueError as error:
                raise ValueError(f"ensemble_net: hidden layer {i + 1}: {error}") from error
            layers.append(SparseLinear(wiring, kernel=kernel, generator=weights))
        layers.append(nn.ReLU())
        in_features = width
    readout = _dense(in_features, n_classes, stream(seed, "weights", "readout"))
    return EnsembleNet(encoder, nn.Sequential(*layers), readout, arguments)


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


def _dense(in_features: int, out_features: int, generator: Any) -> nn.Linear:
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, in_features, out_features)  # type: ignore[no-untyped-call]
    reset_(layer, generator=generator)
    return layer
