"""Whether the same picture gets the same codes, however and wherever it is encoded.

Codes must be equal on a CPU in float32. Whatever differs is counted.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel

from viq.codes import Codes
from viq.evaluation.codes.usage import digits_of
from viq.evaluation.document import Cell, Column, Table
from viq.image import Prepared
from viq.model.attention import attention_backend, has_varlen
from viq.tokenizer import Tokenizer, load

PICTURES = 8  # that are encoded in each way
THREADS = (1, 2, 3)

NOTE = (
    "{pictures} pictures, spread over all, encoded in each of these ways and compared, code by"
    " code, with what they get one by one in this process; ways in bfloat16 with what they get one"
    " by one in bfloat16. In float32 on a CPU codes are made to be equal; nothing promises it of"
    " bfloat16, of other kernels or of other devices."
)


@dataclass
class Setup:
    """A model and pictures, ready to be encoded.

    Attributes:
        model: what ``viq.load`` takes.
        tokenizer: the model in float32.
        images: small enough not to be scaled down.
        device: where it runs.
    """

    model: str
    tokenizer: Tokenizer
    images: Sequence[Image.Image]
    device: str

    @cached_property
    def alone(self) -> list[Codes]:
        """The codes that pictures get one by one in this process."""
        return _one_by_one(self)


class Way(NamedTuple):
    """One way to encode pictures.

    Attributes:
        name: what its row is called.
        encode: the codes of each picture, and those to compare them with.
        why_not: why it cannot be done here; None where it can.
    """

    name: str
    encode: Callable[[Setup], tuple[list[Codes], list[Codes]]]
    why_not: str | None = None


def ways(device: str) -> list[Way]:
    """All of them, in the order of the table."""
    is_cuda = torch.device(device).type == "cuda"
    no_gpu = None if torch.cuda.is_available() else "no GPU"
    no_varlen = None if has_varlen() else "this torch has none"
    no_flash = None if find_spec("flash_attn") else "flash_attn is not installed"
    return [
        Way("once more", lambda s: (_one_by_one(s), s.alone)),
        Way("all packed together", lambda s: (_packed(s, range(len(s.images))), s.alone)),
        Way("packed in reversed order", lambda s: (_packed(s, _reversed(s)), s.alone)),
        Way("packed in another order", lambda s: (_packed(s, _shuffled(s)), s.alone)),
        Way("in batches of 1,024 patches", lambda s: (_in_batches(s, 1024), s.alone)),
        *(
            Way(f"with {count} thread{'s' * (count > 1)}", _with_threads(count))
            for count in THREADS
        ),
        Way("in another process", lambda s: (_elsewhere(s), s.alone)),
        Way(
            "by another kernel of attention (math)",
            lambda s: (_within(s, sdpa_kernel(SDPBackend.MATH)), s.alone),
        ),
        Way("bfloat16, all packed together", _bfloat16_packed),
        Way(
            "bfloat16, attention by varlen against sdpa",
            lambda s: _by_backend(s, "varlen"),
            no_gpu or (None if is_cuda else "it needs --device cuda") or no_varlen,
        ),
        Way(
            "bfloat16, attention by flash_attn against sdpa",
            lambda s: _by_backend(s, "flash_attn"),
            no_gpu or (None if is_cuda else "it needs --device cuda") or no_flash,
        ),
        Way("on a GPU against a CPU", _on_both, no_gpu),
    ]


def compare(found: Sequence[Codes], expected: Sequence[Codes]) -> dict[str, Any]:
    """How many codes there are, how many differ, and how far the furthest digit is off."""
    differ, total, furthest = 0, 0, 0
    for one, other in zip(found, expected, strict=True):
        first, second = (c.values.astype(np.int64) for c in (one, other))
        differ += int(np.sum(first != second))
        total += first.size
        if len(one.levels) > 1:
            apart = digits_of(first, one.levels) - digits_of(second, one.levels)
            furthest = max(furthest, int(np.abs(apart).max()))
    return {"pictures": len(found), "codes": total, "differ": differ, "furthest": furthest}


def equality_table(
    records: Mapping[str, Mapping[str, Mapping[str, Any]]], device: str
) -> tuple[Table, list[str]]:
    """A row for each way of each model, and a note for each that could not be gone here."""
    rows: list[tuple[Cell, ...]] = []
    notes = [f"Not run: {w.name}: {w.why_not}." for w in ways(device) if w.why_not is not None]
    pictures = max(
        (one["pictures"] for some in records.values() for one in some.values()), default=0
    )
    for name, some in records.items():
        for way in ways(device):
            if (one := some.get(way.name)) is None:
                rows.append((name, way.name, None, None, None, None))
                continue
            share = 100 * one["differ"] / one["codes"]
            rows.append((name, way.name, one["codes"], one["differ"], share, one["furthest"]))
    table = Table(
        title="Equality",
        columns=(
            Column(name="Model"),
            Column(name="Encoded"),
            Column(name="Codes"),
            Column(name="Different"),
            Column(name="Different", unit="%", digits=3),
            Column(name="Digit distance, largest"),
        ),
        rows=tuple(rows),
        note=NOTE.format(pictures=pictures),
    )
    return table, notes


def _prepared(setup: Setup, tokenizer: Tokenizer) -> list[Prepared]:
    most = tokenizer.config.image.max_pixels
    return [
        tokenizer.prepare(one, max_pixels=max(most, one.width * one.height)) for one in setup.images
    ]


def _one_by_one(setup: Setup, tokenizer: Tokenizer | None = None) -> list[Codes]:
    tokenizer = tokenizer or setup.tokenizer
    return [tokenizer.encode(one) for one in _prepared(setup, tokenizer)]


def _packed(setup: Setup, order: Sequence[int], tokenizer: Tokenizer | None = None) -> list[Codes]:
    tokenizer = tokenizer or setup.tokenizer
    prepared = _prepared(setup, tokenizer)
    patches = sum(h * w for h, w in (one.grid_size for one in prepared))
    codes = tokenizer.encode([prepared[place] for place in order], batch_patches=patches)
    back = dict(zip(order, codes, strict=True))
    return [back[place] for place in range(len(order))]


def _in_batches(setup: Setup, batch_patches: int) -> list[Codes]:
    prepared = _prepared(setup, setup.tokenizer)
    return setup.tokenizer.encode(prepared, batch_patches=batch_patches)


def _reversed(setup: Setup) -> list[int]:
    return [*reversed(range(len(setup.images)))]


def _shuffled(setup: Setup) -> list[int]:
    return random.Random(0).sample(range(len(setup.images)), len(setup.images))


def _with_threads(count: int) -> Callable[[Setup], tuple[list[Codes], list[Codes]]]:
    return lambda s: (_within(s, _threads(count)), s.alone)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _elsewhere(setup: Setup) -> list[Codes]:
    arrays = [np.asarray(one) for one in setup.images]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        threads = torch.get_num_threads()
        return pool.submit(_encode_there, setup.model, setup.device, threads, arrays).result()


def _encode_there(
    model: str, device: str, threads: int, arrays: list[NDArray[np.uint8]]
) -> list[Codes]:
    torch.set_num_threads(threads)
    images = [Image.fromarray(one) for one in arrays]
    return _one_by_one(Setup(model, load(model, device=device), images, device))


def _within(setup: Setup, context: AbstractContextManager[Any]) -> list[Codes]:
    with context:
        return _one_by_one(setup)


def _bfloat16_packed(setup: Setup) -> tuple[list[Codes], list[Codes]]:
    half = load(setup.model, device=setup.device, dtype="bfloat16")
    return _packed(setup, range(len(setup.images)), half), _one_by_one(setup, half)


def _by_backend(setup: Setup, backend: Any) -> tuple[list[Codes], list[Codes]]:
    half = load(setup.model, device=setup.device, dtype="bfloat16")
    with attention_backend(backend):
        found = _one_by_one(setup, half)
    with attention_backend("sdpa"):
        return found, _one_by_one(setup, half)


def _on_both(setup: Setup) -> tuple[list[Codes], list[Codes]]:
    found, expected = (_one_by_one(setup, load(setup.model, device=d)) for d in ("cuda", "cpu"))
    return found, expected
