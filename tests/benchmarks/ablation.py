"""What `ablation_curve` costs on the backbone of a segmentation network, against one prefix and all suffixes."""

import warnings

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

import probe
from probe.ablation.performance import MeanIoU, Shown
from probe.ablation.plans import plan_removals
from tests.benchmarks.timing import compare, seconds

LAYER, N_CHANNELS = "backbone.16", 960
COUNTS, DRAWS = [50, 100, 200, 300, 400, 600], 20
BATCH_SIZE = 66


class Labelled(torch.utils.data.Dataset):
    """Noise of CamVid's size with labels: what the pixels show does not change what they cost."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(count, 3, 360, 480, generator=generator)
        self.labels = torch.randint(0, 12, (count, 360, 480), generator=generator)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]


def prefix_and_suffixes(model: nn.Module, images: Tensor, n_settings: int) -> None:
    """Run the backbone once, and what follows it for every setting, in the batches that `ablation_curve` makes."""
    with torch.inference_mode():
        for image in images.split(1):
            maps = model.backbone(image.contiguous(memory_format=torch.channels_last))["out"]
            for size in map(len, np.array_split(np.arange(n_settings), -(-n_settings // BATCH_SIZE))):
                copies = torch.cat([maps] * size)
                functional.interpolate(model.classifier(copies), images.shape[2:], mode="bilinear", align_corners=False)


def plain_loop(model: nn.Module, rows: Labelled, settings: np.ndarray) -> None:
    """Run the whole model for every setting, and score it."""
    score = MeanIoU()
    with torch.inference_mode():
        for removed in settings:
            with probe.ablate(model, {LAYER: np.flatnonzero(removed)}):
                for start in range(0, len(rows), BATCH_SIZE):
                    images, labels = rows[slice(start, start + BATCH_SIZE)]
                    output = model(images.contiguous(memory_format=torch.channels_last))["out"]
                    score.amounts(Shown({"natural": output}, list(labels), list(range(len(labels))), (360, 480), 0))


def run(n_images: int = 20, repetitions: int = 1) -> None:
    warnings.simplefilter("ignore", probe.ProbeWarning)
    torch.manual_seed(0)
    model = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=11, aux_loss=False
    ).eval()
    rows = Labelled(n_images)
    order = np.random.default_rng(0).permutation(N_CHANNELS)
    plan = plan_removals(order, COUNTS, DRAWS, 0, None)
    settings = np.concatenate([plan[name].reshape(-1, N_CHANNELS) for name in ("top", "bottom", "random")])
    sharing: list[str] = []

    def curve() -> None:
        result = probe.ablation_curve(
            model, rows, order, layer=LAYER, score="miou", counts=COUNTS, draws=DRAWS, controls="random",
            batch_size=BATCH_SIZE, progress=False,
        )  # fmt: skip
        sharing.append(result.sharing)

    ratio, ratios = compare(lambda: prefix_and_suffixes(model, rows.images, len(settings)), curve, repetitions)
    spread = ", ".join(f"{value:.3f}" for value in ratios)
    print(
        f"ablation_curve, {len(settings)} settings of {LAYER}, {n_images} images: {ratio:.3f} × one prefix and all "
        f"suffixes (of {spread}); required ≤ 1.15; {sharing[0]}",
        flush=True,
    )
    part = settings[:: len(settings) // 12]
    speed_up = seconds(lambda: plain_loop(model, rows, part)) * len(settings) / len(part) / seconds(curve)
    print(f"  the plain loop, from {len(part)} settings: {speed_up:.2f} × the time of ablation_curve")
