"""What training took: read from a run's ``run.json`` and ``log.jsonl``.

The log has rates, not totals. A line's rate holds for the steps since the last one, so totals are
sums of rate times seconds: about what was seen, to a few in a hundred. While a run was stopped, the
clock went on; such a gap counts as long as the steps in it usually take.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from viq.card.page import NOT_MEASURED, table
from viq.errors import InputError

_GAP = 5  # times the usual seconds a step
_RATE = "_per_s"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One stage's training."""

    name: str
    stage: str
    steps: int
    lr: float | None  # the largest
    processes: int
    hours: float  # of training, evaluations left out
    seen: Mapping[str, float]  # images, tokens: about so many
    evaluated: Mapping[str, float]  # the last evaluation's figures
    errors: int  # samples that could not be used
    data: str | None  # what it read, by its last name
    hardware: str | None
    versions: Mapping[str, str]


def read_run(folder: Path, *, name: str | None = None, hardware: str | None = None) -> Run:
    """Reads a run's folder.

    Args:
        folder: of the run.
        name: how the card calls it; the stage's by default.
        hardware: where it ran, if the run does not say it itself.

    Raises:
        InputError: it is no run, or has trained nothing yet.
    """
    about = _json(folder / "run.json")
    lines = _lines(folder / "log.jsonl")
    trained = [line for line in lines if "loss" in line]
    if not trained:
        raise InputError("has no step in its log yet", folder)
    seconds = _seconds(lines)
    seen: dict[str, float] = {}
    for line, took in zip(trained, seconds, strict=True):
        for key, rate in line.items():
            if key.endswith(_RATE) and rate is not None:
                seen[key.removesuffix(_RATE)] = seen.get(key.removesuffix(_RATE), 0) + rate * took
    last = [line for line in lines if any(key.startswith("eval_") for key in line)][-1:]
    data = about.get("inputs", {}).get("data")
    rates = [v for line in trained for k, v in line.items() if k.startswith("lr/") and v]
    return Run(
        name=name or str(about.get("stage", folder.name)),
        stage=str(about.get("stage", NOT_MEASURED)),
        steps=int(trained[-1]["step"]),
        lr=max(rates, default=None),
        processes=int(about.get("processes", 1)),
        hours=sum(seconds) / 3600,
        seen=seen,
        evaluated={
            key.removeprefix("eval_"): value
            for line in last
            for key, value in line.items()
            if key.startswith("eval_") and value is not None
        },
        errors=int(trained[-1].get("errors") or 0),
        data=None if data is None else Path(data).name,
        hardware=about.get("hardware", hardware),
        versions=about.get("versions", {}),
    )


def runs_markdown(runs: Sequence[Run]) -> str:
    """Two tables, of what training took and of where it ended, and a sentence on versions."""
    head = [
        "stage",
        "data",
        "hardware",
        "steps",
        "learning rate",
        "images, about",
        "tokens",
        "hours",
    ]
    rows = [
        [
            run.name if run.name == run.stage else f"{run.name} ({run.stage})",
            run.data or "–",
            _hardware(run),
            f"{run.steps:,}",
            NOT_MEASURED if run.lr is None else f"{run.lr:.3g}",
            _about(run.seen.get("images")),
            _about(run.seen.get("tokens")),  # stages without texts have none
            f"{run.hours:.2f}",
        ]
        for run in runs
    ]
    total = f"All together {sum(run.hours for run in runs):.1f} hours of training"
    parts = [table(head, rows, numbers=5), f"{total}; evaluations and saving are left out."]
    ends = [
        f"- {run.name}: " + ", ".join(f"{k} {v:.4g}" for k, v in run.evaluated.items())
        for run in runs
        if run.evaluated
    ]
    if ends:
        parts.append("What each run measured of itself at its end, on its own held-out samples:")
        parts.append("\n".join(ends))
    if failed := [f"{run.name} {run.errors:,}" for run in runs if run.errors]:
        parts.append(f"Samples that could not be used and were left out: {', '.join(failed)}.")
    versions = dict.fromkeys(
        ", ".join(f"{name} {number}" for name, number in run.versions.items()) for run in runs
    )
    parts += [f"Versions: {'; '.join(v for v in versions if v)}."] if any(versions) else []
    return "\n\n".join(parts)


def _hardware(run: Run) -> str:
    what = run.hardware or "not recorded"
    return what if run.processes == 1 else f"{what}, {run.processes} processes"


def _about(count: float | None) -> str:
    return "–" if count is None else f"{float(f'{count:.3g}'):,.0f}"


def _seconds(lines: Sequence[Mapping[str, Any]]) -> list[float]:
    """How long the steps took that each line of training tells of."""
    spans: list[tuple[int, float | None]] = []  # steps; seconds, where the line before says when
    before: Mapping[str, Any] | None = None
    step = 0
    for line in lines:
        if "loss" in line:
            took = None if before is None else line["time"] - before["time"]
            spans.append((line["step"] - step, took))
            step = line["step"]
        before = line
    # The first step waits for workers and kernels to start.
    known = [took / steps for steps, took in spans[1:] if took is not None and steps]
    usual = median(known) if known else None
    return [
        (took or 0.0)
        if usual is None
        else usual * steps
        if took is None or not 0 <= took <= _GAP * usual * max(1, steps)
        else took
        for steps, took in spans
    ]


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError("no such file, so this is not a run's folder", path) from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({error})", path) from error
    if not isinstance(found, dict):
        raise InputError("not a run's own file", path)
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except FileNotFoundError:
        raise InputError("no such file, so nothing has trained here", path) from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({error})", path) from error
    if not all(isinstance(line, dict) and {"step", "time"} <= line.keys() for line in lines):
        raise InputError("not a run's log", path)
    return lines
