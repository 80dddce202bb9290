"""On a GPU, a product with spikes is the dense one."""

import pytest
import torch
from torch.nn.functional import linear

from neuropil.connect import EventLinear
from neuropil.connect.kernels.event_product import event_linear

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("rate", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(20,), (7, 20), (4, 3, 20), (4, 0, 20)], ids=str)
def test_equals_the_dense_product_and_that_on_a_cpu(shape, dtype, rate):
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(shape, generator=generator) < rate).to(dtype)
    weight = torch.randn(5, 20, generator=generator, dtype=dtype)
    bias = torch.randn(5, generator=generator, dtype=dtype)
    found = {}
    for name, device, product in (
        ("ours", "cuda", event_linear), ("dense", "cuda", linear), ("on a CPU", "cpu", event_linear)
    ):  # fmt: skip
        given = [part.to(device).detach().clone().requires_grad_() for part in (x, weight, bias)]
        y = product(*given)
        y.square().sum().backward()
        found[name] = [y.detach(), *(part.grad for part in given)]
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    for ours, dense, on_cpu in zip(*found.values(), strict=True):
        assert ours.is_cuda
        assert torch.equal(ours, dense)
        torch.testing.assert_close(ours.cpu(), on_cpu, rtol=tolerance, atol=tolerance * max(1, 20 * rate))


def test_the_layer():
    layer = EventLinear(20, 5).to("cuda")
    x = torch.rand(3, 20, generator=torch.Generator().manual_seed(0)).cuda()
    assert torch.equal(layer(x), linear(x, layer.weight, layer.bias))
    once = x.expand(4, 3, 20)  # the same at every time step
    torch.testing.assert_close(layer(once), linear(once, layer.weight, layer.bias))
