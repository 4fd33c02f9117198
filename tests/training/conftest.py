"""Data small enough to train on in a test."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A folder of Parquet files as the recipes read them: 12 pictures to train on, 4 held out."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("validation", 4)):
        rows = []
        for i in range(count):
            low = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            picture = Image.fromarray(low).resize((160 + 8 * i, 140), Image.Resampling.BICUBIC)
            file = io.BytesIO()
            picture.save(file, "PNG")
            rows.append({"image": {"bytes": file.getvalue(), "path": None}, "kind": "photo"})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}-00000.parquet")
    return folder
