"""Opening code data sets, reading them in order, and what is refused."""

import gzip
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from viq.errors import CodesError, FingerprintError
from viq.store import COLUMNS, CodeDataset, CodesInfo, data_files, is_code_dataset
from viq.store.reader import file_images

GOLDEN = Path(__file__).parent / "golden.parquet"


def error_of(function, *arguments, **options):
    with pytest.raises(CodesError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def rewrite(write):
    """Writes a good file anew with other cells, types or metadata, as other programs could."""

    def rewrite(metadata=None, schema=None, **cells) -> Path:
        path = write("a.parquet")
        table = pq.read_table(path)
        for name, column in cells.items():
            if column is None:
                table = table.drop_columns([name])
            else:
                place = table.column_names.index(name)
                kind = table.schema.field(name).type
                array = column if isinstance(column, pa.Array) else pa.array(column, kind)
                table = table.set_column(place, name, array)
        noted = table.schema.metadata if metadata is None else metadata
        pq.write_table(table.replace_schema_metadata(noted), path)
        return path

    return rewrite


def test_a_folder_and_a_file_are_read_in_order(write, tmp_path, info, table, rows):
    write("set/data/train-00000-of-00003.parquet")
    write("set/data/train-00002-of-00003.parquet", table=table.slice(3), rows=rows[3:])
    for other in ("set/errors.parquet", "set/data/.hidden.parquet"):
        (tmp_path / other).write_bytes(b"no codes")
    dataset = CodeDataset(tmp_path / "set")
    assert dataset.files == tuple(
        f"{tmp_path}/set/data/train-0000{n}-of-00003.parquet" for n in (0, 2)
    )
    assert (len(dataset), dataset.file_rows, dataset.info) == (7, (5, 2), info)
    assert dataset.schema.equals(table.schema)
    assert dataset.num_bytes == sum(Path(file).stat().st_size for file in dataset.files)
    assert list(dataset.images()) == [*rows, *rows[3:]]
    assert list(CodeDataset(dataset.files[1]).images()) == rows[3:]
    assert list(CodeDataset(dataset.files[::-1]).images()) == [*rows[3:], *rows]


def test_files_may_lie_in_the_folder_itself(write, tmp_path):
    write("a.parquet")
    assert CodeDataset(str(tmp_path)).files == (str(tmp_path / "a.parquet"),)


def test_urls_are_read(write, tmp_path, rows):
    import fsspec

    path = write("set/data/train-00000-of-00001.parquet")
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/set/data/train-00000-of-00001.parquet", path.read_bytes())
    for url in (
        "memory://bucket/set",
        "memory://bucket/set/",
        "memory://bucket/set/data/train-00000-of-00001.parquet",
        f"file://{tmp_path}/set",
    ):
        dataset = CodeDataset(url)
        assert list(dataset.images()) == rows
        assert dataset.num_bytes == path.stat().st_size
    assert error_of(CodeDataset, "memory://bucket/gone") == (
        "memory://bucket/gone: no such file, and no folder with Parquet files"
    )
    assert error_of(CodeDataset, "nowhere://a").startswith("nowhere://a: cannot be listed: ")


def test_batches_have_the_columns_that_were_asked_for(write, table):
    dataset = CodeDataset(write())
    assert [batch.num_rows for batch in dataset.batches(batch_size=2)] == [2, 2, 1]
    (batch,) = dataset.batches(columns=["codes", "id"])
    assert batch.schema.names == ["codes", "id"]
    (batch,) = dataset.batches()
    assert batch.schema.names == [*table.column_names, *COLUMNS]
    assert pa.Table.from_batches([batch]).select(table.column_names).equals(table)
    message = error_of(next, dataset.batches(columns=["caption"]))
    assert message == (
        f"{dataset.files[0]}: no column 'caption'; there are: id, messages, score, codes,"
        " grid_sizes, original_sizes, encoded_sizes"
    )


def test_what_is_a_code_data_set_is_told(write, tmp_path):
    assert is_code_dataset(write("set/data/a.parquet"))
    assert is_code_dataset(tmp_path / "set")
    pq.write_table(pa.table({"codes": [1]}), tmp_path / "other.parquet")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    (tmp_path / "empty").mkdir()
    for other in ("other.parquet", "damaged.parquet", "empty", "gone"):
        assert not is_code_dataset(tmp_path / other)


# What is refused


def test_codes_of_another_tokenizer_are_refused(write):
    path = write()
    assert len(CodeDataset(path, fingerprint="0123456789abcdef" * 4)) == 5
    with pytest.raises(FingerprintError) as caught:
        CodeDataset(path, fingerprint="f" * 64)
    assert str(caught.value) == (
        f"{path}: these codes were made by tokenizer 0123456789ab, this tokenizer is ffffffffffff;"
        " load the tokenizer that made them, or encode the images again"
    )


def test_an_unknown_version_is_refused(rewrite, info):
    path = rewrite({"viq": info.to_json().replace('"version":"1"', '"version":"2"')})
    assert error_of(CodeDataset, path) == f"{path}: version is '2'; this package reads version '1'"


def test_other_parquet_files_are_refused(rewrite, tmp_path):
    path = rewrite({})
    assert error_of(CodeDataset, path) == (
        f"{path}: is none of a code data set: its metadata have no entry 'viq'"
    )
    assert error_of(CodeDataset, tmp_path / "gone") == (
        f"{tmp_path / 'gone'}: no such file, and no folder with Parquet files"
    )
    (tmp_path / "empty").mkdir()
    assert error_of(data_files, tmp_path / "empty") == (
        f"{tmp_path / 'empty'}: no such file, and no folder with Parquet files"
    )
    with pytest.raises(CodesError, match=r"^there are no files to read$"):
        CodeDataset([])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"codes": None}, "its column 'codes' is missing; it must be of type list<"),
        (
            {"codes": pa.array([[1]] * 5, pa.list_(pa.int64()))},
            "its column 'codes' is of type list<element: int64>; it must be of type list<",
        ),
        (
            {"grid_sizes": pa.array(["a"] * 5)},
            "its column 'grid_sizes' is of type string; it must be of type list<",
        ),
    ],
)
def test_columns_of_other_types_are_refused(rewrite, cells, message):
    path = rewrite(**cells)
    assert error_of(CodeDataset, path).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fingerprint", "f" * 64),
        ("levels", (8, 8)),
        ("code_heads", 2),
        ("patch_size", 20),
    ],
)
def test_files_of_one_data_set_agree_on_codes(write, tmp_path, info, name, value):
    first = write("a.parquet")
    changes = {
        key: getattr(info, key) for key in ("fingerprint", "levels", "code_heads", "patch_size")
    }
    other = CodesInfo(**changes | {name: value})
    second = write("b.parquet", info=other, rows=[[]] * 5)
    assert error_of(CodeDataset, tmp_path) == (
        f"{second}: its {name} is {value!r}, but of {first} {getattr(info, name)!r}; the files of a"
        " data set must agree"
    )


