"""Rows with codes, and data sets of them."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from viq import Codes
from viq.store import CodesInfo, CodeWriter

FINGERPRINT = "0123456789abcdef" * 4
LEVELS = (8, 8, 8, 5, 5, 5)


@pytest.fixture(scope="session")
def info() -> CodesInfo:
    return CodesInfo(fingerprint=FINGERPRINT, levels=LEVELS, code_heads=4, patch_size=16)


@pytest.fixture(scope="session")
def make_codes():
    """Codes of a picture of h x w patches, less a few pixels; the same for the same seed."""

    def make(h: int, w: int, seed: int = 0, **changes) -> Codes:
        heads = changes.pop("code_heads", 4)
        size = math.prod(changes.get("levels", LEVELS))
        values = np.random.default_rng(seed).integers(0, size, (h * w, heads)).astype(np.uint16)
        height, width = (16 * h - 3, 16 * w - 5)
        about = {
            "grid_size": (h, w),
            "original_size": (2 * height, 2 * width),
            "encoded_size": (height, width),
            "levels": LEVELS,
            "fingerprint": FINGERPRINT,
        }
        return Codes(values, **about | changes)

    return make


@pytest.fixture(scope="session")
def rows(make_codes):
    """Five rows: of one image, of two, of none, and of one each."""
    return [
        [make_codes(2, 3, 0)],
        [make_codes(1, 1, 1), make_codes(4, 2, 2)],
        [],
        [make_codes(3, 3, 3)],
        [make_codes(1, 5, 4)],
    ]


@pytest.fixture(scope="session")
def table():
    """What is carried beside them."""
    turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "That."}]
    return pa.table(
        {
            "id": [f"sample-{n}" for n in range(5)],
            "messages": [turns, [], None, turns[:1], turns],
            "score": pa.array([0.5, None, 1.0, 2.0, 3.0], pa.float32()),
        }
    )


@pytest.fixture
def write(tmp_path, info, table, rows):
    """Writes a file of a data set: of those rows, unless others are given."""

    def write(name: str = "data/train-00000-of-00001.parquet", **changes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = changes.get("table", table)
        with CodeWriter(path, changes.get("info", info), columns.schema) as writer:
            writer.write(columns, changes.get("rows", rows))
        return path

    return write
