"""Readouts of position maps against scipy and scikit-learn, and in nets with known answers."""

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional

import probe
from probe.analyses.posenet.readouts import (
    POSITION_MAPS,
    BlockReader,
    ClosedForm,
    Descent,
    absolute_errors,
    position_maps,
    rank_correlations,
)
from probe.testing import CoordinateNet, noise_images, padded_net, pointwise_net

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")

MAPS = tuple(POSITION_MAPS)


def descent(n_channels, targets=MAPS, **options):
    form = {"kernel": 3, "depth": 1, "padding": 0, "size": 16, "n_steps": 60, "seed": 0, "device": CPU}
    return Descent(n_channels, targets=targets, **{**form, **options})


def rolled(images):
    return probe.images.stimuli.apply_stimulus("rolled", images, range(len(images)), seed=1)


def test_rank_correlation_is_spearmans_with_ties_too():
    read = torch.randn(3, 5, 8, 8).mul(2).round()
    expected = [[scipy.stats.spearmanr(a.ravel(), b.ravel())[0] for a, b in zip(i, position_maps(MAPS, 8), strict=True)]
                for i in read]  # fmt: skip
    np.testing.assert_allclose(rank_correlations(read, MAPS), expected, atol=1e-12)


@pytest.mark.parametrize("noise", [0, 1e-7])
def test_a_constant_map_tells_no_position(noise):
    read = 3 + noise * torch.randn(1, 1, 8, 8)
    assert rank_correlations(read, ["H"]) == 0


def test_errors_of_constants_are_the_known_chance_levels():
    """The levels of the released maps: 0.25, 0.197 for the best constant under G, 0.637 for stripes from −1 to 1."""
    true = position_maps(MAPS, 224)
    constants = true.flatten(1).median(dim=1).values[:, None, None].expand_as(true)
    np.testing.assert_allclose(absolute_errors(constants[None], MAPS), [[0.25, 0.25, 0.197, 0.637, 0.637]], atol=1e-3)


def test_maps_run_as_published():
    h, v, g, hs, _ = position_maps(MAPS, 64)
    assert (h[0].diff() > 0).all() and (h[:, 0].diff() == 0).all() and torch.equal(v, h.T)
    assert (g[32, 32] > 0.99) and g[0, 0] < 0.02
    assert (hs[0].diff() == 0).all(), "HS varies along rows"
    assert ((hs[:, 0] - 0.5).sign().diff() != 0).sum() == 5, "2.5 periods cross the middle five times"


@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 0), (3, 1)])
def test_the_closed_form_is_scikit_learns_ridge(kernel, padding):
    features = torch.randn(6, 4, 7, 7).mul(5).add(3)
    closed = ClosedForm(kernel=kernel, padding=padding, targets=MAPS, size=16)
    for part in features.split(4):
        closed.update(part)
    side = 7 + 2 * padding - kernel + 1
    samples = functional.unfold(features, kernel, padding=padding).transpose(1, 2).flatten(0, 1).numpy()
    true = position_maps(MAPS, side).flatten(1).T.repeat(6, 1).numpy()
    ridge = make_pipeline(StandardScaler(), Ridge(alpha=len(samples) * 1e-3)).fit(samples, true)
    expected = torch.from_numpy(ridge.predict(samples)).reshape(6, side, side, 5).permute(0, 3, 1, 2)
    expected = functional.interpolate(expected, (16, 16), mode="bilinear")
    np.testing.assert_allclose(closed.predict(features), expected, atol=1e-4)
    assert closed.seconds > 0


def test_both_readouts_read_coordinates():
    images = noise_images(16, 16)
    features = BlockReader(CoordinateNet(), {"f1": "identity"}, grid=16, device=CPU)(images)
    closed = ClosedForm(kernel=1, padding=0, targets=MAPS, size=16)
    closed.update(features)
    np.testing.assert_allclose(rank_correlations(closed.predict(features), MAPS)[:, :2], 1, atol=3e-3)
    assert absolute_errors(closed.predict(features), MAPS)[:, :2].max() < 2e-3
    fitted = descent(5, kernel=1, n_steps=200)
    for _ in range(200):
        fitted.update(features)
    assert rank_correlations(fitted.predict(features), MAPS)[:, :2].min() > 0.99


@pytest.mark.parametrize(
    ("net", "layer", "knows"),
    [(padded_net("zeros"), "conv4", True), (padded_net("circular"), "conv4", False), (pointwise_net(), "4", False)],
    ids=["zeros", "circular", "pointwise"],
)
def test_nets_that_cannot_know_position_are_read_at_chance(net, layer, knows):
    images = rolled(noise_images(32, 16))
    features = BlockReader(net, {"f1": layer}, grid=16, device=CPU)(images)
    readouts = [ClosedForm(kernel=1, padding=0, targets=("G",), size=16), descent(16, ("G",), kernel=1, n_steps=600)]
    for readout in readouts:
        for _ in range(1 if isinstance(readout, ClosedForm) else 600):
            readout.update(features[:16])
        correlation = rank_correlations(readout.predict(features[16:]), ["G"]).mean()
        assert correlation > 0.3 if knows else abs(correlation) < 0.1


def test_readouts_of_several_maps_are_fitted_as_if_apart():
    features = torch.randn(8, 3, 8, 8)
    joint, apart = descent(3, ("H", "G")), descent(3, ("G",))
    with torch.no_grad():
        apart.stacks[0][0].weight.copy_(joint.stacks[0][0].weight[1:])
    for _ in range(5):
        joint.update(features)
        apart.update(features)
    torch.testing.assert_close(joint.predict(features)[:, 1:], apart.predict(features))


def test_depth_and_the_learning_rate_follow_the_protocol():
    deep = descent(4, ("H", "V"), depth=3, n_steps=3)
    kinds = [type(module).__name__ for module in deep.stacks[0]]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * 2 + ["Conv2d", "BatchNorm2d", "Sigmoid"]
    assert [m.weight.shape[0] for m in deep.stacks[0] if isinstance(m, nn.Conv2d)] == [4, 4, 1]
    rates = []
    for _ in range(3):
        rates.append(deep.optimiser.param_groups[0]["lr"])
        deep.update(torch.randn(2, 4, 9, 9))
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01])


def test_blocks_are_resized_to_one_grid_and_stacked(left_as_found):
    net, images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)).train(), noise_images(2, 10)
    with left_as_found(net):
        reader = BlockReader(net, {"f1": "0", "f2": "2"}, grid=6, device=CPU)
        stacked = reader(images)
    convolved = net[0](images)
    parts = [convolved, functional.max_pool2d(convolved.relu(), 2)]
    expected = [functional.interpolate(part, (6, 6), mode="bilinear", align_corners=True) for part in parts]
    torch.testing.assert_close(stacked, torch.cat(expected, dim=1))
    assert reader.channels == {"f1": slice(0, 4), "f2": slice(4, 8)}
    with pytest.raises(probe.errors.LayerNotFoundError, match="no layer '9' among the"):
        BlockReader(net, {"f1": "9"}, grid=6, device=CPU)(images)
