"""Tables, differences and figures of answers."""

import pytest
from PIL import Image

from viq.evaluation.document import Document, Score
from viq.evaluation.provenance import Provenance
from viq.evaluation.samples import Samples
from viq.evaluation.understanding.assemble import Asked, all_failures, assemble, has_scores
from viq.evaluation.understanding.results import Result, blind_part, seen_part
from viq.evaluation.understanding.synthetic import SYNTHETIC
from viq.evaluation.understanding.tables import difference_table, score_table, short

TASKS = {task.name: task for task in SYNTHETIC}
MADE = Provenance(
    command="viq", date="2025-01-01", commit=None, hardware="x", threads=1, versions={}
)
COUNT = 6


def result(model, task, scores, *, suite="offline", **more) -> Result:
    named = {str(number): score for number, score in enumerate(scores) if score is not None}
    return Result(model=model, suite=suite, task=task, metric="exact", scores=named, **more)


def rows(table):
    return {(row[0], row[-3] if table.title == "Difference" else row[1]): row for row in table.rows}


def test_scores_are_percent_with_chance_and_without_pictures():
    found = [
        result("a", "one", [1, 0, 1, 1], chance=0.5, blind={"0": 1.0, "1": 0.0}, failed=2),
        result("b", "one", [0, 0, 0, 0], chance=0.5),
        result("a", "two", [0, 0], chance=0.1, blind={"0": 0.0}),
        result("b", "two", [], failed=2),
    ]
    table = rows(score_table(found))
    _, task, metric, score, chance, blind, items, left_out = table["a", "one"]
    assert (task, metric, chance, items, left_out) == ("one", "exact", 50, 4, 2)
    assert (score.value, score.count, blind.value) == (75, 4, 50)
    assert score.low < 75 < score.high
    assert table["b", "one"][5] is None
    assert table["b", "two"][3:] == (None, None, None, 0, 2)
    average = table["a", "average (offline)"]
    assert (average[3].value, average[5].value) == (37.5, 25)
    assert average[4] == pytest.approx(30)
    assert ("b", "average (offline)") not in table  # there is one task


def test_differences_are_over_the_items_that_both_have():
    found = [
        result("reference", "one", [1, 1, 0, None]),
        result("a", "one", [0, 1, None, 1]),
        result("reference", "two", [0, 0]),
        result("a", "two", [1, 1]),
        result("reference", "three", [0, 1], suite="benchmarks"),
        result("a", "three", [1, 1], suite="benchmarks"),
        result("a", "four", [1, 1], suite="benchmarks"),  # which the reference has not
    ]
    table = difference_table(found, "reference")
    seen = {row[2]: row[3] for row in table.rows}
    assert {row[:2] for row in table.rows} == {("a", "reference")}
    assert [row[2] for row in table.rows] == ["average (offline)", "one", "two", "three"]
    assert {name: (score.value, score.count) for name, score in seen.items()} == {
        "one": (-50, 2),
        "two": (100, 2),
        "three": (50, 2),
        "average (offline)": (25, 4),
    }
    assert seen["two"].low == seen["two"].high == 100
    assert difference_table(found[:1], "reference").rows == ()


def answers(samples, model, task, answer, *, broken=()):
    for part in (seen_part, blind_part):
        records = {}
        for place, item in enumerate(task.items(COUNT)):
            text = answer(item) if part is seen_part else "?"
            records[item.id] = {
                "place": place,
                "question": item.content[-1]["text"],
                "right": list(item.answers),
                "facts": {},
                "answer": text,
                "score": task.score(item, text),
                "measures": dict(task.measures(item, text)),
            }
            if place in broken and part is seen_part:
                records[item.id] = {"place": place, "failed": "is damaged"}
        samples.add(part(model, task.name), records)


@pytest.fixture
def asked() -> Asked:
    tasks = [TASKS["words"], TASKS["charts"]]
    return Asked(
        tasks={"offline": tasks}, models=["good", "bad"], reference="good", count=COUNT, blind=True
    )


def test_a_document_has_all_tables_and_figures(asked, tmp_path):
    with Samples.open(tmp_path, {}) as samples:
        assert not has_scores(asked, samples)
        for task in asked.all_tasks:
            answers(samples, "good", task, lambda item: item.answers[0])
            answers(samples, "bad", task, lambda item: item.answers[0][1:] + "!", broken=(2,))
        assert has_scores(asked, samples)
        assert all_failures(asked, samples) == {
            "bad: words: 2": "is damaged",
            "bad: charts: 2": "is damaged",
        }
        assemble(asked, samples, tmp_path, made=MADE, notes=["Left out."]).save(tmp_path)
    document = Document.load(tmp_path)
    tables = {table.title: table for table in document.tables}
    assert list(tables) == ["Difference", "Understanding", "Reading", "Examples"]
    assert [row[3].value for row in tables["Difference"].rows] == [-100, -100, -100]
    assert [row[4] for row in tables["Difference"].rows] == [10, 5, 5]
    good, bad = tables["Reading"].rows
    assert (good[2], good[3].value) == (Score(value=0, low=0, high=0, count=6), 100)
    assert 0 < bad[2].value < 100
    assert {row[0] for row in tables["Examples"].rows} == {"good", "bad"}
    assert document.notes[-1] == "Left out."
    assert any("Differences are from good" in note for note in document.notes)
    assert document.data["scores"][0]["score"]["value"] == 100
    for figure in document.figures:
        with Image.open(tmp_path / figure.file) as image:
            assert image.width >= 600
    assert [f.file for f in document.figures] == ["differences.png", "scores.png", "examples.png"]


def test_one_model_alone_has_no_differences(asked, tmp_path):
    one = Asked(
        tasks={"offline": [TASKS["charts"]]},
        models=["good"],
        reference="good",
        count=COUNT,
        blind=False,
    )
    with Samples.open(tmp_path, {}) as samples:
        answers(samples, "good", TASKS["charts"], lambda _: "nothing")
        document = assemble(one, samples, tmp_path, made=MADE)
    assert [table.title for table in document.tables] == ["Understanding", "Examples"]
    assert document.tables[0].rows[0][5] is None
    assert [figure.file for figure in document.figures] == ["scores.png", "examples.png"]


def test_long_texts_are_one_short_line():
    assert short("a\n b") == "a b"
    assert short("x" * 200) == "x" * 117 + "..."
