"""Groups of processes that fork from one, which has loaded all: python -m tests.reading.groups FOLDER.

What a rank returns is pickled as FOLDER/NAME-WORLD-RANK.pickle, or what it raised.
"""

import os
import pickle
import signal
import sys
import traceback
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import xarray as xr
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import probe
from probe.testing import noise_images, padded_net

IMAGES = noise_images(13, 8).double()
REORDERED = torch.cat([IMAGES[:1], IMAGES[1:].flip(0)])
LABELLED = TensorDataset(IMAGES + 1, torch.arange(13) % 4)
OPTIONS = {"batch_size": 3, "progress": False}


class Rows(IterableDataset):
    """The first images and their labels, one after the other."""

    def __init__(self, count=13):
        self.count = count

    def __iter__(self):
        yield from zip(IMAGES[: self.count] + 1, (torch.arange(13) % 4).tolist()[: self.count], strict=True)


class Net(nn.Module):
    """With a layer that is kept as what it is made of, and a failure of one rank's own in its second batch."""

    def __init__(self, dtype=torch.float64, failure=None):
        super().__init__()
        self.body = padded_net("zeros", depth=2, width=4)
        with torch.random.fork_rng([]):
            torch.manual_seed(3)
            self.wide = nn.Conv2d(4, 16, 1)
        self.to(dtype)
        self.failure, self.left = failure, 3

    def forward(self, images):
        self.left -= len(images) > 2
        if self.failure is not None and self.left == 0:
            self.failure()
        return self.wide(self.body(images))


class Classes(nn.Module):
    """Of four classes."""

    def __init__(self):
        super().__init__()
        self.body = padded_net("zeros", depth=3, width=4).double()

    def forward(self, images):
        return self.body(images).amax(dim=(2, 3))


def curve(images=LABELLED, **options):
    return probe.ablation_curve(
        Classes(), images, [2, 0, 3, 1], layer="body.relu1", counts=[1, 2], draws=2, folds=3, **OPTIONS, **options
    )


def rank(method, images=IMAGES):
    return probe.rank_channels(Classes(), images, "body.relu2", method=method, folds=3, **OPTIONS)


def sums_of_two():
    """The sums of two images, which leave a third rank without any, about one pilot."""
    statistics = probe.collect(Net(), IMAGES[:2], folds=3, positions=9, **OPTIONS)
    for gram in statistics.grams.values():
        gram.kept.move_pilot(torch.zeros_like(gram.kept.pilot))
    sums = {" ".join(key): gram.upper(range(3)).triu().numpy() for key, gram in statistics.grams.items()}
    return xr.Dataset({name: (("row " + name, "column " + name), values) for name, values in sums.items()})


EQUAL = {
    "layerwise": lambda: probe.layerwise(Net(), IMAGES, positions=20, maps=["wide", "input"], folds=3, **OPTIONS),
    "layerwise in single": lambda: probe.layerwise(Net(torch.float32), IMAGES.float(), folds=3, **OPTIONS),
    "layerwise of groups": lambda: probe.layerwise(Net(), IMAGES, groups=list("aabbccddeeffg"), folds=3, **OPTIONS),
    "layerwise of some": lambda: probe.layerwise(
        Net(), TensorDataset(IMAGES), max_images=9, folds=3, stimuli=("noise", "constant", "rolled"), **OPTIONS
    ),
    "layerwise of a stream": lambda: probe.layerwise(Net(), Rows(), positions=20, folds=3, **OPTIONS),
    "collect of a generator of batches": lambda: probe.channelwise(
        probe.collect(Net(), iter(IMAGES.split(5)), max_images=12, groups=list("eeaabbccddffg"), folds=3, **OPTIONS)
    ),
    "channelwise": lambda: probe.channelwise(Net(), IMAGES, folds=3, maps="wide", **OPTIONS),
    "collect": lambda: probe.channelwise(probe.collect(Net(), IMAGES, folds=3, **OPTIONS)),
    "collect of two": sums_of_two,
    **{name: lambda name=name: rank(name) for name in ("flip", "omega2", "readout", "attribution")},
    "attribution of a stream": lambda: rank("attribution", Rows()),
    "ablation of a stream": lambda: curve(Rows(), score="accuracy", controls=["random", "matched"]),
    "ablation": lambda: curve(score=["accuracy", "agreement"], controls=["random", "matched"]),
    "ablation of position": lambda: curve(score="position"),
    "ablation by other images": lambda: curve(score=["accuracy", "position"], mode="resample", max_images=12),
}


FEW = ["layerwise", "layerwise of a stream", "collect of two", "flip"]
"""In groups of one and of three."""


def fail():
    if dist.get_rank() == 1:
        raise ZeroDivisionError("one over nothing")


def be_killed():
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def other(first, second):
    return second if dist.get_rank() == 1 else first


FAULTS = {
    "raises": lambda: probe.layerwise(Net(failure=fail), IMAGES, folds=3, **OPTIONS),
    "killed": lambda: probe.layerwise(Net(failure=be_killed), IMAGES, folds=3, **OPTIONS),
    "other seed": lambda: probe.layerwise(Net(), IMAGES, folds=3, seed=other(0, 1), **OPTIONS),
    "other alpha": lambda: probe.layerwise(Net(), IMAGES, folds=3, alpha=other(1e-3, 1e-2), **OPTIONS),
    "other images": lambda: probe.collect(Net(), other(IMAGES, IMAGES + 1), folds=3, **OPTIONS),
    "fewer images": lambda: probe.channelwise(Net(), other(IMAGES, IMAGES[:12]), folds=3, **OPTIONS),
    "another order": lambda: probe.collect(Net(), other(IMAGES, REORDERED), folds=3, **OPTIONS),
    "another order of a stream": lambda: probe.collect(Net(), iter(other(IMAGES, REORDERED)), positions=20, **OPTIONS),
    "other model": lambda: probe.collect(other(Net(), Net(torch.float32)), IMAGES, folds=3, **OPTIONS),
    "other layer": lambda: probe.rank_channels(Net(), IMAGES, other("body.conv1", "body.conv2"), **OPTIONS),
    "a loader": lambda: probe.collect(Net(), DataLoader(LABELLED, batch_size=3), **OPTIONS),
    "a split stream": lambda: probe.collect(Net(), iter(other(IMAGES[:7], IMAGES[7:])), **OPTIONS),
    "a shorter stream": lambda: probe.collect(Net(), Rows(other(13, 12)), positions=20, **OPTIONS),
    "a shard": lambda: probe.collect(Net(), IMAGES, shard=(1, 2), **OPTIONS),
}


def as_found(work):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", probe.ProbeWarning)
            return work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def run_group(folder, name, world, work):
    """Fork a group, and wait for it. A rank whose work raised ends without a word to the others."""
    children = []
    for place in range(world):
        child = os.fork()
        if child:
            children.append(child)
            continue
        try:
            dist.init_process_group("gloo", init_method=f"file://{folder}/{name}-{world}", rank=place, world_size=world)
            found = work()
            with (folder / f"{name}-{world}-{place}.pickle").open("wb") as file:
                pickle.dump(found, file)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    as_found(EQUAL["channelwise"])  # loads what would be loaded by each
    for size, names in ((2, list(EQUAL)), (1, FEW), (3, FEW)):
        run_group(target, "equal", size, lambda names=names: {name: as_found(EQUAL[name]) for name in names})
    for fault, broken in FAULTS.items():
        run_group(target, fault, 2, lambda broken=broken: as_found(broken))
