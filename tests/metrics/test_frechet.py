"""The Fréchet distance against scipy's matrix square root, and against known distances."""

import numpy as np
import pytest
import torch

from viq.metrics.frechet import frechet_distance


def two_sets(rows, others, width, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(2, width, width)) / width**0.5
    first = rng.normal(size=(rows, width)) @ mixing[0] + 0.3
    second = rng.normal(size=(others, width)) @ (mixing[0] + 0.2 * mixing[1])
    return torch.from_numpy(first), torch.from_numpy(second)


def statistics(features):
    return features.mean(0), features.T.cov()


def of_statistics(a, b):
    """The same from means and covariances, which have no full rank where pictures are few."""
    (mean_a, cov_a), (mean_b, cov_b) = statistics(a), statistics(b)
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    between = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    apart = (mean_a - mean_b).square().sum()
    return float(apart + cov_a.trace() + cov_b.trace() - 2 * between)


@pytest.mark.parametrize("sizes", [(300, 200, 16), (500, 500, 64), (80, 400, 48)])
def test_distance_is_that_by_scipys_square_root(sizes):
    sqrtm = pytest.importorskip("scipy.linalg").sqrtm
    a, b = two_sets(*sizes)
    (mean_a, cov_a), (mean_b, cov_b) = ([s.numpy() for s in statistics(one)] for one in (a, b))
    root = np.real(sqrtm(cov_a @ cov_b))
    expected = np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert of_statistics(a, b) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("sizes", [(10, 12, 40), (2, 2, 5), (6, 100, 30)])
def test_with_fewer_pictures_than_channels_features_and_statistics_agree(sizes):
    a, b = two_sets(*sizes)
    assert frechet_distance(a, b) == pytest.approx(of_statistics(a, b), rel=1e-6)


def test_in_one_dimension_it_is_that_of_means_and_deviations():
    a, b = torch.tensor([[0.0], [2.0], [4.0]]), torch.tensor([[9.0], [10.0], [11.0]])
    assert frechet_distance(a, b) == pytest.approx((10 - 2) ** 2 + (2 - 1) ** 2)


def test_a_set_is_at_distance_zero_from_itself_in_any_order():
    a, b = two_sets(100, 100, 20)
    assert frechet_distance(a, a.flip(0)) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)
    assert frechet_distance(a.float(), b.float()) == pytest.approx(frechet_distance(a, b), rel=1e-4)


def test_fewer_pictures_of_one_kind_are_further_apart():
    a, b = two_sets(4000, 4000, 16)
    both = torch.cat([a, a[torch.randperm(4000, generator=torch.Generator().manual_seed(0))]])
    few, many = (frechet_distance(both[:n], both[n : 2 * n]) for n in (20, 2000))
    assert few > 5 * many > 0
    assert frechet_distance(a, b) > many


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(3, 4), torch.zeros(3, 5), "features are 4 and 5 wide; one network is needed"),
        (torch.zeros(1, 4), torch.zeros(3, 4), r"shape \(1, 4\); pass \(N, C\) of two pictures or"),
        (torch.zeros(3, 4), torch.zeros(3), r"shape \(3,\); pass"),
        (torch.zeros(3, 0), torch.zeros(3, 0), r"shape \(3, 0\); pass"),
        (torch.zeros(3, 4), torch.full((3, 4), torch.nan), "values that are not finite"),
    ],
)
def test_error_says_what_are_no_features(a, b, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)
