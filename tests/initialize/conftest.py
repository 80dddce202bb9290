import pytest
import torch

from neuropil.connect import Dense, Ensembles, ErdosRenyi
from neuropil.randomness import stream


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Tensors are small here: on a busy machine threads that wait for each other take most of the time."""
    torch.set_num_threads(1)


# name → (pattern, in_features, out_features)
WIRINGS = {
    "dense": (Dense(), 12, 8),
    "random": (ErdosRenyi(0.3), 20, 16),
    "thin": (ErdosRenyi(0.04), 20, 16),  # some neurons read nobody, some are read by nobody
    "random tiles": (ErdosRenyi(0.3, block=(2, 4)), 20, 16),
    "synapses": (Ensembles(n_groups=4), 24, 16),
    "projections": (Ensembles(n_groups=4, block=("group", 1)), 24, 16),
    "fans": (Ensembles(n_groups=4, block=(1, "group")), 24, 16),
    "tiles": (Ensembles(n_groups=4, p_inter=0.3, block=(2, 3), grouping="interleaved"), 24, 16),
    "ensembles": (Ensembles(n_groups=4, p_inter=0.4, block=("group", "group"), grouping="random"), 24, 16),
    "uneven synapses": (Ensembles(n_groups=3, uneven=True), 20, 14),
    "uneven projections": (Ensembles(n_groups=3, uneven=True, block=("group", 1)), 20, 14),
    "uneven tiles": (Ensembles(n_groups=3, p_inter=0.5, uneven=True, block=(2, 3), grouping="random"), 20, 14),
    "uneven ensembles": (Ensembles(n_groups=3, p_inter=0.5, uneven=True, block=("group", "group")), 20, 14),
}


@pytest.fixture(params=WIRINGS)
def wiring(request):
    pattern, *sizes = WIRINGS[request.param]
    return pattern.wire(*sizes, generator=stream(0, "wiring", request.param))
