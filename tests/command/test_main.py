import html
import json
import pickle
import signal
import subprocess
import sys
import time
import urllib.error
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import xarray as xr
from click.testing import CliRunner
from PIL import Image

import probe
from probe.analyses.padding_comparison import study as padding_comparison
from probe.command.main import main
from probe.command.named_models import open_model
from probe.reports.padding_comparison.page import findings
from probe.testing import padded_net

SIZE = 32
RESIZED = 37  # 32 · 256 / 224
COUNT = 24
COMMANDS = (
    "",
    "layers",
    "layerwise",
    "channelwise",
    "show",
    "report",
    "report padding",
    "report channels",
    "report file",
)
REPORT = ("report", "padding", "--preset", "tiny", "--seeds", 1, "--paddings", "zeros")

NETS = """
import pathlib, sys, time
import torch
from torch import nn
from probe.testing import padded_net

def small():
    return padded_net(depth=2)

def recorded():
    pathlib.Path("made").touch()
    return small()

class Broken(nn.Module):
    def forward(self, images):
        raise ZeroDivisionError("one over nothing")

def broken():
    return Broken()

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        pathlib.Path("running").touch()
        time.sleep(60)
        return self.conv(images)

def slow():
    return Slow()

class Invalid(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return self.conv(images / 0)

def invalid():
    return Invalid()

def number():
    return 3
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Nets this small run no faster on several threads, and far slower where these must share processors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(256, size=(COUNT, RESIZED, RESIZED, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def photos(pixels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def saved(photos, tmp_path_factory):
    """Results of both measurements with maps."""
    folder = tmp_path_factory.mktemp("saved")
    source = open_model("torchvision.models:resnet18", size=SIZE)
    images = {"transform": source.transform, "progress": False, "layers": "conv1", "maps": "conv1"}
    for measurement in (probe.layerwise, probe.channelwise):
        probe.save(measurement(source.model, photos, **images), folder / f"{measurement.__name__}.nc")
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The report of one tiny network: its folder, and what was printed."""
    folder = tmp_path_factory.mktemp("study")
    outcome = run(*REPORT, "-o", folder / "page.html")
    assert outcome.exit_code == 0, outcome.stderr
    return folder, outcome


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """The current folder, with a module `cli_nets`."""
    (tmp_path / "cli_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "cli_nets", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def measured(*arguments):
    """Run a command that must succeed without a word on stderr but warnings."""
    outcome = run(*arguments, "--quiet")
    assert outcome.exit_code == 0, outcome.stderr
    assert all(line.startswith("warning: ") for line in outcome.stderr.splitlines())
    return outcome


def python(*arguments, cwd=None):
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=60)


