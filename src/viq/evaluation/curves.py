"""Rate against distortion: codecs over their qualities, models over the sizes of what they encode.

A model has one rate at one size. For less, a picture is encoded smaller, and what comes back is
enlarged; several models, such as ones of several codebook sizes, are curves of their own.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from viq.errors import InputError
from viq.evaluation.document import Cell, Column, Figure, Table
from viq.evaluation.pictures import choice
from viq.evaluation.plots import new_figure, save_figure, series
from viq.evaluation.reconstruction import Reconstruction, record_of
from viq.evaluation.reconstruction_tables import PICTURES, QUALITY, RATE, SUBJECT, rates, values_of
from viq.evaluation.samples import Samples
from viq.evaluation.scores import mean_score
from viq.evaluation.subjects import Model, Rebuilt, encode
from viq.metrics.codecs import CODECS, at_quality

CURVE_PICTURES = 24
SCALES = tuple(2 ** (-step / 2) for step in range(5))  # of the sides: 1, 0.71, 0.5, 0.35, 0.25
QUALITIES = (1, 5, 10, 20, 35, 50, 70, 85)
MEASURES = ("psnr", "ssim", "lpips", "dists", "hed")


@dataclass(frozen=True)
class Point:
    """A subject at one of its settings."""

    subject: str
    setting: str
    model: Model | None = None
    scale: float = 1.0
    codec: str = ""
    quality: int = 0

    @property
    def part(self) -> str:
        """What the samples of its subject are kept under."""
        return f"curve={self.subject}"

    def id(self, name: str) -> str:
        """What its sample of a picture is called there."""
        return f"{self.setting}: {name}"

    def rebuild(self, name: str, image: Image.Image) -> Rebuilt:
        """The picture at this setting.

        Raises:
            ImageError: it cannot be encoded.
        """
        if self.model is None:
            found = at_quality(image, CODECS[self.codec], self.quality)
            return Rebuilt(found.image, found.num_bytes)
        width, height = (max(1, round(side * self.scale)) for side in image.size)
        small = image.resize((width, height), Image.Resampling.LANCZOS)
        codes = encode(self.model.tokenizer, small, name)
        decoded = self.model.tokenizer.decode(codes)
        return Rebuilt(decoded.resize(image.size, Image.Resampling.LANCZOS), codes.nbytes)


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Which points are measured of which pictures, at native size."""

    asked: Reconstruction
    codecs: Sequence[str]

    @property
    def names(self) -> Sequence[str]:
        """The pictures, fewer than all, spread over them."""
        return choice(self.asked.names, CURVE_PICTURES)

    @property
    def points(self) -> list[Point]:
        """In the order of the table."""
        models = [one for one in self.asked.subjects if isinstance(one, Model)]
        found = [
            Point(model.name, f"sides x {scale:.2f}", model=model, scale=scale)
            for model in models
            for scale in SCALES
        ]
        return found + [
            Point(CODECS[codec].name, f"quality {quality}", codec=codec, quality=quality)
            for codec in self.codecs
            for quality in QUALITIES
        ]

    def run(self, samples: Samples) -> Iterator[tuple[str, list[InputError]]]:
        """Does what is not done yet, picture by picture: each one's name, and what went wrong."""
        for name in self.names:
            missing = [one for one in self.points if one.id(name) not in samples.of(one.part)]
            errors: list[InputError] = []
            if missing:
                try:
                    image = self.asked.view(self.asked.pictures.read(name).image, "native")
                    for point in missing:
                        rebuilt = point.rebuild(name, image)
                        record = record_of(image, rebuilt)
                        record |= self.asked.measures.closeness(image, rebuilt.image, native=True)
                        samples.add(point.part, {point.id(name): record})
                except InputError as error:
                    errors = [error]
            yield name, errors

    def table(self, samples: Samples) -> Table:
        """The numbers of all points."""
        columns = (SUBJECT, Column(name="setting"), RATE, *(QUALITY[key] for key in MEASURES))
        rows: list[tuple[Cell, ...]] = []
        for point in self.points:
            records = self._records(samples, point)
            if not records:
                continue
            measured = [values_of(records, key) for key in MEASURES]
            cells = [mean_score(values) if values else None for values in measured]
            rows.append(
                (point.subject, point.setting, mean_score(rates(records)), *cells, len(records))
            )
        return Table(
            title=f"Rate and distortion: {self.asked.title}, native size",
            columns=(*columns, PICTURES),
            rows=tuple(rows),
            note=(
                f"Means over {len(self.names)} pictures. Models encode pictures with their sides"
                " scaled, and what comes back is enlarged; codecs keep the size."
            ),
        )

    def figures(self, samples: Samples, folder: Path) -> list[Figure]:
        """A plot of each measure that there is, written to the folder."""
        found = []
        for key in MEASURES:
            lines = self._lines(samples, key)
            if not lines:
                continue
            column = QUALITY[key]
            figure, (axes,) = new_figure()
            for index, (subject, points) in enumerate(lines.items()):
                x, y = zip(*sorted(points), strict=True)
                axes.plot(x, y, label=subject, **series(index))
            label = column.name + (f" ({column.unit})" if column.unit else "")
            axes.set(xlabel="bits per pixel, as stored", ylabel=label)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
            axes.legend()
            file = f"curve-{key}.png"
            save_figure(figure, folder / file)
            caption = f"{column.name} against bits per pixel: {', '.join(lines)}"
            title = f"{column.name} at each rate, mean of {len(self.names)} pictures"
            found.append(Figure(file=file, title=title, caption=caption))
        return found

    def _records(self, samples: Samples, point: Point) -> Mapping[str, Mapping[str, Any]]:
        records = samples.of(point.part)
        return {n: records[point.id(n)] for n in self.names if point.id(n) in records}

    def _lines(self, samples: Samples, key: str) -> dict[str, list[tuple[float, float]]]:
        """(bits per pixel, measure) of each point, by subject."""
        lines: dict[str, list[tuple[float, float]]] = {}
        for point in self.points:
            records = self._records(samples, point)
            if values := values_of(records, key):
                place = math.fsum(rates(records)) / len(records), math.fsum(values) / len(values)
                lines.setdefault(point.subject, []).append(place)
        return lines
