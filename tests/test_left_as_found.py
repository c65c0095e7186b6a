"""However a measurement ends, the model and all around it are left as they were found."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import probe
from probe.errors import ArgumentError, LayerNotFoundError
from probe.ranking.methods import RANKING_METHODS
from probe.testing import noise_images
from tests.lived_in import LivedInNet, UsersError

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::probe.ProbeWarning"),
]

BATCH = 10
MARK = 7.5  # a value that noise does not have: by it model and transform know the image on which to fail
IMAGES = noise_images(24, 8)
IMAGES[BATCH + 3, 0, 2, 5] = MARK


class Net(LivedInNet):
    """With a sum of two branches, which some paddings align. It can be told to fail on the marked image."""

    def __init__(self, marked_failure=None):
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(1)
            self.shortcut = nn.Conv2d(3, 4, 1)
        self.marked_failure = marked_failure

    def forward(self, images):
        if self.marked_failure is not None and (images == MARK).any():
            raise self.marked_failure
        return super().forward(images) + self.shortcut(images)


class FailingRun(Net):
    """Fails at one run, counted from 0, whatever it is shown."""

    def __init__(self, failure, run):
        super().__init__()
        self.failure_of_run, self.runs_left = failure, run

    def forward(self, images):
        self.runs_left -= 1
        if self.runs_left < 0:
            raise self.failure_of_run
        return super().forward(images)


READING = {"progress": False, "batch_size": BATCH}


def rank(method):
    return lambda net, images, **given: probe.rank_channels(
        net, images, "conv2", method=method, folds=3, **READING, **given
    )


def curve(score):
    return lambda net, images, **given: probe.ablation_curve(
        net, images, [2, 0, 3, 1], layer="conv1", score=score, counts=[1], draws=2, controls=["random", "matched"],
        folds=3, **READING, **given,
    )  # fmt: skip


def largest(output):
    return output.amax(dim=(1, 2, 3))


def pooled(net, images, **given):
    return probe.pooled(net, images, grid=2, folds=2, **READING, **given)


def flat(net, images):
    return net(images).flatten(1)


def consistency(net, images, **given):
    return probe.shift_consistency(net, images, forward=flat, law="circular", reach=1, pairs=1, **READING, **given)


READ = {
    "collect": lambda net, images, **given: probe.collect(net, images, **READING, **given),
    "layerwise": lambda net, images, **given: probe.layerwise(net, images, maps="conv2", **READING, **given),
    "channelwise": lambda net, images, **given: probe.channelwise(net, images, maps="conv2", **READING, **given),
    **{f"rank_channels by {method}": rank(method) for method in RANKING_METHODS},
    "ablation_curve": curve({"largest": largest}),
    "ablation_curve of position": curve("position"),
    "pooled": pooled,
    "neighbours": lambda net, images, **given: probe.neighbours(net, images, "conv2", **READING, **given),
    "shift_consistency": consistency,
    "border_profile": lambda net, images, **given: probe.border_profile(net, images, folds=3, **READING, **given),
    "erasure_curve": lambda net, images, **given: probe.erasure_curve(
        net, images, "conv1", score={"largest": largest}, methods="leace", ranks=[2], draws=2, **READING, **given
    ),
    "erasure_matrix": lambda net, images, **given: probe.erasure_matrix(
        net, images, layers=["conv1", "conv2"], folds=6, **READING, **given
    ),
    "stronger_readouts": lambda net, images, **given: probe.stronger_readouts(
        net, images, "conv1", methods="leace", ranks=[2], samples=100, seeds=2, **READING, **given
    ),
}
"""The measurements that read many images, by name."""

ENDS = [UsersError("my own"), KeyboardInterrupt("my own")]


def kind(failure):
    return type(failure).__name__


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Breaking:
    """Batches that end with an exception, after the first one."""

    def __init__(self, failure, draws=True):
        self.failure, self.draws = failure, draws

    def __iter__(self):
        if self.draws:  # as a user's own code may
            torch.rand(1), np.random.random()  # noqa: NPY002
        yield IMAGES[:BATCH]
        raise self.failure


@pytest.mark.parametrize("measure", READ.values(), ids=READ)
class TestReadingManyImages:
    def test_after_success(self, measure, left_as_found):
        net, images = Net(), IMAGES.clone()
        with left_as_found(net):
            measure(net, images)
        assert torch.equal(images, IMAGES)

    @pytest.mark.parametrize("failure", ENDS, ids=kind)
    def test_after_a_failure_of_the_model_in_its_second_batch(self, measure, failure, left_as_found):
        net = Net(failure)
        with pytest.raises(type(failure), match="my own") as raised, left_as_found(net):
            measure(net, IMAGES)
        if isinstance(failure, Exception):
            assert "probe: while the model ran on images" in raised.value.__notes__[0]

    @pytest.mark.parametrize("failure", ENDS, ids=kind)
    def test_after_a_failure_of_the_iterator(self, measure, failure, left_as_found):
        net = Net()
        with pytest.raises(type(failure), match="my own"), left_as_found(net):
            measure(net, Breaking(failure))

    @pytest.mark.parametrize("failure", ENDS, ids=kind)
    def test_after_a_failure_of_the_transform(self, measure, failure, left_as_found):
        def transform(image):
            if (image == MARK).any():
                raise failure
            return image

        net = Net()
        with pytest.raises(type(failure), match="my own"), left_as_found(net):
            measure(net, TensorDataset(IMAGES), transform=transform)

    def test_after_an_argument_that_cannot_be(self, measure, left_as_found):
        net = Net()
        with pytest.raises(ArgumentError, match="device='gpu'"), left_as_found(net):
            measure(net, IMAGES, device="gpu")


def test_after_a_layer_that_there_is_not(left_as_found):
    for measure in (probe.collect, probe.layerwise, probe.channelwise):
        net = Net()
        with pytest.raises(LayerNotFoundError, match="no layer 'conv9'"), left_as_found(net):
            measure(net, IMAGES, layers="conv9", progress=False)


OF_ONE_IMAGE = {
    "list_layers": (lambda net: probe.list_layers(net, IMAGES), 0),
    "audit": (lambda net: probe.audit(net, (3, 8, 8)), 1),
    "shift_similarity": (
        lambda net: probe.shift_similarity(net, IMAGES[:2], "conv2", frame=11, batch_size=4, progress=False),
        4,
    ),
}
"""The measurements that read an image or two, and the run of the model at which it fails."""


@pytest.mark.parametrize(("measure", "run"), OF_ONE_IMAGE.values(), ids=OF_ONE_IMAGE)
class TestReadingOneImage:
    def test_after_success(self, measure, run, left_as_found):
        net = Net()
        with left_as_found(net):
            measure(net)

    @pytest.mark.parametrize("failure", ENDS, ids=kind)
    def test_after_a_failure_of_the_model(self, measure, run, failure, left_as_found):
        net = FailingRun(failure, run)
        with pytest.raises(type(failure), match="my own"), left_as_found(net):
            measure(net)


@pytest.mark.parametrize("failure", ENDS, ids=kind)
def test_list_layers_after_a_failure_of_the_images(failure, left_as_found):
    def transform(image):
        raise failure

    net = Net()
    with pytest.raises(type(failure), match="my own"), left_as_found(net):
        probe.list_layers(net, TensorDataset(IMAGES), transform=transform)


def loop(net, batches):
    """A user's own loop."""
    with torch.no_grad():
        for batch in batches:
            net(batch)


