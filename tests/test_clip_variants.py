"""Clips through networks whose answer is known: circular in space or in time, or of one frame."""

import numpy as np
import pytest
import torch
from torch import nn

import probe
from probe.errors import ArgumentError, ImagesError
from probe.images.laws import resolve_law
from probe.testing import CoordinateNet, noise_images, padded_net

SPACE, TIME = ("row", "column"), ("frame",)
CLIPS = noise_images(300, (6, 7, 8), seed=1)


def net(axes, depth=3, width=8):
    """A network of clips with zeros along the axes that are not circular."""
    whole = padded_net("zeros", depth=depth, width=width, n_axes=3, seed=3)
    return probe.with_padding(whole, "circular", axes=axes) if axes else whole


@pytest.mark.parametrize(
    ("axes", "known"), [(SPACE, TIME), (TIME, SPACE), ((*TIME, *SPACE), ()), ((), (*TIME, *SPACE))]
)
def test_position_is_known_along_the_axes_with_zeros_alone(axes, known):
    """At 1,000 samples a feature and more, on rolled clips of noise."""
    result = probe.layerwise(
        net(axes), CLIPS, layers="relu3", stimuli="rolled", positions=None, targets=(*TIME, *SPACE), progress=False
    ).isel(layer=0, stimulus=0)
    assert result.samples_per_feature >= 200
    for target in (*TIME, *SPACE):
        r2 = result.r2.sel(target=target).item()
        assert r2 > 0.1 if target in known else abs(r2) < 0.01


def pooled(axes, grid, images=CLIPS, n_images=200, layer="conv3"):
    result = probe.pooled(
        net(axes), images[:n_images, :, :3, :4, :4], layers=layer, grid=grid, permute=(), progress=False
    )
    return result.accuracy.sel(readout="ordered").item(), result.chance.item()


@pytest.mark.parametrize(("axes", "grid", "is_known"), [
    (SPACE, (2, 1, 1), True), (SPACE, (1, 2, 2), False), (TIME, (2, 1, 1), False), (TIME, (1, 2, 2), True),
])  # fmt: skip
def test_the_cell_of_a_canvas_is_read_along_the_axes_with_zeros_alone(axes, grid, is_known):
    accuracy, chance = pooled(axes, grid)
    assert chance == pytest.approx(1 / np.prod(grid), abs=0.02)
    assert accuracy > chance + 0.2 if is_known else abs(accuracy - chance) < 0.12


def test_one_number_makes_a_grid_over_three_axes():
    accuracy, chance = pooled((), 2)
    assert chance == pytest.approx(1 / 8, abs=0.01) and accuracy > 0.3
    with pytest.raises(ArgumentError, match=r"grid=\(2, 2\): .* or along each: frame, row, column"):
        pooled((), (2, 2))
    with pytest.raises(ArgumentError, match=r"grid=\(1, 1, 1\)"):
        pooled((), (1, 1, 1))


@pytest.mark.parametrize("axes", [SPACE, TIME])
def test_an_object_in_a_clip_is_alike_along_the_axes_that_are_circular(axes):
    objects = noise_images(1, (2, 3, 4))
    result = probe.shift_similarity(net(axes), objects, ["conv1", "conv3"], frame=(6, 7, 8), progress=False)
    assert result.similarity.dims == ("layer", "reference", "frame", "row", "column")
    assert result.similarity.shape == (2, 9, 5, 5, 5)
    assert result.reference.values.tolist()[:2] + result.reference.values.tolist()[4:5] == [
        "first top left", "first top right", "centre",
    ]  # fmt: skip
    for axis in ("frame", "row", "column"):
        spread = float((result.similarity.max(axis) - result.similarity.min(axis)).max())
        assert spread < 1e-5 if axis in axes else spread > 1e-4
    places = {"first top left": (0, 0, 0), "last bottom right": (-1, -1, -1), "centre": (2, 2, 2)}
    for reference, place in places.items():
        own = result.similarity.sel(reference=reference).values[(slice(None), *place)]
        np.testing.assert_allclose(own, 1, atol=1e-6)


