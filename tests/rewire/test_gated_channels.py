"""Gated convolutions: what they compute, what the mask loss is and whom it teaches."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil.evaluation import evaluation_mode
from neuropil.randomness import stream
from neuropil.rewire import (
    FixedChannels,
    GatedChannels,
    MaskLoss,
    gate_channels,
    gated_layers,
    split_parameters,
    wanted_channels,
)


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU()),
            nn.Flatten(), nn.Linear(6 * 16, 3),
        )  # fmt: skip


def images(n=5):
    return torch.randn(n, 1, 8, 8, generator=stream(0, "images"))


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_what_is_gated_keeps_its_weights_and_its_name():
    dense = network()
    gated = gate_channels(dense, ratio=0.8, target="uniform", generator=stream(1))
    assert list(gated_layers(gated)) == ["0", "4.0"]
    assert [type(part).__name__ for part in gated] == ["GatedChannels", "MaxPool2d", "Sequential", "Flatten", "Linear"]
    assert [name for name, _ in gated.named_children()] == ["0", "3", "4", "5", "6"]
    assert all(layer.ratio == 0.8 and layer.target == "uniform" for layer in gated_layers(gated).values())
    assert [type(part).__name__ for part in dense] == [
        "Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "Sequential", "Flatten", "Linear",
    ]  # fmt: skip
    for layer in gated_layers(gated).values():
        layer.gate = FixedChannels(torch.ones(layer.convolution.out_channels, dtype=torch.bool))
    assert torch.equal(gated(images()), dense(images()))


def test_closed_channels_are_zero_by_hand():
    gated = gate_channels(network(), generator=stream(1))
    layer = gated_layers(gated)["0"]
    layer.gate.linear.bias.data = torch.tensor([5.0, -5.0, 5.0, -5.0])
    with evaluation_mode(gated):
        y, whole = layer(images()), layer.body(images())
    assert torch.equal(y[:, ::2], whole[:, ::2])
    assert not y[:, 1::2].any()
    # the mask is there in training too, and statistics are of all channels
    before = layer.body[1].running_mean.clone()
    assert not layer(images())[:, 1::2].any()
    assert (layer.body[1].running_mean != before).all()


def test_each_image_has_its_own_channels():
    gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layer = GatedChannels(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Sigmoid()), gate)
    x = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])[:, :, None, None].expand(2, 2, 3, 3)
    assert (layer(x) > 0).flatten(2).all(2).tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize("ratio", [0.7, 1.0])
def test_mask_loss_by_its_formula(ratio):
    gated = gate_channels(network(), ratio=ratio, generator=stream(1))
    loss = MaskLoss(gated, weight=2.0)
    with loss.due(1, 2):
        gated(images())
        found = loss()
        assert loss() == 0.0
    expected, x = [], images()
    for layer, rest in zip(gated_layers(gated).values(), (gated[1], nn.Identity()), strict=True):
        logits, y = layer.gate(x), layer.body(x)
        probability = logits.sigmoid()
        target = wanted_channels(y.detach().abs().flatten(2).amax(2), ratio)
        terms = torch.where(target, -probability.log(), -(1 - probability).log())
        expected.append(terms.sum(1).mean())
        x = rest(y * (logits > 0)[:, :, None, None])
    torch.testing.assert_close(found, 2.0 * sum(expected) / 2)


def gradients(model):
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("decoupled", [True, False])
def test_mask_loss_teaches_the_backbone_only_if_joint(decoupled):
    gated = gate_channels(network(), ratio=0.7, decoupled=decoupled, generator=stream(1))
    loss = MaskLoss(gated)
    labels = torch.tensor([0, 1, 2, 0, 1])
    F.cross_entropy(gated(images()), labels).backward()
    alone = gradients(gated)
    assert not any(".gate." in name for name in alone)  # nothing but the mask loss teaches predictors
    gated.zero_grad()
    with loss.due(1, 2):
        (F.cross_entropy(gated(images()), labels) + loss()).backward()
    both = gradients(gated)
    assert {name for name in both if ".gate." in name} == {
        name for name, _ in gated.named_parameters() if ".gate." in name
    }
    same = all(torch.equal(both[name], alone[name]) for name in alone)
    assert same == decoupled


def test_straight_through_the_task_teaches_predictors():
    gated = gate_channels(network(), straight_through=True, generator=stream(1))
    layer = gated_layers(gated)["0"]
    x, up = images(), torch.randn(5, 4, 8, 8, generator=stream(2))
    whole = layer.body(x).detach()
    layer(x).backward(up)
    soft = layer.gate(x).sigmoid().detach()
    # d/d logit of Σ up · whole · mask, with the gradient of the sigmoid in place of the step's
    slope = (up * whole).sum((2, 3)) * soft * (1 - soft)
    torch.testing.assert_close(layer.gate.linear.bias.grad, slope.sum(0))
    assert torch.equal(layer(x) != 0, (whole != 0) & (layer.gate(x) > 0)[:, :, None, None])


def test_due_in_the_first_epochs_only_and_leaves_no_hooks():
    gated = gate_channels(network(), generator=stream(1))
    loss = MaskLoss(gated)
    due = []
    for epoch in range(1, 6):
        with loss.due(epoch, 5):
            gated(images())
            value = loss()
            due.append(isinstance(value, torch.Tensor) and value.item() > 0)
            with evaluation_mode(gated):
                gated(images())  # as a probe does
            assert loss() == 0.0
        assert hooks(gated) == 0
    assert due == [True, True, False, False, False]  # ⌊2.5⌋ epochs
    with pytest.raises(RuntimeError), loss.due(1, 5):
        gated(torch.zeros(1, 2, 8, 8))
    assert hooks(gated) == 0
    assert loss() == 0.0


def test_parameters_are_split_without_loss():
    gated = gate_channels(network(), generator=stream(1))
    backbone, predictors = split_parameters(gated)
    assert len(predictors) == 4
    assert {id(p) for p in backbone} | {id(p) for p in predictors} == {id(p) for p in gated.parameters()}
    assert len(backbone) + len(predictors) == len(list(gated.parameters()))


def test_copies_state_and_skipped_layers():
    gated = gate_channels(network(), skip="4", generator=stream(1))
    assert list(gated_layers(gated)) == ["0"]
    other = gate_channels(network(), skip="4", generator=stream(2))
    other.load_state_dict(gated.state_dict())
    assert torch.equal(other(images()), gated(images()))
    assert torch.equal(copy.deepcopy(gated)(images()), gated(images()))
    assert "ratio=0.9, target=mass" in repr(gated)
    assert not gate_channels(network().eval())[0].gate.training


ERRORS = [
    (
        lambda: gate_channels(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())),
        "the model must have an nn.Sequential with",
    ),
    (lambda: gate_channels(network(), skip=("1x",)), "every name must be that of a module of the model, got '1x'"),
    (lambda: gate_channels(network(), ratio=2.0), "GatedChannels: ratio must be at most 1, got 2"),
    (lambda: GatedChannels(nn.Sequential(nn.ReLU()), nn.Identity()), "body must be an nn.Sequential that begins with"),
    (lambda: MaskLoss(network()), "MaskLoss: the model must have a GatedChannels with a ChannelPredictor, got none"),
    (lambda: MaskLoss(gate_channels(network()), weight=0.0), "MaskLoss: weight must be above 0, got 0"),
    (lambda: MaskLoss(gate_channels(network()), cooldown=1.5), r"MaskLoss: cooldown must lie in \[0, 1\], got 1.5"),
]


@pytest.mark.parametrize(("call", "sentence"), ERRORS)
def test_errors_say_what_is_wrong(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
