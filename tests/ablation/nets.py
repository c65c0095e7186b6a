"""Small nets whose layers are ablated, and the plain loop over settings."""

import numpy as np
import torch
from torch import nn

import probe
from probe.ablation.plans import plan_removals
from probe.testing import noise_images

WIDTH = 12


ORDER = np.random.default_rng(1).permutation(WIDTH)


IMAGES = noise_images(10, 8)


COUNTS = [2, 7]


QUICK = {"counts": COUNTS, "draws": 3, "controls": ["random"], "progress": False}


def seeded(make):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return make().double().eval()


class Plain(nn.Module):
    def __init__(self, norm=nn.Identity):
        super().__init__()
        self.first = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.norm = norm()
        self.second = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.last = nn.Conv2d(WIDTH, 5, 1)

    def forward(self, images):
        return {"out": self.last(self.second(self.norm(self.first(images)).relu()).relu()).mean(dim=(2, 3))}


class Residual(nn.Module):
    """The layer `inner` is bypassed by a sum."""

    def __init__(self):
        super().__init__()
        self.outer = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.block = nn.ModuleDict({"inner": nn.Conv2d(WIDTH, WIDTH, 3, padding=1)})
        self.last = nn.Conv2d(WIDTH, 5, 1)

    def forward(self, images):
        maps = self.outer(images).relu()
        maps = maps + self.block["inner"](maps).relu()
        return self.last(maps).mean(dim=(2, 3))


def largest(output):
    return output.amax(dim=1)


def loop(model, layer, mode="zero", batch_size=20, draws=3):
    """The score of every setting, by the plain loop over whole batches."""

    def score(removed):
        with torch.no_grad(), probe.ablate(model, {layer: np.flatnonzero(removed)}, mode=mode):
            outputs = [model(batch) for batch in IMAGES.double().split(batch_size)]
        return torch.cat([o["out"] if isinstance(o, dict) else o for o in outputs]).amax(dim=1).mean().item()

    plan = plan_removals(ORDER, COUNTS, draws, 0, None)
    return {name: np.apply_along_axis(score, -1, removed) for name, removed in plan.items()}
