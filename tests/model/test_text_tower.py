import pytest
import torch

from viq.model.text_tower import TextTower, TextTowerConfig

CONFIG = TextTowerConfig(width=32, depth=2, attention_heads=2, mlp_width=32, max_length=8)


@pytest.fixture
def tower():
    torch.manual_seed(0)
    return TextTower(CONFIG).eval()


def test_texts_get_the_vectors_they_get_alone(tower):
    texts = [[1, 2, 3], [4], [5, 6, 7, 8], [9, 9, 9]]
    with torch.no_grad():
        together = tower(texts)
        alone = torch.cat([tower([text]) for text in texts])
    assert together.shape == (4, 32)
    torch.testing.assert_close(together, alone)


def test_order_matters_and_what_is_past_the_length_does_not(tower):
    with torch.no_grad():
        one, other = tower([[1, 2, 3], [3, 2, 1]])
        short, long = tower([list(range(8)), list(range(200))])
    assert not torch.allclose(one, other, atol=1e-4)
    assert torch.equal(short, long)


def test_every_parameter_learns(tower):
    tower([list(range(8)), [7]]).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in tower.parameters())


def test_texts_that_cannot_be_read_are_refused(tower):
    with pytest.raises(ValueError, match="a text has no tokens"):
        tower([[1], []])
    with pytest.raises(ValueError, match="from 3 to 256, but the vocabulary has 256"):
        tower([[3, 256]])
