"""Converted SigLIP towers give what the classes of transformers give.

Compared at the learned grid, and with the NaFlex class also at larger grids. At smaller ones NaFlex
resizes its positions with antialiasing, which encoders here do without.
"""

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    Siglip2Config,
    Siglip2Model,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from viq.checkpoint import load_vision_tower, save_vision_tower
from viq.convert.siglip2 import convert_siglip2
from viq.image import patchify
from viq.model.packing import Packing

PATCH, SIDE, WIDTH, HEADS = 4, 4, 48, 3
SHAPE = {
    "hidden_size": WIDTH,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": HEADS,
    "patch_size": PATCH,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 20,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def randomized(model):
    """A model in which every tensor matters: also biases and norms, which begin as 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            is_norm = tensor.ndim == 1 and name.endswith("weight")
            scale = 0.1 if tensor.ndim == 1 else tensor[0].numel() ** -0.5
            tensor.copy_(noise * scale + float(is_norm))
    return model.eval()


@pytest.fixture(scope="module")
def fixed():
    config = SiglipVisionConfig(**SHAPE, image_size=SIDE * PATCH)
    return randomized(SiglipVisionModel(config))


@pytest.fixture(scope="module")
def naflex():
    return randomized(Siglip2VisionModel(Siglip2VisionConfig(**SHAPE, num_patches=SIDE**2)))


@pytest.fixture(scope="module")
def fixed_folder(fixed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixed")
    fixed.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def naflex_folder(naflex, tmp_path_factory):
    folder = tmp_path_factory.mktemp("naflex")
    naflex.save_pretrained(folder)
    return folder


def random_images(sizes):
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(3, h * PATCH, w * PATCH, generator=generator) * 2 - 1 for h, w in sizes]


def run(tower, images):
    """Normed features and semantic tokens of packed images."""
    patch = tower.encoder.config.patch_size
    packing = Packing.of((i.shape[1] // patch, i.shape[2] // patch) for i in images)
    with torch.no_grad():
        features = tower.encoder(torch.cat([patchify(i, patch) for i in images]), packing)
        return packing.split(tower.pool.norm(features)), tower.pool(features, packing)


def run_naflex(model, images):
    """The same by transformers, which pads to the longest image; patches are ordered y, x, c."""
    sizes = [(i.shape[1] // PATCH, i.shape[2] // PATCH) for i in images]
    longest = max(h * w for h, w in sizes)
    pixels = torch.zeros(len(images), longest, 3 * PATCH**2)
    mask = torch.zeros(len(images), longest, dtype=torch.long)
    for index, (image, (h, w)) in enumerate(zip(images, sizes, strict=True)):
        cells = image.view(3, h, PATCH, w, PATCH).permute(1, 3, 2, 4, 0)
        pixels[index, : h * w] = cells.reshape(h * w, -1)
        mask[index, : h * w] = 1
    with torch.no_grad():
        out = model(pixels, mask, torch.tensor(sizes))
    rows = [out.last_hidden_state[i, : h * w] for i, (h, w) in enumerate(sizes)]
    return rows, out.pooler_output


def assert_same(found, expected):
    for ours, theirs in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))
    scale = float(expected[1].abs().max())
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=1e-5 * scale)


def as_timm(tower):
    """The tower's tensors by timm's names, in timm's layouts."""
    tensors = {}
    for name, tensor in tower.encoder.state_dict().items():
        tensors[name.replace("patch_embed.", "patch_embed.proj.")] = tensor.clone()
    tensors["pos_embed"] = tensors.pop("positions.weight").flatten(0, 1)[None]
    kernel = tensors["patch_embed.proj.weight"]
    tensors["patch_embed.proj.weight"] = kernel.unflatten(1, (3, PATCH, PATCH))
    for name, tensor in tower.pool.state_dict().items():
        new = name if name.startswith("norm.") else f"attn_pool.{name.replace('mlp_norm', 'norm')}"
        tensors[new] = tensor.clone()
    tensors["attn_pool.latent"] = tensors["attn_pool.latent"][None]
    return tensors


def assert_same_tower(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.config == theirs.config
        tensors = theirs.state_dict()
        assert set(ours.state_dict()) == set(tensors)
        for name, tensor in ours.state_dict().items():
            assert tensor.dtype == tensors[name].dtype
            assert torch.equal(tensor, tensors[name]), name


def test_fixed_resolution(fixed, fixed_folder):
    images = random_images([(SIDE, SIDE)] * 3)
    with torch.no_grad():
        out = fixed(torch.stack(images))
    found = run(convert_siglip2(fixed_folder), images)
    assert_same(found, (out.last_hidden_state, out.pooler_output))


def test_naflex_at_its_own_grid(naflex, naflex_folder):
    images = random_images([(SIDE, SIDE)] * 2)
    assert_same(run(convert_siglip2(naflex_folder), images), run_naflex(naflex, images))


def test_naflex_at_larger_grids_packed(naflex, naflex_folder):
    images = random_images([(SIDE, SIDE), (6, 5), (4, 9), (13, 4), (6, 5)])
    assert_same(run(convert_siglip2(naflex_folder), images), run_naflex(naflex, images))


def test_resized_positions_are_those_of_transformers(fixed, fixed_folder):
    side = SIDE + 3
    images = random_images([(side, side)] * 2)
    with torch.no_grad():
        out = fixed(torch.stack(images), interpolate_pos_encoding=True)
    tower = convert_siglip2(fixed_folder, position_side=side)
    assert tower.encoder.config.position_side == side
    assert_same(run(tower, images), (out.last_hidden_state, out.pooler_output))


def test_a_resized_kernel_sees_a_flat_picture_as_before(fixed_folder):
    native = convert_siglip2(fixed_folder)
    tower = convert_siglip2(fixed_folder, patch_size=2 * PATCH)
    assert tower.encoder.config.patch_size == 2 * PATCH
    assert tower.encoder.patch_embed.weight.shape == (WIDTH, 3 * (2 * PATCH) ** 2)
    other = native.encoder.patch_embed
    assert torch.equal(tower.encoder.patch_embed.bias, other.bias)


@pytest.mark.parametrize("is_naflex", [False, True])
def test_the_text_tower_is_left_out(is_naflex, fixed, naflex, tmp_path):
    vision = (naflex if is_naflex else fixed).config.to_dict()
    if is_naflex:
        model = Siglip2Model(Siglip2Config(text_config=TEXT, vision_config=vision))
    else:
        model = SiglipModel(SiglipConfig(text_config=TEXT, vision_config=vision))
    weights = (naflex if is_naflex else fixed).state_dict()
    target = model.vision_model
    target.load_state_dict({k.removeprefix("vision_model."): v for k, v in weights.items()})
    model.save_pretrained(tmp_path / "both")
    (naflex if is_naflex else fixed).save_pretrained(tmp_path / "alone")
    assert_same_tower(convert_siglip2(tmp_path / "both"), convert_siglip2(tmp_path / "alone"))


def test_sharded_folders(fixed, fixed_folder, tmp_path):
    fixed.save_pretrained(tmp_path, max_shard_size="50KB")
    assert not (tmp_path / "model.safetensors").exists()
    assert_same_tower(convert_siglip2(tmp_path), convert_siglip2(fixed_folder))


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pth"])
@pytest.mark.parametrize("prefix", ["", "visual.trunk."])
def test_files_of_timm_and_open_clip(fixed_folder, tmp_path, prefix, suffix):
    tower = convert_siglip2(fixed_folder)
    tensors = {f"{prefix}{name}": tensor for name, tensor in as_timm(tower).items()}
    if prefix:
        others = ("text.positional_embedding", "text.text_projection.weight", "logit_scale")
        tensors |= {name: torch.ones(3) for name in others}
    path = tmp_path / f"model{suffix}"
    if suffix == ".safetensors":
        save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    assert_same_tower(convert_siglip2(path, attention_heads=HEADS), tower)


def test_bfloat16_stays_bfloat16(fixed, tmp_path):
    config = SiglipVisionConfig(**SHAPE, image_size=SIDE * PATCH)
    model = SiglipVisionModel(config)
    model.load_state_dict(fixed.state_dict())
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    tower = convert_siglip2(tmp_path, position_side=7)
    assert {p.dtype for part in tower for p in part.parameters()} == {torch.bfloat16}


def test_a_saved_tower_is_the_converted_one(naflex_folder, tmp_path):
    tower = convert_siglip2(naflex_folder)
    save_vision_tower(tower, tmp_path / "tower")
    assert sorted(p.name for p in (tmp_path / "tower").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert_same_tower(load_vision_tower(tmp_path / "tower"), tower)
