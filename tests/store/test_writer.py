"""What is written: bytes, row groups, and nothing where there was an error."""

import json
import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from viq.errors import CodesError, FingerprintError
from viq.store import COLUMNS, CodeDataset, CodeWriter
from viq.store.reader import code_bytes
from viq.store.writer import ROW_GROUP_CODES, ROW_GROUP_ROWS

GOLDEN = Path(__file__).parent / "golden.parquet"


def group_sizes(path):
    metadata = pq.read_metadata(path)
    return [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]


def test_the_golden_file(write):
    """Its bytes, where pyarrow is the one that wrote it; else all that is in it."""
    path = write()
    found, golden = pq.ParquetFile(path), pq.ParquetFile(GOLDEN)
    assert found.read().equals(golden.read())
    assert found.schema_arrow.equals(golden.schema_arrow, check_metadata=True)
    assert found.schema.equals(golden.schema)
    for column in range(golden.metadata.num_columns):
        group = (file.metadata.row_group(0).column(column) for file in (found, golden))
        assert len({(one.compression, one.encodings, one.num_values) for one in group}) == 1
    if found.metadata.created_by == golden.metadata.created_by:
        assert path.read_bytes() == GOLDEN.read_bytes()


def test_the_golden_file_says_what_it_is(info, rows):
    assert pq.read_metadata(GOLDEN).metadata[b"viq"].decode() == info.to_json()
    assert list(CodeDataset(GOLDEN).images()) == rows


def test_codes_lie_byte_by_byte_without_a_dictionary(write):
    group = pq.read_metadata(write()).row_group(0)
    columns = {c.path_in_schema: c for c in map(group.column, range(group.num_columns))}
    codes = columns["codes.list.element"]
    assert (codes.compression, codes.has_dictionary_page) == ("ZSTD", False)
    assert set(codes.encodings) == {"BYTE_STREAM_SPLIT", "RLE"}
    assert columns["messages.list.element.role"].has_dictionary_page


def test_a_code_takes_less_than_two_bytes_and_a_tenth(tmp_path, info, make_codes):
    rows = [[make_codes(48, 48, seed)] for seed in range(20)]  # uniform noise, the worst case
    with CodeWriter(tmp_path / "a.parquet", info, pa.schema([("id", pa.int64())])) as writer:
        writer.write(pa.table({"id": range(20)}), rows)
    codes = sum(row[0].values.size for row in rows)
    assert code_bytes(str(tmp_path / "a.parquet")) / codes < 2.01
    assert (tmp_path / "a.parquet").stat().st_size / codes < 2.1


@pytest.mark.parametrize("step", [1, 2, 5])
def test_equal_rows_are_equal_bytes_however_they_come(step, write, tmp_path, info, table, rows):
    with CodeWriter(tmp_path / "b.parquet", info, table.schema) as writer:
        for start in range(0, 5, step):
            part = table.slice(start, step)
            for batch in part.to_batches():
                writer.write(batch, rows[start : start + step])
    assert (tmp_path / "b.parquet").read_bytes() == write().read_bytes()


def test_row_groups_end_at_the_same_rows_however_they_come(tmp_path, info, make_codes):
    codes = [make_codes(1, 1, 0)]
    rows = [codes if n % 3 else [] for n in range(2 * ROW_GROUP_ROWS + 7)]
    table = pa.table({"id": [f"{n}" for n in range(len(rows))]})
    written = []
    for step in (len(rows), 999, 1):
        path = tmp_path / f"{step}.parquet"
        with CodeWriter(path, info, table.schema) as writer:
            for start in range(0, len(rows), step):
                writer.write(table.slice(start, step), rows[start : start + step])
        written.append(path.read_bytes())
    assert group_sizes(path) == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 7]
    assert written[0] == written[1] == written[2]


