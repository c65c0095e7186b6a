"""One convolution tells in which corner a rook stands, if its border lets it."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from probe.analyses.data.shown import keep_shown
from probe.analyses.studies import Study, check_paddings, choose_preset, study_result
from probe.analyses.training import take_steps
from probe.variants.padding import PADDINGS, with_padding

__all__ = ["PRESETS", "STUDY", "Preset", "rook_images", "rook_net", "run"]

STUDY = Study(
    name="rook",
    title="One convolution tells a corner from another",
    question="Can a single convolution, which sees the same patch everywhere, tell where in the image it stands?",
    source="O. S. Kayhan and J. C. van Gemert, “On Translation Invariance in CNNs: Convolutional Layers Can Exploit "
    "Absolute Spatial Location”, CVPR 2020, the experiment with two rooks; 100 % in 5 of 5 runs.",
    protocol=(
        "Two images of 32×32 pixels, and no others: the same rook in the upper left and in the lower right corner, on "
        "black. They are the training set and the test set.",
        "One 5×5 convolution with one channel and no bias, ReLU, the maximum over the map, and a linear layer from "
        "this one number to two classes. The original draws the weights with the seeds 0 to 4.",
        "SGD, learning rate 0.1, momentum 0.9, one image a step, 100 epochs; the last one is tested.",
        "What theory says: under full padding each of the two maps is the other one, moved, so their maxima are equal "
        "and nothing can be learned. The same holds under circular padding. Under all others the windows that the "
        "border cuts off differ between the corners.",
    ),
    departures=(
        "The rook is drawn by hand after the original, in the same 16×13 pixels and in five grey levels.",
        "The original has zero padding alone, and 5 seeds, as “quick” has; “paper” has 50, since whether a network "
        "learns is a matter of chance: the published log shows that the first one did so in epoch 87 of 100, and a "
        "filter that gives 0 everywhere stays as it is.",
    ),
    times={"tiny": "1 s", "quick": "10 s on one CPU core", "paper": "2 min on one CPU core"},
)

LABELS = ("upper left", "lower right")

_PUBLISHED = {"zeros": 100.0}
_SIZE = 32
_ROOK = """
.............
+#-..+#+..-#+
+#*++*#*++*#+
.-+++++++++-.
..*********..
...+++++++...
..-#######-..
..-#######-..
..-#######-..
..-#######-..
..-#######-..
...+++++++...
..*********..
..+++++++++..
.***********.
.+++++++++++.
"""
_GREY_LEVELS = {".": 0.0, "-": 0.3, "+": 0.45, "*": 0.65, "#": 1.0}
_SHOWN = 6  # epochs whose maps are kept


@dataclass(frozen=True)
class Preset:
    """How many networks are trained for each padding, and for how many epochs."""

    seeds: int
    epochs: int


PRESETS = {
    "tiny": Preset(seeds=2, epochs=2),
    "quick": Preset(seeds=5, epochs=100),
    "paper": Preset(seeds=50, epochs=100),
}


def rook_images() -> Tensor:
    """Return the two images, shape (image, 1, row, column).

    Examples
    --------
    >>> upper_left, lower_right = rook_images()
    >>> torch.equal(upper_left.roll((16, 19), dims=(1, 2)), lower_right)
    True
    """
    rook = torch.tensor([[_GREY_LEVELS[sign] for sign in line] for line in _ROOK.split()])
    height, width = rook.shape
    images = torch.zeros(2, 1, _SIZE, _SIZE)
    images[0, 0, :height, :width] = rook
    images[1, 0, -height:, -width:] = rook
    return images


class RookNet(nn.Module):
    """One convolution, the maximum of its map after ReLU, and two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 5, padding=2, bias=False)
        self.classes = nn.Linear(1, 2)

    def map(self, images: Tensor) -> Tensor:
        """Return the map of each image after ReLU, shape (image, 1, row, column)."""
        return functional.relu(self.convolution(images))

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores of images, shape (image, class)."""
        return self.classes(self.map(images).amax(dim=(2, 3)))


def rook_net(padding: str, *, seed: int) -> RookNet:
    """Make the untrained network of the study; the random state of torch stays as it was."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        network = with_padding(RookNet(), padding)
    assert isinstance(network, RookNet)
    return network


