"""Reads a data set of codes by `datasets`, by DuckDB and in a plain loop of PyTorch.

Without a data set it makes one of the sample pictures first. It needs: pip install datasets duckdb
Run as: python examples/read_codes.py codes/
"""

import argparse
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import torch
from datasets import load_dataset
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from viq.cli.main import main as viq_command
from viq.store import CodeDataset, data_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("codes", type=Path, nargs="?", metavar="DIR", help="a data set of codes")
    parser.add_argument("--batch", type=int, default=4, help="rows of a batch (default: 4)")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        codes = args.codes or of_the_samples(Path(folder))
        found = [by_datasets(codes, Path(folder)), by_duckdb(codes), by_torch(codes, args.batch)]
    for how, (rows, images, numbers) in zip(("datasets", "DuckDB", "PyTorch"), found, strict=True):
        print(f"{how:9} {rows:,} rows, {images:,} images, {numbers:,} codes")
    assert len(set(found)) == 1, "the three disagree"


def of_the_samples(folder: Path) -> Path:
    """A data set of the package's own pictures."""
    with as_file(files("viq") / "samples") as samples:
        flags = ["--max-pixels", "16384", "--workers", "1"]
        if viq_command(["extract", str(samples), "--out", str(folder / "codes"), *flags]):
            raise SystemExit("the samples could not be encoded")
    return folder / "codes"


def by_datasets(codes: Path, cache: Path) -> tuple[int, int, int]:
    """Rows, images and codes. A row is a dictionary of Python lists, or of arrays, as you like."""
    rows = load_dataset(
        "parquet", data_files=data_files(codes), split="train", cache_dir=str(cache / "cache")
    )
    print(f"columns: {', '.join(rows.column_names)}")
    images = sum(len(row["grid_sizes"]) for row in rows)
    return len(rows), images, sum(len(row["codes"]) for row in rows.with_format("numpy"))


def by_duckdb(codes: Path) -> tuple[int, int, int]:
    """The same by SQL; lists are columns like others, and only those that are named are read."""
    query = "SELECT count(*), sum(len(grid_sizes)), sum(len(codes)) FROM read_parquet(?)"
    with duckdb.connect() as database:
        [(rows, images, numbers)] = database.execute(query, [data_files(codes)]).fetchall()
    return int(rows), int(images or 0), int(numbers or 0)


class Images(IterableDataset):
    """The codes of one image after the other, with its grid, as tensors."""

    def __init__(self, codes: Path) -> None:
        self.rows = CodeDataset(codes)

    def __iter__(self) -> Iterator[tuple[Tensor, tuple[int, int]]]:
        for images in self.rows.images():  # each checked; those of a row of text alone are none
            for one in images:
                yield torch.from_numpy(one.values.astype("int64")), one.grid_size


def by_torch(codes: Path, batch: int) -> tuple[int, int, int]:
    """A loader that packs images end to end: no padding, since embedders work patch by patch."""
    data = Images(codes)
    loader = DataLoader(data, batch_size=batch, collate_fn=packed)
    images = numbers = 0
    for values, grids in loader:
        images += len(grids)
        numbers += values.numel()  # (patches of all images, code heads)
    return len(data.rows), images, numbers


def packed(images: list[tuple[Tensor, tuple[int, int]]]) -> tuple[Tensor, list[tuple[int, int]]]:
    values, grids = zip(*images, strict=True)
    return torch.cat(values), list(grids)


if __name__ == "__main__":
    main()
