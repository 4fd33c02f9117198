import io
import json
import pickle
import tarfile

import datasets
import duckdb
import fsspec
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from viq.errors import InputError

OTHER = pa.list_(pa.struct([("field", pa.string()), ("data", pa.binary())]))


@pytest.fixture
def shard(tmp_path):
    """Writes (name, bytes) to a tar."""

    def shard(name, files, format=tarfile.PAX_FORMAT):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w", format=format) as tar:
            for file, data in files:
                info = tarfile.TarInfo(file)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return path

    return shard


def test_rows_come_once_each_in_the_shards_order(shard, opened, rows, cells, png):
    for part in range(3):
        files = []
        for n in range(part * 5, part * 5 + 5):
            files += [(f"{n:04d}.png", png(n)), (f"{n:04d}.txt", f"é{n}".encode())]
        path = shard(f"set-{part:03d}.tar", files)
    source = opened(path.parent / "set-{000..002}.tar")
    assert (source.units, source.rows(0)) == (3, None)
    assert source.where(2) == str(path)
    assert source.schema == pa.schema(
        [("__key__", pa.string()), ("txt", pa.string()), ("__other__", OTHER)]
    )
    found = rows(source)
    assert [row.id for row in found] == [f"{n:04d}" for n in range(15)]
    assert [row.images for row in found] == [(png(n),) for n in range(15)]
    assert cells(found) == [
        {"__key__": f"{n:04d}", "txt": f"é{n}", "__other__": None} for n in range(15)
    ]
    assert rows(opened(path.parent)) == found


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_fields_are_text_or_bytes_or_images(shard, opened, rows, cells, png, format):
    long = "日本/" + "x" * 200
    files = [
        ("./a/1.left.png", png(1)),
        ("./a/1.right.JPEG", png(2)),
        ("./a/1.json", b'{"a": [1, null]}'),
        ("./a/1.cls", b"7"),
        ("./a/1.seg.npy", b"\x00\xff"),
        ("README", b"without a suffix"),
        ("._a", b"hidden"),
        (".DS_Store", b"hidden"),
        ("b/1.json", b"not JSON, but text"),
        (f"{long}.caption", b"c"),
    ]
    source = opened(shard("a.tar", files, format))
    text = dict.fromkeys(["__key__", "json", "cls", "caption"], pa.string())
    assert {f.name: f.type for f in source.schema} == {
        **text,
        "seg.npy": pa.binary(),
        "__other__": OTHER,
    }
    found = rows(source)
    assert [row.images for row in found] == [(png(1), png(2)), (), ()]
    blank = dict.fromkeys(source.schema.names)
    assert cells(found) == [
        {**blank, "__key__": "a/1", "json": '{"a": [1, null]}', "cls": "7", "seg.npy": b"\x00\xff"},
        {**blank, "__key__": "b/1", "json": "not JSON, but text"},
        {**blank, "__key__": long, "caption": "c"},
    ]


