"""The look of all plots: 900 pixels wide, thin grid, colours that the colour-blind tell apart.

>>> figure, (left, right) = new_figure(columns=2)
>>> left.plot(bpp, psnr, **series(0), label="nano")
>>> left.set(xlabel="bits per pixel", ylabel="PSNR (dB)", title="...")
>>> save_figure(figure, folder / "psnr.png")
"""

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from viq.errors import InputError
from viq.evaluation.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 900  # pixels
DPI = 110

# Okabe and Ito's eight, in an order in which neighbours differ most; markers tell them apart too.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
    *("#E69F00", "#56B4E9", "#000000", "#F0E442"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
PALE = "#BBBBBB"  # of what is there for comparison only


class Series(TypedDict):
    """What ``plot`` takes to draw one of several series."""

    color: str
    marker: str


def series(index: int) -> Series:
    """Colour and marker of the series of this index; after eight colours the markers shift."""
    turn, place = divmod(index, len(COLOURS))
    return {"color": COLOURS[place], "marker": MARKERS[(place + turn) % len(MARKERS)]}


def new_figure(
    rows: int = 1, columns: int = 1, *, height: int = 480
) -> "tuple[Figure, list[Axes]]":
    """A figure and its axes in reading order; ``height`` in pixels is of each row.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # without pyplot, which keeps figures and has state
    except ImportError as error:
        raise InputError("plots need matplotlib: pip install 'viq[eval]'") from error

    figure = Figure(figsize=(WIDTH / DPI, rows * height / DPI), dpi=DPI, layout="constrained")
    axes = [axis for row in figure.subplots(rows, columns, squeeze=False) for axis in row]
    for axis in axes:
        axis.grid(visible=True, linewidth=0.6, alpha=0.4)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: "Figure", path: Path) -> None:
    """Writes a PNG; equal figures give equal bytes."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
