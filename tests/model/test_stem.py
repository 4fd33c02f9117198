"""The convolutional stem; that rows do not depend on batch or threads is in test_invariance."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from viq.model.packing import Packing
from viq.model.stem import Convolution, ConvolutionalStem


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [6, 40])  # small maps are convolved another way
@pytest.mark.parametrize("grad", [False, True])
def test_a_convolution_is_torchs(stride, side, grad):
    torch.manual_seed(0)
    own, reference = Convolution(8, 16, stride), nn.Conv2d(8, 16, 3, stride, padding=1)
    own.weight.data = reference.weight.flatten(1).detach()
    own.bias.data = reference.bias.detach()
    images = torch.randn(2, 8, side, side + 4)
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(own(images), reference(images), atol=1e-5, rtol=1e-5)


def test_rows_are_of_the_patch_where_they_stand_and_see_no_other_image():
    torch.manual_seed(0)
    stem = ConvolutionalStem((8, 8, 8), 16, 16)
    sizes = [(4, 6), (3, 3), (4, 6)]
    images = [torch.randn(h * w, 768) for h, w in sizes]
    changed = [image.clone() for image in images]
    changed[1] += 1
    before, after = (
        Packing.of(sizes).split(stem(torch.cat(some), Packing.of(sizes)))
        for some in (images, changed)
    )
    assert [len(rows) for rows in before] == [24, 9, 24]
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[2], after[2])
    assert not torch.allclose(before[1], after[1])
    # A lone bright pixel in patch (2, 4): the rows around it change the most.
    dark = torch.zeros(24, 768)
    bright = dark.clone()
    bright[2 * 6 + 4, :] = torch.randn(768)
    packing = Packing.of([(4, 6)])
    moved = (stem(bright, packing) - stem(dark, packing)).norm(dim=1)
    assert moved.argmax() == 2 * 6 + 4


def test_pixels_are_put_together_as_they_were():
    stem = ConvolutionalStem((8, 8, 8), 16, 16)
    image = torch.randn(1, 3, 48, 80)
    patches = F.unfold(image, 16, stride=16).mT  # (1, 15, 3 * 16 * 16)
    assert torch.equal(stem._pixels(patches, (3, 5)), image)


def test_widths_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="halves images 3 times, but patches have 16 pixels"):
        ConvolutionalStem((8, 8), 16, 16)
    with pytest.raises(ValueError, match=r"\(12, 8, 8, 16\) divide by 8"):
        ConvolutionalStem((12, 8, 8), 16, 16)
