"""Code data sets as sources."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from viq import Codes
from viq.data.codes import CodesSource
from viq.data.conversation import question_for
from viq.data.sources import SourceConfig, open_source
from viq.data.table import TableSource
from viq.errors import CodesError, InputError
from viq.store import CodesInfo, CodeWriter


def codes(h: int, w: int, fingerprint: str = "ab" * 32) -> Codes:
    return Codes(
        np.arange(h * w * 2, dtype=np.uint16).reshape(-1, 2),
        grid_size=(h, w),
        original_size=(16 * h, 16 * w),
        encoded_size=(16 * h, 16 * w),
        levels=(8, 8, 8, 5, 5, 5),
        fingerprint=fingerprint,
    )


@pytest.fixture
def write(tmp_path):
    """Writes rows, each with its images' codes under "codes", as a file of a code data set."""

    def write(rows, name="set/data/train-00000-of-00001.parquet", schema=None):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        images = [row["codes"] for row in rows]
        info = CodesInfo.of(next(image for row in images for image in row))
        table = pa.Table.from_pylist(
            [{k: v for k, v in row.items() if k != "codes"} for row in rows]
        )
        with CodeWriter(path, info, table.schema) as writer:
            writer.write(table, images)
        return path

    return write


def open_at(path, **options):
    return open_source(SourceConfig(name="set", path=str(path), **options))


def error_of(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    return str(caught.value)


def spoken(sample):
    """The messages as (role, parts), images as None."""
    return [(m["role"], [part.get("text") for part in m["content"]]) for m in sample.messages]


def test_conversations_about_codes(write, tmp_path):
    def turns(question):
        return [{"from": "human", "value": question}, {"from": "gpt", "value": "It is."}]

    write(
        [
            {"id": "a", "codes": [codes(2, 3)], "conversations": turns("<image>What?")},
            {"id": "b", "codes": [], "conversations": turns("Who?")},
            {
                "id": "c",
                "codes": [codes(1, 1), codes(4, 2)],
                "conversations": turns("<image>, <image>?"),
            },
            {"id": "d", "codes": [codes(1, 1)], "conversations": turns("No image?")},
        ]
    )
    source = open_at(tmp_path / "set")
    assert isinstance(source, CodesSource)
    assert (len(source), source.info) == (4, CodesInfo.of(codes(1, 1)))
    assert [source[n].id for n in range(3)] == ["set/a", "set/b", "set/c"]
    assert [source[n].images for n in range(3)] == [
        (codes(2, 3),),
        (),
        (codes(1, 1), codes(4, 2)),
    ]
    assert spoken(source[0]) == [("user", [None, "What?"]), ("assistant", ["It is."])]
    assert spoken(source[1]) == [("user", ["Who?"]), ("assistant", ["It is."])]
    assert spoken(source[2])[0] == ("user", [None, ", ", None, "?"])
    assert error_of(source.__getitem__, 3) == (
        f"{tmp_path / 'set'}: sample set/d: its messages name 0 images but it has 1; write <image>"
        " once for each, in what the user says"
    )


def test_questions_and_captions_are_read_as_of_any_table(write, tmp_path):
    asked = write(
        [
            {"codes": [codes(1, 1)], "question": "What? ", "answer": "That."},
            {"codes": [], "question": "2 + 2?", "answer": "4"},
            {"codes": [codes(1, 1)], "question": "What?", "answer": " "},
        ],
        "asked.parquet",
    )
    source = open_at(asked)
    assert (len(source), source.left_out) == (2, 1)
    assert spoken(source[0]) == [("user", [None, "What?"]), ("assistant", ["That."])]
    assert spoken(source[1]) == [("user", ["2 + 2?"]), ("assistant", ["4"])]
    captioned = write(
        [
            {"codes": [codes(1, 1)], "caption": "one", "kind": "photo"},
            {"codes": [codes(2, 2)], "caption": None, "kind": "photo"},
            {"codes": [codes(3, 3)], "caption": "three", "kind": "art"},
            {"codes": [], "caption": "none", "kind": "none"},
        ],
        "captioned.parquet",
    )
    source = open_at(captioned, row_weights={"photo": 2, "none": 1})
    assert [source[n].id for n in range(3)] == ["set/0", "set/0", "set/2"]
    assert spoken(source[0]) == [("user", [None, question_for("set/0")]), ("assistant", ["one"])]
    assert error_of(source.__getitem__, 3).endswith("its caption is of 0 images, not of one")
    whole = open_at(captioned, need_text=False)
    assert [(len(s.images), s.messages) for s in whole] == [(1, ()), (1, ()), (1, ()), (0, ())]


def test_paths_of_the_pictures_may_lie_beside_their_codes(write, tmp_path):
    path = write([{"image": "gone.jpg", "codes": [codes(1, 2)], "caption": "a"}])
    assert open_at(path)[0].images == (codes(1, 2),)


def test_kinds_and_splits(write, tmp_path):
    row = {"codes": [codes(1, 1)], "caption": "a"}
    write([row])
    write([row] * 2, "set/data/validation-00000-of-00001.parquet")
    # Rows that could not be encoded are listed beside data/, which is not to be taken for data.
    pq.write_table(pa.table({"id": ["x"], "reason": ["y"]}), tmp_path / "set" / "errors.parquet")
    folder = tmp_path / "set"
    assert len(open_at(folder)) == len(open_at(folder, kind="codes")) == 1
    assert len(open_at(folder, split="validation")) == 2
    assert error_of(lambda: open_at(folder, split="test")) == (
        f"{folder / 'data'}: no test-*.parquet here"
    )
    write([row] * 3, "flat/train-00000-of-00001.parquet")
    assert len(open_at(tmp_path / "flat")) == 3
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"image": [b"x"], "caption": ["y"]}), other)
    assert type(open_at(other)) is TableSource
    assert error_of(lambda: open_at(other, kind="codes")) == (
        f"{other}: is none of a code data set: its metadata have no entry 'viq'"
    )


