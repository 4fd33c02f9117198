import pytest
import torch
import torch.nn.functional as F

from viq.model.packing import Packing
from viq.training.losses import commitment, distillation, reconstruction, unevenness


def test_distillation_is_one_minus_the_cosine_of_each_image():
    student, teacher = torch.randn(5, 8), torch.randn(5, 8)
    expected = 1 - F.cosine_similarity(student, teacher)
    torch.testing.assert_close(distillation(student, teacher), expected)
    torch.testing.assert_close(
        distillation(3 * student, student), torch.zeros(5), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(distillation(-student, student), torch.full((5,), 2.0))


def test_distillation_of_bfloat16_is_computed_in_float32():
    student, teacher = torch.randn(5, 8).bfloat16(), torch.randn(5, 8).bfloat16()
    losses = distillation(student, teacher)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, distillation(student.float(), teacher.float()))


def test_a_large_image_counts_as_much_as_a_small_one():
    target = [torch.zeros(4, 2, 2), torch.zeros(4, 20, 30)]
    predicted = [torch.full((4, 2, 2), 3.0), torch.full((4, 20, 30), 1.0)]
    assert reconstruction(predicted, target).tolist() == [9.0, 1.0]


def test_images_must_be_as_many_as_targets():
    with pytest.raises(ValueError, match="longer than"):
        reconstruction([torch.zeros(1)], [torch.zeros(1)] * 2)


def test_commitment_pulls_entries_and_a_quarter_as_much_latents():
    packing = Packing.of([(1, 2), (1, 3)])
    latents = torch.randn(5, 4, 6, requires_grad=True)
    entries = torch.randn(5, 4, 6, requires_grad=True)
    losses = commitment(latents, entries, packing)
    squares = (latents - entries).detach().square()
    expected = torch.stack([1.25 * squares[:2].mean(), 1.25 * squares[2:].mean()])
    torch.testing.assert_close(losses.detach(), expected)
    losses.sum().backward()
    torch.testing.assert_close(latents.grad, -0.25 * entries.grad)


def test_even_points_are_nearly_even_and_points_in_the_middle_are_one_off():
    torch.manual_seed(0)
    even = torch.rand(20_000, 2, 6)
    assert unevenness(even) < 0.001
    # Along each axis the middle is a whole variance away, and along any direction as well.
    assert abs(unevenness(torch.full((20_000, 2, 6), 0.5)) - 1) < 0.01
    diagonal = torch.rand(20_000, 1, 1).expand(-1, 2, 6)  # even along each axis, but a line
    assert unevenness(diagonal) > 0.1


def test_the_gradient_of_unevenness_spreads_points():
    torch.manual_seed(0)
    points = (0.5 + 0.05 * torch.randn(512, 1, 3)).requires_grad_()
    unevenness(points).backward()
    outwards = points.detach() - 0.5
    assert (points.grad * outwards).sum() < 0  # a step down the gradient goes outwards