def by_hand(pixels):
    """The preprocessing, written down independently: a crop of the middle, in ImageNet's units."""
    start = round((RESIZED - SIZE) / 2)
    cropped = pixels[:, start : start + SIZE, start : start + SIZE] / 255
    normalised = (cropped - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return torch.from_numpy(normalised.transpose(0, 3, 1, 2)).float()


class TestProgram:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_help_has_examples(self, command):
        outcome = run(*command.split(), "--help")
        assert outcome.exit_code == 0
        examples = outcome.stdout.partition("Examples:\n")[2].splitlines()
        assert examples
        assert examples[0].startswith(f"  probe {command.removesuffix(' file')}")

    def test_help_and_usage_errors_load_nothing_heavy(self):
        code = (
            "import sys; from probe.command.main import main\n"
            "for words in (['--help'], ['layerwise', '--help'], ['report', 'padding', '--seeds', 'x']):\n"
            "    main(words, standalone_mode=False) if '--help' in words else None\n"
            "assert not {'torch', 'numpy', 'xarray', 'matplotlib'} & set(sys.modules), sorted(sys.modules)"
        )
        outcome = python("-c", code)
        assert outcome.returncode == 0, outcome.stderr

    def test_version(self):
        assert run("--version").stdout == f"probe, version {metadata.version('position-probe')}\n"

    def test_runs_as_a_module(self, workplace):
        outcome = python("-m", "probe", "layers", "cli_nets:small", "--size", SIZE)
        assert outcome.returncode == 0
        assert "conv2" in outcome.stdout
        assert outcome.stderr.splitlines() == [
            "weights: as cli_nets:small gives them (seed 0)",
            "preprocessing: resize 37, crop 32, ImageNet mean and standard deviation",
        ]

    @pytest.mark.parametrize(
        "words",
        [
            ["nothing"],
            ["layers"],
            ["layers", "resnet18", "--size", "0"],
            ["layers", "resnet18", "--size", "theirs"],
            ["layerwise", "resnet18", "-o", "x.nc"],
            ["layerwise", "resnet18", "-o", "x.nc", "--images", "absent"],
            ["layerwise", "resnet18", "-o", "x.nc", "--images", ".", "--positions", "some"],
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
            ["report", "padding", "-o", "x.nc"],
        ],
        ids=" ".join,
    )
    def test_wrong_usage_ends_with_2(self, words, workplace):
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


class TestLayers:
    def test_json_is_the_table_of_list_layers(self, workplace):
        outcome = measured("layers", "cli_nets:small", "--size", SIZE, "--json")
        expected = probe.list_layers(padded_net(depth=2), torch.zeros(1, 3, SIZE, SIZE))
        rows = json.loads(outcome.stdout)
        assert [row["name"] for row in rows] == list(expected.index)
        assert [tuple(row["shape"]) for row in rows] == list(expected["shape"])
        assert [row["auto"] for row in rows] == list(expected["auto"])

    def test_table(self, workplace):
        lines = measured("layers", "cli_nets:small", "--size", SIZE).stdout.splitlines()
        assert lines[0].split() == ["type", "shape", "call", "calls", "auto", "MB", "note"]
        assert any(line.split()[:3] == ["conv2", "Conv2d", "16×32×32"] for line in lines)

    def test_segmentation_model_without_a_download(self, workplace, monkeypatch):
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


class TestMeasurements:
    def test_layerwise_agrees_with_the_library(self, workplace, photos, pixels):
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
        assert result.attrs["preprocessing"] == "resize 37, crop 32, ImageNet mean and standard deviation"
        assert outcome.stdout.splitlines()[-1] == "result: my result.nc"
        r2 = result.r2.sel(layer="relu2", stimulus="rolled", target="radius").item()
        row = next(line for line in outcome.stdout.splitlines() if line.startswith("relu2"))
        assert f"{r2:.3f} ±" in row

    def test_channelwise_agrees_with_the_library(self, workplace, photos, pixels):
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

    def test_json_holds_the_numbers_of_the_file_and_null_for_unknown(self, workplace, photos):
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
            (["cli_nets:small", "--device", "gpu"], "device='gpu' cannot be used"),
            (["cli_nets:small", "--targets", "rows"], "'rows'"),
            (["cli_nets:small", "--folds", "30"], "leave 6 of 30 folds without any"),
            (["cli_nets:small", "-o", "absent/x.nc"], "absent/x.nc: cannot be written: No such file or directory"),
            (["cli_nets:small", "-o", "."], ".: is a folder"),
            (["cli_nets:small", "--images", "."], "no image file below '.'"),
            (["cli_nets:small", "--weights", "IMAGENET1K_V1"], "cli_nets:small has no named weights"),
            (["resnet18", "--weights", "absent.pt"], "weights 'absent.pt': there is no such file"),
            (["resnet18", "--weights", "V3"], "resnet18 has the weights IMAGENET1K_V1, DEFAULT"),
            (["resnet18", "--weights", "VGG11_Weights.DEFAULT"], "resnet18 has the weights IMAGENET1K_V1, DEFAULT"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_errors_are_one_message_and_end_with_1(self, words, message, workplace, photos):
        outcome = run("layerwise", "--images", photos, "-o", "x.nc", "--size", SIZE, *words)
        assert outcome.exit_code == 1
        assert outcome.stdout == ""
        (error,) = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
        assert message in error
        assert "Traceback" not in outcome.stderr
        assert [path.name for path in workplace.iterdir()] == ["cli_nets.py"]

    def test_an_error_of_the_model_says_where(self, workplace, photos):
        words = ["layerwise", "cli_nets:broken", "--images", photos, "-o", "x.nc"]
        assert isinstance(run(*words, "--debug").exception, ZeroDivisionError)
        assert isinstance(run(*words).exception, SystemExit)

    def test_an_existing_file_is_found_before_the_work_and_kept(self, workplace, photos):
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
    def test_an_unwritable_folder_is_found_before_the_work(self, workplace, photos):
        outcome = run("layerwise", "cli_nets:recorded", "--images", photos, "-o", "/proc/x.nc")
        assert outcome.exit_code == 1
        assert "error: /proc/x.nc: cannot be written: " in outcome.stderr
        assert not Path("made").exists()


class RunsCode:
    def __reduce__(self):
        return Path.touch, (Path("evil"),)


class TestWeights:
    @pytest.fixture
    def state(self):
        return padded_net(depth=2, seed=7).state_dict()

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda state: state,
            lambda state: {"state_dict": state, "epoch": 3},
            lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
            lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
        ],
        ids=["plain", "state_dict", "model, module.", "_orig_mod."],
    )
    def test_a_state_dict_is_loaded_however_it_is_wrapped(self, wrap, state, workplace):
        torch.save(wrap(state), "net.pt")
        source = open_model("cli_nets:small", "net.pt")
        assert source.weights == "net.pt"
        loaded = source.model.state_dict()
        assert list(loaded) == list(state)
        assert all(torch.equal(loaded[key], state[key]) for key in state)

    @pytest.mark.parametrize("write", [torch.save, lambda content, path: Path(path).write_bytes(pickle.dumps(content))])
    @pytest.mark.parametrize("wrap", [lambda bad: bad, lambda bad: {"conv1.weight": torch.zeros(1), "extra": bad}])
    def test_a_pickle_with_code_is_refused_and_nothing_is_run(self, write, wrap, workplace, photos):
        write(wrap(RunsCode()), "net.pt")
        outcome = run("layerwise", "cli_nets:small", "--weights", "net.pt", "--images", photos, "-o", "x.nc")
        assert outcome.exit_code == 1
        assert "error: weights net.pt: refused, and nothing in it was run" in outcome.stderr
        assert not Path("evil").exists()
        assert not Path("x.nc").exists()

    def test_weights_that_do_not_fit_are_named(self, state, workplace):
        state["conv9.weight"] = state.pop("conv2.weight")
        state["conv1.bias"] = torch.zeros(3)
        torch.save(state, "net.pt")
        outcome = run("layers", "cli_nets:small", "--weights", "net.pt")
        assert outcome.exit_code == 1
        assert (
            "1 missing: conv2.weight; 1 not in the model: conv9.weight; "
            "1 of another shape: conv1.bias ((3,) instead of (16,))" in outcome.stderr
        )

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "cannot be read"),
            (b"no weights at all", "refused, and nothing in it was run: it is damaged"),
            ([1, 2], "expected a state dict (names and tensors), found a list"),
            ({"a": 1}, "found a dict with the keys a"),
        ],
    )
    def test_files_without_weights(self, content, message, workplace):
        if isinstance(content, bytes):
            Path("net.pt").write_bytes(content)
        else:
            torch.save(content, "net.pt")
        outcome = run("layers", "cli_nets:small", "--weights", "net.pt")
        assert outcome.exit_code == 1
        assert message in outcome.stderr

    def test_a_truncated_file(self, state, workplace):
        torch.save(state, "net.pt")
        Path("net.pt").write_bytes(Path("net.pt").read_bytes()[:3000])
        outcome = run("layers", "cli_nets:small", "--weights", "net.pt")
        assert outcome.exit_code == 1
        assert "error: weights net.pt: cannot be read" in outcome.stderr

    def test_a_failed_download(self, workplace, monkeypatch):
        def no_network(*args, **kwargs):
            raise urllib.error.URLError("no route to host")

        monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
        monkeypatch.setenv("TORCH_HOME", str(workplace / "cache"))
        outcome = run("layers", "squeezenet1_1", "--weights", "IMAGENET1K_V1")
        assert outcome.exit_code == 1
        assert "error: weights SqueezeNet1_1_Weights.IMAGENET1K_V1: the download of https://" in outcome.stderr
        assert "no route to host" in outcome.stderr

    @pytest.mark.parametrize(("size", "resize", "crop"), [(None, 232, 224), (112, 116, 112)])
    def test_named_weights_bring_their_preprocessing(self, size, resize, crop, monkeypatch):
        choice = torchvision.models.RegNet_Y_400MF_Weights.IMAGENET1K_V2
        trained = torchvision.models.regnet_y_400mf(weights=None).state_dict()
        monkeypatch.setattr(type(choice), "get_state_dict", lambda *args, **kwargs: trained)
        for name in ("IMAGENET1K_V2", "RegNet_Y_400MF_Weights.IMAGENET1K_V2", "DEFAULT"):
            source = open_model("regnet_y_400mf", name, size=size)
            assert source.weights == "RegNet_Y_400MF_Weights.IMAGENET1K_V2"
            assert f"crop_size=[{crop}] resize_size=[{resize}]" in source.preprocessing
        loaded = source.model.state_dict()
        assert all(torch.equal(loaded[key], trained[key]) for key in trained)
        image = Image.fromarray(np.random.default_rng(0).integers(256, size=(300, 400, 3), dtype=np.uint8))
        expected = choice.transforms(crop_size=crop, resize_size=resize)(image)
        assert torch.equal(source.transform(image), expected)

    def test_images_may_keep_their_own_size(self):
        image = Image.fromarray(np.random.default_rng(0).integers(256, size=(30, 40, 3), dtype=np.uint8))
        shown = open_model("resnet18", size="own").transform(image)
        pixels = np.asarray(image) / 255
        expected = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        np.testing.assert_allclose(shown, expected.transpose(2, 0, 1), atol=1e-5)


