"""Any image as padded pixels, and pixels as an image again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from viq.errors import ImageError
from viq.image import ImageConfig, prepare, scaled_size, to_image, to_pixels

# Other people's numbers, where a checkout has them.
GOLDEN = next(
    (path / "shared" / "golden" for path in Path(__file__).parents if (path / "shared").is_dir()),
    Path("golden"),
)


def random_array(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height * 10_000 + width)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def golden(name: str) -> dict[str, np.ndarray]:
    if not (GOLDEN / name).is_file():
        pytest.skip(f"the reference numbers {name} are not here")
    with np.load(GOLDEN / name) as arrays:
        return dict(arrays)


# Values.


def test_bytes_become_pixels_exactly_as_the_reference_computes_them():
    every = np.arange(256, dtype=np.uint8)
    pixels = to_pixels(Image.fromarray(np.repeat(every[:, None, None], 3, axis=2)))
    assert pixels.dtype == torch.float32
    expected = (every.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    assert np.array_equal(pixels[0, :, 0].numpy(), expected)
    assert (pixels.min(), pixels.max()) == (-1, 1)


def test_pixels_equal_those_of_the_reference_preprocessing():
    arrays = golden("ops.npz")
    names = [name for name in arrays if name.startswith("preprocess/") and name.endswith("/float")]
    assert names
    for name in names:
        crop = arrays[name.replace("/float", "/crop_u8")]
        expected = arrays[name]
        assert np.array_equal(to_pixels(Image.fromarray(crop)).numpy(), expected)
        prepared = prepare(crop, ImageConfig())
        height, width = prepared.encoded_size
        assert np.array_equal(prepared.pixels[:, :height, :width].numpy(), expected)


def test_pictures_equal_the_reference_inputs():
    arrays = golden("tiny16k/inputs.npz")
    names = [name for name in arrays if name.startswith("u8_")]
    assert names
    for name in names:
        number = name.removeprefix("u8_")
        expected = arrays[f"image_{number}"]
        for source in (arrays[name], GOLDEN / "tiny16k" / f"image_{number}.png"):
            pixels = prepare(source, ImageConfig()).pixels
            height, width = expected.shape[1:]
            assert np.array_equal(pixels[:, :height, :width].numpy(), expected)


def test_every_byte_survives_the_round_trip():
    array = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(np.asarray(to_image(to_pixels(Image.fromarray(array)))), array)


# Sizes and padding.


@pytest.mark.parametrize(
    ("size", "padded"),
    [
        ((1, 1), (32, 32)),
        ((32, 64), (32, 64)),
        ((33, 70), (64, 96)),
        ((1, 20_000), (32, 20_000)),
        ((5000, 2), (5024, 32)),
    ],
)
def test_pictures_keep_their_resolution_and_are_padded(size, padded):
    array = random_array(*size)
    prepared = prepare(array, ImageConfig())
    assert prepared.pixels.shape == (3, *padded)
    assert prepared.pixels.dtype == torch.float32
    assert prepared.pixels.is_contiguous()
    assert prepared.original_size == prepared.encoded_size == size
    assert prepared.grid_size == (padded[0] // 16, padded[1] // 16)
    inside = prepared.pixels[:, : size[0], : size[1]]
    assert torch.equal(inside, to_pixels(Image.fromarray(array)))


def test_edge_padding_repeats_the_last_row_and_column():
    pixels = prepare(random_array(33, 40), ImageConfig()).pixels
    assert torch.equal(pixels[:, 33:, :40], pixels[:, 32:33, :40].expand(3, 31, 40))
    assert torch.equal(pixels[:, :, 40:], pixels[:, :, 39:40].expand(3, 64, 24))


def test_zero_padding_is_mid_grey():
    pixels = prepare(np.zeros((3, 4), np.uint8), ImageConfig(padding="zero")).pixels
    assert (pixels[:, :3, :4] == -1).all()
    assert pixels.sum() == -3 * 3 * 4


def test_other_patch_sizes_and_multiples():
    config = ImageConfig(patch_size=14, pad_multiple=14)
    prepared = prepare(random_array(15, 28), config)
    assert prepared.pixels.shape == (3, 28, 28)
    assert prepared.grid_size == (2, 2)


@pytest.mark.parametrize(
    "size", [(2049, 2048), (3000, 2000), (1, 9_000_000), (7, 1_000_000), (5000, 5000), (65, 65)]
)
def test_scaled_sizes_keep_the_shape_within_the_bound(size):
    for max_pixels in (4096, 2048**2):
        height, width = scaled_size(size, max_pixels)
        assert 1 <= height <= size[0]
        assert 1 <= width <= size[1]
        assert height * width <= max_pixels
        if size[0] * size[1] <= max_pixels:
            assert (height, width) == size
        elif min(height, width) > 30:
            assert height * width > 0.95 * max_pixels
            assert height / width == pytest.approx(size[0] / size[1], rel=0.02)


def test_a_large_picture_is_scaled_down_with_lanczos():
    array = random_array(120, 90)
    prepared = prepare(array, ImageConfig(max_pixels=64 * 64))
    assert prepared.original_size == (120, 90)
    assert prepared.encoded_size == (74, 55)
    assert prepared.pixels.shape == (3, 96, 64)
    expected = Image.fromarray(array).resize((55, 74), Image.Resampling.LANCZOS)
    assert torch.equal(prepared.pixels[:, :74, :55], to_pixels(expected))


@pytest.mark.parametrize("size", [(1, 5_000_000), (5_000_000, 1), (2, 600_000)])
def test_a_picture_too_thin_to_pad_is_refused(size):
    array = np.broadcast_to(np.zeros(1, np.uint8), size)
    with pytest.raises(ImageError) as caught:
        prepare(array, ImageConfig(), name="line")
    message = str(caught.value)
    assert message.startswith("line: too large or too thin: ")
    assert " would be padded to " in message
    assert "pixels of at most 16,777,216; crop it or scale it down" in message


def test_a_file_too_thin_to_pad_is_named(tmp_path):
    Image.new("1", (30_000, 1)).save(tmp_path / "line.png")
    with pytest.raises(ImageError, match=r"line\.png: too large or too thin: 4096 x 1 would be"):
        prepare(tmp_path / "line.png", ImageConfig(max_pixels=64 * 64))


@pytest.mark.parametrize("long", [33, 500, 2048, 4096])
def test_no_picture_whose_sides_reach_the_multiple_is_refused(long):
    config = ImageConfig(max_pixels=32 * 4096)
    prepared = prepare(np.zeros((33, long), np.uint8), config)
    assert prepared.pixels[0].numel() <= config.max_padded_pixels


# Float tensors.


def test_a_float_tensor_is_taken_as_it_is_and_padded_to_whole_patches():
    tensor = torch.rand(3, 17, 33) * 2 - 1
    prepared = prepare(tensor, ImageConfig())
    assert prepared.pixels.shape == (3, 32, 48)
    assert torch.equal(prepared.pixels[:, :17, :33], tensor)
    assert prepared.pixels[:, 17:].abs().sum() == prepared.pixels[:, :, 33:].abs().sum() == 0
    assert prepared.original_size == prepared.encoded_size == (17, 33)
    assert prepared.grid_size == (2, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_dtypes_become_float32(dtype):
    tensor = (torch.rand(3, 16, 16) * 2 - 1).to(dtype)
    pixels = prepare(tensor, ImageConfig()).pixels
    assert torch.equal(pixels, tensor.to(torch.float32))


def test_a_float_tensor_may_be_a_rounding_error_out_of_range():
    assert prepare(torch.full((3, 16, 16), 1.0005), ImageConfig()).pixels.max() > 1


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.full((3, 2, 2), 255.0), r"values go from 255 to 255; pass values in \[-1, 1\]"),
        (torch.full((3, 2, 2), -1.01), r"values go from -1\.01 to -1\.01"),
        (torch.tensor([0.0, torch.nan, 0.5]).reshape(3, 1, 1), "values go from nan to nan"),
        (torch.full((3, 2, 2), torch.inf), "values go from inf to inf"),
        (torch.zeros(1, 4, 4), r"the tensor has shape \(1, 4, 4\); pass \(3, H, W\)"),
        (torch.zeros(1, 3, 4, 4), r"the tensor has shape \(1, 3, 4, 4\); pass \(3, H, W\)"),
        (torch.zeros(3, 0, 4), r"has no pixels: the tensor has shape \(3, 0, 4\)"),
        (
            torch.zeros(3, 4, 4, dtype=torch.uint8),
            r"the tensor is torch\.uint8; pass uint8 as a numpy array \(H, W, 3\), or a float",
        ),
        (torch.zeros(3, 4, 4, dtype=torch.bool), r"the tensor is torch\.bool; pass uint8 as"),
        (torch.zeros(1).expand(3, 5000, 5000), "5000 x 5000 would be padded to 5008 x 5008, 25,"),
    ],
)
def test_a_tensor_that_is_no_pixels_is_refused(tensor, message):
    with pytest.raises(ImageError, match=f"^t: .*{message}"):
        prepare(tensor, ImageConfig(), name="t")


# Pixels to images.


def test_pixels_are_cut_to_what_was_encoded():
    array = random_array(33, 40)
    prepared = prepare(array, ImageConfig())
    image = to_image(
        prepared.pixels, encoded_size=prepared.encoded_size, original_size=prepared.original_size
    )
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), array)


def test_a_scaled_picture_returns_to_its_original_size():
    y, x = np.mgrid[:200, :150]
    array = np.stack([y, x, (x + y) // 2], axis=-1).astype(np.uint8)
    prepared = prepare(array, ImageConfig(max_pixels=64 * 64))
    image = to_image(prepared.pixels, encoded_size=prepared.encoded_size, original_size=(200, 150))
    assert image.size == (150, 200)
    difference = np.asarray(image).astype(int) - array
    assert abs(difference[10:-10, 10:-10]).max() <= 3


def test_values_are_clamped_and_rounded():
    values = torch.tensor([-9.0, -1, -0.999, 0.002, 0.5, 1, 7]).reshape(1, 1, 7).expand(3, 1, 7)
    for dtype in (torch.float32, torch.float64):
        row = np.asarray(to_image(values.to(dtype)))[0, :, 0]
        assert row.tolist() == [0, 0, 0, 128, 191, 255, 255]


def test_pixels_with_gradients_become_an_image_and_stay_unchanged():
    pixels = torch.full((3, 2, 2), 3.0, requires_grad=True)
    assert to_image(pixels * 1).getpixel((0, 0)) == (255, 255, 255)
    to_image(leaf := torch.full((3, 2, 2), 3.0))
    assert (leaf == 3).all()


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (torch.zeros(3, 4), {}, r"pixels are torch\.float32 of shape \(3, 4\); pass a float"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), {}, r"pixels are torch\.uint8"),
        (torch.full((3, 4, 4), torch.nan), {}, "not finite"),
        (
            torch.zeros(3, 4, 4),
            {"encoded_size": (5, 4)},
            r"encoded_size is \(5, 4\) but the pixels are \(4, 4\)",
        ),
        (torch.zeros(3, 4, 4), {"encoded_size": (0, 4)}, r"encoded_size is \(0, 4\)"),
    ],
)
def test_error_says_what_are_no_pixels(pixels, options, message):
    with pytest.raises(ValueError, match=message):
        to_image(pixels, **options)


def test_only_rgb_images_become_pixels():
    with pytest.raises(ValueError, match="the image has mode L; convert it to RGB"):
        to_pixels(Image.new("L", (2, 2)))


# The config.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch_size": 0}, "patch_size is 0; it must be a positive integer"),
        ({"patch_size": True}, "patch_size is True"),
        ({"max_pixels": 1e6}, r"max_pixels is 1000000\.0"),
        ({"pad_multiple": 24}, "pad_multiple is 24; it must be a multiple of patch_size, 16,"),
        ({"pad_multiple": 128}, "pad_multiple is 128; .* and at most 64"),
        ({"padding": "reflect"}, "padding is 'reflect'; it must be 'edge' or 'zero'"),
        ({"max_pixels": 1000}, "max_pixels is 1000; it must hold one block of 32 x 32"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ImageConfig(**settings)
