"""The loop, on a stage and data small enough for a unit test."""

import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from viq.errors import InputError
from viq.hardware import hardware
from viq.training.guard import Guard, StoppedError, TrainingError
from viq.training.loop import LoopConfig, count_steps, train
from viq.training.optim import OptimConfig


class CutError(Exception):
    """Stands for a crash."""


@pytest.fixture
def run(toys, tmp_path):
    """Trains the toy in ``tmp_path / name``; returns the stage."""

    def start(name="run", *, hook=None, resume=False, stage=None, data=None, about=None, **changes):
        stage = stage or toys.new_stage(dropout=0.1)
        config = toys.loop_config(**changes)
        lanes = config.accumulate
        data = data or toys.ToyData(lanes_total=lanes, lanes=range(lanes), hook=hook)
        train(stage, data, config, tmp_path / name, resume=resume, run=about)
        assert data.is_closed
        return stage

    return start


def crash_at(step):
    def hook(now, batches):
        if now == step:
            raise CutError
        return batches

    return hook


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def steps_of(folder):
    return sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))


def without_clock(line):
    return {
        k: v
        for k, v in line.items()
        if not k.endswith("_per_s") and k not in ("time", "wait", "memory_gib")
    }


# Resuming


@pytest.mark.parametrize(("cut", "accumulate"), [(3, 1), (4, 2), (8, 1)])  # saved every 2 steps
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(run, tmp_path, cut, accumulate):
    settings = {"accumulate": accumulate, "ema": 0.9, "log_steps": 3}
    whole = run("whole", **settings)
    with pytest.raises(CutError):
        run("cut", hook=crash_at(cut), **settings)
    resumed = run("cut", resume=True, **settings)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    exported = [load_file(tmp_path / name / "toy.safetensors") for name in ("whole", "cut")]
    assert all(torch.equal(tensor, exported[1][name]) for name, tensor in exported[0].items())
    logs = [[without_clock(line) for line in lines(tmp_path / n)] for n in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_resuming_needs_to_be_asked_for(run):
    run(steps=2)
    with pytest.raises(InputError, match="there is a run here; --resume goes on, or give another"):
        run(steps=4)
    run(steps=4, resume=True)


def test_resuming_without_a_checkpoint_begins_anew(run, tmp_path, caplog):
    with pytest.raises(CutError):
        run(hook=crash_at(2))  # the first checkpoint would have come after it
    run(resume=True)
    assert "no checkpoint to go on from, so the run begins anew" in caplog.text
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]


def test_a_finished_run_that_is_resumed_exports_again(run, tmp_path):
    run()
    (tmp_path / "run" / "toy.safetensors").unlink()
    run(resume=True)
    assert (tmp_path / "run" / "toy.safetensors").exists()


def test_a_run_can_be_made_longer_but_not_shorter(run, tmp_path):
    run(steps=4)
    run(steps=6, resume=True)
    assert steps_of(tmp_path / "run")[-1] == 6
    with pytest.raises(InputError, match="is at step 6, past the 5 asked for"):
        run(steps=5, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 2}, "the run was made with lanes 1, but this is 2"),
        ({"ema": 0.9}, "the run was made with ema False, but this is True"),
    ],
)
def test_what_must_not_change_is_named_with_both_values(run, changes, message):
    run(steps=2)
    with pytest.raises(InputError, match=message):
        run(steps=4, resume=True, **changes)


def test_other_data_does_not_go_on_but_other_workers_do(run):
    def asked(seed, workers):
        data = {"seed": seed, "workers": workers, "phases": [{"area": 64, "tokens": 10 * seed}]}
        return {"config": {"data": data}}

    run(steps=2, about=asked(0, 0))
    with pytest.raises(InputError, match=r"made with data\.seed 0, but this is 1"):
        run(steps=4, resume=True, about=asked(1, 0))
    run(steps=4, resume=True, about=asked(0, 2))


