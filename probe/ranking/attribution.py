"""What captum attributes to each channel of a position readout that is put on top of a layer."""

import difflib
import inspect
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from probe.errors import ArgumentError, ImagesError
from probe.models.layers import Layer
from probe.reading.cells import draw_cells
from probe.reading.options import Options
from probe.reading.ranks import add_arrays, add_facts, own_share
from probe.reading.reader import open_reader
from probe.readouts.omission import Ridge

__all__ = ["attribute_readouts", "layer_attribution"]

# The time that captum takes grows with the square of the samples of a call, and some methods make 50 of each.
_CELLS_AT_ONCE = 128


def layer_attribution(name: str) -> type[Any]:
    """Return captum's class of this name, which must attribute an output to a layer.

    Raises
    ------
    ArgumentError
        If there is none.
    """
    from captum import attr
    from captum.attr import LayerAttribution

    methods: dict[str, Any] = {
        known: thing
        for known, thing in vars(attr).items()
        if inspect.isclass(thing) and issubclass(thing, LayerAttribution) and thing is not LayerAttribution
    }
    known = [known for known, thing in methods.items() if "target" in inspect.signature(thing.attribute).parameters]
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4) or sorted(known)
        raise ArgumentError(
            f"captum_method={name!r}: captum has no method of this name that attributes an output to a layer. "
            f"Did you mean {', '.join(map(repr, near))}?"
        )
    return methods[name]


def attribute_readouts(
    model: nn.Module,
    images: Any,
    options: Options,
    *,
    ridges: list[Ridge],
    pilot: Tensor,
    captum_method: str,
    cells_per_image: int | None,
    images_digest: str,
) -> tuple[Tensor, Tensor]:
    """Attribute readouts to the channels of a layer, at the cells to which they were fitted.

    Parameters
    ----------
    model, images, options
        As in `probe.rank_channels`; two folds are the two halves.
    ridges
        The readout fitted to all images, and to each half.
    pilot
        Shape (channel,), about which their means are.
    captum_method
        Name of captum's class.
    cells_per_image
        Number of cells of each image to which they were fitted; None for all.
    images_digest
        Of the images to which the readouts were fitted.

    Returns
    -------
    scores, halves : torch.Tensor
        Shape (channel,) and (2, channel). Mean |attribution| over cells, images and targets, in the target's unit:
        of the readout of all images, and of that of each half on its own images. NaN for channels left out.
    """
    heads = [_Head(ridge, pilot, captum_method) for ridge in ridges]
    sums = torch.zeros(len(heads), len(pilot), dtype=torch.float64, device="cpu")
    counts = torch.zeros(len(heads), 1, dtype=torch.float64, device="cpu")

    def attribute(layer: Layer, maps: Tensor) -> None:
        batch = reader.batch
        n_cells = maps[0, 0].numel()
        drawn, _ = draw_cells(options.seed, batch.numbers, n_cells, cells_per_image)
        image, halves = torch.arange(len(maps), device="cpu")[:, None], torch.tensor(batch.folds, device="cpu")
        samples = maps.flatten(2).transpose(1, 2)[image, torch.from_numpy(drawn)]
        with torch.autocast(maps.device.type, enabled=False):
            for index, head in enumerate(heads):
                chosen = samples if index == 0 else samples[halves == index - 1]
                if len(chosen):
                    sums[index] += head.absolute_attributions(chosen.flatten(0, 1))
                    counts[index] += chosen.shape[0] * chosen.shape[1]

    with open_reader(model, images, options, share=own_share()) as reader:
        layer = reader.layer(options.layers)
        with reader.reading([layer], attribute) as run:
            for _, pixels in reader.batches():
                run(pixels, options.stimulus_names[0])
        added = add_arrays({"sums": sums.numpy(), "counts": counts.numpy()}, reader.share)
        if add_facts(reader.facts(), reader.share).images_digest != images_digest:
            raise ImagesError(
                "images: the second reading, which method='attribution' needs, gave other images than the first. "
                "Pass images that stay the same: without random transforms, in a fixed order."
            )
    means = torch.from_numpy(added["sums"]) / torch.from_numpy(added["counts"])
    return means[0], means[1:]


class _Linear(nn.Module):
    """Given weights of shape (feature, target): no random ones are drawn before, which would move the random state."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, features: Tensor) -> Tensor:
        return features @ self.weights


class _Head:
    """A linear readout as a network of its own: standardised channels of a cell in, all targets out."""

    def __init__(self, ridge: Ridge, pilot: Tensor, captum_method: str) -> None:
        self._live = ridge.live
        self._mean, self._scale = pilot[ridge.live] + ridge.mean, ridge.scale
        self._n_targets = ridge.weights.shape[1]
        head = nn.Sequential(OrderedDict(channels=nn.Identity(), readout=_Linear(ridge.weights)))
        self._method = layer_attribution(captum_method)(head, head.channels)
        parameters = inspect.signature(self._method.attribute).parameters
        self._needs_baselines = "baselines" in parameters and parameters["baselines"].default is inspect.Parameter.empty
        self._name = captum_method

    def absolute_attributions(self, cells: Tensor) -> Tensor:
        """Return the sum of |attribution| over cells, and its mean over targets, shape (channel,)."""
        total = torch.full((len(self._live),), torch.nan, dtype=torch.float64, device="cpu")
        found = torch.zeros(int(self._live.sum()), dtype=torch.float64, device=cells.device)
        for part in cells[:, self._live].to(self._mean).split(_CELLS_AT_ONCE):
            standardised = (part - self._mean) / self._scale
            for target in range(self._n_targets):
                found += self._attribute(standardised, target).abs().sum(dim=0) / self._n_targets
        total[self._live.cpu()] = found.cpu()
        return total

    def _attribute(self, features: Tensor, target: int) -> Tensor:
        # Where a method asks for baselines, the channels' means.
        baselines = {"baselines": torch.zeros_like(features[:2])} if self._needs_baselines else {}
        try:
            attributions = self._method.attribute(features, target=target, **baselines)
        except (AssertionError, TypeError) as error:
            raise self._unfit(str(error).partition("\n")[0]) from error
        if attributions.shape != features.shape:
            raise self._unfit(f"it gives shape {tuple(attributions.shape)} for {tuple(features.shape)}")
        return attributions.detach()

    def _unfit(self, reason: str) -> ArgumentError:
        return ArgumentError(
            f"captum_method={self._name!r}: does not attribute a linear readout to single channels ({reason}). "
            "The default is 'LayerGradientXActivation'."
        )
