"""Maps of features that take position out of them, and leave the rest as it is.

An eraser is x → x − A(x − μ), the same at every cell. A has low rank, A = left · rightᵀ, so that it costs two thin
matrix products.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from probe.errors import LayoutError, counted
from probe.models.layouts import GIVEN, LAYOUTS
from probe.sums.saved import read_saved, write_saved

__all__ = ["ErasedPlace", "Eraser", "Erasure", "Projection", "erased"]

_FORMAT = "position-probe eraser 1"


@dataclass(frozen=True)
class Projection:
    """The parts of x → x − left · rightᵀ(x − mean), in double precision.

    Attributes
    ----------
    mean : torch.Tensor
        Shape (channel,).
    left, right : torch.Tensor
        Shape (channel, direction). rightᵀ · left is the identity, so that erasing twice is erasing once.
    """

    mean: Tensor
    left: Tensor
    right: Tensor

    @property
    def rank(self) -> int:
        """Number of directions that are taken out."""
        return self.left.shape[1]


@dataclass(frozen=True)
class ErasedPlace:
    """Where the features are in the output of a layer.

    Attributes
    ----------
    layout : str
        As of `probe.models.layers.Layer`; ``given`` stands for maps of shape (image, channel, *size).
    n_before, n_behind : int
        Number of tokens before and behind the patches; they stay as they are.
    """

    layout: str
    n_before: int = 0
    n_behind: int = 0

    def patches(self, output: Tensor) -> tuple[int, int, int] | None:
        """Return the axis of tokens, and the first and last-plus-one that are patches; None where all are."""
        if not self.n_before and not self.n_behind:
            return None
        axis = self.layout.index("L")
        return axis, self.n_before, output.shape[axis] - self.n_behind

    @property
    def channel_axis(self) -> int:
        """Number of the axis of channels."""
        return 1 if self.layout == GIVEN else self.layout.index("C")

    @property
    def n_axes(self) -> tuple[int, ...]:
        """Numbers of axes that an output may have."""
        return (4, 5) if self.layout == GIVEN else (LAYOUTS[self.layout],)


def erased(output: Tensor, projection: Projection, place: ErasedPlace) -> Tensor:
    """Return the output of a layer without some directions of its features.

    Parameters
    ----------
    output
        In the layout of the place; half precision is computed in single.
    projection
        Of any precision.
    place
        Where the features are.

    Examples
    --------
    >>> first = torch.tensor([[1.0], [0.0]])
    >>> erased(torch.ones(1, 2, 1, 1), Projection(torch.zeros(2), first, first), ErasedPlace("NCHW")).flatten()
    tensor([0., 1.])
    """
    patches = place.patches(output)
    if patches is not None:
        axis, start, stop = patches
        before, inner, behind = output.split([start, stop - start, output.shape[axis] - stop], dim=axis)
        return torch.cat([before, _without(inner, projection, place.channel_axis), behind], dim=axis)
    return _without(output, projection, place.channel_axis)


def check_features(output: Tensor, place: ErasedPlace, n_channels: int, layer: str) -> None:
    """Raise a `LayoutError` unless a tensor can be an output of a layer."""
    if output.ndim not in place.n_axes or output.shape[place.channel_axis] != n_channels:
        expected = " or ".join(map(str, place.n_axes))
        raise LayoutError(
            f"eraser of {layer!r}: expected {expected} axes with {counted(n_channels, 'channel')} on axis "
            f"{place.channel_axis} ({place.layout}), found shape {tuple(output.shape)}."
        )


def _without(output: Tensor, projection: Projection, channel_axis: int) -> Tensor:
    dtype = torch.float64 if output.dtype == torch.float64 else torch.float32
    mean, left, right = (part.to(output.device, dtype) for part in (projection.mean, projection.left, projection.right))
    features = output.to(dtype).movedim(channel_axis, -1)
    with torch.autocast(output.device.type, enabled=False):
        changed = features - ((features - mean) @ right) @ left.T
    return changed.movedim(-1, channel_axis).to(output.dtype)


@dataclass(frozen=True)
class Erasure:
    """What an eraser was fitted to, and what it takes.

    Attributes
    ----------
    layer : str
        Name of the layer.
    method : str
        ``leace``, ``iterated``, ``mean_map`` or ``random``.
    targets : tuple of str
        What it makes unreadable; ``cells`` stands for every position.
    stimulus : str
        What the images were.
    cost : float
        Share of the variance of all channels that is removed.
    model : str
        Class of the model.
    weights_digest, images_digest : str
        Of the model and the images.
    n_images : int
        Number of images.
    versions : dict
        Of the packages.
    """

    layer: str
    method: str
    targets: tuple[str, ...]
    stimulus: str
    cost: float
    model: str
    weights_digest: str
    images_digest: str
    n_images: int
    versions: dict[str, str]


class Eraser(nn.Module):
    """Takes position out of the features of a layer; from `probe.fit_eraser`.

    It removes what a *linear* readout of *single* cells can read, no more: a perceptron, or a readout of several
    cells at once, may still find position. `probe.erasure_proof` measures what is left.

    Parameters
    ----------
    projection
        The map.
    place
        Where the features are in the layer's output.
    erasure
        Where it comes from.

    Attributes
    ----------
    rank : int
        Number of directions that it takes out.
    method : str
        How they were found.
    erasure : Erasure
        Its provenance.

    Examples
    --------
    >>> import probe, torch
    >>> from probe.testing import CoordinateNet
    >>> net, images = CoordinateNet(), torch.rand(20, 3, 1, 1).expand(20, 3, 8, 8)
    >>> statistics = probe.collect(net, images, layers="identity", progress=False)
    >>> eraser = probe.fit_eraser(statistics, "identity")
    >>> before, after = net(images), eraser(net(images))
    >>> after[:, 3:].std().item() < 1e-5, torch.allclose(after[:, :3], before[:, :3], atol=1e-5)
    (True, True)
    """

    mean: Tensor
    left: Tensor
    right: Tensor

    def __init__(self, projection: Projection, place: ErasedPlace, erasure: Erasure) -> None:
        super().__init__()
        self.place, self.erasure = place, erasure
        for name in ("mean", "left", "right"):
            self.register_buffer(name, getattr(projection, name).clone())

    @property
    def rank(self) -> int:
        """Number of directions that it takes out."""
        return self.left.shape[1]

    @property
    def method(self) -> str:
        """How the directions were found."""
        return self.erasure.method

    @property
    def projection(self) -> Projection:
        """The map, in the precision in which it is kept."""
        return Projection(self.mean, self.left, self.right)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the layer's output without position.

        Parameters
        ----------
        maps
            In the layout of the layer: (image, channel, row, column), (image, row, column, channel) or (image, token,
            channel). Class and register tokens stay as they are.

        Raises
        ------
        LayoutError
            If it has another number of axes or of channels than the layer.
        """
        check_features(maps, self.place, len(self.mean), self.erasure.layer)
        return erased(maps, self.projection, self.place)

    def extra_repr(self) -> str:
        """Say what it does."""
        what = self.erasure
        of_targets = "" if what.method in ("random", "mean_map") else f" of {', '.join(what.targets)}"
        return (
            f"{what.layer!r}: {what.method}{of_targets}, rank {self.rank} of {len(self.mean)}, fitted to "
            f"{what.n_images} {what.stimulus} images, removes {what.cost:.1%} of the variance"
        )

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write to a file, atomically; `load` reads it.

        Raises
        ------
        ResultFileError
            If the file exists and `overwrite` is false, or cannot be written. An old file then stays as it was.
        """
        content = {"place": asdict(self.place), "erasure": asdict(self.erasure), "state": self.state_dict()}
        return write_saved(content, path, form=_FORMAT, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Eraser":
        """Read a file that `save` wrote. Nothing in it is executed.

        Raises
        ------
        ResultFileError
            If the file is absent, damaged, or holds something else.
        """
        content = read_saved(path, form=_FORMAT, what="eraser", cure="Fit it again.")
        erasure = {**content["erasure"], "targets": tuple(content["erasure"]["targets"])}
        return cls(Projection(**content["state"]), ErasedPlace(**content["place"]), Erasure(**erasure))
