"""What a harness asks, as our models take it; without the harness."""

import numpy as np
import pytest
import torch
from PIL import Image

from viq.errors import InputError
from viq.evaluation.lmms_eval.requests import (
    answers,
    from_messages,
    from_text,
    generation_options,
    likelihoods,
    with_max_pixels,
)
from viq.external.language_model import tiny_language_model
from viq.mllm import AdapterConfig, MultimodalConfig, MultimodalModel

GREEDY = {"max_new_tokens": 8, "do_sample": False}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm")
    tiny_language_model(folder)
    torch.manual_seed(0)
    adapter = AdapterConfig(rank=4, dropout=0.0)
    config = MultimodalConfig(lm=str(folder), tokenizer="nano", adapter=adapter)
    return MultimodalModel.build(config).eval()


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (side, 32, 3), dtype=np.uint8)) for side in (32, 64)
    ]


@pytest.fixture(scope="module")
def asked(pictures):
    """A text, one picture, and two between words."""
    a, b = pictures
    return [
        from_text("Why?", []),
        from_text("What is it?", [a]),
        from_text("Is <image> like <image>?", [b, a]),
    ]


def kinds(asked):
    return [part.get("text", part["type"]) for m in asked.messages for part in m["content"]]


def test_pictures_stand_where_the_text_says_or_else_first(pictures):
    a, b = pictures
    assert kinds(from_text("Which?", [a, b])) == ["image", "image", "Which?"]
    between = from_text("<image>Is it <image>", [b, a])
    assert kinds(between) == ["image", "Is it ", "image"]
    assert between.pictures == [b, a]
    assert kinds(from_text("", [])) == [""]


def test_a_wrong_number_of_places_is_told(pictures):
    with pytest.raises(InputError, match="its text has 1 places for images, but there are 2"):
        from_text("<image>?", pictures)


def test_messages_keep_their_order_and_roles(pictures):
    a, b = pictures
    told = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    content = [
        {"type": "text", "text": "From"},
        {"type": "image", "url": b},
        {"type": "text", "text": "to"},
        {"type": "image", "url": a},
    ]
    asked = from_messages([told, {"role": "user", "content": content}])
    assert [message["role"] for message in asked.messages] == ["system", "user"]
    assert kinds(asked) == ["Be brief.", "From", "image", "to", "image"]
    assert asked.pictures == [b, a]


def test_other_media_are_refused():
    video = {"role": "user", "content": [{"type": "video", "url": "a.mp4"}]}
    with pytest.raises(InputError, match="it has video; this model reads texts and pictures"):
        from_messages([video])
    with pytest.raises(InputError, match="it has a str, such as a video's or sound's name"):
        from_text("What happens?", ["a.mp4"])


def test_a_request_without_options_is_greedy():
    options, stops = generation_options({"until": ["\n\n"], "do_sample": False})
    assert options == {
        "max_new_tokens": 1024,
        "num_beams": 1,
        "do_sample": False,
        "repetition_penalty": 1.0,
        **dict.fromkeys(("temperature", "top_p", "top_k")),
    }
    assert stops == ()  # the harness's own, where a task names none


def test_options_of_a_request_are_taken():
    given = {"max_new_tokens": 5, "temperature": 0.0, "top_p": 1.0, "num_beams": 2, "top_k": None}
    options, stops = generation_options({**given, "until": "ASSISTANT:"})
    assert options["max_new_tokens"] == 5
    assert options["num_beams"] == 2
    assert not options["do_sample"]
    assert options["top_p"] is None  # it would be of no use
    assert stops == ("ASSISTANT:",)
    drawn = {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "repetition_penalty": 1.1}
    options, _ = generation_options(drawn)
    assert options.items() >= drawn.items()
    assert options["do_sample"]
    assert generation_options({"do_sample": True})[0]["temperature"] == 1.0
    assert not generation_options({"do_sample": True, "temperature": 0})[0]["do_sample"]


def test_answers_in_a_batch_are_those_alone(model, asked):
    processor = model.processor()
    together = answers(model, processor, asked, GREEDY)
    assert together == [answers(model, processor, [one], GREEDY)[0] for one in asked]
    assert len(set(together)) == 3


def test_an_answer_ends_before_the_first_stop(model, asked):
    processor = model.processor()
    (whole,) = answers(model, processor, asked[:1], GREEDY)
    (cut,) = answers(model, processor, asked[:1], GREEDY, [whole[5:], whole[3:5]])
    assert whole
    assert cut == whole[:3]


def test_likelihoods_are_those_of_forward(model, asked):
    processor = model.processor()
    words = ["yes", " no, never ", "perhaps"]
    found = likelihoods(model, processor, asked, words)
    for one, word, likelihood in zip(asked, words, found, strict=True):
        turns = [*one.messages, {"role": "assistant", "content": word.strip()}]
        inputs = processor(turns, one.pictures, labels=True)
        tokens = int((inputs["labels"] >= 0).sum())
        with torch.no_grad():
            expected = float(model(**inputs).loss)
        assert tokens == len(word.strip()) + 1  # bytes, and the turn's end
        assert likelihood.loss == pytest.approx(expected, rel=1e-4)
        assert not likelihood.greedy


def test_what_the_model_would_write_is_greedy(model, asked):
    token = model.tokenizer.convert_tokens_to_ids

    def one_letter_is_likeliest(module, arguments, output):
        output.logits[:] = 0  # (2, K + 1, vocabulary): before the letter, its end, and a new line
        output.logits[:, 0, token("x")] = 1
        output.logits[:, 1, model.tokenizer.eos_token_id] = 1

    hook = model.causal_lm.register_forward_hook(one_letter_is_likeliest)
    try:
        x, y = likelihoods(model, model.processor(), [asked[0]] * 2, ["x", "y"])
    finally:
        hook.remove()
    assert x.greedy
    assert not y.greedy
    assert y.loss - x.loss == pytest.approx(1 / 2)  # of two tokens


def test_what_is_too_long_is_told(model, asked, monkeypatch):
    monkeypatch.setattr(model.config.text_config, "max_position_embeddings", 40)
    processor = model.processor()
    with pytest.raises(InputError, match=r"it takes \d+ tokens .* and 30 for the answer, but the"):
        answers(model, processor, asked[:1], {"max_new_tokens": 30})
    with pytest.raises(InputError, match="reads 40; give a smaller max_pixels or max_new_tokens"):
        likelihoods(model, processor, asked[:1], ["a" * 40])


def test_max_pixels_makes_pictures_smaller(model, pictures):
    large = pictures[0].resize((96, 96))

    def patches(processor):
        messages = from_text("?", [large]).messages
        return processor(messages, [large])["grid_sizes"].prod(-1).tolist()

    assert patches(with_max_pixels(model.processor(), None)) == [36]
    assert patches(with_max_pixels(model.processor(), 1024)) == [4]
    with pytest.raises(InputError, match="max_pixels is 10; it must hold one block"):
        with_max_pixels(model.processor(), 10)


def test_max_pixels_needs_pictures(model):
    processor = model.processor()
    processor.image = None
    with pytest.raises(InputError, match="max_pixels limits pictures, but this model reads none"):
        with_max_pixels(processor, 1024)
