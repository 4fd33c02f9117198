"""Drawn tasks: items that never change, right answers, and what a constant answer scores."""

import pytest

from viq.data.synthetic.splits import split_of
from viq.data.synthetic.vocabulary import VOCABULARY
from viq.data.synthetic.words import Words
from viq.evaluation.task import Item, best_constant
from viq.evaluation.understanding.synthetic import SYNTHETIC

TASKS = {task.name: task for task in SYNTHETIC}
SOME = 12


@pytest.mark.parametrize("task", SYNTHETIC, ids=list(TASKS))
def test_items_are_the_same_whatever_is_asked(task):
    items = task.items(SOME)
    assert len(items) == SOME
    assert len(task.items(None)) == 2000
    last = task.items(None)[SOME - 1]
    assert (last.id, last.content, last.answers) == (
        items[-1].id,
        items[-1].content,
        items[-1].answers,
    )
    assert last.images[0].tobytes() == items[-1].images[0].tobytes()
    assert len({one.images[0].tobytes() for one in items}) == SOME
    assert [one.id for one in items[2:4]] == ["2", "3"]
    assert len(list(items)) == SOME


@pytest.mark.parametrize("task", SYNTHETIC, ids=list(TASKS))
def test_right_answers_score_1_and_others_less(task):
    for one in task.items(SOME):
        assert [part["type"] for part in one.content] == ["image", "text"]
        assert task.score(one, one.answers[0]) == 1
        assert task.score(one, "something else entirely") == 0


def test_tasks_draw_different_items():
    counting, relations = TASKS["counting"].items(SOME), TASKS["relations"].items(SOME)
    assert all(one.answers[0].isdigit() for one in counting)
    assert not any(one.answers[0].isdigit() for one in relations)
    assert counting[0].images[0].tobytes() != relations[0].images[0].tobytes()


def test_words_are_held_out_and_of_one_size():
    held = {word for kind in VOCABULARY for word in Words(split="validation").some(kind)}
    for one in TASKS["words"].items(SOME):
        word = one.answers[0].lower()
        assert word in held or split_of(word) == "validation"
        assert 32 <= one.images[0].height <= 96
        assert one.images[0].width >= 64


def test_characters_are_compared_where_text_is_read():
    task = TASKS["words"]
    one = Item(id="a", images=(), content=(), answers=("abcd",))
    assert task.measures(one, "abcx") == {"character error": 0.25}
    assert task.measures(one, "much longer than that") == {"character error": 1}
    assert task.score(one, " abcd\n") == 1
    assert task.score(one, "Abcd") == 0
    assert TASKS["charts"].measures(one, "abcx") == {}


@pytest.mark.parametrize("name", ["counting", "tables"])
def test_chance_is_that_of_the_best_constant_answer(name):
    items = list(TASKS[name].items(30))
    answers = {answer for one in items for answer in one.answers}
    best = max(sum(TASKS[name].score(one, a) for one in items) / len(items) for a in answers)
    assert TASKS[name].chance(items) == best > 0
    with pytest.raises(ValueError, match="there are no items"):
        best_constant(TASKS[name].score, [])
