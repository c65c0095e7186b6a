"""Curves against the plain loop: one ablation, one forward pass, one score at a time."""

import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from torch import nn
from torch.utils.data import TensorDataset

import probe
from probe.ablation.performance import MeanIoU
from probe.errors import ArgumentError, ImagesError, LayerNotFoundError, ProbeWarning
from probe.testing import CoordinateNet, noise_images, padded_net
from tests.ablation.nets import IMAGES, ORDER, QUICK, WIDTH, Plain, largest, loop, seeded

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("mode", ["mean", "resample"])
def test_other_modes(mode):
    model = seeded(Plain)
    result = probe.ablation_curve(
        model, IMAGES.double(), ORDER, layer="first", score={"largest": largest}, mode=mode, batch_size=200, **QUICK
    )
    for name, values in loop(model, "first", mode).items():
        np.testing.assert_allclose(result[name].sel(score="largest").values, values, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:.*no better than chance:probe.errors.ProbeWarning")
def test_labels_come_from_the_rows():
    model = seeded(Plain)
    with torch.no_grad():
        predicted = model(IMAGES.double())["out"].argmax(dim=1)
    labels = torch.where(torch.arange(10) < 7, predicted, (predicted + 1) % 5)
    rows = TensorDataset(IMAGES.double(), labels)
    loader = torch.utils.data.DataLoader(rows, batch_size=3)
    for images in (rows, loader):
        result = probe.ablation_curve(model, images, ORDER, layer="first", score="accuracy", **QUICK)
        assert result.intact.item() == 0.7
    mappings = [{"image": image, "label": label} for image, label in rows]

    class Mappings:
        def __len__(self):
            return 10

        def __getitem__(self, index):
            return mappings[index]

    result = probe.ablation_curve(model, Mappings(), ORDER, layer="first", score="accuracy", **QUICK)
    assert result.intact.item() == 0.7


class Segmenter(nn.Module):
    """Says left or right from one channel that knows the column, and ignores all others."""

    def __init__(self):
        super().__init__()
        self.coordinates = CoordinateNet()
        self.relu = nn.ReLU()

    def forward(self, images):
        column = self.relu(self.coordinates(images))[:, 4:]
        return torch.cat([torch.full_like(column, 0.01), column], dim=1)


def test_miou_by_region_of_a_net_that_needs_one_channel():
    labels = (torch.arange(9) >= 5).long().expand(6, 9, 9)
    result = probe.ablation_curve(
        Segmenter(), TensorDataset(noise_images(6, 9), labels), [4, 3, 2, 1, 0], layer="coordinates", counts=[1],
        draws=4, score=["miou", "miou:left", "miou:right"], progress=False,
    )  # fmt: skip
    assert result.intact.values.tolist() == [1, 1, 1]
    assert result.top.sel(count=1).values == pytest.approx([5 / 9 / 2, 1, 0])
    assert result.bottom.sel(count=1).values.tolist() == [1, 1, 1]


def test_agreement_of_a_net_that_knows_no_position_is_whole():
    net = padded_net("circular", depth=2, width=WIDTH)
    result = probe.ablation_curve(net, IMAGES, ORDER, layer="relu1", score="agreement", **QUICK)
    assert result.intact.item() == 1
    assert result.top.values.tolist() == [[1, 1]]
    net = padded_net("zeros", depth=2, width=WIDTH)
    assert probe.ablation_curve(net, IMAGES, ORDER, layer="relu1", score="agreement", **QUICK).intact.item() < 1


def test_a_ranking_tells_its_layer_and_its_method():
    net = padded_net("zeros", depth=2, width=WIDTH)
    ranking = probe.rank_channels(net, noise_images(8, 8, seed=1), "relu1", method="flip", progress=False)
    result = probe.ablation_curve(net, IMAGES, ranking, score="agreement", **QUICK)
    given = probe.ablation_curve(net, IMAGES, ranking.index.values, layer="relu1", score="agreement", **QUICK)
    assert (result.layer, result.method) == ("relu1", "flip")
    assert result.drop_attrs().identical(given.drop_attrs())
    with pytest.warns(ProbeWarning, match="the ranking was made on the same ones"):
        probe.ablation_curve(net, noise_images(8, 8, seed=1), ranking, score="agreement", **QUICK)
    with pytest.warns(ProbeWarning, match="other weights"):
        other = padded_net("zeros", depth=2, width=WIDTH, seed=1)
        probe.ablation_curve(other, IMAGES, ranking, score="agreement", **QUICK)
    with pytest.raises(ArgumentError, match="the ranking is one of 'relu1'"):
        probe.ablation_curve(net, IMAGES, ranking, layer="relu2", score="agreement", **QUICK)


def test_results_describe_themselves_and_can_be_saved(tmp_path):
    result = probe.ablation_curve(
        seeded(Plain), IMAGES.double(), ORDER, layer="first", score={"largest": largest}, **QUICK
    )
    assert probe.load(probe.save(result, tmp_path / "curve.nc")).identical(result)
    assert all(variable.attrs["long_name"] and variable.attrs["units"] for variable in result.data_vars.values())
    assert result.random.dims == ("score", "draw", "count")
    assert {"layer", "method", "mode", "sharing", "images_digest", "weights_digest", "settings"} <= result.attrs.keys()


def test_the_model_is_left_as_found(left_as_found):
    model = seeded(lambda: Plain(lambda: nn.BatchNorm2d(WIDTH)))
    model.train()
    with left_as_found(model):
        probe.ablation_curve(model, IMAGES.double(), ORDER, layer="first", score={"largest": largest}, **QUICK)

    def fails(output):
        raise ZeroDivisionError

    with left_as_found(model), pytest.raises(ZeroDivisionError):
        probe.ablation_curve(model, IMAGES.double(), ORDER, layer="first", score={"fails": fails}, **QUICK)


def test_wrapped_and_compiled_models():
    model = seeded(Plain)
    options = {"layer": "first", "score": {"largest": largest}, **QUICK}
    expected = probe.ablation_curve(model, IMAGES.double(), ORDER, **options).drop_attrs()
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        assert probe.ablation_curve(wrapped, IMAGES.double(), ORDER, **options).drop_attrs().identical(expected)


def test_a_score_that_is_nan_warns_and_stays_nan():
    with pytest.warns(ProbeWarning, match="score 'log' is NaN for 11 choices"):
        result = probe.ablation_curve(
            seeded(Plain),
            IMAGES.double(),
            ORDER,
            layer="first",
            score={"log": lambda output: output[:, 0] * np.nan},
            **QUICK,
        )
    assert result.intact.isnull().all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"counts": [0, 3]}, ArgumentError, "expected whole numbers from 1 to 12"),
        ({"counts": [13]}, ArgumentError, "expected whole numbers from 1 to 12"),
        ({"counts": []}, ArgumentError, "counts="),
        ({"draws": 1}, ArgumentError, "draws=1: expected a whole number of at least 2"),
        ({"controls": ["all"]}, ArgumentError, "controls="),
        ({"controls": []}, ArgumentError, "controls="),
        ({"ranking": {}}, ArgumentError, "ranking: no ranking"),
        ({"mode": "noise"}, ArgumentError, "mode='noise'"),
        ({"score": "iou"}, ArgumentError, "score='iou'"),
        ({"score": []}, ArgumentError, "expected at least one score"),
        ({"score": [MeanIoU()]}, ArgumentError, "a mapping of a name"),
        ({"score": "accuracy"}, ImagesError, "the score needs labels"),
        ({"ranking": [0, 1]}, ArgumentError, "2 of the 12 channels"),
        ({"ranking": np.append(ORDER[1:], 12)}, ArgumentError, "12 is out of range"),
        ({"ranking": np.append(ORDER[1:], ORDER[1])}, ArgumentError, "given twice"),
        ({"layer": None}, ArgumentError, "Pass layer="),
        ({"layer": "frist"}, LayerNotFoundError, "Did you mean 'first'"),
        ({"ranking": len}, ArgumentError, "expected channel numbers, found <built-in function len>"),
        (
            {"ranking": probe.channelwise(padded_net(), IMAGES, progress=False)},
            ArgumentError,
            "a result of probe.rank_channels",
        ),
    ],
)
def test_faults(changes, error, message):
    options = {"ranking": ORDER, "layer": "first", "score": {"largest": largest}, **QUICK} | changes
    ranking = options.pop("ranking")
    with pytest.raises(error, match=message):
        probe.ablation_curve(seeded(Plain), IMAGES.double(), ranking, **options)


