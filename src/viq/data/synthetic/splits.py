"""What belongs to training and what to validation: fonts, words, styles and questions, by name.

A name's place follows from its hash and not from its neighbours, so that a new word moves no old
one. Short lists would often have nothing for validation: there the names nearest to it go too.
"""

from functools import cache
from hashlib import blake2b
from typing import Literal

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
TENTHS = 1  # tenths of all names that are validation's


def split_of(name: str) -> Split:
    """Where a name of an open set belongs."""
    return "validation" if _rank(name)[0] < TENTHS else "train"


@cache
def part(names: tuple[str, ...], split: Split, at_least: int = 1) -> tuple[str, ...]:
    """The names of a closed list that belong to ``split``; validation gets ``at_least`` as many.

    Raises:
        ValueError: nothing would be left for training.
    """
    held = max(at_least, sum(split_of(name) == "validation" for name in names))
    if held >= len(set(names)):
        raise ValueError(f"{len(set(names))} names cannot be split: {held} are validation's.")
    validation = set(sorted(names, key=_rank)[:held])
    return tuple(name for name in names if (name in validation) == (split == "validation"))


def _rank(name: str) -> tuple[int, int]:
    """The tenth that a name is in, and its order within it."""
    digest = int.from_bytes(blake2b(name.encode(), digest_size=8).digest())
    return digest % 10, digest
