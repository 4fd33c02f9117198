import torch

from viq.model.axes import pixel_map, principal_maps
from viq.model.quantizers import FSQ, apply_limit


def test_points_in_a_plane_lose_no_more_than_the_rounding():
    fsq = FSQ((101, 101))
    points = torch.randn(5000, 2) * 0.3 @ torch.randn(2, 16) + torch.randn(16)
    reduce, expand = principal_maps(points, points, fsq)
    latents = reduce(points)
    torch.testing.assert_close(latents.std(0), torch.full((2,), 0.9069), rtol=0.01, atol=0)
    torch.testing.assert_close(latents.mean(0), torch.zeros(2), rtol=0, atol=1e-4)
    rebuilt = expand(fsq(latents).values)
    spread = (points - points.mean(0)).norm()
    # What is left is the bend of the tanh, which no linear map can straighten.
    assert (rebuilt - points).norm() / spread < 0.25
    assert (expand(fsq(torch.zeros_like(latents)).values) - points).norm() / spread > 0.9


def test_the_widest_direction_gets_the_first_dimension():
    points = torch.randn(5000, 3) * torch.tensor([0.1, 5.0, 1.0])
    reduce, _ = principal_maps(points, points, FSQ((8, 5)))
    assert reduce.weight.abs().argmax(1).tolist() == [1, 2]


def test_all_levels_are_used_of_limited_points():
    bottleneck = torch.randn(4000, 24) @ torch.randn(24, 24)
    fsq = FSQ((8, 8, 5))
    reduce, _ = principal_maps(bottleneck, apply_limit(bottleneck, "l_inf"), fsq)
    values = fsq(reduce(bottleneck)).values
    assert [len(values[:, k].unique()) for k in range(3)] == [8, 8, 5]


def test_the_same_points_give_the_same_maps():
    points = torch.randn(100, 8)
    pairs = zip(
        *(principal_maps(points, points.tanh(), FSQ((5, 5))) for _ in range(2)), strict=True
    )
    assert all(torch.equal(a.weight, b.weight) and torch.equal(a.bias, b.bias) for a, b in pairs)


def test_pixels_go_where_features_vary_least_and_can_be_read_there():
    turn = torch.linalg.qr(torch.randn(16, 16)).Q
    features = torch.randn(4000, 16) * torch.logspace(-2, 2, 16) @ turn
    pixels = torch.randn(4000, 48) * torch.logspace(1, -1, 48) + 0.5
    linear = pixel_map(features, pixels, 4)
    moved = linear(pixels)
    torch.testing.assert_close(moved.mean(0), torch.zeros(16), rtol=0, atol=1e-2)
    assert torch.linalg.matrix_rank(linear.weight) == 4
    loud = turn[8:]  # those along which features vary most
    assert (moved @ loud.T).std() < 0.05 * moved.std()
    rows = torch.cat([features + moved, torch.ones(4000, 1)], 1)
    read = rows @ torch.linalg.lstsq(rows, pixels).solution
    left = (read - pixels).var(0) / pixels.var(0)
    assert left[:4].max() < 0.05
    assert left[4:].min() > 0.9
