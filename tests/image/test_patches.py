"""Patches are what a convolution sees, and pixels come back whole."""

import pytest
import torch
from torch import nn

from viq.image import patchify, unpatchify


@pytest.mark.parametrize(("patch_size", "size"), [(16, (48, 80)), (4, (4, 12)), (1, (3, 2))])
def test_patches_times_a_kernel_are_the_convolution(patch_size, size):
    torch.manual_seed(0)
    pixels = torch.randn(3, *size)
    convolution = nn.Conv2d(3, 5, patch_size, stride=patch_size)
    with torch.no_grad():
        expected = convolution(pixels[None])[0].flatten(1).T  # (N, C) in raster order
        kernel = convolution.weight.flatten(1)
        features = patchify(pixels, patch_size) @ kernel.T + convolution.bias
    assert torch.allclose(features, expected, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (32, 80), (160, 48)])
def test_pixels_survive_the_round_trip(size):
    pixels = torch.randn(3, *size)
    patches = patchify(pixels, 16)
    grid_size = (size[0] // 16, size[1] // 16)
    assert patches.shape == (grid_size[0] * grid_size[1], 3 * 16 * 16)
    assert torch.equal(unpatchify(patches, grid_size, 16), pixels)


def test_rows_run_along_the_grid_and_values_along_channel_y_x():
    pixels = torch.arange(3 * 4 * 6).reshape(3, 4, 6)
    patches = patchify(pixels, 2)
    assert torch.equal(patches[1], pixels[:, 0:2, 2:4].flatten())
    assert torch.equal(patches[3], pixels[:, 2:4, 0:2].flatten())


def test_error_names_size_and_patch_size():
    with pytest.raises(ValueError, match="32 x 40, not a multiple of the patch size 16"):
        patchify(torch.zeros(3, 32, 40), 16)


@pytest.mark.parametrize("shape", [(5, 768), (6, 767), (6,)])
def test_error_names_both_shapes(shape):
    with pytest.raises(ValueError, match=r"grid of 2 x 3 with patch size 16 has \(6, 768\)"):
        unpatchify(torch.zeros(shape), (2, 3), 16)
