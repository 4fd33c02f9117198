"""The latent head: features to the latents of a frozen image VAE, which the VAE decodes to pixels.

Axes: N patches, C width, L channels of the VAE's latents, (h, w) grid of patches.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from viq.model.layers import Activation, Block, Mlp
from viq.model.packing import Packing


@dataclass(frozen=True, kw_only=True)
class LatentHeadConfig:
    """Shape of a ``LatentHead``."""

    width: int
    attention_heads: int
    mlp_width: int
    depth: int
    adapter_width: int | None = None  # hidden width of an MLP before the blocks; None: no MLP
    latent_channels: int = 16
    upscale: int = 2  # latents a patch, along each side
    norm_groups: int = 32
    activation: Activation = "gelu"
    norm_eps: float = 1e-6


class LatentHead(nn.Module):
    """Blocks on the packed features, then a convolution on each image's own grid."""

    def __init__(self, config: LatentHeadConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        hidden = config.adapter_width
        self.adapter = Mlp(width, hidden, width, config.activation) if hidden else nn.Identity()
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.blocks = nn.ModuleList(
            Block(
                width,
                config.attention_heads,
                config.mlp_width,
                config.activation,
                config.norm_eps,
            )
            for _ in range(config.depth)
        )
        self.conv_norm = nn.GroupNorm(config.norm_groups, width, eps=config.norm_eps)
        self.conv = nn.Conv2d(width, config.latent_channels * config.upscale**2, 3, padding=1)

    def forward(self, features: Tensor, packing: Packing) -> list[Tensor]:
        """VAE latents (L, 2h, 2w) of each image, from features (N, C); 2 is ``upscale``."""
        return self.to_latents(self.to_rows(features, packing), packing)

    def to_rows(self, features: Tensor, packing: Packing) -> Tensor:
        """The blocks alone: (N, C) to (N, C)."""
        rows: Tensor = self.norm(self.adapter(features))
        for block in self.blocks:
            rows = block(rows, packing)
        return rows

    def to_latents(self, rows: Tensor, packing: Packing) -> list[Tensor]:
        """The convolution alone: (N, C) to (L, 2h, 2w) of each image."""
        latents: list[Tensor] = []
        for start, count, length in packing.runs:
            index = len(latents)
            sizes = packing.grid_sizes[index : index + count]
            images = rows[start : start + count * length].unflatten(0, (count, length))
            if len(set(sizes)) == 1:  # a run shares its length, not always its shape
                latents += self._upscale(images, sizes[0]).unbind(0)
            else:
                for image, size in zip(images, sizes, strict=True):
                    latents += self._upscale(image[None], size).unbind(0)
        return latents

    def _upscale(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, h * w, C) to (B, L, 2h, 2w)."""
        maps = images.transpose(1, 2).unflatten(2, size)
        return F.pixel_shuffle(self.conv(F.silu(self.conv_norm(maps))), self.config.upscale)
