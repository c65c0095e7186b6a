"""What share of a run the writing of its checkpoints takes: all 53 convolutions of a ResNet-50, both stimuli."""

import tempfile
import time
import warnings
from pathlib import Path
from unittest import mock

import torch
import torchvision

import probe
from probe.reading import checkpoints


def run(n_images: int = 2000) -> None:
    warnings.simplefilter("ignore", probe.ProbeWarning)
    torch.manual_seed(0)
    model = torchvision.models.resnet50(weights=None).eval()
    layers = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Conv2d)]
    batch = torch.randn(32, 3, 224, 224)
    batches = (batch[: n_images - start] for start in range(0, n_images, len(batch)))
    taken: list[float] = []
    write = checkpoints.write_saved

    def timed(*args: object, **options: object) -> Path:
        start = time.perf_counter()
        path = write(*args, **options)
        taken.append(time.perf_counter() - start)
        return path

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(checkpoints, "write_saved", timed):
        start = time.perf_counter()
        path = Path(folder) / "sums.ck"
        probe.collect(model, batches, layers=layers, max_images=n_images, checkpoint=path, progress=False)
        seconds, size = time.perf_counter() - start, path.stat().st_size
    *paced, last = taken
    print(
        f"checkpoints of {size / 1e6:.0f} MB, resnet50, {n_images} images in {seconds:.0f} s: {len(paced)} on the way, "
        f"{sum(paced):.1f} s, {sum(paced) / seconds:.2%} of the run; required < 2 %; and one in the end, {last:.1f} s"
    )
