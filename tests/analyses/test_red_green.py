"""The study of a red and a green box in the trained and in the other half of the image."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import probe
from probe import reports
from probe.analyses.predictions import predict
from probe.analyses.red_green import PRESETS, TESTS, _tests, make_boxes, red_green_net, run, train_on_boxes
from probe.reports.red_green import findings

PADDINGS = ("zeros", "reflect", "replicate", "circular", "partial", "valid", "full")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def boxes():
    return make_boxes(2000, seed=1988)


@pytest.fixture(scope="module")
def result():
    return run(preset="tiny", command="probe analyse red_green", progress=False)


def corners(image, colour):
    """Upper left corner of a box, after a check that it is one."""
    rows, columns = np.nonzero(image[colour].numpy())
    assert len(rows) == 16 and np.ptp(rows) == np.ptp(columns) == 3
    return rows.min(), columns.min()


def test_the_published_images_are_drawn(boxes):
    # So many different images has an independent run of the published generator.
    assert len(boxes.images.flatten(1).unique(dim=0)) == 1911


def test_boxes_stand_as_the_protocol_says(boxes):
    for number in range(200):
        image, label = boxes.images[number], int(boxes.labels[number])
        red, green = corners(image, 0), corners(image, 1)
        left, right = (red, green) if label == 0 else (green, red)
        assert label == number % 2
        assert right[1] - left[1] == boxes.distances[number] >= 5
        assert 0 <= left[1] <= 9
        for row, _ in (red, green):
            assert row in (range(3, 11) if label == 0 else range(19, 27))
        assert image[2].sum() == 0


def test_moved_images_stand_where_the_other_class_was(boxes):
    moved = boxes.moved()
    for number in range(20):
        for colour in (0, 1):
            (row, column), (new_row, new_column) = (
                corners(boxes.images[number], colour),
                corners(moved.images[number], colour),
            )
            assert new_column == column
            assert new_row - row == (16 if boxes.labels[number] == 0 else -16)
    assert torch.equal(moved.labels, boxes.labels)


def test_more_images_begin_with_the_same_ones(boxes):
    assert torch.equal(make_boxes(50, seed=1988).images, boxes.images[:50])
    assert not torch.equal(make_boxes(50, seed=2020).images, boxes.images[:50])


def test_unseen_images_are_none_of_training():
    training = make_boxes(2000, seed=1988)
    tests = _tests(training, 1000)
    seen = {image.numpy().tobytes() for image in training.images}
    unseen = tests["similar, unseen"]
    assert not any(image.numpy().tobytes() in seen for image in unseen.images)
    assert unseen.labels.tolist() == [0, 1] * 500
    assert torch.equal(tests["dissimilar, unseen"].images, unseen.images.roll(16, dims=2))


@pytest.mark.parametrize("padding", ["circular", "full"])
def test_no_network_tells_the_halves_apart_under_circular_and_full_padding(padding, boxes):
    network = red_green_net(padding, seed=0)
    few = boxes.first(40)
    torch.testing.assert_close(network(few.images), network(few.moved().images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("padding", ["zeros", "valid", "reflect", "replicate", "partial"])
def test_under_other_paddings_a_network_can_tell_the_halves_apart(padding, boxes):
    network = red_green_net(padding, seed=0)
    few = boxes.first(40)
    assert (network(few.images) - network(few.moved().images)).abs().max() > 1e-5


def test_sizes_of_the_maps_are_those_of_the_original():
    sizes = {p: red_green_net(p, seed=0)[:8](torch.zeros(1, 3, 32, 32)).shape[-1] for p in ("valid", "zeros", "full")}
    assert sizes == {"valid": 2, "zeros": 4, "full": 6}


def test_the_result_holds_every_test(result, tmp_path):
    assert result.here.dims == ("padding", "test")
    assert tuple(result.padding.values) == PADDINGS and tuple(result.test.values) == TESTS
    assert result.published.sel(padding="zeros", test=list(TESTS[:2])).values.tolist() == [99.8, 8.4]
    assert result.published.sel(test=list(TESTS[2:])).isnull().all()
    assert result.published.sel(padding="reflect").isnull().all()
    assert result.here.attrs["units"] == "%" and result.here.min() >= 0 and result.here.max() <= 100
    for padding in ("circular", "full"):
        similar, dissimilar = (result.here_by_seed.sel(padding=padding, test=test) for test in TESTS[:2])
        np.testing.assert_array_equal(similar, dissimilar)
    assert probe.load(probe.save(result, tmp_path / "red_green.nc")).identical(result)


def test_the_accuracy_by_distance_adds_up_to_that_of_the_test():
    found = run(preset="tiny", seeds=1, paddings=["zeros"], progress=False)
    by_distance = found.by_distance.sel(padding="zeros", test="similar", seed=0)
    counts = np.bincount(make_boxes(50, seed=1988).distances, minlength=28)
    np.testing.assert_array_equal(found.images.sel(test="similar"), counts[found.distance])
    present = [int(distance) for distance in by_distance.distance if counts[distance]]
    mean = (by_distance.sel(distance=present) * counts[present]).sum() / counts.sum()
    assert float(mean) == pytest.approx(float(found.here.sel(padding="zeros", test="similar")))


def test_the_epoch_with_the_lowest_validation_loss_is_kept(boxes):
    training = boxes.first(100)
    losses = {}
    for epochs in (1, 2, 3):
        network = red_green_net("zeros", seed=0)
        kept = train_on_boxes(network, training, replace(PRESETS["tiny"], epochs=epochs))
        logits, labels = network(training.images[:50]), training.labels[:50]
        losses[epochs] = (kept, torch.nn.functional.cross_entropy(logits, labels).item())
    lowest = [min(loss for _, loss in list(losses.values())[: count + 1]) for count in range(3)]
    assert [loss for _, loss in losses.values()] == pytest.approx(lowest)
    assert all(kept <= epochs for epochs, (kept, _) in losses.items())
    assert not network.training


def test_a_network_that_sees_its_borders_learns_the_half_of_the_image(boxes):
    network = red_green_net("valid", seed=0)
    train_on_boxes(network, boxes.first(200), replace(PRESETS["tiny"], epochs=16))
    right = [
        (predict(network, few.images) == few.labels).float().mean()
        for few in (boxes.first(400), boxes.first(400).moved())
    ]
    assert right[0] > 0.95
    assert right[1] < 0.1


def with_accuracies(result, similar, dissimilar):
    """The result in which networks of the given paddings reach so much in both halves; the others stay at chance."""
    told = result.copy(deep=True)
    told.here_by_seed[:] = 50.0
    for test, accuracies in (("similar", similar), ("dissimilar", dissimilar)):
        for padding, accuracy in accuracies.items():
            told.here_by_seed.loc[{"padding": padding, "test": test}] = accuracy
    return told


def test_the_findings_tell_who_goes_by_place(result):
    told = with_accuracies(
        result,
        {"zeros": 99.8, "valid": 100.0, "circular": 80.0, "full": 90.0, "partial": 95.0},
        {"zeros": 8.4, "valid": 0.2, "circular": 80.0, "full": 90.0, "partial": 70.0},
    )
    sentences = findings(told)
    assert sentences[0].startswith("Networks with zeros and valid padding go by place")
    assert "(published: 100.0 and 0.2 %)" in sentences[0]
    assert sentences[1].startswith("With circular and full padding each network is exactly as good in the other half")
    assert "In the other half networks are worse with partial 95 (both)" in sentences[1]
    assert sentences[2].startswith("Not above chance even in the trained half, so that nothing can be said")
    assert all(padding in sentences[2] for padding in ("reflect", "replicate"))


def test_networks_that_learned_nothing_are_not_called_as_good_in_the_other_half(result):
    sentences = findings(with_accuracies(result, {}, {}))
    assert not any("as good" in sentence or "by place" in sentence for sentence in sentences)
    assert sentences[0].startswith("Not above chance even in the trained half")


def test_the_page_is_built_from_the_result_alone(result):
    page = reports.build(result).html()
    assert page == reports.build(result).html()
    for expected in ("Red left of green", "How far apart", "99.8", "one pixel a side"):
        assert expected in page


def test_boxes_far_apart_look_like_the_other_class_around_a_circle(result):
    told = result.copy(deep=True)
    told.by_distance[:] = 100.0
    told.by_distance.loc[{"padding": "circular", "distance": slice(21, 27)}] = 20.0
    last = findings(told)[-1]
    assert "With circular padding 100.0 % of unseen images are recognised with boxes 5 to 12 columns apart" in last
    assert "and 20.0 % at 21 to 27: lower by 80 (both) points. Around the other side" in last
    told.by_distance.loc[{"padding": "full", "distance": slice(21, 27)}] = 10.0
    assert "With full padding" in findings(told)[-1] and "Around the other side" not in findings(told)[-1]


def test_the_mean_over_distances_is_that_over_images(result):
    told = result.copy(deep=True)
    told.by_distance[:] = 100.0
    far = {"padding": "circular", "distance": [21, 22]}
    told.by_distance.loc[far] = np.array([40.0, 10.0])
    told.images.loc[{"distance": slice(21, 27)}] = 0
    told.images.loc[{"distance": [21, 22]}] = np.array([3, 1])
    assert "and 32.5 % at 21 to 27" in findings(told)[-1]


def test_a_loss_within_its_error_is_no_finding(result):
    told = result.copy(deep=True)
    told.by_distance[:] = 100.0
    told.by_distance.loc[{"seed": 0, "padding": "circular", "distance": slice(21, 27)}] = 90.0
    told.here_by_seed[:] = 90.0
    told.here_by_seed.loc[{"seed": 0, "padding": "zeros", "test": "similar"}] = 100.0
    sentences = findings(told)
    assert not any("far apart" in sentence for sentence in sentences)
    assert any("places is not shown beyond its error." in sentence for sentence in sentences)


def test_no_loss_is_told_where_there_is_none(result):
    told = result.copy(deep=True)
    told.by_distance[:], told.here_by_seed[:] = 100.0, 100.0
    sentences = findings(told)
    assert not any("far apart" in sentence for sentence in sentences)
    assert any(sentence.endswith("places is not shown beyond its error.") for sentence in sentences)
    single = findings(told.isel(seed=[0]))
    assert any(sentence.endswith("places is not shown.") for sentence in single)
    told.here_by_seed.loc[{"seed": 0, "padding": "zeros", "test": "similar, unseen"}] = 90.0
    told.by_distance.loc[{"seed": 0, "padding": "full", "distance": slice(21, 27)}] = 60.0
    lost, apart = findings(told.isel(seed=[0]))[-2:]
    assert lost.endswith("the accuracy is lower under zeros (10.0 points).")
    assert apart.endswith("60.0 % at 21 to 27: lower by 40.0 points.")
