"""How far the default number of positions is from every position, on real images."""

import tempfile
import warnings
import zipfile
from pathlib import Path

import torch
import torchvision
from torchvision.transforms import v2

import probe

IMAGES = Path(__file__).parents[2].parent / "shared" / "data" / "imagenet-sample-500.zip"
TRANSFORM = v2.Compose(
    [
        v2.Resize(256),
        v2.CenterCrop(224),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


def largest_difference(model: torch.nn.Module, folder: str) -> float:
    options = {"transform": TRANSFORM, "progress": False}
    sampled = probe.layerwise(model, folder, **options)
    every = probe.layerwise(model, folder, positions=None, **options)
    return abs(sampled.r2 - every.r2).max().item()


def run() -> None:
    if not IMAGES.exists():
        print("sampling: no images at hand")
        return
    warnings.simplefilter("ignore", probe.ProbeWarning)
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(IMAGES).extractall(folder)
        for name in ("resnet18", "vit_b_16"):
            torch.manual_seed(0)
            difference = largest_difference(torchvision.models.get_model(name, weights=None), folder)
            print(f"largest |Δr2| of positions='auto', {name}, 500 images: {difference:.4f}; required ≤ 0.02")