def run(
    *,
    preset: str = "quick",
    seeds: int | None = None,
    paddings: Sequence[str] = PADDINGS,
    progress: bool = True,
    command: str = "",
) -> xr.Dataset:
    """Train the network of one convolution under each padding to tell the two rooks apart.

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
        As `probe.analyses.studies.study_result` describes it, on (padding), in per cent. Besides, ``response``, the
        maximum of the map after ReLU on (padding, seed, label), which is all that the last layer sees; ``filter`` on
        (padding, seed, tap_row, tap_column); for the padding number i, ``map_i``, the map of the first network on
        (epoch, label, row, column); and ``shown_image``, the images as the networks were shown them.

    Raises
    ------
    ArgumentError
        If a padding or preset is unknown, or `seeds` is below 1.

    Examples
    --------
    >>> result = run(preset="tiny", paddings=["circular", "full"], progress=False)
    >>> result.here.values.tolist()
    [50.0, 50.0]
    """
    started = time.monotonic()
    settings = choose_preset(PRESETS, preset, seeds)
    check_paddings(paddings)
    images = rook_images()
    key = [(padding, seed) for padding in paddings for seed in range(settings.seeds)]
    epochs = sorted({round(epoch) for epoch in np.linspace(0, settings.epochs, _SHOWN)})
    networks, histories = [], []
    for padding, seed in tqdm(key, unit="network", desc="rook", disable=None if progress else True):
        networks.append(rook_net(padding, seed=seed))
        histories.append(_train(networks[-1], images, epochs))
    classes = torch.arange(len(LABELS))
    right = _by_network([network(images).argmax(dim=1) == classes for network in networks], paddings, ["label"])
    return study_result(
        STUDY,
        xr.DataArray(list(_PUBLISHED.values()), dims="padding", coords={"padding": list(_PUBLISHED)}),
        (100 * right.mean("label")).assign_attrs(long_name="accuracy", units="%"),
        preset=preset,
        settings={"paddings": list(paddings), **asdict(settings)},
        started=started,
        others=_others(networks, histories, paddings, epochs)
        | {"shown_image": keep_shown(dict(zip(LABELS, images.split(1), strict=True)))},
        command=command,
    )


def _train(network: RookNet, images: Tensor, shown: Sequence[int]) -> Tensor:
    """Train a network in place; return its maps after the epochs `shown`, the last of which ends the training."""
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    batches = list(zip(images.split(1), torch.arange(len(images)).split(1), strict=True))
    maps = []
    for epoch in range(shown[-1] + 1):
        if epoch in shown:
            maps.append(network.map(images)[:, 0].detach())
        if epoch < shown[-1]:
            take_steps(network, batches, optimiser)
    return torch.stack(maps)


def _by_network(values: Sequence[Tensor], paddings: Sequence[str], dims: Sequence[str]) -> xr.DataArray:
    """Return values of all networks, with their own `dims`, on (padding, seed, ...)."""
    stacked = torch.stack(list(values)).detach().unflatten(0, (len(paddings), -1)).numpy()
    coordinates = {"padding": list(paddings), "seed": range(stacked.shape[1])}
    return xr.DataArray(stacked, dims=("padding", "seed", *dims), coords=coordinates)


def _others(
    networks: Sequence[RookNet], histories: Sequence[Tensor], paddings: Sequence[str], epochs: Sequence[int]
) -> dict[str, xr.DataArray]:
    labels = {"label": list(LABELS)}
    response = _by_network([maps[-1].amax(dim=(1, 2)) for maps in histories], paddings, ["label"])
    filters = _by_network(
        [network.convolution.weight[0, 0] for network in networks], paddings, ["tap_row", "tap_column"]
    )
    others = {
        "response": response.assign_coords(labels).assign_attrs(long_name="maximum of the map", units="activation"),
        "filter": filters.assign_attrs(long_name="learned filter", units="activation per unit of brightness"),
    }
    firsts = histories[:: len(networks) // len(paddings)]
    for number, (padding, maps) in enumerate(zip(paddings, firsts, strict=True)):
        others[f"map_{number}"] = xr.DataArray(
            maps.numpy(),
            dims=("epoch", "label", f"row_{number}", f"column_{number}"),
            coords={"epoch": list(epochs), **labels},
            attrs={"long_name": "map after ReLU of the first network", "units": "activation", "padding": padding},
        )
    return others
