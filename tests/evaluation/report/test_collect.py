"""What a report puts side by side."""

import json
import os

import pytest

from viq.errors import InputError
from viq.evaluation.document import KINDS, Column, Table
from viq.evaluation.report.collect import (
    collect,
    dates_and_commits,
    files_of,
    find_documents,
    load_document,
    sources_of,
)


@pytest.fixture
def sections():
    """Collects the documents in folders."""
    return lambda *folders: collect([(folder, load_document(folder)) for folder in folders])


def test_documents_are_found_at_any_depth_but_hidden_folders(save, tmp_path):
    folders = [save(folder=name) for name in ("b", "a/deep/down", "a")]
    save(folder=".old/a")
    save(folder="a/.git/b")
    assert find_documents([tmp_path / "results"]) == sorted(folders)


def test_a_folder_that_is_named_twice_counts_once_where_it_was_first(save, tmp_path):
    a, b = save(folder="a"), save(folder="b")
    (tmp_path / "link").symlink_to(a)
    found = find_documents([b, tmp_path / "link", tmp_path / "results", a])
    assert found == [b, tmp_path / "link"]


def test_a_hidden_folder_that_is_named_is_searched(save):
    folder = save(folder=".results/a")
    assert find_documents([folder.parent]) == [folder]


def test_no_folder_and_no_document_are_named(tmp_path):
    (tmp_path / "file").touch()
    for path, reason in [
        (tmp_path / "none", "no such folder"),
        (tmp_path / "file", "no such folder"),
        (tmp_path, "no result.json in this folder, so no evaluation"),
    ]:
        with pytest.raises(InputError) as error:
            find_documents([path])
        assert str(error.value) == f"{path}: {reason}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list all")
def test_a_folder_that_cannot_be_listed_is_named(save, tmp_path):
    save(folder="a")
    closed = tmp_path / "results" / "closed"
    closed.mkdir(mode=0)
    with pytest.raises(InputError, match="closed: cannot be listed: Permission denied"):
        find_documents([tmp_path / "results"])


@pytest.mark.parametrize("file", ["../secret.png", "/etc/secret.png", "a/../../b.png"])
def test_a_figure_outside_the_folder_is_refused(file, save):
    folder = save()
    path = folder / "result.json"
    content = json.loads(path.read_text("utf-8"))
    content["figures"][0]["file"] = file
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        load_document(folder)
    assert str(error.value) == f"{path}: names a figure outside its folder, {file}"


def test_files_of_a_document_are_all_that_it_was_saved_as(save):
    folder = save()
    assert sorted(files_of(folder, load_document(folder))) == sorted(folder.iterdir())


def test_kinds_come_in_their_order_and_unknown_ones_last(save, sections):
    folders = [save(kind=kind) for kind in ("new", *reversed(KINDS))]
    found = sections(*folders)
    assert [section.kind for section in found] == [*KINDS, "new"]
    assert [source.number for source in sources_of(found)] == [1, 2, 3, 4, 5, 6]


def test_rows_of_all_evaluations_stand_in_one_table_with_whose_they_are(save, sections, rows):
    (section,) = sections(save("nano"), save("giant", psnr=30.0))
    (joined,) = section.tables
    assert joined.table.rows == (*rows("nano"), rows("giant", 30.0)[0])
    assert [[source.number for source in sources] for sources in joined.rows] == [[1], [1, 2], [2]]
    assert [(note.text, len(note.sources)) for note in joined.notes] == [("13 photos.", 2)]


def test_rows_of_one_name_stand_below_each_other(save, sections):
    columns = (Column(name="task"), Column(name="score"))

    def tables(*scores):
        rows = tuple(zip(("words", "lines"), scores, strict=True))
        return (Table(title="Scores", columns=columns, rows=rows),)

    (section,) = sections(save("a", tables=tables(1, 2)), save("b", tables=tables(3, 4)))
    (joined,) = section.tables
    assert joined.table.rows == (("words", 1), ("words", 3), ("lines", 2), ("lines", 4))
    assert [source.number for sources in joined.rows for source in sources] == [1, 2, 1, 2]


def test_a_table_of_one_evaluation_keeps_its_order(save, sections):
    columns = (Column(name="model"), Column(name="size"))
    rows = (("nano", 256), ("JPEG", 256), ("nano", 512), ("JPEG", 512))
    (section,) = sections(save(tables=(Table(title="Time", columns=columns, rows=rows),)))
    assert section.tables[0].table.rows == rows


def test_tables_with_other_columns_stay_apart(save, sections):
    other = Table(title="Quality", columns=(Column(name="subject"),), rows=(("b",),))
    (section,) = sections(save("a"), save("b", tables=(other,)))
    assert [len(joined.sources) for joined in section.tables] == [1, 1]


def test_tables_of_other_kinds_stay_apart(save, sections):
    found = sections(save("a", "reconstruction"), save("a", "storage"))
    assert [len(section.tables) for section in found] == [1, 1]


def test_figures_of_one_title_stand_together(save, sections):
    (section,) = sections(save("a"), save("b"))
    ((title, figures),) = [(joined.title, joined.figures) for joined in section.figures]
    assert (title, [source.number for source, _ in figures]) == ("Curve", [1, 2])


def test_figures_follow_the_table_of_their_title(save, sections):
    columns = (Column(name="a"),)
    titles = ("Quality", "Curve", "Curve", "Time")
    tables = tuple(
        Table(title=title, columns=columns * (1 + i), rows=()) for i, title in enumerate(titles)
    )
    (section,) = sections(save(tables=tables))
    found = [(table.table.title, bool(figures)) for table, figures in section.parts()]
    assert found == [("Quality", False), ("Curve", True), ("Curve", False), ("Time", False)]
    (section,) = sections(save("b"))
    ((_, none), (no_table, figures)) = section.parts()
    assert (none, no_table, figures.title) == (None, None, "Curve")


def test_equal_notes_are_said_once(save, sections):
    (section,) = sections(save("a", notes=("Same.", "Only a.")), save("b", notes=("Same.",)))
    assert [(note.text, len(note.sources)) for note in section.notes] == [
        ("Same.", 2),
        ("Only a.", 1),
    ]


def test_dates_are_a_span(save, sections):
    found = sections(save("a", date="2026-11-22"), save("b", date="2026-11-20"))
    assert dates_and_commits(sources_of(found)) == "2026-11-20 to 2026-11-22, commit 2e62485"
    assert dates_and_commits(sources_of(found)[:1]) == "2026-11-22, commit 2e62485"
