"""Writes synthetic pictures with questions and answers as Parquet, a data set like any other.

Run as: python examples/synthetic_data.py --out data/synthetic --count 2000
"""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from viq.data.sample import Sample
from viq.data.synthetic.source import TASKS, SyntheticSource

PART = pa.struct({"type": pa.string(), "text": pa.string()})
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "images": pa.list_(pa.binary()),  # PNG files
        "messages": pa.list_(pa.struct({"role": pa.string(), "content": pa.list_(PART)})),
    }
)
ROWS = 500  # of a file, and so of what one process extracts at a time


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes synthetic samples as Parquet.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--split", default="train", choices=("train", "validation"))
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    source = SyntheticSource(tuple(args.tasks), args.split, seed=args.seed, size=args.count)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = _rows(source)
    files = range(0, args.count, ROWS)
    for number, start in enumerate(files):
        some = [next(rows) for _ in range(min(ROWS, args.count - start))]
        path = args.out / f"{args.split}-{number:05d}-of-{len(files):05d}.parquet"
        temporary = path.with_suffix(".tmp")
        pq.write_table(pa.Table.from_pylist(some, SCHEMA), temporary)
        temporary.replace(path)
    print(f"{args.out} holds {args.count:,} samples of the {args.split} split.")


def _rows(source: SyntheticSource) -> Iterator[dict]:
    for sample in tqdm((source[n] for n in range(len(source))), total=len(source), unit="sample"):
        yield {"id": sample.id, "images": _pngs(sample), "messages": sample.messages}


def _pngs(sample: Sample) -> list[bytes]:
    files = []
    for picture in sample.images:
        file = io.BytesIO()
        picture.save(file, "PNG")
        files.append(file.getvalue())
    return files


if __name__ == "__main__":
    main()