def test_images_that_can_be_read_once_do_for_random_draws_alone():
    options = {"layer": "first", "score": {"largest": largest}, **QUICK}
    model = seeded(Plain)
    result = probe.ablation_curve(model, iter(IMAGES.double().split(5)), ORDER, **options)
    assert result.n_images == 10
    with pytest.raises(ImagesError, match="matched must read them several times"):
        probe.ablation_curve(
            model, iter(IMAGES.double().split(5)), ORDER, **options | {"controls": ["random", "matched"]}
        )
    with pytest.raises(ImagesError, match="mode='resample' takes values from the next image"):
        probe.ablation_curve(model, IMAGES[:1].double(), ORDER, mode="resample", **options)
    with pytest.raises(ImagesError, match="the last of 10 images would be alone in a batch of 3"):
        probe.ablation_curve(model, IMAGES.double(), ORDER, mode="resample", batch_size=3, **options)


def test_warnings_of_the_images_come_once():
    net = padded_net("zeros", depth=2, width=WIDTH)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        probe.ablation_curve(
            net,
            255 * IMAGES,
            ORDER,
            layer="relu1",
            score=["agreement", "position"],
            counts=[2],
            draws=2,
            progress=False,
        )
    assert sum("as in images of 0 to 255" in str(warning.message) for warning in caught) <= 2


def test_several_rankings_share_one_run_and_give_what_each_gives_alone():
    model, orders = seeded(Plain), {"given": ORDER, "reversed": ORDER[::-1]}
    options = {"layer": "first", "score": {"largest": largest}, **QUICK}
    together = probe.ablation_curve(model, IMAGES.double(), orders, **options)
    assert together.random.dims == ("score", "draw", "count")
    for name, order in orders.items():
        alone = probe.ablation_curve(model, IMAGES.double(), order, **options)
        xr.testing.assert_allclose(together.sel(ranking=name, drop=True), alone)
    np.testing.assert_allclose(together.top.sel(ranking="reversed"), together.bottom.sel(ranking="given"))
    ax = probe.plot_ablation(together, Figure().subplots(), ranking="reversed")
    assert ax.get_title() == "ranked by reversed"
    with pytest.raises(ArgumentError, match="ranking='flip': the result has given, reversed"):
        probe.plot_ablation(together, Figure().subplots(), ranking="flip")


def test_matched_draws_alone():
    model = seeded(Plain)
    options = {"layer": "first", "score": {"largest": largest}, **QUICK}
    both = probe.ablation_curve(model, IMAGES.double(), ORDER, **options | {"controls": ["random", "matched"]})
    alone = probe.ablation_curve(model, IMAGES.double(), ORDER, **options | {"controls": ["matched"]})
    assert "random" not in alone
    xr.testing.assert_allclose(both[list(alone.data_vars)], alone)
