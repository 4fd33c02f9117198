import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from viq.errors import InputError
from viq.evaluation.understanding.captioned import ROWS, captioned, identity, repeated, rows_of


def encoded(number):
    file = io.BytesIO()
    Image.new("RGB", (20, 10), (number % 256, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write(path, numbers, **columns):
    table = {"image": [{"bytes": encoded(n), "path": None} for n in numbers]}
    table |= {name: [f"{name} {n}" for n in numbers] for name in ("caption", "kind")}
    pq.write_table(pa.table(table | columns), path)


@pytest.fixture
def corpus(tmp_path):
    write(tmp_path / "train-0.parquet", range(12))
    write(tmp_path / "train-1.parquet", range(12, 20))
    write(tmp_path / "validation-0.parquet", range(100, 105))
    return tmp_path


def test_rows_of_all_files_are_read(corpus):
    sets = captioned(corpus, "quick")
    assert [one.labels["caption"] for one in sets.train] == [f"caption {n}" for n in range(20)]
    assert sets.train[12].id == "train-1.parquet:0"
    assert sets.train[12].picture == encoded(12)
    assert sets.train[12].labels == {"caption": "caption 12", "kind": "kind 12"}
    assert [one.labels["kind"] for one in sets.test] == [f"kind {n}" for n in range(100, 105)]


def test_a_choice_is_the_same_every_time_and_over_all_files(corpus, monkeypatch):
    monkeypatch.setitem(ROWS, "quick", (6, 2))
    sets = captioned(corpus, "quick")
    assert (len(sets.train), len(sets.test)) == (6, 2)
    assert [one.id for one in sets.train] == [one.id for one in captioned(corpus, "quick").train]
    assert {one.id.split(":")[0] for one in sets.train} == {"train-0.parquet", "train-1.parquet"}
    for one in sets.train:  # every row is what its id says
        file, number = one.id.split(":")
        assert one.picture == encoded(int(number) + 12 * (file == "train-1.parquet"))


def test_validation_pictures_whose_name_is_trained_on_are_left_out(corpus, monkeypatch):
    captions = ["CAPTION 3", " caption 4; with tags", "caption 300", None, ""]
    write(corpus / "validation-0.parquet", range(100, 105), caption=captions)
    assert [one.id for one in captioned(corpus, "quick").test] == [
        f"validation-0.parquet:{n}" for n in (2, 3, 4)
    ]
    assert repeated(corpus) == (2, 5)
    monkeypatch.setitem(ROWS, "quick", (6, 3))  # as many as were asked for, none of these
    assert len(captioned(corpus, "quick").test) == 3


def test_files_are_told_from_others(corpus):
    before = identity(corpus)
    assert before["rows"] == 25
    assert not any(str(corpus) in str(value) for value in before.values())
    write(corpus / "train-1.parquet", range(12, 21))
    assert identity(corpus) != before


def test_a_damaged_column_of_captions_is_told(corpus):
    path = corpus / "validation-0.parquet"
    data = bytearray(path.read_bytes())
    data[4:-600] = b"\xff" * (len(data) - 604)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"validation-0.parquet: not a readable Parquet file"):
        repeated(corpus)


def test_blank_texts_are_no_labels(tmp_path):
    write(tmp_path / "train.parquet", range(3), caption=[None, " ", " a fox "])
    labels = [one.labels for one in rows_of(tmp_path, "train", 9)]
    assert labels == [
        {"kind": "kind 0"},
        {"kind": "kind 1"},
        {"caption": "a fox", "kind": "kind 2"},
    ]


def test_images_may_be_plain_bytes_or_missing(tmp_path):
    pq.write_table(pa.table({"image": [encoded(1), None]}), tmp_path / "train.parquet")
    first, second = rows_of(tmp_path, "train", 9)
    assert first.picture == encoded(1)
    assert second.picture == b""
    assert first.labels == {}


def test_a_folder_without_files_is_told(corpus):
    (corpus / "validation-0.parquet").unlink()
    with pytest.raises(InputError, match=r"no validation\*.parquet here"):
        captioned(corpus, "quick")


def test_a_damaged_file_is_told(corpus):
    (corpus / "train-1.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"train-1.parquet: not a readable Parquet file"):
        captioned(corpus, "quick")


def test_damaged_rows_are_told(corpus):
    path = corpus / "train-0.parquet"
    data = bytearray(path.read_bytes())
    data[4:200] = b"\xff" * 196
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"train-0.parquet: not a readable Parquet file"):
        captioned(corpus, "quick")


def test_a_file_without_images_is_told(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"train.parquet: no column 'image'; there are: text"):
        rows_of(tmp_path, "train", 9)
