"""The latent head: features to the latents of an image VAE, which the VAE decodes to pixels.

Where the pixel decoder is trained, the head predicts a variance beside the mean; all other uses
take the mean alone.

Axes: N patches, C width, L channels of the VAE's latents, (h, w) grid of patches.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
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
    variance: bool = False  # whether the convolution gives log-variances after the means


class Posterior(NamedTuple):
    """A Gaussian over one image's VAE latents, each number on its own."""

    mean: Tensor  # (L, 2h, 2w)
    log_variance: Tensor  # (L, 2h, 2w)


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
        channels = config.latent_channels * config.upscale**2
        self.conv = nn.Conv2d(width, channels * (2 if config.variance else 1), 3, padding=1)

    def forward(self, features: Tensor, packing: Packing) -> list[Tensor]:
        """VAE latents (L, 2h, 2w) of each image, from features (N, C); 2 is ``upscale``.

        They are the means where there is a variance.
        """
        return self.to_latents(self.to_rows(features, packing), packing)

    def to_rows(self, features: Tensor, packing: Packing) -> Tensor:
        """The blocks alone: (N, C) to (N, C)."""
        rows: Tensor = self.norm(self.adapter(features))
        for block in self.blocks:
            rows = block(rows, packing)
        return rows

    def to_latents(self, rows: Tensor, packing: Packing) -> list[Tensor]:
        """The convolution alone: (N, C) to (L, 2h, 2w) of each image, its means."""
        return [maps[: self.config.latent_channels] for maps in self._convolve(rows, packing)]

    def to_posteriors(self, rows: Tensor, packing: Packing) -> list[Posterior]:
        """The convolution alone: (N, C) to a Gaussian over the latents of each image.

        Raises:
            ValueError: this head predicts no variance.
        """
        if not self.config.variance:
            raise ValueError("this latent head predicts no variance; use its latents.")
        return [Posterior(*maps.chunk(2)) for maps in self._convolve(rows, packing)]

    def _convolve(self, rows: Tensor, packing: Packing) -> list[Tensor]:
        """(N, C) to (L, 2h, 2w) of each image, or with a variance (2 L, 2h, 2w)."""
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
        """(B, h * w, C) to (B, L, 2h, 2w), or with a variance (B, 2 L, 2h, 2w)."""
        maps = images.transpose(1, 2).unflatten(2, size)
        return F.pixel_shuffle(self.conv(F.silu(self.conv_norm(maps))), self.config.upscale)


def with_variance(head: LatentHead, log_variance: float) -> LatentHead:
    """A new head of the same means, whose variance is exp(``log_variance``) everywhere.

    One that predicts a variance already is copied as it is.
    """
    new = LatentHead(replace(head.config, variance=True)).to(head.conv.weight)
    state = head.state_dict()
    if not head.config.variance:
        weight, bias = state["conv.weight"], state["conv.bias"]
        state["conv.weight"] = torch.cat([weight, torch.zeros_like(weight)])
        state["conv.bias"] = torch.cat([bias, torch.full_like(bias, log_variance)])
    new.load_state_dict(state)
    return new.train(head.training)