def test_folders_and_links_are_no_rows(opened, rows, tmp_path, png):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        folder = tarfile.TarInfo("images.d")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        link = tarfile.TarInfo("images.d/0.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        info = tarfile.TarInfo("images.d/1.png")
        info.size = len(png(1))
        tar.addfile(info, io.BytesIO(png(1)))
    assert [(row.id, row.images) for row in rows(opened(path))] == [("images.d/1", (png(1),))]


def test_what_is_wrong_with_a_row_is_an_error_of_it_alone(shard, opened, rows, png):
    first = shard("0.tar", [("a.png", png(0)), ("a.txt", b"a")])
    files = [
        ("b.png", png(0)),
        ("c.txt", b"\xff"),
        ("d.png", b""),
        ("e.txt", b"1"),
        ("e.png", png(1)),
        ("e.txt", b"2"),
        ("f.png", png(2)),
    ]
    shard("1.tar", files)
    found = rows(opened(first.parent))
    assert [row.id for row in found] == list("abcdef")
    assert [row.error for row in found] == [
        None,
        None,
        "its .txt is not UTF-8 ('utf-8' codec can't decode byte 0xff in position 0: invalid start"
        " byte)",
        "its image is empty",
        "has two files .txt",
        None,
    ]
    assert found[5].images == (png(2),)
    assert found[5].columns["txt"].to_pylist() == [None]


def test_what_the_first_shard_has_not_is_kept_as_bytes(shard, opened, rows, cells, png, tmp_path):
    shard("0.tar", [("a.png", png(0)), ("a.txt", b"a"), ("a.__key__", b"?")])
    files = [("b.png", png(1)), ("b.npy", b"\x00\xff"), ("b.codes", b"1"), ("b.txt", b"b")]
    path = shard("1.tar", [*files, ("c.jpg", png(2)), ("c.__other__", b"c"), ("d.txt", b"d")])
    source = opened(path.parent)
    assert source.schema.names == ["__key__", "txt", "__other__"]
    found = rows(source)
    assert [row.images for row in found] == [(png(0),), (png(1),), (png(2),), ()]
    fields = [{"field": "npy", "data": b"\x00\xff"}, {"field": "codes", "data": b"1"}]
    assert cells(found) == [
        {"__key__": "a", "txt": "a", "__other__": [{"field": "__key__", "data": b"?"}]},
        {"__key__": "b", "txt": "b", "__other__": fields},
        {"__key__": "c", "txt": None, "__other__": [{"field": "__other__", "data": b"c"}]},
        {"__key__": "d", "txt": "d", "__other__": None},
    ]
    read = tmp_path / "read.parquet"
    pq.write_table(pa.Table.from_batches([row.columns for row in found]), read)
    table = datasets.load_dataset(
        "parquet", data_files=str(read), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert table[1]["__other__"] == fields
    assert list(pandas.read_parquet(read)["__other__"][1]) == fields
    query = f"SELECT __other__[1].data FROM '{read}' WHERE __key__ = 'b'"
    assert duckdb.sql(query).fetchall() == [(b"\x00\xff",)]


class Dropped(MemoryFileSystem):
    """A storage that gives a file's first bytes as if that were all, or fails, at some place."""

    protocol = "dropped"
    cachable = False
    ends_at: int | None = None
    fails_at: int | None = None

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("dropped:/"))

    def _open(self, path, *args, **options):
        storage = self

        class Stream(io.BytesIO):
            def readinto(self, buffer):
                if storage.fails_at is not None and self.tell() + len(buffer) > storage.fails_at:
                    raise RuntimeError("the response payload is not completed")
                end = len(self.getvalue()) if storage.ends_at is None else storage.ends_at
                count = max(0, min(end - self.tell(), len(buffer)))
                return super().readinto(memoryview(buffer)[:count])

            def read(self, size):
                buffer = bytearray(size)
                return bytes(buffer[: self.readinto(buffer)])

        return Stream(self.store[path].getvalue())


@pytest.fixture
def dropped(monkeypatch):
    """A storage of files by name, in which connections may be dropped."""
    fsspec.register_implementation("dropped", Dropped, clobber=True)
    monkeypatch.setattr("viq.extraction.sources.storage._BUFFER", 512)
    fs = MemoryFileSystem()

    def write(path):
        fs.pipe_file(f"/dropped/{path.name}", path.read_bytes())
        return f"dropped://dropped/{path.name}"

    yield write
    fs.rm("/dropped", recursive=True)


@pytest.mark.parametrize("at", [0, 512, 700, 1024, 5000, 12_000])
@pytest.mark.parametrize("how", ["ends_at", "fails_at"])
def test_a_connection_that_is_dropped_is_no_damage(
    shard, opened, rows, dropped, monkeypatch, how, at
):
    url = dropped(shard("a.tar", [(f"{n}.txt", b"x" * 500) for n in range(20)]))
    source = opened(url)
    assert len(rows(source)) == 20
    reason = {
        "ends_at": "its storage ends it at byte ",
        "fails_at": "cannot be read: the response payload is not completed",
    }
    monkeypatch.setattr(Dropped, how, at)
    with pytest.raises(InputError, match=f"a.tar: {reason[how]}"):
        list(source.read(0))
    with pytest.raises(InputError, match=f"a.tar: {reason[how]}"):
        opened(url)  # whose columns would be those of the part


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
@pytest.mark.parametrize("how", ["ends_at", "fails_at"])
def test_so_it_is_in_other_kinds_of_files(opened, rows, dropped, monkeypatch, tmp_path, name, how):
    lines = [{"n": n, "text": "é" * 20} for n in range(100)]
    path = tmp_path / name
    if name == "a.parquet":
        table = pa.Table.from_pylist(lines)
        pq.write_table(table, path, use_dictionary=False, compression="none")
    else:
        text = "\n".join(map(json.dumps, lines)) if name == "a.jsonl" else json.dumps(lines)
        path.write_text(text)
    source = opened(dropped(path))
    assert len(rows(source)) == 100
    end = path.stat().st_size // 3
    monkeypatch.setattr(Dropped, how, end)
    reason = (
        "its storage ends it at byte "
        if how == "ends_at"
        else "cannot be read: the response payload"
    )
    with pytest.raises(InputError, match=f"{name}: {reason}"):
        list(source.read(0))


@pytest.mark.parametrize("cut", range(100, 8 * 1024, 256))
def test_a_shard_that_is_cut_off_gives_its_rows_and_one_error(shard, opened, rows, cut):
    """Rows are two files of two blocks each; the end mark begins at 8 KiB."""
    first = shard("0.tar", [("x.png", b"x"), ("x.txt", b"x")])
    files = [(f"{n // 2}.{'txt' if n % 2 else 'png'}", b"x" * 500) for n in range(8)]
    path = shard("1.tar", files, tarfile.USTAR_FORMAT)
    assert len(rows(opened(first.parent))) == 5
    path.write_bytes(path.read_bytes()[:cut])
    _, *found = rows(opened(first.parent))
    *whole, last = found
    assert all(row.error is None and row.images == (b"x" * 500,) for row in whole)
    assert [row.id for row in whole] == [str(n) for n in range(len(whole))]
    assert len(whole) == max((cut - 512) // 2048, 0)
    assert last.error.startswith("the shard is cut off or damaged from here on (")


def test_a_shard_that_is_damaged_gives_one_error_and_the_next_ones_are_read(shard, opened, rows):
    for n in range(3):
        path = shard(f"{n}.tar", [("x.txt", b"x")])
    (path.parent / "1.tar").write_bytes(b"no tar at all" * 1000)
    _, error, last = rows(opened(path.parent))
    assert error.id == str(path.parent / "1.tar")
    assert error.error.startswith("the shard is cut off or damaged from here on (")
    assert last.error is None
    path.with_name("1.tar").write_bytes(b"")
    assert rows(opened(path.parent))[1].error is not None


def test_a_first_shard_without_columns_is_refused(shard, refusal, tmp_path):
    path = shard("a.tar", [("README", b"")])
    assert refusal(path) == f"{path}: holds no samples: no file in it has a suffix"
    path.write_bytes(b"no tar at all" * 1000)
    assert refusal(path).startswith(f"{path}: not a readable WebDataset file (")
    path.write_bytes(b"")
    assert refusal(path).startswith(f"{path}: not a readable WebDataset file (")
    path = shard("a.tar", [("a.txt", b"")])
    assert refusal(path, image_root="/x") == (
        f"{path}: a shard holds no image paths, so image_root is of no use"
    )


def test_a_shard_that_is_gone_stops_the_unit(shard, opened):
    path = shard("a.tar", [("a.txt", b"")])
    source = opened(path)
    path.unlink()
    with pytest.raises(InputError, match=r"a\.tar: cannot be opened: No such file"):
        list(source.read(0))


def test_the_same_shards_are_told_from_others(shard, opened):
    path = shard("a.tar", [("a.txt", b"")])
    source = opened(path)
    again = pickle.loads(pickle.dumps(source))
    assert again.identity() == source.identity() == opened(path).identity()
    assert [row.id for row in again.read(0)] == ["a"]
    shard("a.tar", [("a.txt", b"x" * 20_000)])
    assert opened(path).identity()["digest"] != source.identity()["digest"]


def test_memory_is_flat_over_a_long_shard(shard, opened):
    import tracemalloc

    path = shard("a.tar", [(f"{n}.txt", b"x") for n in range(5000)])
    source = opened(path)
    tracemalloc.start()
    try:
        assert sum(1 for _ in source.read(0)) == 5000
        assert tracemalloc.get_traced_memory()[1] < 3e6  # the headers alone are 8
    finally:
        tracemalloc.stop()


def test_any_storage_gives_the_same_rows(shard, opened, rows, memory, tmp_path, png):
    for part in range(2):
        shard(f"{part}.tar", [(f"{part}{n}.png", png(n)) for n in range(5)])
    assert rows(opened(memory(tmp_path) + "/{0,1}.tar")) == rows(opened(tmp_path))
