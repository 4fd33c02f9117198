"""The code embedder: codes to features, all that a language model or a decoder needs of codes.

Each patch on its own, so it needs no image sizes.

Axes: N patches, Q code heads, K code dimensions, C width, T width of a code token.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from viq.model.head import QuantizerConfig, build_quantizer
from viq.model.layers import Activation, Linear, Mlp, ResidualMlp, mlp_or_linear


@dataclass(frozen=True, kw_only=True)
class EmbedderConfig:
    """Shape of a ``CodeEmbedder``."""

    width: int
    code_heads: int
    code_width: int
    merge_width: int | None  # hidden, where a patch's tokens become one; None: one linear map
    mlp_width: int | None  # hidden, after it; None: no such MLP
    depth: int  # residual MLPs after it
    residual_width: int
    quantizer: QuantizerConfig
    activation: Activation = "gelu"
    norm_eps: float = 1e-5


class CodeEmbedder(nn.Module):
    """Codes (N, Q) to features (N, C)."""

    def __init__(self, config: EmbedderConfig) -> None:
        super().__init__()
        self.config = config
        quantizer, width, act = config.quantizer, config.width, config.activation
        self.expand = None
        if quantizer.is_nested:
            assert quantizer.bottleneck is not None
            self.expand = Linear(quantizer.latent_width, quantizer.bottleneck)
        self.project_out = Linear(quantizer.bottleneck or quantizer.latent_width, config.code_width)
        tokens_width = config.code_heads * config.code_width
        self.merge = mlp_or_linear(tokens_width, config.merge_width, width, act)
        self.mlp = Mlp(width, config.mlp_width, width, act) if config.mlp_width else None
        self.residual_mlps = nn.ModuleList(
            ResidualMlp(width, config.residual_width, act, config.norm_eps)
            for _ in range(config.depth)
        )
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))
        self.quantizer = build_quantizer(quantizer)

    def forward(self, codes: Tensor) -> Tensor:
        """Features (N, C) of integer codes (N, Q)."""
        if self.quantizer is None:
            raise ValueError("a proximal embedder has no codes; give it values.")
        return self.embed_values(self.quantizer.values(codes))

    def embed_values(self, values: Tensor) -> Tensor:
        """Features (N, C) of grid values (N, Q, K) or proximal latents (N, Q, D)."""
        patches = values.shape[0]
        tokens = values.flatten(0, 1).to(self.project_out.weight.dtype)
        if self.expand is not None:
            tokens = self.expand(tokens)
        rows = self.merge(self.project_out(tokens).reshape(patches, -1))
        if self.mlp is not None:
            rows = self.mlp(rows)
        for mlp in self.residual_mlps:
            rows = mlp(rows)
        return rows * self.scale + self.shift
