"""The evaluation of codes as a whole: what is asked, what is done of it, and what was found."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from viq.codes import Codes
from viq.errors import InputError
from viq.evaluation.codes import neighbours
from viq.evaluation.codes.equality import PICTURES, Setup, compare, equality_table, ways
from viq.evaluation.codes.stability import (
    in_dtypes,
    stability_figure,
    stability_record,
    stability_table,
)
from viq.evaluation.codes.usage import Usage, curve_figure, dependence_figure, usage_tables
from viq.evaluation.coding import codes_of, encode, scaled, to_record, why_no_decoder
from viq.evaluation.document import Figure, Table
from viq.evaluation.pictures import Pictures, choice, listing
from viq.evaluation.samples import Samples
from viq.evaluation.subjects import Model
from viq.store import CodeDataset
from viq.tokenizer import Tokenizer

Step = tuple[str, list[InputError]]  # what was done, and what went wrong


@dataclass(kw_only=True)
class CodeEvaluation:
    """What is asked of pictures.

    Attributes:
        models: tokenizers in float32 by what rows call them.
        where: what ``viq.load`` takes for each.
        pictures: the data.
        names: which of them.
        stability: on how many of these stability is measured, spread over them.
        max_pixels: larger pictures are scaled down; each model's own limit by default.
        device: where models run.
    """

    models: Mapping[str, Tokenizer]
    where: Mapping[str, str]
    pictures: Pictures
    names: Sequence[str]
    stability: int
    max_pixels: int | None
    device: str
    _notes: list[str] = field(default_factory=list)

    @property
    def changed(self) -> Sequence[str]:
        """The pictures of which stability is measured."""
        return choice(self.names, self.stability)

    def asked(self) -> dict[str, Any]:
        """All that decides the samples, for ``Samples.open``."""
        return {
            "evaluation": "codes",
            "data": dict(self.pictures.identity()),
            "pictures": len(self.names),
            "stability": self.stability,
            "max_pixels": self.max_pixels,
            "device": self.device,
            "torch": torch.__version__,
            "models": {name: identity(name, one) for name, one in self.models.items()},
        }

    def steps(self) -> int:
        """How many ``run`` takes: each picture and each way to encode, and a sheet, by model."""
        some = len([way for way in ways(self.device) if way.why_not is None])
        return len(self.models) * (len(self.names) + some + 1)

    def run(self, samples: Samples, folder: Path) -> Iterator[Step]:
        """Does what is not done yet; figures of neighbouring codes go to ``folder``."""
        for name, tokenizer in self.models.items():
            yield from self._pictures(samples, name, tokenizer)
            yield from self._ways(samples, name, tokenizer)
            if (codes := self.first_codes(samples, name)) is not None:
                draw_neighbours(
                    samples, folder, list(self.models).index(name), name, tokenizer, codes
                )
            yield f"{name}: neighbouring codes", []

    def usages(self, samples: Samples) -> dict[str, Usage]:
        """What codes of the pictures use, by model."""
        found = {}
        for name in self.models:
            records = samples.of(f"codes={name}")
            usage: Usage | None = None
            for picture in self.names:
                if (record := records.get(picture)) is None:
                    continue
                codes = codes_of(record)
                usage = usage or Usage(codes.levels, codes.code_heads)
                usage.add(codes.values.astype(np.int64), codes.grid_size)
            if usage is not None:
                found[name] = usage
        return found

    def tables(self, samples: Samples) -> list[Table]:
        """Stability and equality."""
        records = {
            name: [r for p in self.changed if (r := samples.of(f"stability={name}").get(p))]
            for name in self.models
        }
        patch_size = next(iter(self.models.values())).config.image.patch_size
        same = {name: samples.of(f"equality={name}") for name in self.models}
        table, notes = equality_table(same, self.device)
        self._notes += notes
        return [stability_table(records, patch_size), table]

    def figures(self, samples: Samples, tables: Sequence[Table], folder: Path) -> list[Figure]:
        """Stability, and each model's map of codes."""
        found = [stability_figure(table, folder) for table in tables if table.title == "Stability"]
        for place, name in enumerate(self.models):
            if (codes := self.first_codes(samples, name)) is not None:
                picture = next(p for p in self.names if p in samples.of(f"codes={name}"))
                image = self._scaled(self.pictures.read(picture).image, self.models[name])
                found.append(neighbours.code_map(codes, image, folder / f"map-{place}.png", name))
        return found

    def notes(self) -> list[str]:
        """What was left out and why."""
        return list(dict.fromkeys(self._notes))

    def first_codes(self, samples: Samples, name: str) -> Codes | None:
        """A model's codes of the first picture that could be read."""
        records = samples.of(f"codes={name}")
        picture = next((picture for picture in self.names if picture in records), None)
        return None if picture is None else codes_of(records[picture])

    def _pictures(self, samples: Samples, name: str, tokenizer: Tokenizer) -> Iterator[Step]:
        decodes = why_no_decoder(tokenizer) is None
        others, notes = in_dtypes(self.where[name], self.device)
        self._notes += notes
        changed = self.changed
        for picture in self.names:
            todo = [f"codes={name}"] + [f"stability={name}"] * (picture in changed)
            todo = [part for part in todo if picture not in samples.of(part)]
            errors = []
            try:
                if todo:
                    image = self._scaled(self.pictures.read(picture).image, tokenizer)
                if f"codes={name}" in todo:
                    codes = encode(tokenizer, image, picture)
                    samples.add(f"codes={name}", {picture: to_record(codes)})
                if f"stability={name}" in todo:
                    record = stability_record(tokenizer, others, image, picture, decodes=decodes)
                    samples.add(f"stability={name}", {picture: record})
            except InputError as error:
                errors.append(InputError(error.reason, error.source or picture))
            yield picture, errors

    def _ways(self, samples: Samples, name: str, tokenizer: Tokenizer) -> Iterator[Step]:
        part = f"equality={name}"
        setup: Setup | None = None
        for way in ways(self.device):
            if way.why_not is not None:
                continue
            if way.name not in samples.of(part):
                setup = setup or Setup(
                    self.where[name], tokenizer, self._some_images(samples, name), self.device
                )
                if setup.images:
                    samples.add(part, {way.name: compare(*way.encode(setup))})
            yield f"{name}: {way.name}", []

    def _some_images(self, samples: Samples, name: str) -> list[Image.Image]:
        there = samples.of(f"codes={name}")
        names = choice([picture for picture in self.names if picture in there], PICTURES)
        tokenizer = self.models[name]
        return [self._scaled(self.pictures.read(one).image, tokenizer) for one in names]

    def _scaled(self, image: Image.Image, tokenizer: Tokenizer) -> Image.Image:
        """The picture as it is encoded, and then changed."""
        most = self.max_pixels or tokenizer.config.image.max_pixels
        return scaled(image, most)


