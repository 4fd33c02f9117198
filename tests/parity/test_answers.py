"""Measures of answers agree with lmms-eval's own functions, run on generated replies.

``record_answers.py`` says how the record was made.
"""

import gzip
import json
from pathlib import Path

import pytest

from viq.metrics.choices import ai2d_choice, mmmu_choice, mmmu_open_score, mmstar_choice
from viq.metrics.text import (
    anls,
    exact_match,
    ocrbench_score,
    relaxed_accuracy,
    vqa_accuracy,
    vqa_normalized,
)

RECORD = Path(__file__).parent / "recorded" / "answers.json.gz"


@pytest.fixture(scope="module")
def record():
    return json.loads(gzip.decompress(RECORD.read_bytes()))


def differences(ours, pairs):
    """Where our result, of all but the last, is not that; and none where all results are one."""
    assert len({json.dumps(pair[-1]) for pair in pairs}) > 1
    return [(pair, found) for pair in pairs if (found := ours(*pair[:-1])) != pair[-1]]


def test_the_record_is_of_the_version_that_is_named(record):
    assert record.pop("versions") == {"lmms-eval": "0.7.3"}
    assert {name: len(pairs) for name, pairs in record.items()} == {
        "anls": 2000,
        "relaxed": 2000,
        "vqa": 2000,
        "ocrbench": 1000,
        "mmmu_choice": 1000,
        "mmmu_open": 1000,
        "mmstar": 1000,
        "ai2d": 1000,
    }


def test_anls(record):
    assert not differences(anls, record["anls"])
    scores = [score for *_, score in record["anls"]]
    assert 0.1 < sum(score == 0 for score in scores) / len(scores) < 0.9
    assert sum(0 < score < 1 for score in scores) > 300


def test_relaxed_accuracy(record):
    assert not differences(relaxed_accuracy, record["relaxed"])


def test_vqa_accuracy(record):
    pairs = [(reply, answers, score) for reply, answers, score, _ in record["vqa"]]
    assert not differences(vqa_accuracy, pairs)
    assert sum(0 < score < 1 for *_, score in pairs) > 300


def test_vqa_normalisation(record):
    assert not differences(vqa_normalized, [(reply, said) for reply, *_, said in record["vqa"]])


def test_ocrbench(record):
    def score(answer, answers, formula):
        return ocrbench_score(answer, answers, formula=formula)

    assert not differences(score, record["ocrbench"])


def test_choices_of_mmmu(record):
    assert not differences(mmmu_choice, record["mmmu_choice"])
    assert None in {choice for *_, choice in record["mmmu_choice"]}


def test_open_questions_of_mmmu(record):
    assert not differences(mmmu_open_score, record["mmmu_open"])


def test_choices_of_mmstar(record):
    assert not differences(mmstar_choice, record["mmstar"])


def test_choices_of_ai2d(record):
    assert not differences(ai2d_choice, [(reply, said) for reply, _, said, _ in record["ai2d"]])
    scores = [(said, letter, score) for _, letter, said, score in record["ai2d"]]
    assert not differences(exact_match, scores)
