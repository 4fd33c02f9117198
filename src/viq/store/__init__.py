"""Code data sets on disk: Parquet files that hold images' codes beside any other columns.

docs/FORMAT.md describes them; any Parquet reader opens them without this package.
"""

from viq.store.format import COLUMNS, CodesInfo, codes_of_row
from viq.store.reader import CodeDataset, data_files, is_code_dataset
from viq.store.writer import CodeWriter

__all__ = [
    "COLUMNS",
    "CodeDataset",
    "CodeWriter",
    "CodesInfo",
    "codes_of_row",
    "data_files",
    "is_code_dataset",
]
