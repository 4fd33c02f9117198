"""What tests share: images, sources on a disk and elsewhere, how they are read, and extracted."""

import io
from dataclasses import replace

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from viq.errors import InputError
from viq.extraction.job import Job
from viq.extraction.plan import open_source
from viq.extraction.unit import Settings


def encoded(number, format="PNG"):
    """A small image's file; each number another one."""
    rng = np.random.default_rng(number)
    data = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).save(data, format=format)
    return data.getvalue()


@pytest.fixture(scope="session")
def png():
    return encoded


@pytest.fixture(scope="session")
def make_photos(tmp_path_factory):
    """Writes noise of all sizes between two, and files without a byte under some of the numbers."""

    def make_photos(count, sides, empty, suffix):
        folder = tmp_path_factory.mktemp("photos")
        rng = np.random.default_rng(1)
        for n in range(count):
            height, width = rng.integers(*sides, 2)
            values = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(values).save(folder / f"{n:03}{suffix}")
        for n in empty:
            (folder / f"{n:03}{suffix}").write_bytes(b"")
        return folder

    return make_photos


@pytest.fixture(scope="session")
def sixteen_photos(make_photos):
    """Of which one cannot be read."""
    return make_photos(16, (16, 80), [7], ".png")


@pytest.fixture
def job_of_four(sixteen_photos, tiny_tokenizer_folder):
    """A job of four units."""

    def job(out):
        settings = Settings(model=str(tiny_tokenizer_folder))
        return Job(str(sixteen_photos), out, settings, rows_a_unit=4)

    return job


@pytest.fixture
def written():
    """All files of a data set that may be compared: not what is private to the extraction."""

    def written(folder):
        files = [file for file in folder.rglob("*") if file.is_file() and ".viq" not in file.parts]
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}

    return written


@pytest.fixture
def opened(tmp_path_factory):
    """Plans a source, with a folder of its own."""

    def opened(source, **options):
        return open_source(str(source), work=tmp_path_factory.mktemp("work"), **options)

    return opened


@pytest.fixture
def refusal(opened):
    """The one line that says why a source is refused."""

    def refusal(source, **options):
        with pytest.raises(InputError) as raised:
            opened(source, **options)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    return refusal


@pytest.fixture
def rows():
    """All rows of a source; checks what must be true of any."""

    def rows(source):
        found = []
        for unit in range(source.units):
            part = list(source.read(unit))
            assert [row.position for row in part] == list(range(len(part)))
            assert source.rows(unit) in (None, len(part))
            for row in part:
                assert row.columns.schema == source.schema
                assert row.columns.num_rows == (1 if row.error is None else 0)
                assert row.error is None or row.images == ()
            found += part
        return found

    return rows


@pytest.fixture
def cells():
    """The carried cells of rows, as Python values."""

    def cells(rows):
        return pa.Table.from_batches([row.columns for row in rows]).to_pylist()

    return cells


@pytest.fixture
def content():
    """Rows whose images are bytes, whatever they were before."""

    def content(rows):
        def data(image):
            return image if isinstance(image, bytes) else image.read_bytes()

        return [replace(row, images=tuple(map(data, row.images))) for row in rows]

    return content


@pytest.fixture
def memory():
    """Copies a folder into fsspec's file system in memory, and says where it is."""
    fs = fsspec.filesystem("memory")

    def copy(folder):
        for file in folder.rglob("*"):
            if file.is_file():
                fs.pipe_file(f"/set/{file.relative_to(folder)}", file.read_bytes())
        return "memory://set"

    yield copy
    if fs.exists("/set"):
        fs.rm("/set", recursive=True)
