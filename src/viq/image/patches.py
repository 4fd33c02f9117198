"""Pixels cut into patches, and patches put together again.

Axes: N patches in raster order of the grid (h, w), P pixels on a patch's side. A patch's row is
ordered channel, y, x, as a Conv2d kernel (C, 3, P, P) is when its last three axes are flattened.
"""

from torch import Tensor


def patchify(pixels: Tensor, patch_size: int) -> Tensor:
    """Cuts pixels (3, H, W) into patches (N, 3*P*P); of a batch (B, 3, H, W), end to end.

    Raises:
        ValueError: H or W is not a multiple of ``patch_size``.
    """
    channels, height, width = pixels.shape[-3:]
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"pixels are {height} x {width}, not a multiple of the patch size {patch_size}."
        )
    rows, columns = height // patch_size, width // patch_size
    cells = pixels.reshape(-1, channels, rows, patch_size, columns, patch_size)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels * patch_size**2)


def unpatchify(patches: Tensor, grid_size: tuple[int, int], patch_size: int) -> Tensor:
    """Puts patches (N, 3*P*P) of a grid (h, w) together to pixels (3, H, W).

    Raises:
        ValueError: there are not h*w patches, or they are not 3*P*P wide.
    """
    rows, columns = grid_size
    expected = (rows * columns, 3 * patch_size**2)
    if tuple(patches.shape) != expected:
        raise ValueError(
            f"patches have shape {tuple(patches.shape)}, but a grid of {rows} x {columns} with"
            f" patch size {patch_size} has {expected}."
        )
    cells = patches.reshape(rows, columns, 3, patch_size, patch_size)
    return cells.permute(2, 0, 3, 1, 4).reshape(3, rows * patch_size, columns * patch_size)
