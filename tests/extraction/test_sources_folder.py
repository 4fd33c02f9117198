import json
import os
import pickle

import fsspec
import psutil
import pyarrow as pa
import pytest
from fsspec import AbstractFileSystem

from viq.errors import InputError
from viq.extraction.sources.listing import sorted_on_disk


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "images"


@pytest.fixture
def write(folder):
    def write(name, data=b"image"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


def write_list(write, *lines, name="metadata.jsonl"):
    return write(name, "\n".join(json.dumps(line) for line in lines))


def test_images_come_once_each_by_path(write, folder, opened, rows, cells, png):
    names = [
        "a/x.png",
        "b.JPG",
        "a-b/y.webp",
        "a.png",
        "a/b/c/z.tif",
        "日本.png",
        "Z.gif",
        "b[1].png",
    ]
    for n, name in enumerate(names):
        write(name, png(n))
    for name in ("notes.md", ".hidden.png", ".cache/x.png", "a/x.json"):
        write(name)
    (folder / "loop").symlink_to(folder)
    source = opened(folder, rows_a_unit=3)
    assert [source.rows(unit) for unit in range(source.units)] == [3, 3, 2]
    assert source.where(2) == f"{folder}: images 6-7"
    found = rows(source)
    assert [row.id for row in found] == sorted(names)
    assert [row.images for row in found] == [(folder / name,) for name in sorted(names)]
    assert cells(found) == [{"file_name": name, "caption": None} for name in sorted(names)]
    assert source.schema == pa.schema([("file_name", pa.string()), ("caption", pa.string())])


def test_captions_lie_beside_the_images(write, folder, opened, rows):
    for name in ("a.png", "sub/b.c.png", "d.png", "e.png"):
        write(name)
    write("a.txt", " a cat\n")
    write("sub/b.c.txt", "é")
    write("d.txt", " ")
    a, d, e, b = rows(opened(folder))
    held = [row.columns["caption"][0].as_py() for row in (a, b, d, e)]
    assert held == ["a cat", "é", None, None]
    write("a.txt", b"\xff")
    error = rows(opened(folder))[0].error
    assert error.startswith("its caption cannot be read ('utf-8' codec can't decode byte 0xff")


def test_links_that_lead_nowhere_are_rows_that_cannot_be_read(write, folder, opened, rows):
    write("a.png")
    (folder / "gone.png").symlink_to("gone")
    (folder / "round.png").symlink_to("round.png")
    a, gone, round = rows(opened(folder))
    assert a.error is None
    assert gone.error == f"its image is missing: no file {folder}/gone.png"
    assert round.error == f"its image is missing: no file {folder}/round.png"


@pytest.mark.parametrize("name", ["metadata.jsonl", "captions.jsonl"])
def test_a_list_has_captions_and_columns(write, folder, opened, rows, cells, name):
    for image in ("a.png", "b.png", "sub/c.png", "d.png", "e.png"):
        write(image)
    write("d.txt", "beside")
    write_list(
        write,
        {"file_name": "sub/c.png", "text": "three", "width": 3},
        {"file_name": "a.png", "caption": "one", "text": "uno", "tags": ["x"]},
        {"file_name": "gone.png", "caption": "none"},
        {"file_name": "a.png", "caption": "again", "tags": "x"},
        {"file_name": "d.png", "caption": None},
        {"file_name": "e.png", "caption": " ", "width": 2.5},
        name=name,
    )
    source = opened(folder, rows_a_unit=2)
    names = ["a.png", "a.png", "b.png", "d.png", "e.png", "gone.png", "sub/c.png"]
    found = rows(source)
    assert [row.id for row in found] == names
    gone = found.pop(5)
    assert gone.error == f"its image is missing: no file {folder}/gone.png"
    blank = dict.fromkeys(["file_name", "caption", "text", "width", "tags"])
    assert cells(found) == [
        {**blank, "file_name": "a.png", "caption": "one", "text": "uno", "tags": '["x"]'},
        {**blank, "file_name": "a.png", "caption": "again", "tags": '"x"'},
        {**blank, "file_name": "b.png"},
        {**blank, "file_name": "d.png", "caption": "beside"},
        {**blank, "file_name": "e.png", "width": 2.5},
        {**blank, "file_name": "sub/c.png", "caption": "three", "text": "three", "width": 3.0},
    ]


def test_damaged_lists_are_refused(write, folder, refusal):
    write("a.png")
    for text, reason in [
        ("{", "is not JSON (Expecting property name"),
        ("[]", "is [], not an object"),
        ('{"caption": "x"}', "is not an object with a 'file_name'"),
        ('{"file_name": "a.png", "text": ["x"]}', "its caption is not text"),
    ]:
        path = write("metadata.jsonl", '{"file_name": "a.png"}\n\n' + text)
        assert refusal(folder).startswith(f"{path}: line 3: {reason}")


def test_a_name_that_is_not_utf8_is_an_error_of_its_row(write, folder, opened, rows):
    write("a.png")
    with open(os.fsencode(folder) + b"/b\xff.png", "wb"):
        pass
    _, row = rows(opened(folder))
    assert row.id == r"b\udcff.png"
    assert row.error.startswith("its values cannot be stored as the other rows'")


def test_an_image_that_is_gone_is_an_error_of_its_row(write, folder, opened, rows):
    write("a.png")
    path = write("b.png")
    source = opened(folder)
    path.unlink()
    assert [row.error for row in rows(source)] == [None, f"its image is missing: no file {path}"]


def test_the_same_folder_is_told_from_others(write, folder, opened):
    write("a.png")
    write("b.txt", "x")
    source = opened(folder)
    again = pickle.loads(pickle.dumps(source))
    assert again.identity() == source.identity() == opened(folder).identity()
    assert len(pickle.dumps(source)) < 2000
    assert [row.id for row in again.read(0)] == ["a.png"]
    identities = [source.identity(), opened(folder, rows_a_unit=3).identity()]
    for name, data in [("a.png", b"longer"), ("b.txt", "xx"), ("c.png", b""), ("b.md", b"")]:
        write(name, data)
        identities.append(opened(folder).identity())
    assert identities[-1] == identities[-2]  # what is not read does not matter
    assert len({json.dumps(identity) for identity in identities}) == len(identities) - 1
    write_list(write, {"file_name": "a.png", "n": 1})
    one = opened(folder).identity()
    write_list(write, {"file_name": "a.png", "n": 2})
    assert opened(folder).identity() != one


def test_nothing_is_left_beside_the_listing(write, folder, opened, tmp_path):
    write("a.png")
    opened(folder)
    from viq.extraction.plan import open_source

    open_source(str(folder), work=tmp_path / "job" / "work")
    assert [path.name for path in (tmp_path / "job" / "work").iterdir()] == ["listing.jsonl"]


@pytest.mark.parametrize("chunk", [1, 3, 10, 1000])
def test_sorting_on_disk_is_sorting(tmp_path, chunk):
    items = [[f"é\udcff\n{n * 7919 % 100}", n % 3, {"n": n}] for n in range(100)]
    given = iter(items)
    ordered = sorted_on_disk(given, tmp_path, chunk)
    assert list(ordered) == sorted(items)
    assert list(tmp_path.iterdir()) == []


def test_sorting_opens_few_files_at_a_time(tmp_path):
    items = [[f"{n * 7919 % 1000:03d}", n] for n in range(1000)]
    most = 0
    ordered = []
    for item in sorted_on_disk(items, tmp_path, chunk=5, merged=3):  # 200 files
        ordered.append(item)
        paths = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        most = max(most, sum(path.startswith(str(tmp_path)) for path in paths))
    assert ordered == sorted(items)
    assert 1 < most <= 3
    assert list(tmp_path.iterdir()) == []


class Names(AbstractFileSystem):
    """A storage of folders of a thousand images each, which are nothing but names."""

    protocol = "names"
    folders = 3000

    def isdir(self, path):
        return True

    def ls(self, path, detail=True, **options):
        path = self._strip_protocol(path).strip("/")
        if path == "all":
            names = (f"all/{n * 7919 % self.folders:05d}" for n in range(self.folders))
            return [{"name": name, "type": "directory", "size": 0} for name in names]
        if not path.startswith("all/"):
            return []
        names = (f"{path}/{n * 77 % 1000:03d}.png" for n in range(1000))
        return [{"name": name, "type": "file", "size": 9} for name in names]

    def info(self, path, **options):
        raise FileNotFoundError(path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_million_images_are_planned_with_flat_memory(opened):
    fsspec.register_implementation("names", Names, clobber=True)
    process = psutil.Process()
    before = process.memory_info().rss
    source = opened("names://all")
    assert process.memory_info().rss - before < 150e6  # of a chunk; all names would take 800
    assert (source.units, source.count) == (3000, 3_000_000)
    assert len(pickle.dumps(source)) < 50_000
    with source.listing.open() as listing:
        names = [json.loads(line)[0] for line in listing]
    assert names == [f"{n // 1000:05d}/{n % 1000:03d}.png" for n in range(3_000_000)]


def test_sorting_holds_no_more_than_a_chunk_in_memory(tmp_path):
    import tracemalloc

    items = ([f"{n * 7919 % 20_000:06d}", 0, n] for n in range(20_000))
    tracemalloc.start()
    try:
        assert sum(1 for _ in sorted_on_disk(items, tmp_path, 1000)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 1.5e6  # all of them take 4
    finally:
        tracemalloc.stop()


def test_any_storage_gives_the_same_rows(write, folder, opened, rows, content, memory, png):
    for n in range(40):
        write(f"{n % 3}/{n}.png", png(n))
        if n % 2:
            write(f"{n % 3}/{n}.txt", f"caption {n}")
    write(".hidden/x.png")
    write_list(write, {"file_name": "0/0.png", "caption": "listed"}, {"file_name": "0/none.png"})
    here, far = opened(folder, rows_a_unit=15), opened(memory(folder), rows_a_unit=15)
    plain, found = content(rows(here)), rows(far)
    assert [row.images for row in found] == [row.images for row in plain]
    assert [row.columns for row in found] == [row.columns for row in plain]
    assert far.identity()["digest"] == here.identity()["digest"]
    assert [row.error for row in found if row.error] == [
        "its image is missing: no such file memory:///set/0/none.png"
    ]


def test_a_listing_that_is_gone_stops_the_unit(write, folder, opened):
    write("a.png")
    source = opened(folder)
    source.listing.unlink()
    with pytest.raises(InputError, match=r"listing\.jsonl: cannot be opened: No such file"):
        list(source.read(0))
