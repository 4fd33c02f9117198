"""Which sample the n-th draw is: pure functions of a seed, so nothing needs to be remembered.

Every block of draws holds each source in its share, shuffled; every source's samples come in
another order each epoch, each sample once.
"""

import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sized
from fractions import Fraction
from typing import NamedTuple

import numpy as np

_ROUNDS = 16  # with 8, some orders of five come half as often as others

# Shares are whole draws over so many blocks; a block's own number is that of its cycle, divided,
# and rounded by turns. The stride spreads the turns: near the golden ratio, and odd.
_CYCLE = 4096
_STRIDE = 2531


class Draw(NamedTuple):
    """One sample to read."""

    source: str
    number: int  # of the sample in the source
    epoch: int  # of the source, from 0


class Mixture:
    """An endless order of samples of several sources, by their weights."""

    def __init__(
        self,
        lengths: Mapping[str, int | Sized],
        weights: Mapping[str, float],
        seed: int,
        *,
        block: int = 256,
    ) -> None:
        """Fixes the shares.

        Args:
            lengths: the sources by name, or how many samples each has.
            weights: relative shares of draws by name; 0 where none is given.
            seed: of all shuffling.
            block: draws in which the shares are kept, up to one draw of a source; over many
                blocks they are kept to a millionth and better.

        Raises:
            ValueError: a weight is of no source, negative or not finite, all are 0, one is too
                small to be drawn, or an empty source has one.
        """
        if block < 1:
            raise ValueError(f"a block has {block} draws; it needs at least 1.")
        if unknown := sorted(set(weights) - set(lengths)):
            there = ", ".join(sorted(lengths))
            raise ValueError(
                f"weights of unknown sources: {', '.join(unknown)}; there are: {there}."
            )
        if wrong := {n: w for n, w in weights.items() if not (math.isfinite(w) and w >= 0)}:
            raise ValueError(f"weights must be finite and not negative, these are: {wrong}.")
        self.names = sorted(name for name, weight in weights.items() if weight > 0)
        if not self.names:
            raise ValueError(f"all weights are 0, of: {', '.join(sorted(lengths))}.")
        given = {name: lengths[name] for name in self.names}
        self._lengths = {n: v if isinstance(v, int) else len(v) for n, v in given.items()}
        if empty := [name for name, length in self._lengths.items() if length < 1]:
            raise ValueError(f"these sources have weights but no samples: {', '.join(empty)}.")
        self.seed, self.block = seed, block
        shares = largest_remainder([weights[name] for name in self.names], block * _CYCLE)
        if rare := [name for name, share in zip(self.names, shares, strict=True) if not share]:
            raise ValueError(
                f"these weights are below one in {block * _CYCLE} draws: {', '.join(rare)}."
            )
        # Of each block, where sources end in it: (cycle, sources). As the turns are all numbers
        # below the cycle, a source has its whole share in a cycle, and a block is always full.
        turns = np.arange(_CYCLE) * _STRIDE % _CYCLE
        self._ends = (np.cumsum(shares) + turns[:, None]) // _CYCLE
        counts = np.diff(self._ends, axis=1, prepend=0)
        self._before = np.cumsum(counts, axis=0) - counts  # draws in the cycle's earlier blocks
        self._shares = shares

    def draw(self, n: int) -> Draw:
        """The n-th draw, from 0."""
        block, place = divmod(n, self.block)
        cycle, turn = divmod(block, _CYCLE)
        place = permutation(place, self.block, self.seed, "block", block)
        ends = self._ends[turn].tolist()
        k = bisect_right(ends, place)
        within = place - (ends[k - 1] if k else 0)
        drawn = cycle * self._shares[k] + int(self._before[turn, k]) + within
        name = self.names[k]
        epoch, rank = divmod(drawn, self._lengths[name])
        number = permutation(rank, self._lengths[name], self.seed, "epoch", name, epoch)
        return Draw(name, number, epoch)


def largest_remainder(weights: list[float], total: int) -> list[int]:
    """Shares out ``total`` by weights, exactly: rounded down, and the rest to the largest rests."""
    exact = [Fraction(weight) for weight in weights]
    quotas = [total * weight / sum(exact) for weight in exact]
    shares = [math.floor(quota) for quota in quotas]
    order = sorted(range(len(shares)), key=lambda k: (shares[k] - quotas[k], k))
    for k in order[: total - sum(shares)]:
        shares[k] += 1
    return shares


def permutation(index: int, length: int, *key: int | str) -> int:
    """Where ``index`` goes in an order of 0 ... length - 1 that the key gives.

    A Feistel network over pairs of digits: each round adds to one digit a hash of the other,
    which can be undone, so no two numbers meet. The pairs are few more than ``length``; what
    falls outside goes through again until it is inside. Whole numbers and BLAKE2b alone: the
    same everywhere.

    Raises:
        ValueError: the index is not in the range.
    """
    if not 0 <= index < length:
        raise ValueError(f"index {index} is outside of 0 to {length - 1}.")
    high = math.isqrt(length - 1) + 1
    low = -(-length // high)
    secret = hashlib.blake2b(json.dumps(key).encode(), digest_size=32).digest()
    while True:
        left, right = divmod(index, low)
        for number in range(0, _ROUNDS, 2):
            left = (left + _mix(secret, number, right)) % high
            right = (right + _mix(secret, number + 1, left)) % low
        index = left * low + right
        if index < length:
            return index


def _mix(key: bytes, number: int, digit: int) -> int:
    data = number.to_bytes(1, "big") + digit.to_bytes(16, "big")
    return int.from_bytes(hashlib.blake2b(data, key=key, digest_size=8).digest(), "big")
