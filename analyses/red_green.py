"""How networks with different borders tell "red left of green" from "green left of red" where they never saw it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from probe.analyses.predictions import predict
from probe.analyses.studies import Study, check_paddings, choose_preset, study_result
from probe.analyses.training import side_by_side, take_steps
from probe.variants.padding import PADDINGS, with_padding

__all__ = ["PRESETS", "STUDY", "TESTS", "Boxes", "Preset", "make_boxes", "red_green_net", "run", "train_on_boxes"]

STUDY = Study(
    name="red_green",
    title="Red left of green, where it was never seen",
    question="Does a network that learned a relation of two objects in one place know it in another, and does that "
    "depend on how the border is handled?",
    source="O. S. Kayhan and J. C. van Gemert, “On Translation Invariance in CNNs: Convolutional Layers Can Exploit "
    "Absolute Spatial Location”, CVPR 2020, the experiment on border handling; numbers from the README of its code.",
    protocol=(
        "Images of 32×32 pixels hold a red and a green box of 4×4 pixels. Class 1, red left of green, stands in the "
        "upper half (rows 3 to 13); class 2, green left of red, in the lower half (rows 19 to 29). The boxes begin at "
        "least 5 columns apart.",
        "Four 3×3 convolutions (3–32–32–64–64 channels, strides 1, 2, 2, 2, no bias), each with ReLU, the maximum over "
        "the map, and a linear layer.",
        "Adadelta (learning rate 1, ρ 0.9, weight decay 5·10⁻⁵), batches of 200, not shuffled, at most 50 epochs; the "
        "epoch with the lowest validation loss is kept, and training ends when 9 epochs in a row have not lowered it "
        "(the published code counts them from 0 to 8).",
        "The similar test images stand where those of training stood. The dissimilar ones are the same images, moved "
        "by 16 rows, so that each class stands where the other was: a network that goes by place answers wrongly.",
        "As published, validation and similar test images are the first 1,000 training images: “similar” is an "
        "accuracy on the training set. The tests called unseen are drawn anew, and none of them is a training image.",
    ),
    departures=(
        "Circular padding is one pixel a side. The original code asks for 2, which the PyTorch of its time (1.2 to "
        "1.4) took as 1 pixel a side; today's would take it as 2.",
        "Reflect, replicate and partial padding, and the tests on unseen images, are ours; nobody has published them.",
    ),
    times={"tiny": "1 s", "quick": "4 min on 2 CPU cores", "paper": "1 hour on 2 CPU cores"},
)

TESTS = ("similar", "dissimilar", "similar, unseen", "dissimilar, unseen")

_PUBLISHED = {"valid": (100.0, 0.2), "zeros": (99.8, 8.4), "circular": (73.7, 73.7), "full": (89.7, 89.7)}
_SIZE = 32
_BOX = 4
_FARTHEST_LEFT = 10  # column of the left box, exclusive
_NEAREST = 5  # columns from the beginning of the left box to that of the right one
_ROWS = ((3, 11), (19, 27))  # of the upper border of the boxes of each class, the second exclusive
_SHIFT = 16
_RED, _GREEN = 0, 1
_BATCH = 200
_PATIENCE = 9
_PUBLISHED_SEED, _UNSEEN_SEED = 1988, 2020


@dataclass(frozen=True)
class Preset:
    """How many networks are trained for each padding, on how many images, and for how many epochs at most."""

    seeds: int
    n_training: int
    n_test: int
    epochs: int


PRESETS = {
    "tiny": Preset(seeds=2, n_training=100, n_test=50, epochs=1),
    "quick": Preset(seeds=2, n_training=2000, n_test=1000, epochs=20),
    "paper": Preset(seeds=10, n_training=2000, n_test=1000, epochs=50),
}


@dataclass(frozen=True)
class Boxes:
    """Images of shape (image, 3, 32, 32), their classes, and the columns from one box's beginning to the other's."""

    images: Tensor
    labels: Tensor
    distances: Tensor

    def first(self, count: int) -> "Boxes":
        """Return the first images."""
        return Boxes(self.images[:count], self.labels[:count], self.distances[:count])

    def moved(self) -> "Boxes":
        """Return the same images with each class where the other was."""
        return replace(self, images=self.images.roll(_SHIFT, dims=2))


def make_boxes(count: int, *, seed: int) -> Boxes:
    """Draw images of a red and a green box, of the two classes in turn; more images begin with the same ones.

    Parameters
    ----------
    count
        Number of images.
    seed
        Of all draws; 1988 gives the published images.

    Examples
    --------
    >>> boxes = make_boxes(2, seed=1988)
    >>> boxes.images.sum(dim=(2, 3)).tolist(), boxes.labels.tolist()
    ([[16.0, 16.0, 0.0], [16.0, 16.0, 0.0]], [0, 1])
    """
    random = np.random.RandomState(seed)  # draws what the published code drew
    images, distances = torch.zeros(count, 3, _SIZE, _SIZE), torch.zeros(count, dtype=torch.long)
    for number, image in enumerate(images):
        label = number % 2
        left, left_row = random.randint(_FARTHEST_LEFT), _draw_row(random, label)
        distance = 0
        while distance < _NEAREST:
            distance, right_row = random.randint(left, _SIZE - _BOX) - left, _draw_row(random, label)
        first, second = (_RED, _GREEN) if label == 0 else (_GREEN, _RED)
        image[first, left_row : left_row + _BOX, left : left + _BOX] = 1
        image[second, right_row : right_row + _BOX, left + distance : left + distance + _BOX] = 1
        distances[number] = distance
    return Boxes(images, torch.arange(count) % 2, distances)


def _draw_row(random: np.random.RandomState, label: int) -> int:
    return random.randint(*_ROWS[label])


def red_green_net(padding: str, *, seed: int) -> nn.Module:
    """Make the untrained network of the study; the random state of torch stays as it was."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        modules: list[nn.Module] = []
        for n_inputs, n_outputs, stride in ((3, 32, 1), (32, 32, 2), (32, 64, 2), (64, 64, 2)):
            modules += [nn.Conv2d(n_inputs, n_outputs, 3, stride=stride, padding=1, bias=False), nn.ReLU()]
        net = nn.Sequential(*modules, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, 2))
    return with_padding(net, padding)


