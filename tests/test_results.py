"""Result files: what is written is read back; what is foreign, damaged or in the way is named."""

import copy
import json
import os
import pickle
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import probe
from probe.analyses import rook
from probe.analyses.channels import study as channels_study
from probe.analyses.overview.comparison import compare
from probe.analyses.padding_comparison import study as padding_comparison
from probe.errors import ArgumentError, ResultFileError
from probe.results import KINDS, SCHEMA, VARIABLES, Facts, Result, check_writable, finish, layer_map, write_atomically
from probe.testing import noise_images, padded_net
from tests.erasing.made import ERASING
from tests.overviews import made_overview

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def result():
    return probe.layerwise(
        padded_net(depth=2, width=4), noise_images(20, 8), maps="conv2", positions=None, progress=False
    )


@pytest.fixture(scope="module")
def channels():
    return probe.channelwise(padded_net(depth=2, width=4), noise_images(20, 8), maps="conv1", progress=False)


class TestSchema:
    @pytest.mark.parametrize("name", ["result", "channels"])
    def test_every_variable_has_a_long_name_and_units(self, name, request):
        for variable in request.getfixturevalue(name).data_vars.values():
            assert variable.attrs["long_name"]
            assert variable.attrs["units"]
        assert all(len(described) == 2 for described in VARIABLES.values())

    def test_provenance_is_flat_text_and_numbers(self, result):
        assert all(isinstance(value, str | int | float) for value in result.attrs.values())
        settings = json.loads(result.attrs["settings"])
        assert settings["alpha"] == 1e-3
        assert settings["folds"] == 5
        assert json.loads(result.attrs["versions"])["torch"] == metadata.version("torch")
        assert json.loads(result.attrs["skipped"]) == {}

    def test_facts_of_any_kind_become_text(self):
        named = {"flag": True, "nothing": None, "list": [1], "share": 0.5, "empty": ""}
        stamped = finish(xr.Dataset(), kind="audit", facts=Facts(), settings={}, **named)
        assert {name: stamped.attrs[name] for name in ("schema", *named)} == {
            "schema": SCHEMA, "flag": "true", "nothing": "null", "list": "[1]", "share": 0.5, "empty": "",
        }  # fmt: skip

    def test_facts_can_be_taken_from_a_result(self):
        facts = Facts(model="Net", n_images=3, skipped={"a": "b"}, warnings=("one", "two"))
        assert Facts.of(finish(xr.Dataset(), kind="audit", facts=facts, settings={})) == facts
        assert facts.warned(["two", "three"]).warnings == ("one", "two", "three")

    def test_maps_are_found_by_their_layer(self, result):
        assert layer_map(result, "mean_map", "conv2").dims == ("stimulus", "channel", "row", "column")
        assert layer_map(result, "decoded_map", "conv2").dims == ("stimulus", "target", "row", "column")
        with pytest.raises(KeyError, match="no mean_map of layer 'conv1'; name it in maps="):
            layer_map(result, "mean_map", "conv1")


def made_results():
    """A result of every public function that gives one, and how it was made."""
    net, images = padded_net("zeros", depth=2), noise_images(40, 8)
    quietly = {"progress": False, "seed": 3}
    yield "layerwise", lambda: probe.layerwise(net, images, positions=None, **quietly)
    yield "channelwise", lambda: probe.channelwise(net, images, **quietly)
    yield "ranking", lambda: probe.rank_channels(net, images, "conv2", **quietly)
    yield (
        "rankings",
        lambda: probe.compare_rankings(
            *(probe.rank_channels(net, images, "conv2", method=m, **quietly) for m in ("flip", "shift"))
        ),
    )
    yield (
        "ablation_curve",
        lambda: probe.ablation_curve(
            net, images, range(16), layer="conv1", score="agreement", counts=[2], draws=2, **quietly
        ),
    )
    yield "pooled", lambda: probe.pooled(net, images, grid=2, **quietly)
    yield "similarity", lambda: probe.shift_similarity(net, images[:2], "conv2", frame=11, **quietly)
    yield (
        "shift_consistency",
        lambda: probe.shift_consistency(nn.Sequential(net, nn.AdaptiveMaxPool2d(1), nn.Flatten()), images, **quietly),
    )
    yield "neighbours", lambda: probe.neighbours(net, images, "conv2", **quietly)
    yield "border_profile", lambda: probe.border_profile(net, images, **quietly)
    yield from ERASING.items()
    yield "audit", lambda: probe.audit(net, (3, 8, 8))
    yield "study", lambda: rook.run(preset="tiny", progress=False)
    yield "padding_comparison", lambda: padding_comparison.run(net, images, paddings=["zeros"], **quietly)
    yield (
        "channels",
        lambda: channels_study.run(
            net, images, noise_images(60, 8, seed=1), layer="conv1", score="agreement", methods=["flip", "shift"],
            counts=[2], draws=2, **quietly,
        ),
    )  # fmt: skip
    yield "overview", lambda: made_overview(parts=["padding_circular", "audit"])
    yield "comparison", lambda: compare(dict.fromkeys("ab", made_overview(parts=[])))


