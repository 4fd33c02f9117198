"""Vision towers that cannot be converted or loaded are refused, in one line that says why."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import SiglipVisionConfig, SiglipVisionModel

from viq.checkpoint import load_vision_tower, save_vision_tower
from viq.convert.siglip2 import convert_siglip2
from viq.errors import ConversionError, ModelError


@pytest.fixture(scope="module")
def weights():
    """A tiny tower's tensors and config, as transformers saves them."""
    config = SiglipVisionConfig(
        hidden_size=12,
        intermediate_size=20,
        num_hidden_layers=1,
        num_attention_heads=3,
        image_size=8,
        patch_size=4,
    )
    model = SiglipVisionModel(config)
    tensors = {k.removeprefix("vision_model."): v for k, v in model.state_dict().items()}
    return tensors, config.to_dict()


@pytest.fixture
def folder(weights, tmp_path):
    """A folder of transformers of its own, under the names that older versions give."""
    tensors, config = weights
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({f"vision_model.{k}": v for k, v in tensors.items()}, tmp_path / "model.safetensors")
    return tmp_path


@pytest.fixture
def timm_file(folder):
    """A file with timm's names of its own."""
    tower = convert_siglip2(folder)
    tensors = {f"attn_pool.{k}": v for k, v in tower.pool.state_dict().items()}
    for end in ("weight", "bias"):
        tensors[f"norm.{end}"] = tensors.pop(f"attn_pool.norm.{end}")
        tensors[f"attn_pool.norm.{end}"] = tensors.pop(f"attn_pool.mlp_norm.{end}")
    tensors["attn_pool.latent"] = tensors["attn_pool.latent"][None]
    for name, tensor in tower.encoder.state_dict().items():
        tensors[name.replace("patch_embed.", "patch_embed.proj.")] = tensor
    kernel = tensors["patch_embed.proj.weight"]
    tensors["patch_embed.proj.weight"] = kernel.unflatten(1, (3, 4, 4))
    tensors["pos_embed"] = tensors.pop("positions.weight").flatten(0, 1)[None]
    path = folder / "timm.pth"
    torch.save(tensors, path)
    return path


def edit(path, change):
    tensors = load_file(path) if path.suffix == ".safetensors" else torch.load(path)
    change(tensors)
    (save_file if path.suffix == ".safetensors" else torch.save)(tensors, path)


def error_of(path, **options):
    with pytest.raises(ConversionError) as caught:
        convert_siglip2(path, **options)
    assert "\n" not in str(caught.value)
    return caught.value


def test_the_unchanged_tower_converts(folder, timm_file):
    assert convert_siglip2(folder).encoder.config.attention_heads == 3
    assert convert_siglip2(timm_file, attention_heads=3).encoder.config.width == 12


def test_folders_without_files(folder):
    (folder / "model.safetensors").unlink()
    error = error_of(folder)
    assert error.source == str(folder / "model.safetensors")
    assert error.reason == "no such file"
    (folder / "config.json").unlink()
    assert "no config.json of transformers here" in error_of(folder).reason


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model_type": "siglip", "vision_config": 1}'])
def test_configs_that_are_none(folder, text):
    (folder / "config.json").write_text(text)
    assert "no config.json of transformers here" in error_of(folder).reason


def test_other_models_and_activations_are_named(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "clip"}))
    assert "a model of type 'clip'" in error_of(folder).reason
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    assert "activation 'relu'" in error_of(folder).reason


@pytest.mark.parametrize(
    "key",
    [
        "vision_model.embeddings.position_embedding.weight",
        "vision_model.embeddings.patch_embedding.bias",
        "vision_model.encoder.layers.0.self_attn.k_proj.bias",
        "vision_model.encoder.layers.0.self_attn.out_proj.weight",
        "vision_model.encoder.layers.0.layer_norm2.weight",
        "vision_model.encoder.layers.0.mlp.fc1.weight",
        "vision_model.post_layernorm.bias",
        "vision_model.head.probe",
        "vision_model.head.attention.in_proj_weight",
        "vision_model.head.attention.out_proj.bias",
        "vision_model.head.layernorm.weight",
        "vision_model.head.mlp.fc2.bias",
    ],
)
def test_missing_tensors_are_named(folder, key):
    edit(folder / "model.safetensors", lambda tensors: tensors.pop(key))
    error = error_of(folder)
    assert error.keys == (key,)
    assert error.reason == f"1 tensor missing: {key}"


@pytest.mark.parametrize("key", ["classifier.weight", "vision_model.head.gate"])
def test_left_over_tensors_are_named(folder, key):
    edit(folder / "model.safetensors", lambda tensors: tensors.update({key: torch.ones(1)}))
    error = error_of(folder)
    assert error.keys == (key,)
    assert error.reason == f"1 tensor left over: {key}"


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("embeddings.position_embedding.weight", (5, 12)),
        ("embeddings.patch_embedding.weight", (12, 47)),
        ("embeddings.patch_embedding.weight", (12,)),
        ("encoder.layers.0.self_attn.k_proj.weight", (11, 12)),
        ("head.probe", (12,)),
        ("head.layernorm.bias", (11,)),
        ("head.attention.in_proj_weight", (37, 12)),
    ],
)
def test_wrong_shapes_are_named(folder, key, shape):
    key = f"vision_model.{key}"
    edit(folder / "model.safetensors", lambda tensors: tensors.update({key: torch.ones(shape)}))
    error = error_of(folder)
    assert key in error.keys
    assert key in error.reason


def test_damaged_files_and_indices(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert "damaged" in error_of(folder).reason
    path.unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text("{}")
    error = error_of(folder)
    assert error.source == str(index)
    assert "not an index of files" in error.reason


def test_unusual_widths_need_a_number_of_heads(timm_file):
    reason = error_of(timm_file).reason
    assert "12 wide" in reason
    assert "768, 1024, 1152, 1536" in reason


def test_heads_that_do_not_divide_the_width(timm_file):
    assert "12 does not divide" in error_of(timm_file, attention_heads=5).reason


@pytest.mark.parametrize("prefix", ["", "visual.trunk."])
def test_tensors_of_timm_files_are_named(timm_file, prefix):
    def rename(tensors):
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)
        del tensors[f"{prefix}blocks.0.attn.qkv.bias"]
        tensors["visual.extra"] = torch.ones(1)

    edit(timm_file, rename)
    error = error_of(timm_file, attention_heads=3)
    assert error.keys == (f"{prefix}blocks.0.attn.qkv.bias", "visual.extra")


def model_error_of(folder):
    with pytest.raises(ModelError) as caught:
        load_vision_tower(folder)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_saved_towers_that_are_damaged(folder, tmp_path):
    saved = tmp_path / "tower"
    save_vision_tower(convert_siglip2(folder), saved)
    text = (saved / "config.json").read_text()
    config = json.loads(text)

    (saved / "config.json").write_text(json.dumps(config | {"format": 2}))
    assert model_error_of(saved) == "format 2 is not known; this version reads 1"
    (saved / "config.json").write_text(json.dumps(config | {"surprise": 1}))
    assert "surprise" in model_error_of(saved)
    (saved / "config.json").write_text("not JSON")
    assert "not a config of this kind" in model_error_of(saved)
    (saved / "config.json").write_text(text)
    edit(saved / "model.safetensors", lambda tensors: tensors.pop("pool.norm.bias"))
    assert model_error_of(saved) == "1 tensor missing: pool.norm.bias"
    (saved / "model.safetensors").unlink()
    assert model_error_of(saved) == "no such file"
    assert "not a config of this kind" in model_error_of(tmp_path / "nowhere")
