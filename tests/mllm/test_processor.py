"""Conversations and images as inputs; the model's part of it is in test_inputs.py."""

import copy

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, BatchFeature

import viq
from viq import CodesError, FingerprintError, ImageError, InputError
from viq.chat import IGNORED, encode_chat, encode_prompt, image_tokens
from viq.image import ImageConfig
from viq.mllm import MultimodalConfig, Processor


@pytest.fixture(scope="module")
def processor(reader):
    return reader.processor()


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_conversation_has_the_tokens_of_training(processor, conversations, codes):
    text, which = conversations[2]
    chosen = [codes[n] for n in which]
    inputs = processor(text, chosen)
    assert isinstance(inputs, BatchFeature)
    counts = [image_tokens(one.grid_size, 2) for one in chosen]
    expected = encode_prompt(text, processor.tokenizer, counts)
    assert inputs["input_ids"].tolist() == [expected.input_ids]
    assert inputs["mm_token_type_ids"][0].nonzero().flatten().tolist() == expected.image_positions
    assert inputs["attention_mask"].all()
    assert inputs["grid_sizes"].tolist() == [list(one.grid_size) for one in chosen]
    stacked = np.concatenate([one.values for one in chosen])
    assert torch.equal(inputs["codes"], torch.from_numpy(stacked.astype("int32")))
    images = inputs["input_ids"][inputs["mm_token_type_ids"].bool()]
    assert set(images.tolist()) == {processor.tokenizer.pad_token_id}


def test_pictures_become_the_patches_that_are_encoded(processor, pictures, tmp_path):
    pictures[0].save(tmp_path / "picture.png")
    text = "<image>"
    by_path, by_array, by_picture = (
        processor(text, [image])
        for image in (tmp_path / "picture.png", np.asarray(pictures[0]), pictures[0])
    )
    assert same(by_path, by_picture)
    assert same(by_array, by_picture)
    assert same(processor(text, pictures[0]), by_picture)  # one image needs no list
    assert by_picture["pixel_values"].dtype == torch.uint8
    assert by_picture["pixel_values"].shape == (8, 768)
    half = by_picture.to(torch.bfloat16)
    assert half["pixel_values"].dtype == torch.uint8


def test_grey_padding_is_kept_exactly(reader, pictures):
    """Mid-grey lies between two of the 256 values, so such patches are floats."""
    processor = Processor(
        reader.tokenizer, levels=reader.config.levels, image=ImageConfig(padding="zero")
    )
    patches = processor("<image>", pictures[1])["pixel_values"]
    assert patches.dtype == torch.float32
    assert (patches == 0).all(1).any()


def test_images_may_stand_in_the_conversation(processor, conversations, pictures, codes, tmp_path):
    text, which = conversations[2]
    for images in (pictures, codes):
        chosen = iter([images[n] for n in which])
        inside = [
            {
                "role": "user",
                "content": [
                    part | {"image": next(chosen)} if part["type"] == "image" else part
                    for part in text[0]["content"]
                ],
            }
        ]
        expected = processor(text, [images[n] for n in which])
        assert same(processor(inside), expected)
        found = processor.apply_chat_template(
            inside, add_generation_prompt=True, tokenize=True, return_dict=True
        )
        assert same(found, expected)
    pictures[0].save(tmp_path / "0.png")
    content = [{"type": "image", "path": tmp_path / "0.png"}]
    found = processor([{"role": "user", "content": content}])
    bare = [{"role": "user", "content": [{"type": "image"}]}]
    assert same(found, processor(bare, [pictures[0]]))


def test_a_written_text_has_the_tokens_of_its_conversation(processor, conversations, codes):
    for text, which in conversations:
        chosen = [codes[n] for n in which]
        written = processor.apply_chat_template(text, add_generation_prompt=True)
        assert written.count("<image>") == len(which)
        assert same(processor(written, chosen), processor(text, chosen))
    texts = [text for text, _ in conversations]
    written = processor.apply_chat_template(texts, add_generation_prompt=True)
    assert len(written) == 3
    chosen = [[codes[n] for n in which] for _, which in conversations]
    assert same(processor(written, chosen), processor(texts, chosen))
    ids = processor.apply_chat_template(texts[0], add_generation_prompt=True, tokenize=True)
    assert torch.equal(ids, processor(texts[0])["input_ids"])


