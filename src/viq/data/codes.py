"""Code data sets as sources: samples whose images have been encoded before."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from viq.codes import Codes
from viq.data.table import TableSource
from viq.store import COLUMNS, CodeDataset, codes_of_row


class CodesSource(TableSource):
    """Samples of a code data set; text and ids as in any table.

    Attributes:
        info: what all codes have in common.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        files: Sequence[Path],
        *,
        need_text: bool = True,
        weight_column: str = "kind",
        row_weights: Mapping[str, int] | None = None,
    ) -> None:
        """Opens the files, after seeing that all are of one code data set; see ``TableSource``.

        Raises:
            InputError: they are not, a file is damaged, or there is no text.
        """
        self.info = CodeDataset(files).info
        super().__init__(
            name,
            path,
            files,
            "parquet",
            need_text=need_text,
            weight_column=weight_column,
            row_weights=row_weights,
        )

    def _image_columns(self, columns: Sequence[str]) -> tuple[str, ...]:
        del columns  # paths of the pictures may be among them; they were encoded
        return COLUMNS

    def _cells(self, row: pa.Table) -> dict[str, Any]:
        # Thousands of codes, which are not to become Python's integers one by one.
        codes = row.column("codes")[0].values  # None where codes are missing
        cells = super()._cells(row.drop_columns(["codes"]))
        return {**cells, "codes": None if codes is None else codes.to_numpy(zero_copy_only=False)}

    def _read_images(self, cells: Mapping[str, Any], where: str) -> tuple[Codes, ...]:
        return codes_of_row(cells, self.info, where)
