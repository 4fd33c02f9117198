"""Rate against distortion: models over the sizes of what they encode, codecs at the same rates.

A model has one rate at one size. For less, a picture is encoded smaller, and what comes back is
enlarged; several models, such as ones of several codebook sizes, are curves of their own. Codecs,
too, may make the picture smaller: each gets as many bytes as the models took, and a few rates.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from viq.errors import InputError
from viq.evaluation.coding import encode
from viq.evaluation.document import Cell, Column, Figure, Table
from viq.evaluation.pictures import choice
from viq.evaluation.plots import new_figure, save_figure, series
from viq.evaluation.reconstruction.runner import Reconstruction, record_of
from viq.evaluation.reconstruction.tables import PICTURES, QUALITY, RATE, SUBJECT, rate, values_of
from viq.evaluation.samples import Samples
from viq.evaluation.scores import mean_score
from viq.evaluation.subjects import Codec, Model, Rebuilt, Request
from viq.metrics.codecs import CODECS

CURVE_PICTURES = 24
SCALES = tuple(2 ** (-step / 2) for step in range(5))  # of the sides: 1, 0.71, 0.5, 0.35, 0.25
RATES = (0.06, 0.125, 0.25, 0.5, 1.0)  # bits per pixel
MEASURES = ("psnr", "ssim", "lpips", "dists", "hed")

Records = Mapping[str, Mapping[str, Any]]  # by name of the picture


@dataclass(frozen=True)
class Point:
    """A subject at one of its settings: a codec's is a rate, or the bytes that ``beside`` took."""

    subject: str
    setting: str
    by: Model | Codec
    scale: float = 1.0
    beside: "Point | None" = None

    @property
    def part(self) -> str:
        """What the samples of its subject are kept under."""
        return f"curve={self.subject}"

    def id(self, name: str) -> str:
        """What its sample of a picture is called there."""
        return f"{self.setting}: {name}"

    def rebuild(self, name: str, image: Image.Image, num_bytes: int | None) -> Rebuilt | None:
        """The picture at this setting; None where no file is so small.

        Raises:
            ImageError: it cannot be encoded.
        """
        if isinstance(self.by, Codec):
            return self.by.rebuild(Request(name, image, num_bytes))
        width, height = (max(1, round(side * self.scale)) for side in image.size)
        small = image.resize((width, height), Image.Resampling.LANCZOS)
        codes = encode(self.by.tokenizer, small, name)
        decoded = self.by.tokenizer.decode(codes)
        return Rebuilt(decoded.resize(image.size, Image.Resampling.LANCZOS), codes.nbytes)


class Shown(NamedTuple):
    """What can be compared: points, and the pictures that all of them have."""

    records: list[tuple[Point, Records]]
    names: Sequence[str]
    left_out: list[Point]  # that fewer than half of the pictures have


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
        """In the order of the table: models first, for codecs look at what these took."""
        models = [
            Point(model.name, f"sides x {scale:.2f}", model, scale)
            for model in self.asked.subjects
            if isinstance(model, Model)
            for scale in SCALES
        ]
        codecs = []
        for key in self.codecs:
            name = CODECS[key].name
            for one in models:
                at = f"{one.subject}, {one.setting}"
                by = Codec(key, bpp=None, beside=at)
                codecs.append(Point(name, f"as large as {at}", by, beside=one))
            codecs += [
                Point(name, f"at {bpp:g} bpp", Codec(key, bpp=bpp, beside=None)) for bpp in RATES
            ]
        return models + codecs

    def run(self, samples: Samples) -> Iterator[tuple[str, list[InputError]]]:
        """Does what is not done yet, picture by picture: each one's name, and what went wrong."""
        for name in self.names:
            missing = [one for one in self.points if one.id(name) not in samples.of(one.part)]
            errors: list[InputError] = []
            if missing:
                try:
                    image = self.asked.view(self.asked.pictures.read(name).image, "native")
                    for point in missing:
                        samples.add(
                            point.part, {point.id(name): self._one(samples, point, name, image)}
                        )
                except InputError as error:
                    errors = [error]
            yield name, errors

    def table(self, samples: Samples) -> Table:
        """The numbers of all points."""
        # None is the best: the rows are of different rates.
        qualities = (replace(QUALITY[key], better=None) for key in MEASURES)
        columns = (SUBJECT, Column(name="setting"), RATE, *qualities)
        rows: list[tuple[Cell, ...]] = []
        shown = self._shown(samples)
        for point, records in shown.records:
            measured = [values_of(records, key) for key in MEASURES]
            cells = [mean_score(values) if values else None for values in measured]
            rows.append((point.subject, point.setting, rate(records), *cells, len(records)))
        note = (
            f"Means over {len(shown.names)} of {len(self.names)} pictures, those that every row"
            " has. Bits per pixel are all bits over all pixels. Models encode pictures with their"
            " sides scaled, and what comes back is enlarged;"
            " codecs, too, take the size that comes closest by PSNR."
        )
        if shown.left_out:
            which = ", ".join(f"{point.subject} {point.setting}" for point in shown.left_out)
            note += f" Left out, for fewer than half of the pictures have a file so small: {which}."
        return Table(
            title=f"Rate and distortion: {self.asked.title(samples)}, native size",
            columns=(*columns, PICTURES),
            rows=tuple(rows),
            note=note,
        )

    def figures(self, samples: Samples, folder: Path) -> list[Figure]:
        """A plot of each measure that there is, written to the folder."""
        found = []
        shown = self._shown(samples)
        for key in MEASURES:
            lines = _lines(shown, key)
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
            title = f"{column.name} at each rate, mean of {len(shown.names)} pictures"
            found.append(Figure(file=file, title=title, caption=caption))
        return found

    def _one(self, samples: Samples, point: Point, name: str, image: Image.Image) -> dict[str, Any]:
        """What is kept of a picture at a point."""
        num_bytes = None
        if (beside := point.beside) is not None:
            num_bytes = samples.of(beside.part)[beside.id(name)]["bytes"]
        rebuilt = point.rebuild(name, image, num_bytes)
        if rebuilt is None:
            return {"none": True}
        closeness = self.asked.measures.closeness(image, rebuilt.image, native=True)
        return record_of(image, rebuilt) | closeness

    def _shown(self, samples: Samples) -> Shown:
        """The points that half of the pictures have, and the pictures that all these have."""
        points = self.points
        done = [n for n in self.names if all(one.id(n) in samples.of(one.part) for one in points)]
        kept: list[tuple[Point, Records]] = []
        left_out, names = [], done
        for point in points:
            records = samples.of(point.part)
            has = [name for name in done if "none" not in records[point.id(name)]]
            if 2 * len(has) < len(done):
                left_out.append(point)
                continue
            kept.append((point, records))
            names = [name for name in names if name in has]
        found: list[tuple[Point, Records]] = []
        for point, of_all in kept if names else ():
            some: Records = {n: of_all[point.id(n)] for n in names}
            found.append((point, some))
        return Shown(found, names, left_out)


def _lines(shown: Shown, key: str) -> dict[str, list[tuple[float, float]]]:
    """(bits per pixel, measure) of each point, by subject."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for point, records in shown.records:
        bits, values = rate(records), values_of(records, key)
        if bits is not None and values:
            mean = math.fsum(values) / len(values)
            lines.setdefault(point.subject, []).append((bits, mean))
    return lines
