"""A convolutional stem: what is in a patch and around it, beside the linear map of its pixels.

A transformer of linear patches must learn each shape anew for every place in a patch, which takes
longer than two cores have (docs/LOG.md). To convolutions a shape is the same wherever it is
(https://arxiv.org/abs/2106.14881).

Axes: N patches of all images, B images of one size, C channels, P patch side, H and W pixels.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viq.model.layers import Gelu, Linear
from viq.model.packing import Packing

# Which kernel convolves a small map on a CPU depends on the number of threads, and each adds in
# another order. Measured: none does from 73 positions on.
_POSITIONS = 256
_GROUPS = 8  # of channels, each normalised over a whole image, so that flat ground stays flat


class Convolution(Linear):
    """A linear map of the 3 x 3 pixels around each pixel, or around every other one."""

    def __init__(self, width: int, out: int, stride: int = 1) -> None:
        super().__init__(9 * width, out)
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        """(B, width, H, W) to (B, out, H / stride, W / stride)."""
        h, w = (-(-side // self.stride) for side in input.shape[2:])
        if h * w < _POSITIONS and input.device.type == "cpu" and not torch.is_grad_enabled():
            around = F.unfold(input, 3, padding=1, stride=self.stride).mT.flatten(0, 1)
            rows = super().forward(around).view(len(input), h * w, -1)
            return rows.mT.contiguous().unflatten(2, (h, w))
        weight = self.weight.unflatten(1, (-1, 3, 3))
        return F.conv2d(input, weight, self.bias, self.stride, padding=1)


class ConvolutionalStem(nn.Module):
    """Halves images until a pixel is a patch, then looks once more around each."""

    def __init__(self, widths: Sequence[int], width: int, patch_size: int) -> None:
        super().__init__()
        all_widths = (3, *widths, width)
        if 2 ** (len(all_widths) - 1) != patch_size:
            raise ValueError(
                f"a stem of widths {tuple(widths)} halves images {len(all_widths) - 1} times, but"
                f" patches have {patch_size} pixels."
            )
        if any(some % _GROUPS for some in all_widths[1:]):
            raise ValueError(f"not all of a stem's widths {all_widths[1:]} divide by {_GROUPS}.")
        self.patch_size = patch_size
        self.halvings = nn.ModuleList(
            Convolution(narrow, wide, stride=2) for narrow, wide in pairwise(all_widths)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(_GROUPS, wide) for wide in all_widths[1:])
        self.act = Gelu("gelu")
        self.around = Convolution(width, width)
        self.proj = Linear(width, width)

    def forward(self, patches: Tensor, packing: Packing) -> Tensor:
        """Flat pixels (N, 3 * P * P), in [-1, 1], to rows (N, C)."""
        images = packing.split(patches)
        alike: dict[tuple[int, int], list[int]] = {}
        for place, size in enumerate(packing):
            alike.setdefault(size, []).append(place)
        rows = list(images)
        # On a CPU one by one where codes are made, for a batch may add in another order.
        at_once = 1 if patches.device.type == "cpu" and not torch.is_grad_enabled() else len(images)
        for size, places in alike.items():
            for start in range(0, len(places), at_once):
                some = places[start : start + at_once]
                maps = self._maps(self._pixels(torch.stack([images[i] for i in some]), size))
                for place, found in zip(some, maps.flatten(2).mT, strict=True):
                    rows[place] = found
        return self.proj(torch.cat(rows).contiguous())

    def _pixels(self, patches: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, h * w, 3 * P * P) to (B, 3, H, W)."""
        (h, w), side = size, self.patch_size
        cells = patches.view(-1, h, w, 3, side, side).permute(0, 3, 1, 4, 2, 5)
        return cells.reshape(-1, 3, h * side, w * side)

    def _maps(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, C, H / P, W / P)."""
        for halving, norm in zip(self.halvings, self.norms, strict=True):
            pixels = self.act(norm(halving(pixels)))
        return pixels + self.act(self.around(pixels))
