"""A small text encoder, the other side of image-text contrast.

Texts are packed end to end as images are; one is a row of tokens, which all see each other.

Axes: L tokens of all texts, B texts, C width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from viq.model.layers import Activation, Block
from viq.model.packing import Packing


@dataclass(frozen=True, kw_only=True)
class TextTowerConfig:
    """Shape of a ``TextTower``."""

    width: int
    depth: int
    attention_heads: int
    mlp_width: int
    vocabulary: int = 256  # token ids; 256 are bytes
    max_length: int = 64  # tokens; what is longer is cut
    activation: Activation = "gelu"
    norm_eps: float = 1e-6


class TextTower(nn.Module):
    """Token ids to one vector a text: the mean of its tokens' features after a final norm."""

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.max_length, config.width)
        for embedding in (self.tokens, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)
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
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Vectors (B, C) of texts as token ids.

        Raises:
            ValueError: a text has no tokens, or one that is not in the vocabulary.
        """
        cut = [list(text[: self.config.max_length]) for text in texts]
        if not all(cut):
            raise ValueError("a text has no tokens.")
        flat = [token for text in cut for token in text]
        if min(flat) < 0 or max(flat) >= self.config.vocabulary:
            raise ValueError(
                f"token ids go from {min(flat)} to {max(flat)}, but the vocabulary has"
                f" {self.config.vocabulary}."
            )
        device = self.tokens.weight.device
        places = [place for text in cut for place in range(len(text))]
        rows = self.tokens(torch.tensor(flat, device=device))  # (L, C)
        rows = rows + self.positions(torch.tensor(places, device=device))
        packing = Packing.of((1, len(text)) for text in cut)
        for block in self.blocks:
            rows = block(rows, packing)
        return torch.stack([text.mean(0) for text in packing.split(self.norm(rows))])
