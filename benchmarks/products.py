"""The matrix products and attentions of a piece of work, and how long they take by themselves."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward")
_ATTENTION = "scaled_dot_product"


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
    def seconds(self, clock: Callable[[], float] = time.perf_counter) -> float:
        """Of all calls again, on a CPU; the tensors of one kind of call are made at a time."""
        total = 0.0
        for (func, args, kwargs), times in self.calls.items():
            positional, named = _tensor(args), dict(_tensor(kwargs))
            func(*positional, **named)  # the first finds its kernel
            start = clock()
            for _ in range(times):
                func(*positional, **named)
            total += clock() - start
        return total


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
