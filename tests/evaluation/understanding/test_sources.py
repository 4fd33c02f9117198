import copy

import numpy as np
import pytest
import torch
from PIL import Image

from viq.evaluation.understanding import sources
from viq.mllm.vision import ContinuousFeatures, ProximalFeatures


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(3)]


def test_features_of_codes_are_the_embedders(tiny_tokenizer, pictures):
    found = sources.of_codes(tiny_tokenizer)(pictures)
    for one, picture in zip(found, pictures, strict=True):
        assert one.shape == (16, 64)
        assert torch.equal(one, tiny_tokenizer.embed(tiny_tokenizer.encode(picture)))


def test_continuous_features_are_the_encoders(tiny_tokenizer, pictures):
    look = sources.of_network(ContinuousFeatures(tiny_tokenizer.part("encoder")).eval())
    for one, picture in zip(look(pictures), pictures, strict=True):
        torch.testing.assert_close(one, tiny_tokenizer.features(picture))
        assert not one.requires_grad


def test_proximal_features_are_the_embedders_of_latents(tiny_tokenizer, pictures):
    look = sources.of_network(ProximalFeatures(tiny_tokenizer).eval())
    for one, picture in zip(look(pictures), pictures, strict=True):
        latents = tiny_tokenizer.latents(picture)
        with torch.no_grad():
            expected = tiny_tokenizer.part("embedder").embed_values(latents)
        torch.testing.assert_close(one, expected)


def test_continuous_features_are_made_in_the_networks_dtype(tiny_tokenizer, pictures):
    network = ContinuousFeatures(copy.deepcopy(tiny_tokenizer.part("encoder"))).to(torch.bfloat16)
    (found,) = sources.of_network(network.eval())(pictures[:1])
    assert found.dtype == torch.bfloat16


def test_pixels_are_those_of_each_patch_at_half_resolution():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[16:, :16] = 255
    pixels[0, 16] = (255, 0, 0)  # a quarter of a halved pixel
    (found,) = sources.pixels([Image.fromarray(pixels)])
    assert found.shape == (4, 192)
    assert (found[2] == 1).all()
    assert (found[3] == -1).all()
    assert found[1, 0] == -0.5
    assert (found[1, 1:] == -1).all()
