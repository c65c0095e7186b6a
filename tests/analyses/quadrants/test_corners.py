"""Patches in two corners, and what tells one from the other."""

import re

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from probe.analyses.quadrants.corners import (
    Corners,
    LastMap,
    build_network,
    fit_readout,
    read_features,
    train_from_scratch,
)
from probe.testing import noise_images, padded_net, pointwise_net

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


def accuracies(network, border, n_images=20):
    """The accuracy of a readout on other images, for patches of 8 pixels on canvases of 24."""
    training, test = (
        Corners(patches, canvas=24, border=border, device=CPU)
        for patches in noise_images(2 * n_images, 8, smooth=2).split(n_images)
    )
    readout = fit_readout(*read_features(network, training))
    features, classes = read_features(network, test)
    return (readout(features) == classes).double().mean().item()


def test_each_patch_stands_once_in_either_corner():
    patches = torch.arange(1.0, 9).reshape(2, 1, 2, 2)
    (canvases, classes), *rest = Corners(patches, canvas=4, border=1, device=CPU).batches()
    assert not rest
    assert canvases.shape == (4, 1, 6, 6) and classes.tolist() == [0, 1, 0, 1]
    assert torch.equal(canvases[2, :, 1:3, 1:3], patches[1]) and torch.equal(canvases[3, :, 3:5, 3:5], patches[1])
    assert all(canvas.count_nonzero() == 4 for canvas in canvases)


@pytest.mark.parametrize("border", [0, 8])
def test_a_net_that_sees_single_pixels_scores_chance(border):
    assert accuracies(LastMap(pointwise_net(), 24), border) == 0.5


@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_a_net_tells_the_corner_until_the_border_is_as_wide_as_it_sees(padding):
    network = LastMap(padded_net(padding, depth=4), 24)  # four pixels from the border, and four from the patch
    near, far = accuracies(network, 0), accuracies(network, 8)
    assert near == 0.5 if padding == "circular" else near > 0.7
    assert far == 0.5


def test_rounding_errors_are_no_location():
    generator = torch.Generator().manual_seed(0)
    content = torch.randn(40, 1, generator=generator).double().repeat_interleave(2, dim=0)
    classes = torch.tensor([0, 1]).repeat(40)
    constant = 5 + 1e-6 * classes.double()[:, None]
    assert torch.equal(
        fit_readout(torch.cat([content, constant], 1), classes)(torch.cat([content, constant], 1)),
        fit_readout(content, classes)(content),
    )
    assert torch.equal(fit_readout(5000 * constant**2, classes)(5000 * constant**2), torch.zeros(80).long())
    assert torch.equal(fit_readout(classes[:, None] + content, classes)(classes[:, None] + 0 * content), classes)


def test_the_readout_is_the_one_of_scikit_learn():
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 5, generator=generator).double() * torch.tensor([1, 10, 100, 0.1, 1])
    classes = torch.randint(2, (60,), generator=generator)
    scaler = StandardScaler().fit(features)
    expected = Ridge(alpha=60 * 1e-3, fit_intercept=False).fit(scaler.transform(features), 2 * classes - 1)
    told = expected.predict(scaler.transform(features)) > 0
    assert 0 < told.sum() < 60
    assert np.array_equal(fit_readout(features, classes)(features).numpy(), told)


def test_training_learns_corners_that_a_net_can_tell_and_no_others():
    def trained_accuracy(net):
        patches = noise_images(24, 8, smooth=2).split(8)
        train, validation, test = (Corners(part, canvas=24, border=0, device=CPU) for part in patches)
        network = nn.Sequential(net, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        model = train_from_scratch(network, train, validation, epochs=20, learning_rate=0.2, seed=0)
        logits, classes = read_features(model, test)
        return (logits.argmax(dim=1) == classes).double().mean()

    assert trained_accuracy(padded_net("zeros", depth=2)) == 1
    assert trained_accuracy(pointwise_net()) == 0.5


def test_training_keeps_the_epoch_with_the_lowest_validation_loss(monkeypatch):
    losses, states = iter([3.0, 1.0, 2.0]), []

    def loss(model, corners):
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        return next(losses)

    monkeypatch.setattr("probe.analyses.quadrants.corners._mean_loss", loss)
    corners = Corners(noise_images(4, 8), canvas=16, border=0, device=CPU)
    network = nn.Sequential(padded_net(depth=1), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    model = train_from_scratch(network, corners, corners, epochs=3, learning_rate=0.1, seed=0)
    torch.testing.assert_close(dict(model.state_dict()), states[1], rtol=0, atol=0)
    assert not torch.equal(states[1]["1.weight"], states[2]["1.weight"])


def test_given_weights_are_those_that_are_run():
    state = build_network("resnet18", 1).state_dict()
    images = torch.rand(2, 3, 40, 40)
    given, same, other = build_network("resnet18", 0, state), build_network("resnet18", 1), build_network("resnet18", 0)
    outputs = [network.eval()(images) for network in (given, same, other)]
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])


def test_the_file_of_densenet_that_torchvision_releases_is_loaded(tmp_path):
    torch.manual_seed(5)
    full = torchvision.models.densenet121(weights=None).state_dict()
    released = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): full[key] for key in full}
    assert "features.denseblock1.denselayer1.norm.1.weight" in released
    # Nor are there counters of batches in the released file.
    released = {key: value for key, value in released.items() if not key.endswith("num_batches_tracked")}
    torch.save(released, tmp_path / "densenet121.pth")
    loaded = build_network("densenet121", 0, tmp_path / "densenet121.pth").state_dict()
    assert all(torch.equal(value, full[key]) for key, value in loaded.items())