def test_a_short_clip_is_compared_at_every_moment_and_place():
    objects, model = noise_images(1, (2, 3, 4)), net((), depth=1)
    result = probe.shift_similarity(model, objects, "conv1", frame=(5, 6, 7), progress=False).isel(layer=0)

    def features(frame, row, column):
        clip = torch.zeros(1, 3, 5, 6, 7)
        clip[:, :, frame : frame + 2, row : row + 3, column : column + 4] = objects
        with torch.no_grad():
            return model.conv1(clip).double().mean((2, 3, 4))[0]

    for frame, row, column in [(0, 0, 0), (1, 2, 3), (3, 3, 3), (2, 0, 1)]:
        expected = torch.cosine_similarity(features(frame, row, column), features(3, 0, 3), dim=0).item()
        found = result.similarity.sel(reference="last top right").values[frame, row, column]
        assert found == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ArgumentError, match=r"frame=\(9, 9\): expected one number for each of frame, row, column"):
        probe.shift_similarity(model, objects, "conv1", frame=(9, 9), progress=False)
    with pytest.raises(ArgumentError, match="objects of 2×3×4 pixels have fewer than 3 positions"):
        probe.shift_similarity(model, objects, "conv1", frame=(3, 9, 9), progress=False)
    with pytest.raises(ImagesError, match=r"of clips \(object, channel, frame, row, column\)"):
        probe.shift_similarity(model, objects[0, 0], "conv1", frame=9, progress=False)


# ---- Rankings


def by_index(ranking):
    return ranking.score.sortby(ranking.index).values


