"""The study of one convolution and two corners."""

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

import probe
from probe import reports
from probe.analyses.rook import PRESETS, rook_images, rook_net, run
from probe.reports.studies import findings

BLIND = ("circular", "full")

pytestmark = pytest.mark.usefixtures("one_thread")


def trained(**options):
    return run(**{"preset": "quick", "seeds": 1, "progress": False, **options})


@pytest.fixture(scope="module")
def result():
    return run(preset="tiny", command="probe analyse rook", progress=False)


def test_the_images_differ_in_place_alone():
    upper_left, lower_right = rook_images()[:, 0].numpy()
    rows, columns = np.nonzero(upper_left)
    assert (rows.max(), columns.max()) == (15, 12)
    other_rows, other_columns = np.nonzero(lower_right)
    np.testing.assert_array_equal(other_rows - rows, 16)
    np.testing.assert_array_equal(other_columns - columns, 19)
    np.testing.assert_array_equal(lower_right[other_rows, other_columns], upper_left[rows, columns])


@pytest.mark.parametrize(("padding", "mode"), [("zeros", "same"), ("valid", "valid"), ("full", "full")])
def test_the_map_is_a_correlation_with_the_filter(padding, mode):
    network = rook_net(padding, seed=3)
    weights = network.convolution.weight.detach().numpy()[0, 0]
    for image, map_ in zip(rook_images()[:, 0], network.map(rook_images())[:, 0].detach(), strict=True):
        np.testing.assert_allclose(map_, np.maximum(correlate2d(image, weights, mode), 0), atol=1e-6)


@pytest.mark.parametrize("padding", BLIND)
@pytest.mark.parametrize("seed", range(5))
def test_no_filter_tells_the_corners_apart_under_circular_and_full_padding(padding, seed):
    upper_left, lower_right = rook_net(padding, seed=seed)(rook_images())
    torch.testing.assert_close(upper_left, lower_right, rtol=0, atol=1e-6)


def test_the_first_weights_are_those_of_the_seed_and_the_random_state_stays():
    before = torch.get_rng_state()
    network = rook_net("zeros", seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    expected = torch.nn.Conv2d(1, 1, 5, bias=False).weight, torch.nn.Linear(1, 2).weight
    torch.set_rng_state(before)
    assert torch.equal(network.convolution.weight, expected[0]) and torch.equal(network.classes.weight, expected[1])


def test_zero_padding_teaches_the_corner_and_circular_padding_does_not():
    found = trained(paddings=["zeros", "circular"])
    assert found.here.sel(padding=["zeros", "circular"]).values.tolist() == [100, 50]
    assert found.published.sel(padding="zeros") == 100 and np.isnan(found.published.sel(padding="circular"))
    seen = found.response.sel(seed=0)
    assert abs(seen.sel(padding="zeros").diff("label").item()) > 1
    assert abs(seen.sel(padding="circular").diff("label").item()) < 1e-5


def test_the_result_holds_filters_and_maps_by_epoch(result, tmp_path):
    assert result["filter"].dims == ("padding", "seed", "tap_row", "tap_column")
    assert result.here_by_seed.sizes == {"seed": 2, "padding": 7}
    sizes = {result[f"map_{number}"].attrs["padding"]: result[f"map_{number}"].shape for number in range(7)}
    assert sizes["zeros"] == (3, 2, 32, 32) and sizes["valid"] == (3, 2, 28, 28) and sizes["full"] == (3, 2, 36, 36)
    first = rook_net("zeros", seed=0).map(rook_images())[:, 0].detach()
    np.testing.assert_array_equal(result.map_0.sel(epoch=0), first)
    np.testing.assert_array_equal(
        result.map_0.sel(epoch=PRESETS["tiny"].epochs).max(["row_0", "column_0"]), result.response[0, 0]
    )
    assert probe.load(probe.save(result, tmp_path / "rook.nc")).identical(result)


def test_runs_are_repeatable(result):
    again = run(preset="tiny", progress=False)
    for name in result.data_vars:
        np.testing.assert_array_equal(again[name], result[name])


def test_the_page_tells_who_knows_the_corner():
    found = trained(paddings=["zeros", "circular"])
    sentences = findings(found)
    assert sentences[0].startswith("Of 1 networks") and "apart: zeros 1 (published: zeros 100 %)" in sentences[0]
    assert "accuracy is that of chance: 50 % (circular)" in sentences[1]
    page = reports.build(found).html()
    assert "Maps by epoch" in page and "full padding each of the two maps" in page


def test_networks_that_did_not_learn_are_counted(result):
    told = result.copy(deep=True)
    told.here_by_seed[:] = 100.0
    assert not any("did not learn" in sentence for sentence in findings(told))
    told.here_by_seed.loc[{"padding": ["zeros", "valid", "circular"], "seed": 0}] = 50.0
    told.response[:] = 1.0
    told.response.loc[{"padding": "zeros", "seed": 0}] = 0.0
    missed = findings(told)[-1]
    assert missed.startswith("2 of 10 networks whose border could tell the corners, in theory, did not learn it: 1 of")
    assert missed.endswith("Under zeros and valid others did, which differ from them in their first weights alone.")
    told.here_by_seed.loc[{"padding": "valid"}] = 50.0
    assert findings(told)[-1].endswith("Under valid none did, so that its border tells the corners is not shown here.")


def test_a_padding_that_should_be_blind_and_is_not_is_said_to_tell(result):
    told = result.copy(deep=True)
    told.response[:] = 1.0
    for name, accuracy in {"here_by_seed": 100.0, "here": 75.0}.items():
        told[name][:] = 50.0
        told[name].loc[{"padding": "circular"}] = accuracy
    told.response.loc[{"padding": "circular", "label": "upper left"}] = 3.0
    sentence = findings(told)[1]
    assert sentence.startswith(
        "Under full padding the maps of the two images are moved copies of each other, as theory"
    )
    assert "Theory says that under circular padding" in sentence and "but here they are not" in sentence
    assert "differ by at most 2, and the accuracy, by chance 50 %, is 75 % (circular)." in sentence


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "huge"}, "preset='huge'"),
        ({"seeds": 0}, "seeds=0"),
        ({"paddings": "zeros"}, "paddings='zeros': expected a list"),
        ({"paddings": ["mirror"]}, "expected a list of some of zeros"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(probe.errors.ArgumentError, match=message):
        run(**{"progress": False, **options})
