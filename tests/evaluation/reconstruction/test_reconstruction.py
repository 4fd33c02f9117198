"""What comes back of pictures, and the tables of it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from viq.evaluation.coding import codes_of
from viq.evaluation.document import value_of
from viq.evaluation.pictures import open_pictures
from viq.evaluation.reconstruction.curves import RATES, SCALES, Curves, Point
from viq.evaluation.reconstruction.measures import INCEPTION, Measures, SetDistance, letters
from viq.evaluation.reconstruction.runner import Reconstruction, record_of, square
from viq.evaluation.reconstruction.sheets import ranked, sheets
from viq.evaluation.reconstruction.tables import LEAST_PICTURES, tables
from viq.evaluation.samples import Samples
from viq.evaluation.subjects import Codec, Decoded, Model, Rebuilt
from viq.metrics.codecs import CODECS, at_bytes
from viq.metrics.frechet import frechet_distance
from viq.metrics.quality import ms_ssim, psnr, ssim
from viq.metrics.rate import code_usage, entropy


def picture(path, seed, size=(200, 180)):
    """A smooth picture, each seed another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    image.save(path)
    return image


def asked_of(folder, subjects, protocols=("native",), **measures):
    pictures = open_pictures(str(folder))
    return Reconstruction(
        pictures=pictures,
        names=pictures.names,
        subjects=subjects,
        measures=Measures(**measures),
        protocols=protocols,
        max_pixels=2048**2,
    )


def done(asked, out):
    """The finished samples and what went wrong."""
    with Samples.open(out, asked.asked()) as samples:
        errors = [error for _, some in asked.run(samples) for error in some]
    return samples, errors


def row_of(table, name):
    (row,) = [row for row in table.rows if row[0] == name]
    return {column.name: cell for column, cell in zip(table.columns, row, strict=True)}


def test_the_square_is_the_middle_of_the_picture_at_256():
    values = np.zeros((256, 512, 3), np.uint8)
    values[:, 128:384] = 255
    assert (np.asarray(square(Image.fromarray(values))) == 255).all()
    for size in ((100, 300), (300, 100), (256, 256), (257, 999), (1, 1)):
        assert square(Image.new("RGB", size)).size == (256, 256)


def test_a_picture_keeps_its_size_up_to_the_limit(tmp_path):
    image = picture(tmp_path / "a.png", 0)
    asked = asked_of(tmp_path, [])
    assert asked.view(image, "native") is image
    small = Reconstruction(**{**asked.__dict__, "max_pixels": 9000})
    assert small.view(image, "native").size == (100, 90)


def test_the_numbers_are_those_of_the_pictures(tmp_path, tiny_tokenizer):
    images = [picture(tmp_path / "data" / f"{n}.png", n) for n in range(2)]
    asked = asked_of(tmp_path / "data", [Model("tiny", tiny_tokenizer)])
    samples, errors = done(asked, tmp_path / "out")
    assert not errors
    codes = [tiny_tokenizer.encode(image) for image in images]
    pairs = [
        (np.asarray(image), np.asarray(tiny_tokenizer.decode(one)))
        for image, one in zip(images, codes, strict=True)
    ]
    quality, _, of_codes, heads = tables(asked, samples)
    row = row_of(quality, "tiny")
    for name, measure in (("PSNR", psnr), ("SSIM", ssim), ("MS-SSIM", ms_ssim)):
        assert row[name].value == pytest.approx(np.mean([measure(a, b) for a, b in pairs]))
        assert row[name].low <= row[name].value <= row[name].high
    assert row["bits per pixel"] == pytest.approx(codes[0].bits_per_pixel)
    assert (row["LPIPS"], row["DISTS"], row["hed distance"], row["pictures"]) == (
        None,
        None,
        None,
        2,
    )
    values = np.concatenate([one.values for one in codes])
    bits = entropy(values, 64_000)
    row = row_of(of_codes, "tiny")
    assert row["entropy"] == pytest.approx(bits.mean())
    assert row["used"] == pytest.approx(100 * code_usage(values, 64_000).mean())
    assert row["information"] == pytest.approx(bits.sum() * len(codes[0].values) / 36_000)
    assert [row[2] for row in heads.rows] == pytest.approx(bits.tolist())


