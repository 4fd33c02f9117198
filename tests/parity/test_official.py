"""The converted tiny model gives what the official code gave, step by step."""

import numpy as np
import pytest
import torch

from viq import Codes, load
from viq.convert.official import convert_official
from viq.image import patchify, prepare
from viq.model.packing import Packing
from viq.model.positions import rotary_angles

INDICES = range(7)
TOLERANCE = 1e-4


def assert_close(found, expected):
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


@pytest.fixture(scope="module")
def codes(tiny16k, images):
    return tiny16k.encode(images)


@pytest.fixture(scope="module")
def steps(tiny16k, images):
    """Every intermediate result of image 1, by the official debug names."""
    encoder, head = tiny16k.part("encoder"), tiny16k.part("head")
    embedder, latent_head = tiny16k.part("embedder"), tiny16k.part("latent_head")
    decoder = tiny16k.vae().autoencoder.decoder
    outputs = {
        "00_patch_tokens": encoder.patch_embed,
        "00_pos": encoder.positions,
        "04_pre_shuffle": head.expand,
        "05_post_shuffle": head.refine,
        "08_project_out": embedder.project_out,
        "09_inverse_shuffle": embedder.merge,
        "10_post0": embedder.mlp,
        "11_adapter0": latent_head.adapter,
        "11_adapter1": latent_head.norm,
        "12_groupnorm": latent_head.conv_norm,
        "13_conv_out": latent_head.conv,
        "14_post_quant_conv": tiny16k.vae().autoencoder.post_quant_conv,
        "15_dec_conv_in": decoder.conv_in,
        "16_dec_mid": decoder.mid_block,
        "18_dec_out_preclamp": decoder.conv_out,
    }
    inputs = {"00_tokens_plus_pos": encoder.blocks[0], "02_ln_noaffine": head.blocks[0]}
    for i, block in enumerate(encoder.blocks):
        outputs[f"01_block{i}_attn"] = block.attn
        outputs[f"01_block{i}_mlp"] = block.mlp
        outputs[f"01_block{i}"] = block
    for i, block in enumerate(head.blocks):
        outputs[f"03_pre{i}"] = block
    for i, block in enumerate(head.code_blocks):
        outputs[f"06_headless{i}_attn"] = block.attn
        outputs[f"06_headless{i}"] = block
    for i, mlp in enumerate(embedder.residual_mlps):
        outputs[f"10_post{i + 1}"] = mlp
    for i, block in enumerate(latent_head.blocks):
        outputs[f"11_adapter{i + 2}"] = block
    for i, block in enumerate(decoder.up_blocks):
        outputs[f"17_dec_up{i}"] = block

    found = {}

    def keep_output(name):
        def hook(module, args, output):
            found[name] = output

        return hook

    def keep_input(name):
        def hook(module, args):
            found[name] = args[0]

        return hook

    hooks = [m.register_forward_hook(keep_output(name)) for name, m in outputs.items()]
    hooks += [m.register_forward_pre_hook(keep_input(name)) for name, m in inputs.items()]
    with torch.inference_mode():
        one = prepare(images[1], tiny16k.config.image)
        packing = Packing.of([one.grid_size])
        latents = head(encoder(patchify(one.pixels, 16), packing), packing)
        codes = head.quantize(latents).codes
        tiny16k.vae().decode(latent_head(embedder(codes), packing)[0][None])
    for hook in hooks:
        hook.remove()
    found["06_theta"] = rotary_angles(one.grid_size, head.angles.frequencies)
    found["07_z"] = latents
    found["07_bounded"] = head.quantizer.bound(latents)
    found["19_codes"] = codes
    return found


def test_both_forms_are_one_tokenizer(golden, tiny16k):
    trained = convert_official(golden / "tiny16k" / "vision_tower.pth")
    assert trained.config == tiny16k.config
    assert trained.fingerprint == tiny16k.fingerprint
    for name in ("encoder", "pool", "head", "embedder", "latent_head"):
        released = tiny16k.part(name).state_dict()
        for key, tensor in trained.part(name).state_dict().items():
            assert torch.equal(tensor, released[key]), f"{name}.{key}"
    released = tiny16k.vae().state_dict()
    for key, tensor in trained.vae().state_dict().items():
        assert torch.equal(tensor, released[key]), f"vae.{key}"


def test_levels_and_sizes_are_read_off_the_tensors(tiny16k):
    network = tiny16k.config.network
    assert network.head.quantizer.levels == (8, 8, 8, 6, 5)
    assert (network.encoder.width, network.encoder.depth) == (64, 2)
    assert network.encoder.position_side == 12
    assert network.head.rope_width == 32
    assert tiny16k.vae().autoencoder.config.base_dim == 8
    assert tiny16k.vae().autoencoder.config.temperal_downsample == [False, True, True]


