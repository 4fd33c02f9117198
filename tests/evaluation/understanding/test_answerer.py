"""Answers in batches, and the likelihoods of choices, by a small model of random weights."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from viq.errors import ImageError, InputError
from viq.evaluation.task import Item
from viq.evaluation.understanding.answerer import Answerer, fix_adapters
from viq.mllm import AdapterConfig, MultimodalConfig, MultimodalModel
from viq.mllm.vision import load_features

ROOM = 8


def build(tokenizer_folder) -> MultimodalModel:
    torch.manual_seed(0)
    adapter = AdapterConfig(rank=4, dropout=0.0)
    config = MultimodalConfig(lm="tiny", tokenizer=str(tokenizer_folder), adapter=adapter)
    model = MultimodalModel.build(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:  # they begin as zeros, which change nothing
                weight.normal_(std=0.05)
    return model


@pytest.fixture(scope="module")
def model(tiny_tokenizer_folder) -> MultimodalModel:
    return build(tiny_tokenizer_folder)


def picture(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def item(name: str, question: str, *pictures: Image.Image | bytes, choices=()) -> Item:
    content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": question}]
    return Item(id=name, images=pictures, content=tuple(content), answers=("a",), choices=choices)


ITEMS = (
    item("a", "What?", picture(40, 33), choices=("a cat", "dog", "x")),
    item("b", "How many of them are there in all?", choices=("1", "22")),
    item("c", "Which?", picture(20, 64), picture(90, 20), choices=("Left", "right", "up there")),
)


def test_answers_of_a_batch_are_those_of_the_model_one_by_one(model):
    answerer = Answerer(model)
    questions = [answerer.read(one, ROOM) for one in ITEMS]
    assert len({question.length for question in questions}) == 3
    found = answerer.write(questions, ROOM)
    for one, answer in zip(ITEMS, found, strict=True):
        turns = [{"role": "user", "content": list(one.content)}]
        inputs = model.processor()(turns, list(one.images) or None)
        tokens = model.generate(**inputs, max_new_tokens=ROOM, do_sample=False)
        text = model.tokenizer.decode(
            tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        assert answer == text.strip()
    assert len(set(found)) == 3


def test_likelihoods_are_those_of_whole_conversations(model):
    """The cache and the padding change nothing."""
    answerer = Answerer(model)
    found = answerer.rank([answerer.read(one, 0) for one in ITEMS])
    for one, likelihoods in zip(ITEMS, found, strict=True):
        for choice, likelihood in zip(one.choices, likelihoods, strict=True):
            turns = [
                {"role": "user", "content": list(one.content)},
                {"role": "assistant", "content": choice},
            ]
            inputs = model.processor()(turns, list(one.images) or None, labels=True)
            with torch.no_grad():
                assert likelihood == pytest.approx(-float(model(**inputs).loss), abs=1e-4)


def test_a_choice_ends_with_the_end_of_the_turn(model):
    """So the shortest have two tokens; these differ in the first."""
    answerer = Answerer(model)
    question = answerer.read(item("a", "?", choices=("0", "1", "2")), 0)
    assert {len(choice) for choice in question.choices} == {2}
    (likelihoods,) = answerer.rank([question])
    assert len(set(likelihoods)) == 3


def test_models_of_features_are_given_pictures_too(tiny_tokenizer_folder):
    where = str(tiny_tokenizer_folder)
    other = MultimodalModel.build(MultimodalConfig(lm="tiny", width=64, adapter=None))
    other.read_features_of(where, load_features("continuous", where))
    answerer = Answerer(other)
    alone = [answerer.rank([answerer.read(one, 0)])[0] for one in ITEMS]
    together = answerer.rank([answerer.read(one, 0) for one in ITEMS])
    for some, others in zip(alone, together, strict=True):
        assert some == pytest.approx(others, abs=1e-4)
    blind = Answerer(other, sees=False)
    assert blind.rank([blind.read(ITEMS[0], 0)])[0] != pytest.approx(alone[0], abs=1e-3)


def test_without_pictures_only_the_text_is_asked(model):
    blind, text = Answerer(model, sees=False), Answerer(model)
    without = blind.read(ITEMS[0], ROOM)
    assert without.same_as == text.read(item("z", "What?", choices=ITEMS[0].choices), 0).same_as
    assert blind.read(item("b", "What?", b"no picture"), ROOM).length == without.length
    assert text.read(ITEMS[0], ROOM).same_as is None


def test_max_pixels_shrinks_pictures_and_no_other_answerers(model):
    large = item("a", "What?", picture(128, 128))
    lengths = [Answerer(model, max_pixels=n).read(large, 1).length for n in (None, 4096, None)]
    assert lengths[0] == lengths[2] > lengths[1]
    with pytest.raises(InputError, match=r"^--max-pixels 5: "):
        Answerer(model, max_pixels=5)


def test_what_cannot_be_asked_says_why(model):
    answerer = Answerer(model)
    with pytest.raises(ImageError, match=r"^broken: not a readable image \(4 bytes\)"):
        answerer.read(item("broken", "?", b"text"), ROOM)


def test_what_is_too_long_says_why(model):
    answerer = Answerer(model)
    assert re.match(
        r"^takes 2,0\d\d tokens with its pictures and 8 for the answer, but the language model"
        r" reads 2,048$",
        answerer.read(item("long", "x" * 2030), ROOM).too_long,
    )
    short = replace(item("long", "x" * 2000), choices=("y" * 100,))
    assert "and 101 for the answer" in answerer.read(short, 0).too_long
    assert answerer.read(item("short", "x"), ROOM).too_long is None


def test_pictures_and_their_tokens_are_counted(model):
    answerer = Answerer(model)
    counts = [(q.pictures, q.picture_tokens) for q in (answerer.read(one, ROOM) for one in ITEMS)]
    # A token for 32 x 32 pixels, one that ends each row, and two around the picture.
    assert counts == [(1, 2 * 3 + 2), (0, 0), (2, 2 * 2 + 2 + 1 * 4 + 2)]
    assert Answerer(model, sees=False).read(ITEMS[0], ROOM).pictures == 0


def test_adapters_in_the_weights_answer_as_beside_them(model, tiny_tokenizer_folder):
    fixed = build(tiny_tokenizer_folder)
    fix_adapters(fixed)
    answerers = Answerer(model), Answerer(fixed)
    questions = [[answerer.read(one, ROOM) for one in ITEMS] for answerer in answerers]
    before, after = (a.rank(q) for a, q in zip(answerers, questions, strict=True))
    for some, others in zip(after, before, strict=True):
        assert some == pytest.approx(others, abs=1e-4)
    with model.lm.disable_adapter():
        bare = answerers[0].rank(questions[0])
    assert np.abs(np.subtract(bare[0], before[0])).max() > 0.01
    answerers[1].write(questions[1], 2)  # which puts the model in another mode and back
    assert answerers[1].rank(questions[1]) == after
    fix_adapters(fixed, torch.bfloat16)
    assert fixed.get_input_embeddings().weight.dtype == torch.bfloat16
    assert len(answerers[1].write(questions[1], 2)) == 3
