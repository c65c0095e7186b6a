"""Scores against scikit-learn and by hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, jaccard_score
from torch.nn.functional import one_hot

from probe.ablation.performance import SCORES, Accuracy, MeanIoU, Shown, at_chance, resolve_scores
from probe.errors import ArgumentError, ImagesError
from probe.images.stimuli import apply_stimulus

VOID = 4


def logits_of(classes, n_classes=4):
    return one_hot(classes, n_classes).movedim(-1, 1).double()


def shown(predicted, labels=(), rolled=None, numbers=None, size=(6, 9)):
    outputs = {"natural": logits_of(predicted)}
    if rolled is not None:
        outputs["rolled"] = logits_of(rolled)
    return Shown(outputs, list(labels), numbers or list(range(len(predicted))), size, seed=0)


def value_of(score, *parts):
    """Score parts of a data set, whose amounts add up."""
    sums = sum(score.amounts(part).numpy().astype(float).sum(axis=0) for part in parts)
    return score.value(sums).item()


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randint(0, 4, (5, 6, 9), generator=generator)
    labels = torch.where(torch.rand(5, 6, 9, generator=generator) < 0.6, predicted, (predicted + 1) % (VOID + 1))
    return predicted, labels


@pytest.mark.parametrize(
    ("name", "columns"),
    [("miou", slice(None)), ("miou:left", slice(0, 3)), ("miou:centre", slice(3, 6)), ("miou:right", slice(6, 9))],
)
def test_miou_is_the_mean_of_jaccard_scores_over_all_pixels_that_are_not_void(maps, name, columns):
    predicted, labels = (part[:, :, columns].numpy().ravel() for part in maps)
    expected = jaccard_score(labels[labels != VOID], predicted[labels != VOID], average="macro")
    parts = [shown(maps[0][:2], maps[1][:2]), shown(maps[0][2:], maps[1][2:])]
    assert value_of(SCORES[name](), *parts) == pytest.approx(expected, rel=1e-12)


def test_miou_within_a_mask(maps):
    mask = np.random.default_rng(0).random((6, 9)) < 0.5
    predicted, labels = (part.numpy()[:, mask].ravel() for part in maps)
    expected = jaccard_score(labels[labels != VOID], predicted[labels != VOID], average="macro")
    for given in (mask, torch.from_numpy(mask), mask.tolist()):
        assert value_of(MeanIoU(given), shown(*maps)) == pytest.approx(expected, rel=1e-12)


def test_classes_neither_labelled_nor_predicted_are_left_out_of_miou():
    labels = torch.tensor([[[0, 0, 1, 1]]])
    predicted = torch.tensor([[[0, 0, 0, 1]]])
    assert value_of(MeanIoU(), shown(predicted, labels)) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert np.isnan(value_of(MeanIoU(), shown(predicted, torch.full((1, 1, 4), 255))))


def test_accuracy_of_images_and_of_pixels(maps):
    predicted, labels = maps
    known = labels != VOID
    expected = accuracy_score(labels[known], predicted[known])
    assert value_of(SCORES["accuracy"](), shown(predicted, labels)) == pytest.approx(expected)
    classes = torch.tensor([0, 1, 2, 3, -1])
    assert value_of(SCORES["accuracy"](), shown(torch.tensor([0, 1, 1, 1, 1]), classes)) == 2 / 4


def test_of_equal_logits_the_first_class_is_predicted():
    logits = torch.tensor([1.0, 2, 2, 0]).reshape(1, 4, 1, 1).expand(1, 4, 2, 2)
    assert Shown({"natural": logits}, [], [0], (2, 2), 0).classes["natural"].unique().tolist() == [1]


@pytest.mark.parametrize("name", ["accuracy", "miou", "agreement"])
def test_a_model_that_gives_nan_has_no_score(maps, name):
    outputs = {stimulus: logits_of(maps[0]) for stimulus in ("natural", "rolled")}
    outputs["natural"][2, 1, 3, 3] = np.nan
    assert np.isnan(value_of(SCORES[name](), Shown(outputs, list(maps[1]), [0, 1, 2, 3, 4], (6, 9), 0)))


def test_a_classifier_that_gives_nan_has_no_score():
    logits = torch.tensor([[0.0, 1], [np.nan, 1]])
    assert np.isnan(
        value_of(SCORES["accuracy"](), Shown({"natural": logits}, [torch.tensor(1)] * 2, [0, 1], (1, 1), 0))
    )


def test_agreement_of_classes_is_the_share_of_equal_ones():
    seen = shown(torch.tensor([0, 1, 2, 3]), rolled=torch.tensor([0, 1, 2, 0]))
    assert value_of(SCORES["agreement"](), seen) == 3 / 4


def test_agreement_of_maps_compares_pixels_where_they_came_from(maps):
    predicted, numbers = maps[0], [3, 4, 5, 6, 7]
    follows = apply_stimulus("rolled", predicted[:, None].double(), numbers, 0)[:, 0].long()
    assert not follows.equal(predicted)
    assert value_of(SCORES["agreement"](), shown(predicted, rolled=follows, numbers=numbers)) == 1
    assert value_of(SCORES["agreement"](), shown(predicted, rolled=predicted, numbers=numbers)) < 0.6
    follows[0] = (follows[0] + 1) % 4
    assert value_of(SCORES["agreement"](), shown(predicted, rolled=follows, numbers=numbers)) == 4 / 5


def test_a_function_of_the_output_and_one_of_the_labels_too(maps):
    scores = resolve_scores([{"largest": lambda output: output.flatten(1).amax(dim=1)}])
    assert not scores["largest"].needs_labels
    assert value_of(scores["largest"], shown(*maps)) == 1
    scores = resolve_scores({"labelled": lambda output, labels: labels.flatten(1)[:, 0].double()})
    assert scores["labelled"].needs_labels
    assert value_of(scores["labelled"], shown(*maps)) == pytest.approx(maps[1][:, 0, 0].double().mean().item())


def test_scores_by_name_by_mapping_and_several():
    assert list(resolve_scores("miou")) == ["miou"]
    found = resolve_scores(["accuracy", {"sky": MeanIoU([[True]]), "side": "miou:left"}])
    assert list(found) == ["accuracy", "sky", "side"]
    assert isinstance(found["sky"], MeanIoU)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ("iou", "score='iou': expected one of accuracy, miou"),
        (["miou", "miou"], "'miou' is given twice"),
        (len, "score=<built-in function len>: expected"),
        ({"top": 3}, "score=3: expected"),
    ],
)
def test_unknown_scores(score, message):
    with pytest.raises(ArgumentError, match=message):
        resolve_scores(score)


def test_faults_of_regions_outputs_and_labels(maps):
    with pytest.raises(ArgumentError, match="no region 'top'"):
        MeanIoU("top")
    with pytest.raises(ArgumentError, match=r"a mask of shape \(2, 2\) for labels of \(6, 9\)"):
        value_of(MeanIoU(np.ones((2, 2), bool)), shown(*maps))
    with pytest.raises(ImagesError, match="expected one for each pixel"):
        value_of(MeanIoU(), shown(torch.tensor([1, 2]), torch.tensor([1, 2])))
    with pytest.raises(ImagesError, match=r"predictions of shape \(5, 6, 9\) and labels of \(5, 6, 3\)"):
        value_of(MeanIoU(), shown(maps[0], maps[1][:, :, :3]))
    with pytest.raises(ImagesError, match=r"labels of shape \(6, 8\) and \(6, 9\)"):
        value_of(MeanIoU(), shown(maps[0][:2], [maps[1][0], maps[1][1, :, :8]]))
    with pytest.raises(ArgumentError, match="cannot be shifted with images of 12×18"):
        value_of(SCORES["agreement"](), shown(maps[0], rolled=maps[0], size=(12, 18)))
    with pytest.raises(ArgumentError, match=r"output has the shape \(2, 3, 4\)"):
        Shown({"natural": torch.zeros(2, 3, 4)}, [], [0, 1], (6, 9), 0).classes  # noqa: B018
    mean = resolve_scores({"mean": lambda output: output.mean()})["mean"]
    with pytest.raises(ArgumentError, match=r"score 'mean': it returned shape \(\) for 5 images"):
        mean.amounts(shown(*maps))


def test_labels_of_pixels_may_be_pictures():
    from probe.images.rows import as_label

    picture = Image.fromarray(np.array([[0, 3], [11, 2]], dtype=np.uint8))
    assert as_label(picture).tolist() == [[0, 3], [11, 2]]
    with pytest.raises(ImagesError, match="a label is a float"):
        as_label(0.5)
    with pytest.raises(ImagesError, match="a label is a str"):
        as_label("cat")


def test_one_number_for_each_image_is_no_prediction():
    shown = Shown({"natural": torch.randn(4, 1)}, list(torch.tensor([0, 1, 1, 0])), [0, 1, 2, 3], (8, 8), 0)
    with pytest.raises(ArgumentError, match="one number instead of one for each class"):
        resolve_scores("accuracy")["accuracy"].amounts(shown)


# ---- Labels of a user's own score


def seen_by_a_function(labels, n_images=3):
    """What a user's own score is given as labels."""
    seen = []

    def function(output, labels):
        seen.append(labels)
        return output[:, 0]

    score = resolve_scores({"own": function})["own"]
    score.amounts(Shown({"natural": torch.zeros(n_images, 2)}, labels, list(range(n_images)), (4, 4), 0))
    return seen[0]


