"""One measurement of what a tokenizer takes for one picture, meant for a process of its own."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from viq.codes import Codes
from viq.errors import InputError
from viq.evaluation.coding import why_no_decoder
from viq.evaluation.memory import Memory
from viq.image import Prepared
from viq.tokenizer import Tokenizer, load

WARM_SIDE = 64  # pixels of the picture with which everything is run once before


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What is measured.

    Attributes:
        model: what ``viq.load`` takes.
        side: of the square picture, in pixels.
        dtype: of the weights and the arithmetic.
        device: where it runs.
        threads: of torch.
        repeats: how often each piece of work is timed.
    """

    model: str
    side: int
    dtype: str
    device: str
    threads: int
    repeats: int


def measure(what: Measurement) -> dict[str, Any]:
    """Seconds of each repeat and bytes, by piece of work, those that the model can do.

    The bytes of a piece are what it held at most, above what was held before it; those of the
    process are all that was held at any time.

    Raises:
        InputError: memory ran out, or the device cannot run the model in this dtype.
    """
    torch.set_num_threads(what.threads)
    try:
        return _measure(what)
    except (MemoryError, RuntimeError) as error:  # torch's out-of-memory errors are RuntimeErrors
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"does not run in {what.dtype} at {what.side} pixels: {reason}") from error


def _measure(what: Measurement) -> dict[str, Any]:
    device = torch.device(what.device)
    tokenizer = load(what.model, device=device, dtype=what.dtype)
    for _, work in _works(tokenizer, WARM_SIDE):
        work()
    memory = Memory(device)
    seconds: dict[str, list[float]] = {}
    held: dict[str, int] = {}
    process = 0
    for name, work in _works(tokenizer, what.side):
        memory.reset()
        before = memory.now()
        work()  # the first one is not timed: it makes ready what later ones find
        peak = memory.peak()
        held[name], process = max(0, peak - before), max(process, peak)
        seconds[name] = [_timed(work, device) for _ in range(what.repeats)]
    return {"seconds": seconds, "bytes": held, "process_bytes": process}


def _works(tokenizer: Tokenizer, side: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """What the model can do with a picture, by name; what comes later needs what came before."""
    prepared = prepared_square(tokenizer, side)
    if tokenizer.config.network.head.quantizer.code_levels is None:
        yield "encode", lambda: tokenizer.latents(prepared)
        return
    yield "encode", lambda: tokenizer.encode(prepared)
    codes: Codes = tokenizer.encode(prepared)
    yield "embed", lambda: tokenizer.embed(codes)
    if why_no_decoder(tokenizer) is None:
        yield "decode", lambda: tokenizer.decode(codes)


def prepared_square(tokenizer: Tokenizer, side: int) -> Prepared:
    """A square picture of noise, the same each time; time and memory do not depend on it."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    most = max(side, tokenizer.config.image.pad_multiple) ** 2
    return tokenizer.prepare(noise, max_pixels=most)


def square_grid(tokenizer: Tokenizer, side: int) -> tuple[int, int]:
    """The grid of patches (rows, columns) of that picture, without making it."""
    config = tokenizer.config.image
    patches = math.ceil(side / config.pad_multiple) * config.pad_multiple // config.patch_size
    return patches, patches


def _timed(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
