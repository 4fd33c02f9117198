import re
from collections import Counter

import numpy as np
import pytest

from viq.data.synthetic import (
    charts,
    documents,
    forms,
    kit,
    lines,
    pairs,
    receipts,
    screens,
    shapes,
    tables,
)
from viq.data.synthetic.fonts import find_fonts
from viq.data.synthetic.source import TASKS, SyntheticSource
from viq.data.synthetic.splits import SPLITS, part, split_of
from viq.data.synthetic.vocabulary import VOCABULARY
from viq.data.synthetic.words import Words

FAMILIES = (charts, documents, forms, lines, receipts, screens, shapes, tables)
NAMES = tuple(f"name {k}" for k in range(2000))


def test_a_tenth_of_an_open_set_is_for_validation():
    shares = Counter(split_of(name) for name in NAMES)
    assert 150 < shares["validation"] < 250


def test_every_name_of_a_list_is_in_one_split():
    train, validation = (part(NAMES, split) for split in SPLITS)
    assert sorted(train + validation) == sorted(NAMES)
    assert not set(train) & set(validation)


def test_short_lists_have_something_for_validation_and_for_training():
    for start in range(0, 200, 5):
        names = NAMES[start : start + 5]
        for at_least in (1, 2):
            assert at_least <= len(part(names, "validation", at_least)) < 5
            assert len(part(names, "train", at_least)) >= 1


def test_a_list_with_nothing_left_for_training_is_refused():
    with pytest.raises(ValueError, match="2 names cannot be split: 2 are validation's"):
        part(("a", "b"), "train", 2)


def test_new_names_move_no_old_ones():
    before, after = part(NAMES[:1000], "validation"), part(NAMES, "validation")
    assert set(before) == set(after) & set(NAMES[:1000])


def test_no_word_is_in_the_vocabulary_twice():
    words = Counter(word.lower() for words in VOCABULARY.values() for word in words)
    assert len(words) > 1000
    assert [word for word, count in words.items() if count > 1] == []


def test_every_kind_of_word_is_in_both_splits():
    for kind in VOCABULARY:
        train, validation = (set(Words(split=split).some(kind)) for split in SPLITS)
        assert len(validation) >= 2
        assert len(train) > len(validation)
        assert not train & validation


def test_each_split_has_fonts_of_every_kind_and_none_of_the_other():
    train, validation = (find_fonts(split).faces for split in SPLITS)
    assert not {face.path for face in train} & {face.path for face in validation}
    assert not {face.name for face in train} & {face.name for face in validation}
    for faces in (train, validation):
        assert len(faces) >= 4
        assert any(face.full and face.mono for face in faces)
        assert any(not face.full for face in faces)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__.split(".")[-1])
def test_each_family_has_styles_of_both_splits(family):
    train, validation = (part(tuple(family.STYLES), split) for split in SPLITS)
    assert train
    assert validation
    assert not set(train) & set(validation)


def test_no_wording_is_in_both_splits_even_in_another_family():
    phrases = {split: [] for split in SPLITS}
    for family in (*FAMILIES, pairs):
        for wordings in family.QUESTIONS.values():
            for split in SPLITS:
                phrases[split] += part(wordings, split)
    assert not set(phrases["train"]) & set(phrases["validation"])
    for found in phrases.values():
        assert len(set(found)) == len(found) > 60


@pytest.mark.parametrize("task", TASKS)
def test_nothing_drawn_for_validation_is_drawn_for_training(task, drawn, monkeypatch):
    picked = []
    pick = kit.pick
    monkeypatch.setattr(kit, "pick", lambda *args: picked.append(pick(*args)) or picked[-1])
    vocabulary = {word.lower() for words in VOCABULARY.values() for word in words}
    fonts, words, picks = {}, {}, {}
    for split in SPLITS:
        drawn.clear()
        picked.clear()
        source = SyntheticSource((task,), split, seed=1)
        for k in range(40):
            assert source[k].images
        texts = " ".join(item.text for item in drawn)
        fonts[split] = {item.font for item in drawn}
        words[split] = {word.lower() for word in re.findall("[A-Za-z]+", texts)} & vocabulary
        picks[split] = set(picked)  # names of styles and wordings of questions
        assert len(picks[split]) > 3
        assert fonts[split]
    assert words["train"] or task in ("shapes", "scraps")
    assert not fonts["train"] & fonts["validation"]
    assert not words["train"] & words["validation"]
    if task == "pairs":  # families may call different styles by one name
        picks = {split: {p for p in picks[split] if " " in p} for split in SPLITS}
    assert not picks["train"] & picks["validation"]


def test_words_that_do_not_exist_are_split_too():
    for split in SPLITS:
        rng = np.random.default_rng(0)
        made = {Words(split=split).pseudo(rng) for _ in range(50)}
        assert len(made) > 40
        assert {split_of(word) for word in made} == {split}
