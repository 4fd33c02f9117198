"""What neighbouring codes decode to: one digit of the codes in the middle moved by some levels.

Axes: N patches, Q code heads, K code dimensions, (h, w) grid of patches.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from viq.codes import Codes
from viq.evaluation.codes.usage import digits_of
from viq.evaluation.document import Cell, Column, Figure, Table
from viq.evaluation.files import whole_file
from viq.image.sheet import Cell as Shown
from viq.image.sheet import Row, sheet
from viq.tokenizer import Tokenizer

STEPS = (-2, -1, 1, 2)  # levels
SIDE = 16  # patches of the piece of a picture that is decoded
CELL, MAP = 130, 280  # pixels of a picture's side in the sheets
GAIN = 4  # of changes that are drawn

NOTE = (
    "The middle {side} x {side} patches of the first picture. In their own middle, half as high and"
    " wide, one digit of one head's codes is moved up or down, as far as there are levels. RMS is"
    " the root mean square of what that changes in the decode, of 255: inside, where codes were"
    " moved, and outside, where they were not. Moved is the share of codes that could be."
)


class Key(NamedTuple):
    """Which digit is moved, and how far."""

    head: int
    dimension: int
    step: int

    @property
    def name(self) -> str:
        """As records call it."""
        return f"{self.head} {self.dimension} {self.step:+d}"


def all_keys(codes: Codes) -> list[Key]:
    """All that is done; none where codes are numbers of a codebook without digits."""
    if len(codes.levels) == 1:
        return []
    return [
        Key(head, dimension, step)
        for head in range(codes.code_heads)
        for dimension in range(len(codes.levels))
        for step in STEPS
    ]


def middle(codes: Codes) -> Codes:
    """The codes of the middle of a picture, at most ``SIDE`` patches high and wide."""
    rows, columns = (_middle(side, min(side, SIDE)) for side in codes.grid_size)
    values = _on_grid(codes)[rows, columns]
    grid = (values.shape[0], values.shape[1])
    size = (grid[0] * codes.patch_size, grid[1] * codes.patch_size)
    return replace(
        codes,
        values=values.reshape(-1, codes.code_heads),
        grid_size=grid,
        original_size=size,
        encoded_size=size,
    )


def moved(codes: Codes, key: Key) -> tuple[Codes, float]:
    """Codes with a digit of the middle ones moved, and the share of those that it moved."""
    rows, columns = inside(codes)
    values = _on_grid(codes).astype(np.int64)
    digit = digits_of(values[rows, columns, key.head], codes.levels)[..., key.dimension]
    new = np.clip(digit + key.step, 0, codes.levels[key.dimension] - 1)
    values[rows, columns, key.head] += (new - digit) * math.prod(codes.levels[: key.dimension])
    flat = values.reshape(-1, codes.code_heads).astype(codes.values.dtype)
    return replace(codes, values=flat), float(np.mean(new != digit))


def inside(codes: Codes) -> tuple[slice, slice]:
    """Rows and columns of the patches that are moved."""
    height, width = codes.grid_size
    return _middle(height, max(1, height // 2)), _middle(width, max(1, width // 2))


class Neighbour(NamedTuple):
    """What codes with a digit moved decode to.

    Attributes:
        image: the decode.
        moved: the share of the codes in the middle that could be moved.
    """

    image: Image.Image
    moved: float


def decode_neighbours(tokenizer: Tokenizer, codes: Codes, head: int) -> dict[Key, Neighbour]:
    """All neighbours that differ in one digit of a head."""
    found = {}
    for key in all_keys(codes):
        if key.head == head:
            changed, share = moved(codes, key)
            found[key] = Neighbour(tokenizer.decode(changed), share)
    return found


def neighbour_record(
    codes: Codes, key: Key, decoded: Image.Image, neighbour: Neighbour
) -> dict[str, Any]:
    """What moving a digit changes in the decode of ``codes``."""
    errors = np.mean((_floats(neighbour.image) - _floats(decoded)) ** 2, axis=2)
    rows, columns = (
        slice(s.start * codes.patch_size, s.stop * codes.patch_size) for s in inside(codes)
    )
    mask = np.zeros(errors.shape, bool)
    mask[rows, columns] = True
    outside = errors[~mask]
    return {
        **key._asdict(),
        "moved": neighbour.moved,
        "inside": float(errors[mask].mean()),
        "outside": float(outside.mean()) if outside.size else None,
    }


def neighbour_table(
    records: Mapping[str, Sequence[Mapping[str, Any]]], levels: Mapping[str, Sequence[int]]
) -> Table:
    """A row for each digit of each model."""
    rows: list[tuple[Cell, ...]] = []
    for name, some in records.items():
        places = sorted({(one["head"], one["dimension"]) for one in some})
        for head, dimension in places:
            of = [o for o in some if (o["head"], o["dimension"]) == (head, dimension)]
            cells: list[Cell] = []
            for distance in (1, 2):
                there = [one for one in of if abs(one["step"]) == distance]
                cells += [_rms(there, "inside"), _rms(there, "outside")]
                cells.append(100 * sum(one["moved"] for one in there) / len(there))
            rows.append((name, head + 1, dimension + 1, levels[name][dimension], *cells))
    columns = [
        Column(name=f"{distance} level{'s' * (distance > 1)}: {what}", unit=unit, digits=digits)
        for distance in (1, 2)
        for what, unit, digits in (("inside", "RMS", 2), ("outside", "RMS", 2), ("moved", "%", 0))
    ]
    return Table(
        title="Neighbouring codes",
        columns=(
            Column(name="Model"),
            Column(name="Head"),
            Column(name="Dimension"),
            Column(name="Levels"),
            *columns,
        ),
        rows=tuple(rows),
        note=NOTE.format(side=SIDE),
    )


def neighbour_sheet(
    codes: Codes,
    decoded: Image.Image,
    neighbours: Mapping[Key, Neighbour],
    head: int,
    path: Path,
) -> None:
    """Draws what codes decode to with each digit of a head moved by each step."""
    low, high = min(STEPS), max(STEPS)
    steps = sorted((0, *STEPS))
    rows = []
    for dimension, levels in enumerate(codes.levels):
        of = {step: neighbours[Key(head, dimension, step)] for step in STEPS}
        cells = [
            Shown(of[step].image, f"{of[step].moved:.0%} moved") if step else Shown(decoded, "")
            for step in steps
        ]
        change = GAIN * (_floats(of[high].image) - _floats(of[low].image)) / 2 + 128
        cells.append(Shown(Image.fromarray(change.round().clip(0, 255).astype(np.uint8)), ""))
        rows.append(Row(f"dimension {dimension + 1} ({levels} levels)", cells))
    columns = [f"{step:+d}" if step else "as it is" for step in steps]
    with whole_file(path) as temporary:
        sheet([*columns, f"change, x{GAIN}"], rows, cell_side=CELL).save(temporary)


def neighbour_figure(head: int, path: Path, subject: str) -> Figure:
    """The picture that ``neighbour_sheet`` draws, as a figure."""
    return Figure(
        file=path.name,
        title=f"Neighbouring codes, head {head + 1}",
        caption=f"One digit of head {head + 1} moved by some levels in the middle of a picture,"
        f" decoded by {subject}; a row for each dimension. At the right is half the difference of"
        f" the outer two, {GAIN} times as strong, around grey.",
    )


def code_map(codes: Codes, image: Image.Image | None, path: Path, subject: str) -> Figure:
    """Draws each head's codes as colours, beside the picture where there is one."""
    scale = max(1, MAP // max(codes.grid_size))
    cells = [] if image is None else [Shown(image, "the picture")]
    for head, colours in enumerate(np.moveaxis(colours_of(codes), 2, 0)):
        picture = Image.fromarray(np.ascontiguousarray(colours))
        size = (picture.width * scale, picture.height * scale)
        shown = picture.resize(size, Image.Resampling.NEAREST)
        different = len(np.unique(codes.values[:, head]))
        cells.append(Shown(shown, f"head {head + 1}: {different:,} different codes"))
    columns = 3
    cells += [Shown(None, "")] * (-len(cells) % columns)
    rows = [Row("", cells[start : start + columns]) for start in range(0, len(cells), columns)]
    with whole_file(path) as temporary:
        sheet([""] * columns, rows, cell_side=MAP).save(temporary)
    return Figure(
        file=path.name,
        title="Code map",
        caption=f"Codes of {subject} in the first picture: equal codes have equal colours, and"
        " colours are near where digits are.",
    )


def colours_of(codes: Codes) -> NDArray[np.uint8]:
    """A colour for each code, (h, w, Q, 3): every third digit makes one channel.

    Without digits it is any colour, the same for the same code.
    """
    values = _on_grid(codes).astype(np.int64)
    if len(codes.levels) == 1:
        table = np.random.default_rng(0).integers(0, 256, (codes.codebook_size, 3), dtype=np.uint8)
        return table[values]
    digits = digits_of(values, codes.levels)
    colours = np.zeros((*values.shape, 3))
    for channel in range(3):
        share = 1.0
        for k in range(channel, len(codes.levels), 3):  # the first weighs most
            share /= codes.levels[k]
            colours[..., channel] += digits[..., k] * share
    return (colours * 256).clip(0, 255).astype(np.uint8)


def _on_grid(codes: Codes) -> NDArray[Any]:
    """(h, w, Q)."""
    return codes.values.reshape(*codes.grid_size, codes.code_heads)


def _floats(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image, np.float64)


def _middle(side: int, length: int) -> slice:
    start = (side - length) // 2
    return slice(start, start + length)


def _rms(records: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [one[name] for one in records if one[name] is not None]
    return math.sqrt(sum(values) / len(values)) if values else None