@pytest.mark.parametrize("method", ["flip", "shift"])
@pytest.mark.parametrize(("axis", "dim"), [("time", 2), ("vertical", 3), ("horizontal", 4)])
def test_a_clip_is_displaced_along_each_axis(method, axis, dim):
    model, clips = net((), depth=2), CLIPS[:20]
    ranking = probe.rank_channels(model, clips, "relu2", method=method, axis=axis, progress=False)
    moved = clips.flip(dim) if method == "flip" else clips.roll(clips.shape[dim] // 2, dim)
    with torch.no_grad():
        means = [model[:4](shown).double().mean((2, 3, 4)) for shown in (clips, moved)]
    np.testing.assert_allclose(by_index(ranking), (means[0] - means[1]).abs().mean(0), rtol=1e-5)
    assert ranking.attrs["axis"] == axis


def test_first_and_last_frames_are_regions_of_time():
    model = net((), depth=2)
    first, last = (
        probe.rank_channels(model, CLIPS[:20], "relu2", axis="time", region=region, progress=False)
        for region in ("first", "last")
    )
    np.testing.assert_array_equal(by_index(first), by_index(last))
    assert first.index.values.tolist() == last.index.values[::-1].tolist()
    with pytest.raises(ArgumentError, match="region='first' needs axis='time', found 'horizontal'"):
        probe.rank_channels(model, CLIPS[:20], "relu2", region="first", progress=False)


def test_images_have_no_time_to_play_backwards():
    with pytest.raises(ArgumentError, match="axis='time': images have no frames to play backwards"):
        probe.rank_channels(padded_net(depth=1), noise_images(4, 8), "conv1", axis="time", progress=False)


@pytest.mark.parametrize("method", ["omega2", "readout", "attribution"])
def test_coordinates_of_clips_are_the_channels_that_carry_position(method):
    ranking = probe.rank_channels(CoordinateNet(n_axes=3), CLIPS[:40], "identity", method=method, progress=False)
    assert set(ranking.index.values[:3]) == {3, 4, 5}
    assert method == "omega2" or '"targets": ["row", "column", "frame"]' in ranking.attrs["settings"]


@pytest.mark.parametrize("method", ["flip", "shift", "omega2", "readout", "attribution"])
def test_a_clip_of_one_frame_is_ranked_as_its_image(method):
    flat = padded_net("zeros", depth=2, width=6).double()
    deep = nn.Sequential(*[
        nn.Conv3d(part.in_channels, 6, (1, 3, 3), padding=(0, 1, 1)) if isinstance(part, nn.Conv2d) else part
        for part in flat
    ]).double()  # fmt: skip
    for place in (0, 2):
        deep[place].load_state_dict({"weight": flat[place].weight[:, :, None], "bias": flat[place].bias})
    images = noise_images(40, 8).double()
    options = {"method": method, "progress": False} | ({"axis": "both"} if method in ("flip", "shift") else {})
    if method in ("readout", "attribution"):
        options["targets"] = ("row", "column")
    expected = by_index(probe.rank_channels(flat, images, "relu2", **options))
    found = by_index(probe.rank_channels(deep, images[:, :, None], "3", **options))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


# ---- Ablation


def test_the_curve_of_a_net_of_one_frame_is_that_of_images():
    flat = nn.Sequential(padded_net("zeros", depth=2, width=6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    torch.manual_seed(0)
    nn.init.normal_(flat[3].weight)
    deep = nn.Sequential(nn.Sequential(*[
        nn.Conv3d(part.in_channels, 6, (1, 3, 3), padding=(0, 1, 1)) if isinstance(part, nn.Conv2d) else part
        for part in flat[0]
    ]), nn.AdaptiveAvgPool3d(1), nn.Flatten(), flat[3])  # fmt: skip
    for place in (0, 2):
        deep[0][place].load_state_dict({"weight": flat[0][place].weight[:, :, None], "bias": flat[0][place].bias})
    images = noise_images(24, 8)
    curves = []
    for model, shown, layer in ((flat, images, "0.relu1"), (deep, images[:, :, None], "0.1")):
        ranking = probe.rank_channels(model, shown[:12], layer, progress=False)
        curve = probe.ablation_curve(
            model, shown[12:], ranking, score="agreement", counts=[1, 3, 6], draws=20, progress=False
        )
        curves.append(curve)
    for name in curves[0].data_vars:
        if curves[0][name].dtype.kind == "f":
            np.testing.assert_allclose(curves[1][name].values, curves[0][name].values, rtol=1e-5, atol=1e-6)


# ---- Consistency under shifts


def told(axes, shifted, law="circular", **options):
    model = nn.Sequential(net(axes), nn.AdaptiveMaxPool3d(1), nn.Flatten())
    return probe.shift_consistency(
        model, CLIPS[:10], law=law, axes=shifted, compare="embedding", reach=2, progress=False, **options
    )


@pytest.mark.parametrize("axes", [SPACE, TIME])
@pytest.mark.parametrize("shifted", [SPACE, TIME, ("row",), (*TIME, *SPACE)])
def test_what_a_net_says_of_a_clip_moves_with_it_along_its_circular_axes(axes, shifted):
    result = told(axes, shifted)
    assert result.axis.values.tolist() == [axis for axis in (*TIME, *SPACE) if axis in shifted]
    assert result.phase_consistency.dims == tuple(f"{axis}_phase" for axis in result.axis.values)
    same = result.consistency.item()
    assert same > 1 - 1e-6 if set(shifted) <= set(axes) else same < 1 - 1e-5
    assert result.attrs["n_shifts"] == 5 ** len(shifted)


@pytest.mark.parametrize("law", ["crop", "circular", "zero"])
def test_clips_are_shifted_as_numpy_does(law):
    clips = torch.randn(4, 2, 9, 10, 11)
    for axes, offsets in ((TIME, [[0], [1], [2], [1]]), ((*TIME, "column"), [[0, 2], [1, 1], [2, 0], [2, 2]])):
        moved = resolve_law(law, 2, [9 if axis == "frame" else 11 for axis in axes], axes).shifted(
            clips, np.array(offsets)
        )
        for clip, found, offset in zip(clips.numpy(), moved.numpy(), offsets, strict=True):
            expected = clip
            for axis, step in zip(axes, offset, strict=True):
                dim = {"frame": 1, "column": 3}[axis]
                length = clip.shape[dim]
                if law == "circular":
                    expected = np.roll(expected, step, dim)
                elif law == "crop":
                    expected = np.take(expected, range(step, step + length - 2), dim)
                else:
                    padding = [(step, 0) if place == dim else (0, 0) for place in range(4)]
                    expected = np.take(np.pad(expected, padding), range(length), dim)
            np.testing.assert_array_equal(found, expected)


def test_time_has_a_stride_of_its_own():
    model = nn.Sequential(nn.Conv3d(3, 4, 3, (2, 3, 3), 1), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    clips = noise_images(4, (8, 12, 12))
    options = {"law": "circular", "compare": "embedding", "progress": False, "pairs": 40}
    result = probe.shift_consistency(model, clips, axes=("frame", "row"), reach=3, **options)
    assert result.phase_pairs.shape == (2, 3) and result.attrs["stride"] == "[2, 3]"
    assert (result.phase == result.distance % 6).all()
    expected = np.zeros((2, 3), int)
    for first, second in result.offset.values.reshape(-1, 2, 2).astype(int):
        expected[(second[0] - first[0]) % 2, (second[1] - first[1]) % 3] += 1
    np.testing.assert_array_equal(result.phase_pairs, expected)
    assert probe.shift_consistency(model, clips, axes="frame", reach=3, **options).attrs["stride"] == 2


def test_frames_that_are_shifted_are_named_in_figures():
    assert [ax.get_xlabel() for ax in probe.plot_consistency(told(SPACE, TIME))] == ["frames apart"]
    labels = [ax.get_xlabel() for ax in probe.plot_consistency(told(SPACE, (*TIME, *SPACE)))]
    assert labels == ["pixels and frames apart, along all axes"]


def test_axes_to_shift_along_are_those_that_there_are():
    model = nn.Sequential(padded_net(depth=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ArgumentError, match=r"images have no frames to shift along; clips have"):
        probe.shift_consistency(model, noise_images(4, 12), axes=TIME, progress=False)
    with pytest.raises(ArgumentError, match="expected some of frame, row, column"):
        probe.shift_consistency(model, noise_images(4, 12), axes=("time",), progress=False)
    with pytest.raises(ImagesError, match="images: of 6 frames, they cannot be shifted by 32"):
        probe.shift_consistency(net(()), CLIPS[:2], axes=TIME, law="zhang", progress=False)
