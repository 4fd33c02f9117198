import math
from dataclasses import replace

import pytest
import tyro
from budget import TASKS, Budget, differences
from rows import DEFAULT, GROUPS, ROWS, rows_of

from viq.errors import InputError
from viq.recipes import RECIPES
from viq.recipes.nano import proximal


def config_of(stage, flags):
    default = RECIPES["nano"].stages[stage]()
    return tyro.cli(
        type(default), default=default, args=flags, config=(tyro.conf.AvoidSubcommands,)
    )


def test_every_row_is_in_a_group_and_every_line_is_a_row():
    lines = [line.row for group in GROUPS.values() for line in group.lines]
    assert {*lines} == {*ROWS}
    assert all(DEFAULT in [line.row for line in group.lines] for group in GROUPS.values())


def test_the_default_comes_first_and_no_row_twice():
    names = [row.name for row in rows_of(["position", "losses", "proximal"])]
    assert names[0] == DEFAULT
    assert len(names) == len({*names}) == 9


def test_rows_that_are_run_without_being_asked_for():
    first = rows_of([name for name, group in GROUPS.items() if not group.later])
    assert len(first) == 10


@pytest.mark.parametrize("name", [name for name in ROWS if name != DEFAULT])
def test_a_rows_flags_make_another_config(name):
    row = ROWS[name]
    changed = {stage: config_of(stage, list(row.changes(stage))) for stage in row.stages}
    default = {stage: RECIPES["nano"].stages[stage]() for stage in row.stages}
    assert changed != default or "proximal" not in row.stages
    assert row.changed


def test_rates_of_rows_without_stage_proximal_are_that_stages():
    flags = list(ROWS["scratch"].changes("quantize"))
    assert config_of("quantize", flags).loop.optim == proximal().loop.optim


def test_the_budget_sets_steps_sizes_and_seeds_and_leaves_the_rest():
    budget = Budget(steps=30, proximal_steps=10, side=144, seq_len=256, max_patches=300)
    for stage, steps in (("proximal", 10), ("quantize", 20)):
        config = config_of(stage, budget.flags(ROWS[DEFAULT], stage, seed=7))
        default = RECIPES["nano"].stages[stage]()
        assert sum(phase.tokens for phase in config.data.phases) == steps * 256
        assert {(p.area, p.seq_len, p.max_patches) for p in config.data.phases} == {
            (144**2, 256, 300)
        }
        assert (config.data.seed, config.loop.seed, config.data.workers) == (7, 7, 0)
        assert replace(config, data=default.data, loop=default.loop) == default
        assert config.loop.optim == default.loop.optim
        assert [p.weights for p in config.data.phases] == [p.weights for p in default.data.phases]
        weights = config.data.phases[0].weights
        drawn = [s for s in config.data.sources if s.kind == "synthetic" and s.name in weights]
        assert drawn
        assert {task for source in drawn for task in source.tasks} == {*TASKS}


def test_a_row_without_stage_proximal_has_all_steps():
    flags = Budget(steps=30, proximal_steps=10).flags(ROWS["direct"], "quantize", 0)
    config = config_of("quantize", flags)
    assert sum(phase.tokens for phase in config.data.phases) == 30 * 512


def test_phases_share_the_steps():
    flags = Budget(recipe="debug", steps=9, proximal_steps=4).flags(ROWS[DEFAULT], "quantize", 0)
    tokens = [flags[i + 1] for i, flag in enumerate(flags) if flag.endswith(".tokens")]
    assert tokens == [str(3 * 512), str(2 * 512)]
    with pytest.raises(InputError, match="1 steps of stage quantize are too few for 2 phases"):
        Budget(recipe="debug", steps=5, proximal_steps=4).flags(ROWS[DEFAULT], "quantize", 0)


def test_the_page_tells_of_this_budget(request):
    text = " ".join((request.config.rootpath / "docs" / "ABLATIONS.md").read_text().split())
    budget, config = Budget(), RECIPES["nano"].stages["quantize"]()
    assert f"The default is {budget.proximal_steps} steps of stage `proximal`" in text
    assert f"(bottleneck of {config.bottleneck} numbers, {config.limit} limit)" in text
    rest = budget.steps - budget.proximal_steps
    assert f"and {rest} of stage `quantize` (FSQ of 64,000 codes, four code heads" in text
    assert math.prod(config.levels) == 64_000
    assert config.shape.code_heads == 4
    assert f"of {budget.seq_len} tokens each" in text
    assert f"at most {budget.side} x {budget.side} pixels" in text


def test_wrong_budgets_are_refused():
    with pytest.raises(InputError, match="no recipe named 'nanoo'; there are: debug, nano"):
        Budget(recipe="nanoo")
    with pytest.raises(InputError, match="side is 96; letters are probed at 128 pixels"):
        Budget(side=96)
    with pytest.raises(InputError, match="of 5 steps 5 are stage proximal's"):
        Budget(steps=5, proximal_steps=5)


def test_settings_tell_starts_apart(tmp_path):
    start, vae = tmp_path / "start", tmp_path / "vae"
    for folder in (start / "tower", start / "mllm", vae):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"one")
    one = Budget().settings(start, vae)
    assert one == Budget().settings(start, vae)
    (start / "tower" / "model.safetensors").write_bytes(b"two")
    other = Budget().settings(start, vae)
    assert differences(one, other).startswith("start_digest ")
    (vae / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no \*\.safetensors here"):
        Budget().settings(start, vae)
