"""The command as a whole, and what measures."""

import json
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

import probe
from probe.command.named_models import open_model
from probe.command.preprocessing import IMAGENET
from probe.testing import padded_net

SIZE = 32
WIDTH = 37
COUNT = 24

COMMANDS = (
    "",
    "layers",
    "layerwise",
    "channelwise",
    "neighbours",
    "shift-consistency",
    "collect",
    "merge",
    "plan",
    "show",
    "report",
    "report padding",
    "report channels",
    "report file",
)


def by_hand(pixels):
    """The preprocessing, written down independently: a crop of the middle, in ImageNet's units."""
    start = round((WIDTH - SIZE) / 2)
    cropped = pixels[:, :, start : start + SIZE] / 255
    normalised = (cropped - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return torch.from_numpy(normalised.transpose(0, 3, 1, 2)).float()


def _shuffled(net, seed):
    return probe.with_position_embedding(net, "shuffled", seed=seed)


class TestProgram:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_help_has_examples(self, command, run):
        outcome = run(*command.split(), "--help")
        assert outcome.exit_code == 0
        examples = outcome.stdout.partition("Examples:\n")[2].splitlines()
        assert examples
        assert examples[0].startswith(f"  probe {command.removesuffix(' file')}")

    @pytest.mark.parametrize("command", ["layers", "layerwise", "channelwise", "report padding", "analyse", "audit"])
    def test_help_of_commands_that_take_a_model_says_what_one_is(self, command, run):
        for option in ("--help", "-h"):
            lines = run(*command.split(), option).stdout.partition("MODEL is one of:\n")[2].splitlines()
            assert [line.split()[0].rstrip(",") for line in lines[:4]] == [
                "resnet18", "timm:NAME", "hf:FOLDER", "module:function",
            ]  # fmt: skip
        assert "MODEL is one of" not in run("show", "--help").stdout

    def test_help_and_usage_errors_load_nothing_heavy(self, python):
        code = (
            "import sys; from probe.command.main import main\n"
            "for words in (['--help'], ['layerwise', '--help'], ['report', 'padding', '--seeds', 'x']):\n"
            "    main(words, standalone_mode=False) if '--help' in words else None\n"
            "assert not {'torch', 'numpy', 'xarray', 'matplotlib'} & set(sys.modules), sorted(sys.modules)"
        )
        outcome = python("-c", code)
        assert outcome.returncode == 0, outcome.stderr

    def test_version(self, run):
        assert run("--version").stdout == f"probe, version {metadata.version('position-probe')}\n"

    def test_runs_as_a_module(self, workplace, python):
        outcome = python("-m", "probe", "layers", "cli_nets:small", "--size", SIZE)
        assert outcome.returncode == 0
        assert "conv2" in outcome.stdout
        assert outcome.stderr.splitlines() == [
            "weights: as cli_nets:small gives them (seed 0)",
            "preprocessing: resize 32, crop 32, ImageNet mean and standard deviation",
        ]

    @pytest.mark.parametrize(
        "words",
        [
            ["nothing"],
            ["layers"],
            ["layers", "resnet18", "--size", "0"],
            ["layers", "resnet18", "--size", "theirs"],
            ["layerwise", "resnet18", "-o", "x.nc"],
            ["collect", "resnet18", "-o", "x.h5"],
            ["merge", "-o", "x.h5"],
            ["layerwise", "resnet18", "-o", "x.nc", "--images", "absent"],
            ["layerwise", "resnet18", "-o", "x.nc", "--images", ".", "--positions", "some"],
            ["layerwise", "resnet18", "-o", "x.nc", "--images", ".", "--targets", "rows"],
            ["layerwise", "resnet18", "-o", "x.html", "--images", "."],
            ["layers", "resnet18", "--model-args", "depth"],
            ["layerwise", "resnet18", "-o", "x.nc", "--images", ".", "--alpha", "0"],
            ["channelwise", "resnet18", "-o", "x.nc", "--images", ".", "--folds", "1"],
            ["channelwise", "resnet18", "-o", "x.nc", "--images", ".", "--alpha", "1"],
            ["show"],
            ["report"],
            ["report", "--bogus", "x.nc"],
            ["report", "padding", "--model", "resnet18"],
            ["report", "padding", "--model", "resnet18", "--images", "."],
            ["report", "padding", "--images", "."],
            ["report", "padding", "--weights", "x.pt"],
            ["report", "padding", "--model", "cli_nets:small", "--images", ".", "--seeds", "2"],
            ["report", "padding", "-o", "x.nc"],
        ],
        ids=" ".join,
    )
    def test_wrong_usage_ends_with_2(self, words, workplace, run):
        outcome = run(*words)
        assert outcome.exit_code == 2
        assert "Usage: probe" in outcome.stderr
        assert outcome.stdout == ""
        assert [path.name for path in workplace.iterdir()] == ["cli_nets.py"]

    def test_ctrl_c_ends_with_130_and_leaves_no_file(self, workplace, photos):
        words = [
            "-m",
            "probe",
            "layerwise",
            "cli_nets:slow",
            "--images",
            str(photos),
            "-o",
            "x.nc",
            "--size",
            str(SIZE),
        ]
        process = subprocess.Popen(
            [sys.executable, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Shells start what runs in the background without it, and Python inherits this.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            deadline = time.monotonic() + 60
            while not (workplace / "running").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=30)
        finally:
            process.kill()
        assert process.returncode == 130
        assert stdout == ""
        assert stderr.splitlines()[-1] == "interrupted"
        assert "Traceback" not in stderr
        assert not (workplace / "x.nc").exists()


# What is refused before anything heavy is loaded, with what is offered instead.
REFUSED = {
    "layerwis": "No such command 'layerwis'. Did you mean layerwise",
    "report pading": "nor a file. Did you mean padding?",
    "analyse rok": "there is no study 'rok'; expected one of actions, audit",
    "layerwise --positions x": "'x' is not auto, all or a whole number",
    "layerwise --targets row,colum": "'colum' is none of row, column, radius",
    "channelwise --stimuli roled": "is none of natural, rolled, noise, constant, rolled_space, rolled_time. Did",
    "layerwise --images setup.py": "setup.py: there is no such folder",
    f"layerwise --images {__file__}": "is a file; pass its folder, ",
    "report x.nc -o x.pdf": "x.pdf: a page is an HTML file; name it x.html",
    "report padding -o x.nc": "x.nc: a page is an HTML file; name it x.html",
    "report layerwise": "The page of a saved result is written by `probe report FILE.nc`",
    "layerwise --layout NCWH": "'NCWH' is none of NCHW, NHWC, NLC",
    "layerwise --layout NLC[5-201]": "as NLC[5:201]",
    "collect --shard 9/8": "'9/8' is not K/N, the K-th of N shards, from 1/N to N/N, such as 3/8",
    "collect --shard 3": "'3' is not K/N",
    "layerwise --device gpu": "is cuda",
    "channelwise --device cuda0": "Did you mean cuda:0?",
    "shift-consistency resnet18 --law roll": "'roll' is not one of 'crop', 'circular'",
    "neighbours resnet18 --stimuli noise": "'noise' is none of natural, rolled",
    "layers net:small --model-args depth=two": "text is quoted: depth='two'",
    "layerwise -o x.html": "x.html: a result is a netCDF file; name it x.nc",
    "channelwise -o x.json": "x.json: a result is a netCDF file; name it x.nc",
    "audit resnet18 -o x.html": "x.html: a result is a netCDF file; name it x.nc",
    "analyse rook -o x.html": "x.html: a result is a netCDF file; name it x.nc",
    "analyse rook --paddings zero": "'zero' is none of zeros, reflect",
    "report padding --paddings wrap": "'wrap' is none of zeros, reflect",
    "report channels resnet18 --score acuracy": "Did you mean accuracy?",
    "report channels resnet18 --methods flip-lef": "Did you mean flip-left",
}


class TestRefused:
    @pytest.mark.parametrize("words", REFUSED)
    def test_what_cannot_be_is_refused_and_the_right_word_offered(self, words, run):
        outcome = run(*words.split())
        assert outcome.exit_code == (1 if words == "analyse rok" else 2)
        assert REFUSED[words] in outcome.stderr
        assert outcome.stdout == ""

    def test_the_study_meant_is_offered(self, run):
        assert "Did you mean rook?" in run("analyse", "rok").stderr

    def test_nothing_heavy_is_loaded_for_it_and_it_takes_less_than_a_second(self, python):
        code = (
            "import sys, time\n"
            "from probe.command.main import main\n"
            f"for words in {[words.split() for words in REFUSED]!r}:\n"
            "    try: main(words)\n"
            "    except SystemExit as ended: assert ended.code, words\n"
            "assert not {'torch', 'numpy', 'xarray', 'matplotlib'} & set(sys.modules), sorted(sys.modules)\n"
            "assert time.process_time() < 1, time.process_time()"
        )
        outcome = python("-c", code)
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.stderr.count("Did you mean") >= 5

    def test_the_help_tells_of_completion(self, run, python):
        assert 'eval "$(_PROBE_COMPLETE=bash_source probe)"' in run("--help").stdout


class TestLayers:
    def test_json_is_the_table_of_list_layers(self, workplace, measured):
        outcome = measured("layers", "cli_nets:small", "--size", SIZE, "--json")
        expected = probe.list_layers(padded_net(depth=2), torch.zeros(1, 3, SIZE, SIZE))
        rows = json.loads(outcome.stdout)
        assert [row["name"] for row in rows] == list(expected.index)
        assert [tuple(row["shape"]) for row in rows] == list(expected["shape"])
        assert [row["auto"] for row in rows] == list(expected["auto"])

    def test_table(self, workplace, measured):
        lines = measured("layers", "cli_nets:small", "--size", SIZE).stdout.splitlines()
        assert lines[0].split() == ["type", "shape", "call", "calls", "auto", "MB", "note"]
        assert any(line.split()[:3] == ["conv2", "Conv2d", "16×32×32"] for line in lines)

    def test_a_module_that_is_never_called_has_no_shape(self, workplace, measured):
        lines = measured("layers", "cli_nets:tokens", "--size", SIZE).stdout.splitlines()
        assert any(line.endswith("never called") for line in lines)

    def test_segmentation_model_without_a_download(self, workplace, monkeypatch, measured):
        def no_network(*args, **kwargs):
            raise AssertionError("a download was tried")

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
        rows = json.loads(measured("layers", "lraspp_mobilenet_v3_large", "--size", SIZE, "--json").stdout)
        assert {"backbone.0.0", "classifier.high_classifier"} <= {row["name"] for row in rows if row["auto"]}

    def test_random_weights_follow_the_seed_and_leave_the_random_state(self):
        state = torch.get_rng_state()
        first, again, other = (open_model("squeezenet1_1", seed=seed).model.features[0].weight for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(state, torch.get_rng_state())


class TestClips:
    @pytest.fixture
    def videos(self, tmp_path):
        generator = np.random.default_rng(0)
        for video in range(20):
            folder = tmp_path / "videos" / "class" / f"{video:02}"
            folder.mkdir(parents=True)
            for frame in range(6):
                pixels = generator.integers(256, size=(16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"image_{frame + 1:05}.png")
        return tmp_path / "videos"

    def test_folders_of_frames_are_measured_as_the_library_does(self, workplace, videos, measured):
        words = ["layerwise", "r3d_18", "--images", videos, "-o", "clips.nc", "--size", 16, "--frames", 4]
        words += ["--layers", "stem.0", "--stimuli", "rolled,rolled_space", "--frame-sampling", "even"]
        measured(*words)
        result = probe.load("clips.nc")
        assert result.target.values.tolist() == ["row", "column", "frame"]
        assert result.stimulus.values.tolist() == ["rolled", "rolled_space"]
        assert (result.frames.item(), result.height.item()) == (4, 8)
        model = open_model("r3d_18").model
        mean, deviation = (torch.tensor(values)[:, None, None] for values in IMAGENET)
        expected = probe.layerwise(
            model, probe.Clips(videos, frames=4, sampling="even"), layers="stem.0",
            stimuli=("rolled", "rolled_space"), progress=False,
            transform=lambda frame: (pil_to_tensor(frame) / 255 - mean) / deviation,
        )  # fmt: skip
        np.testing.assert_allclose(result.r2, expected.r2, atol=1e-3)
        measured("collect", *words[1:5], "clips.h5", *words[6:])
        np.testing.assert_allclose(probe.layerwise(probe.Statistics.load("clips.h5")).r2, result.r2, atol=1e-5)

    def test_layers_of_a_model_of_clips_are_listed_with_frames(self, run):
        outcome = run("layers", "r3d_18", "--frames", "4", "--size", "16")
        assert "64×4×8×8" in outcome.stdout

    def test_which_frames_without_how_many_is_an_error(self, run, videos):
        outcome = run("layerwise", "r3d_18", "--images", str(videos), "-o", "x.nc", "--frame-sampling", "even")
        assert outcome.exit_code == 2
        assert "--frame-sampling needs --frames" in outcome.stderr


class TestMeasurements:
    def test_layerwise_agrees_with_the_library(self, workplace, photos, pixels, measured):
        words = ["layerwise", "cli_nets:small", "--images", photos, "-o", "my result.nc", "--size", SIZE]
        words += ["--targets", "row,radius", "--stimuli", "rolled", "--layers", "conv1", "--layers", "relu*"]
        words += ["--positions", "all", "--folds", 4, "--maps", "relu2", "--max-images", 20, "--alpha", 0.01]
        outcome = measured(*words, "--batch-size", 8, "--seed", 3)
        result = probe.load("my result.nc")
        expected = probe.layerwise(
            padded_net(depth=2), by_hand(pixels)[[rank * COUNT // 20 for rank in range(20)]],
            targets=("row", "radius"), stimuli="rolled", layers=("conv1", "relu*"), positions=None, folds=4,
            maps="relu2", alpha=0.01, seed=3, progress=False,
        )  # fmt: skip
        xr.testing.assert_allclose(result, expected, atol=1e-4)
        assert result.attrs["command"].startswith("probe layerwise cli_nets:small --images ")
        assert "-o 'my result.nc'" in result.attrs["command"]
        assert result.attrs["preprocessing"] == "resize 32, crop 32, ImageNet mean and standard deviation"
        assert outcome.stdout.splitlines()[-1] == "result: my result.nc"
        r2 = result.r2.sel(layer="relu2", stimulus="rolled", target="radius").item()
        row = next(line for line in outcome.stdout.splitlines() if line.startswith("relu2"))
        assert f"{r2:.3f} ±" in row

    @pytest.mark.parametrize(
        ("net", "option", "value", "change"),
        [
            ("small", "--padding", "circular", lambda net: probe.with_padding(net, "circular")),
            ("strided", "--sampling", "polyphase", lambda net: probe.with_sampling(net, "polyphase")),
            ("tokens", "--position-embedding", "mean", lambda net: probe.with_position_embedding(net, "mean")),
            ("tokens", "--position-embedding", "shuffled", lambda net: _shuffled(net, 3)),
        ],
    )
    @pytest.mark.parametrize("command", ["layerwise", "channelwise"])
    def test_a_variant_is_measured_as_by_the_library(
        self, command, net, option, value, change, workplace, photos, pixels, measured
    ):
        words = [command, f"cli_nets:{net}", "--images", photos, "-o", "v.nc", "--size", SIZE, "--seed", 3]
        outcome = measured(*words, option, value, "--stimuli", "rolled")
        result = probe.load("v.nc")
        changed = change(open_model(f"cli_nets:{net}", seed=3).model)
        measure = getattr(probe, command)
        expected = measure(changed, by_hand(pixels), stimuli="rolled", seed=3, progress=False)
        xr.testing.assert_allclose(result, expected, atol=1e-4)
        told = f"{option.removeprefix('--').replace('-', ' ')} {value}"
        assert result.attrs["weights"].endswith(f", {told}")
        assert told in " ".join(outcome.stdout.split())

    def test_a_variant_of_which_nothing_is_converted_is_an_error(self, workplace, photos, run):
        words = ["layerwise", "cli_nets:tokens", "--images", photos, "-o", "v.nc", "--size", SIZE]
        outcome = run(*words, "--sampling", "blur")
        assert outcome.exit_code == 1
        assert "error: model: there is nothing to convert" in outcome.stderr

    def test_channelwise_agrees_with_the_library(self, workplace, photos, pixels, measured):
        words = ["channelwise", "cli_nets:small", "--images", photos, "-o", "c.nc", "--size", SIZE, "--json"]
        content = json.loads(measured(*words).stdout)
        expected = probe.channelwise(padded_net(depth=2), by_hand(pixels), progress=False)
        xr.testing.assert_allclose(probe.load("c.nc"), expected, atol=1e-4)
        assert content["file"] == "c.nc"
        conv2 = next(row for row in content["scores"] if (row["layer"], row["stimulus"]) == ("conv2", "natural"))
        omega2 = expected.omega2.sel(stimulus="natural").values[expected.layer.values == "conv2"]
        assert conv2["channels"] == 16
        assert conv2["omega2_mean"] == pytest.approx(omega2.mean(), abs=1e-4)
        assert conv2["omega2_max"] == pytest.approx(omega2.max(), abs=1e-4)
        assert conv2["strongest"] == omega2.argmax()

    def test_neighbours_agree_with_the_library(self, workplace, photos, pixels, measured):
        words = ["neighbours", "cli_nets:small", "--images", photos, "-o", "n.nc", "--size", SIZE, "--layers", "conv*"]
        outcome = measured(*words, "--reach", 2, "--positions", 50, "--seed", 3)
        options = {"reach": 2, "positions": 50, "seed": 3, "progress": False}
        expected = probe.neighbours(padded_net(depth=2), by_hand(pixels), "conv*", **options)
        xr.testing.assert_allclose(probe.load("n.nc"), expected, atol=1e-3)
        row = next(line for line in outcome.stdout.splitlines() if line.startswith("conv2"))
        assert f"{expected.same_place.sel(layer='conv2', stimulus='natural').item():.3f} (" in row

    def test_shift_consistency_agrees_with_the_library(self, workplace, photos, pixels, measured):
        words = ["shift-consistency", "cli_nets:classifier", "--images", photos, "-o", "s.nc", "--size", SIZE]
        outcome = measured(*words, "--law", "zero", "--reach", 2, "--pairs", 3, "--no-diagonal", "--stride", 2)
        net = nn.Sequential(padded_net(depth=2), nn.AdaptiveMaxPool2d(1), nn.Flatten())
        options = {"law": "zero", "reach": 2, "pairs": 3, "diagonal": False, "stride": 2, "progress": False}
        expected = probe.shift_consistency(net, by_hand(pixels), **options)
        xr.testing.assert_allclose(probe.load("s.nc"), expected)
        assert f"consistency  {expected.consistency.item():.3f} (" in outcome.stdout

    def test_shift_consistency_takes_labels_from_folders(self, workplace, photos, measured, run):
        words = [
            "shift-consistency",
            "cli_nets:classifier",
            "-o",
            "s.nc",
            "--size",
            SIZE,
            "--law",
            "circular",
            "--labels",
        ]
        refused = run(*words, "--images", photos)
        assert refused.exit_code == 2
        assert "has no folder for each class, which --labels needs. Sort the images into folders, or" in refused.stderr
        for number in range(16):
            (workplace / "classes" / f"{number:02}").mkdir(parents=True)
        for photo in photos.iterdir():
            shutil.copy(photo, workplace / "classes" / f"{int(photo.stem) % 16:02}")
        measured(*words, "--images", "classes", "--reach", 1)
        result = probe.load("s.nc")
        assert result.sizes["image"] == COUNT and result.subset.values.tolist() == ["all", "right", "wrong"]

    def test_json_holds_the_numbers_of_the_file_and_null_for_unknown(self, workplace, photos, run):
        words = ["layerwise", "cli_nets:invalid", "--images", photos, "-o", "x.nc", "--size", SIZE, "--json"]
        outcome = run(*words)
        assert outcome.exit_code == 0
        content = json.loads(outcome.stdout)
        result = probe.load("x.nc")
        assert len(content["scores"]) == result.r2.size
        for row in content["scores"]:
            expected = result.r2.sel({name: row[name] for name in ("layer", "stimulus", "target")}).item()
            assert row["r2"] == (None if row["layer"] == "conv" else pytest.approx(expected, rel=1e-12))
        told = [line for line in outcome.stderr.splitlines() if line.startswith("warning: ")]
        assert [f"warning: {message}" for message in content["warnings"]] == told
        assert told[0].startswith("warning: not finite: conv gave NaN")
        assert ".py:" not in outcome.stderr

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["resnet19"], "torchvision has no such model. Did you mean resnet18"),
            (["cli_nett:small"], "no module 'cli_nett' in the current folder"),
            (["cli_nets:smal"], "no function 'smal' in cli_nets. Did you mean small"),
            (["cli_nets:number"], "number() returned a int; expected a torch.nn.Module"),
            (["cli_nets:broken"], "ZeroDivisionError: one over nothing"),
            (
                ["cli_nets:small", "--layers", "conv3"],
                "no layer 'conv3' among the 5 of this model. Did you mean",
            ),
            (["cli_nets:small", "--device", "xpu:7"], "--device xpu:7 cannot be used"),
            (["cli_nets:small", "--folds", "30"], "leave 6 of 30 folds without any"),
            (["cli_nets:small", "-o", "absent/x.nc"], "absent/x.nc: cannot be written: No such file or directory"),
            (["cli_nets:small", "-o", "."], ".: is a folder"),
            (["cli_nets:small", "--images", "."], "no image file below '.'"),
            (["cli_nets:small", "--weights", "IMAGENET1K_V1"], "cli_nets:small has no named weights"),
            (["resnet18", "--weights", "absent.pt"], "weights 'absent.pt': there is no such file"),
            (["cli_nets.py"], "Name the function that makes the model: cli_nets:FUNCTION."),
            (["cli_nets"], "Name the function that makes the model: cli_nets:FUNCTION."),
            (
                ["net.pt"],
                "A file of weights goes to --weights, beside the model",
            ),
            (["net.nc"], "`probe show net.nc` shows a result"),
            (["cli_nets:small", "--layout", "NLC[1:5]"], "NLC is of 3 axes, and no output of the model has as many"),
            (["resnet18", "--weights", "V3"], "resnet18 has the weights IMAGENET1K_V1, DEFAULT"),
            (["resnet18", "--weights", "VGG11_Weights.DEFAULT"], "resnet18 has the weights IMAGENET1K_V1, DEFAULT"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_errors_are_one_message_and_end_with_1(self, words, message, workplace, photos, run):
        outcome = run("layerwise", "--images", photos, "-o", "x.nc", "--size", SIZE, *words)
        assert outcome.exit_code == 1
        assert outcome.stdout == ""
        (error,) = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
        assert message in error
        assert "Traceback" not in outcome.stderr
        assert [path.name for path in workplace.iterdir()] == ["cli_nets.py"]

    def test_an_error_of_the_model_says_where(self, workplace, photos, run):
        words = ["layerwise", "cli_nets:broken", "--images", photos, "-o", "x.nc"]
        assert isinstance(run(*words, "--debug").exception, ZeroDivisionError)
        assert isinstance(run(*words).exception, SystemExit)

    def test_an_existing_file_is_found_before_the_work_and_kept(self, workplace, photos, run, measured):
        Path("x.nc").write_bytes(b"precious")
        words = ["layerwise", "cli_nets:recorded", "--images", photos, "-o", "x.nc", "--size", SIZE]
        outcome = run(*words)
        assert outcome.exit_code == 1
        assert outcome.stderr == "error: x.nc: exists already. Pass --overwrite to replace it.\n"
        assert Path("x.nc").read_bytes() == b"precious"
        assert not Path("made").exists()
        measured(*words, "--overwrite")
        assert Path("made").exists()
        assert probe.load("x.nc").sizes["layer"] == 3

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can write")
    def test_an_unwritable_folder_is_found_before_the_work(self, workplace, photos, run):
        outcome = run("layerwise", "cli_nets:recorded", "--images", photos, "-o", "/proc/x.nc")
        assert outcome.exit_code == 1
        assert "error: /proc/x.nc: cannot be written: " in outcome.stderr
        assert not Path("made").exists()
