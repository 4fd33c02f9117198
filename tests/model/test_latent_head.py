from dataclasses import replace

import cattrs
import pytest
import torch

from viq.model.latent_head import LatentHead, LatentHeadConfig, with_variance
from viq.model.packing import Packing

CONFIG = LatentHeadConfig(width=32, attention_heads=2, mlp_width=32, depth=1, latent_channels=5)
PACKING = Packing.of([(2, 3), (3, 2), (1, 4)])


@pytest.fixture
def head():
    torch.manual_seed(0)
    return LatentHead(CONFIG)


@pytest.fixture
def features():
    return torch.randn(16, 32, generator=torch.Generator().manual_seed(1))


def test_a_variance_is_added_without_touching_the_mean(head, features):
    wide = with_variance(head, -6.0)
    assert wide.config == replace(CONFIG, variance=True)
    posteriors = wide.to_posteriors(wide.to_rows(features, PACKING), PACKING)
    expected = head(features, PACKING)
    assert [tuple(x.shape) for x in expected] == [(5, 4, 6), (5, 6, 4), (5, 2, 8)]
    for posterior, mean, forward in zip(posteriors, expected, wide(features, PACKING), strict=True):
        torch.testing.assert_close(posterior.mean, mean)
        assert torch.equal(forward, posterior.mean)
        assert torch.equal(posterior.log_variance, torch.full_like(mean, -6.0))
    assert torch.equal(wide.conv.weight[:20], head.conv.weight)
    assert torch.equal(wide.conv.bias[:20], head.conv.bias)


def test_a_head_that_has_a_variance_keeps_it(head):
    wide = with_variance(head, -6.0)
    again = with_variance(wide, 3.0)
    assert again is not wide
    for name, tensor in wide.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_the_new_head_shares_no_memory_and_keeps_dtype(head):
    wide = with_variance(head.bfloat16(), -6.0)
    assert {p.dtype for p in wide.parameters()} == {torch.bfloat16}
    before = head.conv_norm.weight.clone()
    with torch.no_grad():
        wide.conv_norm.weight.zero_()
    assert torch.equal(head.conv_norm.weight, before)


def test_a_head_without_variance_says_so(head, features):
    with pytest.raises(ValueError, match="predicts no variance; use its latents"):
        head.to_posteriors(features, PACKING)


def test_configs_of_before_there_were_variances_still_load():
    old = {"width": 32, "attention_heads": 2, "mlp_width": 32, "depth": 1}
    assert not cattrs.structure(old, LatentHeadConfig).variance
