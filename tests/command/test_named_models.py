"""Models by name, with their weights and preprocessing."""

import urllib.error

import pytest
import torch
from torch import nn

import probe
from probe.command.named_models import ModelSource, open_model, varied
from probe.errors import ProbeWarning
from probe.testing import noise_images, padded_net


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

    def test_weights_that_do_not_fit_are_named(self, state, workplace, run):
        state["conv9.weight"] = state.pop("conv2.weight")
        state["conv1.bias"] = torch.zeros(3)
        torch.save(state, "net.pt")
        outcome = run("layers", "cli_nets:small", "--weights", "net.pt")
        assert outcome.exit_code == 1
        assert (
            "1 missing: conv2.weight; 1 not in the model: conv9.weight; "
            "1 of another shape: conv1.bias ((3,) instead of (16,))" in outcome.stderr
        )

    def test_a_failed_download(self, workplace, monkeypatch, run):
        def no_network(*args, **kwargs):
            raise urllib.error.URLError("no route to host")

        monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
        monkeypatch.setenv("TORCH_HOME", str(workplace / "cache"))
        outcome = run("layers", "squeezenet1_1", "--weights", "IMAGENET1K_V1")
        assert outcome.exit_code == 1
        assert "error: weights SqueezeNet1_1_Weights.IMAGENET1K_V1: the download of https://" in outcome.stderr
        assert "no route to host" in outcome.stderr

    def test_what_was_taken_of_a_file_is_said_and_recorded(self, state, workplace, photos, run):
        torch.save({"teacher": {f"backbone.{key}": value for key, value in state.items()}}, "net.pt")
        words = ["layerwise", "cli_nets:small", "--weights", "net.pt", "--images", photos, "-o", "x.nc", "--size", 32]
        outcome = run(*words, "--layers", "conv1")
        assert outcome.exit_code == 0, outcome.stderr
        said = "weights under 'teacher', prefix 'backbone.'"
        assert f"warning: weights net.pt: took {said}.\n" in outcome.stderr
        assert probe.load("x.nc").attrs["weights"] == f"net.pt ({said})"
        assert f"weights: net.pt ({said})" in outcome.stdout.splitlines()[0]

    def test_one_of_several_parts_is_chosen_behind_a_colon(self, state, workplace, run):
        other = padded_net(depth=2, seed=8).state_dict()
        torch.save({"teacher": state, "student": other}, "net.pt")
        outcome = run("layers", "cli_nets:small", "--weights", "net.pt")
        assert outcome.exit_code == 1
        assert "2 parts fit cli_nets:small: teacher, student. Choose one behind a colon, such as net.pt:teacher" in (
            outcome.stderr
        )
        with pytest.warns(ProbeWarning, match="under 'student'"):
            loaded = open_model("cli_nets:small", "net.pt:student").model.state_dict()
        assert all(torch.equal(loaded[key], other[key]) for key in other)


class TestVariants:
    @pytest.fixture
    def source(self):
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        net.register_buffer("pos_embed", torch.ones(1, 4, 4))
        return ModelSource(net, None, "net.pt", "none")

    def test_several_are_made_in_one_and_told_behind_the_weights(self, source):
        made = varied(source, padding="circular", position_embedding="zero", sampling="polyphase")
        assert made.weights == "net.pt, position embedding zero, sampling polyphase, padding circular"
        assert not made.model.pos_embed.any()
        images = noise_images(1, 16).double()
        made.model.double()
        with torch.no_grad():
            first, other = (made.model(images.roll(by, 3)).mean((2, 3)) for by in (0, 5))
        torch.testing.assert_close(first, other, atol=1e-12, rtol=0)
        assert source.model.pos_embed.all()

    def test_what_they_warn_of_is_kept_for_the_result(self, source):
        with pytest.warns(ProbeWarning, match="reads the pixels"):
            made = varied(source, sampling="blur")
        assert made.warned is source.warned
        assert made.warned == ["sampling='blur': not converted: 0 (reads the pixels; from_pixels=True converts it)."]

    def test_none_leaves_the_model(self, source):
        assert varied(source) == source