def test_another_stage_does_not_go_on(run, toys):
    run(steps=2)
    other = type("OtherStage", (toys.ToyStage,), {})()
    with pytest.raises(InputError, match="made with stage 'ToyStage', but this is 'OtherStage'"):
        run(steps=4, resume=True, stage=other)


# What is trained, and by how much


def test_losses_average_over_the_whole_step_however_it_is_cut(run, toys, tmp_path):
    """One batch of everything, and several of unequal size, make the same step."""

    def together(step, batches):
        tokens = torch.cat([batch.tokens for batch in batches])
        return [toys.ToyBatch(tokens=tokens, images=torch.cat([b.images for b in batches]))]

    several = run("several", accumulate=3, stage=toys.new_stage())
    data = toys.ToyData(lanes_total=3, lanes=range(3), hook=together)
    one = run("one", data=data, stage=toys.new_stage())
    for name, tensor in several.state_dict().items():
        torch.testing.assert_close(tensor, one.state_dict()[name], rtol=0, atol=1e-6)
    for a, b in zip(lines(tmp_path / "several"), lines(tmp_path / "one"), strict=True):
        assert a.get("image") == pytest.approx(b.get("image"), abs=1e-6)
        assert a.get("loss") == pytest.approx(b.get("loss"), abs=1e-6)


def test_the_first_line_is_the_loss_of_the_untrained_weights(run, toys, tmp_path):
    stage, batch = toys.new_stage(), toys.ToyData().batch(0, 0)
    expected = stage(batch).sums["text"].item() / len(batch.tokens)
    run(stage=toys.new_stage(), log_steps=100)
    first = lines(tmp_path / "run")[0]
    assert first["step"] == 1
    assert first["text"] == pytest.approx(expected)


def test_a_loss_is_weighed_and_logged_raw(run, tmp_path):
    run()
    line = next(line for line in lines(tmp_path / "run") if "image" in line)
    assert line["loss"] == pytest.approx(line["text"] + 0.5 * line["image"])
    assert line["image_psnr"] == pytest.approx(
        -10 * torch.tensor(line["image"] / 4).log10().item(), abs=1e-4
    )


def test_every_line_has_rates_norm_waiting_errors_and_memory(run, tmp_path):
    run(optim=OptimConfig(lr=0.01, lr_scale={"vision": 0.5}, warmup=0.0, schedule="constant"))
    line = lines(tmp_path / "run")[0]
    assert line["lr/text"] == 0.01
    assert line["lr/vision"] == 0.005
    assert line["errors"] == 1  # as the toy data says
    assert line["noise"] == 1.0  # of observe
    assert 0 < line["wait"] < 1
    names = {"grad_norm", "tokens_per_s", "images_per_s", "memory_gib", "phase", "time"}
    assert names <= line.keys()


def test_frozen_parameters_stay_and_trained_ones_move(run, toys):
    before = toys.new_stage()
    after = run(stage=toys.new_stage())
    assert torch.equal(before.base.weight, after.base.weight)
    assert torch.equal(before.teacher().weight, after.teacher().weight)
    assert not torch.equal(before.vision.weight, after.vision.weight)
    assert not torch.equal(before.text[0].weight, after.text[0].weight)


def test_how_often_one_looks_does_not_change_what_is_trained(run):
    often = run("often", log_steps=1, eval_steps=1, eval_first=True)
    seldom = run("seldom", log_steps=100, eval_steps=100)
    assert torch.equal(often.text[0].weight, seldom.text[0].weight)


def test_bfloat16_trains_float32_weights(run):
    stage = run(dtype="bfloat16")
    exact = run("exact")
    assert stage.vision.weight.dtype == torch.float32
    assert not torch.equal(stage.vision.weight, exact.vision.weight)
    torch.testing.assert_close(stage.vision.weight, exact.vision.weight, rtol=0, atol=0.05)


