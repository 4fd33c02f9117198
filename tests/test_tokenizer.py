import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import viq


def picture(width, height, seed=0):
    rng = np.random.default_rng(seed)
    low = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    return low.resize((width, height), Image.Resampling.BICUBIC)


SIZES = [(50, 40), (33, 100), (1, 1), (64, 64), (200, 17), (64, 64)]


def test_one_in_one_out_a_list_in_a_list_out(tiny_tokenizer):
    one = picture(50, 40)
    codes = tiny_tokenizer.encode(one)
    assert isinstance(codes, viq.Codes)
    assert tiny_tokenizer.encode([one]) == [codes]
    assert tiny_tokenizer.encode([]) == []
    assert isinstance(tiny_tokenizer.decode(codes), Image.Image)
    assert [x.size for x in tiny_tokenizer.decode([codes, codes])] == [(50, 40)] * 2
    for method in (tiny_tokenizer.features, tiny_tokenizer.latents):
        assert torch.equal(method([one])[0], method(one))
    for method in (tiny_tokenizer.embed, tiny_tokenizer.vae_latents):
        assert torch.equal(method([codes])[0], method(codes))


def test_shapes_are_those_of_the_grid(tiny_tokenizer):
    one = picture(50, 40)
    codes = tiny_tokenizer.encode(one)
    assert codes.grid_size == (4, 4)
    assert codes.original_size == codes.encoded_size == (40, 50)
    assert codes.values.shape == (16, 4)
    assert codes.values.dtype == np.uint16
    assert codes.bits_per_pixel == 16 * 64 / (40 * 50)
    assert codes.information_bpp == pytest.approx(15.9658 * 64 / (40 * 50), rel=1e-4)
    assert tiny_tokenizer.features(one).shape == (16, 64)
    assert tiny_tokenizer.latents(one).shape == (16, 4, 6)
    assert tiny_tokenizer.embed(codes).shape == (16, 64)
    assert tiny_tokenizer.vae_latents(codes).shape == (16, 8, 8)


@pytest.mark.parametrize("batch_patches", [1, 20, 4096])
def test_packed_images_get_the_codes_they_get_alone(tiny_tokenizer, batch_patches):
    pictures = [picture(*size, seed) for seed, size in enumerate(SIZES)]
    together = tiny_tokenizer.encode(pictures, batch_patches=batch_patches)
    assert together == [tiny_tokenizer.encode(one) for one in pictures]
    assert [c.original_size for c in together] == [(h, w) for w, h in SIZES]


def test_values_before_rounding_are_bitwise_those_of_the_image_alone(tiny_tokenizer):
    pictures = [picture(*size, seed) for seed, size in enumerate(SIZES)]
    for one, latents in zip(pictures[::-1], tiny_tokenizer.latents(pictures[::-1]), strict=True):
        assert torch.equal(latents, tiny_tokenizer.latents(one))


def test_paths_arrays_and_images_are_the_same_picture(tiny_tokenizer, tmp_path):
    one = picture(50, 40)
    one.save(tmp_path / "one.png")
    expected = tiny_tokenizer.encode(one)
    for source in (tmp_path / "one.png", str(tmp_path / "one.png"), np.asarray(one)):
        assert tiny_tokenizer.encode(source) == expected
    assert tiny_tokenizer.encode(tiny_tokenizer.prepare(one)) == expected


def test_float_tensors_are_padded_to_the_patch_alone(tiny_tokenizer):
    codes = tiny_tokenizer.encode(torch.zeros(3, 33, 70))
    assert codes.grid_size == (3, 5)
    assert codes.original_size == (33, 70)
    assert tiny_tokenizer.decode(codes).size == (70, 33)


def test_a_large_picture_is_scaled_down_and_decoded_at_its_size(tiny_tokenizer):
    prepared = tiny_tokenizer.prepare(picture(300, 200), max_pixels=64**2)
    codes = tiny_tokenizer.encode(prepared)
    height, width = codes.encoded_size
    assert height * width <= 64**2
    assert codes.original_size == (200, 300)
    assert tiny_tokenizer.decode(codes).size == (300, 200)


def test_the_first_unreadable_image_is_named(tiny_tokenizer, tmp_path):
    with pytest.raises(viq.ImageError, match=r"missing\.png"):
        tiny_tokenizer.encode([picture(20, 20), tmp_path / "missing.png"])


def test_codes_of_another_tokenizer_are_refused_naming_both(tiny_tokenizer):
    codes = tiny_tokenizer.encode(picture(20, 20))
    other = viq.Codes(
        codes.values,
        grid_size=codes.grid_size,
        original_size=codes.original_size,
        encoded_size=codes.encoded_size,
        levels=codes.levels,
        fingerprint="ab" * 32,
    )
    for method in (tiny_tokenizer.decode, tiny_tokenizer.embed, tiny_tokenizer.vae_latents):
        with pytest.raises(viq.FingerprintError) as caught:
            method(other)
        assert "abababababab" in str(caught.value)
        assert tiny_tokenizer.fingerprint[:12] in str(caught.value)


def test_a_model_without_pooling_says_so(tiny_tokenizer):
    with pytest.raises(viq.ModelError, match="no pool: it has not been trained"):
        tiny_tokenizer.pooled(picture(20, 20))


def test_the_embedder_alone_gives_the_same_features(tiny_tokenizer, tiny_tokenizer_folder):
    codes = tiny_tokenizer.encode(picture(50, 40))
    embedder = viq.load_embedder(tiny_tokenizer_folder)
    assert isinstance(embedder, torch.nn.Module)
    features = embedder(torch.from_numpy(codes.values.astype("int64")))
    assert torch.equal(features, tiny_tokenizer.embed(codes))


