"""Labels are the model's classes, or it is told which are not, and how many."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

import probe
from probe.errors import ImagesError, ProbeWarning
from probe.images.labels import LabelCheck, Labels, named_classes
from probe.testing import noise_images

pytestmark = pytest.mark.usefixtures("one_thread")

N_CLASSES = 4


def checked(labels, n_classes=N_CLASSES, n_named=None):
    """Count labels, in two parts, and return the check."""
    check = LabelCheck(n_named)
    for part in torch.as_tensor(labels).split(len(labels) // 2):
        check.count(part, n_classes)
    return check


def maps_of(shares, n_pixels=1000):
    """Label maps that hold each value in its share of the pixels."""
    values = np.repeat(list(shares), [round(share * n_pixels) for share in shares.values()])
    return torch.from_numpy(np.random.default_rng(0).permutation(values)).reshape(10, -1, 10)


# ---- Which labels are told


@pytest.mark.parametrize("void", [255, -1, -100, N_CLASSES])
def test_little_void_is_recorded_and_not_warned_of(void):
    check = checked(maps_of({0: 0.4, 1: 0.3, 3: 0.2, void: 0.1}))
    assert check.findings() == []
    assert check.void == {str(void): 0.1}


@pytest.mark.parametrize("void", [255, -1, N_CLASSES])
def test_much_void_is_warned_of_with_its_share(void):
    (message,) = checked(maps_of({0: 0.4, 1: 0.3, void: 0.3})).findings()
    assert message == (
        f"labels: {void} (30 %) are none of the 4 classes of the model, 0 to 3, and are left out as void: 30 % of all "
        "labels."
    )


def test_values_that_no_data_set_uses_for_void_are_warned_of_however_few():
    (message,) = checked(maps_of({0: 0.5, 1: 0.4, 255: 0.08, 37: 0.02})).findings()
    assert "255 (8 %), 37 (2 %) are none of the 4 classes" in message


@pytest.mark.parametrize("shares", [{255: 1.0}, {0: 0.02, 255: 0.48, 100: 0.5}, {-1: 0.96, 2: 0.04}])
def test_nearly_all_outside_is_an_error(shares):
    with pytest.raises(
        ImagesError, match=r"are none of the 4 classes of the model, 0 to 3: (100|98|96) % of all labels"
    ):
        checked(maps_of(shares)).findings()


@pytest.mark.parametrize("void", [{}, {255: 0.1}])
def test_labels_counted_from_one_are_an_error(void):
    shares = {1: 0.3, 2: 0.3, 3: 0.2, 4: 0.2 - sum(void.values())} | void
    with pytest.raises(ImagesError, match=r"from 1 to 4, where the model's classes are 0 to 3: they are counted"):
        checked(maps_of(shares)).findings()


def test_masks_of_black_and_white_are_an_error():
    with pytest.raises(ImagesError, match=r"0 and 255 alone, as in masks of black and white.*Divide them by 255"):
        checked(maps_of({0: 0.7, 255: 0.3}), n_classes=2).findings()


def test_labels_that_are_all_classes_are_not_spoken_of():
    check = checked(maps_of({0: 0.4, 1: 0.4, 2: 0.1, 3: 0.1}))
    assert check.findings() == []
    assert check.void == {}


# ---- Labels of whole images


def test_labels_of_images_must_be_classes_at_once():
    with pytest.raises(ImagesError, match=r"the label 4, .* are 0 to 3\. Labels counted from 1 are mended by sub"):
        checked([1, 2, 4, 3])
    with pytest.raises(ImagesError, match=r"the label 9, .* 4 classes are 0 to 3\. Pass its outputs"):
        checked([1, 9, 4, 3])
    check = checked([0, 1, -1, 3])
    assert check.void == {"-1": 0.25}
    assert "-1 (25 %) are none of the 4 classes" in check.findings()[0]


@pytest.mark.parametrize("n_outputs", [1000, 5, 11])
def test_as_many_classes_as_outputs(n_outputs):
    message = (
        rf"the data set has 10 classes, and the model {n_outputs:,} outputs.*one folder for each output.*target_transf"
    )
    with pytest.raises(ImagesError, match=message):
        checked(list(range(10)), n_classes=n_outputs, n_named=10)
    checked(list(range(10)), n_classes=10, n_named=10)
    # Labels beyond the names are no places among them, but already those of the model.
    checked([0, 217, 482, 999], n_classes=1000, n_named=10)
    # Of pixels, names may be fewer or more: void, things and stuff.
    checked(maps_of({0: 0.5, 1: 0.5}), n_classes=5, n_named=10)


class Named(Dataset):
    def __init__(self, n_classes=3, **attributes):
        self.classes = [str(number) for number in range(n_classes)]
        self.__dict__.update(attributes)

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return noise_images(6, 8)[index], index % len(self.classes)


def test_the_classes_that_a_data_set_names():
    assert named_classes(Named()) == 3
    assert named_classes(Subset(Named(), [0, 1])) == 3
    assert named_classes(DataLoader(Subset(Named(), [0, 1]))) == 3
    assert named_classes(Named(target_transform=lambda label: label)) is None
    assert named_classes(Named(classes=np.zeros(3))) is None
    assert named_classes(TensorDataset(torch.zeros(2, 3))) is None
    assert named_classes(noise_images(2, 8)) is None
    hugging_face = SimpleNamespace(features={"image": None, "label": SimpleNamespace(names=["cat", "dog"])})
    assert named_classes(hugging_face) == 2
    assert named_classes(SimpleNamespace(features={"image": None, "label": SimpleNamespace(dtype="int64")})) is None


# ---- What a curve does with them


class Classifier(nn.Module):
    """Says one class for all pixels or, with `whole`, for all images."""

    def __init__(self, n_classes, whole):
        super().__init__()
        self.conv = nn.Conv2d(3, n_classes, 1)
        nn.init.zeros_(self.conv.weight)
        self.conv.bias = nn.Parameter(torch.arange(n_classes, 0, -1.0))
        self.whole = whole

    def forward(self, images):
        maps = self.conv(images)
        return maps.mean(dim=(2, 3)) if self.whole else maps


def curve(labels, n_classes=2, whole=False, images=None, **options):
    options = {"score": ["accuracy"], "counts": [1], "draws": 2, "controls": "random", "folds": 4} | options
    images = TensorDataset(noise_images(len(labels), 8), labels) if images is None else images
    model = Classifier(n_classes, whole)
    return probe.ablation_curve(model, images, range(n_classes), layer="conv", progress=False, **options)


MASKS = (noise_images(20, 8)[:, 0] > 0).long()


@pytest.mark.filterwarnings("ignore:labels:probe.errors.ProbeWarning")
def test_a_score_at_chance_is_told_and_kept_and_void_is_recorded():
    labels = MASKS.clone()
    labels[:, 0] = 255
    with pytest.warns(ProbeWarning, match="score 'accuracy': .* of the whole model, no better than chance within its"):
        result = curve(labels)
    assert "no better than chance" in result.attrs["warnings"]
    assert result.attrs["void_labels"] == '{"255": 0.125}'
    assert result.intact.item() == pytest.approx((labels[:, 1:] == 0).double().mean().item())


def test_masks_of_black_and_white_end_a_curve():
    with pytest.raises(ImagesError, match="0 and 255 alone"):
        curve(MASKS * 255, score=["accuracy", "miou"])


def test_ten_classes_and_another_number_of_outputs_end_a_curve_at_once():
    for images in (Named(), DataLoader(Named(), batch_size=2), Subset(Named(), range(6))):
        with pytest.raises(ImagesError, match="the data set has 3 classes, and the model 7 outputs"):
            curve(range(6), n_classes=7, whole=True, images=images, folds=3)


@pytest.mark.parametrize("labels", [torch.full((20,), 0.5), torch.full((20,), 1000), torch.rand(20, 4)])
def test_labels_of_a_users_own_score_are_not_checked(labels):
    seen = []

    def score(output, given):
        seen.append(given)
        return output[:, 0]

    result = curve(labels, whole=True, score={"own": score})
    assert all(given.dtype == labels.dtype for given in seen)
    n_settings = sum(len(given) for given in seen) / 20
    assert sum(given.double().sum() for given in seen) == pytest.approx(n_settings * labels.double().sum().item())
    assert result.attrs["void_labels"] == "{}"


class Boxes(Dataset):
    """As many boxes as the image's number, and a name."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return noise_images(6, 8)[index], (torch.zeros(index, 4), f"image {index}")