def test_the_gradient_is_clipped(run, toys, tmp_path):
    still = run(optim=OptimConfig(lr=0.01, clip_norm=1e-12, eps=1e-3), stage=toys.new_stage())
    before = toys.new_stage()
    torch.testing.assert_close(still.vision.weight, before.vision.weight, rtol=0, atol=3e-3)
    assert lines(tmp_path / "run")[0]["grad_norm"] > 0.1  # as it was before


def test_the_average_is_what_is_evaluated_and_exported(run, toys, tmp_path):
    stage = run(ema=0.9, stage=toys.new_stage())
    exported = load_file(tmp_path / "run" / "toy.safetensors")
    assert not torch.equal(exported["vision.weight"], stage.vision.weight)
    last = lines(tmp_path / "run")[-1]
    assert last["eval_norm"] == pytest.approx(exported["vision.weight"].norm().item())


def test_evaluations_come_when_they_should(run, tmp_path):
    run(steps=6, eval_steps=4, eval_first=True)
    found = [line["step"] for line in lines(tmp_path / "run") if "eval_norm" in line]
    assert found == [0, 4, 6]
    names = sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())
    assert names[0] == "step-0000000-weights.png"
    assert len(names) == 6


def test_checkpointing_is_handed_to_the_stage_or_refused(run, toys):
    stage, calls = toys.new_stage(), []
    with pytest.raises(InputError, match="ToyStage cannot compute its activations again"):
        run(checkpointing=True, stage=stage)
    stage.gradient_checkpointing = lambda: calls.append("on")
    run("other", checkpointing=True, stage=stage)
    assert calls == ["on"]


def test_the_run_says_what_was_asked_for(run, tmp_path):
    run(steps=2, about={"stage": "toy", "inputs": {"data": "here"}})
    document = json.loads((tmp_path / "run" / "run.json").read_text())
    assert document["stage"] == "toy"
    assert document["inputs"] == {"data": "here"}
    assert document["processes"] == 1
    assert document["hardware"] == hardware("cpu")
    assert document["versions"].keys() == {"viq", "torch", "accelerate", "python"}


def test_checkpoints_by_time(run, tmp_path):
    run(save_steps=None, save_minutes=0.0, keep=10)
    assert steps_of(tmp_path / "run") == list(range(1, 9))


def test_stages_of_other_dtypes_train_one_after_the_other(run):
    run("a", steps=1, dtype="float32")
    run("b", steps=1, dtype="bfloat16")
    run("c", steps=1, dtype="float32")


# How many steps


def test_steps_are_the_datas_where_none_are_asked_for(toys):
    assert count_steps(toys.ToyData(steps=5), LoopConfig()) == 5
    assert count_steps(toys.ToyData(steps=5), LoopConfig(steps=3)) == 3
    assert count_steps(toys.ToyData(), LoopConfig(steps=3)) == 3


def test_a_run_without_an_end_and_one_without_data_are_errors(toys):
    with pytest.raises(InputError, match="the data has no end, so the run needs a number of steps"):
        count_steps(toys.ToyData(), LoopConfig())
    with pytest.raises(InputError, match="6 steps are asked for, but the data has 5"):
        count_steps(toys.ToyData(steps=5), LoopConfig(steps=6))


def test_data_that_ends_early_is_an_error(run, toys):
    with pytest.raises(InputError, match="the data ended after 3 of 8 steps"):
        run(data=toys.ToyData(ends_after=3))


# Stages and data that contradict themselves


def test_another_number_of_batches_is_an_error(run, toys):
    data = toys.ToyData(lanes_total=2, lanes=range(2))
    with pytest.raises(ValueError, match="the data gives 2 batches a step, but accumulate is 1"):
        run(data=data)


