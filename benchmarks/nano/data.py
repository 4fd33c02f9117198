"""Counts the pictures of the corpus by licence and source, for the card; made once.

python benchmarks/nano/data.py --data CORPUS --out benchmarks/nano/data.json
"""

import argparse
import sys
from pathlib import Path

from viq.card import count_rows, save_counts
from viq.errors import InputError

COLUMNS = ("licence", "source", "kind")
SPLITS = ("train", "validation")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Counts the pictures of a data set, for a card.")
    parser.add_argument("--data", type=Path, required=True, help="a folder of Parquet files")
    parser.add_argument("--name", default="corpus", help="of the data set")
    parser.add_argument("--columns", nargs="+", default=COLUMNS, help="that are counted")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    args = parser.parse_args()
    try:
        counts = [
            count_rows(
                sorted(args.data.glob(f"{split}-*.parquet")), f"{args.name}, {split}", args.columns
            )
            for split in SPLITS
        ]
    except InputError as error:
        print(f"data.py: error: {error}", file=sys.stderr)
        return 2
    save_counts(counts, args.out)
    for one in counts:
        print(f"{one.name}: {one.rows:,} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
