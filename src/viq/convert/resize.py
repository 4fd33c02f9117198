"""Position grids and patch kernels of another size than a model was trained with.

Both are bicubic and without antialiasing, as the released converter does it: once, when weights
are converted. What an encoder does for each image is ``viq.model.positions.PositionGrid``.

Axes: S patches on a side of the grid, P pixels on a side of a patch, C channels.
"""

import torch.nn.functional as F
from torch import Tensor


def resize_positions(grid: Tensor, side: int) -> Tensor:
    """A learned grid (S, S, C) as (side, side, C), in its own dtype."""
    resized = _bicubic(grid.permute(2, 0, 1).unsqueeze(0), side)
    return resized[0].permute(1, 2, 0).contiguous()


def resize_kernel(kernel: Tensor, patch_size: int) -> Tensor:
    """The weights (C, 3, P, P) of a patch embedding for patches of another size."""
    return _bicubic(kernel, patch_size)


def _bicubic(maps: Tensor, side: int) -> Tensor:
    if tuple(maps.shape[-2:]) == (side, side):
        return maps
    resized = F.interpolate(maps.float(), (side, side), mode="bicubic", align_corners=False)
    return resized.to(maps.dtype)
