import re
from dataclasses import replace

import pytest
import torch

from viq.checkpoint import load_vision_tower
from viq.data.letters import LETTERS
from viq.data.sample import Sample
from viq.errors import InputError, ModelError
from viq.mllm.model import MultimodalModel
from viq.training.handover import _load_letters, images_alone
from viq.training.stage import Inputs
from viq.training.stages.align import AlignConfig, AlignStage, build


@pytest.fixture
def config(toys):
    return AlignConfig(**toys.common, position_side=6)


@pytest.fixture
def stage(toys, config):
    return AlignStage(config, toys.tower, toys.company(vae=None)).eval()


def test_sums_of_a_batch_are_those_of_its_samples(toys, stage, samples):
    batch = toys.batch(samples)
    together, counts = stage(batch).sums, stage.counts(batch)
    assert set(together) == set(counts) == set(stage.weights) == {"text", "distil"}
    apart = [stage(toys.batch([sample])).sums for sample in samples]
    for name, loss in together.items():
        alone = torch.stack([sums[name] for sums in apart]).sum()
        torch.testing.assert_close(loss, alone, rtol=1e-5, atol=1e-5)
    assert counts["distil"] == 8
    assert counts["text"] == sum(stage.counts(toys.batch([s]))["text"] for s in samples)
    assert stage.size(batch) == {"images": 8, "tokens": len(batch.input_ids)}


def test_nothing_is_forgotten_at_the_start_at_the_teachers_own_size(toys, config, samples):
    stage = AlignStage(replace(config, position_side=4), toys.tower, toys.company())
    square = toys.batch([samples[0]])  # padded to 64 x 64, which is what the tower is for
    assert float(stage(square).sums["distil"].detach()) == pytest.approx(0, abs=1e-6)
    wide = toys.batch([samples[1]])
    assert float(stage(wide).sums["distil"].detach()) > 1e-4


def test_the_position_grid_grows_and_the_start_stays(toys, stage):
    assert stage.network.encoder.config.position_side == 6
    assert stage.network.encoder.positions.weight.shape == (6, 6, 64)
    assert toys.tower.encoder.positions.weight.shape == (4, 4, 64)
    frozen = stage.teacher().encoder.parameters()
    assert not any(p.requires_grad for p in frozen)


def test_every_trained_parameter_is_in_one_group_and_gets_a_gradient(toys, stage, samples):
    sums = stage(toys.batch(samples)).sums
    (sums["text"] + sums["distil"]).backward()
    groups = {name: list(members) for name, members in stage.groups().items()}
    assert set(groups) == {"carried", "new", "projector", "lm"}
    assert not groups["new"]
    members = [p for group in groups.values() for p in group]
    assert len(set(members)) == len(members)
    assert set(members) == {p for p in stage.parameters() if p.requires_grad}
    assert all(p.grad is not None for p in members)
    frozen = {p for p in stage.parameters() if not p.requires_grad}
    assert frozen == {p for n, p in stage.mllm.lm.named_parameters() if "lora" not in n}


def test_text_alone_moves_no_vision(toys, stage, samples):
    words = replace_images(samples[0])
    losses = stage(toys.batch([words]))
    assert stage.counts(toys.batch([words]))["distil"] == 0
    assert set(losses.sums) == {"text"}
    assert float(losses.sums["text"].detach()) > 0
    losses.sums["text"].backward()
    assert all(parameter.grad is None for parameter in stage.network.parameters())


def replace_images(sample):
    messages = tuple(
        {"role": m["role"], "content": [p for p in m["content"] if p["type"] == "text"]}
        for m in sample.messages
    )
    return Sample(id="words", images=(), messages=messages)


def test_losses_of_weight_zero_cost_nothing(toys, config, samples):
    batch = toys.batch(samples)
    blind = AlignStage(replace(config, text_weight=0.0), toys.tower, toys.company())
    assert set(blind(batch).sums) == {"distil"}
    assert blind.mllm is None
    forgetful = AlignStage(replace(config, distil_weight=0.0), toys.tower, toys.company())
    assert set(forgetful(batch).sums) == {"text"}
    assert forgetful.teacher is None
    assert not any(p.requires_grad for p in forgetful.pool.parameters())
    with pytest.raises(ValueError, match="every loss is off"):
        AlignStage(replace(config, text_weight=0.0, distil_weight=0.0), toys.tower, toys.company())


def test_the_frozen_teacher_is_no_part_of_checkpoints(stage):
    assert not any("teacher" in name for name in stage.state_dict())
    assert set(stage.frozen()) == {"teacher"}


def test_gradient_checkpointing_changes_no_gradient(toys, stage, samples):
    batch, gradients = toys.batch(samples), []
    stage.train()
    for _ in range(2):
        stage.zero_grad()
        sums = stage(batch).sums
        (sums["text"] + sums["distil"]).backward()
        gradients.append([p.grad.clone() for p in stage.network.parameters()])
        stage.gradient_checkpointing()
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, rtol=1e-5, atol=1e-6)


