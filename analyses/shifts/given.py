"""A given model on shifted images, beside copies of it with another padding or another sampling."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn
from torch.utils.data import TensorDataset
from tqdm.auto import tqdm

from probe.analyses.data.photographs import rows_of
from probe.analyses.predictions import find_labels, predicted_classes
from probe.analyses.shifts.scores import about, numbers_of
from probe.analyses.studies import on_dims
from probe.errors import ArgumentError, ImagesError, ModelError, PaddingError, ProbeWarning, warn
from probe.images.folders import Unreadable
from probe.images.rows import Transform, as_tensor, image_in
from probe.measures.consistency import shift_consistency
from probe.models.modules import unwrap
from probe.reading.options import Options
from probe.results import Facts
from probe.variants.padding import with_padding
from probe.variants.sampling import with_sampling

__all__ = ["OWN", "measure_given"]

OWN = "as it is"
"""What a given model is called beside its copies."""


class _Labelled(torch.utils.data.Dataset[Any]):
    """Rows (image, class) of images whose classes are known."""

    def __init__(self, images: Any, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        row = self.images[index]
        if isinstance(row, Unreadable):
            return row
        return image_in(row, None), int(self.labels[index])


def measure_given(
    model: nn.Module,
    images: Any,
    *,
    labels: Sequence[int] | None,
    paddings: Sequence[str],
    pairs: int,
    reach: int,
    max_images: int | None,
    transform: Transform | None,
    device: str | torch.device,
    progress: bool,
) -> tuple[xr.Dataset, Facts, list[str]]:
    """Test a model and its copies; say of which there is none.

    Parameters
    ----------
    model, images, labels, paddings, max_images, transform, device, progress
        As in `probe.analyses.shifts.study.run`.
    pairs, reach
        Of shifts, for each image; and the largest shift.

    Returns
    -------
    tuple
        The numbers on (seed, net, arm), of which model and images they are, and what there was to warn of.
    """
    rows = rows_of(images)
    warned: list[str] = []
    given: dict[str, Any] = {
        "law": "crop", "reach": reach, "pairs": pairs, "transform": transform, "device": device,
        "max_images": max_images, "progress": False,
    }  # fmt: skip
    known = _known_labels(model, images, labels)
    if known is not None:
        rows = _Labelled(rows, known)
    middles = Options(
        transform=_middle_of(transform, reach),
        device=str(device),
        max_images=given["max_images"],
        progress=False,
    )
    # A tensor of images takes no transform, its rows do.
    each = TensorDataset(torch.as_tensor(rows)) if isinstance(rows, torch.Tensor | np.ndarray) else rows
    own = np.zeros(0, dtype=int)
    variants = _variants(paddings)
    numbers: dict[str, xr.Dataset] = {}
    facts = Facts()
    for arm, make in tqdm(variants.items(), unit="copy", desc="shifts", disable=None if progress else True):
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ProbeWarning)
                copy = make(model)
                result = shift_consistency(copy, rows, labels=known is not None, **given)
                _, classes, _ = predicted_classes(copy, each, middles)
        except (ModelError, PaddingError) as error:
            if arm == OWN:
                raise
            warn(f"{arm}: there is no such copy. {error}", warned)
            continue
        for warning in caught:
            warn(f"{arm}: {warning.message}", warned)
        if arm == OWN:
            facts = _facts(result, device)
            own = classes
        numbers[arm] = numbers_of({"consistency": result}, copy, None)
        same = 100 * float((classes == own).mean())
        numbers[arm]["agreement"] = ((), same, about("prediction of the model as it is"))
        counts = np.unique(classes, return_counts=True)[1]
        numbers[arm]["commonest"] = ((), 100 * float(counts.max() / counts.sum()), about("commonest prediction"))
    by_place: dict[str, Sequence[Any]] = {"seed": [0], "net": [type(unwrap(model)).__name__], "arm": list(numbers)}
    return on_dims(list(numbers.values()), by_place), facts, warned


def _middle_of(transform: Transform | None, room: int) -> Transform:
    """Return what shows the window that stands in the middle."""

    def middle(image: Any) -> torch.Tensor:
        pixels = as_tensor(transform(image) if transform else image)
        start = room // 2
        return pixels[:, start : pixels.shape[1] - room + start, start : pixels.shape[2] - room + start]

    return middle


def _known_labels(model: nn.Module, images: Any, labels: Sequence[int] | None) -> np.ndarray | None:
    """Return the class of each image, if it is known."""
    if labels is not None:
        length = len(rows_of(images))
        if len(labels) != length:
            raise ArgumentError(f"labels: {len(labels)} found, {length} expected, one for each image.")
        return np.asarray(labels)
    linear = [module for module in unwrap(model).modules() if isinstance(module, nn.Linear)]
    if not linear:
        return None
    try:
        return find_labels(images, linear[-1].out_features)
    except ImagesError:
        return None


def _variants(paddings: Sequence[str]) -> dict[str, Any]:
    """Return by its name how each copy is made."""

    def padded(padding: str) -> Any:
        return lambda model: with_padding(model, padding)

    def sampled(sampling: str) -> Any:
        return lambda model: with_sampling(model, sampling)

    return {
        OWN: lambda model: model,
        **{padding: padded(padding) for padding in paddings},
        "blur": sampled("blur"),
        "polyphase": sampled("polyphase"),
        "circular, polyphase": lambda model: with_padding(with_sampling(model, "polyphase"), "circular"),
    }


def _facts(result: xr.Dataset, device: str | torch.device) -> Facts:
    attributes = result.attrs
    return Facts(
        model=attributes["model"], weights_digest=attributes["weights_digest"], n_images=int(attributes["n_images"]),
        images_digest=attributes["images_digest"], device=str(attributes["device"]),
    )  # fmt: skip