def test_codecs_get_as_many_bytes_as_the_first_model_took(tmp_path, tiny_tokenizer):
    picture(tmp_path / "data" / "a.png", 0)
    codecs = [Codec("jpeg", bpp=None, beside="tiny"), Codec("webp", bpp=0.0001, beside=None)]
    asked = asked_of(tmp_path / "data", [Model("tiny", tiny_tokenizer), *codecs])
    samples, _ = done(asked, tmp_path / "out")
    budget = samples.of("native=tiny")["a.png"]["bytes"]
    assert 0 < samples.of("native=JPEG as large as tiny")["a.png"]["bytes"] <= budget
    names = [row[0] for row in tables(asked, samples)[0].rows]
    assert names == ["tiny", "JPEG as large as tiny", "WebP at 0.0001 bpp"]
    quality = tables(asked, samples)[0]
    assert quality.rows[2][1:] == (*[None] * 7, 0)
    assert quality.note.endswith("No picture has so small a file: WebP at 0.0001 bpp.")


def test_a_tiny_picture_does_not_rule_the_rate(tmp_path, tiny_tokenizer):
    picture(tmp_path / "data" / "a.png", 0)
    picture(tmp_path / "data" / "icon.png", 0, size=(1, 1))
    asked = asked_of(tmp_path / "data", [Model("tiny", tiny_tokenizer)])
    samples, _ = done(asked, tmp_path / "out")
    num_bytes = sum(one["bytes"] for one in samples.of("native=tiny").values())
    quality, _, codes, _ = tables(asked, samples)
    for table in (quality, codes):
        assert table.rows[0][1] == pytest.approx(8 * num_bytes / (200 * 180 + 1))


def test_a_lossless_picture_counts_as_100_db(tmp_path):
    for n in range(2):
        picture(tmp_path / "data" / f"{n}.png", n)
    picture(tmp_path / "same" / "0.png", 0)
    picture(tmp_path / "same" / "1.png", 5)
    asked = asked_of(tmp_path / "data", [Decoded("same", tmp_path / "same")])
    samples, _ = done(asked, tmp_path / "out")
    table = tables(asked, samples)[0]
    other = samples.of("native=same")["1.png"]["psnr"]
    assert row_of(table, "same")["PSNR"].value == pytest.approx((100 + other) / 2)
    assert row_of(table, "same")["bits per pixel"] is None  # nobody said
    assert "1 came back without any loss and count as 100 dB" in table.note


def test_a_decoded_folder_is_of_the_protocol_whose_size_it_has(tmp_path):
    image = picture(tmp_path / "data" / "a.png", 0)
    (tmp_path / "decoded").mkdir()
    square(image).save(tmp_path / "decoded" / "a.png")
    asked = asked_of(
        tmp_path / "data", [Decoded("other", tmp_path / "decoded")], protocols=("native", "256")
    )
    samples, errors = done(asked, tmp_path / "out")
    assert not errors
    assert [table.title for table in tables(asked, samples)] == [
        "Quality: data, 1 picture, 256 × 256",
        "Text and distribution: data, 1 picture, 256 × 256",
    ]


def test_one_subject_that_fails_leaves_the_others(tmp_path, tiny_tokenizer):
    picture(tmp_path / "data" / "a.png", 0)
    picture(tmp_path / "data" / "b.png", 1, size=(20, 20))
    picture(tmp_path / "decoded" / "b.png", 0, size=(20, 20))
    subjects = [Model("tiny", tiny_tokenizer), Decoded("other", tmp_path / "decoded")]
    asked = asked_of(tmp_path / "data", subjects)
    samples, errors = done(asked, tmp_path / "out")
    assert [str(error) for error in errors] == [f"{tmp_path / 'decoded'}: no picture called 'a'"]
    table = tables(asked, samples)[0]
    assert [(row[0], row[-1]) for row in table.rows] == [("tiny", 2), ("other", 1)]
    assert "1 picture is too small for MS-SSIM and not in its mean" in table.note
    assert "Rows of fewer pictures lack those" in table.note


