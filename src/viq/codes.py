"""One image's codes, in memory and as a ``.viq`` file.

A ``.viq`` file is a safetensors file with one uint16 tensor, "codes" (N, code_heads), and one
metadata entry, "viq": a JSON document with the sizes, the levels and the tokenizer's fingerprint.
One entry, because safetensors writes several in no fixed order, and equal codes are equal bytes.
"""

import json
import math
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from viq.errors import CodesError

VERSION = "1"

# Bounds on what a file may claim, so that no file makes decoding allocate without measure.
MAX_PATCHES = 1_000_000
MAX_CODE_HEADS = 64
MAX_LEVELS = 32
MAX_CODEBOOK_SIZE = 2**32
MAX_INTEGER = 2**32
MAX_PATCH_SIZE = 64
MAX_PADDING = 63  # pixels of a side
MAX_SIDE = 1_000_000
MAX_PIXELS = 200_000_000
MAX_FILE_BYTES = 2 * MAX_PATCHES * MAX_CODE_HEADS + 2**20

STORED_CODEBOOK_SIZE = 2**16  # the largest whose codes fit 16 bits

_FIELDS = ("encoded_size", "fingerprint", "grid_size", "levels", "original_size", "patch_size")


@dataclass(frozen=True, eq=False, repr=False)
class Codes:
    """The codes of one image, and what it takes to make them an image again.

    Equal by value, hashable, read-only; checked when made.

    Attributes:
        values: (N, code_heads) uint16, N = h*w patches in raster order; uint32 where the codebook
            has more than 65,536 entries.
        grid_size: (h, w) in patches.
        original_size: (H, W) in pixels that decoding gives back.
        encoded_size: (H, W) in pixels that the patches cover, without padding.
        levels: values per FSQ dimension.
        fingerprint: sha256 of the tokenizer, 64 hexadecimal digits.
        patch_size: pixels on a patch's side.

    Raises:
        CodesError: the parts do not fit together.
    """

    values: NDArray[Any]
    _: KW_ONLY
    grid_size: tuple[int, int]
    original_size: tuple[int, int]
    encoded_size: tuple[int, int]
    levels: tuple[int, ...]
    fingerprint: str
    patch_size: int = 16

    def __post_init__(self) -> None:
        for name in ("grid_size", "original_size", "encoded_size"):
            self._set(name, _integers(name, getattr(self, name), count=2))
        self._set("levels", _integers("levels", self.levels))
        if not _is_integer(self.patch_size) or self.patch_size > MAX_PATCH_SIZE:
            raise CodesError(
                f"patch_size is {_short(self.patch_size)}, not an integer from 1 to"
                f" {MAX_PATCH_SIZE}"
            )
        self._set("patch_size", int(self.patch_size))
        _check_levels(self.levels)
        _check_sizes(self.grid_size, self.original_size, self.encoded_size, self.patch_size)
        _check_fingerprint(self.fingerprint)
        self._set("values", _checked_values(self.values, self.grid_size, self.codebook_size))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def code_heads(self) -> int:
        """Codes per patch."""
        return int(self.values.shape[1])

    @property
    def codebook_size(self) -> int:
        """The number of values that a code can have: the product of the levels."""
        return math.prod(self.levels)

    @property
    def nbytes(self) -> int:
        """The size of the codes: two bytes each."""
        return self.values.nbytes

    @property
    def bits_per_pixel(self) -> float:
        """Bits as stored, 16 a code, per pixel of the original."""
        return 8 * self.nbytes / math.prod(self.original_size)

    @property
    def information_bpp(self) -> float:
        """Bits that a code can carry, log2(codebook_size) each, per pixel of the original."""
        return self.values.size * math.log2(self.codebook_size) / math.prod(self.original_size)

    def to_bytes(self) -> bytes:
        """Returns the content of a ``.viq`` file; equal codes give equal bytes.

        Raises:
            CodesError: the codebook has more than 65,536 entries.
        """
        if self.codebook_size > STORED_CODEBOOK_SIZE:
            raise CodesError(
                f"codes of a codebook of {self.codebook_size:,} cannot be saved: .viq files hold"
                f" 16-bit codes, of at most {STORED_CODEBOOK_SIZE:,}"
            )
        document = {name: getattr(self, name) for name in _FIELDS}
        document |= {"format": "viq", "version": VERSION}
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return safetensors.numpy.save({"codes": self.values}, metadata={"viq": text})

    @classmethod
    def from_bytes(cls, data: bytes, source: str | PathLike[str] | None = None) -> Self:
        """Reads the content of a ``.viq`` file; ``source`` is what errors call it.

        Raises:
            CodesError: the data are damaged, of another format or version, or contradictory.
        """
        with _naming(source):
            values, document = _parse(data)
            codes = cls(values, **{name: document[name] for name in _FIELDS})
            if codes.codebook_size > STORED_CODEBOOK_SIZE:
                raise CodesError(
                    f"the codebook has {codes.codebook_size:,} entries; .viq files hold at most"
                    f" {STORED_CODEBOOK_SIZE:,}"
                )
            return codes

    def save(self, path: str | PathLike[str]) -> None:
        """Writes a ``.viq`` file. It appears whole or not at all.

        Raises:
            CodesError: the file cannot be written, or the codebook has more than 65,536 entries.
        """
        path = Path(path)
        with _naming(path):
            data = self.to_bytes()
        temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
        try:
            with temporary.open("xb") as file:
                file.write(data)
            os.replace(temporary, path)
        except (OSError, ValueError) as error:  # ValueError: a null character in the path
            raise CodesError(f"cannot be written: {_reason(error)}", path) from error
        finally:
            with suppress(OSError, ValueError):
                temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Reads a ``.viq`` file.

        Raises:
            CodesError: the file cannot be read, or is not what ``from_bytes`` takes.
        """
        try:
            status = os.stat(path)
            if stat.S_ISDIR(status.st_mode):
                raise CodesError("is a directory, not a .viq file", path)
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its other end
                raise CodesError("is not a regular file", path)
            if status.st_size > MAX_FILE_BYTES:
                raise CodesError(
                    f"has {status.st_size:,} bytes; a .viq file has at most {MAX_FILE_BYTES:,}",
                    path,
                )
            data = Path(path).read_bytes()
        except FileNotFoundError:
            raise CodesError("no such file", path) from None
        except (OSError, ValueError) as error:
            raise CodesError(f"cannot be read: {_reason(error)}", path) from error
        return cls.from_bytes(data, path)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Codes):
            return NotImplemented
        return self._settings() == other._settings() and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash((self._settings(), self.values.tobytes()))

    def __repr__(self) -> str:
        (rows, columns), (height, width) = self.grid_size, self.original_size
        return (
            f"Codes({rows} x {columns} patches, {self.code_heads} code heads,"
            f" {height} x {width} px, {self.bits_per_pixel:.3g} bpp,"
            f" tokenizer {self.fingerprint[:12]})"
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.values.flags.writeable = False  # which pickle and copy forget

    def _settings(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in _FIELDS)


def _parse(data: bytes) -> tuple[NDArray[Any], dict[str, Any]]:
    """The codes and the metadata of a ``.viq`` file, complete but not checked further."""
    try:
        tensors = safetensors.deserialize(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except Exception as error:  # safetensors' own error, or one of JSON's
        raise CodesError(f"not a .viq file, or damaged: {_reason(error)}") from error
    document = _document((header.get("__metadata__") or {}).get("viq"))
    if [name for name, _ in tensors] != ["codes"]:
        names = _short(sorted(name for name, _ in tensors))
        raise CodesError(f"holds the tensors {names}, not just 'codes'")
    tensor = tensors[0][1]
    if tensor["dtype"] != "U16":
        raise CodesError(f"codes are {tensor['dtype']}, not U16")
    values = np.frombuffer(tensor["data"], "<u2").reshape(tensor["shape"])
    return values, document


def _document(text: str | None) -> dict[str, Any]:
    """The metadata entry as a dict that has every field."""
    if text is None:
        raise CodesError("not a .viq file: its metadata have no entry 'viq'")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CodesError(f"metadata 'viq' is not JSON: {_reason(error)}") from error
    if not isinstance(document, dict) or document.get("format") != "viq":
        raise CodesError("metadata 'viq' is not an object whose format is 'viq'")
    version = document.get("version")
    if not isinstance(version, str) or version.split(".")[0] != VERSION:
        raise CodesError(f"version is {_short(version)}; this package reads version {VERSION!r}")
    expected = {"format", "version", *_FIELDS}
    if missing := sorted(expected - set(document)):
        raise CodesError(f"metadata lack {', '.join(missing)}")
    # A later minor version may say more; this one has said all.
    if version == VERSION and (unknown := sorted(set(document) - expected)):
        raise CodesError(f"metadata have unknown entries: {_short(unknown)}")
    return document


def _integers(name: str, values: object, count: int | None = None) -> tuple[int, ...]:
    """A tuple of plain Python integers."""
    if not (
        isinstance(values, (tuple, list))
        and (count is None or len(values) == count)
        and all(_is_integer(value) for value in values)
    ):
        some = "" if count is None else f"{count} "
        raise CodesError(f"{name} is {_short(values)}, not {some}integers from 1 to {MAX_INTEGER}")
    return tuple(int(value) for value in values)


def _is_integer(value: object) -> bool:
    """Whether a value is a positive integer within bounds: no float, no boolean."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        return False
    return bool(1 <= value <= MAX_INTEGER)


