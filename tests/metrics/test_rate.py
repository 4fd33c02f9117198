"""Bits per pixel, and how codes use their codebook."""

import math

import numpy as np
import pytest

from viq.metrics.rate import bits_per_pixel, code_usage, entropy


def test_bits_per_pixel_counts_eight_bits_a_byte():
    assert bits_per_pixel(2048, (256, 256)) == 0.25
    assert bits_per_pixel(0, (1, 3)) == 0


def test_code_usage_is_the_share_of_the_codebook_for_each_head():
    values = np.array([[0, 3], [1, 3], [1, 3], [7, 3]], np.uint16)
    assert code_usage(values, 8).tolist() == [3 / 8, 1 / 8]


def test_entropy_of_even_use_is_the_logarithm_of_the_codebook_size():
    values = np.stack([np.arange(64), np.zeros(64, int)], axis=1)
    assert entropy(values, 64).tolist() == [6, 0]


def test_entropy_is_that_of_the_shares():
    values = np.array([[0], [0], [0], [5]], np.uint64)
    expected = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert entropy(values, 6) == pytest.approx([expected])


def test_the_largest_codebook_of_16_bits_is_counted_whole():
    values = np.arange(2**16, dtype=np.uint16)[:, None]
    assert code_usage(values, 2**16).tolist() == [1]
    assert entropy(values, 2**16).tolist() == [16]


def test_error_names_bytes_and_size():
    with pytest.raises(ValueError, match=r"12 bytes for an image of size \(0, 3\)"):
        bits_per_pixel(12, (0, 3))
    with pytest.raises(ValueError, match=r"-1 bytes for an image of size \(2, 3\)"):
        bits_per_pixel(-1, (2, 3))


@pytest.mark.parametrize("measure", [code_usage, entropy])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(4, np.uint16), r"uint16 of shape \(4,\); pass integers \(N, code_heads\)"),
        (np.zeros((0, 4), np.uint16), r"shape \(0, 4\)"),
        (np.zeros((4, 1)), "codes are float64"),
        (np.array([[2], [64]]), "codes go from 2 to 64, but the codebook size is 64"),
        (np.array([[-1], [3]]), "codes go from -1 to 3"),
    ],
)
def test_error_says_what_are_no_codes(measure, values, message):
    with pytest.raises(ValueError, match=message):
        measure(values, 64)
