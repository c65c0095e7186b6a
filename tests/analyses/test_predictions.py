"""What a model predicts, and the labels that images come with."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from probe.analyses.predictions import Predictions, find_labels, predict, rolled_agreement
from probe.reading.options import Options
from probe.testing import noise_images

IMAGES = torch.arange(12.0).reshape(12, 1, 1, 1).expand(12, 3, 4, 4) / 12


class Steps(nn.Module):
    """Calls the first images of class 0, and those brighter than a bound of class 1."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = images.mean(dim=(1, 2, 3)) - self.bound
        return torch.stack([-bright, bright], dim=1)


def test_shares_of_another_model():
    options = Options(progress=False)
    own = Predictions.of(Steps(0.49), IMAGES, options, [0] * 3 + [1] * 9)
    assert own.intact == pytest.approx({"agreement_with_own": 1, "commonest_share": 0.5, "accuracy": 0.75})
    assert own.chance == pytest.approx({"agreement_with_own": 0.5, "accuracy": 0.75})
    found = own.compare(Steps(0.24), IMAGES, options)
    assert found == pytest.approx({"agreement_with_own": 0.75, "commonest_share": 0.75, "accuracy": 1})


def test_of_what_is_no_classifier_there_are_none():
    own = Predictions.of(nn.Conv2d(3, 4, 3), IMAGES, Options(progress=False), None)
    assert len(own.numbers) == 0 and own.intact == {} and own.compare(Steps(0.5), IMAGES, Options(progress=False)) == {}


def test_the_folders_of_a_folder_are_the_classes_where_there_are_as_many(tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.new("RGB", (4, 4)).save(tmp_path / name / f"{number}.png")
    assert find_labels(tmp_path, 3).tolist() == [0, 0, 1, 1, 2, 2]
    assert find_labels(tmp_path, 10) is None
    Image.new("RGB", (4, 4)).save(tmp_path / "loose.png")
    assert find_labels(tmp_path, 3) is None


class Mean(nn.Module):
    def forward(self, images):
        return torch.cat([images.mean((2, 3)), -images.mean((2, 3))], dim=1)


class Corner(nn.Module):
    """Predicts the sign of one pixel, which a shift moves."""

    def forward(self, images):
        return torch.stack([images[:, 0, 0, 0], -images[:, 0, 0, 0]], dim=1)


def test_agreement_at_two_rolls():
    images = noise_images(400, size=8)[:, :1]
    options = Options(batch_size=64)
    assert rolled_agreement(Mean(), images, options) == 1
    assert rolled_agreement(Corner(), images, options) == pytest.approx(0.5, abs=0.08)


def test_agreement_needs_logits():
    images = noise_images(10, size=8)
    assert np.isnan(rolled_agreement(nn.Conv2d(3, 4, 3), images, Options()))


def test_many_images_are_predicted_in_parts():
    images = noise_images(600, size=2)[:, :1]
    model, seen = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)), []
    nn.init.normal_(model[1].weight, generator=torch.Generator().manual_seed(0))
    model.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    with torch.no_grad():
        expected = (images.flatten(1) @ model[1].weight.T).argmax(1)
    assert torch.equal(predict(model, images), expected)
    assert max(seen) < 600 == sum(seen)
