"""How codes use their codebook: usage, entropy, and what their digits say of each other.

Axes: N patches, Q code heads, K code dimensions, S codebook size, (h, w) grid of patches.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from viq.evaluation.document import Cell, Column, Figure, Table
from viq.evaluation.plots import PALE, new_figure, save_figure, series

POINTS = 80  # of a curve
TOGETHER = "all together"

Counts = NDArray[np.int64]


def digits_of(values: NDArray[np.int64], levels: Sequence[int]) -> NDArray[np.int64]:
    """The digits (..., K) of codes (...), the first dimension the least significant."""
    basis = np.cumprod([1, *levels[:-1]])
    return values[..., None] // basis % np.array(levels)


class Usage:
    """Counts codes as they come: a picture at a time, in memory that does not grow with them."""

    def __init__(self, levels: Sequence[int], code_heads: int) -> None:
        self.levels, self.code_heads = tuple(levels), code_heads
        self.codebook_size = math.prod(levels)
        self.pictures = self.patches = 0
        self.counts: Counts = np.zeros((code_heads, self.codebook_size), np.int64)
        # Where in its head each code came first, in patches; -1: it has not come.
        self.first: Counts = np.full((code_heads, self.codebook_size), -1, np.int64)
        # One code number says nothing of another, so a codebook without digits has no pairs.
        self.has_digits = len(self.levels) > 1
        width = code_heads * sum(levels) if self.has_digits else 0
        self.pairs: Counts = np.zeros((width, width), np.int64)  # of digits of one patch
        self.neighbours: Counts = np.zeros((width, width), np.int64)  # of a patch and the next one

    def add(self, values: NDArray[np.int64], grid_size: tuple[int, int]) -> None:
        """Counts a picture's codes (N, Q)."""
        for head in range(self.code_heads):
            found, first, counts = np.unique(values[:, head], return_index=True, return_counts=True)
            self.counts[head, found] += counts
            new = self.first[head, found] < 0
            self.first[head, found[new]] = self.patches + first[new]
        if self.has_digits:
            marks = self._marks(values)
            self.pairs += (marks.T @ marks).round().astype(np.int64)
            grid = marks.reshape(*grid_size, -1)
            left, right = grid[:, :-1].reshape(-1, len(self.pairs)), grid[:, 1:]
            self.neighbours += (left.T @ right.reshape(left.shape)).round().astype(np.int64)
        self.pictures += 1
        self.patches += len(values)

    def digit_counts(self, head: int, dimension: int) -> Counts:
        """How often each level occurs."""
        place = self._place(head, dimension)
        return np.diag(self.pairs[place, place])

    def information(self, one: tuple[int, int], other: tuple[int, int]) -> float:
        """Bits that two digits, each (head, dimension) of the same patch, say of each other."""
        return mutual_information(self.pairs[self._place(*one), self._place(*other)])

    def neighbour_information(self, head: int, dimension: int) -> float:
        """Bits that a digit says of the same digit of the patch at its right."""
        place = self._place(head, dimension)
        return mutual_information(self.neighbours[place, place])

    def curve(self, head: int) -> list[tuple[int, int]]:
        """How many different codes the first so many codes of a head have: (codes, different)."""
        first = np.sort(self.first[head][self.first[head] >= 0])
        steps = np.geomspace(1, self.patches, POINTS).round().astype(np.int64)
        seen = np.unique(steps)
        return [(int(n), int(k)) for n, k in zip(seen, np.searchsorted(first, seen), strict=True)]

    def _place(self, head: int, dimension: int) -> slice:
        start = head * sum(self.levels) + sum(self.levels[:dimension])
        return slice(start, start + self.levels[dimension])

    def _marks(self, values: NDArray[np.int64]) -> NDArray[np.float32]:
        """(N, Q * sum of levels): 1 at the level of each digit, else 0."""
        places = digits_of(values, self.levels) + np.cumsum([0, *self.levels[:-1]])
        places += sum(self.levels) * np.arange(self.code_heads)[:, None]
        marks = np.zeros((len(values), len(self.pairs)), np.float32)
        np.put_along_axis(marks, places.reshape(len(values), -1), 1, axis=1)
        return marks