def test_row_groups_have_a_bound_on_codes_a_single_row_apart(tmp_path, info, make_codes):
    half = make_codes(512, 1024, original_size=(100, 200))
    whole = make_codes(780, 1000, original_size=(100, 200))
    assert half.values.size * 2 == ROW_GROUP_CODES < 2 * whole.values.size
    small = [make_codes(1, 1)]
    rows = [[half], [half], small, [whole, whole], small]
    table = pa.table({"id": range(5)})
    with CodeWriter(tmp_path / "a.parquet", info, table.schema) as writer:
        writer.write(table, rows)
    assert group_sizes(tmp_path / "a.parquet") == [2, 1, 1, 1]
    assert list(CodeDataset(tmp_path / "a.parquet").images()) == rows


def test_dictionaries_and_large_types_are_carried(tmp_path, info, make_codes):
    table = pa.table(
        {
            "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
            "text": pa.array(["x", None, "z"], pa.large_string()),
            "vector": pa.FixedSizeListArray.from_arrays(np.arange(6, dtype=np.float32), 2),
        }
    )
    with CodeWriter(tmp_path / "a.parquet", info, table.schema) as writer:
        for n in range(3):
            writer.write(table.slice(n, 1), [[]])
    assert pq.read_table(tmp_path / "a.parquet").select(table.column_names).equals(table)


def test_a_file_may_have_no_rows_and_no_other_columns(tmp_path, info, make_codes):
    with CodeWriter(tmp_path / "a.parquet", info, pa.schema([("id", pa.int64())])):
        pass
    assert len(CodeDataset(tmp_path / "a.parquet")) == 0
    with CodeWriter(tmp_path / "b.parquet", info, pa.schema([])) as writer:
        writer.write(pa.table({}), [[make_codes(1, 2)], []])
    dataset = CodeDataset(tmp_path / "b.parquet")
    assert (dataset.schema.names, list(dataset.images())) == ([], [[make_codes(1, 2)], []])


# What other libraries noted


def test_what_datasets_noted_of_columns_is_kept_and_ours_added(tmp_path, info, make_codes):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"kind": datasets.ClassLabel(names=["cat", "dog"]), "picture": datasets.Image()}
    )
    schema = features.arrow_schema
    source = pa.table({"kind": [0, 1], "picture": [None, None]}, schema)
    carried = source.drop_columns(["picture"])
    with CodeWriter(tmp_path / "a.parquet", info, carried.schema) as writer:
        writer.write(carried, [[make_codes(1, 2)], []])
    noted = json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[b"huggingface"])
    assert list(noted["info"]["features"]) == ["kind", *COLUMNS]
    table = datasets.load_dataset(
        "parquet",
        data_files=str(tmp_path / "a.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert table.features["kind"].names == ["cat", "dog"]
    assert table[0]["codes"] == make_codes(1, 2).values.reshape(-1).tolist()
    assert table[0]["grid_sizes"] == [[1, 2]]
    assert table[1]["original_sizes"] == []


@pytest.mark.parametrize(
    "noted", [b"{", b'{"info": {}}', b'{"info": {"features": {"other": {}}}}', b"[]"]
)
def test_notes_that_do_not_fit_the_columns_are_dropped(tmp_path, info, noted):
    schema = pa.schema([("id", pa.int64())], {"huggingface": noted, "pandas": b"{}"})
    with CodeWriter(tmp_path / "a.parquet", info, schema) as writer:
        writer.write(pa.table({"id": [1]}), [[]])
    metadata = pq.read_schema(tmp_path / "a.parquet").metadata
    assert set(metadata) == {b"viq"}


# What is refused


@pytest.mark.parametrize("name", [*COLUMNS, "Codes"])
def test_carried_columns_have_other_names(tmp_path, info, name):
    with pytest.raises(CodesError) as caught:
        CodeWriter(
            tmp_path / "a.parquet", info, pa.schema([("id", pa.int64()), (name, pa.int64())])
        )
    assert str(caught.value) == (
        f"{tmp_path / 'a.parquet'}: the source has a column {name!r}, a name that the codes take;"
        " rename it"
    )
    assert not list(tmp_path.iterdir())


def test_two_carried_columns_of_one_name_are_refused(tmp_path, info):
    schema = pa.schema([("id", pa.int64()), ("id", pa.string())])
    with pytest.raises(CodesError, match="the source has two columns 'id'; rename one"):
        CodeWriter(tmp_path / "a.parquet", info, schema)
    assert not list(tmp_path.iterdir())


def test_carried_columns_are_such_as_parquet_has(tmp_path, info):
    schema = pa.schema([("json", pa.struct([]))])
    with pytest.raises(CodesError) as caught:
        CodeWriter(tmp_path / "a.parquet", info, schema)
    assert str(caught.value) == (
        f"{tmp_path / 'a.parquet'}: Parquet cannot hold the source's columns: Cannot write struct"
        " type 'json' with no child field to Parquet. Consider adding a dummy child field."
    )
    assert not list(tmp_path.iterdir())


def test_codes_of_another_tokenizer_are_refused(write, make_codes, tmp_path):
    other = [[make_codes(1, 1, fingerprint="f" * 64)], [], [], [], []]
    with pytest.raises(FingerprintError) as caught:
        write("a.parquet", rows=other)
    assert (caught.value.expected, caught.value.found) == ("0123456789abcdef" * 4, "f" * 64)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"levels": (8, 8)},
            "levels of codes to write is (8, 8), but of the file (8, 8, 8, 5, 5, 5)",
        ),
        ({"code_heads": 2}, "code_heads of codes to write is 2, but of the file 4"),
        ({"patch_size": 20}, "patch_size of codes to write is 20, but of the file 16"),
    ],
)
def test_codes_of_another_kind_are_refused(write, make_codes, tmp_path, changes, message):
    other = [[make_codes(1, 1)], [make_codes(1, 1, **changes)], [], [], []]
    with pytest.raises(CodesError) as caught:
        write("a.parquet", rows=other)
    assert str(caught.value) == f"{tmp_path / 'a.parquet'}: {message}"
    assert not list(tmp_path.iterdir())


