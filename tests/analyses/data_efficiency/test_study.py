"""The study of few training images: subsets, schedules, arms, places, and the answers that are known."""

import numpy as np
import pytest
import torch
from PIL import Image

from probe.analyses.data.crops import RandomCrops
from probe.analyses.data.labelled import ClassFolder
from probe.analyses.data.splits import Split
from probe.analyses.data_efficiency import study as module
from probe.analyses.data_efficiency.study import ARMS, PRESETS, SCHEDULES, make_net, n_steps, run
from probe.analyses.data_efficiency.subsets import (
    OnCanvases,
    OnFiles,
    corner_images,
    digits_on_canvases,
    files,
    nested_subset,
    small_folder,
    whole_image,
)
from probe.analyses.nets import multiply_adds
from probe.analyses.training import train
from probe.errors import ArgumentError, ImagesError
from probe.reports.studies import build, findings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def result(tiny_study):
    return tiny_study("data_efficiency")


# ---- Subsets and schedules


def test_subsets_hold_as_many_of_each_class_nest_and_are_drawn_by_seed():
    labels = torch.arange(400) % 4
    subsets = {size: nested_subset(labels, size, seed=1) for size in (3, 20, 60, None)}
    for size in (3, 20, 60):
        assert torch.bincount(labels[subsets[size]]).tolist() == [size] * 4
    few, more, most, every = (set(subset.tolist()) for subset in subsets.values())
    assert few < more < most < every == set(range(400))
    assert torch.equal(subsets[3], nested_subset(labels, 3, seed=1))
    assert not torch.equal(subsets[3], nested_subset(labels, 3, seed=2))
    with pytest.raises(ImagesError, match=r"images: class 0 has 100 of training, 101 needed\. Add images"):
        nested_subset(labels, 101, seed=0)


def test_published_schedules():
    given = {"epochs": 90, "batch_size": 256}
    assert n_steps(1_281_167, 1_281_167, schedule="equal epochs", **given) == pytest.approx(450_000, rel=0.001)
    assert n_steps(50_000, 1_281_167, schedule="equal epochs", **given) == pytest.approx(17_600, rel=0.002)
    assert n_steps(50_000, 1_281_167, schedule="equal steps", **given) == pytest.approx(450_000, rel=0.001)
    for largest in (20, 5000):
        assert len({n_steps(largest, largest, schedule=schedule, **given) for schedule in SCHEDULES}) == 1


def test_each_network_makes_as_many_steps_as_its_schedule_says(monkeypatch):
    counted = []

    def counting(model, shown, batches, device, *, steps, recipe, done):
        counted.append((steps, len(list(batches))))
        return {"accuracy": 0.5, "elsewhere": 0.25}

    monkeypatch.setattr(module, "_scores", counting)
    found = run(preset="tiny", seeds=1, progress=False)
    assert found.steps.sel(schedule="equal steps", size=["2", "8"]).values.tolist() == [8, 8]
    assert found.steps.sel(size="8", schedule="equal epochs") == 8
    assert found.steps.sel(size="2", schedule="equal epochs") == 2
    # The largest subset has one network for both schedules.
    assert sorted(counted) == [(2, 2)] * 2 + [(8, 8)] * 4
    largest = found.here.sel(size="8")
    assert (largest.sel(schedule="equal steps") == largest.sel(schedule="equal epochs")).all()


# ---- Arms


def test_arms_begin_with_equal_weights_and_differ_in_their_border():
    nets = {arm: make_net(arm, n_classes=3, seed=4, width=1) for arm in ("S", "F", "circular", "valid")}
    state = nets["S"].state_dict()
    assert all(torch.equal(net.state_dict()[name], values) for net in nets.values() for name, values in state.items())
    images = torch.rand(2, 3, 32, 32)
    maps = {arm: net[:12](images).shape[2] for arm, net in nets.items()}
    assert maps == {"S": 8, "F": 13, "circular": 8, "valid": 4}


def test_the_published_networks_are_resnet_50_and_two_controls():
    nets = {arm: make_net(arm, n_classes=1000, seed=0, width=0) for arm in ("S", "F", "F, S's pool")}
    counts = {arm: multiply_adds(net, (3, 224, 224)) for arm, net in nets.items()}
    assert counts["F"] / counts["S"] == pytest.approx(3.1, abs=0.05)
    assert all(sum(p.numel() for p in net.parameters()) == 25_557_032 for net in nets.values())
    assert nets["F, S's pool"].maxpool.kernel_size == 3 and nets["F"].maxpool.kernel_size == 2
    paper = PRESETS["paper"]
    assert (paper.recipe.rate, paper.recipe.weight_decay, paper.batch_size) == (0.1, 1e-4, 256)
    assert set(paper.arms) | {"circular", "valid"} == set(ARMS) and paper.sizes == (50, 100, 250, 500, None)


