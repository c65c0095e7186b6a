"""How well position can be read behind a layer, without some of its channels."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from torch import nn
from tqdm.auto import tqdm

from probe.ablation.hooks import ablate
from probe.ablation.replacement import AblationMode
from probe.errors import ProbeWarning
from probe.models.layers import Layer
from probe.reading.collecting import collect_statistics
from probe.reading.options import Options
from probe.readouts.scores import score_readout

__all__ = ["Estimates", "later_readouts"]

_STIMULUS = "rolled"
_TARGETS = ("row", "column")
_ALPHA = 1e-3


@dataclass(frozen=True)
class Estimates:
    """A score of each setting: `values` of shape (setting,), and `left_out` without each fold, (fold, setting)."""

    values: np.ndarray
    left_out: np.ndarray


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

    Returns
    -------
    dict
        Name of the layer -> its estimates. Those that leave a fold out are means of R² over the other folds.
    """
    chosen = replace(
        options, layers=[later.name for later in behind], stimuli=_STIMULUS, targets=_TARGETS, progress=False
    )
    by_setting = []
    for number, removed in enumerate(tqdm(settings, unit="setting", disable=None if options.progress else True)):
        with warnings.catch_warnings():
            if number:  # the first has said what there is to say of model and images
                warnings.simplefilter("ignore", ProbeWarning)
            channels = {layer.name: np.flatnonzero(removed)}
            with ablate(model, channels, mode=mode, reference=reference, layout=options.layout):
                statistics, _ = collect_statistics(model, images, chosen, grams=True, moments=False)
        grams = [statistics.grams[_STIMULUS, later.name] for later in behind]
        by_setting.append([score_readout(gram, len(_TARGETS), _ALPHA) for gram in grams])
    estimates = {}
    for later, scores in zip(behind, zip(*by_setting, strict=True), strict=True):
        r2 = np.array([score.r2.mean() for score in scores])
        by_fold = np.array([score.r2_fold.mean(axis=0) for score in scores]).T
        n_folds = len(by_fold)
        estimates[later.name] = Estimates(r2, (by_fold.sum(axis=0) - by_fold) / (n_folds - 1))
    return estimates
