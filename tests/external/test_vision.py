"""Vision models of transformers, of random weights, and pictures cut into tiles for them."""

import json
import math
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaModel,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_next.modeling_llava_next import unpad_image

from viq.errors import ModelError
from viq.external.tiling import TilingConfig, best_grid, cut, drop_edges, fit, shown_patches
from viq.external.vision import load_square_vision

GRIDS = TilingConfig().grids
SIZES = [(1, 1), (30, 30), (48, 64), (64, 20), (20, 64), (333, 90), (7, 500), (1000, 999), (61, 61)]
COMMON = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}
VISION = {"image_size": 32, "patch_size": 8, **COMMON}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def clip():
    return CLIPVisionModel(CLIPVisionConfig(**VISION))


def siglip():
    return SiglipVisionModel(SiglipVisionConfig(**VISION | {"image_size": 36}))


def dino():
    changes = {"image_size": 56, "patch_size": 14}
    return Dinov2Model(Dinov2Config(**VISION | changes, mlp_ratio=2))


def both():
    text = {"vocab_size": 99, **COMMON}
    return CLIPModel(CLIPConfig(vision_config=VISION, text_config=text))


@pytest.fixture
def save(tmp_path):
    """Saves a model with settings of its pixels, None for none."""

    def write(model, settings=None):
        model.save_pretrained(tmp_path / "model")
        if settings is not None:
            (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(settings))
        return str(tmp_path / "model")

    return write


SETTINGS = {"image_mean": MEAN, "image_std": STD}


# Networks.


@pytest.mark.parametrize(("make", "others"), [(clip, 1), (siglip, 0), (dino, 1), (both, 1)])
@pytest.mark.parametrize("layer", [-2, 1, None])
def test_features_are_the_patches_of_the_asked_layer(make, others, layer, save):
    torch.manual_seed(0)
    model = make().eval()
    vision = load_square_vision(save(model, SETTINGS), layer=layer)
    side = {clip: 32, siglip: 32, dino: 56, both: 32}[make]
    assert (vision.side, vision.grid, vision.width) == (side, 4, 32)
    tiles = torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8)
    pixels = (tiles / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    inner = model.vision_model if make is both else model
    options = {"interpolate_pos_encoding": True} if make is siglip else {}
    with torch.no_grad():
        output = inner(pixel_values=pixels, output_hidden_states=True, **options)
    expected = output.last_hidden_state if layer is None else output.hidden_states[layer]
    torch.testing.assert_close(vision(tiles), expected[:, others:], rtol=1e-4, atol=1e-4)
    assert not any(p.requires_grad for p in vision.parameters())


@pytest.mark.parametrize(("make", "side"), [(clip, 48), (siglip, 40), (dino, 70)])
def test_tiles_may_have_another_side(make, side, save):
    vision = load_square_vision(save(make(), SETTINGS), side=side)
    assert vision.side == side
    features = vision(torch.zeros(2, 3, side, side, dtype=torch.uint8))
    assert features.shape == (2, vision.grid**2, 32)


@pytest.mark.parametrize(
    ("settings", "mean", "std"),
    [
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, 127.5, 127.5),
        ({"do_normalize": False}, 0.0, 255.0),
        ({"do_normalize": False, "do_rescale": False}, 0.0, 1.0),
        ({"image_mean": [127.5] * 3, "image_std": [2.0] * 3, "do_rescale": False}, 127.5, 2.0),
    ],
)
def test_pixels_are_normalised_as_the_models_makers_say(settings, mean, std, save):
    vision = load_square_vision(save(clip(), {**settings, "resample": 2}))
    torch.testing.assert_close(vision.mean, torch.full((3, 1, 1), mean))
    torch.testing.assert_close(vision.std, torch.full((3, 1, 1), std))
    assert vision.resample == 2


