"""Pictures to look at: the best, the median and the worst of each model beside the others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from viq.errors import ImageError
from viq.evaluation.document import Figure
from viq.evaluation.files import whole_file
from viq.evaluation.reconstruction.runner import TITLES, Reconstruction, part_of, pixels_of
from viq.evaluation.reconstruction.tables import records_of, values_of
from viq.evaluation.samples import Samples
from viq.evaluation.subjects import Model, Request
from viq.image.sheet import Cell, Row, sheet, shrink

CELL_SIDE = 300  # pixels


def sheets(asked: Reconstruction, samples: Samples, folder: Path) -> list[Figure]:
    """Writes a sheet for each model, of the first protocol."""
    protocol, found = asked.protocols[0], []
    for number, model in enumerate(one for one in asked.subjects if isinstance(one, Model)):
        records = records_of(samples, protocol, model.name, asked.names)
        if not records:
            continue
        ranks = ranked(records)
        rows = [_row(asked, samples, name, f"{rank}: {name}") for rank, name in ranks.items()]
        file = f"sheet-{number}.png"
        columns = ["original", *(subject.name for subject in asked.subjects)]
        with whole_file(folder / file) as temporary:
            sheet(columns, rows, cell_side=CELL_SIDE).save(temporary)
        *first, last = ranks
        which = f"{', '.join(first)} and {last}" if first else last
        what = f"{which} pictures of {model.name} by PSNR, {TITLES[protocol]}"
        found.append(Figure(file=file, title=f"The {what}", caption=f"the {what}"))
    return found


def ranked(records: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The names of the best, the median and the worst picture by PSNR; of fewer if need be."""
    psnr = dict(zip(records, values_of(records, "psnr"), strict=True))
    order = sorted(psnr, key=lambda name: (-psnr[name], name))
    places = {"best": 0, "median": (len(order) - 1) // 2, "worst": len(order) - 1}
    found: dict[str, str] = {}
    for rank, place in places.items():
        if order[place] not in found.values():
            found[rank] = order[place]
    return found


def _row(asked: Reconstruction, samples: Samples, name: str, title: str) -> Row:
    """One picture by all subjects, which give it once more."""
    protocol: Any = asked.protocols[0]
    image = asked.view(asked.pictures.read(name).image, protocol)
    cells = [Cell(shrink(image, CELL_SIDE), f"{image.width} x {image.height}")]
    budget = asked.budget(samples, protocol, name)
    for subject in asked.subjects:
        record = samples.of(part_of(protocol, subject.name)).get(name)
        if record is None or "none" in record:
            cells.append(Cell(None, "none"))
            continue
        try:
            rebuilt = subject.rebuild(Request(name, image, budget))
        except ImageError:  # it was there before, and has gone since
            rebuilt = None
        shown = None if rebuilt is None else shrink(rebuilt.image, CELL_SIDE)
        cells.append(Cell(shown, caption(record)))
    return Row(title, cells)


def caption(record: Mapping[str, Any]) -> str:
    """PSNR, SSIM and rate of a picture."""
    psnr = "lossless" if record["psnr"] is None else f"{record['psnr']:.2f} dB"
    parts = [psnr, f"SSIM {record['ssim']:.3f}"]
    if record["bytes"] is not None:
        parts.append(f"{8 * record['bytes'] / pixels_of(record):.3f} bpp")
    return ", ".join(parts)
