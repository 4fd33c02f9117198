"""Samples of text and images packed into sequences."""

import io
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from viq.chat import IGNORED, encode_chat, image_tokens
from viq.data.config import PhaseConfig
from viq.data.packing import TextPacking
from viq.data.readers import patch_reader
from viq.data.sample import Sample
from viq.errors import ImageError, InputError
from viq.image import ImageConfig, patchify, prepare


def phase_of(**changes):
    fields = {
        "area": 64 * 64,
        "pool": 2,
        "seq_len": 256,
        "max_patches": 64,
        "weights": {"a": 1.0},
        "tokens": 10_000,
    }
    return PhaseConfig(**{**fields, **changes})


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer):
    return make_tokenizer(pad_token="<|pad|>", eos_token="<|im_end|>")


@pytest.fixture
def packing_of(tokenizer):
    def build(open_packs=4, **changes):
        return TextPacking(
            phase_of(**changes),
            tokenizer,
            patch_reader(phase_of(**changes), 16),
            open_packs=open_packs,
        )

    return build


def sample_of(id, *sizes, answer="yes"):
    """Images of noise of these sizes (H, W), a question and an answer."""
    rng = np.random.default_rng(zlib.crc32(f"{id} {sizes}".encode()))
    images = tuple(rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes)
    content = (*({"type": "image"} for _ in images), {"type": "text", "text": f"{id}?"})
    messages = (
        {"role": "user", "content": content},
        {"role": "assistant", "content": ({"type": "text", "text": answer},)},
    )
    return Sample(id=id, images=images, messages=messages)