def test_evaluation_writes_answers_beside_the_right_ones(toys, config, samples):
    batch = toys.batch(samples)
    stage = AlignStage(config, toys.tower, toys.company(validation=batch)).eval()
    evaluation = stage.evaluate()
    assert set(evaluation.figures) == {"eval_text", "eval_distil", "eval_exact"}
    for name, loss in stage(batch).sums.items():
        expected = float(loss) / stage.counts(batch)[name]
        assert evaluation.figures[f"eval_{name}"] == pytest.approx(expected, rel=1e-5)
    lines = evaluation.text.splitlines()
    assert lines[0] == "| question | right answer | answer |"
    assert len(lines) == 2 + len(samples)
    assert re.search(r"Which\?.* \| red \| ", lines[2])


def test_a_built_stage_is_exported_and_loads(toys, config, samples, tower_run, tmp_path):
    inputs = Inputs(start=tower_run, lm=toys.lm)
    stage = build(config, inputs, samples[:2])
    assert stage.evaluate().figures["eval_distil"] < 1
    stage.export(tmp_path / "run")
    tower = load_vision_tower(tmp_path / "run" / "tower")
    assert tower.encoder.config.position_side == 6
    for name, tensor in stage.network.encoder.state_dict().items():
        assert torch.equal(tensor, tower.encoder.state_dict()[name])
    mllm = MultimodalModel.from_pretrained(tmp_path / "run" / "mllm")
    assert torch.equal(mllm.projector.proj_in.weight, stage.mllm.projector.proj_in.weight)


def test_another_teacher_can_be_named(toys, config, tower_run):
    config = replace(config, text_weight=0.0)
    stage = build(config, Inputs(start=tower_run, teacher=f"{tower_run}/tower"), [])
    assert stage.teacher is not None
    with pytest.raises(InputError, match="--teacher names the teacher"):
        build(config, Inputs(start=tower_run, teacher="nowhere"), [])


def test_missing_inputs_are_named_with_their_flags(toys, config, tower_run, tmp_path):
    with pytest.raises(InputError, match="the tower to start from is missing: give --start") as e:
        build(config, Inputs(lm=toys.lm), [])
    assert "\n" not in str(e.value)
    with pytest.raises(InputError, match=r"no tower/ and no config.json here; --start names"):
        build(config, Inputs(start=str(tmp_path), lm=toys.lm), [])
    with pytest.raises(InputError, match=r"needs a language model: give --lm .* --text-weight 0"):
        build(config, Inputs(start=tower_run), [])


def test_without_a_language_model_images_alone_are_validated(toys, config, samples, tower_run):
    stage = build(replace(config, text_weight=0.0), Inputs(start=tower_run), samples)
    evaluation = stage.evaluate()
    assert set(evaluation.figures) == {"eval_distil"}
    with_text = toys.batch(samples)
    assert torch.equal(stage.validation.rows, with_text.rows)
    assert stage.validation.packing == with_text.packing


@pytest.mark.slow
def test_eight_samples_are_learnt_by_heart(toys, config, samples, overfit):
    torch.manual_seed(0)
    batch = toys.batch(samples)
    stage = AlignStage(config, toys.tower, toys.company(validation=batch))
    figures = overfit(stage, batch, 300, 3e-3).figures
    assert figures["eval_text"] < 0.05
    assert figures["eval_exact"] == 1
    assert figures["eval_distil"] < 0.02


def test_letters_are_read_where_pictures_know_them(toys, config, samples, tmp_path):
    config = replace(config, letters_weight=2.0, spelling_weight=1.0)
    stage = AlignStage(config, toys.tower, toys.company())
    drawn = []
    for number, sample in enumerate(samples):
        image = sample.images[0].copy()
        if number < 3:
            image.info[LETTERS] = [("f", 9.0, 9.0), ("x", 20.0, 9.0)]
        drawn.append(replace(sample, images=(image,)))
    batch = toys.batch(drawn)
    assert stage.counts(batch)["letters"] == 6
    sums = stage(batch).sums
    assert sums["letters"] > 0
    assert stage.counts(batch)["spelling"] == 6
    (slope,) = torch.autograd.grad(sums["spelling"], [stage.mllm.projector.proj_in.weight])
    assert slope.any()
    assert "spelling" not in AlignStage(config, toys.tower, toys.company(mllm=None)).weights
    alone = images_alone(drawn, config.data.phases[0], 16)
    torch.testing.assert_close(alone.letters, batch.letters)
    assert {id(p) for p in stage.letters.parameters()} <= {id(p) for p in stage.groups()["new"]}
    stage.export(tmp_path)
    torch.manual_seed(5)
    again = _load_letters(str(tmp_path), toys.tower.encoder.config.width)
    torch.testing.assert_close(again.state_dict(), stage.letters.state_dict())
    (tmp_path / "letters.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match=r"letters\.safetensors: the reader of letters does not"):
        _load_letters(str(tmp_path), toys.tower.encoder.config.width)
    assert _load_letters(str(tmp_path / "none"), 8) is None
