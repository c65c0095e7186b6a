"""Models of torchvision, timm, Hugging Face folders and functions of a user's own."""

import json
import sys
import types

import pytest
import torch
from PIL import Image

from probe.command.named_models import open_model
from probe.errors import ArgumentError, ModelError


@pytest.fixture
def nets(workplace):
    """Functions that make models, in a module of the current folder."""
    (workplace / "more_nets.py").write_text(NETS)
    sys.modules.pop("more_nets", None)
    yield "more_nets"
    sys.modules.pop("more_nets", None)


NETS = """
import torch
from torch import nn

def fresh(width=4, bias=True):
    return nn.Sequential(nn.Conv2d(3, width, 3, bias=bias), nn.ReLU())

def trained(width):
    net = fresh(width)
    with torch.no_grad():
        net[0].weight.fill_(0.5)
        net[0].bias.fill_(0.5)
    return net

def new_head():
    return nn.Sequential(trained(4), nn.Flatten(), nn.Linear(4, 2))
"""


class TestFunctions:
    @pytest.mark.parametrize(
        ("function", "arguments", "weights"),
        [
            ("fresh", {}, "random (seed 3), as more_nets:fresh gives them"),
            ("trained", {"width": 2}, "as more_nets:trained gives them (seed 3)"),
            ("new_head", {}, "as more_nets:new_head gives them, but random (seed 3): 2.weight, 2.bias"),
        ],
    )
    def test_random_weights_are_called_so(self, function, arguments, weights, nets):
        state = torch.get_rng_state()
        source = open_model(f"{nets}:{function}", seed=3, arguments=arguments)
        assert source.weights == weights
        assert torch.equal(torch.get_rng_state(), state)

    def test_the_seed_makes_the_same_weights_though_it_is_tried_twice(self, nets):
        first, again = (open_model(f"{nets}:fresh", seed=3).model[0].weight for _ in range(2))
        torch.manual_seed(3)
        assert torch.equal(first, again)
        assert torch.equal(first, torch.nn.Conv2d(3, 4, 3).weight)

    def test_arguments_reach_the_function(self, nets, measured):
        words = ["layers", f"{nets}:fresh", "--size", 32, "--json"]
        rows = json.loads(measured(*words, "--model-args", "width=7, bias=False").stdout)
        assert next(row for row in rows if row["name"] == "0")["shape"] == [7, 30, 30]
        assert open_model(f"{nets}:fresh", arguments={"bias": False}).model[0].bias is None

    @pytest.mark.parametrize("arguments", [{}, {"width": 2, "depth": 3}])
    def test_arguments_that_do_not_fit_say_what_would(self, arguments, nets):
        with pytest.raises(ArgumentError, match=r"more_nets:trained'.* It takes \(width\); pass --model-args"):
            open_model(f"{nets}:trained", arguments=arguments)

    def test_torchvision_takes_arguments_too(self):
        assert open_model("resnet18", arguments={"num_classes": 7}).model.fc.out_features == 7
        with pytest.raises(ArgumentError, match=r"model-args: resnet18 does not take depth=3"):
            open_model("resnet18", arguments={"depth": 3})

    def test_the_old_spelling_of_studies_gives_the_new_one(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ArgumentError, match=r"Write probe\.analyses\.nets:cifar_resnet\."):
            open_model("analyses.nets:cifar_resnet")
        assert isinstance(open_model("probe.analyses.nets:cifar_resnet").model, torch.nn.Module)

    def test_a_package_of_that_name_of_the_users_own_is_theirs(self, workplace, monkeypatch):
        (workplace / "analyses").mkdir()
        (workplace / "analyses" / "__init__.py").touch()
        (workplace / "analyses" / "nets.py").write_text("from torch import nn\ndef own(): return nn.ReLU()\n")
        monkeypatch.syspath_prepend(workplace)
        for name in ("analyses", "analyses.nets"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        assert isinstance(open_model("analyses.nets:own").model, torch.nn.ReLU)
        for name in ("analyses", "analyses.nets"):
            sys.modules.pop(name, None)


class TestTimm:
    def test_a_model_with_its_own_preprocessing(self):
        timm = pytest.importorskip("timm")
        source = open_model("timm:resnet18", seed=1)
        torch.manual_seed(1)
        expected = timm.create_model("resnet18").state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in source.model.state_dict().items())
        assert source.weights == "random (seed 1)"
        assert source.preprocessing.startswith("resize 235 bicubic, crop ")
        assert source.transform(Image.new("RGB", (400, 300))).shape == (3, 224, 224)

    def test_a_size_does_what_it_says(self):
        pytest.importorskip("timm")
        source = open_model("timm:vit_tiny_patch16_224", size=64, arguments={"img_size": 64})
        mean = (0.5, 0.5, 0.5)
        assert source.preprocessing == f"resize 64, crop 64, mean {mean}, standard deviation {mean}"
        assert source.model(source.transform(Image.new("RGB", (64, 80)))[None]).shape == (1, 1000)

    @pytest.mark.parametrize("size", [None, 64])
    def test_greys_for_a_model_of_one_channel(self, size):
        pytest.importorskip("timm")
        source = open_model("timm:resnet18", size=size, arguments={"in_chans": 1})
        shown = source.transform(Image.new("RGB", (300, 300), (255, 255, 255)))
        assert shown.shape == (1, size or 224, size or 224)
        assert shown.unique().item() == pytest.approx((1 - 0.449) / 0.226)

    def test_unknown_names_and_tags_are_told(self):
        pytest.importorskip("timm")
        with pytest.raises(ArgumentError, match=r"has no such model\. Did you mean resnet18"):
            open_model("timm:resnet188")
        with pytest.raises(ArgumentError, match=r"'b9'.*timm:resnet18 has the weights DEFAULT, a1_in1k"):
            open_model("timm:resnet18", "b9")

    def test_a_failed_download_is_told(self, monkeypatch):
        timm = pytest.importorskip("timm")

        def no_network(*args, **kwargs):
            raise OSError("no route to host")

        monkeypatch.setattr(timm.models._builder, "load_pretrained", no_network)
        with pytest.raises(ModelError, match=r"weights resnet18.a1_in1k: the download of .* no route to host"):
            open_model("timm:resnet18", "a1_in1k")

    def test_without_the_package_the_cure_is_told(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "timm", None)
        with pytest.raises(ModelError, match=r'timm:resnet18.: needs .* timm, .* pip install "position-probe\[timm\]"'):
            open_model("timm:resnet18")