def some_samples(count):
    """Of none, one and two images."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(count):
        sizes = [tuple(rng.integers(10, 70, 2)) for _ in range(number % 3)]
        samples.append(sample_of(f"s{number}", *sizes, answer="y" * int(rng.integers(1, 60))))
    return samples


def test_an_item_holds_exactly_what_encoding_would_see(packing_of, tokenizer):
    sample = sample_of("s", (30, 50), (90, 100))
    batch = packing_of().pack_one([sample])
    config = ImageConfig(pad_multiple=32, max_pixels=64 * 64)
    prepared = [prepare(image, config) for image in sample.images]
    assert (
        batch.packing.grid_sizes == tuple(image.grid_size for image in prepared) == ((2, 4), (4, 6))
    )
    assert torch.equal(batch.pixels, torch.cat([patchify(image.pixels, 16) for image in prepared]))
    tokens = encode_chat(
        sample.messages, tokenizer, [image_tokens((2, 4), 2), image_tokens((4, 6), 2)]
    )
    assert batch.input_ids.tolist() == tokens.input_ids
    assert batch.labels.tolist() == tokens.labels
    assert batch.image_positions.tolist() == tokens.image_positions
    assert batch.lengths == (len(tokens.input_ids),)
    assert (batch.pool, batch.images, batch.samples) == (2, 2, ("s",))


def test_images_may_be_encoded_files(packing_of, tmp_path):
    sample = sample_of("s", (30, 50))
    file = io.BytesIO()
    Image.fromarray(sample.images[0]).save(file, "PNG")
    (tmp_path / "a.png").write_bytes(file.getvalue())
    expected = packing_of().pack_one([sample])
    for image in (file.getvalue(), tmp_path / "a.png"):
        other = Sample(id="s", images=(image,), messages=sample.messages)
        assert torch.equal(packing_of().pack_one([other]).rows, expected.rows)


def test_batches_are_their_samples_end_to_end_and_filling(packing_of, tokenizer):
    packing, samples = packing_of(), some_samples(60)
    alone = {sample.id: packing.pack_one([sample]) for sample in samples}
    batches = [packing.add(packing.prepare(sample, n)) for n, sample in enumerate(samples)]
    batches = [batch for batch in batches if batch is not None]
    assert len(batches) > 5
    for batch in batches:
        assert len(batch.input_ids) == len(batch.labels) == sum(batch.lengths) == 256
        assert len(batch.rows) == sum(batch.packing.lengths) <= 64
        token, patch, place = 0, 0, 0
        for id, length in zip(batch.samples, batch.lengths, strict=False):
            one = alone[id]
            assert torch.equal(batch.input_ids[token : token + length], one.input_ids)
            assert torch.equal(batch.labels[token : token + length], one.labels)
            assert torch.equal(batch.rows[patch : patch + len(one.rows)], one.rows)
            places = batch.image_positions[place : place + len(one.image_positions)]
            assert torch.equal(places - token, one.image_positions)
            token, patch, place = token + length, patch + len(one.rows), place + len(places)
        assert (patch, place) == (len(batch.rows), len(batch.image_positions))
        assert (batch.input_ids[token:] == tokenizer.pad_token_id).all()
        assert (batch.labels[token:] == IGNORED).all()
        assert len(batch.lengths) == len(batch.samples) + (token < 256)
    assert any(len(batch.lengths) > len(batch.samples) for batch in batches)
    packed = [id for batch in batches for id in batch.samples]
    waiting = [f"s{draw}" for pack in packing.open() for draw in pack]
    assert sorted(packed + waiting) == sorted(alone)


def text_of(packing, tokens):
    """A sample without images that has this many tokens."""
    shortest = len(packing.pack_one([sample_of("s", answer="y")]).input_ids)
    return sample_of("s", answer="y" * (tokens - shortest + 1))


def add_texts(packing, *lengths):
    """Adds texts of these lengths; returns the draws of each finished batch."""
    finished = []
    first = sum(map(len, packing.open()))
    for draw, tokens in enumerate(lengths, first):
        item = packing.prepare(text_of(packing, tokens), draw)
        before = packing.open()
        if packing.add(item) is not None:
            finished += [pack for pack in before if pack not in packing.open()]
    return finished


def test_the_first_pack_with_room_takes_a_sample_and_the_fullest_goes(packing_of):
    packing = packing_of(open_packs=2)
    assert add_texts(packing, 200, 150, 100, 56) == []
    assert packing.open() == [[0, 3], [1, 2]]  # 256 and 250 tokens: one exactly full
    assert add_texts(packing, 50) == [[0, 3]]
    assert packing.open() == [[1, 2], [4]]
    assert add_texts(packing, 210) == [[1, 2]]


def test_a_pack_may_be_full_of_patches(packing_of):
    packing = packing_of(open_packs=1, max_patches=20)
    items = [packing.prepare(sample_of("s", (64, 64)), draw) for draw in range(2)]
    assert packing.add(items[0]) is None
    batch = packing.add(items[1])  # 16 and 16 patches; there were tokens left
    assert len(batch.rows) == 16
    assert batch.lengths[-1] > batch.lengths[0]


def test_open_packs_go_on_where_they_were(packing_of):
    whole, cut = packing_of(), packing_of()
    items = [whole.prepare(sample, n) for n, sample in enumerate(some_samples(60))]
    batches = 0
    for n, item in enumerate(items):
        if n in (13, 37):
            kept = cut.open()
            cut = packing_of()
            cut.restore([[items[draw] for draw in pack] for pack in kept])
            assert cut.open() == kept
        a, b = whole.add(item), cut.add(item)
        assert (a is None) == (b is None)
        if a is not None:
            batches += 1
            assert a.samples == b.samples
            assert torch.equal(a.input_ids, b.input_ids)
            assert torch.equal(a.rows, b.rows)
    assert batches > 5


def test_open_packs_of_a_run_with_higher_limits_are_refused(packing_of):
    packing = packing_of()
    items = [packing.prepare(text_of(packing, 100), draw) for draw in range(2)]
    smaller = packing_of(seq_len=160)
    with pytest.raises(
        InputError, match=r"is 1\.25 times what seq_len \(160\) and max_patches \(64"
    ):
        smaller.restore([items])


def test_the_first_token_of_a_sample_is_not_supervised(make_tokenizer):
    answers = "{% if m.role == 'assistant' %}{{ m.content }}<|im_end|>{% endif %}"
    tokenizer = make_tokenizer(
        chat_template=f"{{% for m in messages %}}{answers}{{% endfor %}}",
    )
    packing = TextPacking(phase_of(), tokenizer, patch_reader(phase_of(), 16))
    samples = [sample_of("a", answer="xyz"), sample_of("b", answer="vw")]
    batch = packing.pack_one(samples)
    starts = [0, batch.lengths[0]]
    assert (batch.labels[starts] == IGNORED).all()
    assert batch.supervised == sum(batch.lengths) - 2


def test_an_evaluation_batch_has_no_filling_and_may_be_long(packing_of):
    samples = some_samples(30)
    batch = packing_of().pack_one(samples)
    assert len(batch.lengths) == len(batch.samples) == 30
    assert sum(batch.lengths) == len(batch.input_ids) > 256


def test_long_answers_are_cut_to_the_sequence(packing_of):
    packing = packing_of()
    item = packing.prepare(sample_of("s", answer="y" * 999), 0)
    assert len(item.input_ids) == 256
    assert item.labels[-1] != IGNORED


def test_a_sample_beyond_a_limit_names_itself_the_numbers_and_the_setting(packing_of):
    sample = sample_of("big", (64, 64), (64, 64), (64, 64))
    with pytest.raises(
        InputError, match=r"^big: its images have 48 patches, but max_patches is 47"
    ):
        packing_of(max_patches=47).prepare(sample, 0)
    with pytest.raises(InputError, match=r"^big: its images reach to token \d+, but .* 20;"):
        packing_of(seq_len=20).prepare(sample, 0)


def test_unreadable_images_name_the_sample_and_which(packing_of):
    whole = sample_of("s", (20, 20), (20, 20))
    one = Sample(id="s", images=(b"xx",), messages=sample_of("s", (20, 20)).messages)
    with pytest.raises(ImageError, match=r"^s: not a readable image"):
        packing_of().prepare(one, 0)
    two = Sample(id="s", images=(whole.images[0], b"xx"), messages=whole.messages)
    with pytest.raises(ImageError, match=r"^s, image 1: not a readable image"):
        packing_of().prepare(two, 0)
    with pytest.raises(InputError, match=r"^s: its messages name 2 images, but it has 1"):
        packing_of().prepare(Sample(id="s", images=whole.images[:1], messages=whole.messages), 0)


def test_settings_that_cannot_work_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"max_patches is 15, but one image of area 4096 .* 16;"):
        TextPacking(phase_of(max_patches=15), tokenizer, patch_reader(phase_of(max_patches=15), 16))
    with pytest.raises(ValueError, match=r"open_packs is 0; there must be at least one"):
        TextPacking(phase_of(), tokenizer, patch_reader(phase_of(), 16), open_packs=0)


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_every_pooling_gets_whole_blocks(packing_of, pool):
    batch = packing_of(pool=pool).pack_one([sample_of("s", (30, 50))])
    ((h, w),) = batch.packing.grid_sizes
    assert h % pool == w % pool == 0
    assert len(batch.image_positions) == image_tokens((h, w), pool)


def test_tokenizers_without_padding_fill_with_another_token(make_tokenizer):
    tokenizer = make_tokenizer(eos_token="<|im_end|>")
    packing = TextPacking(phase_of(), tokenizer, patch_reader(phase_of(), 16), open_packs=1)
    item = packing.prepare(sample_of("s", answer="y" * 100), 0)
    packing.add(item)
    batch = packing.add(packing.prepare(sample_of("t", answer="y" * 150), 1))
    assert (batch.input_ids[batch.lengths[0] :] == tokenizer.eos_token_id).all()
    assert batch.lengths[1] > 0