@pytest.mark.parametrize(
    "labels",
    [
        [{"boxes": torch.zeros(2, 4)}, {"boxes": torch.zeros(0, 4)}, {}],
        [torch.zeros(2, 4), torch.zeros(0, 4), torch.zeros(1, 4)],
        [(1, 2.5), (3, 4.5), (5, 6.5)],
        ["cat", "dog", "cat"],
        [None, 1, 2],
        [[1], [2, 3], []],
        [np.array(["a"]), np.array(["b"]), np.array(["c"])],
    ],
    ids=["dicts", "boxes", "tuples", "text", "none", "lists", "arrays of text"],
)
def test_labels_that_are_no_numbers_reach_a_function_as_they_are(labels):
    seen = seen_by_a_function(labels)
    assert isinstance(seen, list)
    assert all(one is other for one, other in zip(seen, labels, strict=True))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0.25, 1.5, -2.0], torch.tensor([0.25, 1.5, -2.0], dtype=torch.float64)),
        ([3, 1, 2], torch.tensor([3, 1, 2])),
        ([True, False, True], torch.tensor([True, False, True])),
        (list(np.float32([0.25, 1.5, 3])), torch.tensor([0.25, 1.5, 3])),
        (list(torch.tensor([0.25, 1.5, 3])), torch.tensor([0.25, 1.5, 3])),
        (list(np.arange(12.0).reshape(3, 4)[:, ::-1]), torch.arange(12.0, dtype=torch.float64).reshape(3, 4).flip(1)),
        (
            [Image.new("L", (2, 1), color=n) for n in range(3)],
            torch.arange(3, dtype=torch.uint8)[:, None, None].expand(3, 1, 2),
        ),
    ],
    ids=["floats", "integers", "truth", "floats of numpy", "tensors", "reversed arrays", "pictures"],
)
def test_numbers_reach_a_function_as_one_tensor_of_their_kind(labels, expected):
    torch.testing.assert_close(seen_by_a_function(labels), expected, rtol=0, atol=0)


