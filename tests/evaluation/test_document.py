"""Documents: what an evaluation writes, and what reports make of several."""

import json
import math
import os
from dataclasses import replace

import pytest
from PIL import Image

from viq.errors import InputError
from viq.evaluation.document import (
    Column,
    Document,
    Figure,
    Score,
    Table,
    best_cells,
    cell_text,
    join_tables,
    numeric_columns,
    table_markdown,
    value_of,
)
from viq.evaluation.provenance import Provenance

MADE = Provenance(
    command="viq eval codes",
    date="2026-11-22",
    commit=None,
    hardware="A processor x 2",
    threads=1,
    versions={"viq": "0.1.0"},
)
SUBJECT = Column(name="subject")
PSNR = Column(name="PSNR", unit="dB", better="higher")
ERROR = Column(name="error", unit="%", digits=1, better="lower")
TABLE = Table(
    title="Quality",
    columns=(SUBJECT, PSNR, ERROR),
    rows=(
        ("nano", Score(value=24.0, low=23.5, high=24.75, count=13), 12),
        ("JPEG", 25.126, None),
        ("PNG", math.inf, -0.04),
    ),
    note="13 photographs.",
)
DOCUMENT = Document(
    kind="reconstruction",
    title="Reconstruction",
    made=MADE,
    tables=(TABLE,),
    figures=(Figure(file="curve.png", title="Curve", caption="PSNR over bits."),),
    notes=("A note.",),
    data={"by picture": {"a": [1, 2.5, None]}},
)


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "curve.png")
    return tmp_path


def test_what_is_loaded_is_what_was_saved(folder):
    DOCUMENT.save(folder)
    assert Document.load(folder) == DOCUMENT
    assert sorted(os.listdir(folder)) == ["curve.png", "result.json", "result.md"]


def test_saving_twice_gives_the_same_bytes(folder):
    DOCUMENT.save(folder)
    before = (folder / "result.json").read_bytes()
    Document.load(folder).save(folder)
    assert (folder / "result.json").read_bytes() == before


def test_names_that_are_no_text_can_be_saved(folder):
    name = b"\xff".decode("utf-8", "surrogateescape") + "\u2028|日本"
    document = replace(DOCUMENT, tables=(replace(TABLE, rows=((name, 1.0, 2.0),)),))
    document.save(folder)
    assert Document.load(folder) == document


def test_a_figure_must_be_there(tmp_path):
    with pytest.raises(ValueError, match=r"the document has no figure curve\.png\."):
        DOCUMENT.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_result_is_named(tmp_path):
    with pytest.raises(InputError) as error:
        Document.load(tmp_path)
    assert str(error.value) == f"{tmp_path}: no result.json here, so this is no evaluation"


@pytest.mark.parametrize(
    "change",
    [
        lambda content: "",
        lambda content: "{",
        lambda content: content | {"more": 1},
        lambda content: {k: v for k, v in content.items() if k != "made"},
        lambda content: content | {"made": 3},
        lambda content: content | {"tables": 3},
        lambda content: content | {"tables": [{"title": "x", "columns": [], "rows": [[1]]}]},
        lambda content: (
            content
            | {"tables": [{"title": "x", "columns": [{"name": "a", "better": "big"}], "rows": []}]}
        ),
        lambda content: (
            content | {"tables": [{"title": "x", "columns": [{"name": "a"}], "rows": [[[1]]]}]}
        ),
        lambda content: (
            content
            | {"tables": [{"title": "x", "columns": [{"name": "a"}], "rows": [[{"worth": 1}]]}]}
        ),
        lambda content: content | {"tables": [{"title": "x", "columns": [], "rows": [[]]}]},
        lambda content: (
            content | {"tables": [{"title": "x", "columns": [{"name": "a"}], "rows": [[10**400]]}]}
        ),
        lambda content: (
            content
            | {"tables": [{"title": "x", "columns": [{"name": "a", "digits": -1}], "rows": []}]}
        ),
        lambda content: (
            content
            | {"tables": [{"title": "x", "columns": [{"name": "a", "digits": 10**9}], "rows": []}]}
        ),
        lambda content: content | {"figures": [{"file": "a\0b", "title": "", "caption": ""}]},
        lambda content: content | {"figures": [{"file": "\ud800", "title": "", "caption": ""}]},
        lambda content: "[" * 100_000,
    ],
)
def test_a_damaged_result_is_named(change, folder):
    DOCUMENT.save(folder)
    path = folder / "result.json"
    content = change(json.loads(path.read_text("utf-8")))
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError) as error:
        Document.load(folder)
    assert str(error.value) == (
        f"{path}: not a result of viq eval, or damaged; repeat its viq eval, or remove the folder"
    )


@pytest.mark.parametrize(("content", "found"), [('{"format": 2}', 2), ("{}", None), ("[]", None)])
def test_another_format_is_named(content, found, tmp_path):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(InputError) as error:
        Document.load(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / 'result.json'}: a result of format {found}; this version reads 1"
    )


def test_what_cannot_be_read_is_not_called_damaged(tmp_path):
    (tmp_path / "result.json").mkdir()
    with pytest.raises(InputError) as error:
        Document.load(tmp_path)
    assert str(error.value) == f"{tmp_path / 'result.json'}: cannot be read: Is a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_a_result_that_may_not_be_read_says_so(folder):
    DOCUMENT.save(folder)
    (folder / "result.json").chmod(0)
    with pytest.raises(InputError, match=r"result\.json: cannot be read: Permission denied"):
        Document.load(folder)


def test_a_table_has_a_column():
    with pytest.raises(ValueError, match=r"a table has no column\."):
        Table(title="x", columns=(), rows=())


