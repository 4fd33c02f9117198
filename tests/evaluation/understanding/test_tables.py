"""Tables, differences and figures of answers."""

import pytest
from PIL import Image

from viq.evaluation.document import Document
from viq.evaluation.provenance import Provenance
from viq.evaluation.samples import Samples
from viq.evaluation.understanding.assemble import Asked, assemble, has_scores
from viq.evaluation.understanding.results import Result, blind_part, seen_part
from viq.evaluation.understanding.synthetic import SYNTHETIC
from viq.evaluation.understanding.tables import difference_table, part_tables, score_table, short

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
    assert "so this chance is too high" in score_table(found).note
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
    assert seen["two"].low < seen["two"].high == 100  # two items show little
    assert difference_table(found[:1], "reference").rows == ()


def test_probes_have_no_average():
    found = [
        result(model, task, [1, 0], suite="probes") for task in ("x", "y") for model in ("a", "b")
    ]
    assert [row[1] for row in score_table(found).rows] == ["x", "x", "y", "y"]
    assert [row[2] for row in difference_table(found, "a").rows] == ["x", "y"]


def test_scores_are_broken_down():
    parts = {"subject": {"0": "Music", "1": "Art", "2": "Music"}, "hard": {"0": "1", "1": "1"}}
    parts["hard"] |= {"2": "2"}
    found = [
        result("a", "MMMU", [1, 0, 0], parts=parts),
        result("b", "MMMU", [1, 1, None], parts=parts),
        result("a", "other", [1]),
    ]
    tables = part_tables(found)
    assert [table.title for table in tables] == ["MMMU by subject", "MMMU by hard"]
    assert [column.name for column in tables[0].columns] == ["Model", "Part", "Score", "Questions"]
    assert [(row[0], row[1], row[2].value, row[3]) for row in tables[0].rows] == [
        ("a", "Art", 0, 1),
        ("b", "Art", 100, 1),
        ("a", "Music", 50, 2),
        ("b", "Music", 100, 1),
    ]
    assert [row[:2] for row in tables[1].rows] == [("a", "1"), ("b", "1"), ("a", "2")]


def answers(samples, model, task, answer, *, broken=(), too_long=()):
    known = {"fingerprint": model, "sees": "codes", "width": 8, "lm": "x (1.0 M)"}
    if model not in samples.of("models"):
        limit = 1000 if model == "good" else 2000
        samples.add("models", {model: known | {"bits_per_pixel": 0.25, "max_pixels": limit}})
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
            if place in too_long:
                records[item.id] |= {"too_long": "takes 9 tokens", "answer": "", "score": 0.0}
            if place in broken and part is seen_part:
                del records[item.id]
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
        assemble(asked, samples, tmp_path, made=MADE, notes=["Left out."]).save(tmp_path)
    document = Document.load(tmp_path)
    tables = {table.title: table for table in document.tables}
    assert list(tables) == ["Difference", "Understanding", "Models", "Reading", "Examples"]
    assert {row[:2]: row[-1] for row in tables["Understanding"].rows if row[1] == "Charts"} == {
        ("good", "Charts"): None,
        ("bad", "Charts"): 1,
    }
    assert [row[3].value for row in tables["Difference"].rows] == [-100, -100, -100]
    assert [row[4] for row in tables["Difference"].rows] == [10, 5, 5]
    good, bad = tables["Reading"].rows
    assert (good[2].value, good[2].low, good[3].value, good[2].count) == (0, 0, 100, 6)
    assert good[2].high == pytest.approx(39.03, abs=0.01)  # Wilson's
    assert 0 < bad[2].value < 100
    assert {row[0] for row in tables["Examples"].rows} == {"good", "bad"}
    assert document.notes[-1] == "Left out."
    assert any("more than 1,000 pixels were scaled down for all" in n for n in document.notes)
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
        max_pixels=500,
    )
    with Samples.open(tmp_path, {}) as samples:
        answers(samples, "good", TASKS["charts"], lambda _: "nothing", too_long=(1,))
        document = assemble(one, samples, tmp_path, made=MADE)
    assert [table.title for table in document.tables] == ["Understanding", "Models", "Examples"]
    assert document.notes[1:] == (
        document.notes[1],  # of what is drawn
        "Pictures of more than 500 pixels were scaled down.",
        "good, Charts: questions too long for the language model, which score 0: 1; without"
        " pictures: 1.",
    )
    assert document.tables[0].rows[0][5] is None
    assert [figure.file for figure in document.figures] == ["scores.png", "examples.png"]


def test_long_texts_are_one_short_line():
    assert short("a\n b") == "a b"
    assert short("x" * 200) == "x" * 117 + "..."
