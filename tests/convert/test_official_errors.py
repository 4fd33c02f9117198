"""Every checkpoint that is not quite the official format is refused, in one line that says why."""

import os
import shutil

import pytest
import torch

from viq.convert.official import convert_official
from viq.errors import ConversionError

MODEL, EMBEDDER, DRAWER = "model_viq_fsq_16k.pth", "embedder.pth", "index_drawer.pth"
PREFIX = "base_model.model.model.vision_tower.vision_tower."


class RunsCode:
    def __reduce__(self):
        return os.getpid, ()


@pytest.fixture
def released(golden, tmp_path):
    """A folder of its own with the three released files."""
    for name in (MODEL, EMBEDDER, DRAWER):
        shutil.copyfile(golden / "tiny16k" / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def trained(golden, tmp_path):
    """A training checkpoint of its own."""
    path = tmp_path / "vision_tower.pth"
    shutil.copyfile(golden / "tiny16k" / "vision_tower.pth", path)
    return path


def edit(path, change):
    """Loads a checkpoint, lets ``change`` edit its dict, and saves it."""
    tensors = dict(torch.load(path, weights_only=True))
    change(tensors)
    torch.save(tensors, path)


def error_of(path):
    with pytest.raises(ConversionError) as caught:
        convert_official(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{caught.value.source}: ")
    return caught.value


def test_empty_folders_name_all_three_files(tmp_path):
    error = error_of(tmp_path)
    assert error.source == str(tmp_path)
    assert error.reason == "no model_viq_fsq_*.pth and no embedder.pth and no index_drawer.pth here"


@pytest.mark.parametrize("name", [EMBEDDER, DRAWER])
def test_missing_files_are_named(released, name):
    (released / name).unlink()
    assert error_of(released).reason == f"no {name} here"


def test_a_missing_model_file_is_named(released):
    (released / MODEL).unlink()
    assert error_of(released).reason == "no model_viq_fsq_*.pth here"


def test_several_sizes_in_one_folder_are_named(released):
    shutil.copyfile(released / MODEL, released / "model_viq_fsq_4k.pth")
    reason = error_of(released).reason
    assert "model_viq_fsq_16k.pth, model_viq_fsq_4k.pth" in reason


def test_other_files_do_not_matter(released):
    (released / "notes.txt").write_text("not weights")
    (released / "optimizer.pth").write_bytes(b"not weights either")
    assert convert_official(released).config.network.encoder.depth == 2


def test_paths_that_are_not_there(tmp_path):
    assert error_of(tmp_path / "vision_tower.pth").reason == "no such file"


@pytest.mark.parametrize("name", [MODEL, EMBEDDER, DRAWER])
@pytest.mark.parametrize("kept", [0, 1000, -1000])
def test_files_that_are_cut_short(released, name, kept):
    data = (released / name).read_bytes()
    (released / name).write_bytes(data[:kept])
    error = error_of(released)
    assert error.source == str(released / name)
    assert "damaged" in error.reason


def test_a_changed_byte_is_noticed(trained):
    data = bytearray(trained.read_bytes())
    data[len(data) // 2] ^= 0xFF
    trained.write_bytes(data)
    assert "damaged" in error_of(trained).reason


def test_text_is_no_checkpoint(trained):
    trained.write_text("hello world")
    assert "not a checkpoint" in error_of(trained).reason


def test_pickles_that_run_code_are_refused(released):
    edit(released / EMBEDDER, lambda tensors: tensors.update(extra=RunsCode()))
    error = error_of(released)
    assert error.source == str(released / EMBEDDER)
    assert "refused: it holds more than tensors" in error.reason


@pytest.mark.parametrize("content", [[1, 2], torch.ones(2)])
def test_checkpoints_are_dicts(trained, content):
    torch.save(content, trained)
    assert f"holds a {type(content).__name__}" in error_of(trained).reason


def test_checkpoints_hold_tensors(trained):
    edit(trained, lambda tensors: tensors.update(epoch=3))
    error = error_of(trained)
    assert error.keys == ("epoch",)
    assert error.reason == "not only tensors, but also epoch"


MISSING = {
    MODEL: (
        "pos_embed",
        "blocks.1.attn.qkv.bias",
        "attn_pool.latent",
        "fusion_block.vq_low.project_in.weight",
        "fusion_block.vq_low.fsq_pre_attn.2.attn.decrease_dim.weight",
        "vae_preprocess_layers.3.norm1.weight",
        "vae_head.conv_out.bias",
        "vae_head.vae.decoder.up_blocks.1.upsamplers.0.time_conv.weight",
    ),
    EMBEDDER: ("_weight", "ori_codebook.weight", "projector_3.2.norm.bias"),
    DRAWER: ("_bias", "ori_codebook.weight", "vae_head.vae.quant_conv.bias"),
}


@pytest.mark.parametrize("name", MISSING)
def test_missing_tensors_are_named(released, name):
    original = (released / name).read_bytes()
    for key in MISSING[name]:
        (released / name).write_bytes(original)
        edit(released / name, lambda tensors, key=key: tensors.pop(key))
        error = error_of(released)
        assert error.source == str(released / name)
        assert key in error.keys
        assert f"missing: {key}" in error.reason


@pytest.mark.parametrize(
    "key",
    ["pos_embed", "dualvq_head.vq_low.project_out.bias", "movq_preprocess_layers.1.bias"],
)
def test_tensors_missing_in_training_checkpoints_have_their_own_names(trained, key):
    edit(trained, lambda tensors: tensors.pop(PREFIX + key))
    error = error_of(trained)
    assert error.keys == (PREFIX + key,)
    assert PREFIX + key in error.reason


@pytest.mark.parametrize("name", [MODEL, EMBEDDER, DRAWER])
def test_left_over_tensors_are_named(released, name):
    edit(released / name, lambda tensors: tensors.update(surprise=torch.ones(1)))
    error = error_of(released)
    assert error.source == str(released / name)
    assert error.keys == ("surprise",)
    assert error.reason == "1 tensor left over: surprise"


@pytest.mark.parametrize(
    "key",
    [
        "movq_head.conv_out_logvar.weight",
        "dualvq_head.vq_high.project_in.weight",
        "dualvq_head.vq_low.fsq_post_attn.0.norm1.weight",
        "extra_sa_before_attn_pool.0.norm1.weight",
    ],
)
def test_tensors_left_over_in_training_checkpoints_are_named(trained, key):
    edit(trained, lambda tensors: tensors.update({PREFIX + key: torch.ones(1)}))
    error = error_of(trained)
    assert error.keys == (PREFIX + key,)
    assert error.reason == f"1 tensor left over: {PREFIX + key}"


def test_what_is_not_the_tokenizers_is_dropped(trained):
    expected = convert_official(trained).fingerprint
    extra = (
        "base_model.model.model.vision_tower.vision_tower_teacher.blocks.3.attn.qkv.weight",
        "base_model.model.model.mm_projector.proj2.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
        f"{PREFIX}movq_head.perceptual_loss.net.slice1.0.weight",
        f"{PREFIX}movq_head.vae_cpu.encoder.conv_in.weight",
        "model.vision_tower.vision_tower.pos_embed",
    )
    edit(trained, lambda tensors: tensors.update(dict.fromkeys(extra, torch.ones(1))))
    assert convert_official(trained).fingerprint == expected


def test_many_tensors_are_counted_and_five_are_shown(released):
    def remove(tensors):
        for key in [key for key in tensors if key.startswith("blocks.0.norm")]:
            del tensors[key]
        for index in range(7):
            tensors[f"extra.{index}"] = torch.ones(1)

    edit(released / MODEL, remove)
    error = error_of(released)
    assert len(error.keys) == 11
    assert error.reason == (
        "4 tensors missing: blocks.0.norm1.weight, blocks.0.norm1.bias, blocks.0.norm2.weight,"
        " blocks.0.norm2.bias;"
        " 7 tensors left over: extra.0, extra.1, extra.2, extra.3, extra.4, ..."
    )


def test_a_wrong_shape_is_named_with_both_shapes(released):
    edit(released / MODEL, lambda tensors: tensors.update({"norm.bias": torch.ones(63)}))
    error = error_of(released)
    assert error.keys == ("norm.bias",)
    assert error.reason == "1 tensor of the wrong shape ((63,), not (64,)): norm.bias"


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("pos_embed", (144, 64)),
        ("pos_embed", (1, 143, 64)),
        ("patch_embed.proj.weight", (64, 768)),
        ("patch_embed.proj.weight", (64, 3, 14, 14)),
        ("attn_pool.latent", (64,)),
        ("blocks.0.mlp.fc1.weight", ()),
        ("fusion_block.vq_low.project_in.weight", (6, 64)),
    ],
)
def test_wrong_shapes_of_what_sizes_are_read_off(released, key, shape):
    edit(released / MODEL, lambda tensors: tensors.update({key: torch.ones(shape)}))
    error = error_of(released)
    assert key in error.keys
    assert key in error.reason


def test_widths_that_heads_do_not_divide(released):
    def narrow(tensors):
        tensors["pos_embed"] = tensors["pos_embed"][:, :, :63]

    edit(released / MODEL, narrow)
    assert "63" in error_of(released).reason


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (EMBEDDER, "projector_1.bias"),
        (EMBEDDER, "_weight"),
        (DRAWER, "projector_3.3.mlp.fc2.weight"),
        (DRAWER, "vae_head.conv_out.bias"),
        (DRAWER, "vae_head.vae.encoder.conv_in.bias"),
    ],
)
def test_copies_that_disagree_are_named(released, name, key):
    edit(released / name, lambda tensors: tensors.update({key: tensors[key] + 0.5}))
    error = error_of(released)
    assert error.source == str(released / name)
    assert error.keys == (key,)
    assert error.reason == f"1 tensor not the same as in {MODEL}: {key}"