def test_every_step_of_one_image(golden, steps):
    with np.load(golden / "tiny16k" / "debug.npz") as file:
        debug = {name: torch.from_numpy(file[name]) for name in file.files}
    assert sorted(steps) == sorted(debug)
    for name, array in debug.items():
        found = steps[name].reshape(array.shape)
        if name == "19_codes":
            assert torch.equal(found, array.long())
        else:
            difference = float((found - array).abs().max())
            assert difference < TOLERANCE, f"{name} differs by {difference}"


@pytest.mark.parametrize("index", INDICES)
def test_codes_of_packed_images(codes, expected, index):
    assert codes[index].grid_size == tuple(expected["grid"][index].tolist())
    assert codes[index].values.ravel().tolist() == expected[f"codes_{index}"].tolist()


@pytest.mark.parametrize("index", INDICES)
def test_codes_of_an_image_alone(tiny16k, images, codes, expected, index):
    alone = tiny16k.encode(images[index])
    assert alone.values.ravel().tolist() == expected[f"single_codes_{index}"].tolist()
    assert alone == codes[index]


@pytest.mark.parametrize("batch_patches", [64, 4096])
def test_continuous_outputs_of_packed_images(tiny16k, images, expected, batch_patches):
    features, latents = tiny16k.features(images), tiny16k.latents(images)
    pooled = tiny16k.pooled(images)
    for index in INDICES:
        assert_close(features[index], expected[f"vit_{index}"])
        assert_close(latents[index].flatten(0, 1), expected[f"z_{index}"])
        assert_close(pooled[index], expected[f"attnpool_vit_{index}"])


@pytest.mark.parametrize("index", INDICES)
def test_continuous_outputs_of_an_image_alone(tiny16k, images, expected, index):
    image = images[index]
    assert_close(tiny16k.features(image), expected[f"single_vit_{index}"])
    assert_close(tiny16k.latents(image).flatten(0, 1), expected[f"single_z_{index}"])
    assert_close(tiny16k.pooled(image), expected[f"single_attnpool_vit_{index}"])


@pytest.mark.parametrize("prefix", ["", "single_"])
def test_features_and_semantic_token_of_codes(tiny16k, codes, expected, prefix):
    features, pooled = tiny16k.embed(codes), tiny16k.pooled(codes)
    for index in INDICES:
        assert_close(features[index], expected[f"{prefix}feat_{index}"])
        assert_close(pooled[index], expected[f"{prefix}cls_{index}"])


def test_vae_latents_packed_and_alone(tiny16k, codes, expected):
    embedder, latent_head = tiny16k.part("embedder"), tiny16k.part("latent_head")
    values = torch.cat([torch.from_numpy(one.values.astype("int64")) for one in codes])
    with torch.inference_mode():
        packed = latent_head(embedder(values), Packing.of(one.grid_size for one in codes))
    for index, alone in enumerate(tiny16k.vae_latents(codes)):
        assert_close(packed[index], expected[f"latent_{index}"])
        assert_close(alone, expected[f"latent_{index}"])


@pytest.mark.parametrize("index", INDICES)
def test_decoded_pixels(tiny16k, codes, expected, index):
    with torch.inference_mode():
        pixels = tiny16k.vae().decode(tiny16k.vae_latents(codes[index])[None])[0]
    assert_close(pixels, expected[f"image_{index}"].clamp(-1, 1))
    picture = np.asarray(tiny16k.decode(codes[index])).astype(int)
    height, width = codes[index].original_size
    official = expected[f"uint8_{index}"].numpy().astype(int)[:height, :width]  # has the padding
    assert picture.shape == official.shape
    assert abs(picture - official).max() <= 1  # rounded here, cut off there


@pytest.mark.parametrize("index", [1, 2, 4])
def test_vae_latents_of_pixels(tiny16k, images, expected, index):
    pixels = prepare(images[index], tiny16k.config.image).pixels
    with torch.inference_mode():
        assert_close(tiny16k.vae().encode(pixels[None])[0], expected[f"vae_mean_{index}"])


def test_a_saved_tokenizer_is_the_converted_one(tiny16k, images, codes, tmp_path):
    tiny16k.save_pretrained(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.fingerprint == tiny16k.fingerprint
    saved = loaded.encode(images[1])
    assert isinstance(saved, Codes)
    assert saved == codes[1]
    assert np.array_equal(loaded.decode(saved), tiny16k.decode(codes[1]))


def test_pictures_are_padded_with_grey_as_the_official_code_does(tiny16k):
    assert tiny16k.config.image.padding == "zero"
    assert tiny16k.config.network.head.rope_dtype == "model"
