"""Readouts of maps of position from stacked feature maps: by gradient descent, and in closed form from statistics."""

import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import scipy.stats
import torch
from torch import Tensor, nn
from torch.nn import functional

from probe.analyses.training import clock
from probe.errors import ProbeWarning
from probe.measures.probing import collect
from probe.models.capture import reading
from probe.models.copies import copied
from probe.models.layers import Layer, layer_named
from probe.models.modules import module_names, unwrap
from probe.models.survey import survey_fast
from probe.readouts.scores import decode
from probe.readouts.targets import TARGETS, TargetFunction, target_maps
from probe.sums.statistics import Statistics

__all__ = [
    "POSITION_MAPS",
    "BlockReader",
    "ClosedForm",
    "Descent",
    "absolute_errors",
    "position_maps",
    "rank_correlations",
]

_LOWEST_GAUSSIAN = np.exp(-1)  # in the corners, at radius √2
_CONSTANT = 1e-5  # of a map's largest value: what rounding makes of a constant one


def _from_zero_to_one(name: str) -> TargetFunction:
    return lambda height, width: (TARGETS[name](height, width) + 1) / 2


POSITION_MAPS: dict[str, TargetFunction] = {
    "H": _from_zero_to_one("column"),
    "V": _from_zero_to_one("row"),
    "G": lambda height, width: (TARGETS["gaussian"](height, width) - _LOWEST_GAUSSIAN) / (1 - _LOWEST_GAUSSIAN),
    "HS": _from_zero_to_one("stripes_row"),
    "VS": _from_zero_to_one("stripes_column"),
}
"""The maps of Islam et al. 2020, from 0 to 1: gradients along columns (H) and rows (V), a Gaussian (G), stripes."""


def position_maps(targets: Iterable[str], size: int) -> Tensor:
    """Return some of `POSITION_MAPS` on a square grid, shape (target, row, column)."""
    return torch.from_numpy(target_maps({name: POSITION_MAPS[name] for name in targets}, size, size)).float()


