"""Models and images that do not go together: what is wrong, and the cure."""

import pytest
import torch
import torchvision

import probe
from probe.errors import ImagesError, ModelError
from probe.models.survey import survey
from probe.testing import noise_images

IMAGES = noise_images(4, size=16)


def test_a_model_of_signals_is_refused_by_name():
    net = torch.nn.Sequential(torch.nn.Conv1d(3, 4, 3), torch.nn.ReLU())
    expected = r"model: signals of one axis are not supported, and Sequential takes them: 0 \(Conv1d\): RuntimeError"
    with pytest.raises(ModelError, match=expected):
        probe.list_layers(net, IMAGES)
    with pytest.raises(ModelError, match=expected):
        probe.audit(net, (3, 16, 16))


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: torchvision.models.VisionTransformer(16, 4, 1, 2, 8, 16), r"image_size=8, --model-args image_size=8"),
        (
            lambda: pytest.importorskip("timm").create_model(
                "vit_tiny_patch16_224", img_size=16, patch_size=4, depth=1
            ),
            r"img_size=8, --model-args img_size=8",
        ),
    ],
    ids=["torchvision", "timm"],
)
def test_images_of_another_size_than_the_one_taken_are_told_both_cures(make, cure):
    with pytest.raises(ImagesError, match=rf"those of 8×8 .*16.*--size of the command. .*{cure} of the command"):
        survey(make().eval(), noise_images(1, 8))


def test_the_cure_of_oblong_images_is_not_said_of_the_command():
    net = torchvision.models.VisionTransformer(16, 4, 1, 2, 8, 16).eval()
    with pytest.raises(ImagesError, match=r"[^!]\. Show the size .*with image_size=\(16, 8\)\.$"):
        survey(net, noise_images(1, 16)[..., :8])
