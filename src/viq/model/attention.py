"""Attention inside each segment of a packed sequence: one function, three backends.

Axes: N rows of all segments (images, or texts), A attention heads, A_kv heads of keys and values,
D channels of a head.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from inspect import signature
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from viq.model.packing import Packing

Backend = Literal["auto", "sdpa", "varlen", "flash_attn"]
_chosen: Backend = "auto"

# On a CPU narrow heads take kernels whose sums depend on the number of threads. Measured: with
# whole sixteens of channels none does, so narrower heads are filled up with zeros. A GPU's
# kernels take whole eights only.
_CPU_CHANNELS, _GPU_CHANNELS = 16, 8
# On a CPU the fused kernel's backward pass takes four to six times as long as plain products do
# for 64 rows, and as long for some 600.
_SHORT = 600


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packing: Packing,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Attention that is block-diagonal over the segments of ``packing``.

    Args:
        query: (N, A, D).
        key: (N, A_kv, D), where A_kv divides A: each head of keys and values serves A / A_kv
            neighbouring heads of queries.
        value: (N, A_kv, E), where E is at most D.
        packing: the segments; no row attends to a row of another one.
        causal: whether a row attends only to itself and to those before it.
        scale: of the scores, 1 / sqrt(D) unless given.

    Returns:
        (N, A, E), softmax(scale * q k^T) v inside each segment.

    Raises:
        ValueError: A_kv does not divide A, or there are other than N rows.
    """
    heads, shared, channels = query.shape[1], key.shape[1], query.shape[2]
    if heads % shared:
        raise ValueError(f"{heads} heads of queries do not share {shared} heads of keys evenly.")
    if len(query) != packing.offsets[-1]:
        raise ValueError(f"{len(query)} rows, but segments of {packing.offsets[-1]} in all.")
    if not len(packing):
        return query[..., : value.shape[2]]
    if scale is None:
        scale = channels**-0.5
    whole = _CPU_CHANNELS if query.device.type == "cpu" else _GPU_CHANNELS
    width = channels + -channels % whole
    query, key, padded = (_widened(x, width) for x in (query, key, value))
    attended = _BACKENDS[backend_for(query)](query, key, padded, packing, causal, scale)
    return attended[..., : value.shape[2]]


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


@cache
def has_varlen() -> bool:
    """Whether this torch has its own variable-length attention with all that is asked of it.

    The first one, in 2.10, knew neither a scale nor shared heads; 2.9 had none.
    """
    if find_spec("torch.nn.attention.varlen") is None:
        return False
    from torch.nn.attention.varlen import varlen_attn

    return {"scale", "window_size", "enable_gqa"} <= set(signature(varlen_attn).parameters)


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


def _widened(rows: Tensor, channels: int) -> Tensor:
    """Fills the last axis up with zeros."""
    fill = channels - rows.shape[-1]
    return F.pad(rows, (0, fill)) if fill else rows


def _sdpa(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, causal: bool, scale: float
) -> Tensor:
    """torch's scaled_dot_product_attention; neighbours of equal length are one batch."""
    if (times := query.shape[1] // key.shape[1]) > 1:
        # Not by enable_gqa: in float32 a GPU has no kernel for it but one that writes all scores.
        key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    parts = []
    sizes = [count * length for _, count, length in packing.runs]
    # Split, not sliced one by one: the gradient of each slice would be as long as the whole.
    runs = zip(*(x.split(sizes) for x in (query, key, value)), strict=True)
    for (_, count, length), run in zip(packing.runs, runs, strict=True):
        batched_query, batched_key, batched_value = (
            x.unflatten(0, (count, length)).transpose(1, 2) for x in run
        )
        if _trains_on_cpu(query) and length <= _SHORT and not causal:
            scores = (batched_query * scale) @ batched_key.transpose(-1, -2)
            attended = scores.softmax(-1) @ batched_value
        else:
            attended = F.scaled_dot_product_attention(
                batched_query, batched_key, batched_value, is_causal=causal, scale=scale
            )
        parts.append(attended.transpose(1, 2).flatten(0, 1))  # (rows, A, D)
    return torch.cat(parts) if len(parts) != 1 else parts[0]


def _trains_on_cpu(query: Tensor) -> bool:
    return query.requires_grad and query.device.type == "cpu" and query.dtype == torch.bfloat16


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, causal: bool, scale: float
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    offsets, longest = packing.cu_seqlens(query.device), packing.max_seqlen
    window = (-1, 0) if causal else (-1, -1)  # rows before and after that are seen; -1 is all
    return varlen_attn(  # type: ignore[return-value]
        query,
        key,
        value,
        offsets,
        offsets,
        longest,
        longest,
        scale=scale,
        window_size=window,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _flash_attn(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, causal: bool, scale: float
) -> Tensor:
    from flash_attn import flash_attn_varlen_func

    offsets, longest = packing.cu_seqlens(query.device), packing.max_seqlen
    out: Tensor = flash_attn_varlen_func(
        query,
        key,
        value,
        offsets,
        offsets,
        longest,
        longest,
        softmax_scale=scale,
        causal=causal,
    )
    return out


_BACKENDS: dict[str, Callable[[Tensor, Tensor, Tensor, Packing, bool, float], Tensor]] = {
    "sdpa": _sdpa,
    "varlen": _varlen,
    "flash_attn": _flash_attn,
}
