"""Random pictures, as bytes, tensors and files, and how they are opened."""

import numpy as np
import torch
from PIL import Image

from probe.images.batches import open_images

GENERATOR = np.random.default_rng(0)
BYTES = GENERATOR.integers(0, 256, (23, 12, 10, 3), dtype=np.uint8)
IMAGES = torch.from_numpy(BYTES).permute(0, 3, 1, 2).float() / 255


def opened(images, **options):
    """Open them in five folds, four at a time."""
    defaults = {
        "batch_size": 4, "num_workers": 0, "transform": None, "input_key": None, "max_images": None,
        "first_image": 0, "fold_of": lambda number, origin: number % 5,
    }  # fmt: skip
    return open_images(images, **(defaults | options))


def read_in_order(images, **options):
    """Return the images in the order of their numbers."""
    pixels = {}
    for batch in opened(images, **options):
        pixels |= dict(zip(batch.numbers, batch.pixels, strict=True))
    return [pixels[number] for number in sorted(pixels)]


def save_all(pixels, folder, count=20):
    for index in range(count):
        Image.fromarray(pixels[index]).save(folder / f"{index:02}.png")


def save_classes(folder, counts, size=(8, 8)):
    """Save folders of classes with so many images of noise each."""
    generator = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(256, size=(*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
