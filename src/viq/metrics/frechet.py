"""Fréchet distance between two sets of features, each taken for a normal distribution.

The formula of FID (https://arxiv.org/abs/1706.08500), for features of any network. What comes out
has that network's name: only on Inception's it is an FID.

Axes: N, M pictures, C channels.
"""

import torch
from torch import Tensor


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Returns the squared Fréchet distance of features (N, C) and (M, C), in float64.

    With covariances over N - 1. It is defined for fewer pictures than channels too, where the
    covariances have no full rank; but the fewer there are, the larger it comes out, even between
    two halves of one set. Compare distances of equally many pictures only.

    Raises:
        ValueError: the features differ in width, are not finite, or one has fewer than two rows.
    """
    a, b = _checked(features_a), _checked(features_b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features are {a.shape[1]} and {b.shape[1]} wide; one network is needed.")
    roots = [_root(a), _root(b)]
    traces = sum(float(root.square().sum()) for root in roots)
    # With A = R'R and B = S'S, the trace of (AB)^1/2 is the sum of the singular values of RS'.
    between = float(torch.linalg.svdvals(roots[0] @ roots[1].T).sum())
    apart = float((a.mean(0) - b.mean(0)).square().sum())
    return max(0.0, apart + traces - 2 * between)


def _checked(features: Tensor) -> Tensor:
    if features.ndim != 2 or len(features) < 2 or not features.shape[1]:
        raise ValueError(
            f"features have shape {tuple(features.shape)}; pass (N, C) of two pictures or more."
        )
    features = features.detach().to("cpu", torch.float64)
    if not bool(features.isfinite().all()):
        raise ValueError("features hold values that are not finite.")
    return features


def _root(features: Tensor) -> Tensor:
    """R (min(N, C), C) with R'R the covariance, without making that: squaring loses digits."""
    centred = (features - features.mean(0)) / (len(features) - 1) ** 0.5
    if len(centred) <= centred.shape[1]:
        return centred
    root: Tensor = torch.linalg.qr(centred, mode="r").R
    return root
