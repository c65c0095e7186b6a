"""What a model reads of its padding, against brute force, arithmetic and published facts."""

import json
import warnings

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

import probe
from probe.analyses.nets import cifar_resnet
from probe.errors import ArgumentError, ModelError, ProbeWarning
from probe.testing import padded_net
from probe.windows.windows import windows_of

SIDES = ["top", "bottom", "left", "right"]

pytestmark = pytest.mark.usefixtures("one_thread")


def unread_layers(result):
    return [str(name) for name in result.layer.values[result.unread.any("side")]]


def net(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers).eval()


def test_torchvision_resnets_are_uneven_in_all_five_downsamplings_at_224_and_in_none_at_225():
    model = torchvision.models.resnet18(weights=None)
    uneven = probe.audit(model, (3, 224, 224), maps=())
    down = [name for name in uneven.layer.values if uneven["stride"].sel(layer=name).max() > 1 and "down" not in name]
    assert unread_layers(uneven) == down == ["conv1", "maxpool", *(f"layer{i}.0.conv1" for i in (2, 3, 4))]
    assert uneven.unread.sel(layer=down).values.tolist() == [[0, 1, 0, 1]] * 5
    assert uneven.even_size.values.tolist() == [[193, 225]] * 2
    even = probe.audit(model, maps=(), input_shape=(3, 225, 225))
    assert unread_layers(even) == [] and even.even_size.values.tolist() == [[193, 257]] * 2


def test_cifar_resnets_are_uneven_at_32_and_even_at_33():
    model = cifar_resnet(20)
    assert unread_layers(probe.audit(model, (3, 32, 32))) == ["layer2.0.conv1", "layer3.0.conv1"]
    assert unread_layers(probe.audit(model, (3, 33, 33))) == []


def test_rows_and_columns_are_told_apart():
    model = net(nn.Conv2d(1, 2, (3, 5), stride=(2, 1), padding=(1, 2)))
    result = probe.audit(model, (1, 8, 11))
    assert result.unread.values.tolist() == [[0, 1, 0, 0]]
    assert result.padding.values.tolist() == [[1, 1, 2, 2]]
    assert result.even_size.sel(axis="row").values.tolist() == [7, 9]
    assert result.even_size.sel(axis="column").values.tolist() == [10, 12]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_same_padding_of_an_even_kernel_is_all_read():
    result = probe.audit(net(nn.Conv2d(1, 1, 4, padding="same")), (1, 8, 8))
    assert result.padding.values.tolist() == [[1, 2, 1, 2]] and not result.unread.any()


def test_rows_beyond_the_last_window_are_unread():
    result = probe.audit(net(nn.Conv2d(3, 4, 16, stride=16)), (3, 38, 32))
    assert result.unread_inside.sel(side=SIDES).values.tolist() == [[0, 6, 0, 0]]
    assert not result.unread.any()


def reads_matrix(windows, size):
    """How often each row of the output reads each row of the map, shape (output, input)."""
    matrix = np.zeros((windows.count(size), size))
    for out in range(len(matrix)):
        for tap in range(windows.kernel):
            place = out * windows.stride + tap * windows.dilation - windows.before
            if 0 <= place < size:
                matrix[out, place] += 1
    return matrix


def test_foveation_counts_all_paths():
    layers = [nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
    layers += [nn.Conv2d(6, 4, (3, 1), padding=(2, 0), dilation=(2, 1), groups=2), nn.AvgPool2d(2)]
    model = net(*layers)
    result = probe.audit(model, (3, 21, 16), maps="*")
    rows, columns = np.eye(21), np.eye(16)
    found = {variable.attrs["layer"]: variable for name, variable in result.items() if name.startswith("foveation")}
    assert list(found) == ["0", "3", "4", "5"]
    for name, reads in found.items():
        along_rows, along_columns = windows_of(model[int(name)])
        rows = reads_matrix(along_rows, len(rows)) @ rows
        columns = reads_matrix(along_columns, len(columns)) @ columns
        paths = np.outer(rows.sum(axis=0), columns.sum(axis=0))
        np.testing.assert_allclose(reads.values, paths / paths.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["googlenet", "densenet121", "mobilenet_v3_small", "convnext_tiny", "shufflenet_v2_x0_5"]
)
def test_paths_can_be_counted_in_every_kind_of_network(name):
    options = {"init_weights": False} if name == "googlenet" else {}
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        model = torchvision.models.get_model(name, weights=None, **options)
    result = probe.audit(model, (3, 64, 64), sizes=False)
    maps = json.loads(result.attrs["maps"])
    found = [variable for name, variable in result.items() if name.startswith("foveation")]
    assert [variable.attrs["layer"] for variable in found] == maps
    assert all(np.isclose(variable.mean(), 1) and variable.min() >= 0 for variable in found)


def test_replicated_and_circular_borders_are_read_as_often_as_the_middle():
    for padding, corner in {"zeros": 4 / 9, "replicate": 1, "circular": 1, "reflect": 4 / 9}.items():
        result = probe.audit(padded_net(padding, depth=1), (3, 12, 12), sizes=False)
        paths = result.foveation_0 / result.foveation_0[6, 6]
        np.testing.assert_allclose(paths[0, 0], corner, rtol=1e-5)
        assert (np.ptp(paths.values) < 1e-5) == (corner == 1)


def test_without_border_effects_zeros_give_a_flat_map():
    for padding in ("circular", "replicate", "reflect", "valid"):
        result = probe.audit(padded_net(padding), (3, 16, 16), sizes=False)
        assert (result.artefact < 1e-10).all() and result.asymmetry.isnull().all()


def test_the_artefact_of_zero_padding_is_that_of_its_own_maps():
    model = padded_net("zeros", depth=3)
    result = probe.audit(model, (3, 16, 16), maps="conv3", sizes=False)
    with torch.no_grad():
        maps = model[:5](torch.zeros(1, 3, 16, 16))[0].double().numpy()
    np.testing.assert_allclose(result.zero_map_0.values, maps.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(
        result.artefact.sel(layer="conv3"), maps.var(axis=(1, 2)).sum() / (maps**2).mean(axis=(1, 2)).sum(), rtol=1e-5
    )
    odd = (maps - maps[:, ::-1]) / 2
    share = (odd**2).sum() / ((maps - maps.mean(axis=(1, 2), keepdims=True)) ** 2).sum()
    np.testing.assert_allclose(result.asymmetry.sel(layer="conv3", axis="row"), share, rtol=1e-5)
    assert result.artefact.sel(layer="conv1") < 1e-10 < 1e-3 < result.artefact.sel(layer="conv2")


def test_symmetric_kernels_give_symmetric_maps_at_even_sizes_alone():
    model = net(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, stride=2, padding=1))
    for module in model:
        nn.init.ones_(module.weight)
    asymmetry = {size: probe.audit(model, (1, size, size), sizes=False).asymmetry.isel(layer=1) for size in (16, 17)}
    assert (asymmetry[17] < 1e-10).all() and (asymmetry[16] > 0.01).all()


def test_the_model_is_left_as_it_was(left_as_found):
    model = torchvision.models.resnet18(weights=None).train()
    with left_as_found(model):
        probe.audit(model, (3, 64, 64))


def test_a_result_survives_its_file(tmp_path):
    result = probe.audit(cifar_resnet(8), (3, 32, 32))
    assert probe.load(probe.save(result, tmp_path / "audit.nc")).identical(result)
    assert all({"long_name", "units"} <= set(variable.attrs) for variable in result.data_vars.values())


class PadsItself(nn.Conv2d):
    def forward(self, maps):
        return super().forward(functional.pad(maps, (1, 1, 1, 1)))


def test_layers_that_pad_in_code_of_their_own_are_left_out_and_named():
    with pytest.warns(ProbeWarning, match="left out: 1: it pads in code of its own"):
        result = probe.audit(net(nn.Conv2d(1, 1, 3), PadsItself(1, 1, 3)), (1, 8, 8), sizes=False)
    assert result.layer.values.tolist() == ["0"] and list(json.loads(result.attrs["skipped"])) == ["1"]


def test_attention_ends_the_counting():
    model = torchvision.models.VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=48, mlp_dim=96)
    with pytest.warns(ProbeWarning, match="foveation: not counted for 1: .*softmax reads by content"):
        probe.audit(nn.Sequential(AttendsFirst(), nn.Conv2d(3, 4, 3)), (3, 8, 8), sizes=False)
    with pytest.warns(ProbeWarning, match="the model took no other size: 31 rows: the model .VisionTransformer"):
        result = probe.audit(model, (3, 32, 32))  # the patch embedding comes before attention
    assert np.allclose(result.foveation_0, 1) and result.even_size.isnull().all()


class AttendsFirst(nn.Module):
    def forward(self, maps):
        return maps.softmax(dim=-1)


def test_faults_are_explained(left_as_found):
    model = net(nn.Conv2d(3, 4, 3))
    with left_as_found(model):
        with pytest.raises(ArgumentError, match=r"input_shape=\(224, 224\): expected \(channel, row, column\)"):
            probe.audit(model, (224, 224))
        for wrong in (("3", "20", "20"), "333", (3, 20.5, 20)):
            with pytest.raises(ArgumentError, match=r"input_shape=.*: expected \(channel, row, column\)"):
                probe.audit(model, wrong)
        with pytest.raises(probe.errors.ImagesError, match="found 1 channels"):
            probe.audit(model, (1, 8, 8))
    with pytest.raises(ModelError, match="no convolution or pooling layer"):
        probe.audit(net(nn.Linear(4, 4)), (3, 4, 4))


CLIP_SIDES = ["first", "last", *SIDES]


