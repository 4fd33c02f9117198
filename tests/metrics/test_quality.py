"""PSNR, SSIM and MS-SSIM against their definitions, scikit-image and torchmetrics."""

import math

import numpy as np
import pytest
import torch

from viq.metrics.quality import MS_SSIM_SIDE, ms_ssim, psnr, ssim


def noisy_pair(height, width, noise=25):
    """Returns a smooth image and the same one with noise."""
    rng = np.random.default_rng(height * 1000 + width)
    y, x = np.mgrid[:height, :width]
    clean = np.stack([128 + 100 * np.sin(x / 9), 2.5 * y % 256, (x + y) % 256], axis=-1)
    damaged = clean + rng.normal(0, noise, clean.shape)
    return clean.astype(np.uint8), np.clip(damaged, 0, 255).astype(np.uint8)


def test_psnr_is_ten_times_the_logarithm_of_peak_over_error():
    a = np.zeros((4, 5, 3), np.uint8)
    b = a.copy()
    b[0, 0, 0] = 30  # an error of 30 in one of 60 values
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / (30**2 / 60)))


def test_equal_images_have_infinite_psnr_and_ssim_one():
    a, _ = noisy_pair(20, 30)
    assert psnr(a, a) == math.inf
    assert ssim(a, a) == 1


def test_black_and_white_have_psnr_zero():
    assert psnr(np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)) == 0


@pytest.mark.parametrize("measure", [psnr, ssim, ms_ssim])
def test_the_order_of_the_images_does_not_matter(measure):
    a, b = noisy_pair(183, 197)
    assert measure(a, b) == pytest.approx(measure(b, a), abs=1e-12)


@pytest.mark.parametrize("size", [(11, 11), (11, 64), (48, 37), (129, 200)])
@pytest.mark.parametrize("noise", [2, 25, 90])
def test_ssim_is_that_of_scikit_image(size, noise):
    reference = pytest.importorskip("skimage.metrics").structural_similarity
    a, b = noisy_pair(*size, noise)
    expected = reference(
        a,
        b,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=-1,
    )
    assert ssim(a, b) == pytest.approx(expected, abs=1e-6)


def test_psnr_is_that_of_scikit_image():
    reference = pytest.importorskip("skimage.metrics").peak_signal_noise_ratio
    a, b = noisy_pair(40, 50)
    assert psnr(a, b) == pytest.approx(reference(a, b, data_range=255), abs=1e-4)


def as_batch(image):
    return torch.from_numpy(image).permute(2, 0, 1)[None].double()


@pytest.mark.parametrize("size", [(MS_SSIM_SIDE, MS_SSIM_SIDE), (183, 301)])
@pytest.mark.parametrize("noise", [2, 90])
def test_ms_ssim_is_that_of_torchmetrics(size, noise):
    reference = pytest.importorskip(
        "torchmetrics.functional.image"
    ).multiscale_structural_similarity_index_measure
    a, b = noisy_pair(*size, noise)
    expected = float(reference(as_batch(a), as_batch(b), data_range=255.0))
    assert 0.4 < expected < 1
    assert ms_ssim(a, b) == pytest.approx(expected, abs=1e-6)


def test_psnr_is_that_of_torchmetrics():
    reference = pytest.importorskip("torchmetrics.functional.image").peak_signal_noise_ratio
    a, b = noisy_pair(40, 50)
    expected = float(reference(as_batch(a), as_batch(b), data_range=255.0))
    assert psnr(a, b) == pytest.approx(expected, abs=1e-4)


def test_ms_ssim_is_one_where_equal_and_zero_for_the_negative():
    a, _ = noisy_pair(180, 200)
    assert ms_ssim(a, a) == 1
    assert ms_ssim(a, 255 - a) == 0


@pytest.mark.parametrize("size", [(MS_SSIM_SIDE - 1, 400), (400, MS_SSIM_SIDE - 1), (1, 1)])
def test_images_too_small_for_ms_ssim_are_refused(size):
    a, b = noisy_pair(*size)
    with pytest.raises(ValueError, match=r"too small for MS-SSIM, which needs sides of 176 pixels"):
        ms_ssim(a, b)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (2, 3), (10, 10), (30, 7)])
def test_ssim_of_an_image_smaller_than_the_window(size):
    a, b = noisy_pair(*size)
    assert ssim(a, a) == pytest.approx(1)
    assert -1 <= ssim(a, b) < 1


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_pixels_are_measured_as_the_bytes_they_round_to(measure):
    a, b = noisy_pair(16, 24)
    pixels = [torch.from_numpy(image).permute(2, 0, 1) / 127.5 - 1 for image in (a, b)]
    assert measure(*pixels) == measure(a, b)
    assert measure(pixels[0] + 1e-3, b) == measure(a, b)
    assert measure(pixels[0].half(), pixels[1].double()) == measure(a, b)


def test_pixels_out_of_range_are_clamped():
    white = np.full((4, 4, 3), 255, np.uint8)
    assert psnr(torch.full((3, 4, 4), 1.7), white) == math.inf


@pytest.mark.parametrize("measure", [psnr, ssim, ms_ssim])
def test_error_names_both_sizes(measure):
    with pytest.raises(ValueError, match=r"differ in size: \(4, 5\) and \(5, 4\) \(H, W\)\."):
        measure(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "an image is float32; pass a uint8 array or a float"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), r"an image is torch\.uint8; pass"),
        ([[0]], "an image is list; pass"),
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\) as an array; pass \(H, W, 3\), or a tensor"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
        (torch.zeros(1, 4, 4), r"shape \(4, 4, 1\)"),
        (torch.full((3, 4, 4), math.nan), "values that are not finite"),
        (torch.full((3, 4, 4), math.inf), "values that are not finite"),
    ],
)
def test_error_says_what_is_not_an_image(image, message):
    with pytest.raises(ValueError, match=message):
        psnr(image, np.zeros((4, 4, 3), np.uint8))
