"""The linear discriminant against scikit-learn's, and against what can be known beforehand."""

import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probe.errors import ArgumentError
from probe.readouts.discriminant import count_correct

N_CLASSES, N_FOLDS = 4, 5


def example(count=400, n_features=6, spread=1.5, seed=0):
    generator = np.random.default_rng(seed)
    classes = generator.permutation(np.arange(count) % N_CLASSES)
    centres = generator.normal(size=(N_CLASSES, n_features))
    mixing = generator.normal(size=(n_features, n_features))
    vectors = centres[classes] + spread * generator.normal(size=(count, n_features)) @ mixing
    return vectors, classes, np.arange(count) % N_FOLDS


def counted(vectors, classes, folds, **options):
    return count_correct(vectors, classes, folds, n_classes=classes.max() + 1, **options)


def held_out_by(make_classifier, vectors, classes, folds):
    correct = []
    for fold in np.unique(folds):
        training = folds != fold
        fitted = make_classifier().fit(vectors[training], classes[training])
        correct.append((fitted.predict(vectors[~training]) == classes[~training]).sum())
    return np.array(correct)


class WithinClasses(EmpiricalCovariance):
    """scikit-learn asks for the covariance of one class at a time and averages; the penalty is added to each."""

    def __init__(self, alpha=1e-3):
        super().__init__()
        self.alpha = alpha

    def fit(self, X, y=None):
        super().fit(X)
        self.covariance_ = self.covariance_ + self.alpha * np.eye(X.shape[1])
        return self


def discriminant_of_scikit_learn(alpha):
    discriminant = LinearDiscriminantAnalysis(
        solver="lsqr", covariance_estimator=WithinClasses(alpha), priors=np.full(N_CLASSES, 1 / N_CLASSES)
    )
    return make_pipeline(StandardScaler(), discriminant)


@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 0.3])
def test_it_is_the_discriminant_of_scikit_learn_on_standardised_vectors(alpha):
    vectors, classes, folds = example()
    expected = held_out_by(lambda: discriminant_of_scikit_learn(alpha), vectors, classes, folds)
    assert counted(vectors, classes, folds, alpha=alpha).tolist() == expected.tolist()
    assert 0.4 < expected.sum() / len(classes) < 0.95


def test_the_penalty_is_relative_to_the_variance_within_the_training_folds():
    """Of a fold that is far from the others, the variance over all images says nothing about theirs."""
    vectors, classes, _ = example()
    order = np.argsort(classes, kind="stable")
    vectors, classes, folds = vectors[order], classes[order], np.arange(len(classes)) % N_FOLDS
    vectors[:, :3] += 30 * (folds == 0)[:, None]
    expected = held_out_by(lambda: discriminant_of_scikit_learn(0.3), vectors, classes, folds)
    assert counted(vectors, classes, folds, alpha=0.3).tolist() == expected.tolist()


def test_it_does_as_well_as_logistic_regression():
    vectors, classes, folds = example(count=2000)
    expected = held_out_by(lambda: LogisticRegression(C=100, max_iter=500), vectors, classes, folds).sum()
    assert counted(vectors, classes, folds).sum() == pytest.approx(expected, abs=0.02 * len(classes))


def test_classes_in_a_row_are_told_apart_by_one_feature():
    generator = np.random.default_rng(0)
    classes = np.arange(500) % 5
    vectors = classes[:, None] + 0.05 * generator.normal(size=(500, 1))
    folds = np.arange(500) // 5 % N_FOLDS
    assert counted(vectors, classes, folds).tolist() == [100] * N_FOLDS


def test_scales_and_offsets_of_features_do_not_matter():
    vectors, classes, folds = example()
    scales = np.array([1e-6, 1, 1e3, 1, 1e6, 1])
    scaled = counted(vectors * scales + 7, classes, folds, precision=np.float64)
    assert scaled.tolist() == counted(vectors, classes, folds).tolist()


def test_noise_is_told_at_chance():
    generator = np.random.default_rng(0)
    classes = np.arange(2000) % N_CLASSES
    share = counted(generator.normal(size=(2000, 20)), classes, np.arange(2000) // 4 % N_FOLDS).sum() / 2000
    assert share == pytest.approx(1 / N_CLASSES, abs=4 * np.sqrt(0.25 * 0.75 / 2000))


def test_features_that_do_not_vary_are_left_out():
    vectors, classes, folds = example()
    constant = np.full((len(vectors), 2), 3.0) * (1 + 1e-7 * (np.arange(len(vectors))[:, None] % 2))
    padded = np.concatenate([constant, vectors], axis=1)
    assert counted(padded, classes, folds).tolist() == counted(vectors, classes, folds).tolist()


def test_a_feature_that_varies_in_one_fold_alone_does_no_harm():
    vectors, classes, folds = example()
    rare = (np.arange(len(vectors)) == 3)[:, None]
    expected = counted(vectors, classes, folds)
    assert abs(counted(np.concatenate([rare, vectors], axis=1), classes, folds) - expected).max() <= 2


def test_without_any_feature_no_class_is_preferred_for_being_common_elsewhere():
    classes = np.arange(40) % N_CLASSES
    folds = (np.arange(40) * 7 // 5) % N_FOLDS
    assert counted(np.ones((40, 3)), classes, folds).sum() == 10


def test_copies_of_features_do_no_harm():
    vectors, classes, folds = example()
    copied = np.concatenate([vectors, vectors], axis=1)
    twice = counted(copied, classes, folds, alpha=1e-3).sum()
    assert twice == pytest.approx(counted(vectors, classes, folds, alpha=5e-4).sum(), abs=2)


def test_a_penalty_too_small_for_dependent_features_is_refused():
    vectors, classes, folds = example()
    with pytest.raises(ArgumentError, match="alpha=1e-30 is too small"):
        counted(np.concatenate([vectors, vectors, vectors], axis=1), classes, folds, alpha=1e-30)
