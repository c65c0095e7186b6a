"""What ranking channels by flip and by shift costs, against the bare forward pass."""

import warnings

import torch
import torchvision

import probe
from tests.benchmarks.timing import compare, forward_pass, report


def run(n_images: int = 128, repetitions: int = 3) -> None:
    warnings.simplefilter("ignore", probe.ProbeWarning)
    torch.manual_seed(0)
    model = torchvision.models.resnet50(weights=None).eval()
    images = torch.randn(n_images, 3, 224, 224)
    forward = forward_pass(model, images, batch_size=32)
    for method in ("flip", "shift"):
        ratio, ratios = compare(
            forward,
            lambda method=method: probe.rank_channels(model, images, "layer4", method=method, progress=False),
            repetitions,
        )
        report(f"rank_channels by {method}, resnet50, {n_images} images", ratio, ratios, "required ≤ 2.2")
