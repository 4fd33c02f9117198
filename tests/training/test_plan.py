"""What ``--dry-run`` says."""

import re

import pytest
import torch

from viq.data.config import ImageDataConfig
from viq.data.crops import CropBatch
from viq.data.sources import SourceConfig
from viq.training.loop import LoopConfig
from viq.training.optim import OptimConfig
from viq.training.plan import activation_bytes, describe
from viq.training.stages.vae import VaeConfig, VaeStage


@pytest.fixture
def text(toys):
    config = toys.loop_config(
        steps=1234,
        accumulate=2,
        ema=0.99,
        optim=OptimConfig(lr=0.01, lr_scale={"vision": 0.1}, weight_decay=0.3),
    )
    data = toys.ToyData(lanes_total=2, lanes=range(2))
    return describe(toys.new_stage(), data, config)


def row(text, *words):
    """The cells of the one row that begins so."""
    (line,) = (line for line in text.splitlines() if line.startswith(words))
    return re.split(r"\s{2,}", line)


def test_it_names_stage_steps_and_batches(text):
    assert text.startswith("ToyStage: 1,234 steps, 2 x float32 a process")


def test_parts_are_counted_trained_and_frozen(text):
    assert row(text, "part") == ["part", "trained", "frozen"]
    assert row(text, "base") == ["base", "0", "20"]
    assert row(text, "positions") == ["positions", "8", "0"]
    assert row(text, "teacher") == ["teacher (as it is)", "0", "20"]
    rows = [re.split(r"\s{2,}", line) for line in text.splitlines()]
    assert ["text", "76", "0"] in rows
    assert ["all", "104", "40"] in rows


def test_groups_show_rate_and_decay(text):
    rows = [re.split(r"\s{2,}", line) for line in text.splitlines()]
    assert ["text", "matrices", "64", "0.01", "0.3"] in rows
    assert ["text", "norms, biases, tables", "20", "0.01", "0"] in rows
    assert ["vision", "matrices", "16", "0.001", "0.3"] in rows


def test_losses_and_sizes_are_those_of_the_stage_and_its_first_step(text):
    rows = [re.split(r"\s{2,}", line) for line in text.splitlines()]
    assert ["image", "0.5"] in rows
    assert row(text, "size tokens")[1] == "4"  # 1 + 3, see ToyData
    assert row(text, "size images")[1] == "1"
    assert row(text, "count of loss image ")[1] == "1"


def test_memory_has_every_part(text):
    for part in ("weights", "gradients", "optimizer", "moving average", "activations, roughly"):
        assert re.fullmatch(r"\d+\.\d\d GiB", row(text, part)[1])


def test_matrices_by_muon_are_named(toys):
    config = toys.loop_config(steps=1, optim=OptimConfig(lr=0.01, muon=("text",)))
    text = describe(toys.new_stage(), toys.ToyData(), config)
    rows = [re.split(r"\s{2,}", line) for line in text.splitlines()]
    assert ["text", "matrices, by Muon", "64", "0.01", "0.02"] in rows
    assert ["vision", "matrices", "16", "0.01", "0.02"] in rows


def test_the_estimate_of_activations_is_right_to_a_factor_of_two():
    config = LoopConfig(steps=1, dtype="float32")
    data = ImageDataConfig(sources=(SourceConfig(name="any", kind="synthetic"),))
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    stage = VaeStage(VaeConfig(data=data, loop=config), images)
    batch = CropBatch(images=images, samples=("",) * 4)
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        losses = stage(batch)  # held until the end, or storages would be used again
    parameters = {p.untyped_storage().data_ptr() for p in stage.parameters()}
    measured = sum(size for where, size in kept.items() if where not in parameters)
    assert losses.sums["pixel"].requires_grad
    assert 0.5 < activation_bytes(stage, batch, config) / measured < 2


def test_checkpointing_and_bfloat16_need_less(toys):
    stage, batch = toys.new_stage(), toys.ToyData().batch(0, 1)
    whole = activation_bytes(stage, batch, LoopConfig(dtype="float32"))
    assert activation_bytes(stage, batch, LoopConfig(dtype="bfloat16")) == whole / 2
    less = activation_bytes(stage, batch, LoopConfig(dtype="float32", checkpointing=True))
    assert less == pytest.approx(whole / 10)