@pytest.mark.parametrize(("arm", "width"), [("F, S's pool", 1), ("circular", 0), ("G", 1)])
def test_networks_that_there_are_not(arm, width):
    with pytest.raises(ArgumentError, match="there is no such network"):
        make_net(arm, n_classes=2, seed=0, width=width)


# ---- What is shown


def test_training_stands_above_and_elsewhere_below():
    shown = digits_on_canvases(40, 20)
    generator = torch.Generator().manual_seed(0)
    for elsewhere, rows in ((False, range(5)), (True, range(12, 17))):
        canvases = shown.place(torch.ones(300, 3, 16, 16), generator, elsewhere=elsewhere)
        corners = [(int(image[0].any(1).nonzero()[0]), int(image[0].any(0).nonzero()[0])) for image in canvases]
        assert {row for row, _ in corners} == set(rows) and {column for _, column in corners} == set(range(17))
        assert (canvases.sum((1, 2, 3)) == 3 * 256).all()


def test_images_are_placed_anew_or_stay():
    shown, chosen = digits_on_canvases(40, 20), torch.tensor([3, 7, 11])
    for anew in (True, False):
        batches = list(shown.batches(chosen, steps=4, batch_size=8, seed=0, anew=anew))
        assert [len(labels) for _, labels in batches] == [3] * 4
        digit = shown.labels[3]
        seen = [images[labels == digit] for images, labels in batches]
        assert len({image.numpy().tobytes() for image in torch.cat(seen)}) == (4 if anew else 1) * len(seen[0])


def colours(count):
    """Images of one colour a class, which no border hides."""
    labels = torch.arange(count) % 3
    return Split(torch.eye(3)[labels][:, :, None, None].expand(-1, -1, 16, 16), labels)


@pytest.mark.parametrize("arm", ["S", "F", "circular", "valid"])
def test_colours_are_learned_from_one_image_a_class_under_every_border(arm):
    shown = OnCanvases(colours(30), colours(30), 3, "colours")
    net = make_net(arm, n_classes=3, seed=0, width=1)
    batches = shown.batches(nested_subset(shown.labels, 1, 0), steps=40, batch_size=8, seed=0, anew=True)
    train(net, batches, steps=40)
    assert shown.test(net, torch.device("cpu")) == {"accuracy": 1.0, "elsewhere": 1.0}


def test_shuffled_labels_give_chance():
    shown = digits_on_canvases(300, None)
    shuffled = torch.randint(10, (300,), generator=torch.Generator().manual_seed(0))
    mixed = OnCanvases(Split(shown.training.images, shuffled), shown.held_out, 10, "digits")
    net = make_net("S", n_classes=10, seed=0, width=1)
    train(net, mixed.batches(torch.arange(300), steps=20, batch_size=32, seed=0, anew=True), steps=20)
    # 450 held-out digits: 10 % by chance, standard deviation 1.4 %, more where answers go by class.
    assert mixed.test(net, torch.device("cpu"))["accuracy"] < 0.2


