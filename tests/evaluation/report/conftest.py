"""What the tests of reports share: documents with tables and a picture."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from viq.evaluation.document import Cell, Column, Document, Figure, Score, Table
from viq.evaluation.provenance import Provenance

COLUMNS = (
    Column(name="subject"),
    Column(name="PSNR", unit="dB", better="higher"),
    Column(name="error", unit="%", digits=1, better="lower"),
)


@pytest.fixture
def rows() -> Callable[..., tuple[tuple[Cell, ...], ...]]:
    """Two rows of ``COLUMNS``: the subject's and JPEG's, which is the same for all."""

    def make(subject: str, psnr: float = 24.0) -> tuple[tuple[Cell, ...], ...]:
        score = Score(value=psnr, low=psnr - 0.5, high=psnr + 0.75, count=13)
        return ((subject, score, None), ("JPEG", 25.25, 3.0))

    return make


@pytest.fixture
def save(tmp_path, rows) -> Callable[..., Path]:
    """Saves a document below tmp_path / "results" and returns its folder."""

    def make(
        subject: str = "nano",
        kind: str = "reconstruction",
        *,
        folder: str | None = None,
        title: str | None = None,
        date: str = "2026-11-22",
        psnr: float = 24.0,
        tables: tuple[Table, ...] | None = None,
        notes: tuple[str, ...] = (),
        caption: str = "PSNR over bits per pixel.",
        figure: bool = True,
    ) -> Path:
        path = tmp_path / "results" / (folder or f"{kind}-{subject}")
        path.mkdir(parents=True, exist_ok=True)
        if figure:
            y, x = np.mgrid[:40, :60]
            values = np.stack([2 * x, 3 * y, x + y], axis=-1).astype(np.uint8)
            Image.fromarray(values).save(path / "curve.png")
        table = Table(title="Quality", columns=COLUMNS, rows=rows(subject, psnr), note="13 photos.")
        Document(
            kind=kind,
            title=title or f"{kind.capitalize()} of {subject}",
            made=Provenance(
                command=f"viq eval {kind} --model {subject}",
                date=date,
                commit="2e62485",
                hardware="A processor x 2",
                threads=1,
                versions={"viq": "0.1.0"},
            ),
            tables=(table,) if tables is None else tables,
            figures=(Figure(file="curve.png", title="Curve", caption=caption),) if figure else (),
            notes=notes,
        ).save(path)
        return path

    return make
