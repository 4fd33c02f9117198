"""Scores: means, and intervals by the bootstrap."""

import math

import numpy as np
import pytest
from scipy import stats

from viq.evaluation.document import Score
from viq.evaluation.scores import SHARE, mean_over_tasks, mean_score, paired_difference

RNG = np.random.default_rng(7)
SAMPLES = {
    "normal": RNG.normal(25, 4, 300),
    "skewed": RNG.exponential(2, 120),
    "right or wrong": (RNG.random(200) < 0.3).astype(float),
    "few": RNG.random(9),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_interval_is_the_percentile_bootstrap_of_scipy(name):
    values = SAMPLES[name]
    found = mean_score(list(values))
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    width = expected.high - expected.low
    assert (found.value, found.count) == (pytest.approx(values.mean()), len(values))
    assert found.low == pytest.approx(expected.low, abs=0.06 * width)
    assert found.high == pytest.approx(expected.high, abs=0.06 * width)


def test_a_large_sample_has_the_interval_of_the_normal_distribution():
    values = SAMPLES["normal"]
    half = 1.96 * values.std() / math.sqrt(len(values))
    found = mean_score(values)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.03)


def test_nineteen_of_twenty_intervals_hold_the_truth():
    rng = np.random.default_rng(0)
    scores = [mean_score(rng.normal(3, 1, 60)) for _ in range(200)]
    held = sum(score.low <= 3 <= score.high for score in scores)
    assert 0.90 <= held / 200 <= 0.98  # the bootstrap's are a little narrow for few items


def test_two_runs_give_the_same_numbers():
    values = SAMPLES["skewed"]
    assert mean_score(values) == mean_score(list(values))
    assert paired_difference(values, values[::-1]) == paired_difference(values, values[::-1])


def test_scale_turns_shares_into_per_cent():
    values = SAMPLES["right or wrong"]
    one, hundred = mean_score(values), mean_score(values, scale=100)
    assert [hundred.value, hundred.low, hundred.high] == pytest.approx(
        [100 * one.value, 100 * one.low, 100 * one.high]
    )
    assert paired_difference([1, 0], [0, 0], scale=100).value == 50


def test_a_paired_difference_is_far_surer_than_two_means():
    rng = np.random.default_rng(0)
    reference = rng.normal(50, 20, 200)
    values = reference + rng.normal(1, 1, 200)
    found = paired_difference(values, reference)
    assert found == mean_score(values - reference)
    assert 0.7 < found.low < found.value < found.high < 1.3
    assert mean_score(values).high - mean_score(values).low > 10 * (found.high - found.low)


def test_no_difference_is_zero_with_certainty():
    found = paired_difference(SAMPLES["normal"], SAMPLES["normal"])
    assert (found.value, found.low, found.high, found.count) == (0, 0, 0, 300)


def test_the_mean_over_tasks_weighs_tasks_and_not_items():
    found = mean_over_tasks([mean_score([1.0] * 10), mean_score([0.0] * 990)])
    assert (found.value, found.low, found.high, found.count) == (0.5, 0.5, 0.5, 1000)


def test_the_interval_over_tasks_is_that_of_independent_means():
    tasks = [SAMPLES["normal"], SAMPLES["normal"][::-1] + 3, SAMPLES["skewed"]]
    found = mean_over_tasks([mean_score(task) for task in tasks])
    variance = sum(np.var(task) / len(task) for task in tasks) / len(tasks) ** 2
    assert found.value == pytest.approx(np.mean([task.mean() for task in tasks]))
    assert found.high - found.low == pytest.approx(2 * 1.96 * math.sqrt(variance), rel=0.03)


def test_without_the_interval_of_a_task_there_is_none_over_tasks():
    found = mean_over_tasks([Score(value=1, low=0, high=2, count=5), Score(value=3, count=1)])
    assert found == Score(value=2, low=None, high=None, count=6)


def test_one_item_has_no_interval():
    for found in (mean_score([3.5]), paired_difference([4.5], [1]), mean_score([1], span=SHARE)):
        assert (found.value, found.low, found.high, found.count) in (
            (3.5, None, None, 1),
            (1, None, None, 1),
        )


@pytest.mark.parametrize("count", [2, 10, 200])
def test_answers_that_are_all_right_or_all_wrong_have_wilsons_interval(count):
    for right in (0, count):
        expected = stats.binomtest(right, count).proportion_ci(0.95, "wilson")
        found = mean_score([float(right > 0)] * count, span=SHARE)
        assert found.value == float(right > 0)
        assert [found.low, found.high] == pytest.approx([expected.low, expected.high], abs=1e-6)
        percent = mean_score([float(right > 0)] * count, span=SHARE, scale=100)
        assert percent.low == pytest.approx(100 * expected.low, abs=1e-4)
    assert mean_score([1.0] * count).low == 1  # of what has no known span nothing can be said


def test_shares_that_are_never_different_may_be_so_elsewhere():
    missed = stats.binomtest(0, 50).proportion_ci(0.95, "wilson").high
    found = paired_difference([0.5, 1] * 25, [0.5, 1] * 25, span=SHARE)
    assert (found.value, found.count) == (0, 50)
    assert [found.low, found.high] == pytest.approx([-missed, missed], abs=1e-6)
    found = paired_difference([1] * 50, [0] * 50, span=SHARE)
    assert [found.low, found.high] == pytest.approx([1 - 2 * missed, 1], abs=1e-6)


def test_infinite_values_give_infinite_ends_and_never_none():
    # The PSNR of a picture that lost nothing.
    found = mean_score([30.0, math.inf, 32.0])
    assert (found.value, found.low, found.high) == (math.inf, 30, math.inf)
    found = mean_score([math.inf] * 3)
    assert (found.value, found.low, found.high) == (math.inf, math.inf, math.inf)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda: mean_score([]), "there are no values."),
        (lambda: paired_difference([], []), "there are no values."),
        (lambda: paired_difference([1, 2], [1]), "2 values against 1; pairs are needed."),
        (lambda: mean_over_tasks([]), "there are no tasks."),
    ],
)
def test_nothing_has_no_mean(score, message):
    with pytest.raises(ValueError, match=message):
        score()