# ---- Chance


def test_chance_is_the_mean_score_of_predictions_in_any_order(maps):
    generator = np.random.default_rng(0)
    predicted, labels = maps[0].clone(), maps[1]
    predicted[predicted == 3] = 1
    known = labels != VOID
    for score in (Accuracy(), MeanIoU()):
        margins = score.margins(shown(predicted, labels)).numpy()
        assert margins.sum(axis=1).tolist() == [known.sum().item()] * 2
        drawn = []
        for _ in range(300):
            shuffled = predicted.clone()
            shuffled[known] = predicted[known][torch.from_numpy(generator.permutation(int(known.sum())))]
            drawn.append(value_of(score, shown(shuffled, labels)))
        assert score.chance(margins) == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 300**0.5)
        assert score.chance(margins) < value_of(score, shown(predicted, labels)) - 0.1


def test_chance_of_a_region_is_that_of_its_pixels(maps):
    predicted, labels = maps
    left = MeanIoU().margins(shown(predicted[:, :, :3], labels[:, :, :3]))
    assert torch.equal(MeanIoU("left").margins(shown(predicted, labels)), left)


def test_a_score_at_chance_is_told_from_one_above_it():
    margins = np.array([[50, 50], [60, 40]])
    for value, error, is_told in [(0.5, 0, True), (0.4, 0.01, True), (0.55, 0.03, True), (0.6, 0.03, False)]:
        message = at_chance("accuracy", value, error, 9, margins, Accuracy())
        assert bool(message) == is_told, value
    assert "no better than chance within its error (0.5: " in at_chance("accuracy", 0.5, np.nan, 0, margins, Accuracy())
    assert at_chance("accuracy", np.nan, 0.1, 9, margins, Accuracy()) == ""
    assert at_chance("accuracy", 0.7, 0.1, 9, np.array([[10, 0], [7, 3]]), Accuracy()) == ""


def test_predictions_that_are_nan_and_void_labels_are_not_counted_for_chance():
    outputs = logits_of(torch.tensor([0, 1, 1, 0]), n_classes=2)
    outputs[3] = torch.nan
    seen = Shown({"natural": outputs}, [0, 1, -1, 1], [0, 1, 2, 3], (1, 1), 0)
    assert Accuracy().margins(seen).tolist() == [[1, 1], [1, 1]]
