"""Activations of Hebbian networks."""

import torch
from torch import nn

from neuropil.learn import RectifiedPower, Triangle, stages_of


def test_activations_have_finite_slopes():
    for module in (RectifiedPower(0.7), RectifiedPower(1.4), Triangle(0.7)):
        u = torch.tensor([[-1.0, 0.0, 2.0]], dtype=torch.float64, requires_grad=True)
        module(u).sum().backward()
        assert torch.isfinite(u.grad).all()
        expected = u.detach() - (u.detach().mean() if isinstance(module, Triangle) else 0)
        torch.testing.assert_close(module(u.detach()), expected.clamp(min=0) ** module.power)
    assert len(stages_of(nn.Sequential(nn.Linear(3, 3), Triangle(0.7), nn.Linear(3, 2)), who="test")) == 2