def _check_fingerprint(fingerprint: object) -> None:
    if not (isinstance(fingerprint, str) and re.fullmatch("[0-9a-f]{64}", fingerprint)):
        raise CodesError(f"fingerprint is {_short(fingerprint)}, not 64 digits of 0-9 and a-f")


def _check_levels(levels: tuple[int, ...]) -> None:
    if not 1 <= len(levels) <= MAX_LEVELS or min(levels) < 2:
        raise CodesError(
            f"levels are {_short(levels)}; there are 1 to {MAX_LEVELS}, each 2 or more"
        )
    if (size := math.prod(levels)) > MAX_CODEBOOK_SIZE:
        raise CodesError(f"the codebook has {_short(size)} entries, of at most {MAX_CODEBOOK_SIZE}")


def _check_sizes(
    grid_size: tuple[int, int],
    original_size: tuple[int, int],
    encoded_size: tuple[int, int],
    patch_size: int,
) -> None:
    if (patches := math.prod(grid_size)) > MAX_PATCHES:
        raise CodesError(
            f"grid_size {grid_size} has {patches:,} patches, of at most {MAX_PATCHES:,}"
        )
    for name, size in (("original_size", original_size), ("encoded_size", encoded_size)):
        if max(size) > MAX_SIDE or math.prod(size) > MAX_PIXELS:
            raise CodesError(
                f"{name} is {size}; a side has at most {MAX_SIDE:,} pixels and an image"
                f" {MAX_PIXELS:,}"
            )
    covered = (grid_size[0] * patch_size, grid_size[1] * patch_size)
    if any(not 0 <= c - e <= MAX_PADDING for c, e in zip(covered, encoded_size, strict=True)):
        raise CodesError(
            f"encoded_size is {encoded_size} but the grid {grid_size} covers {covered} pixels;"
            f" 0 to {MAX_PADDING} of a side are padding"
        )