MADE = dict(made_results())


class TestStamp:
    def test_every_kind_is_made_here(self):
        assert set(MADE) == set(KINDS)

    @pytest.mark.filterwarnings("ignore::probe.ProbeWarning")
    @pytest.mark.parametrize("kind", MADE)
    def test_every_public_result_tells_what_it_is_and_how_it_was_made(self, kind, tmp_path):
        result = MADE[kind]()
        assert result.attrs["kind"] == kind and result.attrs["schema"] == SCHEMA
        texts = ("model", "weights_digest", "images_digest", "created", "command", "device")
        assert {name: type(result.attrs[name]) for name in texts} == dict.fromkeys(texts, str)
        packed = {name: json.loads(result.attrs[name]) for name in ("settings", "warnings", "skipped", "versions")}
        assert packed["settings"] and {"torch", "xarray", "position-probe"} <= packed["versions"].keys()
        assert isinstance(packed["warnings"], list) and isinstance(packed["skipped"], dict)
        assert result.attrs["confidence"] == 0.95
        assert result.attrs["command"].startswith("probe.")
        if kind not in ("audit", "study", "comparison"):
            assert result.attrs["images_digest"] and result.attrs["n_images"] in (2, 40)
            assert result.attrs["seed"] == 3
        if kind not in ("study", "padding_comparison", "comparison"):  # several networks, each with weights of its own
            assert len(result.attrs["weights_digest"]) == 16
        for name, variable in result.data_vars.items():
            assert {"long_name", "units"} <= variable.attrs.keys(), name
        assert probe.load(probe.save(result, tmp_path / "result.nc")).identical(result)

    def test_depth_is_the_order_of_a_call_among_all_calls(self):
        net, images = padded_net("zeros", depth=2), noise_images(40, 8)
        listed = list(probe.list_layers(net, images).index)
        for kind in ("layerwise", "pooled", "neighbours", "audit"):
            result = MADE[kind]()
            names = [str(name) for name in result.layer.values]
            assert result.depth.values.tolist() == [listed.index(name) for name in names], kind


class TestRoundTrip:
    @pytest.mark.parametrize("name", ["result", "channels"])
    def test_a_saved_result_is_read_back_whole(self, name, request, tmp_path):
        original = request.getfixturevalue(name)
        path = probe.save(original, tmp_path / "result.nc")
        loaded = probe.load(path)
        assert loaded.identical(original)
        assert {n: v.dtype for n, v in loaded.data_vars.items()} == {n: v.dtype for n, v in original.data_vars.items()}

    @pytest.mark.parametrize(
        "value",
        ["", "<script>alert(1)</script>", "ω² — 位置\n\t'\"", 0.1, -3, 2**40, np.float32(0.5), np.int64(7), [1.0, 2.0]],
    )
    def test_attributes(self, value, result, tmp_path):
        changed = result.assign_attrs(mine=value)
        loaded = probe.load(probe.save(changed, tmp_path / "result.nc"))
        np.testing.assert_array_equal(loaded.attrs["mine"], value)

    @pytest.mark.parametrize("value", [None, {"a": 1}, object(), "zero \0 byte", {1, 2}])
    def test_attributes_that_netcdf_does_not_hold(self, value, result, tmp_path, left_as_found):
        path = tmp_path / "result.nc"
        path.write_text("old")
        message = r"result\.nc: cannot be written: netCDF does not hold what is in the result .*json\.dumps"
        with pytest.raises(ResultFileError, match=message), left_as_found():
            probe.save(result.assign_attrs(mine=value), path, overwrite=True)

    @pytest.mark.parametrize("layer", ["<script>alert(1)</script>", "a/b", "a[0]*?", "空", " ", "r2", "layer"])
    def test_layers_of_any_name(self, layer, tmp_path):
        model = torch.nn.Sequential()
        model.add_module(layer, torch.nn.Conv2d(3, 2, 3))
        options = {"layers": layer, "maps": layer, "progress": False}
        for measured in (
            probe.layerwise(model, noise_images(20, 8), positions=None, **options),
            probe.channelwise(model, noise_images(20, 8), **options),
        ):
            loaded = probe.load(probe.save(measured, tmp_path / "result.nc", overwrite=True))
            assert loaded.identical(measured)
            assert set(loaded.layer.values) == {layer}
            assert layer_map(loaded, "mean_map", layer).sizes["channel"] == 2

    def test_a_part_of_a_result_is_a_result(self, result, tmp_path):
        part = result.sel(stimulus="rolled", target="row")
        assert probe.load(probe.save(part, tmp_path / "part.nc")).identical(part)

    def test_reading_a_file_never_loads_torch(self, result, tmp_path):
        path = probe.save(result, tmp_path / "result.nc")
        code = f"import probe, sys; probe.load({str(path)!r}); assert 'torch' not in sys.modules"
        subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=Path(__file__).parents[1])


