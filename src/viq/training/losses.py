"""The losses of the method, one number an image, so that they average over any number of batches.

Axes: B images, N patches of all images, Q code heads, D width, L channels of a latent.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from viq.model.packing import Packing


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos of the semantic tokens (B, C): (B,), float32."""
    ours = F.normalize(student.float(), dim=-1, eps=1e-12)
    theirs = F.normalize(teacher.float(), dim=-1, eps=1e-12)
    return 1 - (ours * theirs).sum(-1)


def reconstruction(predicted: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Mean squared error of each image's latents or pixels (L, H, W): (B,), float32.

    An image counts the same whatever its size; the paper's Gaussian likelihood is half of this.
    """
    errors = [F.mse_loss(p.float(), t.float()) for p, t in zip(predicted, target, strict=True)]
    return torch.stack(errors)


def commitment(latents: Tensor, entries: Tensor, packing: Packing, weight: float = 0.25) -> Tensor:
    """SimVQ's loss on latents and the entries taken for them, (N, Q, D) each: (B,), float32.

    The entries move to the latents, and by ``weight`` as much the latents to the entries.
    """
    latents, entries = latents.float(), entries.float()
    towards_latents = (entries - latents.detach()).square().mean((1, 2))
    towards_entries = (latents - entries.detach()).square().mean((1, 2))
    rows = towards_latents + weight * towards_entries
    return torch.stack([image.mean() for image in packing.split(rows)])


def unevenness(shares: Tensor, directions: int = 16) -> Tensor:
    """How far points (N, Q, K) in the unit cube are from filling it evenly, 0 to about 1: ().

    The sliced Wasserstein distance (https://arxiv.org/abs/1902.00434) of each code head's points
    to as many even ones, along the cube's axes and along random directions, in units of what
    points that all lie in the middle have.
    """
    points = shares.float().transpose(0, 1)  # (Q, N, K)
    width = points.shape[-1]
    random = F.normalize(torch.randn(directions, width, device=points.device), dim=-1)
    lines = torch.cat((torch.eye(width, device=points.device), random)).T  # (K, lines)
    found = ((points - 0.5) @ lines).sort(1).values
    even = ((torch.rand_like(points[:1]) - 0.5) @ lines).sort(1).values
    return (found - even).square().mean() * 12  # an even coordinate has a variance of 1 / 12