def run(
    *,
    preset: str = "quick",
    seeds: int | None = None,
    paddings: Sequence[str] = PADDINGS,
    progress: bool = True,
    command: str = "",
) -> xr.Dataset:
    """Train networks under each padding on red and green boxes, and test them in the same and in other places.

    Parameters
    ----------
    preset
        ``"tiny"``, ``"quick"`` or ``"paper"``.
    seeds
        Number of networks for each padding; by default as many as the preset says.
    paddings
        Names from ``probe.PADDINGS``.
    progress
        Show a progress bar on a terminal or in a notebook.
    command
        The command that was given, for the record.

    Returns
    -------
    xarray.Dataset
        As `probe.analyses.studies.study_result` describes it, on (padding, test), in per cent. Besides,
        ``by_distance``: accuracy on (seed, padding, test, distance), where ``distance`` is that of the boxes in
        columns; ``images``: number of test images at each distance, on (test, distance);
        ``epochs``: the kept epoch, on (padding, seed); ``example``: one image of each class, on (label, test, row,
        column, colour).

    Raises
    ------
    ArgumentError
        If a padding or preset is unknown, or `seeds` is below 1.

    Examples
    --------
    >>> result = run(preset="tiny", paddings=["circular"], progress=False)
    >>> similar, dissimilar = result.here.sel(padding="circular", test=["similar", "dissimilar"]).values
    >>> bool(similar == dissimilar)
    True
    """
    started = time.monotonic()
    settings = choose_preset(PRESETS, preset, seeds)
    check_paddings(paddings)
    training = make_boxes(settings.n_training, seed=_PUBLISHED_SEED)
    tests = _tests(training, settings.n_test)
    key = [(padding, seed) for padding in paddings for seed in range(settings.seeds)]
    # Made here, since the random state is shared by all threads.
    models = [red_green_net(padding, seed=seed) for padding, seed in key]
    with side_by_side() as pool:
        work = [pool.submit(train_on_boxes, model, training, settings) for model in models]
        bar = tqdm(work, unit="network", desc="red_green", disable=None if progress else True)
        epochs = [done.result() for done in bar]
    right = _right_answers(models, tests, list(paddings), settings.seeds)
    here = (100 * right.mean("image")).assign_attrs(long_name="accuracy", units="%")
    return study_result(
        STUDY,
        _published(),
        here,
        preset=preset,
        settings={"paddings": list(paddings), **asdict(settings)},
        started=started,
        others=_others(right, tests, epochs),
        command=command,
    )


