"""SimVQ (https://arxiv.org/abs/2411.02038): a frozen random codebook under one learned linear map.

The rival of FSQ in the paper's ablation. All codes move together with the map, so none is left
behind. Gradients reach the latents by the rotation trick (https://arxiv.org/abs/2410.06424).

Axes: M code tokens, S codebook size, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viq.model.quantizers import Limit, Quantized, apply_limit

_DISTANCES = 2**26  # that are held at once


class SimVQ(nn.Module):
    """Takes each latent's nearest entry of a codebook; the limit applies to the entry."""

    frozen: Tensor

    def __init__(self, codebook_size: int, width: int, limit: Limit) -> None:
        super().__init__()
        self.codebook_size, self.limit = codebook_size, limit
        self.register_buffer("frozen", torch.randn(codebook_size, width) * width**-0.5)
        self.transform = nn.Parameter(torch.eye(width))

    @property
    def codebook(self) -> Tensor:
        """All entries (S, D), float32."""
        return self.frozen.float() @ self.transform.float().T

    def forward(self, latents: Tensor) -> Quantized:
        """Quantizes (..., D) in float32; values are limited entries, with the latents' gradient."""
        with torch.autocast(latents.device.type, enabled=False):
            rows = latents.float().flatten(0, -2)
            with torch.no_grad():
                codebook = self.codebook
                codes = nearest(rows, codebook)
                entries = codebook[codes]
            if rows.requires_grad:
                entries = rotate_onto(rows, entries)
            values = apply_limit(entries, self.limit)
        return Quantized(values.view(latents.shape), codes.view(latents.shape[:-1]))

    def entries(self, codes: Tensor) -> Tensor:
        """Entries (..., D) of codes (...) before the limit, with the map's gradient."""
        with torch.autocast(codes.device.type, enabled=False):
            return F.embedding(codes.long(), self.frozen.float()) @ self.transform.float().T

    @torch.no_grad()
    def match(self, latents: Tensor) -> None:
        """Gives the entries the second moments of latents (M, D), so that they lie among them."""
        rows = latents.double()
        values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
        root = vectors * values.clamp_min(0).sqrt() @ vectors.T
        self.transform.copy_(root * len(root) ** 0.5)  # the frozen entries have variance 1 / D

    def values(self, codes: Tensor) -> Tensor:
        """What the embedder reads of codes: limited entries (..., D)."""
        return apply_limit(self.entries(codes), self.limit)


def nearest(rows: Tensor, codebook: Tensor) -> Tensor:
    """For each row (M, D) the number of the nearest entry (S, D), int64 (M,)."""
    # The row's own square is the same for all entries.
    squares, double = codebook.square().sum(-1), 2 * codebook.T
    some = max(1, _DISTANCES // len(codebook))
    return torch.cat([(squares - part @ double).argmin(-1) for part in rows.split(some)])


def rotate_onto(rows: Tensor, entries: Tensor) -> Tensor:
    """The entries (M, D) as the rows turned and stretched; the gradient turns back with them."""
    with torch.no_grad():
        start, end = F.normalize(rows, dim=-1), F.normalize(entries, dim=-1)
        half = F.normalize(start + end, dim=-1)  # the direction between the two
        length = rows.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        stretch = entries.norm(dim=-1, keepdim=True) / length
    along_half = (rows * half).sum(-1, keepdim=True)
    along_start = (rows * start).sum(-1, keepdim=True)
    return stretch * (rows - 2 * along_half * half + 2 * along_start * end)
