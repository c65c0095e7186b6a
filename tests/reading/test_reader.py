"""A model at work on images: the user's own code, errors that say where they arose, several at once."""

import copy
import inspect
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from tqdm.auto import tqdm

import probe
from probe.ablation import later_readouts
from probe.erasing import rereading, stronger
from probe.measures import similarity
from probe.reading import reader
from probe.testing import noise_images, padded_net
from tests.lived_in import IMAGES, LivedInNet, UsersError, run, scores

pytestmark = pytest.mark.usefixtures("one_thread")


class FailingNet(nn.Module):
    """Fail at one run on a batch of so many images, counted from 0."""

    def __init__(self, size, run):
        super().__init__()
        self.layer = nn.Identity()
        self.size, self.runs_left = size, run

    def forward(self, images):
        if len(images) == self.size:
            self.runs_left -= 1
            if self.runs_left < 0:
                raise UsersError
        return self.layer(images)


class TestUsersCode:
    @pytest.mark.parametrize(
        ("size", "run_number", "note"),
        [
            (2, 0, "the first image, shape (1, 3, 8, 8)"),
            (4, 0, "images 0 to 15 (natural), shape (4, 3, 8, 8)"),
            (4, 3, "images 1 to 16 (rolled), shape (4, 3, 8, 8)"),
        ],
    )
    def test_the_note_names_the_images_and_the_stimulus(self, size, run_number, note):
        with pytest.raises(UsersError) as raised:
            run(probe.collect, FailingNet(size, run_number), layers="layer", batch_size=4)
        assert raised.value.__notes__ == [f"probe: while the model ran on {note}."]

    def test_hooks_of_the_user_run_first_and_what_they_change_is_measured(self, left_as_found):
        plain, changed = padded_net(depth=2), padded_net(depth=2)
        changed.conv1.register_forward_hook(lambda module, inputs, output: 3 * output)
        with left_as_found(changed):
            result = run(probe.channelwise, changed, maps="conv1")
        expected = run(probe.channelwise, plain, maps="conv1")
        maps = [probe.results.layer_map(r, "mean_map", "conv1") for r in (result, expected)]
        np.testing.assert_allclose(maps[0], 3 * maps[1], rtol=1e-4, atol=1e-5)

    def test_training_mode_changes_neither_results_nor_buffers(self, left_as_found):
        model = LivedInNet().train()
        with left_as_found(model):
            result = scores(model)
        assert result.identical(scores(copy.deepcopy(model).eval()))

    def test_an_input_overwritten_in_place_is_whole_for_the_next_stimulus(self):
        class Overwriting(nn.Conv2d):
            def forward(self, images):
                return super().forward(images.mul_(0).add_(1))

        grey, before = noise_images(20, 8)[:, :1].contiguous(), noise_images(20, 8)[:, :1]
        first = scores(Overwriting(1, 2, 1), grey, layers="input", stimuli=("natural", "rolled"))
        second = scores(Overwriting(1, 2, 1), grey, layers="input", stimuli=("rolled", "natural"))
        assert torch.equal(grey, before)
        assert first.sel(stimulus="rolled").identical(second.sel(stimulus="rolled"))

    def test_draws_of_the_users_code_follow_from_the_seed(self):
        class Drawing(nn.Module):
            def __init__(self):
                super().__init__()
                self.drawn = nn.Identity()

            def forward(self, images):
                return self.drawn(images + torch.randn_like(images))

        model = Drawing()
        first, again, other = (scores(model, layers="drawn", seed=seed) for seed in (1, 1, 2))
        assert first.identical(again)
        assert not first.identical(other)

    def test_where_memory_ends_the_cure_is_told_and_the_model_is_as_it_was(self, left_as_found):
        class Greedy(LivedInNet):
            def forward(self, images):
                if len(images) == 16:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                return super().forward(images)

        model = Greedy()
        with pytest.raises(torch.OutOfMemoryError) as raised, left_as_found(model):
            scores(model, batch_size=16)
        assert "memory ended in a batch of 16. Choose a smaller batch_size=" in raised.value.__notes__[-1]

    def test_inside_inference_mode_statistics_can_be_merged_outside(self):
        model = padded_net(depth=1)
        with torch.inference_mode():
            first = run(probe.collect, model, IMAGES[:10])
        second = run(probe.collect, model, IMAGES[10:], first_image=10)
        assert first.merge(second).images == [range(20)]


