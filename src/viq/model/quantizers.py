"""Finite scalar quantization, FSQ (https://arxiv.org/abs/2309.15505), and the proximal limits.

Axes: N patches or code tokens, K code dimensions.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Limit = Literal["none", "l2", "l_inf", "tanh"]

CODEBOOKS: dict[str, tuple[int, ...]] = {  # the five released sizes
    "2k": (8, 8, 4, 3, 3),
    "4k": (8, 8, 4, 4, 4),
    "8k": (8, 8, 8, 4, 4),
    "16k": (8, 8, 8, 6, 5),
    "64k": (8, 8, 8, 5, 5, 5),
}


class Quantized(NamedTuple):
    """What comes out of a quantizer."""

    values: Tensor  # (..., K) float32, each on its level's grid in [-1, 1]
    codes: Tensor  # (...) int64 in [0, codebook_size)


class _Constants(NamedTuple):
    """Per dimension (K,): what the rounding needs to know of the levels."""

    half: Tensor  # half the bounded range
    offset: Tensor  # even levels round at halves
    shift: Tensor  # moves latent 0 to value 0
    levels: Tensor
    middle: Tensor  # the digit of value 0
    basis: Tensor  # the digit's weight in the code
    weight: Tensor  # the same as a float that holds every code exactly
    centre: Tensor  # the code of value 0

    @classmethod
    def of(cls, sizes: tuple[int, ...]) -> "_Constants":
        levels = torch.tensor(sizes)
        half = (levels - 1) * 1.001 / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        basis = torch.tensor([math.prod(sizes[:k]) for k in range(len(sizes))])
        weight = basis.to(torch.float32 if math.prod(sizes) <= 2**24 else torch.float64)
        middle = levels // 2
        shift = (offset / half).atanh()
        return cls(half, offset, shift, levels, middle, basis, weight, (middle * basis).sum())


def _bound(latents: Tensor, c: _Constants) -> tuple[Tensor, Tensor]:
    """The bounded values, and the sigmoid s inside them: tanh(x) is 2 s(2 x) - 1.

    torch's sigmoid is eight times as fast as its tanh on a CPU.
    """
    sigmoid = torch.add(2 * c.shift, latents, alpha=2).sigmoid_()
    return torch.addcmul(-c.half - c.offset, sigmoid, 2 * c.half), sigmoid


class _Round(torch.autograd.Function):
    """Bounds, rounds and scales in one; the gradient is that of the bounding and scaling alone."""

    @staticmethod
    def forward(ctx: Any, latents: Tensor, c: _Constants) -> tuple[Tensor, Tensor]:
        bounded, sigmoid = _bound(latents, c)
        ctx.save_for_backward(sigmoid, 4 * c.half / c.middle)
        rounded = bounded.round_()
        ctx.mark_non_differentiable(rounded)
        return rounded / c.middle, rounded

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        sigmoid, scale = ctx.saved_tensors
        return torch.ops.aten.sigmoid_backward(grads[0] * scale, sigmoid), None


class FSQ(nn.Module):
    """Rounds each latent dimension to one of its levels; gradients pass straight through.

    A dimension with L levels is bounded by a tanh that reaches just past its outer levels, then
    rounded. The first dimension is the least significant digit of the code.
    """

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"each dimension needs at least 2 levels, but levels are {levels}.")
        self.levels = tuple(int(level) for level in levels)
        self.codebook_size = math.prod(self.levels)
        self._by_device: dict[torch.device, _Constants] = {}

    def _constants(self, device: torch.device) -> "_Constants":
        """The levels' constants; no buffers, for those would follow the module to bfloat16."""
        if device not in self._by_device:
            constants = _Constants.of(self.levels)
            self._by_device[device] = _Constants(*(c.to(device) for c in constants))
        return self._by_device[device]

    def _check(self, latents: Tensor) -> None:
        if (width := latents.shape[-1]) != len(self.levels):
            raise ValueError(f"latents are {width} wide but there are {len(self.levels)} levels.")

    def bound(self, latents: Tensor) -> Tensor:
        """Latents (..., K) squeezed into the levels' range, float32, before rounding.

        Raises:
            ValueError: the last axis is not ``len(levels)`` wide.
        """
        self._check(latents)
        return _bound(latents.float(), self._constants(latents.device))[0]

    def shares(self, latents: Tensor) -> Tensor:
        """Where latents (..., K) lie between the outer levels, float32 in (0, 1), before rounding.

        Raises:
            ValueError: the last axis is not ``len(levels)`` wide.
        """
        self._check(latents)
        return torch.sigmoid(2 * (self._constants(latents.device).shift + latents.float()))

    def forward(self, latents: Tensor) -> Quantized:
        """Quantizes (..., K) in float32, whatever the dtype: in bfloat16 codes near an edge flip.

        Raises:
            ValueError: the last axis is not ``len(levels)`` wide.
        """
        self._check(latents)
        c = self._constants(latents.device)
        with torch.autocast(latents.device.type, enabled=False):
            values, rounded = _Round.apply(latents.float(), c)  # type: ignore[no-untyped-call]
            return Quantized(values, (rounded.to(c.weight.dtype) @ c.weight).long() + c.centre)

    def values(self, codes: Tensor) -> Tensor:
        """The grid values (..., K), float32, that ``codes`` (...) stand for."""
        c = self._constants(codes.device)
        digits = codes.long().unsqueeze(-1) // c.basis % c.levels
        return (digits - c.middle) / c.middle.float()


def apply_limit(bottleneck: Tensor, limit: Limit) -> Tensor:
    """Confines each row (..., D) to a surface or a box; gradients flow through the norms.

    ``l_inf``, the paper's choice, puts each row on the surface of the unit hypercube.
    """
    if limit == "l2":
        return F.normalize(bottleneck, dim=-1, eps=1e-6)
    if limit == "l_inf":
        return bottleneck / bottleneck.abs().amax(-1, keepdim=True).clamp_min(1e-6)
    if limit == "tanh":
        return bottleneck.tanh()
    if limit == "none":
        return bottleneck
    raise ValueError(f"no limit {limit!r}; there are: none, l2, l_inf, tanh.")