def test_text_counts_where_the_reader_finds_some(tmp_path):
    texts = {180: "a fine day", 90: "", 60: "ab"}  # what is found, by the picture's height
    for height in texts:
        picture(tmp_path / "data" / f"{height}.png", height, size=(200, height))
        picture(tmp_path / "decoded" / f"{height}.png", height + 1, size=(200, height))

    def read(image):
        red = int(np.asarray(image)[0, 0, 0])
        return readings[image.height, red]

    readings = {}
    for height, text in texts.items():
        for folder, shown in (("data", text), ("decoded", "a wine bay")):
            image = Image.open(tmp_path / folder / f"{height}.png")
            readings[height, int(np.asarray(image)[0, 0, 0])] = shown
    asked = asked_of(tmp_path / "data", [Decoded("other", tmp_path / "decoded")], read=read)
    samples, _ = done(asked, tmp_path / "out")
    row = row_of(tables(asked, samples)[1], "other")
    assert row["OCR character error"].value == pytest.approx(25)  # two letters of eight
    assert row["pictures with text"] == 1


def test_white_space_and_wide_signs_do_not_count():
    assert (
        letters("The wood\uff0c\nthe zebra") == letters("Thewood, the zebra ") == "Thewood,thezebra"
    )


def test_of_known_text_the_readers_own_error_is_shown(tiny_tokenizer, tmp_path):
    pictures = open_pictures("text", count=3)
    measures = Measures(read=lambda image: "nothing")
    asked = Reconstruction(
        pictures=pictures,
        names=pictures.names,
        subjects=[Model("tiny", tiny_tokenizer)],
        measures=measures,
        protocols=["native"],
        max_pixels=2048**2,
    )
    samples, _ = done(asked, tmp_path)
    table = tables(asked, samples)[1]
    assert [row[0] for row in table.rows] == ["original", "tiny"]
    assert all(90 < value_of(row[2]) <= 100 for row in table.rows)
    by_height = tables(asked, samples)[2]
    assert by_height.title == "Text by height: lines of text, 3 pictures, native size"
    heights = ["16 px", "24 px", "32 px"]
    assert [row[:2] for row in by_height.rows] == [
        (name, height) for name in ("tiny", "original") for height in heights
    ]
    assert [row[-1] for row in by_height.rows] == [1] * 6


def test_frechet_distances_are_of_enough_pictures(tmp_path):
    data = tmp_path / "data"
    for n in range(LEAST_PICTURES):
        picture(data / f"{n:03d}.png", n, size=(12, 12))
        picture(tmp_path / "decoded" / f"{n:03d}.png", n + 1, size=(12, 12))

    def features(image):
        return torch.from_numpy(np.asarray(image, np.float32).mean((0, 1)))[None]

    sets = {INCEPTION: SetDistance(features, frechet_distance)}
    asked = asked_of(data, [Decoded("other", tmp_path / "decoded")], sets=sets)
    samples, _ = done(asked, tmp_path / "out")
    table = tables(asked, samples)[1]
    first, second = (
        torch.cat([features(Image.open(file)) for file in sorted(folder.iterdir())])
        for folder in (tmp_path / "decoded", data)
    )
    assert row_of(table, "other")["rFID"] == pytest.approx(frechet_distance(first, second))
    (data / "000.png").unlink()
    fewer = asked_of(data, [Decoded("other", tmp_path / "decoded")], sets=sets)
    samples, _ = done(fewer, tmp_path / "fewer")
    assert row_of(tables(fewer, samples)[1], "other")["rFID"] is None


@pytest.mark.parametrize("size", [64_000, 100_000])
def test_codes_come_back_from_a_record(size):
    from viq.codes import Codes

    levels = (size,)
    dtype = np.uint16 if size <= 2**16 else np.uint32
    values = np.array([[0, size - 1], [5, 6]], dtype)
    codes = Codes(
        values,
        grid_size=(1, 2),
        original_size=(16, 32),
        encoded_size=(16, 32),
        levels=levels,
        fingerprint="0" * 64,
    )
    record = record_of(Image.new("RGB", (32, 16)), Rebuilt(Image.new("RGB", (32, 16)), 8, codes))
    assert codes_of(json.loads(json.dumps(record))) == codes
    assert record["size"] == [16, 32]


def test_best_median_and_worst_are_by_psnr():
    records = {
        name: {"psnr": value} for name, value in zip("abcde", (3, 9, None, 1, 5), strict=True)
    }
    assert ranked(records) == {"best": "c", "median": "e", "worst": "d"}
    assert ranked({"a": {"psnr": 1}}) == {"best": "a"}
    assert ranked({"a": {"psnr": 1}, "b": {"psnr": 2}}) == {"best": "b", "worst": "a"}