def test_a_row_has_no_more_codes_than_reading_takes(write, make_codes, tmp_path):
    large = make_codes(780, 1000, original_size=(100, 200))
    with pytest.raises(CodesError, match="a row has 65,520,000 codes, of at most 64,000,000"):
        write("a.parquet", rows=[[large] * 21, [], [], [], []])
    assert not list(tmp_path.iterdir())


def test_rows_and_codes_are_as_many_and_of_the_schema(write, table, rows, tmp_path, info):
    with pytest.raises(ValueError, match=r"^there are 5 rows, but codes of 4\.$"):
        write("a.parquet", rows=rows[:4])
    writer = CodeWriter(tmp_path / "a.parquet", info, table.schema)
    with writer, pytest.raises(ValueError, match=r"^columns are id: string, not id: string, mess"):
        writer.write(table.select(["id"]), rows)


def test_nothing_is_left_behind_by_an_error_and_the_old_file_stays(write, tmp_path, info, table):
    path = write("a.parquet")
    before = path.read_bytes()
    seen = []

    def interrupt() -> None:
        with CodeWriter(path, info, table.schema):
            seen.extend(tmp_path.iterdir())  # it is written under another name
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert len(seen) == 2
    assert [(file, file.read_bytes()) for file in tmp_path.iterdir()] == [(path, before)]


def test_a_file_that_cannot_be_written_is_named(tmp_path, info):
    path = tmp_path / "gone" / "a.parquet"
    with pytest.raises(CodesError) as caught:
        CodeWriter(path, info, pa.schema([]))
    assert str(caught.value) == f"{path}: cannot be written: No such file or directory"
    taken = tmp_path / "folder.parquet"
    (taken / "x").mkdir(parents=True)
    writer = CodeWriter(taken, info, pa.schema([]))
    with pytest.raises(CodesError, match=r"folder\.parquet: cannot be written: Is a directory"):
        writer.close()
    assert [file.name for file in tmp_path.iterdir()] == ["folder.parquet"]


def test_a_full_disk_is_an_error_of_ours(tmp_path, info, make_codes):
    writer = CodeWriter(tmp_path / "a.parquet", info, pa.schema([]))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # as if there were no more room
    try:
        with (
            pytest.raises(CodesError, match=r"a\.parquet: cannot be written: .*File too large"),
            writer,
        ):
            writer.write(pa.table({}), [[make_codes(48, 48)]])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
