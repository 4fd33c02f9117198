"""benchmarks/claim: what its page makes of answers."""

import argparse
import re

import pytest
from claim import run

from viq.evaluation.samples import Samples
from viq.evaluation.understanding.results import blind_part, seen_part


@pytest.fixture
def args(tmp_path):
    return argparse.Namespace(work=tmp_path, seeds=2, count=40)


@pytest.fixture
def answer(args):
    """Writes the scores of one task: of each model and seed, as many right of 40."""

    def write(task, right, blind):
        with Samples.open(run.answers(args), {}) as samples:
            parts = {seen_part(model, task): count for model, count in right.items()}
            parts |= {blind_part(model, task): count for model, count in blind.items()}
            for part, count in parts.items():
                records = {
                    f"{k}": {"place": k, "id": f"{k}", "score": k < count} for k in range(40)
                }
                samples.add(part, records)

    return write


def cells(page, name):
    """Of a row of the table."""
    (line,) = re.findall(rf"^\| {name} \|(.*)\|$", page, re.MULTILINE)
    return [cell.strip() for cell in line.split("|")]


def test_differences_are_over_questions_of_all_seeds(args, answer):
    seen = {"continuous-0": 30, "continuous-1": 30, "quantized-0": 30, "quantized-1": 20}
    answer("words", seen, {"quantized-0": 2, "quantized-1": 4})
    same = dict.fromkeys(seen, 24)
    answer("charts", same, {"quantized-0": 0, "quantized-1": 0})
    page = run.page(args, ["--loop.steps", "9"])
    assert "run.py --loop.steps 9`, 2 seeds" in page
    continuous, codes, difference, seeds, blind, verdict = cells(page, "words")
    assert continuous.startswith("75.0 [")
    assert codes.startswith("62.5 [")
    value, low, high = map(float, re.findall(r"[-+]\d+\.\d", difference))
    assert value == -12.5
    assert low < -12.5 < high < 0
    assert seeds == "+0.0, -25.0"
    assert blind == "7.5"
    assert verdict == "not shown"
    # As many right answers, and the same ones; yet of 40 questions no more can be said than this.
    assert re.fullmatch(r"\*\*\+0\.0 \[-\d+\.\d, \+\d+\.\d\]\*\*", cells(page, "charts")[2])
    assert cells(page, "mean")[2].startswith("**-6.2")


def test_what_codes_may_lose_is_judged_by_the_interval():
    score = run.mean_score
    assert run.verdict(score([0.0, 0.1, 0.05] * 9), -1) == "holds"
    assert run.verdict(score([-9.0, 9.0, 0.0]), -1) == "not shown"


def test_tasks_without_answers_are_left_out(args, answer):
    answer("words", dict.fromkeys(("quantized-0", "quantized-1"), 1), {})
    answer("words", dict.fromkeys(("continuous-0", "continuous-1"), 1), {})
    page = run.page(args, [])
    assert "| charts |" not in page
    assert cells(page, "words")[4] == "–"