def write(folder, size, counts):
    generator = np.random.default_rng(0)
    for part, count in counts.items():
        for name in ("cat", "dog"):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(256, size=(*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")


def test_a_folder_of_small_images_needs_enough_of_each_class(tmp_path):
    write(tmp_path, (32, 32), {"train": 12, "test": 4})
    shown = small_folder(tmp_path, 2_000)
    assert shown.training.images.shape == (24, 3, 16, 16) and shown.n_classes == 2
    torch.testing.assert_close(shown.training.images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert small_folder(tmp_path, 2).held_out.labels.tolist() == [0, 1]  # evenly spaced over the classes
    with pytest.raises(ImagesError, match="class 0 has 12 of training, 50 needed"):
        run(images=tmp_path, progress=False)


def test_large_images_are_shown_as_published_and_in_corners(tmp_path):
    write(tmp_path, (260, 300), {"train": 3, "val": 2})
    shown = files(tmp_path, 0)
    assert isinstance(shown, OnFiles) and shown.labels.tolist() == [0, 0, 0, 1, 1, 1]
    ((images, labels),) = shown.batches(torch.tensor([1, 4]), steps=1, batch_size=8, seed=0, anew=True)
    assert images.shape == (2, 3, 224, 224) and sorted(labels.tolist()) == [0, 1]
    image, _ = shown.held_out[0]
    assert whole_image()(image).shape == (3, 224, 224)
    places = []
    for transform in corner_images():
        canvas = transform(Image.new("RGB", (260, 300), (255, 255, 255)))
        filled = canvas.abs().sum(0) > 0
        assert canvas.shape == (3, 224, 224) and filled.sum() == 112**2
        rows, columns = filled.nonzero(as_tuple=True)
        places.append((int(rows.min()), int(columns.min())))
    assert sorted(places) == [(0, 0), (0, 112), (112, 0), (112, 112)]
    assert shown.test(Constant(), torch.device("cpu")) == {"accuracy": 0.5, "elsewhere": 0.5}


class Constant(torch.nn.Module):
    """Always the first of two classes."""

    def forward(self, images):
        return torch.tensor([[1.0, 0.0]]).expand(len(images), -1)


def test_without_crops_large_images_are_cut_to_their_middle(tmp_path):
    write(tmp_path, (20, 30), {"train": 1})
    crops = RandomCrops(ClassFolder(tmp_path / "train"), 20, seed=0, chosen=[1], anew=False)
    pixels, label = crops[0]
    expected = torch.from_numpy(np.array(Image.open(tmp_path / "train" / "dog" / "0.png"))[:, 5:25]).permute(2, 0, 1)
    assert label == 1 and len(crops) == 1
    assert any(torch.allclose(pixels, view / 255) for view in (expected, expected.flip(2)))


# ---- The result and its page


def test_its_numbers_are_those_of_its_networks(result):
    shown = digits_on_canvases(300, 40)
    chosen = nested_subset(shown.labels, 2, seed=1)
    net = make_net("F", n_classes=10, seed=1, width=1)
    train(net, shown.batches(chosen, steps=8, batch_size=16, seed=1, anew=True), steps=8)
    expected = shown.test(net, torch.device("cpu"))
    found = result.here_by_seed.sel(seed=1, size="2", schedule="equal steps", arm="F")
    for score, value in expected.items():
        assert found.sel(score=score).item() == pytest.approx(100 * value)
    assert result.n_images.sel(size=["2", "8"]).values.tolist() == [20, 80]
    assert result.published.sel(size=["2", "8"]).isnull().all()


def test_published_numbers_are_of_sizes_of_their_own(result):
    """A label such as ``all`` means other images there."""
    assert result["size"].values.tolist() == ["2", "8", *(f"{n} of ImageNet" for n in (50, 100, 250, 500, "all"))]
    at = {"schedule": "equal epochs", "arm": "F", "score": "accuracy"}
    assert result.published.sel({**at, "size": "all of ImageNet"}) == 75.77 and result.here.sel(at)[2:].isnull().all()
    page = build(result).html()
    assert "No published numbers are at hand of what was measured here" in page and "75.8" in page


def test_published_numbers_stand_beside_equal_epochs():
    sizes, arms, scores = ["50", "all"], ["S", "F"], ["accuracy", "elsewhere"]
    here = module.xr.DataArray(
        np.zeros((1, 2, 2, 2, 2)),
        coords={"seed": [0], "size": sizes, "schedule": list(SCHEDULES), "arm": arms, "score": scores},
        dims=("seed", "size", "schedule", "arm", "score"),
    )
    published = module._published(here, {size: module._PUBLISHED[size] for size in sizes})
    at = {"schedule": "equal epochs", "score": "accuracy"}
    assert published.sel(**at).values.tolist() == [[26.39, 31.15], [75.75, 75.77]]
    assert published.sel(schedule="equal steps").isnull().all() and published.sel(score="elsewhere").isnull().all()


def test_sentences_follow_the_numbers(result):
    changed = result.copy(deep=True)
    numbers = {("2", "S"): 26.39, ("2", "F"): 31.15, ("8", "S"): 75.75, ("8", "F"): 75.7}
    for (size, arm), value in numbers.items():
        changed.here_by_seed.loc[{"size": size, "arm": arm}] = value
        changed.here_by_seed.loc[{"size": size, "arm": arm, "seed": 1}] = value + (arm == "F") * 0.1
    first = findings(changed)[0]
    assert first.startswith(
        "F-Conv less S-Conv, equal epochs, in points: accuracy ahead beyond its error at 2 a class (+4.8"
    )
    assert "ahead beyond its error at 2 a class (" in first and "behind" not in first
    turned = changed.assign_coords(arm=["F", "S"]).sel(arm=["S", "F"])
    assert "behind beyond its error at 2 a class (" in findings(turned)[0]
    titles = [section.title for section in build(result).sections]
    assert "Beside S-Conv" in titles and "What the network was shown" in titles
    assert "Diamonds and squares" not in build(result).html()
    published = result.assign(published=0 * result.published.fillna(0) + 50)
    assert "Diamonds and squares: S-Conv and F-Conv as published" in build(published).html()


def test_what_cannot_be_done_is_told():
    with pytest.raises(ArgumentError, match=r"the preset 'paper' needs ImageNet\. Get the images of ILSVRC 2012"):
        run(preset="paper", progress=False)
