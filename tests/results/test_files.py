"""Result files: what is written is read back; what is foreign, damaged or in the way is named."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import probe
from probe.errors import ArgumentError, ResultFileError
from probe.results import SCHEMA, check_writable, layer_map, write_atomically
from probe.testing import noise_images

pytestmark = pytest.mark.usefixtures("one_thread")


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
        subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=Path(__file__).parents[2])


class TestSave:
    def test_a_command_that_is_not_unicode_is_kept_as_far_as_it_can_be(self, result, tmp_path):
        odd = result.assign_attrs(command="probe layerwise net --images Gr\udcfcn")
        assert probe.load(probe.save(odd, tmp_path / "odd.nc")).command == r"probe layerwise net --images Gr\udcfcn"

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

    def test_statistics_and_what_is_no_path_are_told_what_reads_them(self, tmp_path):
        path = tmp_path / "statistics.pt"
        torch.save({"n": 1}, path)
        with pytest.raises(ResultFileError, match=r"It may be statistics, which probe\.Statistics\.load reads"):
            probe.load(path)
        with pytest.raises(ArgumentError, match=r"path: expected that of a result, \.nc, found NoneType"):
            probe.load(None)

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