class BlockReader:
    """Reads some layers of a network, each brought to one grid, and stacks their channels.

    Parameters
    ----------
    model
        Is copied. None: the images themselves are read, as one block.
    blocks
        Name of each block -> name of its layer.
    grid
        Rows and columns to which all maps are resized, bilinearly, corners on corners.
    device
        Where to run the copy.

    Examples
    --------
    >>> reader = BlockReader(nn.Conv2d(3, 5, 3), {"f1": "input"}, grid=4, device=torch.device("cpu"))
    >>> reader(torch.zeros(2, 3, 8, 8)).shape, reader.channels
    (torch.Size([2, 3, 4, 4]), {'f1': slice(0, 3, None)})
    """

    def __init__(self, model: nn.Module | None, blocks: Mapping[str, str], *, grid: int, device: torch.device) -> None:
        model = nn.Identity() if model is None else copied(unwrap(model))
        self.model, self.blocks, self.grid, self.device = model.eval().to(device), blocks, grid, device
        self.channels: dict[str, slice] = {}
        self._layers: dict[str, Layer] = {}
        self._memory_format = torch.contiguous_format

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the stacked maps of images, shape (image, channel, grid, grid)."""
        images = images.to(self.device)
        if not self._layers:
            self._find(images[:1])
        images = images.contiguous(memory_format=self._memory_format)

        def resize(_: Layer, activations: Tensor) -> Tensor:
            size = (self.grid, self.grid)
            return functional.interpolate(activations, size, mode="bilinear", align_corners=True)

        with reading(self.model, list(self._layers.values()), resize) as run:
            maps = run(images)
        return torch.cat([maps[layer.name] for layer in self._layers.values()], dim=1)

    def _find(self, image: Tensor) -> None:
        layers, self._memory_format = survey_fast(self.model, image)
        modules = module_names(self.model)
        first = 0
        for block, name in self.blocks.items():
            layer = layer_named(name, layers, modules)
            self._layers[block] = layer
            self.channels[block] = slice(first, first + layer.n_channels)
            first += layer.n_channels


class Descent:
    """The published readout: convolutions, batch normalisation and a sigmoid, fitted by gradient descent.

    Parameters
    ----------
    n_channels
        Of the maps that it reads.
    kernel, depth, padding
        Kernel size, number of convolutions (those before the last keep the channels, and have batch normalisation and
        ReLU behind them) and zeros around the map.
    targets
        Names in `POSITION_MAPS`.
    size
        Rows and columns to which the readouts are resized before they are compared with the maps.
    n_steps
        Length of the training; after two thirds of it the learning rate falls tenfold.
    seed
        Seed of the weights.
    device
        Where the maps are.

    Attributes
    ----------
    seconds : float
        Spent in `update`.

    References
    ----------
    Islam, Jia, Bruce: How much position information do convolutional neural networks encode? ICLR 2020.
    """

    def __init__(
        self,
        n_channels: int,
        *,
        kernel: int,
        depth: int,
        padding: int,
        targets: Sequence[str],
        size: int,
        n_steps: int,
        seed: int,
        device: torch.device,
    ) -> None:
        # Readouts of depth 1 share one convolution: a map of its output is a readout of its own.
        groups = [list(targets)] if depth == 1 else [[target] for target in targets]
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            stacks = [_stack(n_channels, len(group), kernel, depth, padding) for group in groups]
        self.stacks = nn.ModuleList(stacks).to(device)
        self.maps = position_maps(targets, size).to(device)
        self.optimiser = torch.optim.SGD(self.stacks.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimiser, -(-2 * n_steps // 3))
        self.seconds = 0.0

    def update(self, features: Tensor) -> None:
        """Take a step; each readout's loss is its mean squared error."""
        start = clock(features.device)
        self.stacks.train()
        with torch.enable_grad():
            errors = (self._resized(features) - self.maps).square()
            self.optimiser.zero_grad()
            errors.mean(dim=(0, 2, 3)).sum().backward()
            self.optimiser.step()
        self.schedule.step()
        self.seconds += clock(features.device) - start

    @torch.no_grad()
    def predict(self, features: Tensor) -> Tensor:
        """Return the maps read from features, shape (image, target, row, column)."""
        self.stacks.eval()
        return self._resized(features)

    def _resized(self, features: Tensor) -> Tensor:
        read = torch.cat([stack(features) for stack in self.stacks], dim=1)
        return functional.interpolate(read, tuple(self.maps.shape[1:]), mode="bilinear")


def _stack(n_channels: int, n_targets: int, kernel: int, depth: int, padding: int) -> nn.Sequential:
    modules: list[nn.Module] = []
    for n_outputs in [n_channels] * (depth - 1) + [n_targets]:
        convolution = nn.Conv2d(n_channels, n_outputs, kernel, padding=padding, bias=False)
        nn.init.xavier_uniform_(convolution.weight)
        modules += [convolution, nn.BatchNorm2d(n_outputs), nn.ReLU()]
    return nn.Sequential(*modules[:-1], nn.Sigmoid())


class _Neighbourhoods(nn.Module):
    """The values around each cell as channels, so that a readout of one cell is a convolution."""

    def __init__(self, kernel: int, padding: int) -> None:
        super().__init__()
        self.kernel, self.padding = kernel, padding

    def forward(self, features: Tensor) -> Tensor:
        height, width = (size + 2 * self.padding - self.kernel + 1 for size in features.shape[2:])
        return functional.unfold(features, self.kernel, padding=self.padding).unflatten(2, (height, width))