class TestSave:
    def test_an_existing_file_is_kept_unless_asked(self, result, tmp_path, left_as_found):
        path = tmp_path / "result.nc"
        path.write_text("old")
        with pytest.raises(ResultFileError, match=r"result\.nc: exists already\. Pass overwrite=True"), left_as_found():
            probe.save(result, path)
        assert probe.load(probe.save(result, path, overwrite=True)).identical(result)
        assert [file.name for file in tmp_path.iterdir()] == ["result.nc"]

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("folder", "is a folder; name a file in it"),
            ("missing/result.nc", r"cannot be written: No such file or directory\. Choose a place"),
            ("file/result.nc", r"cannot be written: Not a directory\. Choose a place"),
            ("x" * 300, r"cannot be written: File name too long\. Choose a place"),
            ("pipe", "is a device or pipe, which cannot be replaced"),
        ],
    )
    def test_a_path_that_cannot_be_written(self, name, reason, result, tmp_path, left_as_found):
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").write_text("old")
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ResultFileError, match=f"{name}: {reason}"), left_as_found():
            probe.save(result, tmp_path / name, overwrite=True)
        assert (tmp_path / "pipe").is_fifo()

    def test_places_that_cannot_be_written_are_found_before_the_work(self, tmp_path):
        (tmp_path / "x.nc").write_bytes(b"precious")
        (tmp_path / "link.nc").symlink_to(tmp_path / "absent" / "x.nc")
        for name in ("", "x.nc", "x.nc/y.nc", "x" * 300, "link.nc"):
            with pytest.raises(ResultFileError):
                check_writable(tmp_path / name, overwrite=False)
        with pytest.raises(ResultFileError, match=r"Choose a place .*, or make the folder .*absent first\."):
            check_writable(tmp_path / "absent" / "x.nc", overwrite=False)
        check_writable(tmp_path / "x.nc", overwrite=True)
        check_writable(tmp_path / "y.nc", overwrite=False)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["link.nc", "x.nc"]
        assert (tmp_path / "x.nc").read_bytes() == b"precious"

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_without_permission(self, result, tmp_path, left_as_found):
        tmp_path.chmod(0o555)
        with pytest.raises(ResultFileError, match=r"result\.nc: cannot be written: Permission denied"), left_as_found():
            probe.save(result, tmp_path / "result.nc")

    def test_a_folder_without_permission_simulated(self, result, tmp_path, monkeypatch, left_as_found):
        def refuse(path, *arguments, **options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
        message = r"result\.nc: cannot be written: Permission denied\. Choose a place that can be written and has"
        with pytest.raises(ResultFileError, match=message):
            probe.save(result, tmp_path / "result.nc")
        monkeypatch.undo()
        assert list(tmp_path.iterdir()) == []

    def test_on_a_full_disk_the_old_file_stays(self, result, tmp_path, left_as_found):
        path = probe.save(result, tmp_path / "result.nc")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        with left_as_found():
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
            try:
                with pytest.raises(ResultFileError, match=r"cannot be written: File too large\. .* has 0\.\d MB free"):
                    probe.save(result, path, overwrite=True)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert probe.load(path).identical(result)

    @pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    @pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
    def test_whatever_interrupts_leaves_the_old_file_alone(self, failure, step, tmp_path, monkeypatch, left_as_found):
        def fail(*arguments):
            raise failure

        path = tmp_path / "result.nc"
        path.write_text("old")
        monkeypatch.setattr(step, fail)
        with pytest.raises((ResultFileError, KeyboardInterrupt)), left_as_found():
            write_atomically(path, b"new")

    def test_a_link_is_followed(self, tmp_path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "folder" / "file")
        assert write_atomically(tmp_path / "link", b"new") == tmp_path / "link"
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "folder" / "file").read_bytes() == b"new"

    @pytest.mark.parametrize("wrong", [None, "result", np.ones(3), xr.Dataset({"r2": 1.0})])
    def test_what_is_no_result(self, wrong, tmp_path, left_as_found):
        with (
            pytest.raises(ArgumentError, match=r"result: expected a Dataset that probe made.*keep_attrs"),
            left_as_found(),
        ):
            probe.save(wrong, tmp_path / "result.nc")

    def test_a_variable_of_a_result(self, result, tmp_path):
        with pytest.raises(ArgumentError, match="found a DataArray"):
            probe.save(result.r2, tmp_path / "result.nc")


