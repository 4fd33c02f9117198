"""The quantization head: features to code tokens to latents, those that are rounded to codes.

Each patch becomes several code tokens (the code heads), which meet the same code head of the
other patches of their image in attention with rotary positions, and are then projected to the
few dimensions that FSQ rounds. Two ways down are known: direct, C -> K, as in the released
weights, and nested in the proximal bottleneck, C -> D -> K, as in the paper
(https://arxiv.org/abs/2606.27313). Before quantisation is trained, the bottleneck alone, with a
limit on its surface, is the proximal representation. SimVQ quantizes the bottleneck itself.

Axes: N patches, Q code heads, C width, T width of a code token, D bottleneck, K code dimensions
(as many as the bottleneck is wide where there are no levels).
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viq.model.attention import attention
from viq.model.layers import Activation, Block, Linear, Mlp, Residual, mlp_or_linear
from viq.model.packing import Packing
from viq.model.positions import PositionGrid, RopeDtype, RotaryAngles, rotate
from viq.model.quantizers import FSQ, Limit, Quantized, apply_limit
from viq.model.simvq import SimVQ


@dataclass(frozen=True, kw_only=True)
class QuantizerConfig:
    """What the head ends with and the embedder begins with.

    ``levels`` alone is direct FSQ, with ``bottleneck`` nested FSQ; ``codebook_size`` with
    ``bottleneck`` is SimVQ, whose entries ``limit`` confines; ``bottleneck`` alone is the
    proximal representation, which has no codes and is confined by ``limit``.
    """

    levels: tuple[int, ...] | None
    bottleneck: int | None = None
    limit: Limit = "none"
    codebook_size: int | None = None

    def __post_init__(self) -> None:
        if self.levels is None and self.bottleneck is None:
            raise ValueError("a quantizer needs levels, a bottleneck, or both.")
        if self.levels is not None and self.limit != "none":
            raise ValueError(
                f"FSQ takes the place of the limit, so levels {self.levels} do not go with"
                f" limit {self.limit!r}."
            )
        if self.levels is not None and self.codebook_size is not None:
            raise ValueError(
                f"levels {self.levels} are FSQ's and codebook_size {self.codebook_size} is"
                " SimVQ's; give one of the two."
            )

    @property
    def latent_width(self) -> int:
        """Numbers a code token is described by: K with levels, else D."""
        width = len(self.levels) if self.levels is not None else self.bottleneck
        assert width is not None
        return width

    @property
    def is_nested(self) -> bool:
        """Whether latents are FSQ's few dimensions inside a bottleneck."""
        return self.levels is not None and self.bottleneck is not None

    @property
    def code_levels(self) -> tuple[int, ...] | None:
        """What stored codes are digits of: a codebook is one digit; None: there are no codes."""
        return self.levels if self.codebook_size is None else (self.codebook_size,)