def entropy_bits(counts: Counts) -> float:
    """Of what occurs so often, in bits."""
    total, there = counts.sum(), counts[counts > 0]
    return float(np.sum(there / total * np.log2(total / there)))


def mutual_information(joint: Counts) -> float:
    """Bits that the rows' variable says of the columns', from how often pairs occur."""
    if not joint.any():
        return 0.0
    sums = (joint.sum(0), joint.sum(1), joint.ravel())
    columns, rows, both = map(entropy_bits, sums)
    return max(0.0, rows + columns - both)


def usage_tables(usages: Mapping[str, Usage]) -> tuple[Table, ...]:
    """The codebook, its digits and what they say of each other, a row for each of each model."""
    return (_codebook(usages), _digits(usages), _dependence(usages))


def _codebook(usages: Mapping[str, Usage]) -> Table:
    rows = []
    for name, usage in usages.items():
        counts = [*usage.counts, usage.counts.sum(0)]
        heads = [*map(str, range(1, usage.code_heads + 1)), TOGETHER]
        for head, of in zip(heads, counts, strict=True):
            size, number, used = usage.codebook_size, int(of.sum()), int(np.count_nonzero(of))
            bits, bound = entropy_bits(of), math.log2(size)
            shares = (100 * used / size, 100 * min(number, size) / size)
            rows.append((name, head, number, used, *shares, bits, bound, 100 * bits / bound))
    return Table(
        title="Codebook",
        columns=(
            Column(name="Model"),
            Column(name="Head"),
            Column(name="Codes"),
            Column(name="Different codes"),
            Column(name="Usage", unit="%"),
            Column(name="Most that so many codes could use", unit="%"),
            Column(name="Entropy", unit="bits"),
            Column(name="Bound, log2 of the codebook", unit="bits"),
            Column(name="Entropy, of the bound", unit="%", digits=1),
        ),
        rows=tuple(rows),
        note=f"{_seen(usages)} Entropy is that of the frequencies; so many codes can show no more"
        " than log2 of their number, so few codes make it too small.",
    )


def _digits(usages: Mapping[str, Usage]) -> Table:
    rows = []
    for name, usage in usages.items():
        dimensions = range(len(usage.levels)) if usage.has_digits else ()
        heads = [(str(q + 1), [q]) for q in range(usage.code_heads)]
        for title, which in [*heads, (TOGETHER, [*range(usage.code_heads)])]:
            for k in dimensions:
                counts = np.sum([usage.digit_counts(q, k) for q in which], axis=0)
                levels, used = len(counts), np.count_nonzero(counts)
                bits, bound = entropy_bits(counts), math.log2(levels)
                common = 100 * float(counts.max() / counts.sum())
                share = 100 * float(used / levels)
                rows.append((name, title, k + 1, levels, share, bits, bound, common))
    return Table(
        title="Digits",
        columns=(
            Column(name="Model"),
            Column(name="Head"),
            Column(name="Dimension"),
            Column(name="Levels"),
            Column(name="Levels used", unit="%", digits=0),
            Column(name="Entropy", unit="bits"),
            Column(name="Bound", unit="bits"),
            Column(name="Commonest level", unit="%", digits=1),
        ),
        rows=tuple(rows),
        note=_seen(usages),
    )


class _Pairs(NamedTuple):
    title: str
    bits: list[float]