def test_frames_rows_and_columns_are_told_apart():
    model = net(nn.Conv3d(1, 2, (3, 3, 5), stride=(2, 2, 1), padding=(1, 1, 2)))
    result = probe.audit(model, (1, 9, 8, 11))
    assert result.side.values.tolist() == CLIP_SIDES and result.axis.values.tolist() == ["frame", "row", "column"]
    assert result.unread.values.tolist() == [[0, 0, 0, 1, 0, 0]]
    assert result.padding.values.tolist() == [[1, 1, 1, 1, 2, 2]]
    assert result.kernel.values.tolist() == [[3, 3, 5]] and result.input_size.values.tolist() == [[9, 8, 11]]
    assert [result[name].item() for name in ("frames", "height", "width")] == [5, 4, 11]
    assert result.even_size.sel(axis="frame").values.tolist() == [7, 11]
    assert result.even_size.sel(axis="row").values.tolist() == [7, 9]
    assert result.zero_map_0.dims == ("frame_0", "row_0", "column_0")


def test_foveation_counts_all_paths_of_frames_too():
    model = net(
        nn.Conv3d(3, 6, (3, 3, 3), (1, 2, 2), 1),
        nn.BatchNorm3d(6),
        nn.ReLU(),
        nn.MaxPool3d((2, 3, 2), 2, ceil_mode=True),
    )
    result = probe.audit(model, (3, 9, 12, 10), maps="*")
    along = [np.eye(size) for size in (9, 12, 10)]
    for index, name in enumerate(("0", "3")):
        windows = windows_of(model[int(name)])
        along = [reads_matrix(axis, len(reads)) @ reads for axis, reads in zip(windows, along, strict=True)]
        paths = np.einsum("f,r,c->frc", *(reads.sum(axis=0) for reads in along))
        found = result[f"foveation_{index}"]
        assert found.attrs["layer"] == name and found.dims == ("frame", "row", "column")
        np.testing.assert_allclose(found.values, paths / paths.mean(), rtol=1e-5)


def test_a_net_of_one_frame_is_audited_as_its_twin_of_images_is():
    flat = padded_net("zeros", depth=3).double()
    layers = [
        nn.Conv3d(part.in_channels, part.out_channels, (1, 3, 3), padding=(0, 1, 1)) if isinstance(part, nn.Conv2d)
        else part for part in flat
    ]  # fmt: skip
    deep = nn.Sequential(*layers).double()
    deep.load_state_dict({
        f"{place}.{kind}": getattr(part, kind).detach()[:, :, None] if kind == "weight" else part.bias.detach()
        for place, part in enumerate(flat) if isinstance(part, nn.Conv2d) for kind in ("weight", "bias")
    })  # fmt: skip
    images = probe.audit(flat, (3, 10, 12), maps="*", sizes=False)
    clips = probe.audit(deep, (3, 5, 10, 12), maps="*", sizes=False)
    for name in ("padding", "unread", "unread_inside"):
        assert (clips[name].sel(side=SIDES).values == images[name].values).all()
        assert not clips[name].sel(side=["first", "last"]).any()
    np.testing.assert_allclose(clips.artefact, images.artefact, rtol=1e-9)
    np.testing.assert_allclose(clips.asymmetry.sel(axis=["row", "column"]), images.asymmetry, rtol=1e-9)
    np.testing.assert_allclose(clips.asymmetry.sel(axis="frame").dropna("layer"), 0, atol=1e-12)
    for index in range(3):
        for name in (f"foveation_{index}", f"zero_map_{index}"):
            for frame in clips[name].values:
                np.testing.assert_allclose(frame, images[name].values, rtol=1e-6)


@pytest.mark.parametrize("axes", [None, ("row", "column"), ("frame",)])
def test_zeros_give_a_map_that_varies_along_the_axes_with_zeros_alone(axes):
    model = probe.with_padding(padded_net("zeros", n_axes=3), "circular", axes=axes)
    result = probe.audit(model, (3, 9, 10, 11), sizes=False).isel(layer=-1)
    varies = result.artefact.item() > 1e-3
    assert varies == (axes is not None)
    profile = result.foveation_0.values
    for place, axis in enumerate(("frame", "row", "column")):
        is_even = np.ptp(profile, axis=place).max() < 1e-5
        assert is_even == (axes is None or axis in axes)


def test_a_shape_that_the_model_does_not_take_is_refused():
    with pytest.raises(ArgumentError, match=r"\(3, 224, 224\): expected of a model of clips \(channel, frame, row, co"):
        probe.audit(net(nn.Conv3d(3, 4, 3)))
    with pytest.raises(ArgumentError, match=r"\(3, 8, 9, 9\): expected \(channel, row, column\), for example \(3, 2"):
        probe.audit(net(nn.Conv2d(3, 4, 3)), (3, 8, 9, 9))


def test_layers_of_images_in_a_model_of_clips_are_named():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.volume, self.image = nn.Conv3d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, clips):
            return self.image(self.volume(clips).mean(2))

    with pytest.warns(
        ProbeWarning, match="left out: image: its windows have 2 axes, and what the model is given has 3"
    ):
        result = probe.audit(Both(), (1, 4, 8, 8), sizes=False)
    assert result.layer.values.tolist() == ["volume"]
