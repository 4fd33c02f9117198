"""A picture of all groups that have been run: a row a group, a column a measure."""

from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from measures import MEASURES, Measure
from results import Results
from rows import DEFAULT, GROUPS, Group

from viq.evaluation.plots import PALE, new_figure, save_figure, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = ("Letters", "Text loss, drawn", "PSNR")
LINE, MARGIN = 34, 84  # pixels of a row of a group, and around them


def draw(results: Results, path: Path) -> None:
    """Every seed as a dot, means with bars from least to greatest; the default is a line."""
    groups = [
        g for g in GROUPS.values() if any(_has_runs(results, g, line.row) for line in g.lines)
    ]
    groups = groups or [GROUPS["proximal"]]
    measures = [measure for measure in MEASURES if measure.title in SHOWN]
    longest = max(len(group.lines) for group in groups)
    figure, axes = new_figure(len(groups), len(measures), height=MARGIN + LINE * longest)
    heights = [MARGIN + LINE * len(group.lines) for group in groups]
    axes[0].get_gridspec().set_height_ratios(heights)
    figure.set_figheight(sum(heights) / figure.dpi)
    for number, group in enumerate(groups):
        titles = [line.title for line in group.lines]
        for place, measure in enumerate(measures):
            axis = axes[number * len(measures) + place]
            _panel(axis, group, measure, results, series(number)["color"])
            axis.set_yticks(range(len(group.lines)))
            axis.set_yticklabels(titles if place == 0 else [], fontsize=7)
            axis.set_ylim(len(group.lines) - 0.5, -0.5)
            axis.tick_params(axis="x", labelsize=7)
            axis.set_xlabel(measure.head, fontsize=7)
        axes[number * len(measures)].set_title(group.title, fontsize=9, loc="left")
    save_figure(figure, path)


def _has_runs(results: Results, group: Group, row: str) -> bool:
    """Whether a row that is this group's own was run."""
    return bool(results.get(row)) and (row != DEFAULT or group.name == "proximal")


def _panel(axis: "Axes", group: Group, measure: Measure, results: Results, colour: str) -> None:
    for place, line in enumerate(group.lines):
        runs = results.get(line.row, {}).values()
        values = [value for run in runs if (value := measure.of(run)) is not None]
        if not values:
            continue
        if line.row == DEFAULT:
            axis.axvline(mean(values), color=PALE, linewidth=1.5, zorder=0)
        axis.plot([min(values), max(values)], [place, place], color=colour, linewidth=2)
        axis.plot(values, [place] * len(values), ".", color=colour, markersize=4, alpha=0.6)
        axis.plot(mean(values), place, "o", color=colour, markersize=6)
