"""What shifting an object over a frame costs: shifts per second against the bare forward pass over ready frames."""

import statistics

import torch
import torchvision

import probe
from tests.benchmarks.timing import compare, forward_pass

FRAME = 225
LAYERS = {
    "resnet50": ["layer1", "layer4", "avgpool"],
    "resnet18": ["layer1", "layer4", "avgpool"],
    "mobilenet_v2": ["features"],
    "alexnet": ["classifier.1", "classifier.4", "classifier.6"],
}


def run(repetitions: int = 3) -> None:
    """Frames of the published size; on a CPU an object so large that a part of the published shifts is left."""
    has_gpu = torch.cuda.is_available()
    batch_size, n_positions = (256, 105) if has_gpu else (32, 16)
    for name, layers in LAYERS.items():
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, weights=None).eval().to("cuda" if has_gpu else "cpu")
        item = torch.randn(1, 3, FRAME + 1 - n_positions, FRAME + 1 - n_positions)
        ready = torch.randn(n_positions**2, 3, FRAME, FRAME).to("cuda" if has_gpu else "cpu")
        forward = forward_pass(model, ready, batch_size)

        def shift(model=model, item=item, layers=layers) -> None:
            probe.shift_similarity(model, item, layers, frame=FRAME, batch_size=batch_size, progress=False)

        shift()
        _, ratios = compare(forward, shift, repetitions)
        speeds = ", ".join(f"{1 / ratio:.3f}" for ratio in ratios)
        print(
            f"{n_positions**2} shifts of one object, {name}, {len(layers)} layers: "
            f"{1 / statistics.median(ratios):.3f} of the forward pass's frames per second (of {speeds}); aim ≥ 0.9",
            flush=True,
        )
