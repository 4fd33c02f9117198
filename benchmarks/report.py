"""What every benchmark prints: where and when it ran, then its rows; text, and JSON with --json."""

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from viq.evaluation.provenance import commit
from viq.hardware import hardware


def arguments(description: str) -> argparse.ArgumentParser:
    """The flags that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=5, help="rounds; the median counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser


def medians(ways: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each way; the ways take turns, so that a noisy moment meets them all."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # the first call pays for caches and kernels
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def report(
    title: str,
    rows: list[dict[str, Any]],
    args: argparse.Namespace,
    **tables: list[dict[str, Any]],
) -> None:
    """Prints the rows, and more tables by their names, under where and when they were measured."""
    where = {
        "title": title,
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "processor": hardware("cpu"),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "repeats": args.repeats,
    }
    print("  ".join(f"{key}: {value}" for key, value in where.items()))
    _print(rows)
    for name, more in tables.items():
        print(f"\n{name}")
        _print(more)
    if args.json:
        args.json.write_text(json.dumps({**where, "rows": rows, **tables}, indent=2) + "\n")


def _print(rows: list[dict[str, Any]]) -> None:
    if not rows:
        print("none")
        return
    columns = list(rows[0])
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in (columns, *cells):
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
