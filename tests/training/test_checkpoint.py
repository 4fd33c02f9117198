"""Checkpoints: complete, atomic, rotated, and refused where they do not fit."""

import json
import random
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from viq.errors import InputError
from viq.training.checkpoint import (
    Checkpoints,
    carried,
    random_states,
    set_random_states,
)
from viq.training.optim import Ema, OptimConfig, optimizer

ALONE = SimpleNamespace(index=0, count=1, is_first=True, has_deepspeed=False, wait=lambda: None)
FILES = [
    "average.safetensors",
    "data-00000.json",
    "optimizer.safetensors",
    "random-00000.json",
    "state.json",
    "weights.safetensors",
]


class Saved:
    """A stage that trained for two steps, with what belongs to it."""

    def __init__(self, toys, folder, keep=2, keep_every=None, muon=()):
        self.stage = toys.new_stage()
        self.optimizer = optimizer(self.stage, OptimConfig(muon=muon))
        self.ema = Ema([p for p in self.stage.parameters() if p.requires_grad], 0.5)
        self.checkpoints = Checkpoints(folder, ALONE, keep=keep, keep_every=keep_every)

    def train(self, images):
        batch = SimpleNamespace(tokens=torch.ones(3, 4), images=torch.ones(images, 4))
        sum(self.stage(batch).sums.values()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(5)

    def save(self, step, data=None):
        data = data or {"0": {"next": step}}
        parts = (self.stage, self.stage, self.optimizer, self.ema)
        return self.checkpoints.save(*parts, data, {"step": step})

    def load(self):
        checkpoint = self.checkpoints.newest()
        checkpoint.restore(self.stage, self.stage, self.optimizer, self.ema)
        return checkpoint


def optimizer_state(saved):
    names = {p: n for n, p in saved.stage.named_parameters()}
    return {(names[p], k): v for p, s in saved.optimizer.state.items() for k, v in s.items()}


@pytest.mark.parametrize("muon", [(), ("text", "vision")])
def test_everything_comes_back(toys, tmp_path, muon):
    before = Saved(toys, tmp_path, muon=muon)
    before.train(images=0)  # the vision branch has no gradient yet, so no optimizer state
    before.train(images=0)
    assert not any(name.startswith("vision") for name, _ in optimizer_state(before))
    before.save(2)

    after = Saved(toys, tmp_path, muon=muon)
    checkpoint = after.load()
    assert checkpoint.step == 2
    assert checkpoint.data == {"0": {"next": 2}}
    for name, tensor in before.stage.state_dict().items():
        if name.startswith("base"):
            continue  # frozen, so not carried; the toy's is the same from its seed
        assert torch.equal(tensor, after.stage.state_dict()[name]), name
    assert all(map(torch.equal, before.ema.averages, after.ema.averages))
    expected, found = optimizer_state(before), optimizer_state(after)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[k], found[k]) for k in expected)
    before.train(images=2)
    after.train(images=2)
    for name, tensor in before.stage.state_dict().items():
        assert torch.equal(tensor, after.stage.state_dict()[name]), name


def test_what_is_frozen_is_not_carried_and_buffers_are(toys):
    names = set(carried(toys.new_stage()))
    assert "seen" in names
    assert "positions" in names
    assert not any(name.startswith(("base", "teacher")) for name in names)


def test_tied_weights_are_carried_once(toys):
    stage = toys.new_stage()
    stage.tied = nn.Linear(4, 4)
    stage.tied.weight = stage.vision.weight
    assert "vision.weight" in carried(stage)
    assert "tied.weight" not in carried(stage)


def test_memory_layouts_survive(toys, tmp_path):
    saved = Saved(toys, tmp_path)
    conv = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    saved.stage.conv = conv
    saved.ema = None
    wanted = conv.weight.detach().clone()
    saved.optimizer = torch.optim.AdamW(saved.stage.conv.parameters())
    conv(torch.ones(1, 4, 5, 5)).sum().backward()
    saved.optimizer.step()
    wanted = conv.weight.detach().clone()
    saved.save(1)
    nn.init.zeros_(conv.weight)
    saved.load()
    assert torch.equal(conv.weight, wanted)
    average = saved.optimizer.state[conv.weight]["exp_avg"]
    assert average.stride() == conv.weight.stride()


