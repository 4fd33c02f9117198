"""The networks of ``mllm_step.py``: the paper's, and a twin that two CPU cores can train.

The twin has an encoder of two blocks and language models of four or five layers. Their widths are
chosen so that, by FLOPs and for the benchmark's workload, one step of everything that trains
(projector and language model) stands to the encoder's forward pass as in the true sizes; so do the
folded embedder and the head. ``tests/benchmarks`` holds them to it.
"""

from typing import Any

from viq.model.encoder import EncoderConfig
from viq.model.head import QuantizerConfig
from viq.model.network import NetworkConfig
from viq.model.presets import giant
from viq.model.quantizers import CODEBOOKS
from viq.model.shape import CodeBlocks, Shape, network_config

LMS = ("0.5B", "1.5B", "3B", "7B")
SCALES = ("true", "proportional")

# Time that the paper's Figure 4 saves, of a forward pass and of a whole step.
PAPER = {
    ("0.5B", 4096): (0.707, 0.497),
    ("0.5B", 16384): (0.790, 0.695),
    ("1.5B", 4096): (0.688, 0.460),
    ("1.5B", 16384): (0.766, 0.634),
    ("3B", 4096): (0.615, 0.358),
    ("3B", 16384): (0.729, 0.544),
    ("7B", 4096): (0.467, 0.230),
    ("7B", 16384): (0.651, 0.416),
}

# Width, hidden width, layers, attention heads, of keys and values, vocabulary.
_QWEN = {  # https://arxiv.org/abs/2412.15115
    "0.5B": (896, 4864, 24, 14, 2, 151_936),
    "1.5B": (1536, 8960, 28, 12, 2, 151_936),
    "3B": (2048, 11_008, 36, 16, 2, 151_936),
    "7B": (3584, 18_944, 28, 28, 4, 152_064),
}
_TWIN = {
    "0.5B": (320, 1568, 4, 5, 1, 8192),
    "1.5B": (640, 3008, 4, 10, 2, 8192),
    "3B": (896, 3712, 5, 14, 2, 8192),
    "7B": (1280, 6560, 5, 20, 4, 8192),
}


def vision(scale: str) -> NetworkConfig:
    """Encoder, head and embedder."""
    if scale == "true":
        return giant("64k")
    encoder = EncoderConfig(
        width=1024, depth=2, attention_heads=16, mlp_width=4096, position_side=128
    )
    shape = Shape(
        code_width=512,
        depth=0,
        mlp_width=4096,
        expand_width=2048,
        refine=True,
        merge_width=512,
        embedder_mlp_width=None,
        residual_depth=1,
        residual_width=256,
        latent_depth=0,
        adapter_width=None,
    )
    blocks = CodeBlocks(depth=1, mlp_width=192, attention_width=64, rope_dtype="model")
    quantizer = QuantizerConfig(levels=CODEBOOKS["64k"])
    return network_config(encoder, None, shape, quantizer, blocks, latent_channels=None)


def language_model(scale: str, size: str) -> Any:
    """A ``Qwen2Config``."""
    from transformers import Qwen2Config

    sizes = (_QWEN if scale == "true" else _TWIN)[size]
    width, hidden, layers, heads, shared, vocabulary = sizes
    return Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        max_position_embeddings=32_768,
        tie_word_embeddings=size != "7B",
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )
