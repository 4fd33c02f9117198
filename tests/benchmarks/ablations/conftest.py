"""The ablations' modules import each other by their names."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[3] / "benchmarks" / "ablations"))

import measures
import results
import rows

SETTINGS = {"recipe": "nano", "steps": 510, "proximal_steps": 170, "side": 160, "seq_len": 512}


@pytest.fixture
def result():
    """Makes a run's result: all scores in percent are ``score``, losses and PSNR follow it."""

    def make(row, seed, score, *, psnr=20.0, sides=(160,), settings=SETTINGS, unseen=0):
        at = {
            "text": dict.fromkeys((*measures.DRAWN, "captions"), 4 - score / 100),
            "psnr_all": psnr,
            "entropy": 10.0,
        }
        return {
            "row": row,
            "seed": seed,
            "changed": rows.ROWS[row].changed,
            "settings": dict(settings),
            "commit": "abc",
            "date": "2026-11-22",
            "hardware": "a machine",
            "versions": {"torch": "2.13"},
            "cpu_seconds": {"quantize": 400.0, "figures": 80.0},
            "unseen": unseen,
            "figures": {
                "sides": {str(side): at for side in sides},
                "letters": score,
            },
        }

    return make


@pytest.fixture
def folder(tmp_path, result):
    """A folder of results that begins with three seeds of the default."""
    folder = tmp_path / "results"
    folder.mkdir()
    for seed in range(3):
        results.write(folder, result("default", seed, 50.0 + seed, sides=(96, 160, 320)))
    return folder