def test_there_are_no_pickles(toys, tmp_path):
    folder = Saved(toys, tmp_path).save(1)
    assert folder == tmp_path / "step-0000001"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert load_file(folder / "weights.safetensors")["seen"].dtype == torch.int64


def test_the_oldest_are_deleted_and_every_tenth_step_is_kept(toys, tmp_path):
    saved = Saved(toys, tmp_path, keep=2, keep_every=10)
    for step in (5, 10, 12, 20, 25, 30, 35):
        saved.save(step)
    assert [int(p.name[5:]) for p in saved.checkpoints.whole()] == [35, 30, 20, 10]
    assert len(list(tmp_path.iterdir())) == 4  # nothing half deleted is left


def test_what_a_killed_run_left_half_written_is_ignored_and_removed(toys, tmp_path):
    saved = Saved(toys, tmp_path)
    saved.save(1)
    (tmp_path / ".step-0000002").mkdir()
    (tmp_path / ".step-0000002" / "weights.safetensors").write_bytes(b"half")
    assert saved.load().step == 1
    saved.save(3)
    assert not (tmp_path / ".step-0000002").exists()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["cut", "removed", "emptied"])
def test_a_damaged_one_is_skipped_and_named(toys, tmp_path, caplog, file, damage):
    saved = Saved(toys, tmp_path)
    saved.train(images=1)
    saved.save(1)
    path = saved.save(2) / file
    if damage == "removed":
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    assert saved.load().step == 1
    assert f"{path.parent} is damaged and is skipped" in caplog.text
    saved.save(2)  # in the place of the damaged one
    assert saved.load().step == 2


def test_without_any_there_is_none(toys, tmp_path):
    assert Saved(toys, tmp_path / "nowhere").checkpoints.newest() is None


def test_missing_and_unknown_parameters_are_named(toys, tmp_path):
    saved = Saved(toys, tmp_path)
    saved.save(1)
    saved.stage.extra = nn.Linear(4, 4)
    with pytest.raises(InputError, match=r"step-0000001: lacks 'extra.bias' \(2 such in all\)"):
        saved.load()
    del saved.stage.extra
    del saved.stage.vision
    with pytest.raises(InputError, match=r"has, and the stage has not, 'vision.bias'"):
        saved.load()


def test_another_shape_is_named_with_both(toys, tmp_path):
    saved = Saved(toys, tmp_path)
    saved.save(1)
    saved.stage.vision = nn.Linear(4, 5)
    with pytest.raises(InputError, match=r"'vision.weight' is \(4, 4\) there, but \(5, 4\) in"):
        saved.load()


def test_all_random_states_come_back_through_json():
    states = json.loads(json.dumps(random_states()))
    expected = random.random(), np.random.rand(), torch.rand(3).tolist()  # noqa: NPY002
    set_random_states(states)
    found = random.random(), np.random.rand(), torch.rand(3).tolist()  # noqa: NPY002
    assert found == expected


def test_a_process_that_was_not_there_is_told(toys, tmp_path, caplog):
    saved = Saved(toys, tmp_path)
    saved.save(1)
    checkpoint = saved.load()
    before = torch.get_rng_state()
    checkpoint.restore_random(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert "process 1 was not there before" in caplog.text


def test_lanes_of_all_processes_come_together(toys, tmp_path):
    saved = Saved(toys, tmp_path)
    folder = saved.save(1, data={"0": {"next": 7}})
    (folder / "data-00001.json").write_text(json.dumps({"1": {"next": 8}}))
    shutil.copy(folder / "random-00000.json", folder / "random-00001.json")
    (folder / "state.json").write_text(json.dumps({"step": 1, "processes": 2}))
    assert saved.load().data == {"0": {"next": 7}, "1": {"next": 8}}
