"""The tables and the plot of all ablations that have been run, into a page between two markers.

python benchmarks/ablations/table.py benchmarks/results/ablations --out docs/ABLATIONS.md
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from measures import MEASURES, Found, Measure, drawn
from plot import draw
from results import Results, read
from rows import DEFAULT, GROUPS, Group, Line

from viq.errors import InputError, ViQError
from viq.evaluation.files import whole_text

BEGIN, END = "<!-- generated: ablations -->", "<!-- end of what is generated -->"
SEEDS = 3
NONE = "–"
LOSS = "Text loss, drawn"
_AT = ((LOSS, "nats"), ("PSNR", "dB"))  # at other sizes
BOUND = 0.95  # of intervals


def spread(measure: Measure, runs: Sequence[Found]) -> str:
    """The mean over seeds, and the least and the greatest."""
    values = [value for run in runs if (value := measure.of(run)) is not None]
    if not values:
        return NONE
    text = measure.write(mean(values))
    if len(values) > 1:
        text += f" [{measure.write(min(values))}, {measure.write(max(values))}]"
    return text


def pairs(measure: Measure, row: Mapping[int, Found], default: Mapping[int, Found]) -> list[float]:
    """Differences from the default of the same seed."""
    both = [(measure.of(row[seed]), measure.of(default[seed])) for seed in row if seed in default]
    return [one - other for one, other in both if one is not None and other is not None]


def half_width(values: Sequence[float]) -> float | None:
    """Of the t interval of a mean; None of a single value."""
    if len(values) < 2:
        return None
    from scipy.stats import t  # type: ignore[import-untyped]

    quantile = float(t.ppf((1 + BOUND) / 2, len(values) - 1))
    return quantile * stdev(values) / len(values) ** 0.5


def difference(measure: Measure, values: Sequence[float]) -> str:
    """Its mean with half its interval's width, in bold where that leaves out zero."""
    if not values:
        return NONE
    middle, half = mean(values), half_width(values)
    text = f"{middle:+.{measure.digits}f}"
    if half is None:
        return text
    text += f" ± {measure.write(half)}"
    return f"**{text}**" if abs(middle) > half else text


def verdict(measure: Measure, values: Sequence[float], paper: float) -> str:
    """Whether our difference means the same as the paper's."""
    if not values:
        return "not run"
    middle, half = mean(values), half_width(values)
    if half is None:
        return "one seed"
    if abs(middle) <= half:
        return "not told apart"
    is_better = (middle > 0) == measure.higher
    return "as the paper" if is_better == (paper > 0) else "**contradicts**"


def group_text(group: Group, results: Results) -> str:
    """A group's tables in Markdown."""
    default = results.get(DEFAULT, {})
    paper = {line.row: line.paper for line in group.lines}
    head = ["", "Seeds", *(m.head for m in MEASURES)]
    rows, apart = [], []
    compared = [m for m in MEASURES if m.compared]
    for line in group.lines:
        runs = results.get(line.row, {})
        rows.append([line.title, _seeds(runs), *(spread(m, [*runs.values()]) for m in MEASURES)])
        if line.row == DEFAULT:
            continue
        told = _paper_difference(line, paper.get(DEFAULT))
        found = [pairs(m, runs, default) for m in compared]
        cells = [difference(m, values) for m, values in zip(compared, found, strict=True)]
        said = [NONE, NONE]
        if told is not None:
            ((measure, values),) = (
                (m, v) for m, v in zip(compared, found, strict=True) if m.title == LOSS
            )
            said = [f"{told:+.1f}", verdict(measure, values, told)]
        apart.append([line.title, *cells, *said])
    reference = next((line.title for line in group.lines if line.row == DEFAULT), DEFAULT)
    parts = [f"### {group.title}", " ".join(filter(None, [group.note, f"Paper: {group.paper}."]))]
    parts.append(_table(head, rows))
    parts.append(f'Differences from "{reference}", seed by seed:')
    apart_head = ["", *(m.head for m in compared), "Paper", f"{LOSS}?"]
    parts.append(_table(apart_head, apart))
    if group.name == "position":
        parts += ["At other sizes than that of training:", _sizes(group, results)]
    return "\n\n".join(parts)


