"""The shapes that ship: nano, which is bundled, and the two of the paper."""

from viq.model.encoder import EncoderConfig, PoolConfig
from viq.model.head import QuantizerConfig
from viq.model.network import NetworkConfig
from viq.model.quantizers import CODEBOOKS
from viq.model.shape import CodeBlocks, Shape, network_config

# Its head is not the released one, which costs as much as ten blocks: between features and codes
# there is little but linear maps, which also learn sooner.
NANO_SHAPE = Shape(
    code_width=64,
    depth=1,
    mlp_width=1024,
    expand_width=None,
    refine=False,
    merge_width=None,
    embedder_mlp_width=None,
    residual_depth=1,
    residual_width=512,
    latent_depth=3,
    adapter_width=None,
)
NANO_CODE_BLOCKS = CodeBlocks(depth=1, mlp_width=128, attention_width=64)


def nano(codebook: str = "64k") -> NetworkConfig:
    """Small enough to train on two cores."""
    encoder = EncoderConfig(
        width=256,
        depth=4,
        attention_heads=4,
        mlp_width=1024,
        position_side=32,
        stem=(32, 64, 128),
    )
    quantizer = QuantizerConfig(levels=CODEBOOKS[codebook])
    return network_config(encoder, None, NANO_SHAPE, quantizer, NANO_CODE_BLOCKS)


def released_shape(width: int) -> Shape:
    """Four code heads as wide as the encoder, and MLPs wherever there may be some."""
    return Shape(
        code_width=width,
        depth=3,
        mlp_width=4 * width,
        expand_width=4 * width,
        refine=True,
        merge_width=4 * width,
        embedder_mlp_width=width,
        residual_depth=3,
        residual_width=2 * width,
        latent_depth=3,
        adapter_width=width,
    )


def released_code_blocks(width: int, rope_width: int = 256) -> CodeBlocks:
    """Three blocks whose attention is narrower than the code tokens."""
    return CodeBlocks(
        depth=3, mlp_width=4 * width, attention_width=min(rope_width, width), rope_dtype="model"
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
    """The released architecture at any size."""
    encoder = EncoderConfig(
        width=width,
        depth=depth,
        attention_heads=attention_heads,
        mlp_width=mlp_width,
        position_side=position_side,
    )
    pool = PoolConfig(width=width, attention_heads=attention_heads, mlp_width=mlp_width)
    blocks = released_code_blocks(width, rope_width)
    return network_config(encoder, pool, released_shape(width), quantizer, blocks)


def so400m(codebook: str = "64k") -> NetworkConfig:
    """SigLIP 2 so400m's encoder with the released head."""
    return released(1152, 27, 4304, QuantizerConfig(levels=CODEBOOKS[codebook]))


def giant(codebook: str = "64k") -> NetworkConfig:
    """SigLIP 2 giant's encoder with the released head."""
    return released(1536, 40, 6144, QuantizerConfig(levels=CODEBOOKS[codebook]))


PRESETS = {"nano": nano, "so400m": so400m, "giant": giant}
