import decimal
import json
import pickle

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from viq.errors import InputError


@pytest.fixture
def write(tmp_path):
    def write(name, columns, **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        pq.write_table(table, path, **options)
        return path

    return write


def test_rows_come_once_each_in_the_files_order(write, opened, rows, cells, png):
    for part in range(3):
        ids = list(range(part * 25, part * 25 + 25))
        write(
            f"data/train-0000{part}-of-00003.parquet",
            {"id": ids, "image": [png(n) for n in ids]},
            row_group_size=4,
        )
    folder = write("data/test-00000-of-00001.parquet", {"id": [99], "image": [b""]}).parents[1]
    source = opened(folder, rows_a_unit=10)
    assert [source.rows(unit) for unit in range(source.units)] == [8, 8, 9] * 3
    found = rows(source)
    assert [row.id for row in found] == [str(n) for n in range(75)]
    assert [row.images for row in found] == [(png(n),) for n in range(75)]
    assert source.schema == pa.schema([("id", pa.int64())])
    assert cells(found) == [{"id": n} for n in range(75)]
    name = folder / "data" / "train-00001-of-00003.parquet"
    assert source.where(4) == f"{name}: row groups 2-3, rows 0-7"


def test_a_picture_as_text_does_not_fill_the_errors(write, opened, rows):
    (row,) = rows(opened(write("a.parquet", {"image": ["iVBORw0KGgo" * 10_000]})))
    assert row.error.startswith("its image")
    assert len(row.error) < 600


def test_a_large_row_group_is_divided_and_others_stay_whole(write, opened, rows):
    path = write("a.parquet", {"n": range(45)}, row_group_size=31)
    source = opened(path, rows_a_unit=3)
    # 31 rows are more than ten units, 14 are not; and ten parts are the most
    assert [source.rows(unit) for unit in range(source.units)] == [4] * 7 + [3, 14]
    assert source.where(7) == f"{path}: row group 0, rows 28-30"
    assert [row.id for row in rows(source)] == [str(n) for n in range(45)]
    assert [row.columns["n"][0].as_py() for row in rows(source)] == list(range(45))


def test_a_row_group_is_not_read_from_its_begin_for_each_thousand_rows(write, opened):
    """With as many parts as have ``rows_a_unit`` rows it would be read 50 times."""

    class Counted(fsspec.implementations.local.LocalFileSystem):
        count = 0

        def _open(self, path, *args, **options):
            file = super()._open(path, *args, **options)
            read = file.f.read

            def counted(size):
                data = read(size)
                Counted.count += len(data)
                return data

            file.read = counted
            return file

    rng = np.random.default_rng(0)
    columns = {"text": [rng.bytes(3000).hex() for _ in range(2000)]}
    path = write("a.parquet", columns, row_group_size=2000, compression="none")
    source = opened(path, rows_a_unit=20)
    object.__setattr__(source.found.storage, "fs", Counted())
    read = [row for unit in range(source.units) for row in source.read(unit)]
    assert [row.columns["text"][0].as_py() for row in read] == columns["text"]
    size = path.stat().st_size
    assert size < Counted.count < 10 * size


def test_empty_row_groups_and_files_hold_no_unit(write, opened, rows, tmp_path):
    write("a.parquet", {"n": pa.array([], pa.int64())})
    write("c.parquet", {"n": [7]})
    with pq.ParquetWriter(tmp_path / "b.parquet", pa.schema([("n", pa.int64())])) as writer:
        for size in (0, 2, 0, 100, 0, 1, 0):
            writer.write_table(pa.table({"n": pa.array(range(size), pa.int64())}))
    source = opened(tmp_path / "*.parquet", rows_a_unit=4)
    assert [source.rows(unit) for unit in range(source.units)] == [2] + [10] * 10 + [1, 1]
    values = [row.columns["n"][0].as_py() for row in rows(source)]
    assert values == [0, 1, *range(100), 0, 7]


def test_types_are_kept_exactly(write, opened, rows):
    columns = {
        "small": pa.array([1, None], pa.uint8()),
        "time": pa.array([1, 2], pa.timestamp("ns", "UTC")),
        "money": pa.array([decimal.Decimal("1.23"), None], pa.decimal128(9, 2)),
        "large": pa.array(["a", "b"], pa.large_string()),
        "half": pa.array([1.5, 2.5], pa.float32()),
        "class": pa.array(["x", "y"]).dictionary_encode(),
        "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int32())),
        "turns": pa.array([[{"from": "human", "value": "é"}], None]),
        "blob": pa.array([b"\x00\xff", None]),
    }
    table = pa.table(columns)
    source = opened(write("a.parquet", table.append_column("image", [[None, None]])))
    carried = pa.Table.from_batches([row.columns for row in rows(source)])
    # an image column without a single image has no type that could be one, and stays
    assert carried.drop_columns("image").equals(table)


@pytest.mark.parametrize(
    ("name", "column", "kept"),
    [
        ("image", lambda a, b: pa.array([a, b]), False),
        ("jpg", lambda a, b: pa.array([a, b], pa.large_binary()), False),
        ("image", lambda a, b: pa.array([{"bytes": a, "path": "x"}, {"bytes": b}]), False),
        ("images", lambda a, b: pa.array([[a], [b]]), False),
        ("images", lambda a, b: pa.array([[{"bytes": a}], [{"bytes": b}]]), False),
        ("image", lambda a, b: pa.array(["0.png", "sub/1.png"]), True),
        (
            "images",
            lambda a, b: pa.array([["0.png"], ["sub/1.png"]], pa.large_list(pa.string())),
            1,
        ),
        ("image", lambda a, b: pa.array([{"bytes": a}, {"path": "sub/1.png"}]), False),
    ],
)
def test_images_are_bytes_or_paths(write, opened, rows, content, tmp_path, png, name, column, kept):
    (tmp_path / "sub").mkdir()
    (tmp_path / "0.png").write_bytes(png(0))
    (tmp_path / "sub" / "1.png").write_bytes(png(1))
    array = column(png(0), png(1))
    path = write("a.parquet", {"id": ["a", "b"], name: array})
    source = opened(path)
    assert source.schema.names == (["id", name] if kept else ["id"])
    assert [row.images for row in content(rows(source))] == [(png(0),), (png(1),)]
    elsewhere = tmp_path / "elsewhere" / "a.parquet"
    elsewhere.parent.mkdir()
    path.rename(elsewhere)
    source = opened(elsewhere, image_root=str(tmp_path))
    assert [row.images for row in content(rows(source))] == [(png(0),), (png(1),)]


def test_a_row_has_the_images_of_the_columns_that_training_reads(write, opened, rows, png):
    both = {"image": [png(0)], "images": [[png(1)]]}
    source = opened(write("a.parquet", both))
    assert source.schema.names == ["images"]  # not read, so not replaced
    assert [row.images for row in rows(source)] == [(png(0),)]
    single = {"png": [png(0), None], "jpg": [png(1), None], "image": [1, 2]}
    source = opened(write("b.parquet", single))
    assert source.schema.names == ["image"]
    assert [row.images for row in rows(source)] == [(png(1), png(0)), ()]


def test_rows_without_images_or_other_columns(write, opened, rows, png):
    source = opened(write("a.parquet", {"text": ["x", "y"]}))
    assert [row.images for row in rows(source)] == [(), ()]
    source = opened(write("b.parquet", {"image": [png(0), png(1)]}))
    found = rows(source)
    assert [(row.id, row.images) for row in found] == [("0", (png(0),)), ("1", (png(1),))]
    assert pa.Table.from_batches([row.columns for row in found]).num_rows == 2


def test_an_unreadable_image_is_an_error_of_its_row(write, opened, rows, tmp_path, png):
    path = write("a.parquet", {"id": ["a", None, "c"], "image": ["no.png", "x" * 300, None]})
    a, b, c = rows(opened(path))
    assert (a.id, a.error) == ("a", f"its image is missing: no file {tmp_path}/no.png")
    assert (b.id, b.error) == ("1", "its image cannot be opened: File name too long")
    assert (c.images, c.error) == ((), None)
    (row,) = rows(opened(write("b.parquet", {"image": [b""]})))
    assert row.error == "its image is empty"


def test_text_that_is_not_utf8_is_an_error_of_its_row(write, opened, rows):
    bad = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    _, row, _ = rows(opened(write("a.parquet", {"id": bad, "n": [1, 2, 3]})))
    assert row.id == "1"
    assert row.error.startswith("cannot be read ('utf-8' codec can't decode byte 0xff")


def test_a_damaged_page_costs_its_row_group_and_no_more(write, opened, rows, tmp_path):
    table = {"id": [f"{n:08d}" * 10 for n in range(4000)]}
    path = write("a.parquet", table, row_group_size=1000, use_dictionary=False)
    data = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data[start : start + 2000] = b"\xff" * 2000
    path.write_bytes(data)
    found = rows(opened(path, rows_a_unit=4000))
    assert [row.error is None for row in found] == [True] * 1000 + [False] * 1000 + [True] * 2000
    assert found[1000].error.startswith("row group 1 is damaged from here on (")
    assert [found[1000].id, found[1999].id] == ["1000", "1999"]


def test_a_row_group_of_large_rows_is_read_in_small_batches(write, opened):
    import psutil

    blob = [bytes([n % 256]) * 1_000_000 for n in range(150)]
    path = write("a.parquet", {"image": blob}, compression="none", use_dictionary=False)
    del blob
    source = opened(path)
    process = psutil.Process()
    before, most = process.memory_info().rss, 0
    for n, row in enumerate(source.read(0)):
        assert row.images[0][0] == n % 256
        most = max(most, process.memory_info().rss)
    assert n == 149
    assert most - before < 100e6  # of 150


def test_the_same_files_are_told_from_others(write, opened):
    path = write("a.parquet", {"n": range(5)})
    source = opened(path)
    again = pickle.loads(pickle.dumps(source))
    assert again.identity() == source.identity() == opened(path).identity()
    assert len(pickle.dumps(source)) < 2000
    assert {k: source.identity()[k] for k in ("kind", "files", "rows", "rows_a_unit")} == {
        "kind": "parquet",
        "files": 1,
        "rows": 5,
        "rows_a_unit": 1000,
    }
    assert opened(path, rows_a_unit=3).identity() != source.identity()
    assert opened(path, image_root="/x").identity() != source.identity()
    write("a.parquet", {"n": range(5)}, row_group_size=2)
    assert opened(path).identity()["digest"] != source.identity()["digest"]


def test_refusals_name_the_file_and_the_column(write, refusal, tmp_path, opened):
    write("a.parquet", {"n": [1], "t": ["x"]})
    for other, reason in [
        ({"n": pa.array([1], pa.int32()), "t": ["x"]}, "column 'n' is int32 here but int64 in"),
        ({"n": [1]}, "column 't' is missing here but string in"),
        ({"n": [1], "t": ["x"], "u": [1]}, "column 'u' is int64 here but missing in"),
    ]:
        path = write("b.parquet", other)
        assert refusal(tmp_path) == f"{path}: {reason} {tmp_path / 'a.parquet'}"
    write("b.parquet", {"t": ["y"], "n": [2]})  # the order of columns does not matter
    assert opened(tmp_path).schema.names == ["n", "t"]
    twice = pa.table([[1], [2]], names=["n", "n"])
    path = write("c/d.parquet", twice)
    assert refusal(path) == f"{path}: has two columns 'n'"
    path = write("c/d.parquet", {"n": pa.array([], pa.int64())})
    assert refusal(path) == f"{path}: holds no rows"
    path.write_bytes(b"PAR1 is all there is")
    assert refusal(path).startswith(f"{path}: not a readable Parquet file (")


def test_a_file_that_is_gone_stops_the_unit(write, opened):
    path = write("a.parquet", {"n": [1]})
    source = opened(path)
    path.write_bytes(b"other bytes, of no Parquet file")
    with pytest.raises(InputError, match=r"a\.parquet: is not readable any more \("):
        list(source.read(0))
    path.unlink()
    with pytest.raises(InputError, match=r"a\.parquet: cannot be opened: No such file"):
        list(source.read(0))


def test_any_storage_gives_the_same_rows(write, opened, rows, content, memory, tmp_path, png):
    (tmp_path / "pictures").mkdir()
    for n in range(40):
        (tmp_path / "pictures" / f"{n}.png").write_bytes(png(n))
    names = [f"pictures/{n}.png" for n in range(40)]
    names[7] = "pictures/none.png"
    write("a.parquet", {"id": range(40), "image": names}, row_group_size=8)
    here = opened(tmp_path, rows_a_unit=16)
    url = opened(f"file://{tmp_path}", rows_a_unit=16)
    far = opened(memory(tmp_path), rows_a_unit=16)
    assert here.units == far.units == 3
    assert url.identity() == here.identity()
    plain = content(rows(here))
    assert content(rows(url)) == plain
    found = rows(far)
    assert [row.images for row in found] == [row.images for row in plain]
    assert [row.columns for row in found] == [row.columns for row in plain]
    assert found[7].error == "its image is missing: no such file memory:///set/pictures/none.png"
    assert far.where(0) == "memory:///set/a.parquet: row groups 0-1, rows 0-15"


def test_what_datasets_notes_of_columns_is_kept_if_it_is_true_of_all_files(write, opened):
    def table(names):
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        note = json.dumps({"info": {"features": features}})
        return pa.table({"label": [0]}).replace_schema_metadata({"huggingface": note, "pandas": ""})

    path = write("a.parquet", table(["cat", "dog"]))
    write("b.parquet", table(["cat", "dog"]))
    metadata = opened(path.parent).schema.metadata
    assert list(metadata) == [b"huggingface"]
    assert b'["cat", "dog"]' in metadata[b"huggingface"]
    write("b.parquet", table(["dog", "cat"]))
    assert opened(path.parent).schema.metadata is None
