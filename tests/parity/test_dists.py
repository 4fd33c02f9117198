"""DISTS agrees with its own package; ``record_dists.py`` made the record."""

import json
import runpy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from viq.external.perceptual import load_dists

HERE = Path(__file__).parent
CASES = json.loads((HERE / "recorded" / "dists.json").read_text("utf-8"))["cases"]


@pytest.fixture(scope="module")
def recorder():
    return runpy.run_path(str(HERE / "record_dists.py"))


@pytest.fixture(scope="module")
def network(recorder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dists")
    save_file(recorder["backbone"](), folder / "vgg16.safetensors")
    torch.save(recorder["weights"](), folder / "weights.pt")
    return load_dists(str(folder))


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["size"]))
def test_distances_of_random_pictures(network, recorder, case):
    first, second = recorder["pictures"](case["seed"], *case["size"])
    found = network(first * 2 - 1, second * 2 - 1)
    assert found.tolist() == pytest.approx(case["distances"], abs=1e-5)