class TestSeveralAtOnce:
    def test_threads_that_measure_one_model_wait_for_each_other(self, left_as_found):
        model = LivedInNet()
        expected = scores(LivedInNet())
        with left_as_found(model), ThreadPoolExecutor(3) as pool:
            results = list(pool.map(lambda _: scores(model), range(3)))
        assert all(result.identical(expected) for result in results)

    def test_a_measurement_inside_a_measurement(self, left_as_found):
        model, inner = LivedInNet(), []

        def batches():
            yield IMAGES[:10]
            inner.append(scores(model))
            yield IMAGES[10:]

        with left_as_found(model):
            outer = scores(model, batches())
        expected = scores(LivedInNet())
        assert inner[0].identical(expected)
        np.testing.assert_allclose(outer.r2, expected.r2, atol=1e-5)


class TestTransforms:
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_an_error_keeps_its_type_and_names_the_image(self, num_workers, left_as_found):
        model = LivedInNet()
        with pytest.raises(UsersError) as raised, left_as_found(model):
            run(probe.layerwise, model, TensorDataset(IMAGES), transform=broken_transform, num_workers=num_workers)
        told = str(raised.value) + "".join(getattr(raised.value, "__notes__", []))
        assert "cannot turn this one" in told
        assert "probe: while image 7 was read and transformed." in told


def broken_transform(image):
    if torch.equal(image, IMAGES[7]):
        raise UsersError("cannot turn this one")
    return image


NET, MANY = padded_net(depth=2), noise_images(40, 8)

CLASSES = nn.Sequential(NET, nn.AdaptiveMaxPool2d(1), nn.Flatten())
RANKED = {"layer": "relu1", "counts": [2], "draws": 2}
ERASED = {"methods": "leace", "ranks": [2]}

CALLS = {
    "layerwise": lambda: probe.layerwise(NET, MANY),
    "channelwise": lambda: probe.channelwise(NET, MANY),
    "collect": lambda: probe.collect(NET, MANY),
    "pooled": lambda: probe.pooled(NET, MANY, grid=2),
    "neighbours": lambda: probe.neighbours(NET, MANY, "relu2"),
    "border": lambda: probe.border_profile(NET, MANY),
    "shift consistency": lambda: probe.shift_consistency(CLASSES, MANY, law="zero"),
    "shift similarity": lambda: probe.shift_similarity(NET, MANY[:2, :, :4, :4], "conv2", frame=8),
    **{
        f"ranking {method}": lambda method=method: probe.rank_channels(NET, MANY, "relu2", method=method)
        for method in ("flip", "shift", "omega2", "readout", "attribution")
    },
    "ablation": lambda: probe.ablation_curve(NET, MANY, range(16), score=["agreement", "position"], **RANKED),
    "erasure curve": lambda: probe.erasure_curve(NET, MANY, "relu1", score="agreement", draws=2, **ERASED),
    "erasure matrix": lambda: probe.erasure_matrix(NET, MANY, layers=["relu1", "relu2"]),
    "stronger readouts": lambda: probe.stronger_readouts(NET, MANY, "relu2", samples=400, seeds=2, **ERASED),
}

# Readings beside the main one: mean activity and position behind; statistics and same place; and so on.
PHASES = {"ranking attribution": 1, "ablation": 2, "erasure curve": 2, "erasure matrix": 1, "stronger readouts": 3}


@pytest.mark.filterwarnings("ignore::probe.ProbeWarning")
@pytest.mark.parametrize("task", CALLS)
def test_one_bar_named_by_the_call_is_left_of_it(task, monkeypatch):
    """Those of further readings begin with its name, and go when they are full."""
    left, gone = [], []

    def noted(*args, **settings):
        if not settings["disable"]:
            (left if settings.get("leave", True) else gone).append(settings["desc"])
        return tqdm(*args, **settings | {"disable": True})

    for module in (reader, later_readouts, rereading, stronger, similarity):
        monkeypatch.setattr(module, "tqdm", noted)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    CALLS[task]()
    assert left == [task]
    assert all(name.startswith(f"{task}: ") for name in gone)
    assert len(gone) == PHASES.get(task, 0)


def test_bars_of_every_call_that_reads_images_are_looked_at():
    functions = {name: getattr(probe, name) for name in probe.__all__ if inspect.isfunction(getattr(probe, name))}
    reading = {name for name, each in functions.items() if "progress" in inspect.signature(each).parameters}
    called = {name for call in CALLS.values() for name in call.__code__.co_names}
    assert reading - called == set()
