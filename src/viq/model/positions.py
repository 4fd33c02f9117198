"""Where a patch is: a learned grid resized to the image, and rotary angles of two dimensions.

The rotary frequencies lie in directions a golden angle apart, from ``min_freq`` to ``max_freq``
in a geometric row, the first quarter zero (so that part of each head sees content alone).
Positions are relative to the image's own extent, so any resolution and aspect ratio works.

Axes: N patches, A heads, F frequencies of a head (half its channels), C channels.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viq.model.packing import Packing

RopeDtype = Literal["model", "float32", "bfloat16"]


class PositionGrid(nn.Module):
    """A learned grid of positions, resized bilinearly to each image's grid."""

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(side, side, width))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, packing: Packing) -> Tensor:
        """Positions (N, C) of all patches of ``packing``."""
        grid = self.weight.permute(2, 0, 1).unsqueeze(0)
        resized = {size: self._resize(grid, size) for size in set(packing)}
        return torch.cat([resized[size] for size in packing])

    def _resize(self, grid: Tensor, size: tuple[int, int]) -> Tensor:
        if tuple(grid.shape[2:]) != size:
            grid = F.interpolate(grid, size, mode="bilinear", align_corners=False)
        return grid[0].flatten(1).T


class RotaryAngles:
    """Angles for rotating queries and keys; holds no parameters."""

    def __init__(
        self, heads: int, head_width: int, min_freq: float, max_freq: float, dtype: RopeDtype
    ) -> None:
        self.dtype = None if dtype == "model" else getattr(torch, dtype)
        self.frequencies = golden_frequencies(heads, head_width // 2, min_freq, max_freq)

    def __call__(self, packing: Packing, like: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin, (N, A, F) each, on the device and in the dtype of ``like``."""
        frequencies = self.frequencies.to(like.device, non_blocking=True)
        # On a CPU in float64 and rounded once: the float32 functions differ in the last bit
        # between their vector and their scalar forms, and which is used depends on the threads.
        exact = torch.float64 if like.device.type == "cpu" else torch.float32
        tables = {}
        for size in set(packing):
            theta = rotary_angles(size, frequencies).to(self.dtype or like.dtype).to(exact)
            tables[size] = theta.cos().to(like), theta.sin().to(like)
        cos, sin = zip(*(tables[size] for size in packing), strict=True)
        return torch.cat(cos), torch.cat(sin)


def golden_frequencies(heads: int, count: int, min_freq: float, max_freq: float) -> Tensor:
    """Frequency vectors (A, F, 2) in (x, y), float32."""
    zeros = round(count / 4)
    steps = torch.linspace(0, 1, count - zeros, device="cpu")  # also while parts are built on meta
    magnitude = F.pad(min_freq * (max_freq / min_freq) ** steps, (zeros, 0))
    turns = torch.arange(heads * count, device="cpu").view(heads, count)
    direction = turns * (math.pi * (math.sqrt(5) - 1) / 2)
    return magnitude[None, :, None] * torch.stack([direction.cos(), direction.sin()], dim=-1)


def rotary_angles(grid_size: tuple[int, int], frequencies: Tensor) -> Tensor:
    """Angles (h * w, A, F) of one image, float32, its patches in raster order.

    x runs over +-sqrt(w / h) and y over +-sqrt(h / w), ends included.
    """
    (h, w), device = grid_size, frequencies.device
    x = torch.linspace(-math.sqrt(w / h), math.sqrt(w / h), w, device=device)
    y = torch.linspace(-math.sqrt(h / w), math.sqrt(h / w), h, device=device)
    position = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(-1, 1, 1, 2)
    return (frequencies * position).sum(-1)


def rotate(rows: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates (N, A, 2 F): channel f and channel F + f are a pair."""
    a, b = rows.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
