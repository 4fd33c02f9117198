"""What sources share that hold one sample a row: which rows count, and how often; their images."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from viq.data.sample import Sample
from viq.errors import InputError
from viq.image import Picture

log = logging.getLogger(__name__)

IMAGE_COLUMNS = ("image", "images")  # of a table: the first that is there counts, alone
SINGLE_IMAGE_COLUMNS = ("jpg", "jpeg", "png", "webp")  # else all of these


class RowSource(ABC):
    """Samples of a file or folder, in its order; see ``viq.data.sample.Source``.

    Attributes:
        name: begins every sample's id.
        path: what errors name.
        left_out: how many rows are not samples, since they have no caption.
    """

    def __init__(
        self, name: str, path: Path, usable: NDArray[np.bool_], repeats: NDArray[np.int64] | None
    ) -> None:
        """Counts the rows.

        Args:
            name: what the source is called.
            path: the file or folder.
            usable: (rows,) whether the row is a sample.
            repeats: (rows,) how often an epoch has it; None for once each.

        Raises:
            InputError: no row is left.
        """
        self.name, self.path = name, path
        self.left_out = int((~usable).sum())
        if self.left_out:
            log.info(
                "%s: %d of %d have no caption and are left out", path, self.left_out, len(usable)
            )
        counts = usable.astype(np.int64) if repeats is None else np.where(usable, repeats, 0)
        self._rows = np.repeat(np.arange(len(usable)), counts)
        if not len(self._rows):
            raise InputError(
                f"holds no samples: {len(usable)} rows, {self.left_out} without a caption", path
            )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        return self._read(int(self._rows[index]))

    @abstractmethod
    def _read(self, row: int) -> Sample:
        """The sample of this row of the file."""

    def _id(self, own: object, row: int) -> str:
        """The sample's own id, or else its row, after the source's name."""
        return f"{self.name}/{row if own is None else own}"

    def _where(self, id: str) -> str:
        """The file and the sample, for errors."""
        return f"{self.path}: sample {id}"


def row_repeats(values: Iterable[object], weights: Mapping[str, int]) -> NDArray[np.int64]:
    """How often each row is taken, by its value; once where the value has no weight."""
    names = [str(value) for value in values]
    if unused := sorted(set(weights) - set(names)):
        log.warning("no row is of these kinds, which have weights: %s", ", ".join(unused))
    return np.array([weights.get(name, 1) for name in names], dtype=np.int64)


def image_columns(names: Iterable[str]) -> tuple[str, ...]:
    """Which of these columns of a table hold a row's images."""
    names = set(names)
    for column in IMAGE_COLUMNS:
        if column in names:
            return (column,)
    return tuple(column for column in SINGLE_IMAGE_COLUMNS if column in names)


def read_images(value: object, root: Path, where: str) -> tuple[Picture | bytes, ...]:
    """Images as a row holds them: encoded bytes, a path, {"bytes", "path"}, or a list of these.

    Raises:
        InputError: a file is not there, bytes are empty, or it is something else.
    """
    if value is None:
        return ()
    if isinstance(value, (list, tuple)):
        return tuple(picture for item in value for picture in read_images(item, root, where))
    if isinstance(value, Mapping):
        held = value.get("bytes")
        return read_images(value.get("path") if held is None else held, root, where)
    if isinstance(value, bytes):
        if not value:
            raise InputError("its image is empty", where)
        return (value,)
    if isinstance(value, str):
        path = root / value
        if not path.is_file():
            raise InputError(f"its image is missing: no file {path}", where)
        return (path,)
    raise InputError(
        f"its image is of type {type(value).__name__}, neither bytes nor a path", where
    )
