"""viq inspect: what .viq files and code data sets hold."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from viq import Codes
from viq.cli.inspect import bundled_fingerprints
from viq.metrics.rate import entropy
from viq.store import CodesInfo, CodeWriter


def test_json_says_what_the_codes_are(viq_command, save_codes, tmp_path):
    path = save_codes(tmp_path / "photo.viq", width=50, height=30)
    codes = Codes.load(path)
    status, out, err = viq_command("inspect", path, "--json")
    assert (status, err) == (0, [])
    (found,) = json.loads("\n".join(out))
    distinct = [len(np.unique(head)) for head in codes.values.T]
    assert found == {
        "path": str(path),
        "original_size": [30, 50],
        "encoded_size": [30, 50],
        "grid_size": [2, 4],
        "patch_size": 16,
        "code_heads": 4,
        "levels": [8, 8, 8, 5, 5, 5],
        "codebook_size": 64_000,
        "codes": 32,
        "bytes": 64,
        "bits_per_pixel": pytest.approx(8 * 64 / 1500),
        "information_bpp": pytest.approx(32 * math.log2(64_000) / 1500),
        "distinct_codes": distinct,
        "entropy_bits": pytest.approx(list(entropy(codes.values, 64_000))),
        "fingerprint": codes.fingerprint,
        "model": None,
    }


def test_text_says_the_same(viq_command, save_codes, tmp_path):
    path = save_codes(tmp_path / "photo.viq", width=50, height=30)
    codes = Codes.load(path)
    status, out, err = viq_command("inspect", path)
    assert (status, err) == (0, [])
    assert out[:9] == [
        str(path),
        "  picture      50 x 30 pixels",
        "  encoded      50 x 30 pixels",
        "  grid         4 x 2 patches of 16 x 16 pixels",
        "  codes        32, 4 a patch",
        "  levels       8, 8, 8, 5, 5, 5: a codebook of 64,000",
        "  stored       64 bytes, 0.3413 bpp",
        f"  information  {codes.information_bpp:.4g} bpp",
        f"  tokenizer    {codes.fingerprint} (not bundled)",
    ]
    distinct = len(np.unique(codes.values[:, 3]))
    bits = entropy(codes.values, 64_000)[3]
    assert out[12] == f"  code head 3  {distinct} distinct codes, entropy {bits:.2f} bits"
    assert len(out) == 13


@pytest.mark.parametrize("count", [1, 2])
def test_json_is_an_array_however_many_files_there_are(count, viq_command, save_codes, tmp_path):
    for number in range(count):
        save_codes(tmp_path / f"codes/{number}.viq")
    found = json.loads("\n".join(viq_command("inspect", tmp_path / "codes", "--json").out))
    assert [one["path"] for one in found] == [
        str(tmp_path / f"codes/{number}.viq") for number in range(count)
    ]


def test_the_bundled_model_of_the_codes_is_named(viq_command, save_codes, tmp_path, monkeypatch):
    path = save_codes(tmp_path / "photo.viq")
    fingerprint = Codes.load(path).fingerprint
    monkeypatch.setattr("viq.cli.inspect.bundled_fingerprints", lambda: {fingerprint: "small"})
    assert f"  tokenizer    {fingerprint} (small)" in viq_command("inspect", path).out


def test_the_bundled_models_are_those_that_can_be_loaded():
    from viq import load
    from viq.checkpoint import bundled

    found = bundled_fingerprints()
    assert sorted(found.values()) == bundled()
    assert {load(name).fingerprint: name for name in bundled()} == found


def test_a_damaged_file_is_named_and_the_rest_go_on(viq_command, save_codes, tmp_path):
    good, bad = save_codes(tmp_path / "good.viq"), tmp_path / "bad.viq"
    bad.write_bytes(b"no codes")
    status, out, err = viq_command("inspect", bad, good, "--json")
    assert (status, len(err)) == (1, 1)
    assert err[0].startswith(f"viq: error: {bad}: not a .viq file, or damaged: ")
    assert [one["path"] for one in json.loads("\n".join(out))] == [str(good)]


def test_a_codebook_too_large_for_the_file_is_refused_and_not_counted(
    viq_command, save_codes, tmp_path
):
    path = save_codes(tmp_path / "photo.viq")
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].replace(b"[8,8,8,5,5,5]", b"[1000,1000]")
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    status, out, err = viq_command("inspect", path)
    assert (status, out, len(err)) == (2, [], 1)
    assert err[0].startswith(f"viq: error: {path}: the codebook has 1,000,000 entries")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_all_files_failing_is_exit_code_2(options, viq_command, tmp_path):
    (tmp_path / "bad.viq").touch()
    status, out, err = viq_command("inspect", tmp_path / "bad.viq", *options)
    assert (status, out, len(err)) == (2, ["[]"] if options else [], 1)


def test_no_file_is_exit_code_2_and_named(viq_command, tmp_path):
    status, out, err = viq_command("inspect", tmp_path)
    assert (status, out) == (2, [])
    assert err == [f"viq: error: {tmp_path}: no file here ends in .viq"]


def test_a_picture_that_was_scaled_down_says_both_sizes(viq_command, save_codes, tmp_path):
    path = save_codes(tmp_path / "photo.viq", width=64, height=32)
    replace(Codes.load(path), original_size=(64, 128)).save(path)
    out = viq_command("inspect", path).out
    assert out[1:3] == ["  picture      128 x 64 pixels", "  encoded      64 x 32 pixels"]


def test_it_does_without_torch(save_codes, tmp_path):
    path = save_codes(tmp_path / "photo.viq")
    code = (
        "import sys\n"
        "from viq.cli.main import main\n"
        f"assert main(['inspect', {str(path)!r}]) == 0\n"
        "print(sorted({'PIL', 'diffusers', 'torch'} & set(sys.modules)))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert process.stdout.splitlines()[-1] == "[]"


# Code data sets


@pytest.fixture
def make_codes():
    def make(h, w, seed=0):
        values = np.random.default_rng(seed).integers(0, 64_000, (h * w, 2), dtype=np.uint16)
        size = (16 * h, 16 * w)
        about = {"grid_size": (h, w), "original_size": size, "encoded_size": size}
        return Codes(values, levels=(8, 8, 8, 5, 5, 5), fingerprint="ab" * 32, **about)

    return make


@pytest.fixture
def save_data_set(make_codes):
    """Writes a file of a code data set, of these rows."""

    def save(path, rows):
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table({"id": [f"{n}" for n in range(len(rows))]})
        with CodeWriter(path, CodesInfo.of(make_codes(1, 1)), table.schema) as writer:
            writer.write(table, rows)
        return path

    return save


def spoil(path, row, value=64_001):
    """Writes a value that is no code into a row."""
    table = pq.read_table(path)
    cells = table["codes"].to_pylist()
    cells[row][0] = value
    place = table.column_names.index("codes")
    table = table.set_column(place, "codes", pa.array(cells, table.schema.field("codes").type))
    pq.write_table(table, path)


def test_json_says_what_a_data_set_is(viq_command, save_data_set, make_codes, tmp_path):
    images = [make_codes(2, 3, 0), make_codes(1, 1, 1), make_codes(4, 2, 2)]
    first = save_data_set(tmp_path / "set/data/train-00000-of-00002.parquet", [images[:2], []])
    second = save_data_set(tmp_path / "set/data/train-00001-of-00002.parquet", [images[2:]])
    status, out, err = viq_command("inspect", tmp_path / "set", "--json")
    assert (status, err) == (0, [])
    (found,) = json.loads("\n".join(out))
    stored = sum(
        pq.read_metadata(path).row_group(0).column(1).total_compressed_size
        for path in (first, second)
    )
    values = np.concatenate([image.values for image in images])
    assert found == {
        "path": str(tmp_path / "set"),
        "files": 2,
        "rows": 3,
        "rows_without_images": 1,
        "images": 3,
        "columns": ["id"],
        "patch_size": 16,
        "code_heads": 2,
        "levels": [8, 8, 8, 5, 5, 5],
        "codebook_size": 64_000,
        "codes": 30,
        "bytes": first.stat().st_size + second.stat().st_size,
        "bytes_per_code": stored / 30,
        "bits_per_pixel": pytest.approx(30 * 16 / (15 * 256)),
        "information_bpp": pytest.approx(30 * math.log2(64_000) / (15 * 256)),
        "patches": {"min": 1, "median": 6, "max": 8},
        "heights": {"min": 16, "median": 32, "max": 64},
        "widths": {"min": 16, "median": 32, "max": 48},
        "distinct_codes": [len(np.unique(head)) for head in values.T],
        "entropy_bits": pytest.approx(list(entropy(values, 64_000))),
        "fingerprint": "ab" * 32,
        "model": None,
        "verified": False,
        "bad": 0,
    }


def test_text_says_the_same_of_a_data_set(viq_command, save_data_set, make_codes, tmp_path):
    rows = [[make_codes(2, 3)], [make_codes(1, 1), make_codes(40, 30)], []]
    path = save_data_set(tmp_path / "a.parquet", rows)
    status, out, err = viq_command("inspect", path, "--verify")
    assert (status, err) == (0, [])
    column = pq.read_metadata(path).row_group(0).column(1)
    a_code = column.total_compressed_size / 2414
    assert out[:13] == [
        str(path),
        "  rows         3 in 1 file, 1 without images",
        "  columns      id",
        "  images       3",
        "  codes        2,414, 2 a patch",
        f"  on disk      {path.stat().st_size:,} bytes, of codes {a_code:.3f} a code",
        "  patches      1 to 1,200, median 6, of 16 x 16 pixels",
        "  widths       16 to 480, median 48, pixels",
        "  heights      16 to 640, median 32, pixels",
        "  levels       8, 8, 8, 5, 5, 5: a codebook of 64,000",
        "  stored       0.125 bpp",
        "  information  0.1247 bpp",
        "  verified     all rows are good",
    ]
    assert out[13] == f"  tokenizer    {'ab' * 32} (not bundled)"
    assert out[15].startswith("  code head 1  1,1")
    assert len(out) == 16


@pytest.mark.parametrize("rows", [[], [[], []]])
def test_a_data_set_without_images_is_described(rows, viq_command, save_data_set, tmp_path):
    path = save_data_set(tmp_path / "a.parquet", rows)
    (found,) = json.loads("\n".join(viq_command("inspect", path, "--json").out))
    assert (found["rows"], found["images"], found["bits_per_pixel"]) == (len(rows), 0, None)
    assert (found["patches"], found["entropy_bits"]) == (None, [0, 0])
    status, out, _ = viq_command("inspect", path)
    assert (status, out[5]) == (0, f"  on disk      {path.stat().st_size:,} bytes")


def test_verifying_names_all_bad_rows_by_file_and_number(
    viq_command, save_data_set, make_codes, tmp_path
):
    rows = [[make_codes(1, 2, n)] for n in range(30)]
    paths = [
        save_data_set(tmp_path / f"set/data/train-0000{n}-of-00003.parquet", rows) for n in range(3)
    ]
    spoil(paths[0], 4)
    spoil(paths[0], 29)
    data = paths[1].read_bytes()
    paths[1].write_bytes(b"x" * 300 + data[300:])  # the metadata are at the end
    spoil(paths[2], 0)
    status, out, err = viq_command("inspect", tmp_path / "set", "--verify", "--json")
    assert status == 1
    reason = "image 0: code 64001 of patch 0, head 0, is not below the codebook size, 64000"
    assert err[:2] == [f"viq: error: {paths[0]}: row {row}: {reason}" for row in (4, 29)]
    assert err[2].startswith(f"viq: error: {paths[1]}: cannot be read, or is damaged: ")
    assert err[3:] == [f"viq: error: {paths[2]}: row 0: {reason}"]
    (found,) = json.loads("\n".join(out))
    assert (found["rows"], found["images"]) == (90, 57)
    assert (found["verified"], found["bad"]) == (True, 4)
    assert "  verified     4 bad" in viq_command("inspect", tmp_path / "set", "--verify").out


def test_verifying_reads_the_other_columns_too(viq_command, save_data_set, make_codes, tmp_path):
    path = save_data_set(tmp_path / "a.parquet", [[make_codes(1, 2, n)] for n in range(30)])
    column = pq.read_metadata(path).row_group(0).column(0)
    assert column.path_in_schema == "id"
    data = bytearray(path.read_bytes())
    data[column.dictionary_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    assert viq_command("inspect", path).status == 0
    status, _, err = viq_command("inspect", path, "--verify")
    assert (status, len(err)) == (1, 1)
    assert err[0].startswith(f"viq: error: {path}: cannot be read, or is damaged: ")


def test_a_data_set_whose_first_file_is_damaged_is_still_taken_for_one(
    viq_command, save_data_set, make_codes, tmp_path
):
    path = save_data_set(tmp_path / "set/data/train-00000-of-00001.parquet", [[make_codes(1, 2)]])
    (tmp_path / "set" / ".viq").mkdir()  # as viq extract leaves it
    path.write_bytes(path.read_bytes()[:-20])
    (line,) = viq_command("inspect", tmp_path / "set").err
    assert line.startswith(f"viq: error: {path}: cannot be read, or is damaged: ")


def test_without_verifying_the_first_bad_row_ends_it(
    viq_command, save_data_set, make_codes, tmp_path
):
    path = save_data_set(tmp_path / "a.parquet", [[make_codes(1, 2, n)] for n in range(3)])
    spoil(path, 1)
    spoil(path, 2)
    status, out, err = viq_command("inspect", path)
    assert (status, out) == (2, [])
    assert err == [
        f"viq: error: {path}: row 1: image 0: code 64001 of patch 0, head 0, is not below the"
        " codebook size, 64000; --verify names all that is bad"
    ]


def test_many_bad_rows_are_counted_and_not_all_named(
    viq_command, save_data_set, make_codes, tmp_path
):
    path = save_data_set(tmp_path / "a.parquet", [[make_codes(1, 1)]] * 25)
    for row in range(25):
        spoil(path, row)
    status, _, err = viq_command("inspect", path, "--verify")
    assert (status, len(err)) == (1, 21)
    assert err[20] == f"viq: error: {path}: 5 more are bad"


def test_data_sets_and_files_may_be_mixed(
    viq_command, save_data_set, save_codes, make_codes, tmp_path
):
    photo = save_codes(tmp_path / "codes/photo.viq")
    path = save_data_set(tmp_path / "a.parquet", [[make_codes(1, 1)]])
    found = json.loads("\n".join(viq_command("inspect", photo, path, "--json").out))
    assert [one["path"] for one in found] == [str(path), str(photo)]
    # Parquet files of another kind do not make a folder of .viq files a data set.
    pq.write_table(pa.table({"a": [1]}), tmp_path / "codes/other.parquet")
    found = json.loads("\n".join(viq_command("inspect", tmp_path / "codes", "--json").out))
    assert [one["path"] for one in found] == [str(photo)]


def test_other_parquet_files_are_no_data_set(viq_command, tmp_path):
    other = tmp_path / "folder/other.parquet"
    other.parent.mkdir()
    pq.write_table(pa.table({"a": [1]}), other)
    for named in (other, other.parent):
        status, out, err = viq_command("inspect", named)
        assert (status, out) == (2, [])
        assert err == [
            f"viq: error: {other}: is none of a code data set: its metadata have no entry 'viq'"
        ]


def test_a_data_set_may_be_a_url(viq_command, save_data_set, make_codes, tmp_path):
    path = save_data_set(tmp_path / "data/a.parquet", [[make_codes(1, 1)]])
    (found,) = json.loads("\n".join(viq_command("inspect", f"file://{path}", "--json").out))
    assert (found["path"], found["rows"]) == (f"file://{path}", 1)


def test_memory_stays_flat_over_a_data_set(save_data_set, make_codes, tmp_path):
    """40 files take what one takes; read at once they would be 300 MB."""
    image = make_codes(390, 500)  # 0.78 MB of codes
    one = save_data_set(tmp_path / "one/data/train-00000.parquet", [[image]] * 10)
    many = tmp_path / "many" / "data"
    many.mkdir(parents=True)
    for number in range(40):
        (many / f"train-{number:05}.parquet").hardlink_to(one)
    peaks = []
    for folder in ("one", "many"):
        code = (
            "import resource\n"
            "from viq.cli.main import main\n"
            f"assert main(['inspect', {str(tmp_path / folder)!r}]) == 0\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True
        )
        peaks.append(int(done.stdout.splitlines()[-1]) / 1024)
    assert peaks[1] - peaks[0] < 60
