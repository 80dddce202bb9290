"""One convolution for each patch, against a loop over patches."""

import pytest
import torch

from neuropil.models import PatchEncoder
from neuropil.randomness import stream
from neuropil.testing import assert_module


def by_patch(encoder, images, patches):
    """Apply the weights to each patch on its own; features in the order (channel, row, column)."""
    weight, bias = encoder.convolution.weight, encoder.convolution.bias
    _, _, height, width = images.shape
    rows, columns = height // patches, width // patches
    features = torch.zeros(len(images), len(weight), patches, patches)
    for b in range(len(images)):
        for o in range(len(weight)):
            for r in range(patches):
                for c in range(patches):
                    patch = images[b, :, r * rows : (r + 1) * rows, c * columns : (c + 1) * columns]
                    features[b, o, r, c] = ((patch * weight[o]).sum() + bias[o]).clamp(min=0)
    return features.flatten(1)


@pytest.mark.parametrize(
    ("shape", "patches", "channels"), [((1, 4, 4), 1, 1), ((1, 4, 4), 4, 2), ((3, 6, 6), 2, 4), ((2, 6, 9), 3, 5)]
)
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_equals_a_loop_over_patches(shape, patches, channels, batch, generator):
    encoder = PatchEncoder(shape, patches=patches, channels=channels, generator=generator)
    images = torch.randn(batch, *shape, generator=generator)
    with torch.no_grad():
        found = encoder(images)
        assert torch.allclose(found, by_patch(encoder, images, patches), atol=1e-5)
    assert found.shape == (batch, encoder.out_features) == (batch, channels * patches**2)


def test_published_width():
    encoder = PatchEncoder((3, 32, 32))
    assert encoder.out_features == 512
    assert encoder.convolution.weight.shape == (32, 3, 8, 8)
    assert encoder.convolution.stride == (8, 8)


def test_order_of_features_by_hand():
    """Channel first, then row, then column: channel k gives (k + 1) times the brightness of a patch of one pixel."""
    encoder = PatchEncoder((1, 2, 2), patches=2, channels=2)
    with torch.no_grad():
        encoder.convolution.weight.copy_(torch.tensor([1.0, 2.0]).view(2, 1, 1, 1))
        encoder.convolution.bias.zero_()
        found = encoder(torch.tensor([[[[1.0, 3.0], [5.0, -7.0]]]]))
    assert found.tolist() == [[1.0, 3.0, 5.0, 0.0, 2.0, 6.0, 10.0, 0.0]]


def test_a_patch_sees_no_other(generator):
    encoder = PatchEncoder((1, 8, 8), patches=2, channels=3, generator=generator)
    images = torch.randn(1, 1, 8, 8, generator=generator)
    changed = images.clone()
    changed[0, 0, :4, 4:] += 100.0  # row 0, column 1
    differs = (encoder(images) != encoder(changed)).view(3, 4)
    assert not differs[:, [0, 2, 3]].any()
    assert differs[:, 1].any()


def test_keeps_the_contract_of_a_layer(generator):
    encoder = PatchEncoder((2, 8, 8), patches=2, channels=6, generator=generator)
    assert_module(encoder, torch.randn(4, 2, 8, 8, generator=generator))


def test_start_is_pytorchs_and_drawn_from_the_generator():
    state = torch.get_rng_state()
    first, same, other = (PatchEncoder((3, 8, 8), patches=2, generator=stream(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.convolution.weight, same.convolution.weight)
    assert torch.equal(first.convolution.bias, same.convolution.bias)
    assert not torch.equal(first.convolution.weight, other.convolution.weight)
    assert first.convolution.weight.abs().max() <= 48**-0.5
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("shape", "patches"), [((1, 28, 28), 3), ((1, 8, 6), 4), ((1, 6, 8), 4), ((1, 8, 8), 0)])
def test_patches_that_do_not_divide_are_told(shape, patches):
    sentence = (
        f"^PatchEncoder: patches must divide the image's height and width, got {patches} and {shape[1]} × {shape[2]}$"
    )
    with pytest.raises(ValueError, match=sentence):
        PatchEncoder(shape, patches=patches)