def test_encoding_never_loads_the_decoder_nor_decoding_the_encoder(tiny_tokenizer_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_tokenizer_folder, folder)
    shutil.rmtree(folder / "vae")
    codes = viq.load(folder).encode(picture(50, 40))
    assert codes == viq.load(tiny_tokenizer_folder).encode(picture(50, 40))

    tokenizer = viq.load(tiny_tokenizer_folder)
    loaded = []
    original = tokenizer.part
    tokenizer.part = lambda name: (loaded.append(name), original(name))[1]
    tokenizer.decode(codes)
    assert set(loaded) == {"embedder", "latent_head"}


def test_saving_again_changes_nothing(tiny_tokenizer_folder, tmp_path):
    tokenizer = viq.load(tiny_tokenizer_folder)
    tokenizer.save_pretrained(tmp_path / "again")
    again = viq.load(tmp_path / "again")
    assert again.config == tokenizer.config
    one = picture(50, 40)
    assert again.encode(one) == tokenizer.encode(one)
    assert list(tmp_path.glob("again/.*")) == []


def test_another_dtype_keeps_the_fingerprint(tiny_tokenizer_folder, tmp_path):
    tokenizer = viq.load(tiny_tokenizer_folder, dtype="bfloat16")
    tokenizer.save_pretrained(tmp_path / "half")
    with safe_open(tmp_path / "half" / "model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    half = viq.load(tmp_path / "half")
    assert half.fingerprint == viq.load(tiny_tokenizer_folder).fingerprint
    assert half.dtype == torch.float32
    half.decode(viq.load(tiny_tokenizer_folder).encode(picture(20, 20)))


def test_the_fingerprint_is_of_the_code_defining_part_alone(tiny_tokenizer_folder):
    from viq.checkpoint import fingerprint

    tokenizer = viq.load(tiny_tokenizer_folder)
    image, encoder, head = tokenizer.config.image, tokenizer.part("encoder"), tokenizer.part("head")
    assert fingerprint(image, encoder, head) == tokenizer.fingerprint
    with torch.no_grad():
        tokenizer.part("embedder").scale += 1
        assert fingerprint(image, encoder, head) == tokenizer.fingerprint
        head.project_in.bias += 1
    assert fingerprint(image, encoder, head) != tokenizer.fingerprint


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_bfloat16_is_a_choice(tiny_tokenizer_folder, dtype):
    tokenizer = viq.load(tiny_tokenizer_folder, dtype=dtype)
    assert tokenizer.features(picture(50, 40)).dtype == torch.bfloat16
    assert tokenizer.decode(tokenizer.encode(picture(50, 40))).size == (50, 40)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda d: (d / "config.json").unlink(), "no config.json here"),
        (lambda d: (d / "config.json").write_text("{"), "not a config of this kind"),
        (lambda d: (d / "config.json").write_text("[]"), "not a config of this kind"),
        (lambda d: edit(d, format=9), "format 9 is not known; this version reads 1"),
        (lambda d: edit(d, surprise=1), "surprise"),
        (lambda d: edit(d, fingerprint="5"), "'5' is not 64 hex digits"),
        (lambda d: edit_network(d, "encoder", patch_size=32), "patches of 16, the encoder of 32"),
        (lambda d: edit_network(d, "encoder", attention_heads=7), "does not divide into 7"),
        (lambda d: edit_network(d, "encoder", width=-1), "weights and config.json do not fit"),
        (lambda d: edit_network(d, "encoder", depth=2), "weights and config.json do not fit"),
        (lambda d: (d / "model.safetensors").write_bytes(b"\0" * 99), "cannot be read"),
        (lambda d: (d / "model.safetensors").unlink(), "no model.safetensors here"),
    ],
)
def test_a_damaged_model_folder_is_one_line(tiny_tokenizer_folder, tmp_path, break_it, message):
    folder = tmp_path / "model"
    shutil.copytree(tiny_tokenizer_folder, folder)
    break_it(folder)
    with pytest.raises(viq.ModelError, match=message) as caught:
        viq.load(folder).encode(picture(20, 20))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda d: (d / "config.json").write_text("[]"), "no diffusers autoencoder here"),
        (lambda d: (d / "config.json").unlink(), "no diffusers autoencoder here"),
        (lambda d: edit(d, _class_name="UNet2DModel"), "of class 'UNet2DModel'; known are"),
        (lambda d: edit(d, block_out_channels="x"), "does not load"),
        (lambda d: next(d.glob("*.safetensors")).unlink(), "does not load"),
        (lambda d: next(d.glob("*.safetensors")).write_bytes(b"x" * 50), "does not load"),
    ],
)
def test_a_damaged_vae_is_one_line(tiny_tokenizer_folder, tmp_path, break_it, message):
    folder = tmp_path / "model"
    shutil.copytree(tiny_tokenizer_folder, folder)
    break_it(folder / "vae")
    tokenizer = viq.load(folder)
    codes = tokenizer.encode(picture(20, 20))
    with pytest.raises(viq.ModelError, match=message) as caught:
        tokenizer.decode(codes)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def edit_network(folder, part, **changes):
    network = json.loads((folder / "config.json").read_text())["network"]
    edit(folder, network={**network, part: {**network[part], **changes}})


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_model_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(viq.ModelError, match="not a bundled name"):
        viq.load("no/such/model/anywhere")


def test_nothing_is_loaded_by_import():
    assert callable(viq.load)
    with pytest.raises(AttributeError, match="no attribute 'loda'"):
        _ = viq.loda
