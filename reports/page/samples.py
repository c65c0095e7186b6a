"""What R² means, and which come from too few samples to be trusted."""

import numpy as np
import xarray as xr

from probe.reports.page.estimates import joined
from probe.results import FEW_IMAGES, FEW_SAMPLES

__all__ = ["R2_MEANING", "THIN_COLOUR", "is_thin", "sample_notes", "thin_layers"]

R2_MEANING = (
    "How well position can be read. A linear readout (ridge regression on standardised channels) predicts the row and "
    "the column of each cell of a layer's map, in [−1, 1], from the values of the channels at that cell, on images "
    "that it was not fitted to. R² = 1 − Σ e₁·e₂ / SST, where e₁ and e₂ are the errors of two readouts fitted to "
    "separate halves of the other images: what either overfits cancels, so that without position 0 is expected, "
    "however few the images. 1: position can be read exactly; 0: not at all; below 0: by chance."
)
THIN_COLOUR = "0.7"
_MOST_NAMED = 6


def thin_layers(result: xr.Dataset) -> list[str]:
    """Return the layers whose readout saw too few samples for each channel."""
    if "samples_per_feature" not in result.coords:
        return []
    samples = result.samples_per_feature
    least = samples.min([dim for dim in samples.dims if dim != "layer"])
    return [str(name) for name in result.layer.values[least.values < FEW_SAMPLES]]


def sample_notes(result: xr.Dataset, n_images: int) -> list[str]:
    """Say which R² come from few samples or few images.

    Parameters
    ----------
    result
        With the coordinate ``samples_per_feature`` of its layers.
    n_images
        That the readouts were made from.
    """
    notes = []
    if thin := thin_layers(result):
        named = joined(thin) if len(thin) <= _MOST_NAMED else f"{', '.join(thin[:_MOST_NAMED])} and others"
        notes.append(
            f"Few samples: in {len(thin)} of {result.sizes['layer']} layers ({named}) the readout saw fewer than "
            f"{FEW_SAMPLES} samples for each channel. R² there, grey in the figures, underestimates what can be read."
        )
    if 0 < n_images < FEW_IMAGES:
        notes.append(
            f"Few images: R² was read from {n_images}. The cells of one image are alike, so that errors "
            "and intervals are rough; no position found here is no proof that there is none."
        )
    return notes


def is_thin(result: xr.Dataset) -> np.ndarray:
    """Return for each layer whether its readout saw too few samples."""
    return np.isin(result.layer.values.astype(str), thin_layers(result))
