"""Networks that see time or depth: which of their outputs are maps, and that those lie as the clip does."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import video
from torchvision.models.video import mvit

from probe.models.capture import reading
from probe.models.layers import select_layers
from probe.models.modules import module_names
from probe.models.survey import survey


def clips_of(size, count=1):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


def s3d():
    net = video.s3d(weights=None)
    net.avgpool = nn.AvgPool3d(2, 1)  # that of 7×7 cells asks for large clips alone
    return net


def mvit_v2_s(original=mvit._mvit):
    """The network of torchvision for clips of 8 frames and 64 by 64 pixels; it makes those of 224 alone."""
    patch = pytest.MonkeyPatch()
    with patch.context() as changed:
        smaller = {"spatial_size": (64, 64), "temporal_size": 8}
        changed.setattr(mvit, "_mvit", lambda *args, **options: original(*args, **{**options, **smaller}))
        return video.mvit_v2_s(weights=None)


class UNet(nn.Module):
    """As MONAI's U-Net of volumes: strided and transposed convolutions, instance norms, skips by concatenation."""

    def __init__(self, widths=(4, 8, 16)):
        super().__init__()
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv3d(before, width, 3, 2, 1), nn.InstanceNorm3d(width), nn.PReLU())
            for before, width in zip((3, *widths), widths, strict=False)
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose3d(before, width, 3, 2, 1, 1), nn.InstanceNorm3d(width), nn.PReLU())
            for before, width in ((16, 8), (16, 4), (8, 2))
        )

    def forward(self, volumes):
        skips = []
        for step in self.down:
            volumes = step(volumes)
            skips.append(volumes)
        volumes = self.up[0](skips.pop())
        for step in self.up[1:]:
            volumes = step(torch.cat([skips.pop(), volumes], dim=1))
        return volumes


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens):
        normed = self.norm1(tokens)
        tokens = tokens + self.attn(normed, normed, normed)[0]
        return tokens + self.mlp(self.norm2(tokens))


class VideoTransformer(nn.Module):
    """As VideoMAE's encoder: tubelets of 2 frames, frame by frame and row by row; perhaps class tokens in front."""

    def __init__(self, n_before=0, linear=False, keep=None):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.keep = linear, keep
        self.embed = nn.Linear(3 * 2 * 8 * 8, 24) if linear else nn.Conv3d(3, 24, (2, 8, 8), (2, 8, 8))
        self.before = nn.Parameter(torch.randn(1, n_before, 24))
        self.blocks = nn.ModuleList(Block(24) for _ in range(2))

    def forward(self, clips):
        if self.linear:
            patches = clips.unfold(2, 2, 2).unfold(3, 8, 8).unfold(4, 8, 8).movedim(1, 4)
            tokens = self.embed(patches.flatten(4).flatten(1, 3))
        else:
            tokens = self.embed(clips).flatten(2).transpose(1, 2)
        if self.keep is not None:
            kept = torch.rand(tokens.shape[:2]).argsort(1)[:, : int(self.keep * tokens.shape[1])]
            tokens = tokens.gather(1, kept[..., None].expand(-1, -1, 24))
        tokens = torch.cat([self.before.expand(len(clips), -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


# Name: how to make it, size of the clips, number of layers that "auto" reads at that size and those with a single
# cell, and layers with the sizes of their maps.
NETWORKS = {
    "r3d_18": (video.r3d_18, (8, 32, 32), 21, {"stem.0": (64, 8, 16, 16), "layer3.1.conv2.0": (256, 2, 4, 4)}),
    "mc3_18": (video.mc3_18, (8, 32, 32), 21, {"layer2.0.conv1.0": (128, 8, 8, 8), "layer4": (512, 8, 2, 2)}),
    "r2plus1d_18": (video.r2plus1d_18, (8, 32, 32), 38, {"layer1.0.conv1.0.0": (144, 8, 16, 16)}),
    "s3d": (s3d, (16, 64, 64), 79, {"features.2": (64, 8, 16, 16), "features.14": (832, 2, 2, 2)}),
    "swin3d_t": (
        video.swin3d_t, (8, 64, 96), 17, {"features.0.1": (96, 4, 16, 24), "features.3": (384, 4, 4, 6)},
    ),
    "mvit_v2_s": (mvit_v2_s, (8, 64, 64), 21, {"blocks.0": (96, 4, 16, 16), "blocks.14": (768, 4, 2, 2)}),
    "U-Net": (UNet, (8, 16, 24), 7, {"down.1.0": (8, 2, 4, 6), "up.2": (2, 8, 16, 24)}),
    "tubelets": (VideoTransformer, (8, 32, 48), 4, {"embed": (24, 4, 4, 6), "blocks.1": (24, 4, 4, 6)}),
    "linear tubelets": (
        lambda: VideoTransformer(2, linear=True), (8, 32, 48), 3, {"blocks.0": (24, 4, 4, 6)},
    ),
}  # fmt: skip


def made(make):
    torch.manual_seed(0)
    return make().eval().requires_grad_(False)


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_have_frames_rows_and_columns(name):
    make, size, n_default, shapes = NETWORKS[name]
    found = {layer.name: layer for layer in survey(made(make), clips_of(size))}
    assert sum(layer.default and not layer.problem for layer in found.values()) == n_default
    for layer, shape in shapes.items():
        assert (found[layer].n_channels, *found[layer].size) == shape, layer


@pytest.mark.parametrize("name", NETWORKS)
def test_what_changes_at_one_place_of_the_clip_changes_most_at_that_place_of_a_map(name):
    make, size, _, shapes = NETWORKS[name]
    model, clips = made(make), clips_of(size)
    layer = next(iter(shapes))
    chosen, _ = select_layers(layer, survey(model, clips), module_names(model))
    place = tuple(length * share // 8 for length, share in zip(size, (5, 3, 6), strict=True))
    changed = clips.clone()
    changed[(slice(None), slice(None), *(slice(p - p % 2, p - p % 2 + 2) for p in place))] *= -6
    with reading(model, chosen, lambda layer, maps: maps.clone()) as run:
        change = (run(changed)[layer] - run(clips)[layer]).norm(dim=1)[0]
    found = np.unravel_index(change.argmax().item(), change.shape)
    expected = [p * cells / length for p, cells, length in zip(place, change.shape, size, strict=True)]
    assert np.abs(np.add(found, 0.5) - np.add(expected, 0.5 / np.array(size))).max() <= 1.51


@pytest.mark.parametrize(
    ("keep", "reason"),
    [(0.5, "some patches of the image are not among its 48 tokens"), (1, "its 96 tokens are not in the order")],
    ids=["dropped", "shuffled"],
)
def test_masked_auto_encoders_that_drop_or_shuffle_tokens_are_refused(keep, reason):
    found = {layer.name: layer for layer in survey(VideoTransformer(keep=keep).eval(), clips_of((8, 32, 48)))}
    assert reason in found["blocks.0"].problem
    assert found["embed"].size == (4, 4, 6)


def test_the_unet_of_monai_is_read():
    nets = pytest.importorskip("monai.networks.nets", reason="monai is not installed")
    net = made(lambda: nets.UNet(3, 1, 2, channels=(4, 8, 16), strides=(2, 2), num_res_units=1))
    found = {layer.name: layer for layer in survey(net, clips_of((8, 16, 24))[:, :1])}
    assert {layer.size for layer in found.values()} == {(8, 16, 24), (4, 8, 12), (2, 4, 6)}
    assert not any(layer.problem for layer in found.values())
    assert sum(layer.default for layer in found.values()) == 11
