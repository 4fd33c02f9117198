"""What pictures take on disk."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from viq.evaluation.coding import codes_of
from viq.evaluation.document import value_of
from viq.evaluation.pictures import open_pictures
from viq.evaluation.samples import Samples
from viq.evaluation.storage import (
    CELL,
    PAPER,
    PAPER_PART,
    PAPER_SIZE,
    Storage,
    bytes_at_psnr,
)
from viq.evaluation.storage_tables import ALL, figures, parquet_bytes, tables
from viq.evaluation.subjects import Model
from viq.metrics.codecs import CODECS, at_quality
from viq.metrics.quality import psnr


def picture(path, seed, size=(96, 64)):
    small = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return image


def storage_of(folder, model, codecs=(), max_pixels=2048**2):
    pictures = open_pictures(str(folder))
    names = pictures.names
    return Storage(
        pictures=pictures, names=names, model=model, codecs=codecs, max_pixels=max_pixels
    )


@pytest.fixture(scope="module")
def found(tiny_tokenizer, tmp_path_factory):
    """Two sizes of pictures through the tiny tokenizer; the large one is made small."""
    folder = tmp_path_factory.mktemp("storage")
    for n in range(3):
        picture(folder / "data" / f"{n}.png", n, size=(96, 64) if n else (64, 64))
    asked = storage_of(folder / "data", Model("tiny", tiny_tokenizer), ["jpeg", "webp"])
    with Samples.open(folder / "out", asked.asked()) as samples:
        for _, errors in asked.run(samples):
            assert not errors
        # The real one takes long: the same with a small picture.
        record = asked._measured(picture(folder / "large.png", 9, size=(192, 128)), PAPER)
        samples.add(PAPER_PART, {PAPER: {**record, "squares": 24}})
        yield asked, samples, folder


def test_bytes_are_those_of_the_files(found):
    asked, samples, _ = found
    table = tables(asked, samples)[0]
    names = [column.name for column in table.columns]
    rows = {row[1]: dict(zip(names, row, strict=True)) for row in table.rows}
    assert list(rows) == ["96 × 64", "64 × 64", ALL, PAPER]
    row = rows["96 × 64"]
    codes = [codes_of(samples.of("pictures")[name]) for name in ("1.png", "2.png")]
    assert row["pictures"] == 2
    assert row["raw"] == 96 * 64 * 3
    assert row["codes of 16 bits"] == codes[0].nbytes == 4 * 6 * 4 * 2
    assert row["in .viq files"] == len(codes[0].to_bytes())
    assert row["in Parquet"] == parquet_bytes(codes) / 2
    assert row["information, at most"] == pytest.approx(4 * 6 * 4 * math.log2(64_000) / 8)
    files = [(asked.pictures.folder / name).stat().st_size for name in ("1.png", "2.png")]
    assert row["PNG"] == pytest.approx(np.mean(files), rel=0.1)
    assert row["raw / codes"] == pytest.approx(96 * 64 * 3 / 192)
    assert rows[ALL]["pictures"] == 3


def test_a_picture_above_the_limit_is_measured_as_large_as_it_is_encoded(tiny_tokenizer, tmp_path):
    image = picture(tmp_path / "data" / "a.png", 0, size=(384, 256))
    asked = storage_of(tmp_path / "data", Model("tiny", tiny_tokenizer), ["webp"], 96 * 64)
    with Samples.open(tmp_path / "out", asked.asked()) as samples:
        assert list(asked.run(samples)) == [("a.png", [])]
        record = samples.of("pictures")["a.png"]
        own = asked._measured(image.resize((96, 64), Image.Resampling.LANCZOS), "a.png")
        large = asked._measured(image, PAPER)
        samples.add(PAPER_PART, {PAPER: {**large, "squares": 0}})
        table = tables(asked, samples)[0]
    assert record["size"] == [64, 96]
    assert json.loads(json.dumps(own)) | {"id": "a.png"} == record
    names = [column.name for column in table.columns]
    rows = {row[1]: dict(zip(names, row, strict=True)) for row in table.rows}
    assert rows[ALL]["raw / codes"] == rows[PAPER]["raw / codes"] == 96  # not 16 times as much
    assert codes_of(large).grid_size == (16, 24)
    assert "more than 6,144 pixels are scaled down to so many first" in table.note


def test_codecs_stand_beside_the_model(found):
    asked, samples, _ = found
    table = tables(asked, samples)[1]
    assert [row[:2] for row in table.rows] == [
        (name, size)
        for size in (ALL, PAPER)
        for name in ("tiny", "JPEG as large as tiny", "WebP as large as tiny")
    ]
    model, _, webp = table.rows[:3]
    assert value_of(webp[2]) <= value_of(model[2])
    assert value_of(webp[6]) > 0
    own = [codes_of(one).nbytes for one in samples.of("pictures").values()]
    same = [one["webp at psnr"] for one in samples.of("pictures").values()]
    assert webp[7] == pytest.approx(100 * sum(same) / sum(own))


def test_parts_that_come_again_are_not_compressed(found, tmp_path):
    asked, samples, _ = found
    record = samples.of(PAPER_PART)[PAPER]
    with Samples.open(tmp_path, asked.asked()) as others:
        others.add("pictures", samples.of("pictures"))
        others.add(PAPER_PART, {PAPER: {**record, "squares": 2}})
        table = tables(asked, others)[0]
    row = dict(zip([column.name for column in table.columns], table.rows[-1], strict=True))
    assert (row["in Parquet"], row["PNG"], row["PNG / codes"]) == (None, None, None)
    assert row["raw / codes"] > 1
    assert "a mosaic of 2 squares of pictures, which come again" in table.note


def test_only_the_commonest_sizes_have_rows(tiny_tokenizer, tmp_path, found):
    _, samples, _ = found
    for n in range(10):
        picture(tmp_path / "data" / f"{n}.png", n, size=(32, 32 + n))
    asked = storage_of(tmp_path / "data", Model("tiny", tiny_tokenizer))
    with Samples.open(tmp_path / "out", asked.asked()) as own:
        assert not any(errors for _, errors in asked.run(own))
        own.add(PAPER_PART, samples.of(PAPER_PART))
        table = tables(asked, own)[0]
    assert len(table.rows) == 8 + 2
    assert "Pictures of 2 more sizes are in 'all sizes' only." in table.note


def test_as_few_bytes_as_any_quality_and_size_gives(tmp_path):
    image = picture(tmp_path / "a.png", 3, size=(60, 40))
    codec = CODECS["jpeg"]
    target = 24.0
    sizes = []
    for reduction in (1, 2, 3, 4):
        small = image.resize((round(60 / reduction), round(40 / reduction)), 1)
        for quality in codec.qualities:
            found = at_quality(small, codec, quality)
            shown = found.image.resize(image.size, 1)
            if psnr(np.asarray(image), np.asarray(shown)) >= target:
                sizes.append(found.num_bytes)
    # PSNR does not always rise with quality, so a bisection may miss the very least.
    assert min(sizes) <= bytes_at_psnr(image, codec, target) <= 1.05 * min(sizes)
    assert bytes_at_psnr(image, codec, 99.0) is None


def test_the_large_picture_is_a_mosaic_or_the_middle_of_a_large_one(tiny_tokenizer, tmp_path):
    first = picture(tmp_path / "data" / "a.png", 0, size=(2 * CELL + 9, CELL + 5))
    picture(tmp_path / "data" / "b.png", 1, size=(50, 40))
    asked = storage_of(tmp_path / "data", Model("tiny", tiny_tokenizer))
    image, squares = asked.large(asked.names)
    assert (image.size, squares) == (PAPER_SIZE, 3)
    values = np.asarray(image)
    assert np.array_equal(values[:CELL, :CELL], np.asarray(first)[:CELL, :CELL])
    assert np.array_equal(values[:CELL, :CELL], values[:CELL, 3 * CELL : 4 * CELL])
    large = picture(tmp_path / "data" / "c.png", 2, size=(1930, 1290))
    asked = storage_of(tmp_path / "data", Model("tiny", tiny_tokenizer))
    image, squares = asked.large(asked.names)
    assert (image, squares) == (large.crop((5, 5, 1925, 1285)), 0)


def test_the_figures_are_drawn(found, monkeypatch):
    asked, samples, folder = found
    monkeypatch.setattr(Storage, "large", lambda *_: (Image.open(folder / "large.png"), 24))
    for figure in figures(asked, samples, folder):
        with Image.open(folder / figure.file) as image:
            assert image.width >= 900


@pytest.mark.slow
def test_the_picture_of_the_papers_size_is_done_once(tiny_tokenizer, tmp_path):
    for n in range(2):
        picture(tmp_path / "data" / f"{n}.png", n, size=(2 * CELL, 2 * CELL))
    asked = storage_of(tmp_path / "data", Model("tiny", tiny_tokenizer), ["jpeg"], 96 * 64)
    with Samples.open(tmp_path / "out", asked.asked()) as samples:
        assert not any(errors for _, errors in asked.run(samples))
        asked.run_large(samples)
        record = samples.of(PAPER_PART)[PAPER]
        asked.run_large(samples)
        assert samples.of(PAPER_PART)[PAPER] is record
        found = figures(asked, samples, tmp_path)
    assert (record["size"], record["squares"]) == ([1280, 1920], 8)
    assert codes_of(record).nbytes == 76_800  # the paper's 0.077 MB
    assert record["jpeg"]["bytes"] <= 76_800
    for figure in found:
        with Image.open(tmp_path / figure.file) as image:
            assert image.width >= 900
