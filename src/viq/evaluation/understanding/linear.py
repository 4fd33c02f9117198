"""Linear maps from features to labels and to vectors, on one thread: the same in every run.

Axes: B items, F features of an item, T numbers of a target.
"""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

MISSING = "pip install 'viq[eval]' (scikit-learn)"
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # scikit-learn's C: the smaller, the simpler
PENALTIES = (1e1, 1e2, 1e3, 1e4, 1e5)  # of ridge regression
# Of L-BFGS. Ten times finer took twice as long and moved best accuracies by -1.4 to 0.7 points.
STEPS, TOLERANCE = 300, 1e-3
VALIDATED = 5  # the strength is chosen on every fifth picture

Matrix = NDArray[np.float32]


def can_fit() -> bool:
    """Whether scikit-learn is installed."""
    return find_spec("sklearn") is not None


def held_out(count: int, rows: int = 1) -> NDArray[np.bool_]:
    """(count * rows,) whether a row is of those on which the strength is chosen."""
    return np.repeat(np.arange(count) % VALIDATED == VALIDATED - 1, rows)


def classify(
    train: Matrix, labels: Sequence[str], test: Matrix, held: NDArray[np.bool_]
) -> list[str]:
    """The label of each row of ``test`` (B, F) by logistic regression on standardised features.

    Its strength is chosen on the rows ``held`` of ``train``; then it is fitted to all of them.

    Raises:
        ValueError: no row is held, or there are not two labels among those that are not.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    names = np.asarray(labels)
    if not held.any() or len(set(names[~held])) < 2:
        raise ValueError(
            f"{len(names)} items with {len(set(names))} labels are too few to fit on; at least"
            f" {VALIDATED} items and two labels are needed."
        )
    with threadpool_limits(1):
        right = {
            strength: np.mean(
                _told(train[~held], names[~held], strength, train[held]) == names[held]
            )
            for strength in STRENGTHS
        }
        best = max(STRENGTHS, key=lambda strength: (right[strength], -strength))
        return [str(label) for label in _told(train, names, best, test)]


def _told(
    train: Matrix, labels: NDArray[np.str_], strength: float, test: Matrix
) -> NDArray[np.str_]:
    from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
    from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
    from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

    regression = LogisticRegression(C=strength, max_iter=STEPS, tol=TOLERANCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last step counts
        told: NDArray[np.str_] = (
            make_pipeline(StandardScaler(), regression).fit(train, labels).predict(test)
        )
    return told


def regress(train: Matrix, targets: Matrix, test: Matrix) -> Matrix:
    """A vector (B, T) for each row of ``test`` (B, F) by ridge regression, leave-one-out tuned."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        model = make_pipeline(StandardScaler(), RidgeCV(alphas=PENALTIES)).fit(train, targets)
        found: Matrix = model.predict(test).astype(np.float32)
    return found
