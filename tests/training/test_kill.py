"""A training process killed outright, and started again."""

import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

VAE = "vae/diffusion_pytorch_model.safetensors"


def command(corpus, out):
    options = ["--loop.steps", "12", "--loop.save-minutes", "0", "--loop.eval-steps", "100"]
    arguments = ["train", "vae", "--recipe", "debug", "--data", str(corpus), "--out", str(out)]
    code = "import sys; from viq.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", code, *arguments, *options]


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_weights(corpus, tmp_path):
    subprocess.run(command(corpus, tmp_path / "whole"), check=True, capture_output=True)

    log = tmp_path / "cut" / "log.jsonl"
    process = subprocess.Popen(
        command(corpus, tmp_path / "cut"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 100
    while not log.exists() or log.read_text().count("\n") < 3:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run did not start"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "cut" / VAE).exists()

    resumed = subprocess.run(
        command(corpus, tmp_path / "cut"), check=True, capture_output=True, text=True
    )
    assert "12/12" in resumed.stderr
    expected, found = load_file(tmp_path / "whole" / VAE), load_file(tmp_path / "cut" / VAE)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
