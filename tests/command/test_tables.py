"""Results at a glance."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import probe
from probe import results
from probe.command.named_models import open_model
from probe.command.tables import summarise, write_json
from probe.errors import ArgumentError
from probe.reports.glance.summaries import KINDS

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
        names = [f"layerwise-{part}.png" for part in ("layers", "decoded-maps-0-conv1", "mean-maps-0-conv1")]
        assert outcome.stderr.splitlines() == [f"figure: figures/{name}" for name in names]
        for name in names:
            with Image.open(f"figures/{name}") as image:
                assert len(np.unique(np.asarray(image.convert("L")))) > 10

    def test_figures_are_kept_unless_told_otherwise(self, saved, workplace, run):
        words = ["show", saved / "channelwise.nc", "--figures", "figures"]
        assert run(*words).exit_code == 0
        assert {path.name for path in Path("figures").iterdir()} == {
            "channelwise-channels.png",
            "channelwise-mean-maps-0-conv1.png",
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
        assert len(list(Path("figures").iterdir())) == 3

    @pytest.mark.parametrize("command", ["show", "report", "report file"])
    @pytest.mark.parametrize(("content", "message"), [(None, "No such file"), (b"nonsense", "damaged or no netCDF")])
    def test_no_result(self, command, content, message, workplace, run):
        if content is not None:
            Path("x.nc").write_bytes(content)
        outcome = run(*command.split(), "x.nc")
        assert outcome.exit_code == 1
        assert outcome.stderr.startswith("error: x.nc: ")
        assert message in outcome.stderr


class TestEveryKind:
    def test_there_is_a_table_for_each(self, made):
        assert set(KINDS) == set(results.KINDS) == set(made)

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

    @pytest.mark.parametrize("kind", KINDS)
    def test_as_json(self, kind, made):
        content = json.loads(write_json(made[kind], None))
        assert content["kind"] == kind
        assert content["scores"] and all(content["scores"])
        for name in ("model", "weights_digest", "n_images", "images_digest"):
            assert content[name] == made[kind].attrs[name]

    def test_what_is_no_result_of_probe_is_an_error(self):
        with pytest.raises(ArgumentError, match=r"kind='other': expected a result of probe, of kind layerwise"):
            summarise(xr.Dataset(attrs={"kind": "other"}))