class TestShow:
    def test_table_and_figures_of_layers(self, saved, workplace):
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

    def test_figures_are_kept_unless_told_otherwise(self, saved, workplace):
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

    def test_does_not_load_torch(self, saved, workplace):
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
    def test_no_result(self, command, content, message, workplace):
        if content is not None:
            Path("x.nc").write_bytes(content)
        outcome = run(*command.split(), "x.nc")
        assert outcome.exit_code == 1
        assert outcome.stderr.startswith("error: x.nc: ")
        assert message in outcome.stderr


class TestReport:
    def test_padding_prints_findings_and_where_the_files_are(self, study):
        folder, outcome = study
        result = probe.load(folder / "page.nc")
        lines = outcome.stdout.splitlines()
        assert lines == [
            *(f"- {sentence}" for sentence in findings(result)[:3]),
            f"page: {folder / 'page.html'}",
            f"result: {folder / 'page.nc'}",
        ]
        assert result.attrs["command"] == f"probe {' '.join(map(str, REPORT))} -o {folder / 'page.html'}"
        assert result.padding.values.tolist() == ["zeros"]
        assert html.escape(result.attrs["command"], quote=False) in (folder / "page.html").read_text()

    def test_a_page_is_rebuilt_from_its_result_without_torch(self, study, workplace):
        folder, _ = study
        code = (
            "import sys; from probe.command.main import main\n"
            f"main(['report', '-o', 'again.html', {str(folder / 'page.nc')!r}], standalone_mode=False)\n"
            "assert 'torch' not in sys.modules"
        )
        outcome = python("-c", code)
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.stdout == "page: again.html\n"
        assert Path("again.html").read_bytes() == (folder / "page.html").read_bytes()

    def test_the_table_of_a_study(self, study):
        folder, _ = study
        outcome = measured("show", folder / "page.nc")
        r2 = probe.load(folder / "page.nc").r2.sel(layer="conv4", stimulus="rolled", padding="zeros")
        numbers = [line.split()[-1] for line in outcome.stdout.splitlines() if line.split()[-2:-1] == ["conv4"]]
        for training, number in zip(("trained", "untrained"), numbers[1::2], strict=True):
            assert number == f"{r2.sel(training=training).mean().item():z.3f}"

    @pytest.mark.parametrize("existing", ["page.html", "page.nc"])
    def test_existing_files_are_found_before_the_work_and_kept(self, existing, workplace, monkeypatch):
        def no_work(*args, **kwargs):
            raise AssertionError("the work was begun")

        monkeypatch.setattr(padding_comparison, "run", no_work)
        Path(existing).write_bytes(b"precious")
        outcome = run(*REPORT, "-o", "page.html")
        assert outcome.exit_code == 1
        assert outcome.stderr == f"error: {existing}: exists already. Pass --overwrite to replace it.\n"
        assert Path(existing).read_bytes() == b"precious"

    def test_a_given_model_beside_its_untrained_twin(self, workplace, photos):
        trained = padded_net(depth=2, seed=7)
        torch.save(trained.state_dict(), "net.pt")
        words = ["--model", "cli_nets:small", "--weights", "net.pt", "--images", photos, "--size", SIZE]
        measured("report", "padding", *words, "--paddings", "circular", "--max-images", 20, "-o", "page.html")
        result = probe.load("page.nc")
        images = {"transform": open_model("cli_nets:small", size=SIZE).transform, "max_images": 20, "progress": False}
        for training, net in (("trained", trained), ("untrained", padded_net(depth=2))):
            expected = probe.layerwise(probe.with_padding(net, "circular"), photos, **images)
            measured_r2 = result.r2.sel(padding="circular", training=training).squeeze("seed", drop=True)
            np.testing.assert_allclose(measured_r2.transpose(*expected.r2.dims), expected.r2, atol=1e-4)
        assert result.attrs["weights"] == "net.pt"
        assert "cli_nets:small" in Path("page.html").read_text()

    def test_the_result_is_never_overwritten_by_its_page(self, study, workplace):
        folder, _ = study
        content = (folder / "page.nc").read_bytes()
        outcome = run("report", folder / "page.nc", "-o", folder / "page.nc", "--overwrite")
        assert outcome.exit_code == 2
        assert (folder / "page.nc").read_bytes() == content

    def test_an_existing_page_is_kept_unless_told_otherwise(self, study, workplace):
        folder, _ = study
        Path("page.html").write_bytes(b"precious")
        words = ["report", folder / "page.nc", "-o", "page.html"]
        outcome = run(*words)
        assert outcome.exit_code == 1
        assert Path("page.html").read_bytes() == b"precious"
        assert run(*words, "--overwrite").exit_code == 0
        assert Path("page.html").read_bytes() == (folder / "page.html").read_bytes()

    def test_results_without_a_report_say_what_shows_them(self, saved, workplace):
        outcome = run("report", saved / "layerwise.nc", "-o", "page.html")
        assert outcome.exit_code == 1
        assert "`probe show`" in outcome.stderr
        assert not Path("page.html").exists()
