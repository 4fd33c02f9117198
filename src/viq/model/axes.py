"""Where the codes' few dimensions lie in the proximal space when quantisation begins.

Axes: M code tokens, D bottleneck, K code dimensions.
"""

import math

import torch
from torch import Tensor

from viq.model.layers import Linear
from viq.model.quantizers import FSQ

# At this standard deviation a bell curve fills the range of tanh most evenly.
_SPREAD = math.pi / math.sqrt(12)


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
    centred = points - points.mean(0)
    # Ascending, and each up to its sign, which is fixed by its largest number.
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(-1)[:, :count]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    places = centred @ (directions * largest.sign())
    places = places / places.std(0).clamp_min(1e-12) * _SPREAD
    reduce = _fitted(Linear(width, count).to(bottleneck), before, places)
    with torch.no_grad():
        values = fsq(reduce(bottleneck)).values.double()
    return reduce, _fitted(Linear(count, width).to(bottleneck), values, points)


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
