"""Position erased at one layer, and read anew behind it."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn
from tqdm.auto import tqdm

from probe.ablation.erasing import check_eraser
from probe.ablation.hooks import ablate
from probe.erasing.proof import splits
from probe.errors import ArgumentError, IllConditionedError, ImagesError, ProbeWarning, warn
from probe.images.batches import check_reread
from probe.images.rows import Transform
from probe.models.layers import INPUT, LayerSelection
from probe.models.loan import Forward
from probe.models.survey import LayoutOption
from probe.reading.collecting import collect_statistics
from probe.reading.options import Options
from probe.readouts.directions import CELLS
from probe.readouts.erased_sums import erased_gram
from probe.readouts.erasers import Projection
from probe.readouts.fitted_erasers import check_method, check_rank, fitted_to
from probe.readouts.scores import crossed_sums
from probe.results import finish
from probe.sums.expansion_gram import ChannelGram
from probe.sums.statistics import Statistics

__all__ = ["NOTHING", "erasure_matrix"]

NOTHING = "nothing"
"""Name of the row in which nothing is erased."""

_ALPHA = 1e-3


def erasure_matrix(
    model: nn.Module,
    images: Any,
    *,
    layers: LayerSelection = "auto",
    method: str = "leace",
    targets: str | Iterable[str] = ("row", "column"),
    rank: int | None = None,
    stimulus: str = "rolled",
    folds: int = 10,
    groups: Sequence[Any] | np.ndarray | None = None,
    positions: str | int | None = "auto",
    batch_size: int = 32,
    num_workers: int = 0,
    device: str | torch.device = "auto",
    autocast: str | torch.dtype | None = None,
    transform: Transform | None = None,
    input_key: str | int | None = None,
    layout: LayoutOption = None,
    forward: Forward | None = None,
    max_images: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Erase position at one layer after the other, and read it there and in all that follow.

    The commonest uses::

        probe.erasure_matrix(model, images, layers=["layer1", "layer2", "layer3", "layer4"])
        probe.erasure_matrix(model, images, layers="blocks.*", rank=16, targets="cells")
        probe.plot_erasure(probe.erasure_matrix(model, images))

    Padding and embeddings write position anew: what is read behind an erased layer was not carried through it, or was
    carried in a form that the eraser leaves, which no linear readout of a cell can read.

    Parameters
    ----------
    model, images
        As in `layerwise`. The images are read once for each layer, and once more.
    layers
        As in `layerwise`; each is read, and each but the pixels erased.
    method, targets, rank
        As in `fit_eraser`. ``"cells"`` are erased, and row and column read.
    stimulus
        What the erasers are fitted to, and position is read on.
    folds
        Of images: the erasers are fitted to the first half of them, position is read in the others. At least 6.
    groups, positions, batch_size, num_workers, device, autocast, transform, input_key, layout, forward, max_images
        As in `layerwise`.
    seed, progress
        As in `layerwise`.

    Returns
    -------
    xarray.Dataset
        On (erased, layer, target): ``r2`` and ``r2_se``; NaN in front of the erased layer, where nothing changes. The
        first of ``erased`` is ``nothing``.

    Raises
    ------
    ArgumentError, ImagesError, LayerNotFoundError, LayerNotCalledError, LayoutError, ModelError, TooLargeError
        Each names the argument, layer or file, what was found, and the cure.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> matrix = probe.erasure_matrix(padded_net("zeros"), noise_images(200), layers="conv*", progress=False)
    >>> row = matrix.r2.sel(target="row", erased="conv3")
    >>> abs(row.sel(layer="conv3").item()) < 0.02, row.sel(layer="conv4").item() > 0.05
    (True, True)
    """
    read = ("row", "column") if targets == CELLS or tuple(targets) == (CELLS,) else targets
    options = Options(
        layers=layers, targets=read, stimuli=stimulus, folds=folds, groups=groups, positions=positions,
        batch_size=batch_size, num_workers=num_workers, device=device, autocast=autocast, transform=transform,
        input_key=input_key, layout=layout, forward=forward, max_images=max_images, seed=seed, progress=progress,
        task="erasure matrix", phase="intact",
    )  # fmt: skip
    if folds < 6:
        raise ArgumentError(f"folds={folds}: expected at least 6, half of them for the erasers and 3 to read.")
    check_reread(images, "they are read anew for each layer")
    split = splits(folds)[0]
    intact, _ = collect_statistics(model, images, options, grams=True, moments=method == "mean_map" or targets != read)
    check_method(intact, method, targets)
    check_rank(rank)
    warned: list[str] = []
    places = [layer for layer in intact.layers if layer.name != INPUT]
    rows = {NOTHING: _read(intact, intact, split.read, NOTHING, warned)}
    for layer in tqdm(places, unit="layer", desc="erasure matrix", disable=None if progress else True):
        try:
            eraser = fitted_to(intact, layer.name, split.fitted, method, targets, stimulus, rank, seed)
            check_eraser(eraser, layer)
        except IllConditionedError:
            warn(f"erased: {layer.name} is left out: too few images for channels that depend on each other.", warned)
            continue
        except (ArgumentError, ImagesError) as error:
            warn(f"erased: {layer.name} is left out: {error}", warned)
            continue
        behind = [later.name for later in intact.layers if later.depth >= layer.depth]
        chosen = replace(options, layers=behind, progress=False)
        with ablate(model, {layer.name: eraser}, layout=layout), warnings.catch_warnings():
            warnings.simplefilter("ignore", ProbeWarning)  # the intact model has said what there is to say
            erased, _ = collect_statistics(model, images, chosen, grams=True, moments=False)
        rows[layer.name] = _read(intact, erased, split.read, layer.name, warned)
    result = xr.Dataset(
        {
            name: (("erased", "layer", "target"), np.stack([row[part] for row in rows.values()]))
            for part, name in enumerate(("r2", "r2_se"))
        },
        coords={
            "erased": list(rows),
            "layer": [layer.name for layer in intact.layers],
            "target": intact.targets,
            "depth": ("layer", [layer.depth for layer in intact.layers]),
        },
    )
    return finish(
        result,
        kind="erasure_matrix",
        facts=intact.facts.warned(warned),
        settings={**intact.settings, "method": method, "rank": rank, "alpha": _ALPHA, "erased": list(intact.targets)},
        stimulus=stimulus,
        method=method,
    )


def _read(
    intact: Statistics, statistics: Statistics, folds: Sequence[int], erased: str, warned: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return R² in some folds and its standard error, shape (layer of the intact model, target)."""
    unread: list[str] = []
    n_targets = len(intact.targets)
    r2, r2_se = np.full((2, len(intact.layers), n_targets), np.nan)
    found = {name: gram for (_, name), gram in statistics.grams.items()}
    for number, layer in enumerate(intact.layers):
        if layer.name in found and found[layer.name].is_finite:
            try:
                r2[number], r2_se[number] = _scored(found[layer.name], folds, n_targets)
            except IllConditionedError:
                unread.append(layer.name)
    if unread:
        warn(
            f"r2 of {', '.join(unread)} with {erased} erased: too few images for channels that depend on each other. "
            "NaN. Pass more images.",
            warned,
        )
    return r2, r2_se


def _scored(gram: ChannelGram, folds: Sequence[int], n_targets: int) -> tuple[np.ndarray, np.ndarray]:
    none = gram.pilot.new_zeros(len(gram.pilot), 0)
    chosen = erased_gram(gram.as_gram(), Projection(gram.pilot, none, none), folds, n_targets)
    sums = crossed_sums(chosen, n_targets, _ALPHA)
    return sums.r2, sums.r2_se
