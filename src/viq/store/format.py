"""What a code data set's files say of themselves, and how a row holds the codes of its images.

Axes: N patches of one image, Q code heads.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from viq.codes import MAX_CODE_HEADS, MAX_INTEGER, MAX_PATCHES, STORED_CODEBOOK_SIZE, Codes
from viq.errors import CodesError

FORMAT, VERSION = "viq-codes", "1"
METADATA_KEY = b"viq"

_SIZES = ("grid_sizes", "original_sizes", "encoded_sizes")
COLUMNS = ("codes", *_SIZES)
FIELDS = (
    pa.field("codes", pa.list_(pa.uint16())),
    *(pa.field(name, pa.list_(pa.list_(pa.int32()))) for name in _SIZES),
)

# Bounds on what a row may hold, so that no file makes reading allocate without measure.
MAX_ROW_CODES = MAX_PATCHES * MAX_CODE_HEADS

_KEYS = ("code_heads", "fingerprint", "levels", "patch_size")


@dataclass(frozen=True, kw_only=True)
class CodesInfo:
    """What all codes of a data set have in common; in the metadata of each of its files.

    Attributes:
        fingerprint: of the tokenizer, as ``Codes`` has it.
        levels: values per FSQ dimension.
        code_heads: codes a patch.
        patch_size: pixels on a patch's side.

    Raises:
        CodesError: a value is out of bounds, or codes of this codebook do not fit 16 bits.
    """

    fingerprint: str
    levels: tuple[int, ...]
    code_heads: int
    patch_size: int

    def __post_init__(self) -> None:
        heads = self.code_heads
        if type(heads) is not int or not 1 <= heads <= MAX_CODE_HEADS:
            raise CodesError(
                f"code_heads is {_brief(heads)}, not an integer of 1 to {MAX_CODE_HEADS}"
            )
        # One patch with these settings: Codes knows what they may be.
        codes = Codes(
            np.zeros((1, heads), np.uint16),
            grid_size=(1, 1),
            original_size=(1, 1),
            encoded_size=(1, 1),
            levels=self.levels,
            fingerprint=self.fingerprint,
            patch_size=self.patch_size,
        )
        object.__setattr__(self, "levels", codes.levels)
        if self.codebook_size > STORED_CODEBOOK_SIZE:
            raise CodesError(
                f"the codebook has {self.codebook_size:,} entries; code data sets hold 16-bit"
                f" codes, of at most {STORED_CODEBOOK_SIZE:,}"
            )

    @property
    def codebook_size(self) -> int:
        """The number of values that a code can have: the product of the levels."""
        return math.prod(self.levels)

    @classmethod
    def of(cls, codes: Codes) -> Self:
        """What an image's codes have in common with those of its data set.

        Raises:
            CodesError: they do not fit 16 bits.
        """
        return cls(**{key: getattr(codes, key) for key in _KEYS})

    def to_json(self) -> str:
        """The metadata's entry; equal for equal values."""
        document = {key: getattr(self, key) for key in _KEYS}
        document |= {"format": FORMAT, "version": VERSION}
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes, source: str | PathLike[str]) -> Self:
        """Reads the metadata's entry; ``source`` is what errors call it.

        Raises:
            CodesError: it is of another format or version, damaged, or out of bounds.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CodesError(f"metadata 'viq' is not JSON ({error})", source) from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise CodesError(f"metadata 'viq' is not an object whose format is {FORMAT!r}", source)
        version = document.get("version")
        if not isinstance(version, str) or version.split(".")[0] != VERSION:
            raise CodesError(
                f"version is {_brief(version)}; this package reads version {VERSION!r}", source
            )
        expected = {"format", "version", *_KEYS}
        if missing := sorted(expected - set(document)):
            raise CodesError(f"metadata lack {', '.join(missing)}", source)
        # A later minor version may say more; this one has said all.
        if version == VERSION and (unknown := sorted(set(document) - expected)):
            raise CodesError(f"metadata have unknown entries: {_brief(unknown)}", source)
        try:
            return cls(**{key: document[key] for key in _KEYS})
        except CodesError as error:
            raise CodesError(error.reason, source) from None


def codes_of_row(cells: Mapping[str, Any], info: CodesInfo, name: str) -> tuple[Codes, ...]:
    """The codes of each image of a row, whichever library read it.

    Args:
        cells: of our columns; arrays, or lists of Python integers.
        info: of the row's data set.
        name: what errors call the row.

    Raises:
        CodesError: the cells contradict each other or are out of bounds.
    """
    try:
        grids, originals, encoded = (_sizes(column, cells.get(column)) for column in _SIZES)
        if not len(grids) == len(originals) == len(encoded):
            raise CodesError(
                f"it has {len(grids)} grid_sizes, {len(originals)} original_sizes and"
                f" {len(encoded)} encoded_sizes; an image has one of each"
            )
        values = _values(cells.get("codes"))
        ends = [0]
        for h, w in grids:
            ends.append(ends[-1] + h * w * info.code_heads)
        if len(values) != ends[-1]:
            raise CodesError(
                f"it has {len(values):,} codes, but its grids {_brief(grids)} with"
                f" {info.code_heads} code heads take {ends[-1]:,}"
            )
    except CodesError as error:
        raise CodesError(error.reason, name) from None
    images = []
    for number, grid in enumerate(grids):
        try:
            images.append(
                Codes(
                    values[ends[number] : ends[number + 1]].reshape(-1, info.code_heads),
                    grid_size=grid,
                    original_size=originals[number],
                    encoded_size=encoded[number],
                    levels=info.levels,
                    fingerprint=info.fingerprint,
                    patch_size=info.patch_size,
                )
            )
        except CodesError as error:
            raise CodesError(f"image {number}: {error.reason}", name) from None
    return tuple(images)


def _sizes(column: str, cell: Any) -> list[tuple[int, int]]:
    """Pairs of positive integers."""
    if cell is None:
        raise CodesError(f"{column} is missing")
    sizes = []
    for pair in cell:
        values = pair.tolist() if isinstance(pair, np.ndarray) else pair
        if (
            not isinstance(values, Sequence)
            or len(values) != 2
            or not all(type(v) is int and 1 <= v <= MAX_INTEGER for v in values)
        ):
            raise CodesError(f"{column} has {_brief(values)}, not two positive integers")
        sizes.append((values[0], values[1]))
    return sizes


def _values(cell: Any) -> NDArray[np.uint16]:
    """The row's codes end to end."""
    if cell is None:
        raise CodesError("codes is missing")
    values = np.asarray(cell)
    if not values.size:
        return np.zeros(0, np.uint16)
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise CodesError(
            f"codes are {values.dtype} with {values.ndim} axes, not a list of integers"
        )
    if values.size > MAX_ROW_CODES:
        raise CodesError(f"it has {values.size:,} codes, of at most {MAX_ROW_CODES:,} a row")
    if values.dtype != np.uint16:
        low, high = values.min(), values.max()
        if low < 0 or high >= STORED_CODEBOOK_SIZE:
            raise CodesError(f"codes go from {low} to {high}; they are 16-bit numbers")
        values = values.astype(np.uint16)
    return values


def column_types(schema: pa.Schema) -> str:
    """The columns as messages name them."""
    return ", ".join(f"{field.name}: {field.type}" for field in schema) or "none"


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
