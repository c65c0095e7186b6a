"""How well position can be read behind a layer, without some of its channels."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from probe.ablation.replacement import AblationMode, replacement_for
from probe.ablation.stacking import Stacked, stacking
from probe.errors import ImagesError, ProbeWarning
from probe.models.layers import Layer
from probe.models.loan import Forward
from probe.models.modules import unwrap
from probe.reading.collecting import collect_statistics
from probe.reading.options import Options
from probe.reading.ranks import Share
from probe.readouts.scores import score_readout

__all__ = ["Estimates", "later_readouts"]

_STIMULUS = "rolled"
_TARGETS = ("row", "column")
_ALPHA = 1e-3


@dataclass(frozen=True)
class Estimates:
    """A score of each setting, and what it is without each fold of images.

    Attributes
    ----------
    values : numpy.ndarray
        Shape (setting,).
    left_out : numpy.ndarray
        Shape (fold, setting).
    sizes : numpy.ndarray
        Shape (fold,). Number of images, or samples, in each fold.
    """

    values: np.ndarray
    left_out: np.ndarray
    sizes: np.ndarray


def later_readouts(
    model: nn.Module,
    images: Any,
    options: Options,
    *,
    layer: Layer,
    behind: Sequence[Layer],
    settings: np.ndarray,
    mode: AblationMode,
    reference: xr.Dataset | None,
    share: Share,
) -> dict[str, Estimates]:
    """Read position from later layers, setting by setting.

    Position is read from rolled images, as content cannot tell it there; the score is the mean R² of row and column.

    Parameters
    ----------
    model, images, options
        As in `probe.collect`; the images are read once for each setting.
    layer
        Where channels are removed.
    behind
        Where position is read.
    settings
        Shape (setting, channel), true where a channel is removed.
    mode, reference
        As in `probe.ablate`.
    share
        What this process reads.

    Returns
    -------
    dict
        Name of the layer -> its estimates.
    """
    chosen = replace(
        options, layers=[later.name for later in behind], stimuli=_STIMULUS, targets=_TARGETS, progress=False
    )
    by_setting = []
    with stacking(unwrap(model), replacement_for(layer, mode, reference), [], options.forward) as stacked:
        bar = tqdm(
            settings, unit="setting", desc=f"{options.task}: position behind", leave=False,
            disable=None if options.progress else True,
        )  # fmt: skip
        for number, removed in enumerate(bar):
            with warnings.catch_warnings():
                if number:  # the first has said what there is to say of model and images
                    warnings.simplefilter("ignore", ProbeWarning)
                without = replace(chosen, forward=_without(stacked, torch.from_numpy(removed)))
                statistics, _ = collect_statistics(model, images, without, grams=True, moments=False, share=share)
            grams = [statistics.grams[_STIMULUS, later.name] for later in behind]
            if empty := int((grams[0].totals[:, 0] == 0).sum()):
                raise ImagesError(
                    f"images: {statistics.facts.n_images} leave {empty} of folds={options.folds} without any, and "
                    "score='position' reads each. Pass more images or groups=, or choose fewer folds=."
                )
            by_setting.append([score_readout(gram, len(_TARGETS), _ALPHA) for gram in grams])
    estimates = {}
    for later, gram, scores in zip(behind, grams, zip(*by_setting, strict=True), strict=True):
        r2 = np.array([score.r2.mean() for score in scores])
        left_out = np.array([score.r2_left_out.mean(axis=0) for score in scores]).T
        estimates[later.name] = Estimates(r2, left_out, gram.totals[:, 0].cpu().numpy())
    return estimates


def _without(stacked: Stacked, removed: Tensor) -> Forward:
    return lambda model, images: stacked.output(images, removed[None])
