"""From features to a language model's embeddings: pooled, rows and images marked.

Axes: N patches of all images, M windows of p x p patches, V tokens, C channels of the features,
D of the language model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viq.convert.tensors import Tensors
from viq.model.layers import Gelu, Linear, Mlp
from viq.model.packing import Packing

POOLS = (1, 2, 4)  # patches along each side of what becomes one token
# "placed": features have variance 1, and patches know their place in the window. The official one
# has neither, so of letters that stand in one window it hardly tells which comes first.
ProjectorKind = Literal["official", "placed"]

# Beginnings of names here, and of the official code's.
_OFFICIAL = tuple(
    (f"projector.{ours}", theirs)
    for ours, theirs in (
        ("proj_in", "proj1"),
        ("proj_out", "proj2"),
        ("scorer.fc1", "pooler.predictor.0"),
        ("scorer.fc2", "pooler.predictor.2"),
        ("begin", "image_begin"),
        ("newline", "image_newline"),
        ("end", "image_end"),
    )
)


@dataclass(frozen=True, kw_only=True)
class ProjectorConfig:
    width: int  # of the features
    lm_width: int  # of the language model
    kind: ProjectorKind = "official"


class Projector(nn.Module):
    """Learned pooling between two linear maps; the same weights pool 1, 2 x 2 and 4 x 4 patches.

    An image becomes: begin, then each row of windows and a newline, then end.
    """

    def __init__(self, config: ProjectorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.lm_width
        self.proj_in = Linear(config.width, width)
        self.scorer = Mlp(2 * width, width, width)
        self.act = Gelu("gelu")
        self.proj_out = Linear(width, width)
        self.begin, self.newline, self.end = (
            nn.Parameter(torch.randn(width) * width**-0.5) for _ in range(3)
        )
        self.places: nn.Parameter | None = None  # those of each pool's windows, one after the other
        if config.kind == "placed":
            self.places = nn.Parameter(torch.randn(sum(p**2 for p in POOLS), width) * 0.5)

    def forward(self, features: Tensor, packing: Packing, pool: int) -> Tensor:
        """(N, C) to (V, D), the tokens of all images in order.

        Raises:
            ValueError: features of another width or number, an unknown ``pool``, or a grid that
                it does not divide.
        """
        pooled = self.pooled(features, packing, pool)
        marks = torch.stack((self.begin, self.newline, self.end)).to(pooled.dtype)
        tokens = _order(packing, pool).tokens.to(features.device, non_blocking=True)
        return torch.cat((marks, pooled)).index_select(0, tokens)

    def pooled(self, features: Tensor, packing: Packing, pool: int) -> Tensor:
        """(N, C) to (M, D), the windows of all images in order, without marks; errors as above."""
        if features.shape[-1] != self.config.width:
            raise ValueError(
                f"features are {features.shape[-1]} wide, the projector takes {self.config.width}."
            )
        if len(features) != packing.offsets[-1]:
            raise ValueError(f"{len(features)} features for {packing.offsets[-1]} patches.")
        windows = windows_of(packing, pool).to(features.device, non_blocking=True)
        if self.places is not None:
            features = F.layer_norm(features, features.shape[-1:])
        rows = self.proj_in(features).index_select(0, windows.flatten()).unflatten(0, windows.shape)
        if self.places is not None:
            first = sum(p**2 for p in POOLS if p < pool)
            rows = rows + self.places[first : first + pool**2]
        return self.proj_out(self.act(self._pool(rows)))

    def _pool(self, rows: Tensor) -> Tensor:
        """(M, p * p, D) to (M, D): each channel weighs the patches of its window on its own."""
        mean = rows.mean(1, keepdim=True).expand_as(rows)
        scores = self.scorer(torch.cat((rows, mean), -1).flatten(0, 1)).view_as(rows)
        return (scores.softmax(1) * rows).sum(1)


def windows_of(packing: Packing, pool: int) -> Tensor:
    """(M, p * p) places of the patches of each window, row by row.

    Raises:
        ValueError: an unknown ``pool``, or a grid that it does not divide.
    """
    return _order(packing, pool).windows.unflatten(0, (-1, pool**2))


class _Order(NamedTuple):
    windows: Tensor  # (N,) patches, those of a window together
    tokens: Tensor  # (V,) what each token is: 0 begin, 1 newline, 2 end, else 3 + its window


def _order(packing: Packing, pool: int) -> _Order:
    """Where everything goes, made on the host from numbers that are there."""
    if pool not in POOLS:
        raise ValueError(f"pool is {pool}; it can be {', '.join(map(str, POOLS))}.")
    windows, tokens, done = [], [], 0
    for (h, w), patches in zip(packing, packing.offsets, strict=False):
        order = _order_of_one(h, w, pool)
        windows.append(order.windows + patches)
        tokens.append(torch.where(order.tokens < 3, order.tokens, order.tokens + done))
        done += (h // pool) * (w // pool)
    none = torch.zeros(0, dtype=torch.int64)
    return _Order(torch.cat([none, *windows]), torch.cat([none, *tokens]))


@lru_cache(maxsize=4096)
def _order_of_one(h: int, w: int, pool: int) -> _Order:
    if h % pool or w % pool:
        raise ValueError(f"an image of {h} x {w} patches does not divide into {pool} x {pool}.")
    windows = torch.arange(h * w).view(h // pool, pool, w // pool, pool).transpose(1, 2).flatten()
    rows = torch.arange(3, 3 + (h // pool) * (w // pool)).view(h // pool, w // pool)
    lines = torch.cat((rows, torch.ones(h // pool, 1, dtype=torch.int64)), 1).flatten()
    return _Order(windows, torch.cat((torch.tensor([0]), lines, torch.tensor([2]))))


def projector_from_official(tensors: Mapping[str, Tensor], source: str) -> Projector:
    """The official code's projector, by its own names; ``source`` is for messages.

    Raises:
        ConversionError: a tensor is missing, left over or of another shape.
    """
    theirs = Tensors(tensors, Path(source))
    lm_width, width = (theirs.size("proj1.weight", axis) for axis in (0, 1))
    projector = Projector(ProjectorConfig(width=width, lm_width=lm_width))
    found = theirs.match({"projector": projector}, _OFFICIAL)
    projector.load_state_dict({n.removeprefix("projector."): t for n, t in found.items()})
    return projector
