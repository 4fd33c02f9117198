"""The Fréchet distance agrees with torch-fidelity's; ``record_frechet.py`` made the record."""

import json
import runpy
from pathlib import Path

import pytest
import torch

from viq.metrics.frechet import frechet_distance

HERE = Path(__file__).parent
CASES = json.loads((HERE / "recorded" / "frechet.json").read_text("utf-8"))["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["size"]))
def test_distance_of_random_features(case):
    make = runpy.run_path(str(HERE / "record_frechet.py"))["features"]
    sets = [torch.from_numpy(one) for one in make(case["seed"], *case["size"])]
    rows, others, width = case["size"]
    # Without full rank torch-fidelity's formula takes roots of rounding errors.
    tolerance = 1e-9 if min(rows, others) > width else 1e-4
    assert frechet_distance(*sets) == pytest.approx(case["distance"], rel=tolerance)