@pytest.mark.parametrize("failure", [None, *ENDS], ids=kind)
@pytest.mark.parametrize("where", ["model", "iterator"])
@pytest.mark.parametrize("mode", ["zero", "mean", "resample"])
def test_a_loop_with_ablated_channels(mode, where, failure, left_as_found):
    net = Net(failure if where == "model" else None).eval()
    batches = IMAGES.split(BATCH) if where == "model" or failure is None else Breaking(failure, draws=False)
    with left_as_found(net):
        if failure is None:
            with probe.ablate(net, {"conv1": [1], "relu": [0]}, mode=mode):
                loop(net, batches)
        else:
            with pytest.raises(type(failure)), probe.ablate(net, {"conv1": [1], "relu": [0]}, mode=mode):
                loop(net, batches)


@pytest.mark.parametrize("failure", [None, *ENDS], ids=kind)
@pytest.mark.parametrize("where", ["model", "iterator"])
@pytest.mark.parametrize("padding", probe.PADDINGS)
def test_a_loop_over_a_model_of_other_padding(padding, where, failure, left_as_found):
    net = Net(failure if where == "model" else None).eval()
    with left_as_found(net):
        converted = probe.with_padding(net, padding)
    batches = IMAGES.split(BATCH) if where == "model" or failure is None else Breaking(failure, draws=False)
    with left_as_found(net, converted):
        if failure is None:
            loop(converted, batches)
        else:
            with pytest.raises(type(failure)):
                loop(converted, batches)
    with left_as_found(net, converted), torch.no_grad():
        converted(IMAGES[:2])


class Told(nn.Module):
    """Strided, with a table of positions; it can be told to fail at one run, counted from 0."""

    def __init__(self, failure=None, run=0):
        super().__init__()
        self.net, self.pool = LivedInNet(), nn.MaxPool2d(2)
        self.pos_embed = nn.Parameter(torch.ones(1, 16, 4), requires_grad=False)
        self.fuse = Fuse(failure, run)

    def forward(self, images):
        return self.pool(self.fuse(self.net.conv1(images))) + self.pos_embed.mT.reshape(1, 4, 4, 4)


class Fuse(nn.ReLU):
    """An activation that fails at one run, which torch.fx takes for one of torch's own."""

    __module__ = nn.ReLU.__module__

    def __init__(self, failure, run):
        super().__init__()
        self.failure, self.runs_left = failure, run

    def forward(self, maps):
        self.runs_left -= 1
        if self.failure is not None and self.runs_left < 0:
            raise self.failure
        return super().forward(maps)


CHANGES = {
    **{f"sampling {name}": lambda net, name=name: probe.with_sampling(net, name) for name in probe.SAMPLINGS},
    **{
        f"position embedding {name}": lambda net, name=name: probe.with_position_embedding(net, name)
        for name in probe.POSITION_EMBEDDINGS
    },
}


@pytest.mark.parametrize("failure", [None, *ENDS], ids=kind)
@pytest.mark.parametrize("change", CHANGES)
def test_a_loop_over_a_model_with_another_thing_changed(change, failure, left_as_found):
    net = Told(failure, run=1).eval()
    with left_as_found(net):
        converted = CHANGES[change](net)
    with left_as_found(net, converted):
        if failure is None:
            loop(converted, IMAGES.split(BATCH))
        else:
            with pytest.raises(type(failure)):
                loop(converted, IMAGES.split(BATCH))


def test_every_measurement_is_among_these():
    makes_or_compares = {"ablate", "compare_rankings", "load", "save"}
    makes_or_compares |= {"with_padding", "with_position_embedding", "with_sampling", "with_erasers"}
    makes_or_compares |= {"fit_eraser", "erasure_proof"}  # from statistics alone
    functions = {name for name in probe.__all__ if name.islower() and not name.startswith("plot_")}
    measured = {name.partition(" ")[0] for name in [*READ, *OF_ONE_IMAGE]}
    assert {name for name in functions if callable(getattr(probe, name))} - makes_or_compares == measured
