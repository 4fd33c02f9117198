"""The pictures that evaluations read."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from viq.errors import InputError
from viq.evaluation.pictures import TEXT_HEIGHTS, TEXT_MARGIN, choice, open_pictures


def encoded(value, format="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (value, value, value)).save(buffer, format)
    return buffer.getvalue()


def write_table(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": encoded(v) if isinstance(v, int) else v, "path": None} for v in values]
    pq.write_table(pa.table({"image": cells, "caption": ["x"] * len(cells)}), path, **options)


def value_of(pictures, name):
    return int(np.asarray(pictures.read(name).image)[0, 0, 0])


def test_a_folder_has_all_pictures_in_it_but_hidden_ones(tmp_path):
    for name in ("b.png", "a/c.PNG", "a/.d.png", ".e/f.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(7))
    (tmp_path / "note.txt").write_text("no picture")
    pictures = open_pictures(str(tmp_path))
    assert pictures.names == ["a/c.PNG", "b.png"]
    assert pictures.title == tmp_path.name
    assert value_of(pictures, "b.png") == 7
    assert pictures.read("b.png").text is None
    assert pictures.titled(["b.png"]) == f"{tmp_path.name}, 1 of 2 pictures"


def test_a_folder_that_changed_is_another(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(7))
    before = open_pictures(str(tmp_path)).identity()
    assert open_pictures(str(tmp_path)).identity() == before
    (tmp_path / "a.png").write_bytes(encoded(7) + b"more")
    assert open_pictures(str(tmp_path)).identity() != before


def test_what_tells_data_apart_has_no_path_in_it(tmp_path):
    for place in ("x", "y"):
        (tmp_path / place / "data").mkdir(parents=True)
        (tmp_path / place / "data" / "a.png").write_bytes(encoded(7))
    one, other = (open_pictures(str(tmp_path / place / "data")).identity() for place in "xy")
    assert one == other  # moved
    assert str(tmp_path) not in json.dumps(one)
    write_table(tmp_path / "a.parquet", [1])
    assert str(tmp_path) not in json.dumps(open_pictures(str(tmp_path / "a.parquet")).identity())


def test_rows_are_found_in_all_files_and_row_groups(tmp_path):
    write_table(tmp_path / "validation-0.parquet", [0, 1, 2, 3, 4], row_group_size=2)
    write_table(tmp_path / "validation-1.parquet", [5, 6], row_group_size=2)
    write_table(tmp_path / "train-0.parquet", [99])
    pictures = open_pictures(str(tmp_path))
    assert len(pictures.names) == 7
    for name in reversed(pictures.names):
        assert value_of(pictures, name) == int(name)
    assert value_of(open_pictures(str(tmp_path), "train"), "000000") == 99
    assert value_of(open_pictures(str(tmp_path / "train-0.parquet")), "000000") == 99


def test_files_of_no_split_are_all_read(tmp_path):
    write_table(tmp_path / "data" / "0000.parquet", [1])
    write_table(tmp_path / "data" / "0001.parquet", [2])
    assert len(open_pictures(str(tmp_path)).names) == 2


def test_a_split_may_be_a_folder(tmp_path):
    write_table(tmp_path / "validation" / "0.parquet", [1])
    assert len(open_pictures(str(tmp_path)).names) == 1
    (tmp_path / "pictures" / "test").mkdir(parents=True)
    (tmp_path / "pictures" / "test" / "a.png").write_bytes(encoded(1))
    assert open_pictures(str(tmp_path / "pictures"), "test").names == ["a.png"]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (b"no picture", "row 1: not a readable image"),
        (encoded(1)[:45], "row 1: cannot be decoded"),
        (None, "row 1: has 0 pictures; one a row is evaluated"),
    ],
    ids=["no picture", "cut off", "none"],
)
def test_an_unreadable_row_is_named(tmp_path, cell, reason):
    write_table(tmp_path / "a.parquet", [3])
    write_table(tmp_path / "b.parquet", [4, cell])
    pictures = open_pictures(str(tmp_path))
    assert value_of(pictures, "000001") == 4
    with pytest.raises(InputError, match=f"b.parquet: {reason}"):
        pictures.read("000002")


def test_what_cannot_be_opened_is_named(tmp_path):
    def refused(*arguments):
        with pytest.raises(InputError) as caught:
            open_pictures(*arguments)
        return str(caught.value)

    assert "no such file or folder; 'text' has lines of text drawn" in refused(str(tmp_path / "x"))
    assert "has no pictures and no Parquet files of the split" in refused(str(tmp_path))
    (tmp_path / "a.txt").write_text("x")
    assert "is neither a folder nor a Parquet file" in refused(str(tmp_path / "a.txt"))
    assert "is no folder of pictures and no Parquet file" in refused(str(tmp_path), "test")
    (tmp_path / "a.parquet").write_text("x")
    assert "a.parquet: not a readable Parquet file" in refused(str(tmp_path / "a.parquet"))
    pq.write_table(pa.table({"caption": ["x"]}), tmp_path / "a.parquet")
    assert "no column of images; there are: caption" in refused(str(tmp_path / "a.parquet"))
    write_table(tmp_path / "a.parquet", [])
    assert "has no rows" in refused(str(tmp_path / "a.parquet"))
    write_table(tmp_path / "split" / "train-0.parquet", [1])
    message = "no Parquet files of split 'validation'; there are: train"
    assert message in refused(str(tmp_path / "split"))
    assert "at most 100,000 pictures of text are drawn" in refused("text", None, 10**22)
    assert "the lines of text have no splits" in refused("text", "train")


def test_text_is_drawn_in_three_heights_and_the_same_each_time():
    first, second = open_pictures("text", count=6), open_pictures("text", count=6)
    assert first.identity() == second.identity() != open_pictures("text", count=7).identity()
    for place, name in enumerate(first.names):
        height = TEXT_HEIGHTS[place % 3]
        assert name == f"{place:04d}-{height}px"
        original = first.read(name)
        lines = original.text.splitlines()
        assert len(lines) == 6
        assert all(lines)
        assert original.image == second.read(name).image
        # Ink of a line is within its height.
        rows = np.flatnonzero((np.asarray(original.image) < 128).any((1, 2)))
        steps = {(row - TEXT_MARGIN) % (height * 3 // 2) for row in rows}
        assert max(steps) <= height
        assert max(steps) > height // 2
        width = np.flatnonzero((np.asarray(original.image) < 128).any((0, 2)))[-1]
        assert width < original.image.width - TEXT_MARGIN // 2


def test_text_is_of_words_that_training_never_shows():
    from viq.data.synthetic.words import Words

    words = Words(split="train")
    training = {word for kind in ("noun", "adjective", "city") for word in words.some(kind)}
    pictures = open_pictures("text", count=3)
    shown = {word.strip(".,") for n in pictures.names for word in pictures.read(n).text.split()}
    assert len(shown) > 20
    assert not shown & training


def test_a_choice_is_in_order_and_part_of_every_larger_one():
    names = [f"{place:03d}" for place in range(100)]
    few, more = choice(names, 10), choice(names, 40)
    assert few == sorted(few)
    assert len(few) == 10
    assert set(few) < set(more)
    assert int(few[-1]) > 50  # not just the first ones
    assert choice(names, None) == choice(names, 200) == names
