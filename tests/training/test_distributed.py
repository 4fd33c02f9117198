"""Several processes train as one does."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from viq.errors import InputError
from viq.training.loop import train
from viq.training.objective import Objective, tally
from viq.training.optim import OptimConfig
from viq.training.processes import Processes

SHARDED = Path(__file__).with_name("sharded.py")


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_same(folder, other):
    """Weights and losses are equal; batches were of unequal size and at times without images."""
    expected, found = load_file(folder / "toy.safetensors"), load_file(other / "toy.safetensors")
    for name in expected.keys() - {"seen"}:  # of its own batches
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-5)
    logs = lines(folder), lines(other)
    assert len(logs[0]) == len(logs[1]) == 10
    for one, two in zip(*logs, strict=True):
        for key in ("step", "loss", "text", "image", "grad_norm", "eval_norm", "errors"):
            assert one.get(key) == pytest.approx(two.get(key), abs=1e-5), key


@pytest.fixture
def alone(toys, tmp_path):
    """The folder of a run in this process, on the batches of two."""
    data = toys.ToyData(lanes_total=2, lanes=range(2))
    config = toys.loop_config(accumulate=2, ema=0.9)
    train(toys.new_stage(), data, config, tmp_path / "alone")
    return tmp_path / "alone"


def test_two_processes_reach_the_losses_of_one(two_processes, alone, tmp_path):
    messages = two_processes(tmp_path / "two")
    assert_same(alone, tmp_path / "two")
    assert "8/8" in messages[0]
    assert "step/s" not in messages[1]  # only the first one shows progress
    assert json.loads((tmp_path / "two" / "run.json").read_text())["processes"] == 2
    newest = tmp_path / "two" / "checkpoints" / "step-0000008"
    assert json.loads((newest / "data-00001.json").read_text()) == {"1": {"next": 8}}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_micro_batches_do_as_two_in_two_processes(toys, two_processes, tmp_path):
    data = toys.ToyData(lanes_total=4, lanes=range(4))
    train(toys.new_stage(), data, toys.loop_config(accumulate=4, ema=0.9), tmp_path / "alone")
    two_processes(tmp_path / "two", "--accumulate", "2")
    assert_same(tmp_path / "alone", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_process_goes_on_where_two_stopped_and_the_other_way_round(
    toys, two_processes, alone, tmp_path
):
    two_processes(tmp_path / "cut", "--terminate-at", "5", code=1)
    shutil.copytree(tmp_path / "cut", tmp_path / "one")
    data = toys.ToyData(lanes_total=2, lanes=range(2))
    config = toys.loop_config(accumulate=2, ema=0.9)
    train(toys.new_stage(), data, config, tmp_path / "one", resume=True)
    assert_same(alone, tmp_path / "one")
    two_processes(tmp_path / "cut", "--resume")
    assert_same(alone, tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sharded_parameters_train_as_whole_ones_and_are_saved_whole(
    toys, two_processes, alone, tmp_path
):
    cut = tmp_path / "cut"
    two_processes(cut, "--terminate-at", "5", code=1, script=SHARDED)
    weights = load_file(cut / "checkpoints" / "step-0000005" / "weights.safetensors")
    assert weights["vision.weight"].shape == (4, 4)
    shutil.copytree(cut, tmp_path / "one")
    data = toys.ToyData(lanes_total=2, lanes=range(2))
    config = toys.loop_config(accumulate=2, ema=0.9)
    train(toys.new_stage(), data, config, tmp_path / "one", resume=True)
    assert_same(alone, tmp_path / "one")
    two_processes(cut, "--resume", script=SHARDED)
    assert_same(alone, cut)


def test_a_parameter_that_a_batch_does_not_use_has_a_gradient_of_zeros(toys):
    objective = Objective(toys.new_stage())
    batch = toys.ToyBatch(tokens=torch.ones(2, 4), images=torch.ones(0, 4))
    total, sums = objective(batch, {"text": 0.5})
    total.backward()
    assert total.item() == pytest.approx(0.5 * sums["text"].item())
    assert objective.stage.vision.weight.grad.abs().sum() == 0
    assert objective.stage.text[0].weight.grad.abs().sum() > 0
    assert objective.stage.base.weight.grad is None


def test_a_logged_loss_has_no_part_in_the_gradient(toys):
    stage = toys.new_stage()
    batch = toys.ToyBatch(tokens=torch.ones(2, 4), images=torch.ones(1, 4))
    total, sums = Objective(stage)(batch, {"text": 1.0})
    assert not any(value.requires_grad for value in sums.values())
    total.backward()
    assert stage.vision.weight.grad.abs().sum() == 0


def test_where_processes_must_be_alike_a_batch_without_images_is_refused(toys):
    # Of two processes the other one has an image.
    processes = SimpleNamespace(
        are_alike=True, count=2, add_up=lambda values: [value + 1 for value in values]
    )
    batch = toys.ToyBatch(tokens=torch.ones(2, 4), images=torch.ones(0, 4))
    message = "a batch of one process has nothing for loss 'image', and others have; with FSDP"
    with pytest.raises(InputError, match=message):
        tally(toys.new_stage(), [batch], processes)


@pytest.mark.parametrize(
    ("kind", "stage", "message"),
    [
        ("FSDP", 0, "FSDP version 1 is not supported; set fsdp_version: 2"),
        ("DEEPSPEED", 3, r"ZeRO 3 is not supported; FSDP \(fsdp_version: 2\) shards as much"),
    ],
)
def test_what_is_not_supported_says_what_is(monkeypatch, kind, stage, message):
    import accelerate

    plugin = SimpleNamespace(zero_stage=stage)
    fake = SimpleNamespace(
        distributed_type=accelerate.DistributedType(kind),
        is_fsdp2=False,
        state=SimpleNamespace(deepspeed_plugin=plugin),
    )
    monkeypatch.setattr(accelerate, "Accelerator", lambda **_: fake)
    with pytest.raises(InputError, match=message):
        Processes("float32", 0)


def test_deepspeed_has_no_moving_average(toys, tmp_path, monkeypatch):
    def prepare(self, model, optimizer, clip_norm):
        self.has_deepspeed = True
        return model, optimizer

    monkeypatch.setattr(Processes, "prepare", prepare)
    message = r"a moving average \(ema\) does not go with DeepSpeed; FSDP has it"
    with pytest.raises(InputError, match=message):
        train(toys.new_stage(), toys.ToyData(), toys.loop_config(ema=0.9), tmp_path)


def test_muon_does_not_train_parts_of_matrices(toys, tmp_path, monkeypatch):
    alone = Processes.__init__

    def sharded(self, dtype, seed):
        alone(self, dtype, seed)
        self.are_alike = True

    monkeypatch.setattr(Processes, "__init__", sharded)
    config = toys.loop_config(optim=OptimConfig(muon=("text",)))
    with pytest.raises(InputError, match="Muon needs whole matrices"):
        train(toys.new_stage(), toys.ToyData(), config, tmp_path)
