"""Counts of a data set's pictures by its own columns."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from viq.card import count_rows, load_counts, save_counts
from viq.errors import InputError


@pytest.fixture
def files(tmp_path):
    """Two Parquet files of three pictures and two."""
    rows = [("MIT", "a"), ("CC0", "b"), ("MIT", None)], [("CC0", "b"), ("MIT", "b|c")]
    paths = []
    for number, some in enumerate(rows):
        licences, sources = zip(*some, strict=True)
        table = pa.table({"licence": licences, "source": sources, "image": [b"x"] * len(some)})
        paths.append(tmp_path / f"train-{number}.parquet")
        pq.write_table(table, paths[-1])
    return paths


def test_the_commonest_come_first_and_all_are_counted(files):
    counts = count_rows(files, "corpus", ["licence", "source"], note="Small ones.")
    assert counts.rows == 5
    assert list(counts.by["licence"].items()) == [("MIT", 3), ("CC0", 2)]
    assert list(counts.by["source"].items()) == [("b", 2), ("a", 1), ("b|c", 1), ("not said", 1)]
    lines = counts.markdown().splitlines()
    assert lines[:3] == ["### corpus: 5 pictures", "", "Small ones."]
    assert "| MIT | 3 |" in lines
    assert r"| b\|c | 1 |" in lines


def test_what_is_written_is_read(files, tmp_path):
    counts = [count_rows(files[:1], name, ["licence"]) for name in ("train", "validation")]
    save_counts(counts, tmp_path / "data.json")
    assert list(load_counts(tmp_path / "data.json")) == counts
    assert sorted(p.name for p in tmp_path.iterdir())[0] == "data.json"


def test_what_cannot_be_counted_is_said(files, tmp_path):
    with pytest.raises(InputError, match=r"^corpus: there are no Parquet files$"):
        count_rows([], "corpus", ["licence"])
    with pytest.raises(InputError, match=r"train-0.parquet: has no column licences"):
        count_rows(files, "corpus", ["licences"])
    files[0].write_bytes(b"no Parquet")
    with pytest.raises(InputError, match=r"train-0.parquet: cannot be read"):
        count_rows(files, "corpus", ["licence"])
    with pytest.raises(InputError, match=r"data.json: no such file"):
        load_counts(tmp_path / "data.json")
    for content in ("{", '[{"name": "a"}]'):
        (tmp_path / "data.json").write_text(content)
        with pytest.raises(InputError, match=r"data.json: not a file of counts, or damaged"):
            load_counts(tmp_path / "data.json")
