"""What each task asks of a canvas, and maps of a segmenter on it."""

import numpy as np
import pytest
import torch
from torch import nn

import probe
from probe.analyses.location_dependent.tasks import CanvasTask, LabelledImages, OnCanvas, rings
from probe.analyses.nets import small_segmenter
from probe.analyses.predictions import predict
from probe.testing import noise_images
from probe.variants.padding import with_padding

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(count, size=8, n_classes=2):
    labels = torch.arange(count) % n_classes
    return LabelledImages(noise_images(count, size), labels, ([0.0] * 3, [1.0] * 3), n_classes)


@pytest.mark.parametrize("grid", [3, 4, 5])
def test_rings_count_the_cells_to_the_border(grid):
    expected = [min(r, c, grid - 1 - r, grid - 1 - c) for r in range(grid) for c in range(grid)]
    assert rings(grid).tolist() == expected


@pytest.mark.parametrize(("canvas", "value"), [("black", -2.0), ("white", 2.0), ("mean", 0.0)])
def test_each_task_asks_of_a_canvas_what_it_should(canvas, value):
    images = torch.full((1, 1, 2, 2), 7.0)
    data = LabelledImages(images, torch.tensor([4]), ([0.5], [0.25]), 5)
    asked = {}
    for name in ("location", "classification", "segmentation"):
        canvases, asked[name] = CanvasTask(name, canvas, 2).pose(data, torch.tensor([0]), torch.tensor([2]))
        assert canvases[0, 0, 2:, :2].eq(7).all() and canvases.eq(value).sum() == 12
    assert asked["location"].tolist() == [2] and asked["classification"].tolist() == [4]
    assert asked["segmentation"].tolist() == [[[0, 0, 0, 0], [0, 0, 0, 0], [5, 5, 0, 0], [5, 5, 0, 0]]]


def test_scores_are_those_of_scikit_learn():
    from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

    generator = np.random.default_rng(0)
    right, answer = generator.integers(0, 4, (2, 200))
    confusion = torch.from_numpy(confusion_matrix(right, answer))
    accuracy, overlap = (CanvasTask(name, "mean", 2).score(confusion) for name in ("location", "segmentation"))
    assert accuracy == pytest.approx(100 * accuracy_score(right, answer))
    assert overlap == pytest.approx(100 * jaccard_score(right, answer, average="macro"))


def test_a_constant_answer_scores_chance():
    data = noise(10, size=2, n_classes=2)

    class Constant(nn.Module):
        def forward(self, canvases):
            n_answers = task.n_answers(2)
            scores = torch.zeros(len(canvases), n_answers)
            scores[:, 0] = 1
            is_map = task.name == "segmentation"
            return scores[:, :, None, None].expand(-1, -1, *canvases.shape[2:]) if is_map else scores

    for name in ("location", "classification", "segmentation"):
        task = CanvasTask(name, "mean", 3)
        confusion = task.confusion(Constant(), data)
        assert confusion.shape == (9, task.n_answers(2), task.n_answers(2))
        assert task.score(confusion.sum(dim=0)) == pytest.approx(task.chance(2))


@pytest.mark.parametrize("padding", probe.PADDINGS)
def test_scores_of_a_segmenter_lie_where_its_map_does(padding):
    """A bright square in one cell changes the scores of that cell most, under any padding."""
    model = OnCanvas(with_padding(small_segmenter(n_classes=2, seed=1), padding)).eval()
    canvases = torch.zeros(1, 1, 80, 80)
    marked = canvases.clone()
    marked[:, :, 48:64, 32:48] = 3
    with torch.no_grad():
        change = (model(marked) - model(canvases)).abs().sum(dim=(0, 1))
    assert change.shape == (80, 80)
    cells = torch.nn.functional.avg_pool2d(change[None, None], 16)[0, 0]
    assert divmod(int(cells.argmax()), 5) == (3, 2)


@pytest.mark.parametrize(("size", "first", "last"), [(2, -2, 10), (3, 0, 12), (5, 4, 16)])
def test_maps_of_any_size_lie_middle_on_middle(size, first, last):
    scores = torch.rand(1, 1, size, size)
    segmenter = nn.AdaptiveAvgPool2d(size)
    segmenter.forward = lambda canvases: scores
    enlarged = torch.nn.functional.interpolate(scores, scale_factor=4, mode="bilinear")[0, 0].numpy()
    padded = np.pad(enlarged, 4, mode="edge")[first + 4 : last + 4, first + 4 : last + 4]
    np.testing.assert_array_equal(OnCanvas(segmenter)(torch.zeros(1, 1, 12, 12))[0, 0], padded)


def test_predictions_of_a_segmenter_have_the_size_of_the_canvas():
    assert predict(OnCanvas(small_segmenter(n_classes=3)).eval(), torch.zeros(2, 1, 24, 24)).shape == (2, 24, 24)
