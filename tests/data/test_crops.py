"""Crops, pairs, and the images of samples."""

import io
import logging
from itertools import count

import numpy as np
import pytest
import torch
from PIL import Image

from viq.data.conversation import question_messages
from viq.data.crops import CropConfig, Crops, centre_crops
from viq.data.pairs import PairConfig, Pairs, whole_pairs
from viq.data.sample import Sample
from viq.errors import ImageError, InputError


def noise(seed, height, width):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def sample_of(*images, id="s", answer="a cat"):
    content = (*({"type": "image"} for _ in images), {"type": "text", "text": "What is this?"})
    messages = (
        {"role": "user", "content": content},
        {"role": "assistant", "content": ({"type": "text", "text": answer},)},
    )
    return Sample(id=id, images=images, messages=messages)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Listed:
    """A source of samples in memory."""

    name = "listed"

    def __init__(self, *samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        if self.samples[index] is None:
            raise InputError("is damaged", f"listed/{index}")
        return self.samples[index]


CONFIG = CropConfig(sizes=((16, 16), (16, 32), (16, 16)), pixels=4 * 256)


def test_a_crop_is_a_function_of_seed_and_draw_alone():
    sample = sample_of(noise(0, 70, 90))
    items = [Crops(CONFIG, seed=3).prepare(sample, draw) for draw in (5, 6, 5)]
    assert np.array_equal(items[0].pixels, items[2].pixels)
    assert not np.array_equal(items[0].pixels, items[1].pixels)
    other = Crops(CONFIG, seed=4).prepare(sample, 5)
    assert not np.array_equal(other.pixels, items[0].pixels)


def test_a_crop_of_encoded_bytes_is_that_of_the_picture():
    pixels = noise(0, 70, 90)
    crops = Crops(CONFIG)
    plain, encoded = crops.prepare(sample_of(pixels), 1), crops.prepare(sample_of(png(pixels)), 1)
    assert np.array_equal(plain.pixels, encoded.pixels)


def test_sizes_are_drawn_as_often_as_they_are_listed():
    crops, sample = Crops(CONFIG), sample_of(noise(0, 40, 40))
    wide = sum(crops.prepare(sample, draw).pixels.shape == (16, 32, 3) for draw in range(600))
    assert 150 < wide < 250  # a third


def test_a_batch_has_one_size_and_as_many_crops_as_its_pixels_allow():
    crops = Crops(CONFIG)
    shapes = set()
    for draw in range(100):
        item = crops.prepare(sample_of(noise(draw, 40, 50), id=str(draw)), draw)
        waiting = [number for group in crops.open() for number in group]
        if (batch := crops.add(item)) is not None:
            assert batch.images.dtype == torch.uint8
            assert batch.images.shape[2] * batch.images.shape[3] * len(batch.images) == 1024
            assert batch.samples[-1] == str(draw)
            assert set(map(int, batch.samples)) <= {*waiting, draw}
            assert torch.equal(batch.images[-1], torch.from_numpy(item.pixels).permute(2, 0, 1))
            shapes.add(tuple(batch.images.shape))
    assert shapes == {(4, 3, 16, 16), (2, 3, 16, 32)}


def test_pictures_smaller_than_the_crop_are_scaled_and_their_edge_continued():
    tiny = np.full((4, 4, 3), 77, np.uint8)
    pixels = Crops(CropConfig(sizes=((32, 32),))).prepare(sample_of(tiny), 0).pixels
    assert pixels.shape == (32, 32, 3)
    assert (pixels == 77).all()


def test_crops_come_from_every_image_of_a_sample():
    sample = sample_of(*(np.full((20, 20, 3), value, np.uint8) for value in (10, 200)))
    crops = Crops(CropConfig(sizes=((16, 16),)))
    assert {int(crops.prepare(sample, draw).pixels[0, 0, 0]) for draw in range(20)} == {10, 200}


def test_samples_without_a_readable_image_are_named():
    crops = Crops(CONFIG)
    with pytest.raises(InputError, match=r"^s: has no image$"):
        crops.prepare(sample_of(), 0)
    with pytest.raises(ImageError, match=r"^s: not a readable image \(5 bytes\)"):
        crops.prepare(sample_of(b"12345"), 0)
    with pytest.raises(ImageError, match=r"^s: cannot be decoded"):
        crops.prepare(sample_of(png(noise(0, 64, 64))[:-2000]), 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sizes": ()}, "sizes is empty"),
        ({"sizes": ((64, 64),), "pixels": 4095}, "sizes has 64 x 64, 4096 pixels; .* is 4095"),
        ({"sizes": ((0, 64),)}, "sizes has 0 x 64"),
    ],
)
def test_crops_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        CropConfig(**wrong)


def test_the_evaluation_takes_middles_of_what_is_large_enough(caplog):
    pixels = noise(1, 30, 40)
    samples = (
        sample_of(noise(0, 15, 99)),
        None,
        sample_of(pixels),
        sample_of(b"x", id="bad"),
        sample_of(noise(2, 16, 16), noise(3, 17, 17)),
        sample_of(noise(4, 50, 50)),
    )
    with caplog.at_level(logging.WARNING, "viq"):
        crops = centre_crops(Listed(*samples), 16, 3)
    assert crops.shape == (3, 3, 16, 16)
    assert np.array_equal(crops[0].permute(1, 2, 0).numpy(), pixels[7:23, 12:28])
    assert torch.equal(crops[1], torch.from_numpy(noise(2, 16, 16)).permute(2, 0, 1))
    assert "left out of the evaluation: listed/1: is damaged" in caplog.text
    assert "left out of the evaluation: bad: not a readable image" in caplog.text
    assert len(centre_crops(Listed(*samples), 16, 99)) == 4


