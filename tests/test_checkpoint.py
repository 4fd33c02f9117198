"""What models on disk have in common; each kind has tests of its own."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from viq.checkpoint import (
    VisionTower,
    fingerprint,
    load_vision_tower,
    save_vision_tower,
    write_model,
)
from viq.errors import ModelError
from viq.image import ImageConfig
from viq.model.encoder import AttentionPool, Encoder, EncoderConfig, PoolConfig
from viq.model.head import HeadConfig, QuantizationHead, QuantizerConfig

ENCODER = EncoderConfig(width=8, depth=1, attention_heads=2, mlp_width=8, position_side=2)
HEAD = HeadConfig(
    width=8,
    attention_heads=2,
    mlp_width=8,
    depth=1,
    code_heads=2,
    code_width=4,
    expand_width=None,
    code_depth=1,
    code_mlp_width=4,
    rope_width=4,
    quantizer=QuantizerConfig(levels=None, bottleneck=4, limit="l2"),
)


def name_of(head):
    torch.manual_seed(0)
    return fingerprint(ImageConfig(), Encoder(ENCODER), QuantizationHead(head))


def test_settings_that_came_later_count_only_when_they_are_used():
    name = name_of(HEAD)
    assert name == name_of(replace(HEAD, position_side=32))
    assert name != name_of(replace(HEAD, position_side=16))
    quantizers = [replace(HEAD.quantizer, codebook_size=size) for size in (50, 60)]
    assert len({name, *(name_of(replace(HEAD, quantizer=one)) for one in quantizers)}) == 3


def test_what_two_parts_share_is_written_for_both(tmp_path):
    part = torch.nn.Linear(2, 2)
    config = replace(ENCODER)
    write_model(tmp_path, config, {"one": part, "two": part})
    tensors = load_file(tmp_path / "model.safetensors")
    assert torch.equal(tensors["one.weight"], part.weight)
    assert torch.equal(tensors["two.weight"], part.weight)


@pytest.fixture
def tower(tmp_path):
    pool = AttentionPool(PoolConfig(width=8, attention_heads=2, mlp_width=8))
    tower = VisionTower(Encoder(ENCODER), pool)
    save_vision_tower(tower, tmp_path / "tower")
    return tower


def test_a_tower_survives_the_disk(tower, tmp_path):
    loaded = load_vision_tower(tmp_path / "tower")
    for name, part in tower._asdict().items():
        found = getattr(loaded, name).state_dict()
        assert all(torch.equal(found[key], value) for key, value in part.state_dict().items())
        assert not any(p.requires_grad for p in getattr(loaded, name).parameters())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop("pool.q.bias"), "1 tensor missing: pool.q.bias"),
        (lambda t: t.update({"pool.extra": torch.ones(1)}), "do not fit: .*Unexpected key"),
        (lambda t: t.update({"pool.q.bias": torch.ones(1)}), "do not fit: .*size mismatch"),
    ],
    ids=["missing", "left over", "of another shape"],
)
def test_a_damaged_tower_is_refused_in_one_line(tower, tmp_path, change, reason):
    path = tmp_path / "tower" / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(ModelError, match=reason) as error:
        load_vision_tower(tmp_path / "tower")
    assert "\n" not in str(error.value)


def test_a_tower_of_noise_is_refused(tower, tmp_path):
    path = tmp_path / "tower" / "model.safetensors"
    path.write_bytes(b"noise" * 10)
    with pytest.raises(ModelError, match="cannot be read"):
        load_vision_tower(tmp_path / "tower")
    config = tmp_path / "tower" / "config.json"
    config.write_text(config.read_text().replace('"attention_heads": 2', '"attention_heads": 3'))
    with pytest.raises(ModelError, match="8 does not divide into 3"):
        load_vision_tower(tmp_path / "tower")
