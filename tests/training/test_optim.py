"""Groups, schedule and the average of the weights."""

import itertools

import pytest
import torch
from torch import nn

from viq.errors import InputError
from viq.training.optim import (
    Ema,
    OptimConfig,
    decays,
    learning_rate,
    optimizer,
    parameter_groups,
)


def rates(steps=100, **settings):
    config = OptimConfig(lr=2.0, **settings)
    return [learning_rate(step, steps, config) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_rate_rises_and_falls_to_its_floor(schedule):
    found = rates(schedule=schedule, warmup=0.1, min_ratio=0.25)
    assert found[0] == pytest.approx(0.2)
    assert found[9] == max(found) == 2.0
    assert found[-1] == pytest.approx(0.5)
    assert all(a < b for a, b in itertools.pairwise(found[:10]))
    assert all(a > b for a, b in itertools.pairwise(found[9:]))


def test_halfway_down_cosine_and_line_cross():
    cosine, linear = rates(schedule="cosine", warmup=0.0), rates(schedule="linear", warmup=0.0)
    assert cosine[49] == pytest.approx(linear[49]) == pytest.approx(1.1)
    assert cosine[20] > linear[20]
    assert cosine[80] < linear[80]


def test_a_constant_rate_stays_after_the_warm_up():
    found = rates(schedule="constant", warmup=0.05)
    assert found[0] < found[4] == 2.0
    assert set(found[4:]) == {2.0}


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_runs_have_a_rate(steps):
    assert all(0 < rate <= 2.0 for rate in rates(steps))


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("blocks.0.proj.weight", (4, 4), True),
        ("conv.weight", (4, 4, 3, 3), True),
        ("bert.attention.query.weight", (4, 4), True),
        ("blocks.0.proj.bias", (4,), False),
        ("norm.weight", (4,), False),
        ("logit_scale", (), False),
        ("positions.grid", (16, 4), False),
        ("position_embedding.weight", (16, 4), False),
        ("pool.latent", (1, 4), False),
        ("resampler.queries", (8, 4), False),
        ("latent_head.conv.weight", (4, 4), True),
    ],
)
def test_matrices_decay_and_tables_do_not(name, shape, expected):
    assert decays(name, nn.Parameter(torch.zeros(shape))) is expected


def test_each_group_has_its_rate_and_its_decay(toys):
    stage = toys.new_stage()
    config = OptimConfig(lr=0.1, lr_scale={"vision": 0.5}, weight_decay=0.3)
    made = optimizer(stage, config)
    found = {
        (g["name"], g["weight_decay"]): (g["lr"], sum(p.numel() for p in g["params"]))
        for g in made.param_groups
    }
    assert found == {
        ("text", 0.3): (0.1, 64),
        ("text", 0.0): (0.1, 8 + 4 + 8),  # biases, and the positions
        ("vision", 0.3): (0.05, 16),
        ("vision", 0.0): (0.05, 4),
    }


def test_muon_trains_the_matrices_of_its_groups_and_adamw_all_else(toys):
    config = OptimConfig(lr=0.1, muon=("text",))
    ours, theirs = toys.new_stage(), toys.new_stage()
    made = optimizer(ours, config)
    matrices = [theirs.text[0].weight, theirs.text[2].weight]
    others = [p for p in theirs.parameters() if p.requires_grad and p.ndim < 2]
    both = [
        torch.optim.Muon(matrices, lr=0.1, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([theirs.vision.weight], lr=0.1, betas=(0.9, 0.95), weight_decay=0.02),
        torch.optim.AdamW([theirs.positions, *others], lr=0.1, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for seed in range(3):
        torch.manual_seed(seed)
        batch = toys.ToyBatch(tokens=torch.randn(3, 4), images=torch.randn(2, 4))
        for stage, some in ((ours, [made]), (theirs, both)):
            sum(stage(batch).sums.values()).backward()
            for one in some:
                one.step()
                one.zero_grad()
    for (name, own), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own, other, msg=name)


def test_a_group_for_muon_that_is_not_there_is_named(toys):
    with pytest.raises(InputError, match="muon names group 'encoder', but ToyStage has: text"):
        optimizer(toys.new_stage(), OptimConfig(muon=("encoder",)))


def test_a_parameter_in_no_group_is_named(toys):
    stage = toys.new_stage()
    stage.extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"extra.weight requires a gradient, but is in no group"):
        parameter_groups(stage, OptimConfig())


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (lambda s: {"a": s.parameters()}, "base.weight is frozen, but in group 'a'"),
        (
            lambda s: {"a": [s.positions], "b": [s.positions]},
            "positions is in two groups, 'a' and 'b'",
        ),
        (
            lambda s: {"a": [nn.Parameter(torch.zeros(1))]},
            "group 'a' has a parameter that is not the stage's",
        ),
    ],
)
def test_a_parameter_in_a_wrong_group_is_named(toys, groups, message):
    stage = toys.new_stage()
    stage.groups = lambda: groups(stage)
    with pytest.raises(ValueError, match=message):
        parameter_groups(stage, OptimConfig())


def test_a_rate_for_an_unknown_group_lists_the_groups(toys):
    config = OptimConfig(lr_scale={"lm": 0.1})
    message = "lr_scale names group 'lm', but ToyStage has: text, vision"
    with pytest.raises(InputError, match=message):
        parameter_groups(toys.new_stage(), config)


def test_the_average_follows_the_weights_slowly():
    weights = nn.Parameter(torch.zeros(3))
    ema = Ema([weights], decay=0.5)
    with torch.no_grad():
        weights.fill_(1.0)
    ema.update(100)
    assert ema.averages[0].tolist() == [0.5, 0.5, 0.5]
    ema.update(100)
    assert ema.averages[0].tolist() == [0.75, 0.75, 0.75]


def test_early_on_the_average_forgets_its_start():
    weights = nn.Parameter(torch.zeros(1))
    ema = Ema([weights], decay=0.999)
    with torch.no_grad():
        weights.fill_(1.0)
    ema.update(0)
    assert ema.averages[0].item() == pytest.approx(0.9)


def test_average_and_weights_change_places_and_back():
    weights = nn.Parameter(torch.tensor([1.0, 2.0]))
    ema = Ema([weights], decay=0.9)
    ema.averages[0].fill_(7.0)
    with ema.swapped():
        assert weights.tolist() == [7.0, 7.0]
        assert ema.averages[0].tolist() == [1.0, 2.0]
    assert weights.tolist() == [1.0, 2.0]
    assert ema.averages[0].tolist() == [7.0, 7.0]
