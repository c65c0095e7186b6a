"""What a model predicts, and the labels that images come with."""

import pytest
import torch
from PIL import Image
from torch import nn

from probe.analyses.predictions import Predictions, find_labels
from probe.reading.options import Options

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
