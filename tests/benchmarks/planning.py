"""What `probe plan` predicts beside a real run on as many images, in one process and in two ranks."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

_ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
_PROBE = [sys.executable, "-m", "probe"]
_TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]


def _write_images(folder: Path, n_images: int) -> None:
    generator = np.random.default_rng(0)
    for number in range(n_images):
        noise = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number:06d}.png")


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, env=_ONE_THREAD, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def run(model: str = "resnet18", n_images: int = 2000) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_images(folder, n_images)
        for n_ranks in (1, 2):
            asked = ["plan", model, "--images", str(n_images), "--gpus", str(n_ranks), "--json", "--quiet"]
            found = subprocess.run([*_PROBE, *asked], check=True, env=_ONE_THREAD, stdout=subprocess.PIPE).stdout
            planned = json.loads(found)["wall_s"]
            measure = ["layerwise", model, "--images", name, "-o", f"{name}/{n_ranks}.nc", "--quiet"]
            runner = _PROBE if n_ranks == 1 else [*_TORCHRUN, str(n_ranks), "-m", "probe"]
            real = _seconds([*runner, *measure])
            print(
                f"plan, {model}, {n_images} images, {n_ranks} ranks of one thread each: predicted {planned:.0f} s, "
                f"measured {real:.0f} s with Python's start and files to read; error {planned / real - 1:+.1%}",
                flush=True,
            )