def build_quantizer(config: QuantizerConfig) -> FSQ | SimVQ | None:
    """The module that makes codes; None for the proximal representation."""
    if config.levels is not None:
        return FSQ(config.levels)
    if config.codebook_size is not None:
        return SimVQ(config.codebook_size, config.latent_width, config.limit)
    return None


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Shape of a ``QuantizationHead``."""

    width: int
    attention_heads: int
    mlp_width: int
    depth: int  # blocks before the expansion
    code_heads: int
    code_width: int  # of a code token
    expand_width: int | None  # hidden width of the expansion; None: one linear map
    code_depth: int  # rotary blocks on the code tokens
    code_mlp_width: int
    rope_width: int  # attention inside the rotary blocks runs at this width
    quantizer: QuantizerConfig
    refine: bool = True  # whether an MLP runs on each code token after the expansion
    positions: Literal["rope", "learned", "none"] = "rope"
    position_side: int = 32  # of the grid of learned positions, one for each code head
    rope_min_freq: float = 0.2
    rope_max_freq: float = 20.0
    rope_dtype: RopeDtype = "float32"  # "model" follows the network's dtype, as released weights do
    activation: Activation = "gelu"
    norm_eps: float = 1e-6
    input_norm_eps: float = 1e-5


class HeadlessAttention(nn.Module):
    """Attention whose heads are the code heads: each code token meets its like in other patches."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        width, narrow = config.code_width, config.rope_width
        self.reduce = Linear(width, narrow) if width != narrow else nn.Identity()
        self.qkv = Linear(narrow, 3 * narrow)
        self.proj = Linear(narrow, narrow)
        self.expand = Linear(narrow, width) if width != narrow else nn.Identity()

    def forward(
        self, tokens: Tensor, packing: Packing, rotation: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """(N, Q, T) to (N, Q, T)."""
        patches, heads, _ = tokens.shape
        qkv = self.qkv(self.reduce(tokens.flatten(0, 1)))
        query, key, value = qkv.view(patches, heads, 3, -1).unbind(2)
        if rotation is not None:
            query, key = rotate(query, *rotation), rotate(key, *rotation)
        attended = attention(query, key, value, packing)
        return self.expand(self.proj(attended.flatten(0, 1))).view_as(tokens)


class HeadlessBlock(Residual):
    """A pre-norm block on code tokens; nothing passes between the code heads of a patch."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.code_width, eps=config.norm_eps)
        self.attn = HeadlessAttention(config)
        self.norm2 = nn.LayerNorm(config.code_width, eps=config.norm_eps)
        self.mlp = Mlp(
            config.code_width, config.code_mlp_width, config.code_width, config.activation
        )

    def forward(
        self, tokens: Tensor, packing: Packing, rotation: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """(N, Q, T) to (N, Q, T)."""
        tokens = tokens + self.attn(self.norm1(tokens), packing, rotation)
        return tokens + self.mlp(self.norm2(tokens).flatten(0, 1)).view_as(tokens)

    def _last_maps(self) -> list[Linear]:
        widened = self.attn.expand
        return [widened if isinstance(widened, Linear) else self.attn.proj, self.mlp.fc2]


class QuantizationHead(nn.Module):
    """Features to latents, and latents to codes."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        width, tokens_width = config.width, config.code_heads * config.code_width
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
        act, code_width = config.activation, config.code_width
        self.expand = mlp_or_linear(width, config.expand_width, tokens_width, act)
        self.refine = Mlp(code_width, code_width, code_width, act) if config.refine else None
        self.positions = None
        if config.positions == "learned":
            self.positions = PositionGrid(config.position_side, tokens_width)
        self.code_blocks = nn.ModuleList(HeadlessBlock(config) for _ in range(config.code_depth))
        self.angles = RotaryAngles(
            config.code_heads,
            config.rope_width,
            config.rope_min_freq,
            config.rope_max_freq,
            config.rope_dtype,
        )
        quantizer = config.quantizer
        self.project_in = Linear(config.code_width, quantizer.bottleneck or quantizer.latent_width)
        self.reduce = None
        if quantizer.is_nested:
            self.reduce = Linear(self.project_in.out_features, quantizer.latent_width)
        self.quantizer = build_quantizer(quantizer)

    def forward(self, features: Tensor, packing: Packing) -> Tensor:
        """Latents (N, Q, K), the values before rounding, of features (N, C).

        Without levels they are (N, Q, D): the proximal representation, inside its limit, or what
        SimVQ compares with its entries.
        """
        tokens = self.tokens(features, packing).flatten(0, 1)
        # Not under autocast: in bfloat16 latents near a level's edge would flip.
        with torch.autocast(tokens.device.type, enabled=False):
            latents = self.project_in(tokens.to(self.project_in.weight.dtype))
            if self.reduce is not None:
                latents = self.reduce(latents)
        latents = latents.view(-1, self.config.code_heads, latents.shape[-1])
        return latents if self.quantizer else apply_limit(latents, self.config.quantizer.limit)

    def tokens(self, features: Tensor, packing: Packing) -> Tensor:
        """Code tokens (N, Q, T) of features (N, C), before they are projected."""
        config = self.config
        rows = F.layer_norm(features, (config.width,), eps=config.input_norm_eps)
        for block in self.blocks:
            rows = block(rows, packing)
        tokens = self.expand(rows).reshape(-1, config.code_width)
        if self.refine is not None:
            tokens = self.refine(tokens)
        tokens = tokens.view(-1, config.code_heads, config.code_width)
        if self.positions is not None:
            tokens = tokens + self.positions(packing).view_as(tokens)
        rotation = None
        if config.positions == "rope" and config.code_depth:
            rotation = self.angles(packing, like=tokens)
        for block in self.code_blocks:
            tokens = block(tokens, packing, rotation)
        return tokens

    def quantize(self, latents: Tensor) -> Quantized:
        """Rounds latents (N, Q, K) to values (N, Q, K) and codes (N, Q)."""
        if self.quantizer is None:
            raise ValueError("a proximal head has no levels, so no codes; use its latents.")
        quantized: Quantized = self.quantizer(latents)
        return quantized
