"""What several test files share."""

import fcntl
import gc
import os
import pickle
import random
import struct
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from probe.analyses.studies import find_study
from probe.reports.page import blocks
from tests.every_kind import made_of_every_kind
from tests.overviews import made_overview

BLANK = {
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="72pt"/>',
    "png": b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 192, 192),
}


def state_of(model):
    """Everything that a caller could find changed in a model: values, places, modes, hooks, attributes."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "values": {name: tensor.detach().clone() for name, tensor in tensors.items()},
        "tensors": {
            name: (id(t), t.device, t.dtype, t.stride(), t.requires_grad, t.grad is None) for name, t in tensors.items()
        },
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": {
            (name, kind): list(hooks.items())
            for name, module in model.named_modules()
            for kind, hooks in vars(module).items()
            if "hooks" in kind and isinstance(hooks, dict)
        },
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
    }


def state_of_process():
    """The random states, and what else of the process a measurement could change."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the user's own state
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state().tolist(),
        "cuda": [state.tolist() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_initialized() else [],
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
        "matplotlib": dict.copy(matplotlib.rcParams),
        "hooks": {
            kind: list(hooks.items())
            for kind, hooks in vars(torch.nn.modules.module).items()
            if "_hooks" in kind and isinstance(hooks, dict)
        },
    }


def files_in(folder):
    """The bytes of every file below a folder, hidden ones as well."""
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def pytest_collection_modifyitems(items):
    """Run the longest tests first, so that no worker is left with one of them when the others have ended."""
    items.sort(key=lambda item: "test_real_models" not in item.nodeid)


def pytest_collection_finish():
    """Spare the garbage collector what collecting the tests made, which stays until the end: a tenth of all time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def one_thread():
    """Tiny nets run faster in one thread, above all beside other programs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Something by its name, made by whichever worker asks first, in one thread, and kept for the others."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def once(name, make):
        kept = folder / f"{name}.pickle"
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                threads = torch.get_num_threads()
                torch.set_num_threads(1)
                made = make()
                torch.set_num_threads(threads)
                kept.write_bytes(pickle.dumps(made))
        return pickle.loads(kept.read_bytes())

    return once


@pytest.fixture(scope="session")
def tiny_study(once):
    """The tiny preset of a study by its name."""
    return lambda name: once(f"tiny-{name}", lambda: find_study(name).run(preset="tiny", progress=False))


@pytest.fixture(scope="session")
def tiny_comparison(once):
    """The tiny preset of the comparison of paddings: three paddings, two seeds."""
    options = {"paddings": ["zeros", "valid", "circular"], "seeds": 2, "command": "probe report", "progress": False}
    return once("tiny-comparison", lambda: find_study("padding_comparison").run(preset="tiny", **options))


@pytest.fixture(scope="session")
def overview(once):
    """All that can be told of a small classifier, beside its untrained twin, on few images."""
    return once("overview", made_overview)


@pytest.fixture(scope="session")
def made(once):
    """A result of each kind."""
    return once("every-kind", made_of_every_kind)


@pytest.fixture(scope="session")
def python():
    """Run Python in a process of its own."""

    def start(*arguments, cwd=None, timeout=60):
        return subprocess.run(
            [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=timeout
        )

    return start


@pytest.fixture
def left_as_found(tmp_path):
    """A context that checks, however its block ends, that models, the process and `tmp_path` are as before."""

    @contextmanager
    def check(*models):
        models_before = [state_of(model) for model in models]
        process_before, files_before = state_of_process(), files_in(tmp_path)
        try:
            yield
        finally:
            for model, before in zip(models, models_before, strict=True):
                after = state_of(model)
                values_before, values = before.pop("values"), after.pop("values")
                assert after == before
                torch.testing.assert_close(values, values_before, rtol=0, atol=0, equal_nan=True)
            assert state_of_process() == process_before
            assert files_in(tmp_path) == files_before

    return check


@pytest.fixture
def undrawn(monkeypatch):
    """Pages whose figures are made and not drawn, which takes most of a page's time and is in none of its texts."""
    monkeypatch.setattr(blocks, "_render", lambda figure, image_format, **metadata: BLANK[image_format])


@pytest.fixture
def drawn_on_nothing(monkeypatch):
    """Pages whose figures are laid out and drawn with all their warnings and errors, but once and into no file."""

    def draw(figure, image_format, **metadata):
        figure.draw_without_rendering()
        return BLANK[image_format]

    monkeypatch.setattr(blocks, "_render", draw)
