"""Answers, against texts that were drawn and against scenes with known contents."""

import re

import numpy as np
import pytest

from viq.data.synthetic import charts, passages, receipts, shapes, tables
from viq.data.synthetic.fonts import find_fonts
from viq.data.synthetic.kit import Kit, ordinal
from viq.data.synthetic.shapes import Thing
from viq.data.synthetic.source import SyntheticSource
from viq.data.synthetic.tables import Column
from viq.data.synthetic.words import Words

KIT = Kit(split="train", fonts=find_fonts("train"), words=Words(split="train"))


def every_turn(make):
    """All turns that many draws give: wording of the key -> {values of the wording: answer}."""
    turns = {}
    for seed in range(60):
        turns.update(dict(make(np.random.default_rng(seed))))
    return turns


def answers(turns, questions, **values):
    """The answers to any wording of a question."""
    asked = {phrase.format(**values) for phrase in questions}
    return {turns[question] for question in asked & set(turns)}


@pytest.mark.parametrize(
    "task", ["words", "documents", "receipts", "forms", "screens", "tables", "passages"]
)
def test_all_words_of_an_answer_are_in_the_picture(task, drawn):
    source, checked = SyntheticSource((task,), seed=4), 0
    for k in range(80):
        drawn.clear()
        sample = source[k]
        there = {word for item in drawn for word in re.findall(r"\w+", item.text)}
        for message in sample.messages[1::2]:
            answer = message["content"][0]["text"]
            if answer.isdigit() or answer in ("yes", "no") or re.fullmatch(r"\w( \w)*", answer):
                continue  # counts, and letters of a word
            checked += 1
            assert set(re.findall(r"\w+", answer)) <= there, answer
    assert checked > 30


def test_transcriptions_are_what_was_drawn(drawn):
    source, checked = SyntheticSource(("words",), seed=6), 0
    for k in range(60):
        drawn.clear()
        sample = source[k]
        for question, answer in zip(sample.messages[::2], sample.messages[1::2], strict=True):
            if question["content"][-1]["text"] in ("Read the text.", "What does it say?"):
                checked += 1
                text = answer["content"][0]["text"]
                assert text == "\n".join(item.text for item in drawn)
    assert checked > 3


def test_scraps_are_answered_by_their_letters(drawn):
    source, lengths = SyntheticSource(("scraps",), seed=6), set()
    for k in range(60):
        drawn.clear()
        sample = source[k]
        assert sample.messages[1]["content"][0]["text"] == "".join(item.text for item in drawn)
        lengths.add(len(drawn[0].text))
    assert {1, 2, 3} < lengths


def test_lookups_in_a_table():
    columns = [
        Column(name="City", cells=["Rome", "Oslo", "Lima"]),
        Column(name="Count", cells=["7", "30", "12"], values=[7, 30, 12]),
        Column(name="Code", cells=["A1", "B2", "C3"]),
    ]
    turns = every_turn(lambda rng: tables._turns(rng, KIT, columns, "The title"))
    ask = tables.QUESTIONS
    assert answers(turns, ask["cell"], row="Oslo", column="Count") == {"30"}
    assert answers(turns, ask["cell"], row="Lima", column="Code") == {"C3"}
    assert answers(turns, ask["key"], value="12", column="Count") == {"Lima"}
    assert answers(turns, ask["most"], column="Count") == {"Oslo"}
    assert answers(turns, ask["least"], column="Count") == {"Rome"}
    assert answers(turns, ask["most"], column="Code") == set()
    assert answers(turns, ask["sum"], column="Count") == {"49"}
    assert answers(turns, ask["rows"]) == {"3"}
    assert answers(turns, ask["columns"]) == {"3"}
    assert answers(turns, ask["header"], number=2, ordinal="second") == {"Count"}
    assert answers(turns, ask["place"], row=2, column=3) == {"B2"}
    assert answers(turns, ask["row"], row="Lima") == {"Lima, 12, C3"}
    assert answers(turns, ask["title"]) == {"The title"}
    rows = "| City | Count | Code |\n| --- | --- | --- |\n| Rome | 7 | A1 |\n"
    assert answers(turns, ask["markdown"]) == {rows + "| Oslo | 30 | B2 |\n| Lima | 12 | C3 |"}


def test_a_table_with_ties_has_no_single_extreme():
    columns = [
        Column(name="Item", cells=["Tea", "Oil", "Jam"]),
        Column(name="Stock", cells=["5", "5", "5"], values=[5, 5, 5]),
    ]
    turns = every_turn(lambda rng: tables._turns(rng, KIT, columns, ""))
    for key in ("most", "least"):
        assert answers(turns, tables.QUESTIONS[key], column="Stock") == set()
    assert answers(turns, tables.QUESTIONS["key"], value="5", column="Stock") == set()


def thing(shape, color, row, column, letter=""):
    return Thing(
        shape=shape,
        color=color,
        pen=(0, 0, 0),
        row=row,
        column=column,
        centre=(100.0 * column, 100.0 * row),
        letter=letter,
    )


