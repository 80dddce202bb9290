"""How the gradient of a layer's input may be computed."""

INPUT_GRADIENTS = ("full", "needed", "bfloat16")


def check_input_gradient(
    who: str,
    name: str,
    *,
    kernel: str = "events",
    block: tuple[int, int] | None = None,
    stores_dense: bool = True,
) -> None:
    """Raise a ``ValueError`` unless a kernel can compute the gradient of the input in the way of this name."""
    if name not in INPUT_GRADIENTS:
        raise ValueError(f"{who}: input_gradient must be one of {', '.join(INPUT_GRADIENTS)}, got {name!r}")
    if name != "full" and kernel != "events":
        raise ValueError(
            f"{who}: input_gradient {name!r} must go with kernel 'events', got {kernel!r}; try kernel='events'"
        )
    if name == "needed" and block == (1, 1):
        raise ValueError(
            f"{who}: input_gradient 'needed' must go with blocks larger than one synapse, got block=(1, 1); try "
            "block=('group', 1)"
        )
    if name == "bfloat16" and block == (1, 1) and not stores_dense:
        raise ValueError(
            f"{who}: input_gradient 'bfloat16' must go with dense products, got single synapses so few that they are "
            "stored without a matrix; try input_gradient='full'"
        )
