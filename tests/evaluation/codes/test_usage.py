import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from viq.evaluation.codes.usage import (
    Usage,
    curve_figure,
    dependence_figure,
    digits_of,
    entropy_bits,
    mutual_information,
    usage_tables,
)
from viq.metrics.rate import code_usage, entropy
from viq.model.quantizers import FSQ

LEVELS, HEADS, GRID = (8, 5, 3), 2, (12, 10)


def draw(seed, grid=GRID):
    """Codes that do not use all of their codebook."""
    rng = np.random.default_rng(seed)
    return (120 * rng.random((grid[0] * grid[1], HEADS)) ** 3).astype(np.int64)


def counted(*pictures):
    usage = Usage(LEVELS, HEADS)
    for values in pictures:
        usage.add(values, GRID)
    return usage


@pytest.mark.parametrize("levels", [(2,), (3, 5), (8, 8, 4, 3, 3)])
def test_digits_are_those_of_fsq_for_the_whole_codebook(levels):
    codes = torch.arange(FSQ(levels).codebook_size)
    digits = digits_of(codes.numpy(), levels)
    middle = np.array(levels) // 2
    assert np.allclose((digits - middle) / middle, FSQ(levels).values(codes).numpy())


def test_usage_and_entropy_are_those_of_all_codes_at_once():
    pictures = [draw(seed) for seed in range(3)]
    usage, values = counted(*pictures), np.concatenate(pictures)
    codebook, digits, _ = usage_tables({"m": usage})
    heads, together = codebook.rows[:HEADS], codebook.rows[HEADS]
    assert [row[4] / 100 for row in heads] == pytest.approx(list(code_usage(values, 120)))
    assert [row[6] for row in heads] == pytest.approx(list(entropy(values, 120)))
    assert together[:4] == ("m", "all together", values.size, len(np.unique(values)))
    assert together[6] == pytest.approx(entropy(values.reshape(-1, 1), 120)[0])
    assert usage.pictures == 3
    assert [row[3] for row in digits.rows] == [*LEVELS] * (HEADS + 1)
    second = digits_of(values[:, 1], LEVELS)[:, 0]
    row = next(row for row in digits.rows if row[1:3] == ("2", 1))
    assert row[5] == pytest.approx(entropy_bits(np.bincount(second)))
    assert row[7] == pytest.approx(100 * np.bincount(second).max() / len(second))


def test_few_codes_can_use_only_so_much():
    codebook, *_ = usage_tables({"m": counted(draw(0))})
    assert codebook.rows[0][5] == 100  # 120 codes of a codebook of 120
    usage = Usage((8, 8, 8), 1)
    usage.add(np.arange(16)[:, None], (4, 4))
    row = usage_tables({"m": usage})[0].rows[0]
    assert row[4] == row[5] == pytest.approx(100 * 16 / 512)
    assert row[6] == pytest.approx(4)


def test_the_curve_counts_codes_that_are_new():
    pictures = [draw(seed) for seed in range(3)]
    values = np.concatenate(pictures)
    curve = counted(*pictures).curve(1)
    assert curve[0] == (1, 1)
    assert curve[-1] == (len(values), len(np.unique(values[:, 1])))
    assert all(different == len(np.unique(values[:seen, 1])) for seen, different in curve)


def test_mutual_information_is_that_of_scikit_learn():
    values = np.concatenate([draw(seed) for seed in range(3)])
    usage = counted(*[draw(seed) for seed in range(3)])
    digits = digits_of(values, LEVELS)
    for one, other in [((0, 0), (0, 2)), ((0, 1), (1, 1)), ((1, 2), (0, 0))]:
        bits = mutual_info_score(digits[:, *one], digits[:, *other]) / np.log(2)
        assert usage.information(one, other) == pytest.approx(bits)
        assert bits > 0


def test_neighbours_are_patches_side_by_side_in_one_picture():
    pictures = [draw(seed) for seed in range(2)]
    grids = [digits_of(p.reshape(*GRID, HEADS), LEVELS)[:, :, 1, 0] for p in pictures]
    left = np.concatenate([grid[:, :-1].ravel() for grid in grids])
    right = np.concatenate([grid[:, 1:].ravel() for grid in grids])
    found = counted(*pictures).neighbour_information(1, 0)
    assert found == pytest.approx(mutual_info_score(left, right) / np.log(2))


def test_what_is_the_same_says_all_and_what_is_independent_nothing():
    assert mutual_information(np.eye(4, dtype=np.int64)) == pytest.approx(2)
    assert mutual_information(np.ones((4, 4), np.int64)) == 0
    assert mutual_information(np.zeros((4, 4), np.int64)) == 0


def test_a_codebook_without_digits_has_usage_alone():
    usage = Usage((600,), HEADS)
    usage.add(draw(0), GRID)
    codebook, digits, dependence = usage_tables({"m": usage})
    assert codebook.rows[0][3] == len(np.unique(draw(0)[:, 0]))
    assert (digits.rows, dependence.rows) == ((), ())


def test_plots_are_drawn_of_several_models(tmp_path):
    other = Usage((600,), HEADS)
    other.add(draw(1), GRID)
    usages = {"a": counted(draw(0)), "b": other}
    figures = [
        curve_figure(usages, tmp_path),
        dependence_figure("a", usages["a"], tmp_path / "digits.png"),
    ]
    for figure in figures:
        assert (tmp_path / figure.file).read_bytes().startswith(b"\x89PNG")
    assert "a, b" in figures[0].caption
