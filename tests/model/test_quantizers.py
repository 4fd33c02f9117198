import pytest
import torch

from viq.model.quantizers import CODEBOOKS, FSQ, apply_limit


@pytest.mark.parametrize("levels", [(2,), (3, 5), *CODEBOOKS.values()])
def test_every_code_survives_the_round_trip(levels):
    fsq = FSQ(levels)
    codes = torch.arange(fsq.codebook_size)
    values = fsq.values(codes)
    middle = torch.tensor([level // 2 for level in levels])
    half = (torch.tensor(levels) - 1) * 1.001 / 2
    offset = torch.where(torch.tensor(levels) % 2 == 0, 0.5, 0.0)
    latents = ((values * middle + offset) / half).atanh() - (offset / half).atanh()
    quantized = fsq(latents)
    assert torch.equal(quantized.codes, codes)
    torch.testing.assert_close(quantized.values, values, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_latents_of_any_dtype_are_rounded_in_float32(dtype):
    fsq = FSQ(CODEBOOKS["64k"]).to(dtype)
    latents = torch.randn(1000, 6).to(dtype)
    assert torch.equal(fsq(latents).codes, fsq(latents.float()).codes)
    assert fsq(latents).values.dtype == torch.float32


def test_rounding_is_not_done_in_bfloat16_under_autocast():
    fsq, latents = FSQ(CODEBOOKS["64k"]), torch.randn(1000, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fsq(latents).codes, fsq(latents).codes)
        inside = fsq(latents)
    assert torch.equal(inside.codes, fsq(latents).codes)


def test_gradients_pass_straight_through():
    fsq, latents = FSQ((8, 5)), torch.randn(50, 2, requires_grad=True)
    fsq(latents).values.sum().backward()
    bounded = fsq.bound(latents) / torch.tensor([4, 2])
    expected = torch.autograd.grad(bounded.sum(), latents)[0]
    torch.testing.assert_close(latents.grad, expected)


def test_error_names_both_widths():
    with pytest.raises(ValueError, match="latents are 5 wide but there are 6 levels"):
        FSQ(CODEBOOKS["64k"])(torch.randn(3, 5))


def test_one_level_is_refused():
    with pytest.raises(ValueError, match="at least 2 levels"):
        FSQ((8, 1))


def test_limits_confine_each_row():
    rows = torch.randn(20, 4, 128) * 5
    assert torch.equal(apply_limit(rows, "none"), rows)
    torch.testing.assert_close(apply_limit(rows, "l2").norm(dim=-1), torch.ones(20, 4))
    torch.testing.assert_close(apply_limit(rows, "l_inf").abs().amax(-1), torch.ones(20, 4))
    assert apply_limit(rows, "tanh").abs().max() <= 1
    with pytest.raises(ValueError, match="no limit 'l3'"):
        apply_limit(rows, "l3")


def test_a_row_of_zeros_has_a_limit():
    for limit in ("l2", "l_inf", "tanh"):
        assert torch.equal(apply_limit(torch.zeros(1, 8), limit), torch.zeros(1, 8))
