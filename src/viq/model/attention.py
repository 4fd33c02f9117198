"""Attention inside each image of a packed sequence: one function, three backends.

Axes: N rows of all images, A attention heads, D channels of a head.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from viq.model.packing import Packing

Backend = Literal["auto", "sdpa", "varlen", "flash_attn"]
_chosen: Backend = "auto"

# On a CPU narrow heads take kernels whose sums depend on the number of threads. Measured: with
# whole sixteens of channels none does, so narrower heads are filled up with zeros.
_CPU_CHANNELS = 16


def attention(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    """Full attention, block-diagonal over the images of ``packing``.

    Args:
        query, key, value: (N, A, D).
        packing: the images; no row attends to a row of another image.

    Returns:
        (N, A, D), softmax(q k^T / sqrt(D)) v inside each image.
    """
    return _BACKENDS[backend_for(query)](query, key, value, packing)


def backend_for(query: Tensor) -> str:
    """The backend that ``attention`` takes for such a query."""
    if _chosen != "auto":
        return _chosen
    half = query.dtype in (torch.float16, torch.bfloat16)
    if query.is_cuda and half:  # neither kernel takes float32
        if has_varlen():
            return "varlen"
        if find_spec("flash_attn"):
            return "flash_attn"
    return "sdpa"


def has_varlen() -> bool:
    """Whether this torch has its own variable-length attention (2.10 and later)."""
    return find_spec("torch.nn.attention.varlen") is not None


@contextmanager
def attention_backend(backend: Backend) -> Iterator[None]:
    """Takes one backend for all attention inside the ``with``; "auto" is the default outside."""
    global _chosen
    if backend != "auto" and backend not in _BACKENDS:
        names = ", ".join(_BACKENDS)
        raise ValueError(f"no attention backend {backend!r}; there are: auto, {names}.")
    before, _chosen = _chosen, backend
    try:
        yield
    finally:
        _chosen = before


def _sdpa(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    """torch's scaled_dot_product_attention; neighbours of equal length are one batch."""
    channels = query.shape[-1]
    if query.device.type == "cpu" and channels % _CPU_CHANNELS:
        fill = (0, -channels % _CPU_CHANNELS)
        query, key, value = F.pad(query, fill), F.pad(key, fill), F.pad(value, fill)
    parts = []
    for start, count, length in packing.runs:
        rows = slice(start, start + count * length)
        batched_query, batched_key, batched_value = (
            x[rows].unflatten(0, (count, length)).transpose(1, 2) for x in (query, key, value)
        )
        attended = F.scaled_dot_product_attention(
            batched_query, batched_key, batched_value, scale=channels**-0.5
        )
        parts.append(attended.transpose(1, 2).flatten(0, 1)[..., :channels])  # (rows, A, D)
    return torch.cat(parts) if len(parts) != 1 else parts[0]


def _varlen(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    offsets, longest = packing.cu_seqlens(query.device), packing.max_seqlen
    return varlen_attn(query, key, value, offsets, offsets, longest, longest)  # type: ignore[return-value]


def _flash_attn(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    from flash_attn import flash_attn_varlen_func

    offsets, longest = packing.cu_seqlens(query.device), packing.max_seqlen
    out: Tensor = flash_attn_varlen_func(query, key, value, offsets, offsets, longest, longest)
    return out


_BACKENDS: dict[str, Callable[[Tensor, Tensor, Tensor, Packing], Tensor]] = {
    "sdpa": _sdpa,
    "varlen": _varlen,
    "flash_attn": _flash_attn,
}
