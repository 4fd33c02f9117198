"""The vision transformer for any resolution, and the attention pooling of its semantic token.

The architecture is SigLIP 2's (https://arxiv.org/abs/2502.14786) with the position grid resized
per image and images packed into one sequence, as ViQ has it (https://arxiv.org/abs/2606.27313).

Axes: N patches of all images, B images, P patch side in pixels, C channels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viq.model.layers import Activation, Block, Linear, Mlp
from viq.model.packing import Packing
from viq.model.positions import PositionGrid
from viq.model.stem import ConvolutionalStem


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Shape of an ``Encoder``."""

    width: int
    depth: int
    attention_heads: int
    mlp_width: int
    position_side: int  # the learned grid is this many patches high and wide
    patch_size: int = 16  # pixels
    activation: Activation = "gelu"
    norm_eps: float = 1e-6
    stem: tuple[int, ...] = ()  # widths of a ``ConvolutionalStem``; none: no stem
    skip: bool = False  # adds a linear map of the pixels to the last block's output


class Encoder(nn.Module):
    """Packed patches to features; the last block's output, without a final norm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = Linear(3 * config.patch_size**2, config.width)
        self.stem = None
        if config.stem:
            self.stem = ConvolutionalStem(config.stem, config.width, config.patch_size)
        self.positions = PositionGrid(config.position_side, config.width)
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                config.attention_heads,
                config.mlp_width,
                config.activation,
                config.norm_eps,
            )
            for _ in range(config.depth)
        )
        self.skip = None
        if config.skip:
            self.skip = Linear(3 * config.patch_size**2, config.width)
            nn.init.zeros_(self.skip.weight)
            nn.init.zeros_(self.skip.bias)

    def forward(self, patches: Tensor, packing: Packing) -> Tensor:
        """Encodes flat pixels (N, 3 * P * P), in [-1, 1], to features (N, C)."""
        rows = self.patch_embed(patches)
        if self.stem is not None:
            rows = rows + self.stem(patches, packing)
        rows = rows + self.positions(packing)
        for block in self.blocks:
            rows = block(rows, packing)
        return rows if self.skip is None else rows + self.skip(patches)


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Shape of an ``AttentionPool``."""

    width: int
    attention_heads: int
    mlp_width: int
    activation: Activation = "gelu"
    norm_eps: float = 1e-6


class AttentionPool(nn.Module):
    """One semantic token an image: final norm, then a learned query attends to all patches.

    It reads the encoder's features, and as well those embedded from codes, which lie in the
    same space.
    """

    def __init__(self, config: PoolConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.latent = nn.Parameter(torch.empty(1, width))
        nn.init.trunc_normal_(self.latent, std=width**-0.5)
        self.q = Linear(width, width)
        self.kv = Linear(width, 2 * width)
        self.proj = Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.mlp = Mlp(width, config.mlp_width, width, config.activation)

    def forward(self, features: Tensor, packing: Packing) -> Tensor:
        """Pools (N, C) to (B, C)."""
        heads = self.config.attention_heads
        query = self.q(self.latent).unflatten(-1, (heads, -1)).transpose(0, 1)  # (A, 1, D)
        key_values = self.kv(self.norm(features)).unflatten(-1, (2, heads, -1))
        pooled = []
        for start, count, length in packing.runs:
            run = key_values[start : start + count * length].unflatten(0, (count, length))
            # On a CPU one by one, for a batch may add in another order.
            for few in run.split(1) if features.device.type == "cpu" else [run]:
                key, value = few.permute(2, 0, 3, 1, 4)  # (images, A, rows, D) each
                queries = query.expand(len(few), -1, -1, -1)
                pooled.append(F.scaled_dot_product_attention(queries, key, value).flatten(1))
        rows = self.proj(torch.cat(pooled))
        return rows + self.mlp(self.mlp_norm(rows))
