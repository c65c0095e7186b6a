"""What nearest neighbours cost: images a second, against the bare forward pass."""

import timm
import torch
import torchvision

import probe
from tests.benchmarks.timing import compare, forward_pass, report

LAYERS = {"resnet50": ["layer3", "layer4"], "vit_small_patch16_224": ["blocks.5", "blocks.11"]}


def run(n_images: int = 128, repetitions: int = 3) -> None:
    for name, layers in LAYERS.items():
        torch.manual_seed(0)
        make = torchvision.models.get_model if hasattr(torchvision.models, name) else timm.create_model
        model = make(name).eval()
        images = torch.randn(n_images, 3, 224, 224)
        forward = forward_pass(model, images, batch_size=32)
        ratio, ratios = compare(
            forward,
            lambda model=model, images=images, layers=layers: probe.neighbours(model, images, layers, progress=False),
            repetitions,
        )
        report(
            f"neighbours, {name}, {len(layers)} layers, {n_images} images, natural and rolled", ratio, ratios,
            f"{1 / ratio:.2f} of its images a second; two passes alone are 2",
        )  # fmt: skip