def _sizes(group: Group, results: Results) -> str:
    """Text loss and PSNR of the rows at every size."""
    sides = sorted(
        {
            int(side)
            for line in group.lines
            for run in results.get(line.row, {}).values()
            for side in run["figures"]["sides"]
        }
    )
    if not sides:
        return "Not run."
    head = ["", *(f"{t}, {s}² ({u})" for t, u in _AT for s in sides)]
    rows = []
    for line in group.lines:
        runs = [*results.get(line.row, {}).values()]
        cells = [spread(_at(title, side), runs) for title, _ in _AT for side in sides]
        rows.append([line.title, *cells])
    return _table(head, rows)


def _at(title: str, side: int) -> Measure:
    def of(found: Found) -> float | None:
        sizes = found["figures"]["sides"].get(str(side))
        if sizes is None:
            return None
        return drawn(sizes) if title == LOSS else sizes["psnr_all"]

    return Measure(title=title, unit="", digits=3 if title == LOSS else 2, of=of, higher=None)


def _paper_difference(line: Line, default: float | None) -> float | None:
    return None if line.paper is None or default is None else line.paper - default


def _seeds(runs: Mapping[int, Found]) -> str:
    if not runs:
        return "not run"
    return str(len(runs)) if len(runs) >= SEEDS else f"{len(runs)} of {SEEDS}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = [":--", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def page_part(results: Results, plot: str | None) -> str:
    """All that is generated, in Markdown."""
    runs = [run for seeds in results.values() for run in seeds.values()]
    parts = [_made(runs)]
    if plot is not None:
        parts.append(f"![Means and ranges of every row that was run, by group]({plot})")
    parts += [group_text(group, results) for group in GROUPS.values()]
    return "\n\n".join(parts)


def _made(runs: Sequence[Found]) -> str:
    if not runs:
        return "Nothing has been run yet."
    budget = runs[0]["settings"]
    facts = {
        what: ", ".join(sorted({str(run[what]) for run in runs}))
        for what in ("commit", "date", "hardware")
    }
    versions = sorted({f"torch {run['versions']['torch']}" for run in runs})
    minutes = [sum(run["cpu_seconds"].values()) / 60 for run in runs]
    lost = sum(bool(run["unseen"]) for run in runs)
    text = (
        f"{len(runs)} runs of {budget['steps']} steps ({budget['proximal_steps']} of them stage"
        f" proximal) of {budget['seq_len']} tokens, pictures of at most {budget['side']}² pixels,"
        f" recipe {budget['recipe']}; one thread, {min(minutes):.1f} to {max(minutes):.1f} CPU"
        f" minutes each, measuring included. {facts['date']}, commit {facts['commit']},"
        f" {facts['hardware']}, {', '.join(versions)}."
    )
    if lost:
        text += f" CPU times of {lost} runs that were cut off are lower bounds."
    return text


def put(page: str, part: str, name: Path) -> str:
    """The page with its generated part replaced.

    Raises:
        InputError: a marker is missing.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"lacks the lines {BEGIN} and {END}, between which the tables go", name)
    return f"{before}{BEGIN}\n\n{part}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="folder of ROW-seedN.json")
    parser.add_argument("--out", type=Path, required=True, help="the page, with its markers")
    parser.add_argument(
        "--plot", type=Path, help="PNG to write (default: RESULTS/ablations.png beside the page)"
    )
    args = parser.parse_args(arguments)
    try:
        results = read(args.results)
        page = args.out.read_text("utf-8")
        plot = args.plot or args.out.parent / "RESULTS" / "ablations.png"
        shown = None
        if results:
            plot.parent.mkdir(parents=True, exist_ok=True)
            draw(results, plot)
            shown = Path(*_relative(plot, args.out.parent)).as_posix()
        whole_text(args.out, put(page, page_part(results, shown), args.out))
    except (ViQError, OSError) as error:
        print(f"ablations: error: {error}", file=sys.stderr)
        return 2
    count = sum(map(len, results.values()))
    print(f"{args.out}: {count} runs of {len(results)} rows")
    return 0


def _relative(path: Path, folder: Path) -> tuple[str, ...]:
    try:
        return path.resolve().relative_to(folder.resolve()).parts
    except ValueError:
        return path.parts


if __name__ == "__main__":
    sys.exit(main())
