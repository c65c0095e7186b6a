"""What `layerwise` costs on one GPU, against the bare forward pass: time and memory."""

import time
import warnings

import torch
import torchvision

import probe
from tests.benchmarks.timing import compare, forward_pass, report

NETS = ("resnet18", "resnet50", "vit_b_16", "convnext_tiny")
BATCH = 128
_LONGEST = 200  # seconds, after which no further net is begun


def run(n_images: int = 1024, repetitions: int = 3) -> None:
    """Batches of 128 that lie on the GPU, one stimulus, scoring included; in float32 with TF32, and in bfloat16."""
    if not torch.cuda.is_available():
        print("gpu: none at hand, nothing measured")
        return
    warnings.simplefilter("ignore", probe.ProbeWarning)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    print(f"gpu: {torch.cuda.get_device_name()}, {n_images} images of 224 × 224, batches of {BATCH}")
    start = time.monotonic()
    try:
        for name in NETS:
            for dtype in (torch.float32, torch.bfloat16):
                if time.monotonic() - start > _LONGEST:
                    print(f"gpu: {name} in {dtype} left out, after {_LONGEST} s")
                    continue
                _compare(name, dtype, n_images, repetitions)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _compare(name: str, dtype: torch.dtype, n_images: int, repetitions: int) -> None:
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval().cuda().to(dtype)
    images = torch.randn(n_images, 3, 224, 224, device="cuda", dtype=dtype)
    options = {"batch_size": BATCH, "stimuli": "natural", "progress": False}
    forward = forward_pass(model, images, batch_size=BATCH)
    plain = _peak(forward)
    peak = _peak(lambda: probe.layerwise(model, images, **options))
    ratio, ratios = compare(forward, lambda: probe.layerwise(model, images, **options), repetitions)
    report(f"layerwise on a GPU, {name}, {dtype}", ratio, ratios, "aim ≤ 1.2")
    ratio, ratios = compare(forward, lambda: probe.collect(model, images, **options), repetitions)
    report("  collect alone, without scoring, maps besides", ratio, ratios, "")
    print(f"  peak memory: {peak / 1e9:.2f} GB, of the forward pass {plain / 1e9:.2f} GB", flush=True)


def _peak(function) -> int:
    """Return the bytes that are taken at most, besides what is taken already."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
