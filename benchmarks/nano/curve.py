r"""Draws quality against compute from the logs of runs that went on from each other.

    python benchmarks/nano/curve.py --panel "Error of pixels" patch runs/quantize \
        --panel "Text, nats a token" text runs/reader runs/sft --out curve.png

A panel is a title, a key of log.jsonl, and the runs in their order. Lines are of training, the
median of 15 lines of the log; points are held-out. Hours are steps times the usual time of one,
so a pause of a run is not in them.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from viq.errors import InputError, ViQError
from viq.evaluation.plots import new_figure, save_figure, series

AROUND = 7  # lines of the log on each side, in a running median

Points = tuple[list[float], list[float]]  # hours and values


@dataclass(frozen=True)
class Curve:
    """One value of one run."""

    hours: float  # of the whole run
    trained: Points
    held_out: Points


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--panel",
        nargs="+",
        action="append",
        required=True,
        metavar="TITLE KEY RUN",
        help="a title, a key of log.jsonl, one or more runs",
    )
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    args = parser.parse_args()
    try:
        draw(args.panel, args.out)
    except (ViQError, OSError) as error:
        print(f"curve.py: error: {error}", file=sys.stderr)
        return 2
    print(args.out)
    return 0


def draw(panels: Sequence[Sequence[str]], out: Path) -> None:
    """Draws panels side by side.

    Raises:
        InputError: a panel lacks a part, or a run the key.
    """
    figure, axes = new_figure(columns=len(panels), height=360)
    for axis, (title, *rest) in zip(axes, panels, strict=True):
        if len(rest) < 2:
            raise InputError(f"the panel {title!r} needs a title, a key and a run")
        key, *runs = rest
        start = 0.0
        for number, run in enumerate(runs):
            found = read(Path(run), key)
            look = series(number)
            hours, values = found.trained
            axis.plot([start + h for h in hours], smooth(values), color=look["color"])
            hours, values = found.held_out
            name = Path(run).name
            axis.plot([start + h for h in hours], values, **look, linestyle="", label=name)
            start += found.hours
        axis.set(title=title, xlabel="hours on one machine of two cores")
        axis.legend(title="held-out")
    save_figure(figure, out)


def read(run: Path, key: str) -> Curve:
    """A value of a run's log, in training and held-out.

    Raises:
        InputError: it is not in the log.
    """
    log = run / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    took = seconds_a_step([line for line in lines if "loss" in line], log)

    def points(name: str) -> Points:
        found = [line for line in lines if line.get(name) is not None]
        return [line["step"] * took / 3600 for line in found], [line[name] for line in found]

    curve = Curve(lines[-1]["step"] * took / 3600, points(key), points(f"eval_{key}"))
    if not curve.trained[0]:
        raise InputError(f"has no {key!r}", log)
    return curve


def seconds_a_step(lines: Sequence[Mapping[str, Any]], log: Path) -> float:
    """The usual ones.

    Raises:
        InputError: there are too few lines to tell.
    """
    spans = [
        (other["time"] - one["time"]) / steps
        for one, other in pairwise(lines)
        if (steps := other["step"] - one["step"]) > 0
    ]
    if not spans:
        raise InputError("has too few lines to tell how long a step takes", log)
    return median(spans)


def smooth(values: Sequence[float]) -> list[float]:
    """The running median."""
    return [median(values[max(0, i - AROUND) : i + AROUND + 1]) for i in range(len(values))]


if __name__ == "__main__":
    sys.exit(main())