def test_a_loss_that_is_not_counted_is_an_error(run, toys):
    stage = toys.new_stage()
    stage.weights = {"text": 1.0, "txt": 1.0}
    with pytest.raises(ValueError, match="ToyStage does not count 'txt' in every batch"):
        run(stage=stage)
    stage = toys.new_stage()
    stage.counts = lambda batch: {"text": float(len(batch.tokens)), "image": 0.0}
    with pytest.raises(ValueError, match="gives loss 'image_psnr', but does not count it"):
        run("other", stage=stage)


def test_a_step_without_any_loss_changes_nothing_and_passes(run, toys):
    stage = toys.new_stage()
    stage.counts = lambda batch: {"text": 0.0, "image": 0.0, "image_psnr": 0.0}
    optim = OptimConfig(weight_decay=0.0)
    after = run(stage=stage, optim=optim)
    assert torch.equal(after.vision.weight, toys.new_stage().vision.weight)


# The end before the end


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_saved(run, tmp_path, value):
    def hook(step, batches):
        if step == 5:
            batches[0].tokens.fill_(value)
        return batches

    with pytest.raises(TrainingError) as caught:
        run(hook=hook)
    assert str(caught.value) == (
        f"the loss 'text' is nan at step 5; the last good checkpoint is"
        f" {tmp_path / 'run' / 'checkpoints' / 'step-0000004'}"
    )
    weights = load_file(tmp_path / "run" / "checkpoints" / "step-0000004" / "weights.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert steps_of(tmp_path / "run") == [2, 4]


def test_a_gradient_that_is_not_finite_stops_the_run(run, toys):
    stage = toys.new_stage()
    stage.vision.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match=r"the gradient is (nan|inf) at step 1; none was saved"):
        run(stage=stage)
    assert stage.vision.weight.isfinite().all()


def test_a_loss_that_runs_away_stops_the_run_before_it_is_saved(run, tmp_path):
    def hook(step, batches):
        if step > 5:
            batches[0].tokens.mul_(1000)
        return batches

    with pytest.raises(TrainingError, match=r"the loss diverges: at step 8 .* last good") as caught:
        run(hook=hook, diverge_steps=3, steps=20, save_steps=1, keep=20)
    assert str(caught.value).endswith("step-0000005")
    assert steps_of(tmp_path / "run") == [1, 2, 3, 4, 5]


def test_one_odd_loss_is_let_pass(run, tmp_path):
    def hook(step, batches):
        if step == 5:
            batches[0].tokens.mul_(1000)
        return batches

    run(hook=hook, diverge_steps=3, save_steps=1, keep=20)
    assert 5 not in steps_of(tmp_path / "run")  # it may have been the beginning of the end
    assert 8 in steps_of(tmp_path / "run")


def test_small_losses_may_do_as_they_like():
    guard = Guard(ratio=10.0, patience=1)
    for step in range(50):
        guard.check(step, {}, 1e-6, 1.0)
    guard.check(50, {}, 5e-3, 1.0)
    with pytest.raises(TrainingError):
        guard.check(51, {}, 0.5, 1.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_wish_to_stop_finishes_the_step_saves_and_says_how_to_go_on(run, tmp_path, number):
    def hook(step, batches):
        if step == 5:
            os.kill(os.getpid(), number)
        return batches

    before = signal.getsignal(number)
    whole = run("whole")
    with pytest.raises(StoppedError) as caught:
        run(hook=hook)
    folder = tmp_path / "run"
    assert str(caught.value) == f"{folder}: stopped at step 5; --resume goes on from step-0000005"
    assert signal.getsignal(number) == before
    resumed = run(resume=True)
    assert torch.equal(resumed.text[0].weight, whole.text[0].weight)


def test_a_second_ctrl_c_ends_at_once(run):
    def hook(step, batches):
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return batches

    with pytest.raises(KeyboardInterrupt):
        run(hook=hook)


def test_progress_goes_to_stderr(run, capsys):
    run()
    captured = capsys.readouterr()
    assert "8/8" in captured.err
    assert "image=" in captured.err
    assert captured.out == ""
