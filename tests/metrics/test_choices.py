"""What replies choose, by examples; ``parity/test_answers.py`` compares it with lmms-eval."""

import pytest

from viq.metrics.choices import ai2d_choice, mmmu_choice, mmmu_open_score, mmstar_choice

OPTIONS = ["red", "green", "blue", "yellow"]


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        ("(C).", "C"),
        ("The answer is (A), not (B)", "B"),
        ("A. red", "A"),
        ("I am quite sure that it is green here", "B"),
        ("it is green", None),
        ("", None),
        ("(E)", None),
    ],
)
def test_mmmu(reply, letter):
    assert mmmu_choice(reply, OPTIONS) == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        ("Not A. The answer is C", "C"),
        ("the answer is (D).", "D"),
        ("**B**", "B"),
        ("b", None),
        ("  ", None),
        ("E", None),
    ],
)
def test_mmstar(reply, letter):
    assert mmstar_choice(reply) == letter


def test_mmstar_with_other_letters():
    assert mmstar_choice("E", "ABCDE") == "E"


def test_ai2d_takes_a_letter_before_a_period_or_all():
    assert ai2d_choice("  C. the leaf") == "C"
    assert ai2d_choice("the leaf") == "the leaf"


@pytest.mark.parametrize(
    ("reply", "answers", "score"),
    [
        ("The total is 1,234.", "1234", 1),
        ("So x = 2.504", "2.5", 1),
        ("x = 3", "2.5", 0),
        ("Therefore it is the Baroque.", "baroque", 1),
        ("It is a cat", ["dog", "cat"], 1),
        ("nothing", "a", 0),
    ],
)
def test_open_questions_of_mmmu(reply, answers, score):
    assert mmmu_open_score(reply, answers) == score