def test_images_in_one_list_go_to_the_texts_in_order(processor, conversations, codes):
    texts = [text for text, _ in conversations]
    flat = [codes[n] for _, which in conversations for n in which]
    nested = [[codes[n] for n in which] for _, which in conversations]
    assert same(processor(texts, flat), processor(texts, nested))


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_is_padded_and_masked(side, processor, conversations, codes):
    texts = [text for text, _ in conversations]
    nested = [[codes[n] for n in which] for _, which in conversations]
    inputs = processor(texts, nested, padding_side=side, padding=True, return_tensors="pt")
    for number, text in enumerate(texts):
        alone = processor(text, nested[number])
        mask = inputs["attention_mask"][number].bool()
        for name in ("input_ids", "mm_token_type_ids"):
            assert torch.equal(inputs[name][number][mask], alone[name][0])
            assert not inputs["mm_token_type_ids"][number][~mask].any()
        edge = mask[-1] if side == "left" else mask[0]
        assert edge
    assert "codes" not in processor(texts[0])


def test_labels_are_those_of_the_answers(processor, conversations, codes):
    text, which = conversations[1]
    whole = [*text, {"role": "assistant", "content": "a wave"}]
    short = [{"role": "user", "content": "2?"}, {"role": "assistant", "content": "2"}]
    inputs = processor([whole, short], [codes[n] for n in which], labels=True)
    counts = [image_tokens(codes[1].grid_size, 2)]
    expected = encode_chat(whole, processor.tokenizer, counts)
    assert inputs["input_ids"][0].tolist() == expected.input_ids
    assert inputs["labels"][0].tolist() == expected.labels
    assert (inputs["labels"][1] != IGNORED).sum() == 2
    assert (inputs["labels"][1][~inputs["attention_mask"][1].bool()] == IGNORED).all()
    without = processor([whole, short], [codes[n] for n in which])
    assert "labels" not in without
    assert torch.equal(without["input_ids"], inputs["input_ids"])


def test_saved_and_read_again_it_is_the_same(processor, conversations, codes, tmp_path):
    processor.save_pretrained(tmp_path)
    read = Processor.from_pretrained(tmp_path)
    assert (read.image, read.levels, read.pool) == (ImageConfig(), (8, 8, 8, 5, 5, 5), 2)
    assert read.fingerprint == viq.load("nano").fingerprint
    text, which = conversations[2]
    chosen = [codes[n] for n in which]
    assert same(read(text, chosen), processor(text, chosen))
    assert type(AutoProcessor.from_pretrained(tmp_path)) is Processor
    assert processor.batch_decode([[5, 6]]) == processor.tokenizer.batch_decode([[5, 6]])


def test_a_tokenizer_without_template_gets_chatml(processor, reader, conversations):
    bare = reader.tokenizer.__class__(
        tokenizer_object=reader.tokenizer.backend_tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
    )
    text, _ = conversations[0]
    without = Processor.of(MultimodalConfig(lm="tiny", width=4), bare)
    assert torch.equal(without(text)["input_ids"], processor(text)["input_ids"])
    written = without.apply_chat_template(text, add_generation_prompt=True)
    assert written == processor.apply_chat_template(text, add_generation_prompt=True)


