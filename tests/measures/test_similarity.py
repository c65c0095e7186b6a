"""Objects shifted over a frame, and how alike their features are."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

import probe
from probe.images.shifts import Placements, references_of
from probe.measures.similarity import local_roughness
from probe.testing import CoordinateNet, noise_images, padded_net, pointwise_net

REFERENCES = references_of(2)

pytestmark = pytest.mark.usefixtures("one_thread")

OBJECTS = noise_images(2, 5)


def shifted(model, layers, **options):
    return probe.shift_similarity(model, options.pop("objects", OBJECTS), layers, frame=13, progress=False, **options)


def test_every_placement_is_the_object_on_its_background():
    background = torch.tensor([0.5, 1.0, 2.0])
    placements = Placements(OBJECTS[0], (7, 9), background)
    assert placements.grid == (3, 5) and len(placements) == 15
    frames = placements.frames(torch.arange(15))
    for position, frame in enumerate(frames):
        row, column = divmod(position, 5)
        expected = background[:, None, None].expand(3, 7, 9).clone()
        expected[:, row : row + 5, column : column + 5] = OBJECTS[0]
        assert torch.equal(frame, expected)
    assert placements.references().tolist() == [0, 4, 7, 10, 14]


@pytest.mark.parametrize("batch_size", [3, 32])
def test_similarity_is_the_cosine_of_features_of_each_frame_by_itself(batch_size):
    net = padded_net("zeros", depth=2).double()
    result = shifted(net, ["conv1", "relu2"], batch_size=batch_size)
    features = {}
    for item, picture in enumerate(OBJECTS.double()):
        for row in range(9):
            for column in range(9):
                frame = functional.pad(picture, (column, 8 - column, row, 8 - row))[None]
                with torch.no_grad():
                    features[item, row, column] = {
                        "conv1": net[0](frame).mean((0, 2, 3)),
                        "relu2": net(frame).mean((0, 2, 3)),
                    }
    corners = {"top left": (0, 0), "top right": (0, 8), "centre": (4, 4), "bottom left": (8, 0), "bottom right": (8, 8)}
    assert list(REFERENCES) == list(corners)
    for layer in ("conv1", "relu2"):
        for reference, (row, column) in corners.items():
            expected = np.mean(
                [
                    [
                        [
                            functional.cosine_similarity(
                                features[item, r, c][layer], features[item, row, column][layer], dim=0
                            ).item()
                            for c in range(9)
                        ]
                        for r in range(9)
                    ]
                    for item in range(2)
                ],
                axis=0,
            )
            found = result.similarity.sel(layer=layer, reference=reference)
            np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("net", [padded_net("circular"), pointwise_net()], ids=["circular", "pointwise"])
def test_nets_that_treat_all_positions_alike_give_similarity_one_everywhere(net):
    result = shifted(net, list(dict(net.named_children()))[-1])
    np.testing.assert_allclose(result.similarity, 1, atol=1e-6)
    np.testing.assert_allclose(result.global_similarity, 1, atol=1e-6)
    np.testing.assert_allclose(result.local_roughness, 0, atol=1e-6)


def test_a_stride_is_seen_as_roughness_and_not_as_a_trend():
    net = nn.Conv2d(3, 8, 1, stride=2).requires_grad_(False)
    net.bias.zero_()
    result = shifted(nn.Sequential(net), "0", objects=noise_images(2, 6, seed=1))
    similarity = result.similarity.sel(reference="top left").squeeze()
    np.testing.assert_allclose(similarity[::2, ::2], 1, atol=1e-6)
    assert (result.local_roughness > 0.05).all() and similarity[1::2].max() < 0.999


def test_coordinates_of_the_frame_do_not_move_with_the_object():
    """The mean over a map of coordinates is 0 wherever the object stands: pooled features cannot tell it."""
    np.testing.assert_allclose(shifted(CoordinateNet(), "identity").similarity, 1, atol=1e-6)


def test_vectors_are_read_as_they_are_and_the_model_stays_as_it_was(left_as_found):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 13 * 13, 7)).train()
    with left_as_found(net):
        result = shifted(net, {"own name": "1"})
    first, last = (functional.pad(OBJECTS, sides) for sides in ((0, 8, 0, 8), (8, 0, 8, 0)))
    expected = functional.cosine_similarity(net(first), net(last)).mean().item()
    corner = result.similarity.sel(layer="own name", reference="top left", row=8, column=8)
    assert corner.item() == pytest.approx(expected, abs=1e-6)


def test_errors_come_from_single_objects(tmp_path):
    both = shifted(padded_net("zeros"), "conv4")
    for number in range(2):
        alone = shifted(padded_net("zeros"), "conv4", objects=OBJECTS[number : number + 1])
        for name in ("global_similarity", "local_roughness"):
            np.testing.assert_allclose(both[name].isel(object=number), alone[name].isel(object=0), atol=1e-6)
    assert probe.load(probe.save(both, tmp_path / "result.nc")).identical(both)


def test_a_real_network_with_views_that_need_contiguous_rows():
    class Viewing(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = torchvision.models.squeezenet1_1(weights=None).features[:3]
            self.head = nn.Linear(64, 5)

        def forward(self, images):
            maps = self.trunk(images)
            return self.head(maps.view(len(maps), 64, -1).mean(2))

    net = Viewing()
    result = probe.shift_similarity(net, OBJECTS, ["trunk.0", "head"], frame=17, progress=False)
    assert result.similarity.sizes == {"layer": 2, "reference": 5, "row": 13, "column": 13}
    for reference, (row, column) in REFERENCES.items():
        itself = result.similarity.sel(reference=reference, row=int(row * 12), column=int(column * 12))
        np.testing.assert_allclose(itself, 1, atol=1e-6)


def test_what_is_told_of_each_object_follows_from_its_map():
    result = shifted(padded_net("zeros"), ["conv2", "conv4"], objects=OBJECTS[:1])
    for name, expected in (
        ("global_similarity", result.similarity.mean(["row", "column"]).values),
        ("local_roughness", local_roughness(result.similarity.values)),
    ):
        np.testing.assert_allclose(result[name].isel(object=0), expected, atol=1e-6)
    assert (result.global_similarity < 0.999).any()


def test_roughness_counts_along_both_axes():
    stripes = np.tile([0.0, 1.0], (6, 3))
    assert local_roughness(stripes) == local_roughness(stripes.T) == 0.5
    assert local_roughness(np.stack([stripes, stripes * 2])).tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objects": noise_images(2, 14)}, "fewer than 3 positions.*larger frame"),
        ({"objects": noise_images(2, 12)}, "fewer than 3 positions"),
        ({"objects": OBJECTS[0]}, r"objects: expected .* found \(3, 5, 5\)"),
        ({"objects": (OBJECTS * 9).long()}, "objects: expected a tensor of floats"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
    ids=["too large", "two positions", "one object", "integers", "batch size"],
)
def test_what_cannot_be_measured_is_refused(options, message):
    with pytest.raises(probe.ProbeError, match=message):
        shifted(padded_net("zeros"), "conv4", **options)


def test_an_unknown_layer_is_refused():
    with pytest.raises(probe.errors.LayerNotFoundError, match=r"no layer 'conv9' among .* Did you mean 'conv"):
        shifted(padded_net("zeros"), "conv9")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame": 13.5}, "frame=13.5: expected one number for each of row, column"),
        *(({"background": value}, "background=.*one for each channel") for value in ("a", [0.0, 1.0], float("nan"))),
    ],
)
def test_frames_and_backgrounds_that_are_none(options, message):
    with pytest.raises(probe.ProbeError, match=message):
        probe.shift_similarity(padded_net(depth=1), OBJECTS, "conv1", progress=False, **{"frame": 13, **options})
