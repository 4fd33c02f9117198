"""Sizes of all that lies between an encoder and its codes, and back, each said once.

A stage that puts these parts on an encoder has a ``Shape`` in its config; the parts' own configs,
which are saved with the weights, are made of it here.
"""

from dataclasses import dataclass
from typing import Literal

from viq.model.embedder import EmbedderConfig
from viq.model.encoder import EncoderConfig, PoolConfig
from viq.model.head import HeadConfig, QuantizerConfig
from viq.model.latent_head import LatentHeadConfig
from viq.model.network import NetworkConfig
from viq.model.positions import RopeDtype


@dataclass(frozen=True, kw_only=True)
class CodeBlocks:
    """Attention among the code tokens of an image; it comes with quantisation, not before."""

    depth: int
    mlp_width: int
    attention_width: int
    positions: Literal["rope", "learned", "none"] = "rope"
    position_side: int = 32  # of the learned grid
    rope_dtype: RopeDtype = "float32"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Head, embedder and latent head; the width and the attention heads are the encoder's."""

    code_width: int  # of a code token
    code_heads: int = 4
    depth: int  # of the head's blocks
    mlp_width: int  # of the blocks of head and latent head
    expand_width: int | None  # hidden, where a patch becomes code tokens; None: one linear map
    refine: bool
    merge_width: int | None  # hidden, where they become one feature; None: one linear map
    embedder_mlp_width: int | None
    residual_depth: int
    residual_width: int
    latent_depth: int
    adapter_width: int | None


def network_config(
    encoder: EncoderConfig,
    pool: PoolConfig | None,
    shape: Shape,
    quantizer: QuantizerConfig,
    code_blocks: CodeBlocks | None,
    *,
    latent_channels: int | None = 16,
    upscale: int = 2,
) -> NetworkConfig:
    """The whole network's config.

    Without code blocks nothing passes between code tokens, and with None for ``latent_channels``
    there is no latent head.
    """
    width, heads = encoder.width, encoder.attention_heads
    blocks = code_blocks or CodeBlocks(
        depth=0, mlp_width=shape.code_width, attention_width=shape.code_width, positions="none"
    )
    return NetworkConfig(
        encoder=encoder,
        pool=pool,
        head=HeadConfig(
            width=width,
            attention_heads=heads,
            mlp_width=shape.mlp_width,
            depth=shape.depth,
            code_heads=shape.code_heads,
            code_width=shape.code_width,
            expand_width=shape.expand_width,
            refine=shape.refine,
            code_depth=blocks.depth,
            code_mlp_width=blocks.mlp_width,
            rope_width=blocks.attention_width,
            positions=blocks.positions,
            position_side=blocks.position_side,
            rope_dtype=blocks.rope_dtype,
            quantizer=quantizer,
        ),
        embedder=EmbedderConfig(
            width=width,
            code_heads=shape.code_heads,
            code_width=shape.code_width,
            merge_width=shape.merge_width,
            mlp_width=shape.embedder_mlp_width,
            depth=shape.residual_depth,
            residual_width=shape.residual_width,
            quantizer=quantizer,
        ),
        latent_head=None
        if latent_channels is None
        else LatentHeadConfig(
            width=width,
            attention_heads=heads,
            mlp_width=shape.mlp_width,
            depth=shape.latent_depth,
            adapter_width=shape.adapter_width,
            latent_channels=latent_channels,
            upscale=upscale,
        ),
    )