def test_files_of_one_data_set_agree_on_columns(write, tmp_path, table):
    first = write("a.parquet")
    second = write("b.parquet", table=table.select(["score", "id"]))
    message = error_of(CodeDataset, tmp_path)
    assert message.startswith(f"{second}: its columns are score: float, id: string, codes: list<")
    assert f"but of {first} id: string, messages: " in message


@pytest.mark.parametrize(
    ("cells", "bad"),
    [
        (
            {"codes": [[0] * 24, [0] * 35, [], [0] * 36, [0] * 20]},
            {1: "it has 35 codes, but its grids [(1, 1), (4, 2)] with 4 code heads take 36"},
        ),
        (
            {"codes": [[0] * 24, None, [], [0] * 36, [0] * 19 + [64_000]]},
            {
                1: "codes is missing",
                4: "image 0: code 64000 of patch 4, head 3, is not below the codebook size, 64000",
            },
        ),
        (
            {"codes": [[0] * 23 + [None], [0] * 36, [], [0] * 36, [0] * 20]},
            {0: "codes are object with 1 axes, not a list of integers"},
        ),
        (
            {"grid_sizes": [[[2, 3]], [[1, 1], [4, 2]], None, [[3, 3]], [[1, 0]]]},
            {
                2: "grid_sizes is missing",
                4: "grid_sizes has [1, 0], not two positive integers",
            },
        ),
        (
            {"original_sizes": [[[2, 3]], [[1, 1], [4, 2]], [[1, 1]], [[3, 3]], [[1, 1]]]},
            {
                2: "it has 0 grid_sizes, 1 original_sizes and 0 encoded_sizes; an image has one of"
                " each"
            },
        ),
    ],
)
def test_bad_rows_are_named_and_the_others_read(rewrite, info, cells, bad):
    path = rewrite(**cells)
    (found,) = file_images(str(path), info)
    errors = {n: str(row) for n, row in enumerate(found) if isinstance(row, CodesError)}
    assert errors == {row: f"{path}: row {row}: {reason}" for row, reason in bad.items()}
    assert error_of(list, CodeDataset(path).images()) == errors[min(bad)]