@pytest.mark.parametrize(
    ("make", "settings", "options", "says"),
    [
        (clip, None, {}, "no preprocessor_config.json, which says how pixels are normalised"),
        (clip, {"image_mean": MEAN}, {}, "its preprocessor_config.json has no image_std"),
        (clip, [], {}, "its preprocessor_config.json is no JSON object"),
        (clip, {**SETTINGS, "resample": 9}, {}, "cannot be used for tiles: 9 is not a valid"),
        (clip, SETTINGS, {"side": 33}, "tiles of 33 pixels are no whole patches; take a multiple"),
        (clip, SETTINGS, {"layer": 7}, "layer 7 is asked for, but it has 4 hidden states"),
        (
            lambda: Siglip2VisionModel(Siglip2VisionConfig(patch_size=8, num_patches=16, **COMMON)),
            SETTINGS,
            {},
            "its config has no image_size, so it is not for squares of one size",
        ),
        (
            lambda: CLIPVisionModel(CLIPVisionConfig(**VISION)).to(torch.float32),
            SETTINGS | {"image_mean": "blue"},
            {},
            "cannot be used for tiles",
        ),
        (
            lambda: ConvNextModel(
                ConvNextConfig(image_size=32, hidden_sizes=[8] * 4, depths=[1] * 4)
            ),
            SETTINGS,
            {},
            r"its features have shape \(1, 8, 2, 2\), not one for each of 8 x 8 patches",
        ),
        (
            lambda: LlamaModel(LlamaConfig(vocab_size=50, **COMMON)),
            SETTINGS,
            {},
            "has no vision model that sees patches",
        ),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(make, settings, options, says, save):
    with pytest.raises(ModelError, match=says) as error:
        load_square_vision(save(make(), settings), **options)
    assert "\n" not in str(error.value)


def test_missing_models_are_named(tmp_path):
    with pytest.raises(ModelError, match="nowhere: no such vision model: not a folder, not a hub"):
        load_square_vision("nowhere")
    with pytest.raises(ModelError, match="the vision model does not load"):
        load_square_vision(str(tmp_path))


def test_damaged_settings_are_named(save):
    where = save(clip(), {})
    with open(f"{where}/preprocessor_config.json", "w") as file:
        file.write("{")
    with pytest.raises(ModelError, match=r"its preprocessor_config.json cannot be read"):
        load_square_vision(where)


# Tiles.


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grids", [GRIDS, tuple(product(range(1, 7), range(1, 7)))])
def test_the_grid_is_llava_nexts(size, grids):
    choices = [[rows * 32, columns * 32] for rows, columns in grids]
    height, width = select_best_resolution(size, choices)
    assert best_grid(size, grids, 32) == (height // 32, width // 32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grid", [*GRIDS, (1, 1), (4, 2)])
def test_every_pixel_lies_in_exactly_one_tile_and_the_shape_stays(size, grid):
    side = 32
    (height, width), (top, left) = fit(size, grid, side)
    assert 0 <= top <= grid[0] * side - height
    assert 0 <= left <= grid[1] * side - width
    assert height == grid[0] * side or width == grid[1] * side
    scale = min(grid[0] * side / size[0], grid[1] * side / size[1])
    assert abs(height - size[0] * scale) < 1
    assert abs(width - size[1] * scale) < 1
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(1, 256, (*size, 3), dtype=np.uint8))
    views = cut(picture, grid, side, 0)  # nearest: values stay
    assert views.shape == (1 + grid[0] * grid[1], side, side, 3)
    rows = [np.concatenate(list(row), 1) for row in views[1:].reshape(*grid, side, side, 3)]
    whole = np.concatenate(rows, 0)
    expected = np.zeros_like(whole)
    scaled = np.asarray(picture.resize((width, height), Image.Resampling.NEAREST))
    expected[top : top + height, left : left + width] = scaled
    assert np.array_equal(whole, expected)
    squashed = np.asarray(picture.resize((side, side), Image.Resampling.NEAREST))
    assert np.array_equal(views[0], squashed)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grid", [*GRIDS, (1, 1), (4, 2)])
@pytest.mark.parametrize("pool", [1, 2, 4])
def test_patches_that_show_something_stay_and_no_token_that_shows_nothing(size, grid, pool):
    side, patch = 64, 8
    (height, width), (top, left) = fit(size, grid, side)
    mask = np.zeros((grid[0] * side, grid[1] * side), bool)
    mask[top : top + height, left : left + width] = True
    unit = patch * pool
    tokens = mask.reshape(mask.shape[0] // unit, unit, mask.shape[1] // unit, unit).any((1, 3))
    shown = shown_patches(size, grid, side, patch=patch, pool=pool)
    assert shown == (tokens.any(1).sum() * pool, tokens.any(0).sum() * pool)
    whole = (mask.shape[0] // patch, mask.shape[1] // patch)
    kept = [drop_edges(all_, left, pool) for all_, left in zip(whole, shown, strict=True)]
    cells = np.repeat(np.repeat(tokens, pool, 0), pool, 1)
    assert cells[kept[0], kept[1]].all()
    assert cells.sum() == math.prod(shown)


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (333, 90), (500, 500), (210, 500)])
def test_what_is_left_is_llava_nexts_or_a_patch_more(size):
    side, patch = 336, 14
    grid = best_grid(size, GRIDS, side)
    features = torch.zeros(1, grid[0] * 24, grid[1] * 24)
    theirs = unpad_image(features, size).shape[1:]
    ours = shown_patches(size, grid, side, patch=patch, pool=1)
    assert all(0 <= a - b <= 2 for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"grids": ((0, 2),)}, "a grid has 1 row and 1 column or more"),
        ({"side": 0}, "side is 0; it must be 1 or more"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        TilingConfig(**settings)