def test_there_is_one_chat_template(reader, conversations, codes, tmp_path):
    """Wherever it is set: of the processor, or of the tokenizer, by which is trained."""
    text, which = conversations[1]
    chosen = [codes[n] for n in which]
    tokenizer = copy.deepcopy(reader.tokenizer)
    shorter = tokenizer.chat_template.replace("<|im_start|>", "<|pad|>")
    processor = Processor.of(reader.config, tokenizer)
    before = processor(text, chosen)
    processor.chat_template = shorter
    made = processor(text, chosen)
    assert not torch.equal(made["input_ids"], before["input_ids"])
    assert tokenizer.chat_template == shorter
    counts = [image_tokens(one.grid_size, 2) for one in chosen]
    assert made["input_ids"][0].tolist() == encode_prompt(text, tokenizer, counts).input_ids
    written = processor.apply_chat_template(text, add_generation_prompt=True)
    assert written.startswith("<|pad|>")
    assert same(processor(written, chosen), made)
    processor.save_pretrained(tmp_path)
    assert same(Processor.from_pretrained(tmp_path)(text, chosen), made)
    (tmp_path / "chat_template.jinja").write_text(reader.tokenizer.chat_template)
    assert same(Processor.from_pretrained(tmp_path)(text, chosen), before)
    given = Processor(
        tokenizer, levels=reader.config.levels, chat_template=reader.tokenizer.chat_template
    )
    assert same(given(text, chosen), before)


def test_what_does_not_fit_together_is_named(
    processor, reader, conversations, pictures, codes, tiny_tokenizer, tmp_path
):
    text, _ = conversations[1]
    three, _ = conversations[2]
    with pytest.raises(InputError, match=r"1 of 3 images are codes .* by the model's encode\(\)"):
        processor(three, [codes[0], pictures[1], pictures[2]])
    with pytest.raises(InputError, match=r"text 0 has 3 places for images, but there are 2"):
        processor(three, codes[:2])
    with pytest.raises(InputError, match=r"text 0 has 0 places .* there are 1; write <image>"):
        processor("What is it?", codes[0])
    with pytest.raises(InputError, match=r"text 1 has 1 places for images, but there are 2"):
        processor([text, text], codes)
    with pytest.raises(InputError, match="2 texts with images of 3"):
        processor([text, text], [[one] for one in codes])
    inside = [{"role": "user", "content": [{"type": "image", "image": codes[0]}]}]
    with pytest.raises(InputError, match="give them once"):
        processor(inside, codes[:1])
    half = [{"role": "user", "content": [*inside[0]["content"], {"type": "image"}]}]
    with pytest.raises(InputError, match="1 of 2 images stand in the conversation"):
        processor(half)
    with pytest.raises(InputError, match="a message's text has <image>"):
        processor.apply_chat_template([{"role": "user", "content": "an <image>"}])
    for nothing in ([], "", None, 5):
        with pytest.raises(InputError, match="there is no text"):
            processor(nothing)
    for content in (None, [{"text": "x"}], [{"type": "audio"}], [{"type": "text"}], ["x"]):
        with pytest.raises(InputError, match=r"a message's content has .*; it is a text, or"):
            processor([{"role": "user", "content": content}])
    with pytest.raises(ValueError, match="padding_side is 'up'; it is 'left' or 'right'"):
        processor(text, codes[:1], padding_side="up")
    with pytest.raises(InputError, match="there is no answer to learn from"):
        processor(text, codes[:1], labels=True)
    with pytest.raises(InputError, match="a text has none"):
        processor("some text", labels=True)
    with pytest.raises(ImageError, match=r"nowhere\.png: no such file"):
        processor(text, [tmp_path / "nowhere.png"])
    with pytest.raises(FingerprintError, match="these codes were made by tokenizer"):
        processor(text, tiny_tokenizer.encode(pictures[0]))
    features = Processor.of(MultimodalConfig(lm="tiny", width=4), reader.tokenizer)
    with pytest.raises(InputError, match="names no vision tokenizer, so it takes codes"):
        features(text, pictures[:1])
    with pytest.raises(CodesError, match="has no code embedder: give it features"):
        features(text, codes[:1])
    levels = Processor(reader.tokenizer, levels=(4, 4))
    with pytest.raises(CodesError, match=r"levels, \(8, 8, 8, 5, 5, 5\), are not .* \(4, 4\)"):
        levels(text, codes[:1])
    for options, reason in (
        ({"return_tensors": "np"}, "return_tensors is 'pt'"),
        ({"padding": "max_length"}, "padded to the longest"),
    ):
        with pytest.raises(ValueError, match=reason):
            processor(text, codes[:1], **options)
    with pytest.raises(TypeError, match="unknown options: truncation"):
        processor(text, codes[:1], truncation=True)
