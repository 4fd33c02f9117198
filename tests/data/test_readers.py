"""How pictures and codes become rows of a batch."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from viq.codes import Codes
from viq.data.batch import Batch
from viq.data.config import PhaseConfig
from viq.data.conversation import question_messages
from viq.data.packing import TextPacking
from viq.data.readers import CodeReader, PatchReader, TileReader, patch_reader, read_all
from viq.data.sample import Sample
from viq.errors import CodesError, FingerprintError, ImageError, InputError
from viq.external.tiling import TilingConfig
from viq.image import ImageConfig, patchify, prepare
from viq.model.packing import Packing

PHASE = PhaseConfig(area=64**2, pool=2, seq_len=64, max_patches=64, weights={"s": 1.0}, tokens=64)


def picture(width, height):
    rng = np.random.default_rng(width * 100 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def codes(h, w, heads=2, fingerprint="a" * 64):
    values = np.arange(h * w * heads, dtype=np.uint16).reshape(h * w, heads)
    size = (16 * h, 16 * w)
    return Codes(
        values,
        grid_size=(h, w),
        original_size=size,
        encoded_size=size,
        levels=(8, 8, 8),
        fingerprint=fingerprint,
    )


READERS = {
    "patches": PatchReader(image=ImageConfig()),
    "grey": PatchReader(image=ImageConfig(padding="zero")),
    "codes": CodeReader(fingerprint="a" * 64, code_heads=2, pool=2),
    "tiles": TileReader(side=32, patch_size=8, pool=2),
}


@pytest.mark.parametrize("name", READERS)
def test_rows_of_no_image_go_together_with_those_of_one(name):
    reader = READERS[name]
    image = codes(2, 4) if name == "codes" else picture(40, 30)
    none, some = reader.no_rows(), reader.read(image, "one").rows
    assert len(none) == 0
    assert none.dtype == some.dtype
    assert none.shape[1:] == some.shape[1:]
    assert pickle.loads(pickle.dumps(reader)) == reader


@pytest.mark.parametrize("padding", ["edge", "zero"])
def test_patches_are_exactly_what_is_encoded(padding):
    image = ImageConfig(padding=padding)
    reader = PatchReader(image=image)
    read = reader.read(picture(40, 30), "one")
    prepared = prepare(picture(40, 30), image)
    assert read.grid_sizes == (prepared.grid_size,)
    assert read.rows.dtype == (np.uint8 if padding == "edge" else np.float32)
    assert read.tiles is None
    none = torch.zeros(0, dtype=torch.int64)
    batch = Batch(
        samples=(),
        rows=torch.from_numpy(read.rows),
        packing=Packing.of(read.grid_sizes),
        pool=2,
        input_ids=none,
        labels=none,
        lengths=(),
        image_positions=none,
    )
    assert torch.equal(batch.pixels, patchify(prepared.pixels, 16))


def test_codes_stay_as_they_are_whatever_the_area():
    read = READERS["codes"].read(codes(8, 16), "one")
    assert read.rows.dtype == np.int32
    assert np.array_equal(read.rows, codes(8, 16).values)
    assert read.grid_sizes == ((8, 16),)


def test_tiles_are_the_whole_and_then_the_parts():
    whole = picture(64, 32)
    read = READERS["tiles"].read(whole, "one")
    assert read.tiles == (1, 2)
    assert read.grid_sizes == ((4, 4), (4, 8))
    views = read.rows.reshape(3, 3, 32, 32).transpose(0, 2, 3, 1)
    assert np.array_equal(views[1], np.asarray(whole)[:, :32])
    assert np.array_equal(views[2], np.asarray(whole)[:, 32:])
    squashed = whole.resize((32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(views[0], np.asarray(squashed))
    alone = replace(READERS["tiles"], tiling=TilingConfig(grids=())).read(whole, "one")
    assert (alone.tiles, alone.grid_sizes) == ((0, 0), ((4, 4),))
    assert np.array_equal(alone.rows, read.rows[:1])


@pytest.mark.parametrize(
    ("name", "image", "error", "says"),
    [
        ("patches", codes(2, 2), ImageError, "s/1: is codes already, but pictures are read here"),
        ("tiles", codes(2, 2), ImageError, "s/1: is codes already, but pictures are read here"),
        ("tiles", b"no image", ImageError, "s/1: not a readable image"),
        ("codes", picture(8, 8), ImageError, "s/1: is a picture, but codes are read here; extract"),
        ("codes", codes(2, 2, fingerprint="b" * 64), FingerprintError, "s/1: .*b{12}.*a{12}"),
        ("codes", codes(3, 2), CodesError, "s/1: its grid of 3 x 2 patches does not divide into"),
    ],
)
def test_what_a_reader_does_not_take_is_named(name, image, error, says):
    sample = Sample(id="s/1", images=(image,), messages=())
    with pytest.raises(error, match=says):
        read_all(sample, READERS[name])
    good = codes(2, 2) if name == "codes" else picture(8, 8)
    several = replace(sample, images=(good, image))
    with pytest.raises(error, match="s/1, image 1: "):
        read_all(several, READERS[name])


def test_pools_that_fit_the_tiles_are_named():
    with pytest.raises(ValueError, match=r"48 pixels are 6 x 6 patches, which do not divide") as e:
        TileReader(side=48, patch_size=8, pool=4)
    assert "pools that do: 1, 2. Or give tiles of another --tiling.side, a multiple of 32" in str(
        e.value
    )


def test_a_phase_reads_pictures_of_its_area_in_whole_tokens():
    reader = patch_reader(PHASE, 16)
    assert reader.image == ImageConfig(pad_multiple=32, max_pixels=64**2)
    with pytest.raises(ValueError, match="max_patches is 4, but one image of area 4096 has up to"):
        patch_reader(replace(PHASE, max_patches=4), 16)


def test_a_tokenizers_own_preparation_is_kept():
    own = ImageConfig(padding="zero", pad_multiple=32, max_pixels=2048**2)
    assert patch_reader(PHASE, 16, own).image == replace(own, max_pixels=64**2)
    small = replace(own, max_pixels=32**2)
    assert patch_reader(PHASE, 16, small).image == small
    wide = replace(PHASE, pool=4)
    assert patch_reader(wide, 16, own).image.pad_multiple == 64


# In batches.


def samples(images):
    return [
        Sample(id=f"s/{n}", images=images[:n], messages=question_messages("Hm?", "Yes", n))
        for n in range(len(images) + 1)
    ]


@pytest.mark.parametrize("name", ["codes", "tiles"])
def test_batches_hold_rows_of_all_images_and_the_grids_of_what_is_read(name, make_tokenizer):
    reader = READERS[name]
    images = (codes(2, 4), codes(4, 4)) if name == "codes" else (picture(64, 32), picture(20, 90))
    phase = replace(PHASE, max_patches=1000, seq_len=1000)
    packing = TextPacking(phase, make_tokenizer(eos_token="<|im_end|>"), reader)
    batch = packing.pack_one(samples(images))
    read = [reader.read(image, "one") for image in (images[0], *images)]
    assert np.array_equal(batch.rows, np.concatenate([one.rows for one in read]))
    grids = [grid for one in read for grid in one.grid_sizes]
    assert list(batch.packing) == grids
    assert batch.images == 3
    assert batch.tiles == (tuple(one.tiles for one in read) if name == "tiles" else ())
    tokens = sum((h // 2) * (w // 2 + 1) + 2 for h, w in grids)
    assert len(batch.image_positions) == tokens
    assert batch.to("cpu").tiles == batch.tiles
    words = packing.pack_one(samples(())[:1])
    assert words.rows.shape == reader.no_rows().shape
    assert (words.images, words.tiles) == (0, ())


def test_codes_of_too_many_patches_are_refused(make_tokenizer):
    packing = TextPacking(PHASE, make_tokenizer(eos_token="<|im_end|>"), READERS["codes"])
    with pytest.raises(InputError) as error:
        packing.prepare(samples((codes(8, 16),))[1], 0)
    assert str(error.value) == (
        "s/1: its images have 128 patches, but max_patches is 64; raise that, or take smaller"
        " images (viq extract --max-pixels 4096)"
    )
    packing.phase = replace(PHASE, max_patches=128, seq_len=40)
    with pytest.raises(InputError) as error:
        packing.prepare(samples((codes(8, 16),))[1], 0)
    assert str(error.value).startswith("s/1: its images reach to token ")
    assert str(error.value).endswith(
        ", but a sequence has 40; use a longer one (seq_len), or smaller images (viq extract"
        " --max-pixels 4096)"
    )
    packing.phase = replace(PHASE, max_patches=12)
    with pytest.raises(InputError) as error:  # several, none of which is too large by itself
        packing.prepare(samples((codes(4, 2), codes(2, 4)))[2], 0)
    assert str(error.value).endswith("or take smaller images")