def test_an_evaluation_without_pictures_is_refused():
    with pytest.raises(InputError, match="listed: no picture of at least 64 x 64 pixels"):
        centre_crops(Listed(sample_of(noise(0, 63, 99))), 64, 8)


def test_pairs_are_squashed_whole_where_nothing_is_cut():
    picture = noise(0, 40, 90)
    pairs = Pairs(PairConfig(side=32, batch=2, min_crop=1.0))
    item = pairs.prepare(sample_of(picture, answer=" a cat "), 0)
    image = Image.fromarray(picture).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.array_equal(item.pixels, np.asarray(image))
    assert item.caption == "a cat"
    batch = whole_pairs([sample_of(picture), sample_of(picture, id="t", answer="b")], 32)
    assert np.array_equal(batch.images[0].permute(1, 2, 0).numpy(), item.pixels)
    assert (batch.captions, batch.samples) == (("a cat", "b"), ("s", "t"))


def test_pairs_are_cut_by_seed_and_draw():
    sample = sample_of(noise(0, 40, 90))
    config = PairConfig(side=32, batch=2)
    a, b, c = (Pairs(config).prepare(sample, draw).pixels for draw in (0, 1, 0))
    assert np.array_equal(a, c)
    assert not np.array_equal(a, b)
    assert not np.array_equal(Pairs(config, seed=1).prepare(sample, 0).pixels, a)


def test_pairs_are_mirrored_only_if_asked():
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None], (64, 64, 3)).copy()
    for flip, found in ((False, {False}), (True, {False, True})):
        pairs = Pairs(PairConfig(side=16, batch=2, flip=flip))
        items = [pairs.prepare(sample_of(ramp), draw).pixels for draw in range(20)]
        assert {bool(item[0, 0, 0] > item[0, -1, 0]) for item in items} == found


def test_a_batch_of_pairs_holds_as_many_as_asked_and_the_rest_waits():
    pairs = Pairs(PairConfig(side=16, batch=3))
    items = [pairs.prepare(sample_of(noise(n, 20, 20), id=f"s{n}"), n) for n in range(5)]
    batches = [pairs.add(item) for item in items]
    assert [batch is not None for batch in batches] == [False, False, True, False, False]
    assert batches[2].samples == ("s0", "s1", "s2")
    assert batches[2].to("cpu").images.shape == (3, 3, 16, 16)
    assert pairs.open() == [[3, 4]]
    again = Pairs(PairConfig(side=16, batch=3))
    again.restore([items[3:]])
    assert again.add(items[0]).samples == ("s3", "s4", "s0")


def test_the_caption_is_the_last_answer():
    messages = question_messages("What?", "one", 1) + question_messages("And?", "two", 0)
    sample = Sample(id="s", images=(noise(0, 20, 20),), messages=messages)
    assert Pairs(PairConfig(side=16, batch=1)).prepare(sample, 0).caption == "two"


def test_samples_that_are_no_pairs_are_named():
    pairs = Pairs(PairConfig(side=16, batch=1))
    with pytest.raises(InputError, match=r"^s: has 2 images; a pair has one$"):
        pairs.prepare(sample_of(noise(0, 20, 20), noise(1, 20, 20)), 0)
    with pytest.raises(InputError, match=r"^s: has no answer to serve as a caption$"):
        pairs.prepare(sample_of(noise(0, 20, 20), answer=" "), 0)
    with pytest.raises(InputError, match=r"^s: has no answer"):
        pairs.prepare(Sample(id="s", images=(noise(0, 20, 20),), messages=()), 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"side": 0, "batch": 1}, "side is 0; it must be a positive integer"),
        ({"side": 1, "batch": 1.5}, "batch is 1.5; it must be a positive integer"),
        ({"side": 1, "batch": 1, "min_crop": 1.2}, "min_crop is 1.2; it must be above 0"),
    ],
)
def test_pairs_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        PairConfig(**wrong)


def test_every_assembler_goes_on_from_what_was_open():
    config = CropConfig(sizes=((16, 16), (16, 32), (32, 16)), pixels=8 * 256)
    for make in (lambda: Crops(config), lambda: Pairs(PairConfig(side=8, batch=7))):
        whole, batches = make(), []
        items = [whole.prepare(sample_of(noise(n, 20, 20), id=str(n)), n) for n in range(80)]
        cut = make()
        for n, item in zip(count(), items, strict=False):
            if n == 41:
                kept = cut.open()
                assert any(kept)
                cut = make()
                cut.restore([[items[draw] for draw in group] for group in kept])
            a, b = whole.add(item), cut.add(item)
            assert (a is None) == (b is None)
            if a is not None:
                assert a.samples == b.samples
                assert torch.equal(a.images, b.images)
                batches.append(a)
        assert len(batches) > 5
