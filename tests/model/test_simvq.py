import pytest
import torch

from viq.model.simvq import SimVQ, nearest, rotate_onto


def test_every_code_survives_the_round_trip():
    simvq = SimVQ(300, 8, "none")
    codes = torch.arange(300).view(75, 4)
    quantized = simvq(simvq.entries(codes))
    assert torch.equal(quantized.codes, codes)
    torch.testing.assert_close(quantized.values, simvq.values(codes))


@pytest.mark.parametrize("limit", ["none", "l2", "l_inf", "tanh"])
def test_values_are_the_same_with_and_without_a_gradient(limit):
    simvq, latents = SimVQ(50, 8, limit), torch.randn(20, 4, 8)
    with_gradient = simvq(latents.clone().requires_grad_()).values
    assert with_gradient.requires_grad
    torch.testing.assert_close(with_gradient, simvq(latents).values, rtol=1e-5, atol=1e-6)


def test_a_codebook_too_large_for_one_matrix_is_searched_in_parts(monkeypatch):
    rows, codebook = torch.randn(37, 8), torch.randn(90, 8)
    whole = torch.cdist(rows, codebook).argmin(-1)
    monkeypatch.setattr("viq.model.simvq._DISTANCES", 1000)
    assert torch.equal(nearest(rows, codebook), whole)


def test_gradients_turn_back_with_the_rotation():
    rows, entries = torch.randn(30, 8, requires_grad=True), torch.randn(30, 8)
    turned = rotate_onto(rows, entries)
    torch.testing.assert_close(turned, entries, rtol=1e-4, atol=1e-5)
    # The map is a rotation and a stretch: along the entry the gradient lies along the row.
    (gradient,) = torch.autograd.grad((turned * entries).sum(), rows)
    direction = torch.nn.functional.cosine_similarity(gradient, rows.detach())
    torch.testing.assert_close(direction, torch.ones(30), rtol=0, atol=1e-5)


def test_latents_are_compared_in_float32():
    simvq, latents = SimVQ(500, 8, "none"), torch.randn(200, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = simvq(latents)
    assert torch.equal(inside.codes, simvq(latents.float()).codes)
    assert inside.values.dtype == torch.float32


def test_a_matched_codebook_has_the_latents_second_moments():
    simvq = SimVQ(20_000, 4, "none")
    latents = torch.randn(5000, 4) @ torch.randn(4, 4)
    simvq.match(latents)
    found = simvq.codebook.T @ simvq.codebook / 20_000
    expected = latents.T @ latents / 5000
    assert (found - expected).norm() / expected.norm() < 0.05


def test_a_row_of_zeros_has_a_code_and_a_finite_gradient():
    latents = torch.zeros(3, 4, requires_grad=True)
    SimVQ(9, 4, "l_inf")(latents).values.sum().backward()
    assert latents.grad.isfinite().all()
