"""The matrix products and attentions of a piece of work, and how long they take by themselves."""

import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

KINDS = ("linear maps", "attention")
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward")
_ATTENTION = "scaled_dot_product"


class Speed(NamedTuple):
    """How long products of one kind took, and what they are by count."""

    seconds: float
    flops: float


class Products(TorchDispatchMode):
    """Counts products by operator and arguments, tensors standing for their shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Any] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in _PRODUCTS or _ATTENTION in name:
            self.calls[func, _shape(args), _shape(tuple((kwargs or {}).items()))] += 1
        return func(*args, **(kwargs or {}))

    @torch.no_grad()
    def replay(self, clock: Callable[[], float] = time.perf_counter) -> dict[str, Speed]:
        """All calls again, by kind, on a CPU; tensors are made for one sort of call at a time."""
        found = {kind: Speed(0.0, 0.0) for kind in KINDS}
        for (func, args, kwargs), times in self.calls.items():
            positional, named = _tensor(args), dict(_tensor(kwargs))
            func(*positional, **named)  # the first finds its kernel
            start = clock()
            for _ in range(times):
                func(*positional, **named)
            seconds = clock() - start
            name = func.overloadpacket.__name__
            kind = KINDS[_ATTENTION in name]
            flops = times * _flops(name, positional)
            found[kind] = Speed(found[kind].seconds + seconds, found[kind].flops + flops)
        return found


def _flops(name: str, args: tuple[Any, ...]) -> float:
    """Two a multiply-add; of causal attention those of the scores that are seen; 0 if unknown."""
    shapes = [value.shape for value in args if isinstance(value, torch.Tensor)]
    if name in ("mm", "bmm", "addmm", "baddbmm"):
        first, second = shapes[-2:]
        return 2 * math.prod(first) * second[-1]
    if _ATTENTION in name:
        # Backward the gradient comes first; then queries (B, heads, L, channels) and keys.
        backward = "backward" in name
        query, key = shapes[backward : 2 + backward]
        is_causal = any(value is True for value in args)
        scores = query[-2] * (key[-2] + 1) / 2 if is_causal else query[-2] * key[-2]
        return 2 * (5 if backward else 2) * math.prod(query[:-2]) * scores * query[-1]
    return 0.0


def _shape(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return ("tensor", tuple(value.shape), tuple(value.stride()), value.dtype)
    if isinstance(value, (list, tuple)):
        return tuple(_shape(v) for v in value)
    return value


def _tensor(value: Any) -> Any:
    if isinstance(value, tuple) and value[:1] == ("tensor",):
        _, shape, strides, dtype = value
        made = torch.empty_strided(shape, strides, dtype=dtype)
        return made.normal_() if dtype.is_floating_point else made.zero_()
    return tuple(_tensor(v) for v in value) if isinstance(value, tuple) else value
