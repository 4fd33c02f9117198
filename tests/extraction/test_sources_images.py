import json

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from viq.errors import InputError
from viq.extraction.sources import images


class Flaky(MemoryFileSystem):
    """A storage whose reads fail for a while, or for ever, as the name of the file says."""

    protocol = "flaky"
    cachable = False
    read: list[str] = []  # noqa: RUF012  # the files, in the order of the requests

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("flaky:/"))

    def cat_file(self, path, start=None, end=None, **options):
        name = path.rpartition("/")[2]
        self.read.append(name)
        if name.startswith("never") or (
            name.startswith("later") and self.read.count(name) < len(images._PAUSES) + 1
        ):
            raise TimeoutError("no answer")
        return super().cat_file(path, start, end, **options)


@pytest.fixture
def flaky(monkeypatch, png):
    """Writes rows with these images, and says where."""
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr(images, "_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(Flaky, "read", [])
    fs = MemoryFileSystem()

    def write(*names):
        lines = [json.dumps({"id": name, "image": name}) for name in names]
        fs.pipe_file("/flaky/a.jsonl", "\n".join(lines).encode())
        for name in names:
            if not name.startswith("none"):
                fs.pipe_file(f"/flaky/{name}", png(0))
        return "flaky://flaky/a.jsonl"

    yield write
    fs.rm("/flaky", recursive=True)


def test_an_image_is_fetched_again(flaky, opened, rows, png):
    found = rows(opened(flaky("at-once.png", "later.png", "none.png")))
    assert [row.images for row in found] == [(png(0),), (png(0),), ()]
    assert sorted(Flaky.read) == ["at-once.png", *["later.png"] * 3, "none.png"]


def test_an_image_that_never_comes_stops_the_unit_after_the_rows_before(flaky, opened):
    source = opened(flaky("a.png", "b.png", "never.png", "c.png"))
    reading = source.read(0)
    assert [next(reading).id, next(reading).id] == ["a.png", "b.png"]
    with pytest.raises(InputError) as raised:
        next(reading)
    name = "flaky:///flaky/never.png"
    assert str(raised.value) == f"{source.where(0)}: {name} cannot be fetched (no answer)"


def test_whoever_stops_reading_does_not_wait_for_all(flaky, opened):
    source = opened(flaky(*(f"{n:03d}.png" for n in range(200))))
    reading = source.read(0)
    assert next(reading).id == "000.png"
    reading.close()
    assert len(Flaky.read) <= images._FETCHED_AHEAD + 1