def test_counts_and_relations_of_shapes():
    grid = [
        thing("circle", "red", 0, 0, "A"),
        thing("square", "blue", 0, 1, "B"),
        thing("circle", "green", 1, 0, "C"),
        thing("square", "blue", 1, 2, "D"),
    ]
    turns = every_turn(lambda rng: shapes._turns(rng, KIT, grid, "grid", 100))
    ask = shapes.QUESTIONS
    assert answers(turns, ask["all"]) == {"4"}
    assert answers(turns, ask["colors"]) == {"3"}
    assert answers(turns, ask["kind"], shapes="circles") == {"2"}
    assert answers(turns, ask["color"], color="blue") == {"2"}
    assert answers(turns, ask["both"], color="blue", shapes="squares") == {"2"}
    assert answers(turns, ask["both"], color="red", shapes="squares") == {"0"}
    assert answers(turns, ask["color of"], shape="circle") == set()
    assert answers(turns, ask["shape of"], color="green") == {"circle"}
    assert answers(turns, ask["right"], thing="red circle") == {"blue square"}
    assert answers(turns, ask["below"], thing="red circle") == {"green circle"}
    assert answers(turns, ask["above"], thing="green circle") == {"red circle"}
    assert answers(turns, ask["left"], thing="red circle") == set()
    assert answers(turns, ask["right"], thing="green circle") == set()  # an empty place
    assert answers(turns, ask["left"], thing="blue square") == set()  # there are two
    above = {"first": "red circle", "second": "green circle"}
    assert answers(turns, ask["is above"], **above) == {"yes"}
    assert answers(turns, ask["is left"], **above) == set()  # neither
    assert answers(turns, ask["letter"], thing="red circle") == {"A"}
    assert answers(turns, ask["which"], letter="C") == {"green circle"}


def test_shapes_in_a_row_are_counted_from_the_left():
    row = [thing("cross", "red", 0, 0), thing("star", "red", 0, 1), thing("cross", "pink", 0, 2)]
    turns = every_turn(lambda rng: shapes._turns(rng, KIT, row, "row", 100))
    ask = shapes.QUESTIONS
    assert answers(turns, ask["nth"], number=2, ordinal="second") == {"red star"}
    assert answers(turns, ask["kind"], shapes="crosses") == {"2"}
    assert answers(turns, ask["left"], thing="pink cross") == {"red star"}
    assert answers(turns, ask["is left"], first="pink cross", second="red star") == {"no"}


def test_values_of_a_chart():
    series = {"Rome": [3, 9, 4]}
    turns = every_turn(lambda rng: charts._about_series(rng, KIT, ["a", "b", "c"], series))
    ask = charts.QUESTIONS
    assert answers(turns, ask["value"], category="b") == {"9"}
    assert answers(turns, ask["most"]) == {"b"}
    assert answers(turns, ask["least"]) == {"a"}
    assert answers(turns, ask["difference"], first="a", second="b") == {"6"}
    assert answers(turns, ask["categories"]) == {"3"}


def test_values_of_several_series():
    series = {"Rome": [3, 9, 4], "Oslo": [3, 2, 8]}
    turns = every_turn(lambda rng: charts._about_series(rng, KIT, ["a", "b", "c"], series))
    ask = charts.QUESTIONS
    assert answers(turns, ask["series value"], series="Oslo", category="b") == {"2"}
    assert answers(turns, ask["series most"], series="Oslo") == {"c"}
    assert answers(turns, ask["higher"], category="c", first="Rome", second="Oslo") == {"Oslo"}
    assert answers(turns, ask["higher"], category="a", first="Rome", second="Oslo") == set()
    assert answers(turns, ask["series"]) == {"2"}


def cents(text):
    return int(text.strip("$€£").replace(".", ""))


def test_invoices_add_up():
    for seed in range(30):
        rows, turns = receipts._invoice(np.random.default_rng(seed), KIT)
        items = [row.cells for row in rows if len(row.cells) == 4][1:]  # without the header
        (total,) = (row.cells[1] for row in rows if row.kind == "total")
        assert cents(total) == sum(cents(amount) for *_, amount in items)
        assert all(int(count) * cents(unit) == cents(amount) for _, count, unit, amount in items)
        assert answers(dict(turns), receipts.QUESTIONS["total"]) == {total}
        assert answers(dict(turns), receipts.QUESTIONS["lines"]) == {str(len(items))}


def test_receipts_of_a_till_add_up():
    given_back = 0
    for seed in range(30):
        rows, turns = receipts._till(np.random.default_rng(seed), KIT)
        kinds = [row.kind for row in rows]
        rules = [place for place, kind in enumerate(kinds) if kind == "rule"]
        items = [row.cells for row in rows[rules[1] + 1 : rules[2]]]
        (total,) = (row.cells[1] for row in rows if row.kind == "total")
        assert cents(total) == sum(cents(amount) for _, amount in items)
        amounts = {row.cells[0]: cents(row.cells[1]) for row in rows[rules[2] :] if row.cells[1:]}
        if "Tax" in amounts:
            assert amounts["Subtotal"] + amounts["Tax"] == amounts["Total"]
        if "Change" in amounts:
            given_back += 1
            assert amounts["Cash"] - amounts["Change"] == amounts["Total"]
            assert answers(dict(turns), receipts.QUESTIONS["cash"])
    assert given_back > 3


def test_lines_of_a_passage_are_asked_for_by_number(drawn):
    source, checked = SyntheticSource(("passages",), seed=6), 0
    for k in range(40):
        drawn.clear()
        sample = source[k]
        written = [item.text for item in drawn]
        for question, answer in zip(sample.messages[::2], sample.messages[1::2], strict=True):
            asked, text = (m["content"][-1]["text"] for m in (question, answer))
            for number, line in enumerate(written, 1):
                named = {"number": number, "ordinal": ordinal(number)}
                for kind, right in (
                    ("line", line),
                    ("first", line.split()[0]),
                    ("last", line.split()[-1]),
                ):
                    if asked in [phrase.format(**named) for phrase in passages.QUESTIONS[kind]]:
                        checked += 1
                        assert text == right
            if asked in passages.QUESTIONS["lines"]:
                checked += 1
                assert text == str(len(written))
    assert checked > 40
