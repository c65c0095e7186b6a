"""Results at a glance."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import probe
from probe import results
from probe.analyses import rook
from probe.analyses.channels import study as channels
from probe.analyses.padding_comparison import study as padding_comparison
from probe.command.named_models import open_model
from probe.command.summaries import KINDS
from probe.command.tables import summarise, write_json, write_table
from probe.errors import ArgumentError, ProbeWarning
from probe.intervals import half_width
from probe.testing import noise_images, padded_net

SIZE = 32
WIDTH = 37
COUNT = 24


@pytest.fixture(scope="module")
def saved(photos, tmp_path_factory):
    """Results of both measurements with maps."""
    folder = tmp_path_factory.mktemp("saved")
    source = open_model("torchvision.models:resnet18", size=SIZE)
    images = {"transform": source.transform, "progress": False, "layers": "conv1", "maps": "conv1"}
    for measurement in (probe.layerwise, probe.channelwise):
        probe.save(measurement(source.model, photos, **images), folder / f"{measurement.__name__}.nc")
    return folder


class TestShow:
    def test_table_and_figures_of_layers(self, saved, workplace, run):
        outcome = run("show", saved / "layerwise.nc", "--figures", "figures")
        assert outcome.exit_code == 0
        assert outcome.stdout.splitlines()[-1] == f"result: {saved / 'layerwise.nc'}"
        r2 = probe.load(saved / "layerwise.nc").r2.sel(layer="conv1", stimulus="rolled", target="column").item()
        row = next(line for line in outcome.stdout.splitlines() if line.startswith("conv1"))
        assert row.split()[-3] == f"{r2:z.3f}"
        names = ["layerwise-layers.png", "layerwise-maps-0-conv1.png"]
        assert outcome.stderr.splitlines() == [f"figure: figures/{name}" for name in names]
        for name in names:
            with Image.open(f"figures/{name}") as image:
                assert len(np.unique(np.asarray(image.convert("L")))) > 10

    def test_figures_are_kept_unless_told_otherwise(self, saved, workplace, run):
        words = ["show", saved / "channelwise.nc", "--figures", "figures"]
        assert run(*words).exit_code == 0
        assert {path.name for path in Path("figures").iterdir()} == {
            "channelwise-channels.png",
            "channelwise-maps-0-conv1.png",
        }
        again = run(*words)
        assert again.exit_code == 1
        assert "figures/channelwise-channels.png: exists already" in again.stderr
        assert run(*words, "--overwrite").exit_code == 0

    def test_does_not_load_torch(self, saved, workplace, python):
        code = (
            "import sys; from probe.command.main import main\n"
            f"main(['show', {str(saved / 'layerwise.nc')!r}, '--figures', 'figures'], standalone_mode=False)\n"
            "assert 'torch' not in sys.modules"
        )
        outcome = python("-c", code)
        assert outcome.returncode == 0, outcome.stderr
        assert len(list(Path("figures").iterdir())) == 2

    @pytest.mark.parametrize("command", ["show", "report", "report file"])
    @pytest.mark.parametrize(("content", "message"), [(None, "No such file"), (b"nonsense", "damaged or no netCDF")])
    def test_no_result(self, command, content, message, workplace, run):
        if content is not None:
            Path("x.nc").write_bytes(content)
        outcome = run(*command.split(), "x.nc")
        assert outcome.exit_code == 1
        assert outcome.stderr.startswith("error: x.nc: ")
        assert message in outcome.stderr


def rankings():
    net, images = padded_net(depth=2), noise_images(40, 8)
    return [probe.rank_channels(net, images, "relu2", method=method, progress=False) for method in ("flip", "omega2")]


def curve(**settings):
    images = noise_images(20, 8) + 1
    settings = {"score": ["agreement", "position"], "counts": [2, 4], "draws": 2, "progress": False} | settings
    return probe.ablation_curve(padded_net(depth=3), images, settings.pop("ranking"), layer="relu2", **settings)


MADE = {
    "layerwise": lambda: probe.layerwise(padded_net(depth=2), noise_images(40, 8), progress=False),
    "channelwise": lambda: probe.channelwise(padded_net(depth=2), noise_images(40, 8), progress=False),
    "ranking": lambda: rankings()[0],
    "rankings": lambda: probe.compare_rankings(*rankings(), top=[4]),
    "ablation_curve": lambda: curve(ranking=dict(zip("ab", rankings(), strict=True))),
    "pooled": lambda: probe.pooled(padded_net(depth=2), noise_images(80, 4), grid=2, progress=False),
    "similarity": lambda: probe.shift_similarity(
        padded_net(depth=2), noise_images(2, 4), ["conv1", "conv2"], frame=12, progress=False
    ),
    "audit": lambda: probe.audit(padded_net(depth=2), (3, 16, 16)),
    "padding_comparison": lambda: padding_comparison.run(
        paddings=["zeros", "circular"], seeds=1, preset="tiny", progress=False
    ),
    "channels": lambda: channels.run(
        padded_net(depth=2), noise_images(40, 8), noise_images(20, 8) + 1, layer="relu1", score="agreement",
        methods=["flip", "omega2"], counts=[2], draws=2, examples=1, progress=False,
    ),
    "study": lambda: rook.run(preset="tiny", paddings=["zeros"], seeds=1, progress=False),
}  # fmt: skip


@pytest.fixture(scope="module")
def made():
    """A result of each kind, made when first asked for."""
    with warnings.catch_warnings(action="ignore", category=ProbeWarning):
        return {kind: make() for kind, make in MADE.items()}


class TestEveryKind:
    def test_there_is_a_table_for_each(self):
        assert set(KINDS) == set(results.KINDS) == set(MADE)

    @pytest.mark.parametrize("kind", KINDS)
    def test_is_saved_shown_and_begins_with_model_images_and_warnings(self, kind, made, tmp_path, measured):
        result = made[kind]
        assert result.attrs["kind"] == kind
        result = result.assign_attrs(warnings=json.dumps(["first of two", "second of two"]))
        probe.save(result, tmp_path / "x.nc")
        lines = measured("show", tmp_path / "x.nc").stdout.splitlines()
        assert lines[0].startswith("model: ")
        assert result.attrs["model"] in lines[0]
        assert result.attrs["weights_digest"] in lines[0]
        assert lines[1].startswith("images: ")
        if result.attrs["n_images"]:
            assert lines[1].startswith(f"images: {result.attrs['n_images']}, digest {result.attrs['images_digest']}")
        assert lines[2:4] == ["warning: first of two", "warning: second of two"]
        assert len(lines) > 6
        assert lines[-1] == f"result: {tmp_path / 'x.nc'}"

    @pytest.mark.parametrize("width", [120, 80])
    @pytest.mark.parametrize("kind", KINDS)
    def test_is_no_wider_than_asked_for(self, kind, width, made):
        assert max(map(len, write_table(made[kind], width).splitlines())) <= width

    @pytest.mark.parametrize("kind", KINDS)
    def test_as_json(self, kind, made):
        content = json.loads(write_json(made[kind], None))
        assert content["kind"] == kind
        assert content["scores"] and all(content["scores"])
        for name in ("model", "weights_digest", "n_images", "images_digest"):
            assert content[name] == made[kind].attrs[name]

    def test_random_weights_are_called_so(self, made):
        result = made["layerwise"].assign_attrs(weights="random (seed 3)")
        assert write_table(result).startswith("model: Sequential, weights: random (seed 3); digest ")
        assert write_table(made["layerwise"]).startswith(
            "model: Sequential, weights: not named where it was measured, so they may be random"
        )
        assert "weights: random at first and trained here" in write_table(made["padding_comparison"])

    def test_what_is_no_result_of_probe_is_an_error(self):
        with pytest.raises(ArgumentError, match=r"kind='other': expected a result of probe, of kind layerwise"):
            summarise(xr.Dataset(attrs={"kind": "other"}))

    def test_long_names_of_layers_keep_both_ends(self, made):
        result = made["layerwise"]
        name = "backbone.model.encoder.layers.encoder_layer_11.self_attention.out_projection_of_all_heads.convolution_1"
        layers = [name, *result.layer.values[1:]]
        text = write_table(result.assign_coords(layer=layers), 120)
        assert "backbone.model.encoder.l…f_all_heads.convolution_1" in text
        assert max(map(len, text.splitlines())) <= 120


class TestNumbers:
    """What the table shows is what is in the result."""

    def test_of_a_ranking(self, made):
        result = made["ranking"]
        rows = summarise(result)
        assert rows["index"].tolist() == result["index"].values.tolist()
        assert rows["score"].tolist() == result.score.values.tolist()
        text = write_table(result)
        first = next(line for line in text.splitlines() if line.startswith("1 "))
        assert first.split() == ["1", str(result["index"].values[0]), f"{result.score.values[0]:.3g}"]
        assert f"between two halves of the images {result.stability.item():.3f}" in text.replace("\n ", "")

    def test_of_compared_rankings(self, made):
        result = made["rankings"]
        rows = summarise(result).set_index(["ranking", "other"])
        pair = result.sel(ranking="flip", other="omega2")
        assert len(rows) == 3
        assert rows.correlation["flip", "omega2"] == pair.correlation
        assert rows.first_4["flip", "omega2"] == pair.overlap.sel(top=4)
        assert rows.chance_4["flip", "omega2"] == 4 / 16
        assert rows.correlation["omega2", "omega2"] == result.stability.sel(ranking="omega2")

    @pytest.mark.parametrize("kind", ["ablation_curve", "channels"])
    def test_of_curves(self, kind, made):
        result = made[kind]
        rows = summarise(result)
        assert len(rows) == result.top.size
        for row in rows.to_dict("records"):
            place = {name: row[name] for name in ("ranking", "score", "count")}
            score = {"score": row["score"]}
            assert row["top"] == result.top.sel(place).item()
            assert row["intact"] == result.intact.sel(score).item()
            assert row["random"] == pytest.approx(
                result.random.sel(score | {"count": row["count"]}).mean("draw").item(), nan_ok=True
            )

    def test_of_curves_without_random_draws(self):
        with warnings.catch_warnings(action="ignore", category=ProbeWarning):
            result = curve(ranking=rankings()[0], score="agreement", controls=["matched"])
        text = write_table(result)
        assert "top − matched" in text and "top − random" not in text
        assert len(summarise(result)) == 2

    def test_of_pooled_vectors(self, made):
        result = made["pooled"]
        row = summarise(result).set_index(["layer", "readout"]).loc[("conv2", "ordered")]
        assert row.accuracy == result.accuracy.sel(layer="conv2", readout="ordered").item()
        half = half_width(row.accuracy_se, result.sizes["fold"] - 1)
        assert f"{row.accuracy:.3f} ± {half:.3f}" in write_table(result)

    def test_of_objects_that_move(self, made):
        result = made["similarity"]
        row = summarise(result).set_index(["layer", "reference"]).loc[("conv2", "centre")]
        expected = result.global_similarity.sel(layer="conv2", reference="centre").mean("object").item()
        assert row.global_similarity == pytest.approx(expected, rel=1e-6)
