"""What `layerwise` costs on all 53 convolutions of a ResNet-50, against the bare forward pass."""

import warnings

import torch
import torchvision

import probe
from tests.benchmarks.timing import compare, forward_pass, report

STAGES = ["layer1.2.conv3", "layer2.3.conv3", "layer3.5.conv3", "layer4.2.conv3"]
TARGETS = {512: "required ≤ 1.45, aim 1.25", 2000: "required ≤ 1.2, aim 1.1"}


def run(n_images: int = 512, repetitions: int = 3) -> None:
    warnings.simplefilter("ignore", probe.ProbeWarning)
    torch.manual_seed(0)
    model = torchvision.models.resnet50(weights=None).eval()
    images = torch.randn(n_images, 3, 224, 224)
    layers = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Conv2d)]
    options = {"stimuli": "natural", "progress": False}
    forward = forward_pass(model, images, batch_size=32)
    # As for the forward pass, what memory costs that is touched for the first time is not counted.
    probe.layerwise(model, images[:64], layers=layers, **options)
    ratio, ratios = compare(forward, lambda: probe.layerwise(model, images, layers=layers, **options), repetitions)
    report(f"layerwise, resnet50, {len(layers)} layers, {n_images} images", ratio, ratios, TARGETS.get(n_images, ""))
    sampled = probe.layerwise(model, images, layers=STAGES, **options)
    every = probe.layerwise(model, images, layers=STAGES, positions=None, **options)
    print(f"  largest |Δr2| against every position, one layer a stage: {abs(sampled.r2 - every.r2).max().item():.4f}")