def test_a_sheet_shows_each_rank_by_all_subjects(tmp_path, tiny_tokenizer):
    for n in range(4):
        picture(tmp_path / "data" / f"{n}.png", n, size=(64, 48))
    subjects = [Model("tiny", tiny_tokenizer), Codec("webp", bpp=0.001, beside=None)]
    asked = asked_of(tmp_path / "data", subjects)
    samples, _ = done(asked, tmp_path / "out")
    (figure,) = sheets(asked, samples, tmp_path)
    assert figure.title == "The best, median and worst pictures of tiny by PSNR, native size"
    with Image.open(tmp_path / figure.file) as image:
        assert image.width == 12 + 3 * 312


def test_codecs_get_the_models_rates_and_may_shrink_pictures_too(tmp_path, tiny_tokenizer):
    image = picture(tmp_path / "data" / "a.png", 0, size=(200, 150))
    picture(tmp_path / "data" / "b.png", 1, size=(200, 150))
    asked = asked_of(tmp_path / "data", [Model("tiny", tiny_tokenizer)])
    curves = Curves(asked=asked, codecs=["webp"])
    with Samples.open(tmp_path, asked.asked()) as samples:
        assert list(curves.run(samples)) == [("a.png", []), ("b.png", [])]
        table = curves.table(samples)
        figures = curves.figures(samples, tmp_path)
        taken = samples.of("curve=tiny")["sides x 0.50: a.png"]["bytes"]
        found = samples.of("curve=WebP")["as large as tiny, sides x 0.50: a.png"]
    assert [figure.file for figure in figures] == ["curve-psnr.png", "curve-ssim.png"]
    rows = [row for row in table.rows if row[0] == "tiny"]
    assert len(rows) == len(SCALES)
    assert table.note.startswith("Means over 2 of 2 pictures, those that every row has.")
    rates = [value_of(row[2]) for row in rows]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0] / 8
    settings = [row[1] for row in table.rows if row[0] == "WebP"]
    assert settings[0] == "as large as tiny, sides x 1.00"
    assert settings[-1] == f"at {RATES[-1]:g} bpp"
    best = at_bytes(image, CODECS["webp"], taken)
    assert found["bytes"] == best.num_bytes <= taken
    assert found["psnr"] == pytest.approx(psnr(np.asarray(image), np.asarray(best.image)))


def test_rows_of_curves_are_of_the_same_pictures(tmp_path, tiny_tokenizer):
    for n, size in enumerate([(40, 30), (200, 150), (200, 150), (400, 300)]):
        picture(tmp_path / "data" / f"{n}.png", n, size=size)
    asked = asked_of(tmp_path / "data", [Model("tiny", tiny_tokenizer)])
    curves = Curves(asked=asked, codecs=["jpeg"])
    with Samples.open(tmp_path, asked.asked()) as samples:
        assert not any(errors for _, errors in curves.run(samples))
        table = curves.table(samples)
        records = samples.of("curve=JPEG")
        whole = samples.of("curve=tiny")
    # JPEG's header alone is larger than so few bytes.
    assert "none" in records["at 0.06 bpp: 1.png"]
    assert "none" not in records["at 0.25 bpp: 1.png"]
    assert "Left out, for fewer than half of the pictures have a file so small: JPEG" in table.note
    settings = {row[1] for row in table.rows}
    assert "as large as tiny, sides x 0.25" not in settings
    assert "at 0.25 bpp" in settings
    assert {row[-1] for row in table.rows} == {3}
    assert table.note.startswith("Means over 3 of 4 pictures")
    expected = np.mean([whole[f"sides x 1.00: {n}.png"]["psnr"] for n in (1, 2, 3)])
    assert value_of(table.rows[0][3]) == pytest.approx(expected)


def test_curves_of_nothing_in_common_are_empty(tmp_path, tiny_tokenizer):
    picture(tmp_path / "data" / "a.png", 0)
    asked = asked_of(tmp_path / "data", [])
    with Samples.open(tmp_path, asked.asked()) as samples:
        curves = Curves(asked=asked, codecs=["jpeg"])
        assert curves.table(samples).rows == ()
        assert curves.figures(samples, tmp_path) == []


def test_an_enlarged_picture_has_the_originals_size(tiny_tokenizer):
    point = Point("tiny", "", Model("tiny", tiny_tokenizer), scale=0.25)
    assert point.rebuild("a", Image.new("RGB", (101, 67)), None).image.size == (101, 67)
