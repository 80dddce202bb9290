"""What every wiring pattern must do."""

import torch

from neuropil.connect import Pattern, Wiring


def assert_pattern(pattern: Pattern, in_features: int, out_features: int) -> None:
    """Raise an ``AssertionError`` unless a pattern keeps its contract on layers of the sizes given.

    Checked: the wiring has the sizes asked for; the same generator gives an equal wiring; nothing is drawn from
    PyTorch's global state when a generator is given; the mask says the same as fan-in, fan-out, density and the list
    of connections; the density is near the expected one (within five standard deviations of independent draws a
    block); storing and rebuilding the wiring gives an equal one.

    Example:
        >>> from neuropil.connect import ErdosRenyi
        >>> assert_pattern(ErdosRenyi(0.2), 30, 20)
    """
    state = torch.get_rng_state()
    first, second = (
        pattern.wire(in_features, out_features, generator=torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert torch.equal(torch.get_rng_state(), state), "a pattern given a generator must leave the global state alone"
    assert first == second, "the same generator must give an equal wiring"
    assert hash(first) == hash(second)
    assert first.shape == (out_features, in_features)
    mask = first.mask()
    assert int(mask.sum()) == first.n_connections
    assert torch.equal(mask.sum(1), first.fan_in())
    assert torch.equal(mask.sum(0), first.fan_out())
    expected = pattern.expected_density(in_features, out_features)
    spread = (max(expected * (1 - expected), 0.0) * first.block[0] * first.block[1] / mask.numel()) ** 0.5
    assert abs(first.density - expected) <= 5 * spread + 1 / mask.numel(), (
        f"the density must be near {expected:g}, got {first.density:g}"
    )
    assert Wiring.from_tensors(first.to_tensors()) == first