def _checked_values(values: object, grid_size: tuple[int, int], codebook_size: int) -> NDArray[Any]:
    """A read-only copy of the codes, in the dtype that the codebook takes."""
    dtype = np.dtype(np.uint16 if codebook_size <= STORED_CODEBOOK_SIZE else np.uint32)
    if not isinstance(values, np.ndarray):
        raise CodesError(f"values are a {type(values).__name__}, not an array of {dtype}")
    if values.dtype not in (np.uint16, dtype):
        raise CodesError(
            f"values are {values.dtype}; codes of a codebook of {codebook_size:,} are {dtype}"
        )
    patches = math.prod(grid_size)
    if values.ndim != 2 or values.shape[0] != patches:
        raise CodesError(
            f"values have shape {values.shape}, but grid_size {grid_size} has {patches} patches:"
            f" ({patches}, code_heads)"
        )
    if not 1 <= values.shape[1] <= MAX_CODE_HEADS:
        raise CodesError(f"there are {values.shape[1]} code heads, of 1 to {MAX_CODE_HEADS}")
    if (wrong := values >= codebook_size).any():
        patch, head = np.unravel_index(int(wrong.argmax()), values.shape)
        raise CodesError(
            f"code {values[patch, head]} of patch {patch}, head {head}, is not below the codebook"
            f" size, {codebook_size}"
        )
    values = values.astype(dtype, order="C")
    values.flags.writeable = False
    return values


@contextmanager
def _naming(source: str | PathLike[str] | None) -> Iterator[None]:
    """Names the source in an error that does not know it."""
    try:
        yield
    except CodesError as error:
        raise CodesError(error.reason, source) from error.__cause__


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