def test_shards_must_be_of_one_tokenizer(write, tmp_path):
    write([{"codes": [codes(1, 1)], "caption": "a"}], "set/train-0.parquet")
    write([{"codes": [codes(1, 1, "cd" * 32)], "caption": "a"}], "set/train-1.parquet")
    message = error_of(open_at, tmp_path / "set")
    assert message.startswith(f"{tmp_path / 'set' / 'train-1.parquet'}: its fingerprint is 'cdcd")


@pytest.mark.parametrize(
    ("column", "cells", "message"),
    [
        ("codes", [[1, 2, 3]], "it has 3 codes, but its grids [(1, 2)] with 2 code heads take 4"),
        ("codes", [None], "codes is missing"),
        ("codes", [[1, 2, 3, None]], "codes are float64 with 1 axes, not a list of integers"),
        (
            "codes",
            [[1, 2, 64_000, 3]],
            "image 0: code 64000 of patch 1, head 0, is not below the codebook size, 64000",
        ),
        (
            "grid_sizes",
            [[[1, 3]]],
            "it has 4 codes, but its grids [(1, 3)] with 2 code heads take 6",
        ),
    ],
)
def test_bad_rows_are_refused_when_they_are_read(write, column, cells, message):
    path = write([{"id": "a", "codes": [codes(1, 2)], "caption": "a"}])
    table = pq.read_table(path)
    place = table.column_names.index(column)
    table = table.set_column(place, column, pa.array(cells, table.schema.field(column).type))
    pq.write_table(table, path)
    source = open_at(path)
    with pytest.raises(CodesError) as caught:
        source[0]
    assert str(caught.value) == f"{path}: sample set/a: {message}"


def test_other_processes_read_the_same_and_get_no_codes_sent(write):
    rows = [{"codes": [codes(20, 20)], "caption": f"{n}"} for n in range(50)]
    source = open_at(write(rows))
    sent = pickle.dumps(source)
    assert len(sent) < 10_000 < 50 * 20 * 20 * 2 * 2
    again = pickle.loads(sent)
    assert [(s.id, s.images, s.messages) for s in again] == [
        (s.id, s.images, s.messages) for s in source
    ]


def test_text_without_codes_needs_a_text_column(write, tmp_path):
    path = write([{"codes": [codes(1, 1)], "name": "a"}])
    assert error_of(open_at, path) == (
        f"{path}: no column of text (messages, conversations, question and answer, caption, txt,"
        " text); there are: name, codes, grid_sizes, original_sizes, encoded_sizes"
    )
    assert open_at(path, need_text=False)[0].images == (codes(1, 1),)
