"""What a user would do instead: store activations, then scikit-learn's Ridge in five folds."""

import warnings

import numpy as np
import psutil
import torch
import torchvision
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchvision.models.feature_extraction import create_feature_extractor

import probe
from tests.benchmarks.timing import compare, forward_pass, report, seconds

_SHARE_OF_MEMORY = 0.5
_BYTES_AN_IMAGE = 30_000_000  # stored, and copied by scikit-learn


def stored_readouts(model: torch.nn.Module, images: torch.Tensor, layers: list[str]) -> int:
    """Fit row and column readouts on stored activations; return the bytes stored."""
    extractor = create_feature_extractor(model, layers)
    stored: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    with torch.inference_mode():
        for start in range(0, len(images), 32):
            for name, maps in extractor(images[start : start + 32]).items():
                stored[name].append(maps)
    size = 0
    for maps in (torch.cat(parts) for parts in stored.values()):
        size += maps.nbytes
        features = maps.flatten(2).transpose(1, 2).numpy()
        targets = np.stack([probe.TARGETS[name](*maps.shape[2:]).ravel() for name in ("row", "column")], axis=1)
        truth = np.broadcast_to(targets, (len(maps), *targets.shape))
        folds = np.arange(len(maps)) % 5
        for fold in range(5):
            flat = features[folds != fold].reshape(-1, features.shape[2])
            model_of_fold = make_pipeline(StandardScaler(), Ridge(1e-3 * len(flat)))
            model_of_fold.fit(flat, truth[folds != fold].reshape(-1, 2))
            model_of_fold.predict(features[folds == fold].reshape(-1, features.shape[2]))
    return size


def run(n_images: int | None = None, repetitions: int = 1) -> None:
    if n_images is None:
        n_images = int(_SHARE_OF_MEMORY * psutil.virtual_memory().available / _BYTES_AN_IMAGE)
    warnings.simplefilter("ignore", probe.ProbeWarning)
    model = torchvision.models.resnet18(weights=None).eval()
    images = torch.randn(n_images, 3, 224, 224)
    layers = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Conv2d)]
    forward = forward_pass(model, images, batch_size=32)
    sizes: list[int] = []
    ratio, ratios = compare(forward, lambda: sizes.append(stored_readouts(model, images, layers)), repetitions)
    report(f"stored activations + scikit-learn, resnet18, {n_images} images", ratio, ratios, "")
    print(f"  {sizes[0] / n_images / 1e6:.0f} MB stored an image")
    ours = seconds(
        lambda: probe.layerwise(model, images, layers=layers, stimuli="natural", positions=None, progress=False)
    )
    ratio, ratios = compare(
        forward,
        lambda: probe.layerwise(model, images, layers=layers, stimuli="natural", progress=False),
        max(3, repetitions),
    )
    report(f"layerwise, the same {n_images} images", ratio, ratios, f"every position: {ours:.1f} s")
