"""Telling a patch in the top left corner from one in the bottom right: networks, a readout, and training."""

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from probe.analyses.quadrants.bagnet import bagnet33
from probe.analyses.training import take_steps
from probe.images.canvases import place_at
from probe.models.capture import reading
from probe.models.copies import copied
from probe.models.modules import unwrap
from probe.models.survey import survey
from probe.models.weights import load_weights

__all__ = [
    "Corners",
    "LastMap",
    "build_network",
    "fit_readout",
    "read_features",
    "settle_normalisation",
    "train_from_scratch",
]

Classifier = Callable[[Tensor], Tensor]

_BATCH = 8
_ALPHA = 1e-3  # ridge penalty, as in probe.layerwise
_ROUNDING = 1e-4  # of the size of a feature
_MOMENTUM, _WEIGHT_DECAY = 0.9, 5e-5
_PATIENCE, _LOWEST_RATE = 5, 1e-6
_building = threading.Lock()  # the random state is shared by all threads


class Corners:
    """Black canvases, on each a patch in its top left corner (class 0) or in its bottom right (class 1).

    Parameters
    ----------
    patches
        Shape (image, channel, row, column); each stands on two canvases, one of either class.
    canvas
        Rows and columns of a canvas, in pixels.
    border
        Width of the black border around it, in pixels.
    device
        Where the canvases are made.

    Examples
    --------
    >>> corners = Corners(torch.ones(1, 3, 1, 1), canvas=2, border=0, device=torch.device("cpu"))
    >>> canvases, classes = next(corners.batches())
    >>> canvases[:, 0], classes
    (tensor([[[1., 0.],
             [0., 0.]],
            [[0., 0.],
             [0., 1.]]]), tensor([0, 1]))
    """

    def __init__(self, patches: Tensor, *, canvas: int, border: int, device: torch.device) -> None:
        self.patches, self.canvas, self.border, self.device = patches, canvas, border, device

    def __len__(self) -> int:
        return 2 * len(self.patches)

    def batches(self, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (canvases, classes), one after the other or in the given order."""
        offset = self.canvas - self.patches.shape[-1]
        for chosen in (torch.arange(len(self)) if order is None else order).split(_BATCH):
            classes = chosen % 2
            corners = (offset * classes)[:, None].expand(-1, 2)
            canvases = place_at(self.patches[chosen // 2].to(self.device), corners, (self.canvas, self.canvas))
            yield functional.pad(canvases, (self.border,) * 4), classes.to(self.device)


def build_network(name: str, seed: int, weights: Any = None) -> nn.Module:
    """Make ``bagnet33``, or a ``resnet18`` or ``densenet121`` of torchvision's, that returns pooled features.

    As in the original, the first two pool by the global maximum, and the max pooling in ResNet-18 has windows of 2×2.

    Parameters
    ----------
    name
        Of the network.
    seed
        Of its random weights.
    weights
        A state dict, or a file of one, such as those that torchvision releases; what is in it of the last layer is
        not used.

    Raises
    ------
    ArgumentError, ModelError
        If there is no such file, it cannot be read, or the weights do not fit.
    """
    with _building, torch.random.fork_rng([]):
        torch.manual_seed(seed)
        net: Any = bagnet33() if name == "bagnet33" else getattr(torchvision.models, name)(weights=None)
    head = "classifier" if name == "densenet121" else "fc"
    setattr(net, head, nn.Identity())
    if name != "densenet121":
        net.avgpool = nn.AdaptiveMaxPool2d(1)
    if name == "resnet18":
        net.maxpool.kernel_size = 2
    if weights is not None:
        load_weights(net, weights, name, without=f"{head}.")
    return net


class LastMap(nn.Module):
    """A copy of a model that returns the global maximum of its last map, whatever comes behind.

    Parameters
    ----------
    model
        Any model of images with three channels; it stays as it was.
    size
        Rows and columns of an image, in pixels, by which the last map of more than one cell is found.

    Examples
    --------
    >>> from probe.testing import padded_net
    >>> LastMap(nn.Sequential(padded_net(), nn.Flatten()), size=8)(torch.zeros(2, 3, 9, 9)).shape
    torch.Size([2, 16])
    """

    def __init__(self, model: nn.Module, size: int) -> None:
        super().__init__()
        self.model = copied(unwrap(model)).eval().requires_grad_(False)
        tensors = [*self.model.parameters(), torch.empty(0)]
        found = survey(self.model, torch.zeros(1, 3, size, size).to(tensors[0]))
        self.layer = [layer for layer in found if not layer.problem and not layer.is_single_cell][-1]

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of images, shape (image, channel)."""
        with reading(self.model, [self.layer], lambda _, maps: maps.amax(dim=(2, 3))) as run:
            return run(images)[self.layer.name]


def settle_normalisation(network: nn.Module, corners: Corners) -> None:
    """Take the statistics of batch normalisation from canvases, as training would."""
    update_bn(corners.batches(), network)


@torch.no_grad()
def read_features(network: nn.Module, corners: Corners) -> tuple[Tensor, Tensor]:
    """Return the features of all canvases, shape (canvas, channel), and their classes."""
    network.eval()
    parts = [(network(canvases).double(), classes) for canvases, classes in corners.batches()]
    features, classes = zip(*parts, strict=True)
    return torch.cat(features), torch.cat(classes)


def fit_readout(features: Tensor, classes: Tensor) -> Classifier:
    """Fit a linear readout: ridge regression of the classes, as −1 and 1, on standardised features.

    Features that vary by less than 10⁻⁴ of their root mean square are left out: what remains of those that are the
    same for all canvases is rounding errors, and these depend on the place.

    Parameters
    ----------
    features, classes
        From `read_features`.

    Returns
    -------
    callable
        Tells the classes from features.

    Examples
    --------
    >>> features = torch.tensor([[0.0, 5.0], [1.0, 5.0]]).double()
    >>> fit_readout(features, torch.tensor([0, 1]))(features)
    tensor([0, 1])
    """
    mean, deviation = features.mean(dim=0), features.std(dim=0, correction=0)
    varies = deviation > _ROUNDING * features.square().mean(dim=0).sqrt()

    def standardised(features: Tensor) -> Tensor:
        return ((features - mean) / deviation)[:, varies]

    inputs, signs = standardised(features), 2 * classes.to(features) - 1
    penalty = _ALPHA * torch.eye(inputs.shape[1]).to(inputs)
    slopes = torch.linalg.solve(inputs.T @ inputs / len(inputs) + penalty, inputs.T @ signs / len(inputs))
    return lambda features: (standardised(features) @ slopes > 0).long()


def train_from_scratch(
    network: nn.Module, training: Corners, validation: Corners, *, epochs: int, learning_rate: float, seed: int
) -> nn.Module:
    """Train a network, with a linear layer behind it, and choose the epoch with the lowest loss on validation canvases.

    Returns
    -------
    torch.nn.Module
        The network and its linear layer, in evaluation mode.
    """
    device = training.device
    with torch.no_grad():
        n_features = network.eval()(next(training.batches())[0]).shape[1]
    with _building, torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = nn.Sequential(network, nn.Linear(n_features, 2)).to(device)
    optimiser = torch.optim.SGD(
        model.parameters(), lr=learning_rate, momentum=_MOMENTUM, weight_decay=_WEIGHT_DECAY, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, patience=_PATIENCE)
    generator = torch.Generator().manual_seed(seed)
    lowest, best = float("inf"), copy.deepcopy(model.state_dict())
    for _ in range(epochs):
        take_steps(model, training.batches(torch.randperm(len(training), generator=generator)), optimiser)
        loss = _mean_loss(model, validation)
        if loss < lowest:
            lowest, best = loss, copy.deepcopy(model.state_dict())
        schedule.step(loss)
        if optimiser.param_groups[0]["lr"] <= _LOWEST_RATE:
            break
    model.load_state_dict(best)
    return model.eval()


def _mean_loss(model: nn.Module, corners: Corners) -> float:
    model.eval()
    with torch.no_grad():
        losses = [functional.cross_entropy(model(c), classes, reduction="sum") for c, classes in corners.batches()]
    return float(torch.stack(losses).sum()) / len(corners)
