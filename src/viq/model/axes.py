"""Directions that are taken from data before a stage begins, not drawn at random.

Axes: M code tokens, D bottleneck, K code dimensions; N patches, C channels of a feature.
"""

import math

import torch
from torch import Tensor

from viq.model.layers import Linear
from viq.model.quantizers import FSQ

# At this standard deviation a bell curve fills the range of tanh most evenly.
_SPREAD = math.pi / math.sqrt(12)
# How far the first direction of pixels moves features, in median deviations of their own.
_LOUD = 9.0


def principal_maps(bottleneck: Tensor, limited: Tensor, fsq: FSQ) -> tuple[Linear, Linear]:
    """Linear maps D -> K and K -> D through which rounding loses little of the proximal space.

    The K directions are those along which the ``limited`` points (M, D) vary most, the widest
    first, as the first dimensions have the most levels. What FSQ reads must be linear in the
    ``bottleneck`` (M, D) before its limit, so the first map is the least-squares fit from there
    to each point's place along the directions, scaled to fill the levels. The second is the
    least-squares fit from the rounded values back to the points.

    No numbers are drawn: the same tokens give the same maps.
    """
    width, count = bottleneck.shape[-1], len(fsq.levels)
    before, points = bottleneck.detach().double(), limited.detach().double()
    directions = _directions(points)[1].flip(-1)[:, :count]
    places = (points - points.mean(0)) @ directions
    places = places / places.std(0).clamp_min(1e-12) * _SPREAD
    reduce = _fitted(Linear(width, count).to(bottleneck), before, places)
    with torch.no_grad():
        values = fsq(reduce(bottleneck)).values.double()
    return reduce, _fitted(Linear(count, width).to(bottleneck), values, points)


def pixel_map(features: Tensor, pixels: Tensor, count: int) -> Linear:
    """What an encoder's skip begins with: pixels where its features (N, C) vary least.

    The ``count`` directions along which ``pixels`` (N, 3 * P * P) vary most go to the directions
    along which the features do least. Each is as loud as the root of its deviation, so that the
    last can be heard beside the first, and all beside what features hold already.
    """
    own, quiet = _directions(features)
    deviations, directions = _directions(pixels)
    kept = deviations[-count:].flip(0).clamp_min(1e-12)
    gains = _LOUD * own.median() * (kept / kept[0]).sqrt() / kept
    weight = quiet[:, :count] * gains @ directions[:, -count:].flip(-1).T
    linear = Linear(pixels.shape[1], features.shape[1]).to(features)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(-weight @ pixels.detach().double().mean(0))
    return linear


def _directions(points: Tensor) -> tuple[Tensor, Tensor]:
    """Deviations along, and the directions (columns) in which points vary, the least first.

    Each is known up to its sign, which is fixed by its largest number.
    """
    centred = points.detach().double()
    centred = centred - centred.mean(0)
    variances, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return variances.clamp_min(0).sqrt(), directions * largest.sign()


def _fitted(linear: Linear, inputs: Tensor, outputs: Tensor) -> Linear:
    """``linear`` as the least-squares fit from inputs to outputs, with a touch of ridge."""
    mean_in, mean_out = inputs.mean(0), outputs.mean(0)
    centred = inputs - mean_in
    gram = centred.T @ centred
    ridge = 1e-6 * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram)).to(gram)
    weight = torch.linalg.solve(gram + ridge, centred.T @ (outputs - mean_out)).T
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(mean_out - weight @ mean_in)
    return linear
