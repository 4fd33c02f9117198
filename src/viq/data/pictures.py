"""Pictures in Parquet files of the Hugging Face ``datasets`` layout, by row number."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from viq.errors import InputError


class ParquetPictures:
    """Encoded pictures of one or more Parquet files: a column ``image`` of {bytes, path}.

    The files are mapped, not read, so many workers share one copy.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        if not files:
            raise InputError("no Parquet files to read pictures from")
        tables = []
        for file in files:
            try:
                tables.append(pq.read_table(file, memory_map=True))
            except (OSError, pa.ArrowException) as error:
                raise InputError(f"not a readable Parquet file ({error})", file) from error
            if "image" not in tables[-1].column_names:
                names = ", ".join(tables[-1].column_names)
                raise InputError(f"no column 'image'; there are: {names}", file)
        self.table = pa.concat_tables(tables, promote_options="default")

    def __len__(self) -> int:
        return self.table.num_rows

    def encoded(self, row: int) -> bytes:
        """The picture file's bytes."""
        data: bytes = self.table["image"][row]["bytes"].as_py()
        return data

    def weighted_rows(self, column: str, weights: Mapping[str, int]) -> list[int]:
        """Row numbers, each as often as its value in ``column`` weighs; 1 where none is given."""
        values = self.table[column].to_pylist()
        return [row for row, value in enumerate(values) for _ in range(weights.get(value, 1))]


def parquet_files(folder: Path, split: str) -> list[Path]:
    """The files ``SPLIT-*.parquet`` of a folder, in order.

    Raises:
        InputError: there are none.
    """
    files = sorted(folder.glob(f"{split}-*.parquet"))
    if not files:
        raise InputError(f"no {split}-*.parquet here", folder)
    return files
