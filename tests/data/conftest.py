"""Small data sets and a tokenizer, made on the spot."""

import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


@pytest.fixture(scope="session", autouse=True)
def _datasets_cache(tmp_path_factory):
    """Keeps what ``datasets`` converts out of the user's cache."""
    import datasets

    with pytest.MonkeyPatch.context() as patch:
        cache = str(tmp_path_factory.mktemp("datasets-cache"))
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
        yield


@pytest.fixture(scope="session")
def png():
    """Encoded images, by number: another colour each, 8 wide and 6 high."""

    def encode(number: int) -> bytes:
        pixels = np.full((6, 8, 3), [number % 256, 100, 200], np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    return encode


@pytest.fixture
def parquet(tmp_path):
    """Writes rows to a Parquet file of the test's folder."""

    def write(name: str, rows: list[dict], schema: pa.Schema | None = None):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema), path)
        return path

    return write


@pytest.fixture
def shard(tmp_path):
    """Writes files to a tar of the test's folder."""

    def write(name: str, files: dict[str, bytes]):
        path = tmp_path / name
        with tarfile.open(path, "w") as tar:
            for file, data in files.items():
                info = tarfile.TarInfo(file)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return path

    return write
