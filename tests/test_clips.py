"""Position in clips: frames, rows and columns, against scikit-learn, closed forms and nets with known answers."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional

import probe
from probe.errors import ArgumentError, ImagesError, LayoutError, ProbeWarning
from probe.readouts.fitting import disjoint_halves
from probe.results import layer_map
from probe.testing import CoordinateNet, noise_images, padded_net

CLIPS = noise_images(40, (3, 5, 7), seed=3).double()
FOLDS, ALPHA = 5, 1e-3


def activations(net, clips, stimulus="natural"):
    shown = probe.images.stimuli.apply_stimulus(stimulus, clips, range(len(clips)), 0)
    with torch.no_grad():
        return net(shown)


# A map of 3×5×7 cells, in double precision.
NET = padded_net("zeros", depth=2, width=6, n_axes=3).double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def layerwise():
    options = {"layers": "relu2", "positions": None, "maps": "relu2", "folds": FOLDS, "progress": False}
    targets = ("row", "column", "frame", "radius", "border", "gaussian")
    return probe.layerwise(NET, CLIPS, targets=targets, stimuli="natural", **options).isel(layer=0, stimulus=0)


@pytest.fixture(scope="module")
def samples():
    maps = activations(NET, CLIPS)
    cells = maps.flatten(2).transpose(1, 2).flatten(0, 1).numpy()
    return cells, np.repeat(np.arange(len(CLIPS)) % FOLDS, 105)


def test_readouts_equal_those_of_scikit_learn(layerwise, samples):
    features, folds = samples
    frame, row, column = (
        values.ravel() for values in np.meshgrid(*((2 * np.arange(n) + 1) / n - 1 for n in (3, 5, 7)), indexing="ij")
    )
    radius = np.sqrt(frame**2 + row**2 + column**2)
    border = np.min([1 - abs(frame), 1 - abs(row), 1 - abs(column)], axis=0)
    maps = {"frame": frame, "row": row, "column": column, "radius": radius, "border": border}
    maps["gaussian"] = np.exp(-(radius**2) / 2)
    for name, values in maps.items():
        target = np.tile(values, len(CLIPS))
        errors = 0.0
        for held_out in range(FOLDS):
            products = []
            test = folds == held_out
            for halves in disjoint_halves(FOLDS, held_out):
                residuals = []
                for half in halves:
                    train = np.isin(folds, half)
                    ridge = make_pipeline(StandardScaler(), Ridge(train.sum() * ALPHA))
                    ridge.fit(features[train], target[train])
                    residuals.append(target[test] - ridge.predict(features[test]))
                products.append((residuals[0] * residuals[1]).sum())
            errors += np.mean(products)
        expected = 1 - errors / ((target - target.mean()) ** 2).sum()
        assert abs(layerwise.r2.sel(target=name).item() - expected) < 1e-6, name


def test_controls_and_bits(layerwise):
    assert (abs(layerwise.r2_control) < 0.1).all()
    bits = layerwise.bits.to_series()
    assert bits[["radius", "border", "gaussian"]].isna().all()
    r2 = layerwise.r2.to_series()
    for axis, length in (("frame", 3), ("row", 5), ("column", 7)):
        expected = min(-0.5 * np.log2(1 - max(r2[axis], 0)), np.log2(length))
        assert bits[axis] == pytest.approx(expected), axis


def test_maps(layerwise, samples):
    maps = activations(NET, CLIPS)
    mean = layer_map(layerwise, "mean_map", "relu2")
    assert mean.dims == ("channel", "frame", "row", "column")
    np.testing.assert_allclose(mean, maps.mean(0), atol=1e-12)
    features, _ = samples
    target = np.tile(np.repeat((2 * np.arange(3) + 1) / 3 - 1, 35), len(CLIPS))
    ridge = make_pipeline(StandardScaler(), Ridge(len(features) * ALPHA)).fit(features, target)
    decoded = layer_map(layerwise, "decoded_map", "relu2").sel(target="frame")
    expected = ridge.predict(maps.mean(0).flatten(1).T.numpy()).reshape(3, 5, 7)
    np.testing.assert_allclose(decoded, expected, atol=1e-6)


def test_omega_squared_equals_its_formula():
    result = probe.channelwise(NET, CLIPS, layers="relu2", stimuli="natural", progress=False)
    values = activations(NET, CLIPS).flatten(2).numpy()
    n_images, n_channels, n_cells = values.shape
    for channel in range(n_channels):
        table = values[:, channel]
        grand = table.mean()
        position = n_images * ((table.mean(0) - grand) ** 2).sum()
        image = n_cells * ((table.mean(1) - grand) ** 2).sum()
        total = ((table - grand) ** 2).sum()
        error = (total - position - image) / ((n_cells - 1) * (n_images - 1))
        expected = (position - (n_cells - 1) * error) / (total + error)
        assert result.omega2.values[channel, 0] == pytest.approx(expected, abs=1e-9)
    correlation = np.corrcoef(values[:, 0].ravel(), np.tile(np.repeat([-2 / 3, 0, 2 / 3], 35), n_images))[0, 1]
    assert result.r2.sel(target="frame").values[0, 0] == pytest.approx(correlation**2, abs=1e-9)


def test_statistics_of_two_halves_are_those_of_all(tmp_path):
    options = {"layers": "relu2", "positions": 20, "progress": False}
    first = probe.collect(NET, CLIPS[:20], **options)
    first.merge(probe.collect(NET, CLIPS[20:], first_image=20, **options))
    first.save(tmp_path / "sums.pt")
    whole = probe.layerwise(NET, CLIPS, **options)
    loaded = probe.layerwise(probe.Statistics.load(tmp_path / "sums.pt"))
    np.testing.assert_allclose(loaded.r2, whole.r2, atol=1e-9)


class TestKnownAnswers:
    def test_a_coordinate_net_knows_frame_row_and_column(self):
        result = probe.layerwise(CoordinateNet(3), noise_images(40, (4, 6, 5)), positions=None, progress=False)
        assert result.target.values.tolist() == ["row", "column", "frame"]
        assert (result.r2.sel(layer="identity") > 0.999).all()
        assert (abs(result.r2.sel(layer="input", stimulus="rolled")) < 0.05).all()
        channels = probe.channelwise(CoordinateNet(3), noise_images(40, (4, 6, 5)), progress=False)
        np.testing.assert_allclose(channels.omega2.sel(stimulus="rolled").values[-3:], 1, atol=1e-6)

    def test_circular_convolutions_know_nothing_of_rolled_clips(self):
        net, clips = padded_net("circular", depth=3, width=8, n_axes=3).double(), noise_images(100, (6, 8, 8)).double()
        result = probe.layerwise(net, clips, stimuli="rolled", positions=None, progress=False)
        assert (result.samples_per_feature >= 200).all()
        assert (abs(result.r2) < 0.01).all()

    def test_circular_in_space_and_zeros_in_time_know_the_frame_alone(self):
        class Convolution(nn.Conv3d):
            def forward(self, clips):
                around = functional.pad(clips, (1, 1, 1, 1, 0, 0), mode="circular")
                return functional.conv3d(around, self.weight, self.bias, padding=(1, 0, 0))

        torch.manual_seed(0)
        widths = (3, 8, 8, 8)
        convolutions = [Convolution(a, b, 3) for a, b in itertools.pairwise(widths)]
        net = nn.Sequential(*(layer for c in convolutions for layer in (c, nn.ReLU()))).double()
        clips = noise_images(100, (6, 8, 8)).double()
        result = probe.layerwise(net, clips, stimuli="rolled", positions=None, progress=False).sel(layer="4")
        r2 = result.r2.sel(stimulus="rolled").to_series()
        assert r2["frame"] > 0.05
        assert (abs(r2[["row", "column"]]) < 0.01).all()

    def test_a_stimulus_rolls_the_axes_that_it_names(self):
        """Content that tells row and frame: rolled in space it tells the frame alone, in time the row alone."""
        clips = noise_images(60, (5, 6, 6)).double() * 0.1
        clips[:, 0] += torch.linspace(-1, 1, 6)[:, None]
        clips[:, 1] += torch.linspace(-1, 1, 5)[:, None, None]
        stimuli = ("natural", "rolled", "rolled_space", "rolled_time")
        net = nn.Sequential(nn.Conv3d(3, 3, 1)).double()
        result = probe.layerwise(net, clips, layers="input", stimuli=stimuli, positions=None, progress=False)
        knows = (result.r2.isel(layer=0) > 0.8).to_pandas()
        assert knows["row"].tolist() == [True, False, False, True]
        assert knows["frame"].tolist() == [True, False, True, False]
        assert not knows["column"].any()
        assert (abs(result.r2.sel(stimulus="rolled")) < 0.1).all()


class FrameByFrame(nn.Module):
    """A net of images, applied to each frame of a clip."""

    def __init__(self, net):
        super().__init__()
        self.net = nn.Sequential(*(self._of_frames(layer) for layer in net))

    @staticmethod
    def _of_frames(layer):
        if not isinstance(layer, nn.Conv2d):
            return layer
        kernel, padding = (1, *layer.kernel_size), (0, *layer.padding)
        frames = nn.Conv3d(layer.in_channels, layer.out_channels, kernel, padding=padding, dtype=layer.weight.dtype)
        frames.load_state_dict({"weight": layer.weight[:, :, None], "bias": layer.bias})
        return frames

    def forward(self, clips):
        return self.net(clips)


def test_a_net_of_images_frame_by_frame_gives_the_numbers_of_its_frames():
    net = padded_net("zeros", depth=2, width=6).double().requires_grad_(False)
    clips = noise_images(20, (4, 6, 7), seed=5).double()
    frames = clips.transpose(1, 2).flatten(0, 1)
    options = {"stimuli": "natural", "positions": None, "maps": "relu2", "folds": FOLDS, "progress": False}
    options |= {"targets": ("row", "column")}
    of_clips = probe.layerwise(FrameByFrame(net), clips, layers="net.3", **{**options, "maps": "net.3"})
    of_frames = probe.layerwise(net, frames, layers="relu2", groups=np.arange(80) // 4, **options)
    np.testing.assert_allclose(of_clips.r2.values, of_frames.r2.values, atol=1e-9)
    np.testing.assert_allclose(of_clips.r2_se.values, of_frames.r2_se.values, atol=1e-9)
    np.testing.assert_allclose(of_clips.bits.values, of_frames.bits.values, atol=1e-9)
    decoded = layer_map(of_clips, "decoded_map", "net.3").mean("frame")
    np.testing.assert_allclose(decoded, layer_map(of_frames, "decoded_map", "relu2"), atol=1e-9)


def test_layers_with_and_without_frames_stand_in_one_result():
    class Averaged(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.behind = nn.Conv3d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)

        def forward(self, clips):
            return self.behind(self.conv(clips).mean(2))

    torch.manual_seed(0)
    net = Averaged()
    with pytest.warns(ProbeWarning, match="target 'frame' is constant on the grid of behind: NaN"):
        result = probe.layerwise(net, noise_images(40, (4, 6, 6)), maps=["conv", "behind"], progress=False)
    assert result.r2.sel(target="frame").isnull().all("stimulus").values.tolist() == [False, False, True]
    assert result.r2.sel(target="row").notnull().all()
    assert result.bits.sel(layer="behind", target="frame").isnull().all()
    assert result.frames.values.tolist() == [4, 4, 1]
    assert layer_map(result, "mean_map", "behind").dims == ("stimulus", "channel", "row", "column")
    only = probe.layerwise(net, noise_images(40, (4, 6, 6)), layers="behind", progress=False)
    assert only.target.values.tolist() == ["row", "column"]
    assert "frames" not in only.coords


class Videos(torch.utils.data.Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def test_clips_come_as_tensors_data_sets_and_decoded_arrays():
    generator = np.random.default_rng(0)
    decoded = [generator.integers(0, 256, (4, 6, 5, 3), dtype=np.uint8) for _ in range(20)]
    clips = torch.from_numpy(np.stack(decoded)).movedim(-1, 1).float() / 255
    net = padded_net("zeros", depth=1, width=4, n_axes=3)
    forms = {
        "tensor": clips,
        "array": clips.numpy(),
        "data set of tensors": Videos([(clip, 0) for clip in clips]),
        "data set of decoded arrays": Videos([{"image": video} for video in decoded]),
        "data set of decoded tensors": Videos([torch.from_numpy(video) for video in decoded]),
        "list of clips": list(clips),
        "iterable of batches": iter(clips.split(7)),
        "loader": torch.utils.data.DataLoader(Videos([(clip, 0) for clip in clips]), batch_size=6),
    }
    found = {
        name: probe.layerwise(net, images, layers="conv1", stimuli="rolled", positions=None, progress=False)
        for name, images in forms.items()
    }
    for name, result in found.items():
        assert result.attrs["n_images"] == 20, name
        assert result.attrs["images_digest"] == found["tensor"].attrs["images_digest"], name
        np.testing.assert_allclose(result.r2, found["tensor"].r2, atol=1e-5, err_msg=name)


class TestFaults:
    @pytest.mark.parametrize("make", [lambda clips: clips, lambda clips: Videos(list(clips))], ids=["tensor", "rows"])
    def test_a_model_of_images_given_clips(self, make, left_as_found):
        net = padded_net("zeros", depth=1)
        message = r"expected (shape )?\((image, )?channel, row, column\)"
        with left_as_found(net), pytest.raises(ImagesError, match=message):
            probe.layerwise(net, make(noise_images(8, (4, 6, 6))), progress=False)

    @pytest.mark.parametrize("count", [1, 8])
    def test_a_model_of_images_given_clips_is_told_how_to_show_frames(self, count):
        with pytest.raises(ImagesError, match=r"takes images.*images\.transpose\(1, 2\)\.flatten\(0, 1\).*forward="):
            probe.layerwise(padded_net("zeros"), noise_images(count, (4, 6, 6)), progress=False)

    @pytest.mark.parametrize("make", [lambda images: images, lambda images: Videos(list(images)), list])
    def test_a_model_of_clips_given_images(self, make, left_as_found):
        net = padded_net("zeros", depth=1, n_axes=3)
        message = r"expected (shape )?\((image, )?channel, frame, row, column\).*The model takes clips"
        with left_as_found(net), pytest.raises(ImagesError, match=message):
            probe.layerwise(net, make(noise_images(8, 6)), progress=False)

    def test_clips_that_are_too_short_for_the_model(self):
        net = nn.Sequential(nn.Conv3d(3, 4, 3), nn.MaxPool3d(2), nn.Conv3d(4, 4, 3))
        message = (
            r"those of 6×12×12 \(frame, row, column\) are too small for the model: 2 \(Conv3d\): .*longer or larger"
        )
        with pytest.raises(ImagesError, match=message):
            probe.layerwise(net, noise_images(8, (6, 12, 12)), progress=False)

    def test_later_clips_of_another_length_are_of_another_size_alone(self):
        net = padded_net("zeros", depth=1, width=4, n_axes=3)
        batches = [noise_images(20, (frames, 6, 6)) for frames in (4, 5)]
        with pytest.warns(ProbeWarning, match="omega2 and maps need images of one size"):
            result = probe.channelwise(net, iter(batches), layers="conv1", progress=False)
        assert result.r2.notnull().all()
        assert result.omega2.isnull().all()

    def test_images_do_not_roll_in_time(self):
        with pytest.raises(ArgumentError, match="'rolled_time' is for clips and volumes"):
            probe.layerwise(padded_net("zeros"), noise_images(8, 6), stimuli="rolled_time", progress=False)

    def test_single_frames_do_not_roll_in_time(self):
        net, clips = padded_net("zeros", n_axes=3), noise_images(8, (1, 6, 6))
        with pytest.raises(ArgumentError, match="'rolled_time' leaves clips of one frame as they are"):
            probe.layerwise(net, clips, stimuli="rolled_time", progress=False)
        with pytest.raises(ArgumentError, match="axis='time': clips of one frame have none to play backwards"):
            probe.rank_channels(net, clips, "conv1", axis="time", progress=False)

    @pytest.mark.parametrize(
        ("n_axes", "size", "message"),
        [(3, 6, r"takes clips.*one frame in the loader's data set"), (2, (4, 6, 6), r"takes images: show one frame")],
    )
    def test_a_loader_of_what_the_model_does_not_take(self, n_axes, size, message):
        loader = torch.utils.data.DataLoader(noise_images(8, size), batch_size=4)
        with pytest.raises(ImagesError, match=message):
            probe.layerwise(padded_net("zeros", n_axes=n_axes), loader, progress=False)

    def test_a_loader_of_clips_of_unequal_length_is_told_the_cure(self):
        loader = torch.utils.data.DataLoader([torch.zeros(3, frames, 6, 6) for frames in (4, 5)], batch_size=2)
        with pytest.raises(RuntimeError, match="stack expects") as raised:
            probe.layerwise(padded_net("zeros", n_axes=3), loader, progress=False)
        assert any("clips to one number of frames" in note for note in raised.value.__notes__)

    def test_clips_with_frames_before_channels_are_told_the_cure(self):
        with pytest.raises(ImagesError, match=r"Move the frames behind the channels: images\.transpose\(1, 2\)"):
            probe.list_layers(padded_net("zeros", n_axes=3), noise_images(2, (4, 6, 6)).transpose(1, 2))

    @pytest.mark.parametrize(("n_axes", "taken"), [(2, "images"), (3, "clips")])
    def test_objects_that_the_model_does_not_take(self, n_axes, taken):
        objects = torch.zeros(2, 3, 4, 4) if n_axes == 3 else torch.zeros(2, 3, 2, 4, 4)
        with pytest.raises(ImagesError, match=f"the model's first convolution takes {taken}"):
            probe.shift_similarity(padded_net("zeros", n_axes=n_axes), objects, "conv1", frame=9, progress=False)

    def test_axes_that_are_none(self):
        with pytest.raises(ArgumentError, match="axes=3: expected some of frame, row, column"):
            probe.with_padding(padded_net("zeros", n_axes=3), "circular", axes=3)
        with pytest.raises(ArgumentError, match="axes=3: expected some of frame, row, column"):
            probe.shift_consistency(padded_net("zeros"), noise_images(8, 6), axes=3, progress=False)

    def test_rows_of_signals_are_refused(self):
        with pytest.raises(ImagesError, match="Signals of one axis, such as spectra and sound, are not read"):
            probe.list_layers(nn.Conv1d(3, 4, 3), Videos(list(torch.zeros(4, 3, 20))))

    def test_a_layout_that_is_none_of_clips(self):
        net = padded_net("zeros", depth=1, width=4, n_axes=3)
        with pytest.raises(LayoutError, match=r"made \(2, 4\) of an output of shape"):
            probe.list_layers(net, noise_images(1, (4, 6, 6)), layout={"conv1": lambda maps: maps.mean((2, 3, 4))})


def test_layouts_of_clips_can_be_said():
    net = padded_net("zeros", depth=1, width=4, n_axes=3)
    clips = noise_images(1, (4, 6, 5))
    turned = probe.list_layers(net, clips, layout={"conv1": "NDHWC"})
    assert turned.loc["conv1", "shape"] == (5, 4, 4, 6)
    assert probe.list_layers(net, clips).loc["conv1", "shape"] == (4, 4, 6, 5)


def test_a_target_of_ones_own_is_told_the_whole_size():
    def late(frames, rows, columns):
        return np.broadcast_to((np.arange(frames) > 1)[:, None, None], (frames, rows, columns)).astype(float)

    clips = noise_images(40, (4, 5, 6))
    clips[:, 0] += torch.tensor([0.0, 0, 3, 3])[:, None, None]
    net = nn.Sequential(nn.Conv3d(3, 3, 1))
    result = probe.layerwise(net, clips, layers="input", targets={"late": late}, stimuli="natural", progress=False)
    assert result.r2.item() > 0.6


class TestAblation:
    net = padded_net("zeros", depth=2, width=6, n_axes=3).double().eval().requires_grad_(False)

    def behind(self, clips, **ablated):
        with torch.no_grad():
            first = self.net[1](self.net[0](clips))
            if ablated:
                first[:, 2] = ablated["value"](first)
            return self.net[3](self.net[2](first))

    @pytest.mark.parametrize("mode", ["zero", "mean"])
    def test_channels_are_replaced_on_every_cell(self, mode):
        def value(maps):
            return 0 if mode == "zero" else maps[:, 2].mean(dim=(1, 2, 3), keepdim=True).expand_as(maps[:, 2])

        expected = self.behind(CLIPS, value=value)
        with torch.no_grad(), probe.ablate(self.net, {"relu1": [2]}, mode=mode):
            torch.testing.assert_close(self.net(CLIPS), expected)

    def test_the_mean_of_a_result_stands_for_that_of_each_clip(self):
        reference = probe.channelwise(self.net, CLIPS, layers="relu1", maps="relu1", progress=False)
        mean = layer_map(reference, "mean_map", "relu1").sel(stimulus="natural").values[2].mean()
        expected = self.behind(CLIPS, value=lambda maps: torch.full_like(maps[:, 2], mean))
        with torch.no_grad(), probe.ablate(self.net, {"relu1": [2]}, mode="mean", reference=reference):
            torch.testing.assert_close(self.net(CLIPS), expected)

    def test_predictions_of_cells_are_compared_where_the_roll_has_brought_them(self):
        options = {"score": "agreement", "counts": [1], "draws": 2, "folds": 2, "progress": False}
        circular = padded_net("circular", depth=2, width=6, n_axes=3).double()
        clips = noise_images(12, (4, 6, 6)).double()
        curves = {}
        for name, net in {"circular": circular, "zeros": self.net}.items():
            ranking = probe.rank_channels(net, CLIPS[:20], "relu1", method="omega2", progress=False)
            curves[name] = probe.ablation_curve(net, clips, ranking, **options)
        assert curves["circular"].attrs["n_images"] == 12
        assert "agreement" in str(curves["circular"])
        values = {name: float(curve.intact.sel(score="agreement")) for name, curve in curves.items()}
        assert values["circular"] == 1 > values["zeros"]

    def test_erasers_are_fitted_and_put_to_work(self):
        statistics = probe.collect(self.net, CLIPS, layers="relu1", positions=None, progress=False)
        assert statistics.targets == ["row", "column", "frame"]
        eraser = probe.fit_eraser(statistics, "relu1", targets=("row", "column", "frame"), stimulus="natural")
        erased = probe.with_erasers(self.net, {"relu1": eraser})
        result = probe.layerwise(erased, CLIPS, layers="relu1*", stimuli="natural", positions=None, progress=False)
        assert (result.r2.isel(layer=-1) < 0.01).all()


def test_what_compares_places_of_single_images_refuses_clips():
    net = padded_net("zeros", depth=1, width=4, n_axes=3)
    with pytest.raises(ArgumentError, match="neighbours are sought in maps of rows and columns alone"):
        probe.neighbours(net, noise_images(20, (4, 6, 6)), "conv1", progress=False)


def test_maps_of_clips_that_a_function_lays_out_are_erased():
    """Features without position have none left, whichever way their maps were made."""
    net = padded_net("zeros", depth=1, width=6, n_axes=3).double().requires_grad_(False)
    turned = {"relu1": lambda output: output.transpose(3, 4)}
    options = {"layers": "relu1", "stimuli": "rolled", "positions": None, "progress": False}
    eraser = probe.fit_eraser(probe.collect(net, CLIPS, layout=turned, **options), "relu1", targets=("row", "frame"))
    maps = activations(net, CLIPS, "rolled").transpose(3, 4)
    erased = eraser(maps)
    row = torch.linspace(-1, 1, maps.shape[3], dtype=torch.float64)[:, None]
    covariance = ((erased - erased.mean((0, 2, 3, 4), keepdim=True)) * row).mean((0, 2, 3, 4))
    torch.testing.assert_close(covariance, torch.zeros(6, dtype=torch.float64), atol=1e-10, rtol=0)
    with pytest.raises(LayoutError, match="expected 4 or 5 axes with 6 channels on axis 1"):
        eraser(maps[:, :, 0, 0])


@pytest.mark.parametrize("make", [lambda clips: clips, list], ids=["tensor", "rows"])
def test_clips_are_read_in_shards(make):
    net = padded_net("zeros", depth=1, width=4, n_axes=3).double()
    options = {"layers": "conv1", "positions": None, "progress": False}
    first, second = (probe.collect(net, make(CLIPS), shard=(number, 2), **options) for number in (1, 2))
    whole = probe.layerwise(net, make(CLIPS), **options)
    np.testing.assert_allclose(probe.layerwise(first.merge(second) or first).r2, whole.r2, atol=1e-9)


def test_erasure_in_clips_is_scored_without_what_is_of_single_images():
    net = padded_net("zeros", depth=2, width=4, n_axes=3).double()
    with pytest.warns(ProbeWarning, match="same_place: left out: the maps of relu1 have frames"):
        curve = probe.erasure_curve(
            net, CLIPS, "relu1", score="agreement", methods="leace", ranks=1, targets=("row", "frame"), draws=2,
            progress=False,
        )  # fmt: skip
    assert curve.erased.notnull().all()
    assert "same_place" not in curve