def test_labels_of_any_kind_stay_with_their_images():
    def count(output, labels):
        assert [name for _, name in labels] == [f"image {len(boxes)}" for boxes, _ in labels]
        return torch.tensor([float(len(boxes)) for boxes, _ in labels])

    for num_workers in (0, 1):
        result = curve(range(6), whole=True, images=Boxes(), score={"n": count}, folds=3, num_workers=num_workers)
        assert result.intact.item() == 2.5

    def apart(rows):
        return torch.stack([image for image, _ in rows]), [label for _, label in rows]

    loader = DataLoader(Boxes(), batch_size=4, collate_fn=apart)
    assert curve(range(6), whole=True, images=loader, score={"n": count}, folds=3).intact.item() == 2.5


class Fields(Dataset):
    """Labels of two fields, as a tuple or a mapping."""

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return noise_images(7, 8)[index], self.make(index)


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (lambda index: (index, index / 2), lambda label: label[0]),
        (lambda i: {"a": i, "b": [i, i]}, lambda label: label["a"]),
    ],
)
def test_labels_that_a_loader_collated_by_field_are_given_by_image(make, first):
    seen = []

    def score(output, labels):
        seen.extend(int(first(label)) for label in labels)
        return output[:, 0]

    curve(range(7), whole=True, images=DataLoader(Fields(make), batch_size=5), score={"own": score}, folds=7)
    assert sorted(set(seen)) == list(range(7))


