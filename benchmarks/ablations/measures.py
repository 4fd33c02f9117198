"""The numbers of a run that tables and plot show."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Any

DRAWN = ("words", "scraps", "shapes", "charts")

Found = Mapping[str, Any]  # one run's JSON


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number of every run."""

    title: str
    unit: str
    digits: int
    of: Callable[[Found], float | None]
    higher: bool | None  # is better; None: neither
    compared: bool = True  # with the default, seed by seed

    @property
    def head(self) -> str:
        """Of a column, with an arrow to where values are better."""
        arrow = "" if self.higher is None else " ↑" if self.higher else " ↓"
        return f"{self.title} ({self.unit}){arrow}"

    def write(self, value: float) -> str:
        """The number in a table."""
        return f"{value:.{self.digits}f}"


def _trained(found: Found) -> Found:
    """The figures at the size that was trained."""
    return found["figures"]["sides"][str(found["settings"]["side"])]


def drawn(sizes: Found) -> float:
    """Text loss at one size, the mean of the tasks that are drawn."""
    return mean(sizes["text"][task] for task in DRAWN)


MEASURES = (
    Measure(
        title="Letters",
        unit="%",
        digits=1,
        of=lambda found: found["figures"]["letters"],
        higher=True,
    ),
    Measure(
        title="Text loss, drawn",
        unit="nats",
        digits=3,
        of=lambda found: drawn(_trained(found)),
        higher=False,
    ),
    Measure(
        title="Text loss, captions",
        unit="nats",
        digits=3,
        of=lambda found: _trained(found)["text"].get("captions"),
        higher=False,
    ),
    Measure(
        title="PSNR",
        unit="dB",
        digits=2,
        of=lambda found: _trained(found)["psnr_all"],
        higher=True,
    ),
    Measure(
        title="Entropy",
        unit="bits a code",
        digits=2,
        of=lambda found: _trained(found)["entropy"],
        higher=None,
    ),
    Measure(
        title="CPU",
        unit="min",
        digits=1,
        of=lambda found: sum(found["cpu_seconds"].values()) / 60,
        higher=None,
        compared=False,
    ),
)