def test_rows_are_numbered_through_all_row_groups(rewrite, info):
    path = rewrite(codes=[[0] * 24, [0] * 36, [], [0] * 36, [0]])
    table = pq.read_table(path)
    pq.write_table(table, path, row_group_size=2)
    assert error_of(list, CodeDataset(path).images()).startswith(f"{path}: row 4: it has 1 codes")


def test_files_of_other_programs_are_read(rewrite, rows, info):
    """Whatever the encoding, and whatever lists call their items."""
    path = rewrite()
    table = pq.read_table(path)
    items = pa.list_(pa.field("item", pa.uint16()))
    table = table.set_column(3, "codes", table["codes"].cast(items))
    for options in (
        {"compression": "none", "use_dictionary": False},
        {"compression": "snappy", "use_compliant_nested_type": False, "store_schema": False},
    ):
        with pq.ParquetWriter(path, table.schema, **options) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({"viq": info.to_json()})
        assert list(CodeDataset(path).images()) == rows
        assert is_code_dataset(path)


# Damaged files


def test_a_flipped_bit_in_the_codes_is_noticed(tmp_path, info, make_codes, write):
    path = write("a.parquet", rows=[[make_codes(10, 10)], [], [], [], []])
    data = bytearray(path.read_bytes())
    data[data.index(make_codes(10, 10).values.astype("<u2").tobytes()[0::2][:40])] ^= 1
    path.write_bytes(data)
    message = error_of(list, CodeDataset(path).images())
    assert message.startswith(f"{path}: cannot be read, or is damaged: ")
    assert "CRC checksum" in message


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x" * 100, gzip.compress(b"x" * 100)])
def test_what_is_no_parquet_file_is_refused(tmp_path, data):
    (tmp_path / "a.parquet").write_bytes(data)
    message = error_of(CodeDataset, tmp_path / "a.parquet")
    assert message.startswith(f"{tmp_path / 'a.parquet'}: cannot be read, or is damaged: ")


def test_a_truncated_file_is_refused(tmp_path):
    data = GOLDEN.read_bytes()
    for length in range(0, len(data), 61):
        (tmp_path / "a.parquet").write_bytes(data[:length])
        assert "cannot be read, or is damaged" in error_of(CodeDataset, tmp_path / "a.parquet")


def test_damaged_files_are_errors_of_ours_and_nothing_else(tmp_path):
    """Bits flipped anywhere: never another error, never the end of the process."""
    data, path = GOLDEN.read_bytes(), tmp_path / "a.parquet"
    refused, generator = 0, random.Random(0)
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(generator.choice((1, 1, 4))):
            damaged[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            dataset = CodeDataset(path)
            list(dataset.images())
            list(dataset.batches())
        except CodesError:
            refused += 1
    assert refused > 200


def test_a_row_group_that_would_fill_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr("viq.store.reader.MAX_GROUP_BYTES", 1000)
    assert error_of(CodeDataset, GOLDEN) == (
        f"{GOLDEN}: row group 0 has 1,350 bytes, of at most 1,000"
    )
