"""Results of runs: one JSON file each, ROW-seedN.json.

{"row": "l2", "seed": 0, "changed": "--limit l2", "settings": {...}, "commands": {part: command},
 "steps": {stage: number}, "commit", "date", "hardware", "threads", "versions",
 "cpu_seconds": {part: seconds}, "unseen": number, "figures": {...}}

``unseen`` counts processes whose end nobody saw: with any, CPU seconds are a lower bound.
``figures`` is what figures.py found, with ``letters``: the probe's share in percent.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from budget import differences
from rows import ROWS

from viq.errors import InputError
from viq.evaluation.files import whole_text

Results = dict[str, dict[int, dict[str, Any]]]  # by row and seed


def path_of(folder: Path, row: str, seed: int) -> Path:
    """Where a run's result lies."""
    return folder / f"{row}-seed{seed}.json"


def write(folder: Path, result: Mapping[str, Any]) -> Path:
    """Writes a result; it is whole or not there."""
    path = path_of(folder, result["row"], result["seed"])
    whole_text(path, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return path


def read(folder: Path, settings: Mapping[str, Any] | None = None) -> Results:
    """All results of a folder.

    Args:
        folder: need not be there.
        settings: what they must all have; None: those of the first.

    Raises:
        InputError: one is damaged, of no row that there is, or of other settings; names it.
    """
    results: Results = {}
    first: Path | None = None
    for path in sorted(folder.glob("*-seed*.json")):
        try:
            found = json.loads(path.read_text("utf-8"))
            row, seed, made_with = found["row"], found["seed"], found["settings"]
            changed = found["changed"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"is no result ({error!r}); remove it", path) from error
        if row not in ROWS or path != path_of(folder, row, seed):
            raise InputError(f"says it is row {row!r}, seed {seed}; remove or rename it", path)
        if changed != ROWS[row].changed:
            raise InputError(
                f"was run with {changed or 'nothing'!r} changed, but the row changes"
                f" {ROWS[row].changed!r} now; remove it",
                path,
            )
        if settings is not None and (how := differences(settings, made_with)):
            beside = f"as {first.name}" if first else "to be run now"
            raise InputError(
                f"was not made with the same settings {beside}: {how}; give another folder", path
            )
        if settings is None:
            settings, first = made_with, path
        results.setdefault(row, {})[seed] = found
    return results
