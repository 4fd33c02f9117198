"""benchmarks/claim: what its page makes of answers."""

import argparse
import json
import re

import pytest
from claim import run

from viq.errors import InputError
from viq.evaluation.samples import Samples
from viq.evaluation.understanding.results import blind_part, seen_part

LOSSES = {"continuous-0": 1.5, "continuous-1": 1.75, "quantized-0": 1.625, "quantized-1": 1.625}


@pytest.fixture
def args(tmp_path):
    for model, loss in LOSSES.items():  # as trainings leave them
        (tmp_path / model).mkdir()
        lines = ({"step": 8, "loss": 3.0}, {"step": 4, "eval_text": 9.0}, {"eval_text": loss})
        (tmp_path / model / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return argparse.Namespace(work=tmp_path, lm="smollm2", seeds=2, count=40)


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
    line = re.findall(rf"^\| {name} \|(.*)\|$", page, re.MULTILINE)[0]
    return [cell.strip() for cell in line.split("|")]


def test_differences_are_over_questions_of_all_seeds(args, answer):
    seen = {"continuous-0": 30, "continuous-1": 30, "quantized-0": 30, "quantized-1": 20}
    answer("words", seen, {"quantized-0": 2, "quantized-1": 4})
    same = dict.fromkeys(seen, 24)
    answer("charts", same, {"quantized-0": 0, "quantized-1": 0})
    page = run.page(args, ["--loop.steps", "9"])
    assert "--lm smollm2 --seeds 2 --count 40 --loop.steps 9`" in page
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


def test_held_out_losses_are_those_of_the_last_evaluation(args, answer):
    answer("words", dict.fromkeys(LOSSES, 1), {})
    table = run.page(args, []).split("nats a token")[1]
    assert cells(table, "0") == ["1.500", "1.625", "+0.125"]
    assert cells(table, "mean") == ["1.625", "1.625", "**+0.000**"]


def test_a_log_without_an_evaluation_is_named(args, answer, tmp_path):
    answer("words", dict.fromkeys(LOSSES, 1), {})
    log = tmp_path / "quantized-1" / "log.jsonl"
    log.write_text('{"step": 1, "loss": 2.0}')
    with pytest.raises(InputError, match="quantized-1"):
        run.page(args, [])
