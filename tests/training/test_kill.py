"""A training process killed outright at any moment, and started again."""

import random
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

STEPS = 40

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def whole(toy_process, tmp_path_factory):
    """The folder of a run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    process = toy_process(folder, "--steps", STEPS, "--dropout", "0.1")
    message = process.communicate(timeout=100)[1]
    assert process.returncode == 0, message
    return folder


def wait_for_lines(process, log, count):
    deadline = time.monotonic() + 100
    while not log.exists() or log.read_text().count("\n") < count:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run did not start"
        time.sleep(0.005)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_again_and_again_it_ends_with_the_same_weights(
    toy_process, whole, tmp_path, seed
):
    rng = random.Random(seed)
    log, options = tmp_path / "log.jsonl", ("--steps", STEPS, "--dropout", "0.1")
    kills = sorted(rng.sample(range(1, STEPS - 4), 3))
    for kill in kills:
        process = toy_process(tmp_path, *options, "--pause", "0.05", "--resume")
        wait_for_lines(process, log, kill)
        time.sleep(rng.random() * 0.1)  # in the midst of whatever it does
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "toy.safetensors").exists()
    process = toy_process(tmp_path, *options, "--resume")
    message = process.communicate(timeout=100)[1]
    assert process.returncode == 0, message

    expected, found = (load_file(folder / "toy.safetensors") for folder in (whole, tmp_path))
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    newest = f"checkpoints/step-{STEPS:07d}/weights.safetensors"
    expected, found = (load_file(folder / newest) for folder in (whole, tmp_path))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert log.read_text().count('"loss"') == STEPS  # no step twice, none missing


def test_terminated_it_saves_and_tells_how_to_go_on(toy_process, whole, tmp_path):
    options = ("--steps", STEPS, "--dropout", "0.1")
    process = toy_process(tmp_path, *options, "--terminate-at", "7")
    message = process.communicate(timeout=100)[1]
    assert process.returncode == 1
    assert f"{tmp_path}: stopped at step 7; --resume goes on from step-0000007" in message
    process = toy_process(tmp_path, *options, "--resume")
    process.communicate(timeout=100)
    assert process.returncode == 0
    expected, found = (load_file(folder / "toy.safetensors") for folder in (whole, tmp_path))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