class TestHuggingFaceFolders:
    def test_without_the_package_the_cure_is_told(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(ModelError, match=r'needs .* transformers, .* pip install "position-probe\[hf\]"'):
            open_model(f"hf:{tmp_path}")

    def test_a_folder_without_a_model(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", types.ModuleType("transformers"))
        with pytest.raises(ArgumentError, match=r"expected a folder with config\.json"):
            open_model(f"hf:{tmp_path}")

    def test_a_saved_model_is_loaded_with_its_normalisation(self, tmp_path):
        transformers = pytest.importorskip("transformers")
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=3)
        saved = transformers.ResNetForImageClassification(config)
        saved.save_pretrained(tmp_path)
        (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0], "image_std": [1, 1, 0.5]}')
        source = open_model(f"hf:{tmp_path}", size=16)
        loaded = source.model.state_dict()
        assert all(torch.equal(value, loaded[key]) for key, value in saved.state_dict().items())
        assert source.weights == str(tmp_path)
        shown = source.transform(Image.new("RGB", (16, 20), (0, 255, 255)))
        assert shown.shape == (3, 16, 16) and shown[:, 0, 0].tolist() == [0, 1, 2]
        with pytest.raises(ArgumentError, match="takes none"):
            open_model(f"hf:{tmp_path}", arguments={"depth": 3})

    @pytest.mark.parametrize("size", [None, 16])
    @pytest.mark.parametrize("kind", ["ViTImageProcessor", "CLIPImageProcessor"])
    def test_greys_for_a_model_of_one_channel(self, kind, size, tmp_path):
        transformers = pytest.importorskip("transformers")
        config = transformers.ResNetConfig(num_channels=1, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
        transformers.ResNetModel(config).save_pretrained(tmp_path)
        own = {"image_mean": [0.2, 0.3, 0.4], "image_std": 0.5, "do_center_crop": False}
        getattr(transformers, kind)(size={"height": 16, "width": 16}, **own).save_pretrained(tmp_path)
        source = open_model(f"hf:{tmp_path}", size=size)
        for mode, white in (("RGB", (255, 255, 255)), ("L", 255)):
            shown = source.transform(Image.new(mode, (20, 20), white))
            assert shown.shape == (1, 16, 16)
            assert shown.unique().item() == pytest.approx((1 - 0.3) / 0.5)

    def test_weights_that_the_folder_lacks_are_called_random(self, tmp_path):
        transformers = pytest.importorskip("transformers")
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=3)
        transformers.ResNetModel(config).save_pretrained(tmp_path)
        config.architectures = ["ResNetForImageClassification"]
        config.save_pretrained(tmp_path)
        assert "but random (seed 0): classifier.1.bias" in open_model(f"hf:{tmp_path}").weights
