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
from probe.ablation.plans import plan_removals
from probe.errors import ArgumentError, ImagesError, LayerNotFoundError, ProbeWarning
from probe.testing import CoordinateNet, noise_images, padded_net

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTH = 12
ORDER = np.random.default_rng(1).permutation(WIDTH)
IMAGES = noise_images(10, 8)
COUNTS = [2, 7]
QUICK = {"counts": COUNTS, "draws": 3, "controls": ["random"], "progress": False}


def seeded(make):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return make().double().eval()


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


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, maps):
        joined = torch.cat([maps, self.relu(self.inner(maps))], dim=1)
        return self.relu(joined[:, :WIDTH] + joined[:, WIDTH:])


class Blocks(nn.Module):
    """Inner layers are bypassed by a concatenation, within blocks of their own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.stage = nn.Sequential(Block(), Block())
        self.last = nn.Conv2d(WIDTH, 5, 1)

    def forward(self, images):
        return self.last(self.stage(self.first(images))).mean(dim=(2, 3))


class Plain(nn.Module):
    def __init__(self, norm=nn.Identity):
        super().__init__()
        self.first = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.norm = norm()
        self.second = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.last = nn.Conv2d(WIDTH, 5, 1)

    def forward(self, images):
        return {"out": self.last(self.second(self.norm(self.first(images)).relu()).relu()).mean(dim=(2, 3))}


def largest(output):
    return output.amax(dim=1)


def batch_norm():
    return nn.BatchNorm2d(WIDTH, track_running_stats=False)


CASES = {
    "the output of the layer": (Plain, "first", "shared: the batch was repeated at the output of first"),
    "the input of a block": (Blocks, "stage.1.inner", "shared: the batch was repeated at the input of stage.1 "),
    "a second call": (Blocks, "stage.1.relu_1", "shared: the batch was repeated at the output of stage.1.relu_1"),
    "an inner call": (Blocks, "stage.0.relu", "shared: the batch was repeated at the input of stage.0 "),
    "a bypass of the whole model": (Residual, "block.inner", "not shared, every setting ran by itself"),
    "statistics of the batch": (
        lambda: Plain(batch_norm),
        "first",
        "not shared, every setting ran by itself: at first",
    ),
}


def loop(model, layer, mode="zero", batch_size=20, draws=3):
    """The score of every setting, by the plain loop over whole batches."""

    def score(removed):
        with torch.no_grad(), probe.ablate(model, {layer: np.flatnonzero(removed)}, mode=mode):
            outputs = [model(batch) for batch in IMAGES.double().split(batch_size)]
        return torch.cat([o["out"] if isinstance(o, dict) else o for o in outputs]).amax(dim=1).mean().item()

    plan = plan_removals(ORDER, COUNTS, draws, 0, None)
    return {name: np.apply_along_axis(score, -1, removed) for name, removed in plan.items()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch_size", [44, 5])
def test_curves_are_those_of_the_plain_loop_wherever_the_batch_is_repeated(case, batch_size):
    make, layer, sharing = CASES[case]
    model = seeded(make)
    result = probe.ablation_curve(
        model, IMAGES.double(), ORDER, layer=layer, score={"largest": largest}, batch_size=batch_size, **QUICK
    )
    expected = loop(model, layer, batch_size=batch_size if "statistics" in case else 20)
    for name, values in expected.items():
        np.testing.assert_allclose(result[name].sel(score="largest").values, values, rtol=1e-9, err_msg=name)
    assert len(np.unique(np.round(result.random.values, 9))) == result.random.size
    if not (case == "a bypass of the whole model" and batch_size == 5):
        assert result.sharing.startswith(sharing)


def test_single_images_meet_a_bypass_by_broadcasting():
    result = probe.ablation_curve(
        seeded(Residual), IMAGES.double(), ORDER, layer="block.inner", score={"largest": largest}, batch_size=5, **QUICK
    )
    assert result.sharing == "shared: the batch was repeated at the output of block.inner"


@pytest.mark.parametrize("mode", ["mean", "resample"])
def test_other_modes(mode):
    model = seeded(Plain)
    result = probe.ablation_curve(
        model, IMAGES.double(), ORDER, layer="first", score={"largest": largest}, mode=mode, batch_size=200, **QUICK
    )
    for name, values in loop(model, "first", mode).items():
        np.testing.assert_allclose(result[name].sel(score="largest").values, values, rtol=1e-9)


def test_what_precedes_the_layer_is_computed_once_for_many_settings():
    model = seeded(Plain)
    rows = {"first": 0, "second": 0}
    for name in rows:
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: rows.__setitem__(name, rows[name] + len(inputs[0]))
        )
    options = {"layer": "first", "score": {"largest": largest}, **QUICK}
    result = probe.ablation_curve(model, IMAGES.double(), ORDER, batch_size=1000, **options)
    settings = 1 + 2 * 2 + 3 * 2
    extra = 20  # what it takes to list the layers, and to compare with plain passes
    assert rows["first"] <= len(IMAGES) + 3 * len(IMAGES) + extra
    assert settings * len(IMAGES) <= rows["second"] <= (settings + 4) * len(IMAGES) + extra
    assert result.sharing.startswith("shared")


def test_results_do_not_depend_on_the_batch_size():
    model = seeded(Plain)
    options = {"layer": "first", "score": [{"largest": largest}, "agreement"], **QUICK}
    first, *others = (
        probe.ablation_curve(model, IMAGES.double(), ORDER, batch_size=size, **options).drop_attrs()
        for size in (1, 4, 64)
    )
    for other in others:
        np.testing.assert_allclose(other.to_array(), first.to_array(), rtol=1e-9)


def test_errors_over_images_are_those_of_the_mean_and_of_paired_differences():
    model = seeded(Plain)
    result = probe.ablation_curve(
        model, IMAGES.double(), ORDER, layer="first", score={"largest": largest}, folds=len(IMAGES), **QUICK
    ).sel(score="largest")
    plan = plan_removals(ORDER, COUNTS, 3, 0, None)

    def by_image(removed):
        with torch.no_grad(), probe.ablate(model, {"first": np.flatnonzero(removed)}):
            return model(IMAGES.double())["out"].amax(dim=1).numpy()

    def error(values):
        return values.std(ddof=1) / len(values) ** 0.5

    for place in range(len(COUNTS)):
        top = by_image(plan["top"][place])
        drawn = np.array([by_image(draw[place]) for draw in plan["random"]])
        at = result.isel(count=place)
        assert at.top_se.item() == pytest.approx(error(top))
        assert at.top_minus_random.item() == pytest.approx(top.mean() - drawn.mean())
        over_images, over_draws = error(top - drawn.mean(axis=0)), error(drawn.mean(axis=1))
        assert at.top_minus_random_se.item() == pytest.approx(np.hypot(over_images, over_draws))
    assert result.intact_se.item() == pytest.approx(error(by_image(plan["intact"])))


def test_draws_are_random_and_matched_ones_replace_each_channel_by_one_of_its_decile():
    order = np.random.default_rng(0).permutation(100)
    strengths = np.random.default_rng(1).random(100)
    plan = plan_removals(order, [5, 30], 20, 0, strengths)
    decile = np.empty(100, dtype=int)
    decile[np.argsort(strengths)] = np.arange(100) // 10
    for name in ("random", "matched"):
        assert plan[name].shape == (20, 2, 100)
        assert (plan[name].sum(axis=-1) == [5, 30]).all()
        assert len(np.unique(plan[name][:, 0], axis=0)) == 20
        assert (plan[name][:, 0] <= plan[name][:, 1]).all(), "a smaller draw is part of the larger"
    for count in range(2):
        expected = np.bincount(decile[plan["top"][count]], minlength=10)
        for draw in plan["matched"][:, count]:
            assert np.bincount(decile[draw], minlength=10).tolist() == expected.tolist()
    assert set(np.flatnonzero(plan["top"][0])) == set(order[:5])
    assert set(np.flatnonzero(plan["bottom"][0])) == set(order[-5:])
    assert plan_removals(order, [5], 20, 1, None)["random"].tolist() != plan["random"][:, :1].tolist()


def test_matched_draws_go_by_the_mean_activation_of_the_layer():
    model = seeded(Plain)
    with torch.no_grad():
        strengths = model.first(IMAGES.double()).abs().mean(dim=(0, 2, 3)).numpy()
    seen = []

    def score(output):
        seen.append(output)
        return largest(output)

    result = probe.ablation_curve(
        model, IMAGES.double(), ORDER, layer="first", score={"largest": score}, counts=[4], draws=5, progress=False
    )
    plan = plan_removals(ORDER, [4], 5, 0, strengths)
    for draw, removed in enumerate(plan["matched"][:, 0]):
        with torch.no_grad(), probe.ablate(model, {"first": np.flatnonzero(removed)}):
            expected = model(IMAGES.double())["out"].amax(dim=1).mean().item()
        assert result.matched.sel(score="largest", draw=draw, count=4).item() == pytest.approx(expected)


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


class ReadsCoordinates(nn.Module):
    """Two 1×1 convolutions behind the coordinates."""

    def __init__(self):
        super().__init__()
        self.coordinates = CoordinateNet()
        self.mixed = nn.Conv2d(5, 8, 1)
        self.later = nn.Conv2d(8, 8, 1)

    def forward(self, images):
        return self.later(self.mixed(self.coordinates(images)))


def test_removing_position_removes_it_from_every_later_layer():
    model = seeded(ReadsCoordinates).float()
    images = noise_images(40, 8)
    result = probe.ablation_curve(
        model, images, [3, 4, 0, 1, 2], layer="coordinates", score="position", counts=[1, 2], draws=2,
        controls="random", folds=5, progress=False,
    )  # fmt: skip
    assert list(result.score.values) == ["position:mixed", "position:later"]
    plain = probe.layerwise(model, images, layers=["mixed", "later"], stimuli="rolled", progress=False)
    np.testing.assert_allclose(result.intact, plain.r2.mean(["target", "stimulus"]), rtol=1e-6)
    assert (result.intact > 0.9).all()
    assert (abs(result.top.sel(count=2)) < 0.05).all()
    assert (result.bottom.sel(count=2) > 0.9).all()
    np.testing.assert_allclose(result.top.sel(count=1), result.intact / 2, atol=0.05)
    by_fold = plain.r2_fold.mean(["target", "stimulus"])
    np.testing.assert_allclose(result.intact_se, by_fold.std("fold", ddof=1) / 5**0.5, rtol=1e-6)


def test_position_behind_the_last_layer_is_refused_at_once():
    with pytest.raises(ArgumentError, match="no layer behind conv2 has maps"):
        probe.ablation_curve(
            padded_net("zeros", depth=2), IMAGES, range(16), layer="conv2", score="position", counts=[1], draws=2,
            controls="random", progress=False,
        )  # fmt: skip


def test_a_net_that_overwrites_its_input_is_scored_on_the_images_themselves():
    class Doubling(nn.Module):
        def __init__(self, net, copies):
            super().__init__()
            self.net, self.copies = net, copies

        def forward(self, images):
            images = images.clone() if self.copies else images
            return self.net(images.mul_(2).add_(1))

    def curve(copies):
        net = Doubling(padded_net("zeros", depth=2), copies)
        return probe.ablation_curve(
            net,
            IMAGES.clone(),
            range(16),
            layer="net.conv1",
            score={"mean": lambda output: output.mean(dim=(1, 2, 3))},
            counts=[1, 2],
            draws=2,
            controls="random",
            progress=False,
        )

    xr.testing.assert_allclose(curve(copies=False).top, curve(copies=True).top)


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


class Asserting(Residual):
    """Checks itself that its batch stays as large as it was."""

    def forward(self, images):
        maps = self.outer(images).relu()
        inner = self.block["inner"](maps).relu()
        assert inner.shape == maps.shape
        return self.last(maps + inner).mean(dim=(2, 3))


def test_a_model_that_checks_its_batch_runs_setting_by_setting():
    options = {"layer": "block.inner", "score": {"largest": largest}, **QUICK}
    checked, free = (
        probe.ablation_curve(seeded(make), IMAGES.double(), ORDER, **options) for make in (Asserting, Residual)
    )
    assert checked.sharing.startswith("not shared, every setting ran by itself: at block.inner")
    xr.testing.assert_allclose(checked.top, free.top)


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
