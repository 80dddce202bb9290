import pytest
from torch import nn

from neuropil import data
from neuropil.connect import Ensembles, SparseLinear
from neuropil.randomness import stream


@pytest.fixture(scope="session")
def digits():
    """All digits, with a validation split."""
    return data.with_validation(data.load("digits"), 0.1, stream(0, "validation"))


@pytest.fixture(scope="session")
def few_digits():
    """A tenth of the training images: an epoch takes milliseconds."""
    digits = data.load("digits")
    part = data.with_validation(digits, 0.1, stream(1, "validation")).validation
    small = data.Dataset("digits", part, part, digits.classes, 16, digits.mean, digits.std)
    return data.with_validation(small, 0.2, stream(2, "validation"))


@pytest.fixture
def both_kernels():
    """Return a function that builds a network of several kernels, with dropout, from a seed."""

    def build(seed=0):
        layers = [nn.Flatten()]
        for i, (block, kernel) in enumerate([((1, 1), "masked"), (("group", 1), "blocks"), ((1, 1), "synapses")]):
            pattern = Ensembles(n_groups=4, p_inter=0.1, block=block)
            wiring = pattern.wire(64 if i == 0 else 32, 32, generator=stream(seed, "wiring", i))
            layers += [SparseLinear(wiring, kernel=kernel, generator=stream(seed, "weights", i)), nn.ReLU()]
            layers.append(nn.Dropout(0.2))
        head = nn.utils.skip_init(nn.Linear, 32, 10)
        nn.init.normal_(head.weight, std=0.1, generator=stream(seed, "weights", "head"))
        nn.init.zeros_(head.bias)
        return nn.Sequential(*layers, head)

    return build
