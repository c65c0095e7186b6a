"""What scikit-learn gives for the readouts, on stored activations."""

import itertools

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def ridge(alpha, n_samples):
    return make_pipeline(StandardScaler(), Ridge(n_samples * alpha))


def crossed_products(features, targets, folds, alpha=1e-3):
    """e₁·e₂ of each sample, shape (sample, target): mean over all halvings of the other folds, up to five of these.

    `features` of shape (sample, feature), `targets` of shape (sample, target), `folds` of shape (sample,).
    """
    products = np.zeros(targets.shape)
    numbers = list(np.unique(folds))
    residuals = {}

    def residual(half):
        if half not in residuals:
            chosen = np.isin(folds, half)
            fitted = ridge(alpha, chosen.sum()).fit(features[chosen], targets[chosen])
            residuals[half] = targets - fitted.predict(features).reshape(targets.shape)
        return residuals[half]

    for held_out in numbers:
        rest = [fold for fold in numbers if fold != held_out]
        halves = list(itertools.combinations(rest, len(rest) // 2))
        pairs = {frozenset((half, tuple(fold for fold in rest if fold not in half))) for half in halves}
        inside = folds == held_out
        for first, second in pairs:
            products[inside] += (residual(first) * residual(second))[inside] / len(pairs)
    return products


def crossed_r2(features, targets, folds, alpha=1e-3, within=None):
    """R² of readouts, shape (target,), over all samples or `within` some, the targets about their mean over all."""
    products = crossed_products(features, targets, folds, alpha)
    within = np.ones(len(folds), dtype=bool) if within is None else within
    deviations = (targets - targets.mean(axis=0)) ** 2
    return 1 - products[within].sum(axis=0) / deviations[within].sum(axis=0)
