"""Real stages in processes of their own: several at once, killed, stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from viq.cli.main import main

COMMAND = [sys.executable, "-m", "viq.cli.main", "train"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The runs that stages quantize and align start from."""
    folder = tmp_path_factory.mktemp("runs")
    for stage, *inputs in (
        ("vae",),
        ("contrast",),
        ("align", "--start", "contrast"),
        ("proximal", "--start", "align", "--vae", "vae"),
    ):
        inputs = [str(folder / word) if not word.startswith("--") else word for word in inputs]
        assert (
            main(["train", stage, "--recipe", "debug", "--out", str(folder / stage), *inputs]) == 0
        )
    return folder


def environment(rank=0, processes=1, port=0):
    settings = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    if processes > 1:
        settings |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        settings |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        settings |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    return {**os.environ, **settings}


def figures(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "grad_norm" in line]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_train_as_one_with_twice_the_micro_batches(runs, tmp_path):
    shared = [*COMMAND, "align", "--recipe", "debug", "--start", str(runs / "contrast")]
    shared += ["--data.workers", "1"]
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    processes = [
        subprocess.Popen([*shared, "--out", str(tmp_path / "two")], env=environment(rank, 2, port))
        for rank in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    alone = [*shared, "--out", str(tmp_path / "one"), "--loop.accumulate", "2"]
    subprocess.run(alone, env=environment(), check=True)
    two, one = figures(tmp_path / "two"), figures(tmp_path / "one")
    assert len(two) == len(one) == 2  # half as many steps as one process with one micro-batch
    for a, b in zip(two, one, strict=True):
        for name in ("loss", "text", "distil", "grad_norm"):
            assert a[name] == pytest.approx(b[name], rel=1e-5), name


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_quantize_with_workers_ends_with_the_same_weights(runs, tmp_path):
    budget = ["--data.phases.0.tokens", "4096", "--data.phases.1.tokens", "4096"]
    shared = [*COMMAND, "quantize", "--recipe", "debug", "--start", str(runs / "proximal")]
    shared += [*budget, "--data.workers", "2", "--loop.save-steps", "1", "--resume"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run([*shared, "--out", str(whole)], env=environment(), check=True)
    kills = 0
    for steps in (3, 9):  # in each phase once
        process = subprocess.Popen([*shared, "--out", str(cut)], env=environment())
        while process.poll() is None and len(list(cut.glob("checkpoints/step-*"))) == 0:
            time.sleep(0.01)
        while process.poll() is None and newest(cut) < steps:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills == 2
    subprocess.run([*shared, "--out", str(cut)], env=environment(), check=True)
    name = "checkpoints/step-0000016/weights.safetensors"
    expected, found = load_file(whole / name), load_file(cut / name)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())
    assert [line["loss"] for line in figures(whole)] == [line["loss"] for line in figures(cut)]


def newest(run):
    steps = [int(path.name[5:]) for path in run.glob("checkpoints/step-*")]
    return max(steps, default=0)
