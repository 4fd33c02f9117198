"""The projector on its own; tests/parity compares it with the official code's."""

import pytest
import torch

from viq.chat import image_tokens
from viq.errors import ConversionError
from viq.mllm.projector import Projector, ProjectorConfig, projector_from_official
from viq.model.packing import Packing

GRIDS = [(4, 8), (8, 4), (4, 4), (4, 8), (12, 4)]


@pytest.fixture
def projector():
    return Projector(ProjectorConfig(width=6, lm_width=16))


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_packed_images_get_the_tokens_they_get_alone(projector, pool):
    packing = Packing.of(GRIDS)
    features = torch.randn(packing.offsets[-1], 6)
    with torch.no_grad():
        packed = projector(features, packing, pool)
        parts = zip(packing.split(features), GRIDS, strict=True)
        alone = [projector(rows, Packing.of([grid]), pool) for rows, grid in parts]
    assert [len(tokens) for tokens in alone] == [image_tokens(grid, pool) for grid in GRIDS]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=0, atol=1e-6)


def test_a_token_is_made_of_its_own_window(projector):
    """Features of one window alone move; only its token moves."""
    packing, features = Packing.of([(2, 2), (4, 6)]), torch.randn(28, 6)
    with torch.no_grad():
        before = projector(features, packing, 2)
        features.view(-1, 6)[4:].view(4, 6, 6)[2:, 2:4] += 1
        after = projector(features, packing, 2)
    changed = (before != after).any(-1).nonzero().flatten().tolist()
    # 4 tokens of the first image, begin, 3 windows and a newline, then the second window
    assert changed == [4 + 1 + 4 + 1]


def test_a_placed_projector_sees_places_and_no_scale(projector):
    placed = Projector(ProjectorConfig(width=6, lm_width=16, kind="placed"))
    packing, features = Packing.of([(4, 6)]), torch.randn(24, 6)
    mirrored = features.view(4, 3, 2, 6).flip(2).reshape(24, 6)  # in each window
    with torch.no_grad():
        for pool in (2, 4):
            tokens = placed(features[:16], Packing.of([(4, 4)]), pool)
            again = placed(40 * features[:16] + 3, Packing.of([(4, 4)]), pool)
            torch.testing.assert_close(again, tokens)
        assert not torch.allclose(placed(mirrored, packing, 2), placed(features, packing, 2))
        torch.testing.assert_close(projector(mirrored, packing, 2), projector(features, packing, 2))


def test_no_images_give_no_tokens_but_gradients(projector):
    """All parameters have gradients, of zero, as distributed training wants them."""
    tokens = projector(torch.zeros(0, 6), Packing.of([]), 2)
    assert tokens.shape == (0, 16)
    tokens.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in projector.parameters())


@pytest.mark.parametrize(
    ("shape", "grids", "pool", "message"),
    [
        ((24, 5), [(4, 6)], 2, "features are 5 wide, the projector takes 6"),
        ((23, 6), [(4, 6)], 2, "23 features for 24 patches"),
        ((24, 6), [(4, 6)], 3, "pool is 3; it can be 1, 2, 4"),
        ((24, 6), [(4, 6)], 4, "4 x 6 patches does not divide into 4 x 4"),
        ((15, 6), [(5, 3)], 2, "5 x 3 patches does not divide into 2 x 2"),
    ],
)
def test_errors_name_both_numbers(projector, shape, grids, pool, message):
    with pytest.raises(ValueError, match=message):
        projector(torch.zeros(shape), Packing.of(grids), pool)


def test_official_tensors_are_all_accounted_for():
    with pytest.raises(ConversionError, match=r"official: 1 tensor missing: proj1\.weight"):
        projector_from_official({}, "official")
    with pytest.raises(
        ConversionError, match=r"x: 10 tensors missing: .*; 1 tensor left over: more"
    ):
        projector_from_official({"proj1.weight": torch.ones(4, 6), "more": torch.ones(1)}, "x")
