"""Draws what ``mllm_step.py --json`` wrote as a bar chart, and prints its tables as Markdown.

python benchmarks/mllm_chart.py benchmarks/results/mllm_step.json docs/mllm-step.png
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

COLOURS = {  # Okabe and Ito's, which the colour-blind can tell apart
    "reading": "#000000",
    "vision": "#D55E00",
    "projector": "#E69F00",
    "language model": "#0072B2",
    "backward": "#56B4E9",
    "optimizer": "#009E73",
}
LABELS = {"vision": "encoder, or embedder", "language model": "language model, forward"}
SHARES = "share of each part of the step"
PERCENT = (
    "image share",
    "saved",
    "by FLOPs",
    "by products alone",
    "by FLOPs of true sizes",
    "paper",
)
PERCENT += (*COLOURS, "products alone")


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table of all columns that hold anything."""
    columns = [c for c in rows[0] if any(row[c] is not None for row in rows)]
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(column, row[column]) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{100 * value:.1f} %" if column in PERCENT else f"{value:.3g}"


def draw(axes: Axes, tokens: int, document: dict[str, Any]) -> None:
    """One length of sequence: for each language model a bar of pixels and one of codes."""
    rows = [r for r in document["rows"] if (r["tokens"], r["case"]) == (tokens, "full")]
    for place, row in enumerate(rows):
        key = {name: row[name] for name in ("lm", "tokens", "case")}
        ways = [r for r in document[SHARES] if key.items() <= r.items()]
        whole = next(r["step s"] for r in ways if r["way"] == "pixels")
        for bar, way in enumerate(ways):
            bottom, height = 0.0, 100 * way["step s"] / whole
            for part, colour in COLOURS.items():
                label = LABELS.get(part, part) if place == bar == 0 else None
                x, share = place + (bar - 0.5) * 0.42, way[part] * height
                axes.bar(x, share, 0.38, bottom=bottom, color=colour, label=label)
                bottom += share
            axes.text(x, -3, way["way"], ha="center", va="top", fontsize=8)
        expected = 100 * (1 - row["by FLOPs"])
        label = "by FLOPs" if place == 0 else None
        axes.plot([x - 0.22, x + 0.22], [expected] * 2, "k--", linewidth=1, label=label)
        top = max(bottom, expected) + 2
        axes.text(x, top, f"–{row['saved']:.0%}", ha="center", fontweight="bold")
    axes.set_xticks(range(len(rows)), [row["lm"] for row in rows])
    axes.tick_params("x", length=0, pad=16)
    axes.set_title(f"{tokens:,} tokens a step", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    document = json.loads(args.results.read_text())
    lengths = sorted({row["tokens"] for row in document["rows"] if row["case"] == "full"})
    size = (4 + 4.5 * len(lengths), 4.4)
    figure, axes = plt.subplots(
        1, len(lengths), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    for panel, tokens in zip(axes[0], lengths, strict=True):
        draw(panel, tokens, document)
    axes[0, 0].set_ylabel("time of a training step, % of that from pixels")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    where = ", ".join(str(document[key]) for key in ("processor", "date", "commit"))
    figure.suptitle(f"{document['title']} ({where})", fontsize=9)
    figure.savefig(args.out, dpi=130)
    for name in ("rows", "forward pass", SHARES, "extraction"):
        print(f"### {'step' if name == 'rows' else name}\n\n{markdown(document[name])}\n")


if __name__ == "__main__":
    main()