@pytest.mark.parametrize("digits", [-1, 13])
def test_digits_are_as_many_as_can_be_read(digits):
    with pytest.raises(ValueError, match=rf"digits is {digits}; it must be in 0\.\.12\."):
        Column(name="x", digits=digits)


@pytest.mark.parametrize("file", ["a\0b", "\ud800"])
def test_a_figure_has_a_files_name(file):
    with pytest.raises(ValueError, match=r"null character|surrogates not allowed"):
        Figure(file=file, title="x", caption="x")


def test_a_row_has_a_cell_for_each_column():
    with pytest.raises(ValueError, match=r"a row has 2 cells for 1 columns\."):
        Table(title="x", columns=(SUBJECT,), rows=(("a", 1),))


@pytest.mark.parametrize(
    ("cell", "digits", "text"),
    [
        (None, 2, "–"),
        ("as it is", 2, "as it is"),
        (1234, 2, "1,234"),
        (1234.5, 2, "1,234.50"),
        (0.12345, 4, "0.1235"),
        (-0.001, 2, "0.00"),
        (-1.5, 0, "-2"),
        (math.inf, 2, "∞"),
        (-math.inf, 2, "-∞"),
        (math.nan, 2, "nan"),
        (Score(value=25.4, low=25.1, high=25.714), 2, "25.40 [25.10, 25.71]"),
        (Score(value=25.4, low=-0.001, high=math.inf), 2, "25.40 [0.00, ∞]"),
        (Score(value=25.4), 1, "25.4"),
        (Score(value=25.4, low=25.4, high=25.4), 1, "25.4"),
        (Score(value=25.4, low=25.4, high=25.4, count=3), 1, "25.4 [25.4, 25.4]"),
        (Score(value=25.4, low=25.0), 1, "25.4"),
    ],
)
def test_cells_are_written_as_people_read_them(cell, digits, text):
    assert cell_text(cell, Column(name="x", digits=digits)) == text


def test_the_number_in_a_cell():
    assert [value_of(cell) for cell in (None, "7", 7, 7.5, Score(value=8))] == [
        None,
        None,
        7,
        7.5,
        8,
    ]


def test_the_best_are_marked_where_there_is_a_choice():
    def best(*values, better="higher"):
        columns = (SUBJECT, Column(name="x", better=better))
        rows = tuple((str(i), value) for i, value in enumerate(values))
        return sorted(r for r, _ in best_cells(Table(title="", columns=columns, rows=rows)))

    assert best(1, 3.0, Score(value=2)) == [1]
    assert best(1, 3.0, Score(value=3.0, low=1, high=5)) == [1, 2]
    assert best(1, 3.0, None, better="lower") == [0]
    assert best(1, math.inf) == [1]
    assert best(1, math.nan, 2) == [2]
    assert best(math.nan, 1, 2) == [2]
    assert best(math.nan, 1) == []
    assert best(2, 2) == best(None, 2) == best("a", 2) == best() == []
    assert best(1, 2, better=None) == []
    assert best(Score(value=1, count=5), Score(value=2, count=5), 3) == [2]
    assert best(Score(value=1, count=5), Score(value=2, count=5), Score(value=3)) == [2]
    assert best(Score(value=1, count=5), Score(value=2, count=6), 3) == []
    assert best(Score(value=1, count=5), Score(value=math.nan, count=6), 3) == [2]


def test_columns_of_numbers_are_those_with_one_or_without_text():
    columns = tuple(Column(name=name) for name in "abcd")
    rows = (("x", 1.0, None, "y"), ("x", "equal", None, None))
    table = Table(title="", columns=columns, rows=rows)
    assert numeric_columns(table) == [False, True, True, False]


def test_the_table_in_markdown():
    assert table_markdown(TABLE).split("\n") == [
        "| subject | PSNR (dB) | error (%) |",
        "| :-- | --: | --: |",
        "| nano | 24.00 [23.50, 24.75] | 12 |",
        "| JPEG | 25.13 | – |",
        "| PNG | **∞** | **0.0** |",
    ]


def test_a_bar_line_end_or_bracket_in_a_name_breaks_no_row():
    table = replace(TABLE, rows=(("a|b\nc <d>", 1.0, 2.0),))
    assert table_markdown(table).split("\n")[2:] == ["| a\\|b c \\<d> | 1.00 | 2.0 |"]


def test_the_document_in_markdown(folder):
    DOCUMENT.save(folder)
    text = (folder / "result.md").read_text("utf-8")
    assert text == DOCUMENT.markdown()
    assert text.split("\n\n") == [
        "# Reconstruction",
        MADE.line(),
        "A note.",
        "## Quality",
        table_markdown(TABLE),
        "13 photographs.",
        "![PSNR over bits.](curve.png)",
        "*Curve*\n",
    ]
    below = DOCUMENT.markdown(level=2, figures="pictures/")
    assert below.startswith("## Reconstruction\n")
    assert "\n### Quality\n" in below
    assert "(pictures/curve.png)" in below


def test_tables_of_one_title_and_columns_are_joined():
    other = replace(TABLE, rows=(("giant", 30.0, 1.0), TABLE.rows[1]), note="200 scans.")
    apart = replace(TABLE, title="Another")
    wider = Table(title="Quality", columns=(*TABLE.columns, SUBJECT), rows=())
    joined = join_tables([TABLE, apart, other, wider, TABLE])
    assert joined == [
        replace(TABLE, rows=(*TABLE.rows, other.rows[0]), note="13 photographs. 200 scans."),
        apart,
        wider,
    ]
    assert join_tables([]) == []
