"""The shapes that ship: nano, which is bundled, and the two of the paper."""

from viq.model.embedder import EmbedderConfig
from viq.model.encoder import EncoderConfig, PoolConfig
from viq.model.head import HeadConfig, QuantizerConfig
from viq.model.latent_head import LatentHeadConfig
from viq.model.network import NetworkConfig
from viq.model.quantizers import CODEBOOKS


def nano(codebook: str = "64k") -> NetworkConfig:
    """Small enough to train on two cores.

    Its head is not the released one, which costs as much as ten blocks: between features and
    codes there is little but linear maps, which also learn sooner.
    """
    width, code_width = 256, 64
    quantizer = QuantizerConfig(levels=CODEBOOKS[codebook])
    return NetworkConfig(
        encoder=EncoderConfig(
            width=width, depth=6, attention_heads=4, mlp_width=1024, position_side=32
        ),
        head=HeadConfig(
            width=width,
            attention_heads=4,
            mlp_width=1024,
            depth=1,
            code_heads=4,
            code_width=code_width,
            expand_width=None,
            refine=False,
            code_depth=1,
            code_mlp_width=2 * code_width,
            rope_width=code_width,
            quantizer=quantizer,
        ),
        embedder=EmbedderConfig(
            width=width,
            code_heads=4,
            code_width=code_width,
            merge_width=None,
            mlp_width=None,
            depth=1,
            residual_width=512,
            quantizer=quantizer,
        ),
        latent_head=LatentHeadConfig(
            width=width, attention_heads=4, mlp_width=1024, depth=3, adapter_width=None
        ),
    )


def released(
    width: int,
    depth: int,
    mlp_width: int,
    quantizer: QuantizerConfig,
    *,
    position_side: int = 128,
    attention_heads: int = 16,
    rope_width: int = 256,
) -> NetworkConfig:
    """The released architecture at any size: four code heads as wide as the encoder."""
    wide = 4 * width
    return NetworkConfig(
        encoder=EncoderConfig(
            width=width,
            depth=depth,
            attention_heads=attention_heads,
            mlp_width=mlp_width,
            position_side=position_side,
        ),
        pool=PoolConfig(width=width, attention_heads=attention_heads, mlp_width=mlp_width),
        head=HeadConfig(
            width=width,
            attention_heads=attention_heads,
            mlp_width=wide,
            depth=3,
            code_heads=4,
            code_width=width,
            expand_width=wide,
            refine=True,
            code_depth=3,
            code_mlp_width=wide,
            rope_width=min(rope_width, width),
            quantizer=quantizer,
            rope_dtype="model",
        ),
        embedder=EmbedderConfig(
            width=width,
            code_heads=4,
            code_width=width,
            merge_width=wide,
            mlp_width=width,
            depth=3,
            residual_width=2 * width,
            quantizer=quantizer,
        ),
        latent_head=LatentHeadConfig(
            width=width,
            attention_heads=attention_heads,
            mlp_width=wide,
            depth=3,
            adapter_width=width,
        ),
    )


def so400m(codebook: str = "64k") -> NetworkConfig:
    """SigLIP 2 so400m's encoder with the released head."""
    return released(1152, 27, 4304, QuantizerConfig(levels=CODEBOOKS[codebook]))


def giant(codebook: str = "64k") -> NetworkConfig:
    """SigLIP 2 giant's encoder with the released head."""
    return released(1536, 40, 6144, QuantizerConfig(levels=CODEBOOKS[codebook]))


PRESETS = {"nano": nano, "so400m": so400m, "giant": giant}