class ClosedForm:
    """The linear readout without descent: ridge regression from the statistics of `probe.collect`.

    Parameters
    ----------
    kernel, padding
        As in `Descent`; the depth is 1, and there is no sigmoid.
    targets, size
        As in `Descent`.
    alpha
        Ridge penalty, as in `probe.layerwise`.

    Attributes
    ----------
    seconds : float
        Spent in `update` and in fitting.
    """

    def __init__(self, *, kernel: int, padding: int, targets: Sequence[str], size: int, alpha: float = 1e-3) -> None:
        self.kernel, self.padding, self.size, self.alpha = kernel, padding, size, alpha
        self.targets = {name: POSITION_MAPS[name] for name in targets}
        self.statistics: Statistics | None = None
        self.convolution: tuple[Tensor, Tensor] | None = None
        self.seconds = 0.0
        self._n_images = 0

    def update(self, features: Tensor) -> None:
        """Add the statistics of some images."""
        start = clock(features.device)
        model = nn.Sequential(OrderedDict(neighbourhoods=_Neighbourhoods(self.kernel, self.padding)))
        with warnings.catch_warnings():
            # Features are no images, which should be normalised.
            warnings.simplefilter("ignore", ProbeWarning)
            found = collect(
                model, features, layers="neighbourhoods", layout="NCHW", targets=self.targets, stimuli="natural",
                folds=2, positions=None, first_image=self._n_images, device=features.device, progress=False,
            )  # fmt: skip
        self.statistics = found if self.statistics is None else self.statistics.merge(found)
        self._n_images += len(features)
        self.convolution = None
        self.seconds += clock(features.device) - start

    def predict(self, features: Tensor) -> Tensor:
        """Return the maps read from features, shape (image, target, row, column)."""
        if self.convolution is None:
            self.convolution = self._fitted(features)
        weight, bias = self.convolution
        read = functional.conv2d(features, weight, bias, padding=self.padding)
        return functional.interpolate(read, (self.size, self.size), mode="bilinear")

    def _fitted(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the readouts as the weights and biases of one convolution."""
        start = clock(features.device)
        assert self.statistics is not None
        gram = self.statistics.grams["natural", "neighbourhoods"]
        # What they make of nothing, and of each feature by itself.
        alone = np.eye(len(gram.pilot), len(gram.pilot) + 1, k=1)[:, None]
        read = decode(gram, alone, len(self.targets), self.alpha)[:, 0]
        levels = np.array(self.statistics.settings["target_offsets"]["neighbourhoods"])
        weights = (read[:, 1:] - read[:, :1]).reshape(len(self.targets), -1, self.kernel, self.kernel)
        self.seconds += clock(features.device) - start
        return torch.from_numpy(weights).to(features), torch.from_numpy(read[:, 0] + levels).to(features)


def rank_correlations(read: Tensor, targets: Sequence[str]) -> np.ndarray:
    """Return Spearman's correlation of the maps that were read with the true ones, over all cells of an image.

    Parameters
    ----------
    read
        Shape (image, target, row, column).
    targets
        Names in `POSITION_MAPS`.

    Returns
    -------
    numpy.ndarray
        Shape (image, target); 0 for a map that is constant up to rounding, which tells no position.

    Examples
    --------
    >>> read = position_maps(["H", "V"], 8)[None]
    >>> rank_correlations(read, ["H", "H"])
    array([[1., 0.]])
    """
    true = position_maps(targets, read.shape[-1]).flatten(1).numpy()
    values = read.flatten(2).cpu().numpy()
    spread = values.max(axis=2) - values.min(axis=2)
    ranks, true_ranks = (scipy.stats.rankdata(array, axis=-1) for array in (values, true))
    ranks -= ranks.mean(axis=-1, keepdims=True)
    true_ranks -= true_ranks.mean(axis=-1, keepdims=True)
    norms = np.linalg.norm(ranks, axis=-1) * np.linalg.norm(true_ranks, axis=-1)
    products = (ranks * true_ranks).sum(axis=-1)
    is_constant = spread <= _CONSTANT * np.abs(values).max(axis=2)
    return np.where(is_constant, 0.0, products / np.where(norms > 0, norms, 1)) + 0.0


def absolute_errors(read: Tensor, targets: Sequence[str]) -> np.ndarray:
    """Return the mean absolute error of each map that was read, shape (image, target).

    Of stripes twice the error, which is that of stripes from −1 to 1, as they were published.
    """
    errors = (read.cpu() - position_maps(targets, read.shape[-1])).abs().mean(dim=(2, 3)).numpy()
    return errors * np.array([2 if target in ("HS", "VS") else 1 for target in targets])
