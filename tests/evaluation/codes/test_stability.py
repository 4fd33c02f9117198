import math

import numpy as np
import pytest
from PIL import Image

from viq.codes import Codes
from viq.evaluation.codes.stability import (
    change_names,
    compared,
    in_dtypes,
    stability_figure,
    stability_record,
    stability_table,
    variants,
)
from viq.evaluation.document import Score
from viq.metrics.quality import psnr


@pytest.fixture(scope="module")
def image():
    y, x = np.mgrid[:75, :90]
    values = np.stack([2 * x % 256, 3 * y % 256, (x + y) % 256], axis=-1).astype(np.uint8)
    return Image.fromarray(values)


def codes_of(values, levels=(8, 5)):
    height, width, _ = values.shape
    return Codes(
        values=values.reshape(height * width, -1).astype(np.uint16),
        grid_size=(height, width),
        original_size=(16 * height, 16 * width),
        encoded_size=(16 * height, 16 * width),
        levels=levels,
        fingerprint="0" * 64,
    )


def test_all_changes_are_made_of_a_picture_large_enough(image):
    found = variants(image, "a", 16, 32)
    assert [*found, "bfloat16", "float16"] == change_names(16)
    for change, variant in found.items():
        assert variant.image.size == variant.reference.size, change
        assert variant.image.mode == "RGB"
        assert not np.array_equal(np.asarray(variant.image), np.asarray(variant.reference)), change


def test_shifted_pictures_have_the_same_pixels_further_on(image):
    found = {v.pixels: v for v in variants(image, "a", 16, 32).values() if v.pixels}
    assert list(found) == [1, 2, 4, 8, 16]
    for shift, variant in found.items():
        first, second = np.asarray(variant.reference), np.asarray(variant.image)
        assert first.shape == (32, 64, 3)  # whole blocks
        assert np.array_equal(first[shift:, shift:], second[:-shift, :-shift])
        assert variant.patches == (shift == 16)


def test_a_picture_too_small_to_be_cropped_is_not_shifted(image):
    found = variants(image.crop((0, 0, 40, 75)), "a", 16, 32)
    assert not any("shifted" in change for change in found)
    assert len(found) == 9


def test_noise_is_the_same_for_a_name_and_as_strong_as_it_says(image):
    flat = Image.new("RGB", (80, 80), (128, 128, 128))
    one, again, other = (variants(flat, name, 16, 32) for name in ("a", "a", "b"))
    for sigma in (1, 2, 5, 10):
        change = f"noise, sigma {sigma} of 255"
        values = np.asarray(one[change].image, float)
        assert np.array_equal(values, np.asarray(again[change].image))
        assert not np.array_equal(values, np.asarray(other[change].image))
        assert values.std() == pytest.approx(math.hypot(sigma, 12**-0.5), rel=0.03)


def test_a_lower_jpeg_quality_changes_more(image):
    found = variants(image, "a", 16, 32)
    closeness = [
        psnr(np.asarray(image), np.asarray(found[f"JPEG, quality {q}"].image)) for q in (95, 75, 50)
    ]
    assert closeness == sorted(closeness, reverse=True)
    assert len(set(closeness)) == 3


def test_codes_are_compared_in_place_or_a_patch_further():
    values = np.arange(24).reshape(3, 4, 2)
    moved = np.zeros_like(values)
    moved[:-1, :-1] = values[1:, 1:]
    one, other = codes_of(values), codes_of(moved)
    same = {"codes": 1.0, "digits": 1.0, "distance": 0.0, "furthest": 0}
    assert compared(one, one, 0) == same
    assert compared(one, other, 1) == same
    assert compared(one, other, 0)["codes"] == 0


def test_digits_are_compared_by_their_distance():
    values = np.zeros((2, 2, 1), int)
    changed = values.copy()
    changed[0, 0, 0] = 3 + 8 * 2  # digits 3 and 2
    found = compared(codes_of(values), codes_of(changed), 0)
    assert found == {"codes": 0.75, "digits": 0.75, "distance": 5 / 8, "furthest": 3}


def test_codes_of_a_codebook_without_digits_are_equal_or_not():
    values, changed = np.zeros((2, 2, 1), int), np.array([[[0], [1]]] * 2)
    found = compared(codes_of(values, (600,)), codes_of(changed, (600,)), 0)
    assert found == {"codes": 0.5, "digits": None, "distance": None, "furthest": None}


def test_a_record_has_every_change(tiny_tokenizer, tiny_tokenizer_folder, image):
    others, notes = in_dtypes(str(tiny_tokenizer_folder), "cpu")
    record = stability_record(tiny_tokenizer, others, image, "a", decodes=True)
    assert list(record) == change_names(16)
    assert notes == []
    for change, found in record.items():
        assert 0 <= found["codes"] <= found["digits"] <= 1, change
        assert (found["decode_mse"] == 0) <= (found["codes"] == 1), change
    assert record["noise, sigma 10 of 255"]["codes"] < 1
    assert record["shifted by 16 px (whole patches)"]["input_mse"] == 0
    reference = tiny_tokenizer.encode(image)
    rough = others["bfloat16"].encode(image)
    assert record["bfloat16"]["codes"] == np.mean(reference.values == rough.values) < 1


def test_without_a_decoder_codes_alone_are_compared(tiny_tokenizer, image):
    record = stability_record(tiny_tokenizer, {}, image, "a", decodes=False)
    assert {found["decode_mse"] for found in record.values()} == {None}
    row = stability_table({"m": [record]}, 16).rows[0]
    assert isinstance(row[-2], Score)
    assert row[-1] is None


def test_the_table_has_means_the_worst_and_the_furthest():
    one = {"codes": 0.5, "digits": 0.9, "distance": 0.2, "furthest": 2}
    two = {"codes": 1.0, "digits": 1.0, "distance": 0.0, "furthest": 1}
    records = [
        {"bfloat16": one | {"input_mse": 0.0, "decode_mse": 4.0}},
        {"bfloat16": two | {"input_mse": 0.0, "decode_mse": 2.0}},
    ]
    table = stability_table({"m": records}, 16)
    assert [row[1] for row in table.rows] == change_names(16)
    row = next(row for row in table.rows if row[1] == "bfloat16")
    assert row[2] == 2
    assert (row[3].value, row[3].low, row[3].high) == (75, 50, 100)
    assert (row[4], row[5].value, row[6].value, row[7]) == (50, 95, 0.1, 2)
    assert row[8] is None  # the picture is the same, so its PSNR is infinite
    decibels = [10 * math.log10(255**2 / mse) for mse in (3, 4, 2)]
    assert [row[9].value, row[9].low, row[9].high] == pytest.approx(decibels)
    assert table.rows[0][2:] == (None,) * 8  # nothing is known of it


def test_the_plot_is_drawn_with_gaps(tiny_tokenizer, image, tmp_path):
    record = stability_record(tiny_tokenizer, {}, image, "a", decodes=False)
    table = stability_table({"m": [record], "n": [record, record]}, 16)
    figure = stability_figure(table, tmp_path)
    assert (tmp_path / figure.file).read_bytes().startswith(b"\x89PNG")
    assert "m, n" in figure.caption
