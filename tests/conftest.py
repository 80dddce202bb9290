import sys

import pytest
import torch
from hypothesis import settings

# machines are shared and noisy: how long an example takes says nothing
settings.register_profile("neuropil", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("neuropil")

# layers this small gain nothing from threads, and threads that wait for each other are slow on a busy machine
torch.set_num_threads(1)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def _as_if_alone():
    """Rate codes draw from the global state; training switches subnormal numbers off, on which other tests count."""
    torch.manual_seed(0)
    yield
    if "torch._dynamo" in sys.modules:  # else, what other tests have compiled counts towards its limits
        torch._dynamo.reset()
    torch.set_flush_denormal(False)
