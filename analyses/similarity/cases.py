"""The networks of the study of similarity, plain and anti-aliased, each with the objects that it is shown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from probe.analyses.data.digits import CANVAS, digit_batches, load_digits
from probe.analyses.data.photographs import sample_crops, square_images
from probe.analyses.nets import small_net
from probe.analyses.training import side_by_side, train
from probe.images.rows import Transform, as_tensor
from probe.variants.sampling import with_sampling

__all__ = ["PRESETS", "VARIANTS", "Case", "Preset", "black", "given_cases", "published_cases"]

VARIANTS = ("plain", "anti-aliased")

_FEATURES = {
    "alexnet": {"alexnet fc6": "classifier.1", "alexnet fc7": "classifier.4", "alexnet fc8": "classifier.6"},
    "resnet18": {"resnet18": "avgpool"},
    "resnet50": {"resnet50": "avgpool"},
    "mobilenet_v2": {"mobilenet_v2": "features.18.2"},
}
_DIGITS = "small net, trained on digits"
_MEAN, _DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@dataclass(frozen=True)
class Preset:
    """Which networks, how large the frame and the objects in it (pixels), and how long small networks are trained."""

    nets: Sequence[str]
    frame: int
    sizes: Mapping[str, int]
    n_objects: int
    seeds: int
    steps: int


PRESETS = {
    "tiny": Preset(("mobilenet_v2",), 36, {"large": 32, "small": 30}, n_objects=2, seeds=2, steps=4),
    "quick": Preset(
        ("alexnet", "resnet18", "mobilenet_v2"), 65, {"large": 35, "small": 17}, n_objects=2, seeds=3, steps=220
    ),
    "paper": Preset(
        ("alexnet", "resnet50", "mobilenet_v2"), 225, {"large": 121, "small": 61}, n_objects=20, seeds=3, steps=220
    ),
}


@dataclass(frozen=True)
class Case:
    """A network in one of its variants, and an object size, to be measured together."""

    net: str
    variant: str
    size: str
    seed: int
    model: nn.Module
    objects: Tensor
    layers: Mapping[str, str]
    frame: int
    background: Sequence[float] | float


def black(transform: Transform, size: int) -> list[float]:
    """Return black in the units of a model, one value a channel."""
    return as_tensor(transform(Image.new("RGB", (size, size)))).float().mean(dim=(1, 2)).tolist()


def given_cases(
    model: nn.Module,
    blurred: nn.Module | None,
    layers: Sequence[str],
    images: Any,
    transform: Transform | None,
    background: float | Sequence[float],
    settings: Preset,
    n_objects: int,
) -> Iterator[Case]:
    """Yield a model of one's own, and its anti-aliased counterpart if there is one; see `study.run`."""
    name = type(model).__name__
    names = {f"{name} {layer}": layer for layer in layers}
    for variant, network in zip(VARIANTS, (model, blurred), strict=True):
        if network is None:
            continue
        for size, pixels in settings.sizes.items():
            objects = _objects(images, pixels, n_objects, transform)
            yield Case(name, variant, size, 0, network, objects, names, settings.frame, background)


def _objects(images: Any, size: int, count: int, transform: Transform | None = None) -> Tensor:
    if images is None:
        return sample_crops(count, size=size)
    return square_images(images, size=size, max_images=count, transform=transform)


def published_cases(images: Any, settings: Preset, n_objects: int, seeds: int) -> Iterator[Case]:
    """Yield the networks of the study with random weights, and small ones trained on digits."""
    frame, background = settings.frame, (-_MEAN / _DEVIATION).tolist()
    objects = {
        size: (_objects(images, pixels, n_objects) - _MEAN[:, None, None]) / _DEVIATION[:, None, None]
        for size, pixels in settings.sizes.items()
    }
    for seed in range(seeds):
        for net in settings.nets:
            with torch.random.fork_rng([]):
                torch.manual_seed(seed)
                plain = torchvision.models.get_model(net, weights=None).eval()
            for variant, network in zip(
                VARIANTS, (plain, with_sampling(plain, "blur", from_pixels=False)), strict=True
            ):
                for size in settings.sizes:
                    yield Case(net, variant, size, seed, network, objects[size], _FEATURES[net], frame, background)
    yield from _digit_cases(settings, n_objects, seeds)


def _digit_cases(settings: Preset, n_objects: int, seeds: int) -> Iterator[Case]:
    """Train small networks on digits, plain and anti-aliased, and yield them with held-out digits as objects."""
    training, held_out = load_digits()
    nets = {}
    with side_by_side() as pool:
        for seed in range(seeds):
            plain = small_net(seed=seed)
            for variant, net in zip(VARIANTS, (plain, with_sampling(plain, "blur", from_pixels=True)), strict=True):
                batches = digit_batches(training, steps=settings.steps, batch_size=64, seed=seed)
                nets[variant, seed] = net, pool.submit(train, net, batches, steps=settings.steps)
        for _, done in nets.values():
            done.result()
    for (variant, seed), (net, _) in nets.items():
        digits = held_out.strokes[:n_objects, None]
        yield Case(_DIGITS, variant, "large", seed, net, digits, {_DIGITS: "mean"}, CANVAS, 0.0)