class TestLoad:
    @pytest.mark.parametrize(
        ("name", "reason"),
        [("missing.nc", "No such file or directory"), ("", "Is a directory"), ("x" * 300, "too long")],
    )
    def test_what_cannot_be_read(self, name, reason, tmp_path):
        with pytest.raises(ResultFileError, match=f"{name}: cannot be read: .*{reason}"):
            probe.load(tmp_path / name)

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
    def test_a_truncated_file(self, share, result, tmp_path, left_as_found):
        path = probe.save(result, tmp_path / "result.nc")
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ResultFileError, match=r"result\.nc: is damaged or no netCDF file"), left_as_found():
            probe.load(path)

    @pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(100), b"\x89HDF\r\n\x1a\n" + bytes(500)])
    def test_a_foreign_file(self, content, tmp_path, left_as_found):
        path = tmp_path / "result.nc"
        path.write_bytes(content)
        with pytest.raises(ResultFileError, match=r"result\.nc: is damaged or no netCDF file"), left_as_found():
            probe.load(path)

    @pytest.mark.parametrize("schema", [None, "position-probe result 99"])
    def test_a_result_of_something_else(self, schema, tmp_path):
        path = tmp_path / "result.nc"
        attributes = {} if schema is None else {"schema": schema}
        xr.Dataset({"r2": 1.0}, attrs=attributes).to_netcdf(path, engine="h5netcdf")
        with pytest.raises(ResultFileError, match=rf"no result of this version of probe.*{SCHEMA}.*found {schema!r}"):
            probe.load(path)


