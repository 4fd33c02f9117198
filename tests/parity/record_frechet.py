"""Records torch-fidelity's Fréchet distances of random features, for ``test_frechet.py``.

    python tests/parity/record_frechet.py

needs torch-fidelity 0.4.0, which needs torchvision (an environment of its own). Features come from
NumPy's RandomState, whose numbers never change, so only the distances are kept.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

PATH = Path(__file__).parent / "recorded" / "frechet.json"
# Rows and columns; those with fewer rows than columns have covariances without full rank.
SIZES = [(400, 300, 64), (1000, 1000, 128), (50, 80, 64), (40, 30, 96)]


def features(seed, rows, others, width):
    """Two sets, (rows, width) and (others, width), correlated and apart, in float64."""
    random = np.random.RandomState(seed)
    mixing = random.standard_normal((2, width, width)) / width**0.5
    first = random.standard_normal((rows, width)) @ mixing[0] + 0.5
    second = random.standard_normal((others, width)) @ (mixing[0] + 0.3 * mixing[1])
    return first, second


def main():
    from torch_fidelity.metric_fid import (
        KEY_METRIC_FID,
        fid_features_to_statistics,
        fid_statistics_to_metric,
    )

    cases = []
    for seed, size in enumerate(SIZES):
        sets = [fid_features_to_statistics(torch.from_numpy(one)) for one in features(seed, *size)]
        distance = fid_statistics_to_metric(*sets, verbose=False)[KEY_METRIC_FID]
        cases.append({"seed": seed, "size": size, "distance": distance})
    names = ("torch-fidelity", "numpy", "torch")
    found = {"versions": {name: version(name) for name in names}, "cases": cases}
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
