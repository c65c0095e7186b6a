"""What the tests of the command share: how it is run, a folder of images, and nets of a user's own."""

import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from probe.command.main import main

SIZE = 32
WIDTH = 37
COUNT = 24

NETS = """
import pathlib, sys, time
import torch
from torch import nn
from probe.testing import padded_net

def small():
    return padded_net(depth=2)

def classifier():
    return nn.Sequential(small(), nn.AdaptiveMaxPool2d(1), nn.Flatten())

def strided():
    return nn.Sequential(padded_net(depth=1), nn.MaxPool2d(2), nn.Conv2d(16, 8, 3, padding=1))

def tokens():
    from torchvision.models import VisionTransformer
    return VisionTransformer(32, 8, 1, 2, 16, 16, num_classes=2)

def recorded():
    pathlib.Path("made").touch()
    return small()

class Broken(nn.Module):
    def forward(self, images):
        raise ZeroDivisionError("one over nothing")

def broken():
    return Broken()

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        pathlib.Path("running").touch()
        time.sleep(60)
        return self.conv(images)

def slow():
    return Slow()

class Invalid(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return self.conv(images / 0)

def invalid():
    return Invalid()

def number():
    return 3
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Nets this small run no faster on several threads, and far slower where these must share processors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def run():
    """Run a command in this process, as on a terminal of 120 columns."""
    runner = CliRunner(env={"COLUMNS": "120"})
    return lambda *arguments: runner.invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def measured(run):
    """Run a command that must succeed without a word on stderr but warnings."""

    def measure(*arguments):
        outcome = run(*arguments, "--quiet")
        assert outcome.exit_code == 0, outcome.stderr
        assert all(line.startswith("warning: ") for line in outcome.stderr.splitlines())
        return outcome

    return measure


@pytest.fixture(scope="module")
def pixels():
    """Images whose shorter side is as long as nets are shown, so that they are cropped and not resized."""
    return np.random.default_rng(0).integers(256, size=(COUNT, SIZE, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def photos(pixels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """The current folder, with a module `cli_nets`."""
    (tmp_path / "cli_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "cli_nets", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path