def dataset_usage(dataset: CodeDataset, count: int | None, update: Callable[[], object]) -> Usage:
    """Counts a data set's codes, of the first ``count`` images or of all.

    ``update`` is called after each image.

    Raises:
        CodesError: a row contradicts itself, or a file is damaged.
    """
    usage = Usage(dataset.info.levels, dataset.info.code_heads)
    images = (codes for row in dataset.images() for codes in row)
    for codes in islice(images, None if count is None else min(count, sys.maxsize)):
        usage.add(codes.values.astype(np.int64), codes.grid_size)
        update()
    return usage


def dataset_identity(dataset: CodeDataset) -> dict[str, Any]:
    """What tells a local data set from others."""
    files = [Path(file) for file in dataset.files]
    return {"kind": "codes", **listing(files[0].parent, [file.name for file in files])}


def draw_neighbours(
    samples: Samples, folder: Path, place: int, name: str, tokenizer: Tokenizer, codes: Codes
) -> None:
    """Measures and draws what neighbours of a picture's codes decode to, as far as not done."""
    part, keys = f"neighbours={name}", neighbours.all_keys(codes)
    if why_no_decoder(tokenizer) is not None or not keys:
        return
    codes = neighbours.middle(codes)
    decoded = tokenizer.decode(codes)
    for head in range(codes.code_heads):
        path = folder / sheet_name(place, head)
        missing = [k for k in keys if k.head == head and k.name not in samples.of(part)]
        if missing or not path.exists():
            found = neighbours.decode_neighbours(tokenizer, codes, head)
            records = {
                key.name: neighbours.neighbour_record(codes, key, decoded, found[key])
                for key in missing
            }
            neighbours.neighbour_sheet(codes, decoded, found, head, path)
            samples.add(part, records)


def found_neighbours(
    samples: Samples, folder: Path, models: Mapping[str, Tokenizer]
) -> tuple[list[Table], list[Figure], list[str]]:
    """Table, figures and notes of what ``draw_neighbours`` did."""
    records, figures, notes = {}, [], []
    levels = {}
    for place, (name, tokenizer) in enumerate(models.items()):
        head = tokenizer.config.network.head
        if (why := why_no_decoder(tokenizer)) is not None:
            notes.append(f"{name} does not decode ({why}), so nothing is said of its decodes.")
        elif some := samples.of(f"neighbours={name}"):
            records[name] = list(some.values())
            levels[name] = head.quantizer.code_levels or ()
            paths = [folder / sheet_name(place, q) for q in range(head.code_heads)]
            figures += [neighbours.neighbour_figure(q, p, name) for q, p in enumerate(paths)]
        elif len(head.quantizer.code_levels or ()) == 1:
            notes.append(f"{name} has codes without digits, so none are neighbours.")
    tables = [neighbours.neighbour_table(records, levels)] if records else []
    return tables, figures, notes


def found_usage(usages: Mapping[str, Usage], folder: Path) -> tuple[list[Table], list[Figure]]:
    """Tables and figures of usage."""
    tables = [table for table in usage_tables(usages) if table.rows]
    figures = [curve_figure(usages, folder)]
    for place, (name, usage) in enumerate(usages.items()):
        if usage.has_digits:
            figures.append(dependence_figure(name, usage, folder / f"digits-{place}.png"))
    return tables, figures


def sheet_name(place: int, head: int) -> str:
    """The file of a sheet of neighbouring codes, by the model's place and the head."""
    return f"neighbours-{place}-head-{head + 1}.png"


def identity(name: str, tokenizer: Tokenizer) -> dict[str, Any]:
    """What tells a model from others: what decides its codes, and what it makes of them."""
    decodes = why_no_decoder(tokenizer) is None
    return {
        "fingerprint": tokenizer.fingerprint,
        "decoder": Model(name, tokenizer).identity()["decoder"] if decodes else None,
    }