def _tests(training: Boxes, count: int) -> dict[str, Boxes]:
    leaked, unseen = training.first(count), _unseen(training, count)
    return dict(zip(TESTS, (leaked, leaked.moved(), unseen, unseen.moved()), strict=True))


def _unseen(training: Boxes, count: int) -> Boxes:
    """Draw images that are not among those of training, of the two classes in turn."""
    drawn = make_boxes(2 * count, seed=_UNSEEN_SEED)
    seen = {image.numpy().tobytes() for image in training.images}
    new = [number for number, image in enumerate(drawn.images) if image.numpy().tobytes() not in seen]
    by_class = [[number for number in new if drawn.labels[number] == label] for label in (0, 1)]
    chosen = [number for pair in zip(*by_class, strict=False) for number in pair][:count]
    return Boxes(drawn.images[chosen], drawn.labels[chosen], drawn.distances[chosen])


def train_on_boxes(model: nn.Module, training: Boxes, settings: Preset) -> int:
    """Train a network in place as published; return the number of the epoch whose weights are kept."""
    validation = training.first(settings.n_test)
    optimiser = torch.optim.Adadelta(model.parameters(), lr=1.0, rho=0.9, eps=1e-6, weight_decay=5e-5)
    lowest, kept, best = float("inf"), 0, model.state_dict()
    for epoch in range(1, settings.epochs + 1):
        take_steps(model, zip(training.images.split(_BATCH), training.labels.split(_BATCH), strict=True), optimiser)
        loss = _loss(model, validation)
        if loss < lowest:
            lowest, kept = loss, epoch
            best = {name: values.clone() for name, values in model.state_dict().items()}
        if epoch - kept == _PATIENCE:
            break
    model.load_state_dict(best)
    return kept


def _loss(model: nn.Module, boxes: Boxes) -> float:
    with torch.no_grad():
        logits = torch.cat([model(images) for images in boxes.images.split(_BATCH)])
    return float(functional.cross_entropy(logits, boxes.labels))


def _right_answers(
    models: Sequence[nn.Module], tests: Mapping[str, Boxes], paddings: list[str], seeds: int
) -> xr.DataArray:
    """Return whether each image is recognised, on (padding, seed, test, image)."""
    right = torch.stack(
        [torch.stack([predict(m, boxes.images) == boxes.labels for boxes in tests.values()]) for m in models]
    )
    return xr.DataArray(
        right.unflatten(0, (len(paddings), seeds)).numpy(),
        dims=("padding", "seed", "test", "image"),
        coords={"padding": paddings, "seed": range(seeds), "test": list(tests)},
    )


def _published() -> xr.DataArray:
    return xr.DataArray(
        list(_PUBLISHED.values()),
        dims=("padding", "test"),
        coords={"padding": list(_PUBLISHED), "test": list(TESTS[:2])},
    )


def _others(right: xr.DataArray, tests: Mapping[str, Boxes], epochs: Sequence[int]) -> dict[str, xr.DataArray]:
    by_test = []
    for name, boxes in tests.items():
        labelled = right.sel(test=name).assign_coords(distance=("image", boxes.distances.numpy()))
        groups = labelled.groupby("distance")
        by_test.append(
            xr.Dataset(
                {
                    "by_distance": 100 * groups.mean("image"),
                    "images": groups.count("image").isel(padding=0, seed=0, drop=True),
                }
            )
        )
    joined = xr.concat(by_test, "test", join="outer")
    by_distance, images = joined.by_distance, joined.images.fillna(0)
    by_distance.attrs = {"long_name": "accuracy by the distance of the boxes", "units": "%"}
    images.attrs = {"long_name": "number of test images", "units": "1"}
    kept = xr.DataArray(
        torch.tensor(epochs).reshape(right.sizes["padding"], right.sizes["seed"]).numpy(),
        dims=("padding", "seed"),
        attrs={"long_name": "epoch with the lowest validation loss", "units": "epoch"},
    )
    examples = torch.stack([boxes.images[:2] for boxes in tests.values()], dim=1).permute(0, 1, 3, 4, 2)
    example = xr.DataArray(
        examples.numpy(),
        dims=("label", "test", "row", "column", "colour"),
        coords={"label": ["red left of green", "green left of red"], "colour": ["red", "green", "blue"]},
        attrs={"long_name": "an image of each class", "units": "1"},
    )
    return {"by_distance": by_distance, "images": images, "epochs": kept, "example": example}
