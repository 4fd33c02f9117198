"""Measures of answers, by examples; ``parity/test_answers.py`` compares them with lmms-eval."""

import random

import pytest

from viq.metrics.text import (
    anls,
    character_error,
    edit_distance,
    exact_match,
    ocrbench_score,
    relaxed_accuracy,
    vqa_accuracy,
    vqa_normalized,
)


def edits_by_the_book(a, b):
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, start=1):
        above, row = row, [i]
        for j, other in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != other)))
    return row[-1]


def test_edit_distance_is_that_of_the_book():
    draw = random.Random(0)
    distances = set()
    for _ in range(300):
        a, b = ("".join(draw.choices("abc ", k=draw.randint(0, 12))) for _ in range(2))
        assert edit_distance(a, b) == edit_distance(b, a) == edits_by_the_book(a, b), (a, b)
        distances.add(edit_distance(a, b))
    assert len(distances) > 8


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ("kitten", "sitting", 3),
        ("", "", 0),
        ("", "abc", 3),
        ("naïve", "naive", 1),
        ("東京", "京", 1),
    ],
)
def test_edit_distance_counts_characters(a, b, distance):
    assert edit_distance(a, b) == distance


def test_character_error_is_edits_for_each_character_expected():
    assert character_error("hallo  world\n", "hello world") == 1 / 11
    assert character_error("", "abcd") == 1
    assert character_error("abcdabcd", "ab") == 3
    assert character_error("same", " same ") == 0
    with pytest.raises(ValueError, match="needs a text that was expected; this one is empty"):
        character_error("x", " \n")


def test_anls_forgives_a_few_letters():
    assert anls("  The  Hague ", ["the hague"]) == 1
    assert anls("helo", ["hello", "goodbye"]) == 0.8
    assert anls("xxllo", ["hello"]) == 0.6
    assert anls("xxxlo", ["hello"]) == 0
    assert anls("xxxlo", ["hello"], threshold=0.4) == 0.4
    assert anls("", [""]) == 1
    with pytest.raises(ValueError, match="there are no right answers"):
        anls("x", [])


@pytest.mark.parametrize(
    ("answer", "target", "score"),
    [
        ("105", "100", 1),
        ("106", "100", 0),
        ("50%", "0.5", 1),
        ("5", "5%", 0),
        ("1,000", "1000", 0),
        ("0", "0", 1),
        ("0.0", "0", 0),
        ("Yes", "yes", 1),
        ("-95", "-100", 1),
        ("nan", "1", 0),
    ],
)
def test_relaxed_accuracy_allows_five_percent_of_a_number(answer, target, score):
    assert relaxed_accuracy(answer, target) == score


def test_relaxed_accuracy_takes_another_tolerance():
    assert relaxed_accuracy("110", "100", tolerance=0.1) == 1


def test_vqa_accuracy_needs_three_people_besides_the_one_left_out():
    others = [str(number) for number in range(20, 30)]
    assert vqa_accuracy("Two", ["2"] * 10) == 1
    assert vqa_accuracy("stop", ["stop"] * 3 + others[3:]) == pytest.approx((3 * 2 / 3 + 7) / 10)
    assert vqa_accuracy("stop", ["stop", *others[1:]]) == pytest.approx(0.3)
    assert vqa_accuracy("go", ["stop"] * 10) == 0
    with pytest.raises(ValueError, match="there are no answers of people"):
        vqa_accuracy("x", [])


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Coca-Cola!", "coca cola"),
        ("a U.S.A.", "usa"),
        ("3.14", "3.14"),
        ("1,000", "1000"),
        ("Dont", "don't"),
        ("none of twelve", "0 of twelve"),
        ("dog's", "dog 's"),
        ("half - done", "half done"),
    ],
)
def test_vqa_normalisation(text, normal):
    assert vqa_normalized(text) == normal


def test_ocrbench_looks_for_an_answer_in_the_reply():
    assert ocrbench_score("It reads STOP here.", ["stop", "go"]) == 1
    assert ocrbench_score("It reads STOP here.", "goes") == 0
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in "STOP")
    assert ocrbench_score(wide, "stop") == 1
    assert ocrbench_score("x ^ 2 + 1", "x^2+1") == 0
    assert ocrbench_score("x ^ 2 + 1", "x^2+1", formula=True) == 1
    assert ocrbench_score("X ^ 2 + 1", "x^2+1", formula=True) == 0


def test_exact_match_leaves_out_case_and_punctuation():
    assert exact_match("(b).", "B") == 1
    assert exact_match("b c", "B") == 0
