from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from viq.codes import Codes
from viq.evaluation.codes import neighbours
from viq.evaluation.codes.neighbours import Key
from viq.evaluation.codes.usage import digits_of

LEVELS = (8, 8, 8, 5, 5, 5)


@pytest.fixture
def codes(tiny_tokenizer):
    rng = np.random.default_rng(0)
    size = (6 * 16, 4 * 16)
    return Codes(
        values=rng.integers(0, 64_000, (24, 4)).astype(np.uint16),
        grid_size=(6, 4),
        original_size=size,
        encoded_size=size,
        levels=LEVELS,
        fingerprint=tiny_tokenizer.fingerprint,
    )


def grids(codes):
    values = codes.values.astype(np.int64).reshape(*codes.grid_size, -1)
    return digits_of(values, codes.levels)  # (h, w, Q, K)


@pytest.mark.parametrize("step", neighbours.STEPS)
@pytest.mark.parametrize("dimension", [0, 2, 5])
def test_one_digit_of_one_head_moves_in_the_middle_as_far_as_there_are_levels(
    codes, dimension, step
):
    changed, share = neighbours.moved(codes, Key(2, dimension, step))
    before, after = grids(codes), grids(changed)
    expected = before.copy()
    rows, columns = neighbours.inside(codes)
    assert (rows, columns) == (slice(1, 4), slice(1, 3))
    inner = expected[rows, columns, 2, dimension]
    inner[:] = np.clip(inner + step, 0, LEVELS[dimension] - 1)
    assert np.array_equal(after, expected)
    there = (after != before)[rows, columns, 2, dimension]
    assert share == there.mean() > 0


def test_the_middle_of_a_large_picture_is_taken(codes):
    size = (40 * 16, 10 * 16)
    values = np.arange(400).repeat(4).reshape(400, 4).astype(np.uint16)
    large = replace(codes, values=values, grid_size=(40, 10), original_size=size, encoded_size=size)
    piece = neighbours.middle(large)
    assert piece.grid_size == (16, 10)
    assert piece.original_size == (256, 160)
    assert piece.values[0, 0] == 12 * 10
    assert neighbours.middle(codes) == codes


def test_what_a_step_changes_is_measured_inside_and_outside(codes):
    black = Image.new("RGB", (64, 96))
    changed = np.zeros((96, 64, 3), np.uint8)
    changed[16:64, 16:48] = 3
    changed[0, 0] = 48
    neighbour = neighbours.Neighbour(Image.fromarray(changed), 0.5)
    record = neighbours.neighbour_record(codes, Key(1, 2, -1), black, neighbour)
    outside = 48**2 / (96 * 64 - 48 * 32)
    assert record == {
        "head": 1,
        "dimension": 2,
        "step": -1,
        "moved": 0.5,
        "inside": 9.0,
        "outside": pytest.approx(outside),
    }
    other = record | {"step": 1, "inside": 16.0, "moved": 1.0}
    more = [record | {"step": 2}, record | {"step": -2}]
    table = neighbours.neighbour_table({"m": [record, other, *more]}, {"m": LEVELS})
    (row,) = table.rows
    assert row[:4] == ("m", 2, 3, 8)
    assert row[4:7] == pytest.approx((12.5**0.5, outside**0.5, 75))
    assert row[7:] == pytest.approx((3, outside**0.5, 50))


def test_sheets_are_drawn_of_real_decodes(tiny_tokenizer, codes, tmp_path):
    found = neighbours.decode_neighbours(tiny_tokenizer, codes, 1)
    assert list(found) == [key for key in neighbours.all_keys(codes) if key.head == 1]
    decoded = tiny_tokenizer.decode(codes)
    key = Key(1, 0, 2)
    record = neighbours.neighbour_record(codes, key, decoded, found[key])
    assert record["inside"] > 0
    neighbours.neighbour_sheet(codes, decoded, found, 1, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width <= 900
    figure = neighbours.neighbour_figure(1, tmp_path / "sheet.png", "m")
    assert (figure.file, figure.title) == ("sheet.png", "Neighbouring codes, head 2")
    assert "decoded by m" in figure.caption


def test_equal_codes_have_equal_colours(codes, tmp_path):
    values = codes.values.copy()
    values[5] = values[7]
    colours = neighbours.colours_of(replace(codes, values=values)).reshape(24, 4, 3)
    assert np.array_equal(colours[5], colours[7])
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) > 80  # of 92 different codes
    figure = neighbours.code_map(codes, None, tmp_path / "map.png", "m")
    assert (tmp_path / figure.file).read_bytes().startswith(b"\x89PNG")


def test_numbers_of_a_codebook_have_colours_but_no_neighbours(codes):
    plain = replace(codes, values=codes.values % 600, levels=(600,))
    assert neighbours.all_keys(plain) == []
    colours = neighbours.colours_of(plain).reshape(-1, 3)
    different = len(np.unique(plain.values))
    assert len(np.unique(colours, axis=0)) == different