def test_copies_may_be_rounded_to_bfloat16(released):
    def halve(tensors):
        for key, tensor in tensors.items():
            tensors[key] = tensor.bfloat16()

    def nudge(tensors):
        for tensor in tensors.values():
            tensor *= 1 + 2e-4  # less than bfloat16 can tell

    expected = convert_official(released).config.network
    edit(released / MODEL, nudge)
    edit(released / EMBEDDER, halve)
    edit(released / DRAWER, halve)
    assert convert_official(released).config.network == expected


def test_codebooks_that_disagree(released):
    def shrink(tensors):
        tensors["ori_codebook.weight"] = tensors["ori_codebook.weight"][: 8 * 8 * 8 * 6, :4]

    edit(released / DRAWER, shrink)
    error = error_of(released)
    assert error.reason == "1 tensor not the same as in embedder.pth: ori_codebook.weight"


@pytest.mark.parametrize("change", ["order", "value", "length", "axes"])
def test_codebooks_that_are_no_grid(released, change):
    def spoil(tensors):
        codebook = tensors["ori_codebook.weight"].clone()
        if change == "order":
            codebook = codebook.flip(0)
        elif change == "value":
            codebook[7, 0] = 0.1
        elif change == "length":
            codebook = codebook[:-1]
        else:
            codebook = codebook[0]
        tensors["ori_codebook.weight"] = codebook

    edit(released / EMBEDDER, spoil)
    error = error_of(released)
    assert error.source == str(released / EMBEDDER)
    assert error.keys == ("ori_codebook.weight",)