def _dependence(usages: Mapping[str, Usage]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, usage in usages.items():
        if not usage.has_digits:
            continue
        heads, dimensions = range(usage.code_heads), range(len(usage.levels))
        of = usage.information
        kinds = [
            _Pairs(
                "two dimensions of a head",
                [of((q, k), (q, m)) for q in heads for k in dimensions for m in range(k)],
            ),
            _Pairs(
                "two heads of a patch, same dimension",
                [of((q, k), (r, k)) for q in heads for r in range(q) for k in dimensions],
            ),
            _Pairs(
                "two heads of a patch, other dimension",
                [
                    of((q, k), (r, m))
                    for q in heads
                    for r in range(q)
                    for k in dimensions
                    for m in dimensions
                    if k != m
                ],
            ),
            _Pairs(
                "a patch and the one at its right, same head and dimension",
                [usage.neighbour_information(q, k) for q in heads for k in dimensions],
            ),
        ]
        rows += [
            (name, kind.title, len(kind.bits), float(np.mean(kind.bits)), max(kind.bits))
            for kind in kinds
            if kind.bits
        ]
    return Table(
        title="What digits say of each other",
        columns=(
            Column(name="Model"),
            Column(name="Digits"),
            Column(name="Pairs"),
            Column(name="Mutual information, mean", unit="bits", digits=3),
            Column(name="Mutual information, largest", unit="bits", digits=3),
        ),
        rows=tuple(rows),
        note=f"{_seen(usages)} Digits of L and M levels that say nothing of each other show about"
        " 0.72 (L - 1) (M - 1) / patches bits.",
    )


def curve_figure(usages: Mapping[str, Usage], folder: Path) -> Figure:
    """Draws usage against the number of codes seen, a line for each head."""
    figure, (axis,) = new_figure(height=460)
    longest = max(usage.patches for usage in usages.values())
    for size in sorted({usage.codebook_size for usage in usages.values()}):
        seen = np.geomspace(1, longest, POINTS)
        label = f"every code a new one, of {size:,}"
        axis.plot(seen, 100 * np.minimum(seen, size) / size, color=PALE, ls="--", label=label)
    for index, (name, usage) in enumerate(usages.items()):
        for head in range(usage.code_heads):
            seen_codes, different = zip(*usage.curve(head), strict=True)
            axis.plot(
                seen_codes,
                [100 * n / usage.codebook_size for n in different],
                color=series(index)["color"],
                ls=("-", "--", "-.", ":")[head % 4],
                label=f"{name}, head {head + 1}",
            )
    axis.set(xscale="log", yscale="log", xlabel="codes of a head seen")
    axis.set(ylabel="codebook used (%)", title="Codebook usage")
    axis.legend()
    save_figure(figure, folder / "usage.png")
    return Figure(
        file="usage.png",
        title="Codebook usage",
        caption="Share of the codebook that a head has used, against how many of its codes were"
        f" seen, of {', '.join(usages)}.",
    )


def dependence_figure(name: str, usage: Usage, path: Path) -> Figure:
    """Draws what each digit of a patch says of each other one, as a share of the lesser entropy."""
    heads, dimensions = usage.code_heads, len(usage.levels)
    places = [(q, k) for q in range(heads) for k in range(dimensions)]
    own = [entropy_bits(usage.digit_counts(*place)) for place in places]
    shares = np.full((len(places), len(places)), np.nan)
    for i, one in enumerate(places):
        for j, other in enumerate(places):
            if i != j and (least := min(own[i], own[j])) > 0:
                shares[i, j] = usage.information(one, other) / least
    figure, (axis,) = new_figure(height=720)
    axis.grid(visible=False)
    drawn = axis.imshow(shares, cmap="viridis", vmin=0)
    figure.colorbar(drawn, ax=axis, label="mutual information / lesser entropy")
    middles = [q * dimensions + (dimensions - 1) / 2 for q in range(heads)]
    titles = [f"head {q + 1}" for q in range(heads)]
    axis.set_xticks(middles, titles)
    axis.set_yticks(middles, titles, rotation=90, va="center")
    for edge in range(1, heads):
        for line in (axis.axhline, axis.axvline):
            line(edge * dimensions - 0.5, color="white", linewidth=1)
    axis.set(title=f"What digits say of each other: {name}")
    axis.set(xlabel="digits of a patch, dimensions in order", ylabel="the same")
    save_figure(figure, path)
    return Figure(
        file=path.name,
        title="What digits say of each other",
        caption=f"Mutual information of each two digits of a patch's codes, of {name}.",
    )


def _seen(usages: Mapping[str, Usage]) -> str:
    counts = {f"{u.pictures:,} pictures, {u.patches:,} patches" for u in usages.values()}
    return f"Of {' or '.join(sorted(counts))}."
