"""The commands that write pages."""

import html
from pathlib import Path

import numpy as np
import pytest
import torch

import probe
from probe.analyses.padding_comparison import study as padding_comparison
from probe.command.named_models import open_model
from probe.reports.padding_comparison.page import findings
from probe.testing import padded_net

SIZE = 32
WIDTH = 37
COUNT = 24

REPORT = ("report", "padding", "--preset", "tiny", "--seeds", 1, "--paddings", "zeros")


@pytest.fixture(scope="module")
def study(tmp_path_factory, run):
    """The report of one tiny network: its folder, and what was printed."""
    folder = tmp_path_factory.mktemp("study")
    outcome = run(*REPORT, "-o", folder / "page.html")
    assert outcome.exit_code == 0, outcome.stderr
    return folder, outcome


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

    def test_a_page_is_rebuilt_from_its_result_without_torch(self, study, workplace, python):
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

    def test_the_table_of_a_study(self, study, measured):
        folder, _ = study
        outcome = measured("show", folder / "page.nc")
        r2 = probe.load(folder / "page.nc").r2.sel(layer="conv4", stimulus="rolled", padding="zeros")
        numbers = [line.split()[-1] for line in outcome.stdout.splitlines() if line.split()[-2:-1] == ["conv4"]]
        for training, number in zip(("trained", "untrained"), numbers[1::2], strict=True):
            assert number == f"{r2.sel(training=training).mean().item():z.3f}"

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["--model", "cli_nets:small", "--preset", "quick"], "--preset: a given --model is not trained"),
            (["--model", "cli_nets:small", "--seeds", 1], "--seeds: a given --model is not trained"),
            (["--device", "cpu"], "--device: small networks are trained on the CPU"),
        ],
    )
    def test_options_without_effect_are_refused(self, words, named, workplace, photos, run):
        images = ["--images", photos] if "--model" in words else []
        outcome = run("report", "padding", *words, *images, "-o", "page.html")
        assert outcome.exit_code == 2 and named in outcome.stderr

    @pytest.mark.parametrize("existing", ["page.html", "page.nc"])
    def test_existing_files_are_found_before_the_work_and_kept(self, existing, workplace, monkeypatch, run):
        def no_work(*args, **kwargs):
            raise AssertionError("the work was begun")

        monkeypatch.setattr(padding_comparison, "run", no_work)
        Path(existing).write_bytes(b"precious")
        outcome = run(*REPORT, "-o", "page.html")
        assert outcome.exit_code == 1
        message = f"{existing}: exists already. Pass --overwrite to replace it."
        assert outcome.stderr == f"error: {message}\n"
        assert Path(existing).read_bytes() == b"precious"

    def test_a_given_model_beside_its_untrained_twin(self, workplace, photos, measured):
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

    def test_the_result_is_never_overwritten_by_its_page(self, study, workplace, run):
        folder, _ = study
        content = (folder / "page.nc").read_bytes()
        outcome = run("report", folder / "page.nc", "-o", folder / "page.nc", "--overwrite")
        assert outcome.exit_code == 2
        assert (folder / "page.nc").read_bytes() == content

    def test_an_existing_page_is_kept_unless_told_otherwise(self, study, workplace, run):
        folder, _ = study
        Path("page.html").write_bytes(b"precious")
        words = ["report", folder / "page.nc", "-o", "page.html"]
        outcome = run(*words)
        assert outcome.exit_code == 1
        assert Path("page.html").read_bytes() == b"precious"
        assert run(*words, "--overwrite").exit_code == 0
        assert Path("page.html").read_bytes() == (folder / "page.html").read_bytes()

    def test_every_kind_of_result_has_a_page(self, made, workplace, run):
        for kind in ("layerwise", "channelwise", "ranking", "audit", "pooled"):
            outcome = run("report", probe.save(made[kind], f"{kind}.nc"))
            assert outcome.exit_code == 0, outcome.stderr
            assert Path(f"{kind}.html").read_text(encoding="utf-8").startswith("<!doctype html>")
