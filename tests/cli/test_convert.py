"""viq convert: other people's weights as folders that this package loads."""

import json

import pytest
import torch

from viq import load


def save_siglip(folder):
    from transformers import SiglipVisionConfig, SiglipVisionModel

    config = SiglipVisionConfig(
        hidden_size=12,
        intermediate_size=20,
        num_hidden_layers=1,
        num_attention_heads=3,
        image_size=8,
        patch_size=4,
    )
    SiglipVisionModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_official_weights_become_a_model(viq_command, golden, tmp_path, dtype):
    out = tmp_path / "model"
    options = [] if dtype is None else ["--dtype", dtype]
    outcome = viq_command("convert", "official", golden / "tiny16k", "--out", out, *options)
    tokenizer = load(out)
    assert outcome.status == 0
    assert outcome.out == [
        f"{out}: tokenizer, 1,835,888 parameters, levels 8,8,8,6,5,"
        f" fingerprint {tokenizer.fingerprint}"
    ]
    assert json.loads((out / "config.json").read_text())["fingerprint"] == tokenizer.fingerprint
    assert tokenizer.dtype == torch.float32


def test_both_forms_print_the_same_fingerprint(viq_command, golden, tmp_path):
    lines = []
    for index, name in enumerate((".", "vision_tower.pth")):
        path = golden / "tiny16k" / name
        out = viq_command("convert", "official", path, "--out", tmp_path / str(index)).out
        lines.append(out[0].partition(": ")[2])
    assert lines[0] == lines[1]


def test_siglip_becomes_a_vision_tower(viq_command, tmp_path):
    from viq.checkpoint import load_vision_tower

    folder, out = save_siglip(tmp_path / "siglip"), tmp_path / "tower"
    options = ["--position-side", 5, "--patch-size", 8]
    outcome = viq_command("convert", "siglip2", folder, "--out", out, *options)
    count = sum(p.numel() for part in load_vision_tower(out) for p in part.parameters())
    assert outcome.status == 0
    assert outcome.out == [
        f"{out}: vision tower, {count:,} parameters, 5 x 5 positions, patches of 8 x 8 pixels"
    ]


@pytest.mark.parametrize("format_name", ["official", "siglip2"])
def test_folders_with_anything_in_them_are_refused(viq_command, tmp_path, format_name):
    out = tmp_path / "model"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    outcome = viq_command("convert", format_name, tmp_path, "--out", out)
    assert outcome.status == 2
    assert outcome.err == [f"viq: error: {out}: exists already; name a new folder, or an empty one"]
    assert [path.name for path in out.iterdir()] == ["precious.txt"]


def test_files_are_refused_as_folders(viq_command, tmp_path):
    out = tmp_path / "model"
    out.write_text("mine")
    assert viq_command("convert", "official", tmp_path, "--out", out).status == 2
    assert out.read_text() == "mine"


@pytest.mark.parametrize("format_name", ["official", "siglip2"])
def test_what_cannot_be_converted_leaves_nothing(viq_command, tmp_path, format_name):
    out = tmp_path / "model"
    (tmp_path / "nothing").mkdir()
    outcome = viq_command("convert", format_name, tmp_path / "nothing", "--out", out)
    assert outcome.status == 2
    assert len(outcome.err) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["convert"], "FORMAT"),
        (["convert", "clip"], "'clip'"),
        (["convert", "official", "folder"], "--out"),
        (["convert", "official", "folder", "--out", "x", "--dtype", "int8"], "int8"),
        (["convert", "siglip2", "folder", "--out", "x", "--position-side", "0"], "1 or more"),
    ],
)
def test_usage_errors(viq_command, arguments, reason):
    outcome = viq_command(*arguments)
    assert outcome.status == 2
    assert len(outcome.err) == 1
    assert reason in outcome.err[0]