def test_labels_of_a_loader_that_may_be_fields_or_images():
    loader = DataLoader(Fields(lambda index: (index, index)), batch_size=2)
    with pytest.raises(ImagesError, match=r"labels of a batch of 2 are 2 lists of 2.*Choose another batch_size"):
        curve(range(7), whole=True, images=loader, score={"own": lambda output, labels: output[:, 0]}, folds=7)
    uneven = iter([(noise_images(3, 8), torch.zeros(2))])
    with pytest.raises(ImagesError, match="a batch of 3 images has a Tensor of 2 labels"):
        curve(range(7), whole=True, images=uneven, score={"own": lambda output, labels: output[:, 0]}, folds=2)


CLASSES = np.arange(12).reshape(3, 4)


@pytest.mark.parametrize(
    "label",
    [
        CLASSES[::-1, ::-1].copy()[::-1, ::-1],
        CLASSES.astype(">u2"),
        CLASSES.astype("u4"),
        np.asfortranarray(CLASSES),
        Image.fromarray(CLASSES.astype("u1")),
        Image.fromarray(CLASSES.astype("u2")),
    ],
    ids=["negative strides", "big-endian", "unsigned", "Fortran order", "picture", "picture of 16 bits"],
)
def test_labels_of_any_layout_in_memory_are_classes(label):
    assert Labels([label, label]).classes.tolist() == [CLASSES.tolist()] * 2


def test_labels_of_other_axes_are_refused():
    with pytest.raises(ImagesError, match=r"a label has the shape \(3, 4, 3\); expected \(\), the class of the image"):
        Labels([np.zeros((3, 4, 3), int)]).classes  # noqa: B018


# ---- Position as a score


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, images):
        return self.second(self.first(images))


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda images: images, {}),
        (lambda images: DataLoader(TensorDataset(images), batch_size=3), {}),
        (lambda images: list(images.split(3)), {}),
        (lambda images: noise_images(40, 8), {"max_images": 7}),
        (lambda images: noise_images(40, 8), {"max_images": 7, "groups": list(range(40))}),
    ],
    ids=["tensor", "loader", "batches of no known length", "max_images", "groups"],
)
def test_position_needs_an_image_in_each_fold(make, options):
    with pytest.raises(
        ImagesError, match=r"images: 7 leave .* of folds=10 without any, and score='position' reads each\. Pass"
    ):
        probe.ablation_curve(
            Reader(), make(noise_images(7, 8)), range(4), layer="first", score="position", counts=[1], draws=2,
            controls="random", progress=False, **options,
        )  # fmt: skip


def test_too_few_images_for_position_are_told_before_other_scores_are_made():
    def never(output):
        raise AssertionError

    with pytest.raises(ImagesError, match=r"images: 7 leave some of folds=10 without any.*Pass at least 10"):
        probe.ablation_curve(
            Reader(), noise_images(7, 8), range(4), layer="first", score=["position", {"never": never}], counts=[1],
            draws=2, controls="random", progress=False,
        )  # fmt: skip
