import pytest
import torch

from viq.model.discriminator import (
    Discriminator,
    DiscriminatorConfig,
    discriminator_loss,
    generator_loss,
)


@pytest.fixture
def critic():
    torch.manual_seed(0)
    return Discriminator(DiscriminatorConfig(width=8))


def test_a_logit_sees_seventy_pixels(critic):
    """Norms look at the whole picture, so they are taken out for this."""
    layers = [layer for layer in critic.layers if not isinstance(layer, torch.nn.GroupNorm)]
    pixels = torch.randn(1, 3, 160, 160, requires_grad=True)
    logits = torch.nn.Sequential(*layers)(pixels)
    assert logits.shape == (1, 1, 18, 18)
    logits[0, 0, 9, 9].backward()
    rows = pixels.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows[-1] - rows[0] + 1 == 70


def test_an_image_is_judged_alone(critic):
    images = torch.randn(3, 3, 32, 48)
    alone = torch.cat([critic(image[None]) for image in images])
    torch.testing.assert_close(critic(images), alone)


def test_losses_are_the_hinge_and_its_other_side(critic):
    real, fake = torch.randn(2, 2, 3, 32, 32)
    with torch.no_grad():
        of_real, of_fake = critic(real), critic(fake)
    margins = ((1 - of_real).clamp(min=0), (1 + of_fake).clamp(min=0))
    expected = 0.5 * sum(margin.mean((1, 2, 3)) for margin in margins)
    torch.testing.assert_close(discriminator_loss(critic, real, fake), expected)
    torch.testing.assert_close(generator_loss(critic, fake), -of_fake.mean((1, 2, 3)))


def test_each_loss_teaches_one_player(critic):
    real, fake = torch.randn(2, 2, 3, 32, 32)
    fake.requires_grad_()
    generator_loss(critic, fake).sum().backward()
    assert fake.grad.any()
    assert all(p.grad is None for p in critic.parameters())
    fake.grad = None
    discriminator_loss(critic, real, fake).sum().backward()
    assert fake.grad is None
    assert any(p.grad.any() for p in critic.parameters())