def test_levels_that_are_not_the_codebooks(trained):
    key = f"{PREFIX}dualvq_head.vq_low._levels"
    edit(trained, lambda tensors: tensors.update({key: torch.tensor([8, 8, 8, 5, 6])}))
    error = error_of(trained)
    assert error.keys == (key,)
    assert "(8, 8, 8, 6, 5)" in error.reason


def test_training_checkpoints_without_levels(trained):
    names = [f"{PREFIX}dualvq_head.vq_low.{name}" for name in ("_levels", "implicit_codebook")]

    def remove(tensors):
        for name in names:
            del tensors[name]

    edit(trained, remove)
    assert error_of(trained).keys == (names[1],)


def test_nested_quantizers_are_refused_by_name(trained):
    def nest(tensors):
        for end in ("weight", "bias"):
            name = f"{PREFIX}dualvq_head.vq_low.project_in.{end}"
            tensors[name.replace("vq_low.", "vq_low.fsq.")] = tensors[name]

    edit(trained, nest)
    error = error_of(trained)
    assert "nested quantizer" in error.reason
    assert f"{PREFIX}dualvq_head.vq_low.fsq.project_in.weight" in error.keys


def test_a_released_file_is_not_a_training_checkpoint(released):
    reason = error_of(released / MODEL).reason
    assert PREFIX in reason
    assert "by the folder" in reason