class TestWhatCannotBeSaved:
    def test_an_index_of_several_levels_names_the_file_and_the_cure(self, result, tmp_path):
        stacked = result.stack(place=("layer", "stimulus"))
        with pytest.raises(ResultFileError, match=r"x\.nc: cannot be written: netCDF does not hold .*MultiIndex"):
            probe.save(stacked, tmp_path / "x.nc")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["x.csv", "x.HTML", "x.json", "x.png"])
    def test_the_name_of_another_format_is_refused(self, result, tmp_path, name):
        with pytest.raises(ArgumentError, match=r"is written as netCDF; name the file \.nc"):
            probe.save(result, tmp_path / name)

    def test_the_home_of_the_user_is_found(self, result, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        probe.save(result, "~/x.nc")
        assert probe.load("~/x.nc").identical(result) and (tmp_path / "x.nc").is_file()


def in_place(change):
    """Return what a change makes of a copy."""

    def changed(result, other):
        own = result.copy(deep=True)
        change(own)
        return own

    return changed


def plus_one(own):
    own += 1


AS_MEASURED = {
    "sel": lambda r, o: r.sel(layer=["conv2"], stimulus="rolled"),
    "isel": lambda r, o: r.isel(layer=[0]),
    "loc": lambda r, o: r.loc[{"layer": ["conv2"]}],
    "head": lambda r, o: r.head(layer=1),
    "squeeze": lambda r, o: r.squeeze(),
    "sortby": lambda r, o: r.sortby("layer"),
    "transpose": lambda r, o: r.transpose(),
    "drop_vars": lambda r, o: r.drop_vars("r2_null"),
    "names": lambda r, o: r[[*r.data_vars]],
    "del": in_place(lambda own: own.__delitem__("r2_null")),
    "assign": lambda r, o: r.assign(more=1.0),
    "setitem": in_place(lambda own: own.__setitem__("more", 1.0)),
    "same numbers": lambda r, o: r.assign(r2=r.r2),
    "assign_attrs": lambda r, o: r.assign_attrs(more=1.0),
    "assign_coords": lambda r, o: r.assign_coords(layer=[f"body.{name}" for name in r.layer.values]),
    "copy": lambda r, o: r.copy(),
    "copy.copy": lambda r, o: copy.copy(r),
    "deepcopy": lambda r, o: copy.deepcopy(r),
    "pickle": lambda r, o: pickle.loads(pickle.dumps(r)),
    "load": lambda r, o: r.load(),
    "compute": lambda r, o: r.compute(),
    "pipe": lambda r, o: r.pipe(lambda same: same),
}
OF_OTHER_NUMBERS = {
    "concat of networks": lambda r, o: xr.concat([r, o], "padding"),
    "concat of layers": lambda r, o: xr.concat([r, o], "layer"),
    "combine_nested": lambda r, o: xr.combine_nested([r, o], "seed"),
    "mean of networks": lambda r, o: xr.concat([r, o], "seed").mean("seed"),
    "mean": lambda r, o: r.mean("target"),
    "max": lambda r, o: r.max("layer"),
    "cumsum": lambda r, o: r.cumsum("layer"),
    "times": lambda r, o: r * 2,
    "plus": lambda r, o: r + o,
    "in place": in_place(plus_one),
    "abs": lambda r, o: abs(r),
    "ufunc": lambda r, o: np.exp(r),
    "apply_ufunc": lambda r, o: xr.apply_ufunc(np.exp, r, keep_attrs=True),
    "map": lambda r, o: r.map(lambda variable: variable * 2, keep_attrs=True),
    "groupby": lambda r, o: r.groupby("layer").map(lambda part: part * 2),
    "rolling": lambda r, o: r.rolling(layer=2).mean(),
    "merge": lambda r, o: r.merge(o, compat="override"),
    "xr.merge": lambda r, o: xr.merge([r, o], compat="override"),
    "combine_first": lambda r, o: o.combine_first(r),
    "where": lambda r, o: r.where(r.r2 > 0),
    "xr.where": lambda r, o: xr.where(r > 0, r, 0),
    "fillna": lambda r, o: r.fillna(0),
    "clip": lambda r, o: r.clip(0, 1, keep_attrs=True),
    "astype": lambda r, o: r.astype(int),
    "full_like": lambda r, o: xr.full_like(r, 0),
    "roll": lambda r, o: r.roll(layer=1),
    "shift": lambda r, o: r.shift(layer=1),
    "reindex": lambda r, o: r.reindex(layer=["conv2", "other"]),
    "expand_dims": lambda r, o: r.expand_dims("padding"),
    "assign": lambda r, o: r.assign(r2=r.r2 * 2),
    "update": in_place(lambda own: own.update({"r2": own.r2 * 2})),
    "setitem": in_place(lambda own: own.__setitem__("r2", own.r2 * 2)),
    "a part in place": in_place(lambda own: own.__setitem__({"layer": 0}, 0)),
    "copy of other data": lambda r, o: r.copy(False, {name: 2 * v.values for name, v in r.data_vars.items()}),
}


@pytest.fixture(scope="module")
def pair():
    """The results of two networks, of numbers alone."""
    nets, images = [padded_net(depth=2, seed=seed) for seed in (0, 1)], noise_images(40, 8)
    return [probe.layerwise(net, images, positions=None, progress=False).drop_vars("valid") for net in nets]


class TestWhatShowsItself:
    @pytest.mark.parametrize("operation", AS_MEASURED)
    def test_numbers_as_measured_do(self, operation, pair):
        made = AS_MEASURED[operation](*pair)
        assert type(made) is Result and repr(made).startswith("model: ")

    @pytest.mark.parametrize("operation", OF_OTHER_NUMBERS)
    def test_other_numbers_are_shown_by_xarray(self, operation, pair):
        with xr.set_options(keep_attrs=True):
            made = OF_OTHER_NUMBERS[operation](*pair)
        assert type(made) is xr.Dataset and repr(made).startswith("<xarray.Dataset>")
        assert all(type(one) is Result for one in pair)
