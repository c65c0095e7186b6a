"""Whether a model says the same of an image wherever it is shifted."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from probe.axes import AXES
from probe.checks import whole_number
from probe.errors import ArgumentError
from probe.images.labels import LabelCheck, named_classes
from probe.images.rows import Transform
from probe.intervals import half_width, mean_over_images, proportion
from probe.measures.shifted_views import COMPARED, Plan, Readings, Stage, read_views
from probe.models.layers import Layer
from probe.models.loan import Forward
from probe.reading.options import Options
from probe.reading.reader import open_reader
from probe.results import finish

__all__ = ["REFERENCES", "shift_consistency"]

REFERENCES = ("pair", "unshifted")
"""What a shifted image is compared with: the same image at another shift, or as it stands."""

_CHUNK = 1024  # images at a time, whose nearest are sought


def shift_consistency(
    model: nn.Module,
    images: Any,
    *,
    law: str = "crop",
    axes: Sequence[str] = ("row", "column"),
    reach: int | None = None,
    pairs: int | None = None,
    reference: str = "pair",
    diagonal: bool = True,
    labels: bool = False,
    compare: str = "classes",
    stride: int | None = None,
    batch_size: int = 32,
    num_workers: int = 0,
    device: str | torch.device = "auto",
    autocast: str | torch.dtype | None = None,
    transform: Transform | None = None,
    input_key: str | int | None = None,
    forward: Forward | None = None,
    max_images: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Measure how often a model predicts the same of an image at two shifts.

    The commonest uses::

        probe.shift_consistency(model, images)
        probe.shift_consistency(model, data_set, law="circular", reach=4, labels=True)
        probe.shift_consistency(video_model, clips, law="circular", axes=("frame",))

    Each image is shown at pairs of shifts, which are drawn from (seed, image number) and differ, and at every shift
    along the diagonal: 2 · pairs + reach + 1 runs an image for crops, 2 · pairs + 2 · reach + 1 else. Crops are of real
    content at both ends, which also changes what is seen; rolls show the same pixels, with a seam; ``"zero"`` shows an
    edge.

    Parameters
    ----------
    model, images, batch_size, num_workers, device, autocast, transform, input_key, forward, max_images, seed, progress
        As in `probe.collect`. The output is its first tensor, of shape (image, class) or, for an embedding, (image,
        number).
    law
        ``"crop"``: windows of the images, so that these must be `reach` pixels larger than what the model takes;
        ``"circular"``: rolls by −reach to reach; ``"zero"``: moved as far, and filled with 0, after normalisation the
        mean colour; ``"zhang"``, ``"kayhan"``, ``"chaman"``, ``"chaman_zero"``: the published ones, see
        `probe.images.laws.LAWS`. There a pair may coincide, and is shared by the images of a batch of the published
        size, here by as many consecutive image numbers.
    axes
        Along which to shift: by default rows and columns, of clips all frames alike; ``("frame",)`` shifts them in time
        alone, ``("frame", "row", "column")`` along all three.
    reach
        In pixels, or frames; by default an eighth of the shorter side of the images. Published laws have their own.
    pairs
        For each image; by default that of the law, 5 where it is not published.
    reference
        ``"pair"``: both are shifted; ``"unshifted"``: the first is the image as it stands, for crops the central
        window.
    diagonal
        Whether to run the diagonal; without it, the image as it stands is run beside the pairs.
    labels
        Whether the images have labels, as rows (image, label): adds accuracy along the diagonal, and tells images
        apart that the model classifies right and wrong as they stand.
    compare
        ``"classes"``: the largest output; ``"embedding"``: the cosine similarity of the outputs, for models without
        classes.
    stride
        Pixels, or frames, from one cell of the last map to the next, the size of a patch; by default the size of the
        image by that of the last map of several cells, rounded; along each axis its own. Name it where padding is none
        or full.

    Returns
    -------
    xarray.Dataset
        On `subset` (``all`` images; with labels, those ``right`` and ``wrong`` as they stand): ``consistency``, the
        share of pairs with the same prediction, or their mean cosine similarity: 1 if shifts change nothing; by chance
        the share of a class twice (cosine: from −1); never negative for classes. ``unchanged``, for classes: the share
        of images with one prediction at all shifts that were shown. Each with ``_se`` (jackknife over images, or over
        the groups that share draws), ``_low`` and ``_high``, its 95 % interval.

        On `distance`: ``distance_consistency``, that of all windows on the diagonal so many pixels apart along each
        axis; coordinate ``phase``, the distance modulo the stride: what sub-sampling changes comes back at multiples
        of it, what the border and new content change does not. On (row_phase, column_phase), or on those of the axes:
        ``phase_consistency`` of the pairs whose shifts differ by so much modulo the stride, and how many there are,
        ``phase_pairs``.

        With labels, on `diagonal`, the offset along each axis: ``diagonal_accuracy`` with interval;
        ``diagonal_correct`` on (image, diagonal), NaN without a label; and ``accuracy``, the mean over both. For
        embeddings, ``same_neighbour``: the share of images whose nearest among the others (each at its first shift) is
        the same from the first and from the second shift of its first pair.

        For each image by number: ``offset`` on (image, pair, view, axis) and ``same`` on (image, pair), 0 or 1, or the
        cosine.

    Raises
    ------
    ArgumentError, ImagesError, TooLargeError
        Each names the argument, what was found, and the cure.

    References
    ----------
    Zhang: Making Convolutional Networks Shift-Invariant Again. ICML 2019. Kayhan, van Gemert: On Translation Invariance
    in CNNs. CVPR 2020. Chaman, Dokmanić: Truly shift-invariant convolutional neural networks. CVPR 2021. Where both
    shifts of a pair may coincide, which happens once in the attribute ``n_shifts``, consistency is higher.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> from torch import nn
    >>> for padding in ("circular", "zeros"):
    ...     net = nn.Sequential(padded_net(padding), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    ...     result = probe.shift_consistency(net, noise_images(20), law="circular", compare="embedding", progress=False)
    ...     print(padding, result.consistency.item() > 0.99999)
    circular True
    zeros False
    """
    options = Options(
        batch_size=batch_size, num_workers=num_workers, device=device, autocast=autocast, transform=transform,
        input_key=input_key, forward=forward, max_images=max_images, seed=seed, progress=progress,
        task="shift consistency",
    )  # fmt: skip
    _check(pairs, reference, labels, compare, stride)
    along = _check_axes(axes)
    stage = Stage(law, reach, along)
    with open_reader(model, images, options, stage, labels=labels) as reader:
        chosen = stage.law
        assert chosen is not None
        plan = Plan(chosen, pairs or chosen.pairs, reference, diagonal, seed)
        strides = [stride or _stride(reader.found, axis) for axis in along]
        read = read_views(reader, options, stage, plan, compare, LabelCheck(named_classes(images)) if labels else None)
        facts = reader.facts()
    result = _summarise(read, plan, strides, compare)
    told: Any = strides[0] if len(set(strides)) == 1 else strides
    return finish(
        result,
        kind="shift_consistency",
        facts=facts.warned(reader.warned),
        settings={
            "law": law, "reach": chosen.room or chosen.last, "pairs": plan.pairs, "reference": reference,
            "diagonal": diagonal, "labels": labels, "compare": compare, "stride": told,
            "images_sharing_draws": chosen.together, "distinct": chosen.distinct,
            "autocast": options.precision and str(options.precision),
        },
        law=law,
        compare=compare,
        stride=told,
        n_shifts=chosen.n_shifts,
        void_labels=read.void,
    )  # fmt: skip


def _check(pairs: Any, reference: str, labels: bool, compare: str, stride: Any) -> None:
    for name, value in (("pairs", pairs), ("stride", stride)):
        if value is not None:
            whole_number(name, value, 1, otherwise="None or ")
    for name, value, known in (("reference", reference, REFERENCES), ("compare", compare, COMPARED)):
        if value not in known:
            raise ArgumentError(f"{name}={value!r}: expected one of {', '.join(known)}.")
    if not isinstance(labels, bool):
        raise ArgumentError(
            f"labels: expected True or False, found a {type(labels).__name__}. Labels stand in the rows of images=, "
            "for example torch.utils.data.TensorDataset(images, labels)."
        )
    if labels and compare == "embedding":
        raise ArgumentError("labels=True: an embedding has no accuracy. Pass compare='classes', or leave labels out.")


def _check_axes(axes: Any) -> tuple[str, ...]:
    """Return the axes in their order."""
    given = tuple(axes) if isinstance(axes, Iterable) and not isinstance(axes, str) else (axes,)
    if not given or not set(given) <= set(AXES):
        raise ArgumentError(f"axes={axes!r}: expected some of {', '.join(AXES)}.")
    return tuple(axis for axis in AXES if axis in given)


def _stride(found: Sequence[Layer], axis: str) -> int:
    """Return the pixels of the image for each cell along an axis of the last map of several cells along it."""
    place = AXES.index(axis) - len(AXES)
    maps = [layer.size[place] for layer in found if not layer.problem and len(layer.size) >= -place]
    maps = [length for length in maps if length > 1]
    return max(round(maps[0] / maps[-1]), 1) if maps else 1


def _summarise(read: Readings, plan: Plan, strides: Sequence[int], compare: str) -> xr.Dataset:
    order = np.argsort(read.numbers)
    numbers = np.array(read.numbers)[order]
    units = np.unique(numbers // plan.law.together, return_inverse=True)[1]
    same, apart, offsets = (np.concatenate(part)[order] for part in (read.same, read.apart, read.offsets))
    what = "share of pairs of shifts with the same prediction"
    if compare == "embedding":
        what = "mean cosine similarity of the embedding at pairs of shifts"
    parts = {"all": np.ones(len(numbers), dtype=bool)}
    correct = np.concatenate(read.correct)[order] if read.correct else None
    if correct is not None:
        as_it_stands = correct[:, plan.shared.index(plan.law.unshifted)]
        parts |= {"right": as_it_stands == 1, "wrong": as_it_stands == 0}

    def of_parts(values: np.ndarray, comparisons: int) -> list[np.ndarray]:
        chosen = np.stack([np.where(members, values, np.nan) for members in parts.values()], axis=1)
        return _estimate(chosen, units, compare, comparisons)

    found: dict[str, Any] = {
        **_variables("consistency", ("subset",), of_parts(_mean_of_known(same), plan.pairs), what),
        "same": (("image", "pair"), same, _described("whether it is the same, or the cosine, of each pair")),
        "offset": (("image", "pair", "view", "axis"), offsets, {"long_name": "offset of each view", "units": "pixel"}),
        **_by_phase(same, offsets, strides, plan.law.axes, what),
    }
    coordinates: dict[str, Any] = {"subset": list(parts), "image": numbers, "axis": list(plan.law.axes)}
    coordinates |= {f"{axis}_phase": np.arange(stride) for axis, stride in zip(plan.law.axes, strides, strict=True)}
    if apart.shape[1]:
        coordinates["distance"] = np.arange(1, apart.shape[1] + 1)
        coordinates["phase"] = ("distance", coordinates["distance"] % math.lcm(*strides))
        alike = f"{what}, of windows on the diagonal"
        found |= _variables(
            "distance_consistency",
            ("distance",),
            _estimate(apart, units, compare, len(plan.shared) - coordinates["distance"]),
            alike,
        )
    if read.unchanged:
        never = of_parts(np.concatenate(read.unchanged)[order], 1)
        found |= _variables("unchanged", ("subset",), never, "share of images with one prediction at all shifts shown")
    if correct is not None:
        coordinates["diagonal"] = plan.shared
        right = "share of images that are classified right"
        found |= {
            **_variables("diagonal_accuracy", ("diagonal",), _estimate(correct, units, compare), right),
            **_variables(
                "accuracy",
                (),
                _estimate(_mean_of_known(correct), units, compare, len(plan.shared)),
                f"{right}, over all shifts",
            ),
            "diagonal_correct": (("image", "diagonal"), correct, _described("whether it is classified right")),
        }
    if read.first_pair:
        kept = _keeps_neighbour(torch.cat(read.first_pair)[torch.from_numpy(order)])
        nearest = "share of images whose nearest among the others stays the same"
        found |= _variables("same_neighbour", (), _estimate(kept, units, "classes"), nearest)
    return xr.Dataset(found, coordinates)


def _by_phase(
    same: np.ndarray, offsets: np.ndarray, strides: Sequence[int], axes: Sequence[str], what: str
) -> dict[str, Any]:
    """Return the mean and number of pairs by the difference of their shifts modulo the strides."""
    phases = (offsets[:, :, 1] - offsets[:, :, 0]) % np.array(strides)
    cells, n_cells = np.ravel_multi_index(tuple(np.moveaxis(phases, -1, 0)), strides).ravel(), math.prod(strides)
    known = np.isfinite(same).ravel()
    counts = np.bincount(cells[known], minlength=n_cells)
    sums = np.bincount(cells[known], weights=same.ravel()[known], minlength=n_cells)
    means = np.divide(sums, counts, out=np.full(n_cells, np.nan), where=counts > 0)
    dims = tuple(f"{axis}_phase" for axis in axes)
    return {
        "phase_consistency": (dims, means.reshape(strides), _described(f"{what}, by phase of the stride")),
        "phase_pairs": (dims, counts.reshape(strides), _described("number of pairs")),
    }


def _keeps_neighbour(pairs: Tensor) -> np.ndarray:
    """Tell of each image whether its nearest is the same from both views; vectors on (image, view, number)."""
    first, second = pairs.nan_to_num().unbind(dim=1)
    places = torch.arange(len(first), device="cpu")
    kept = []
    for part in places.split(_CHUNK):
        nearest = []
        for views in (first, second):
            similarity = views[part] @ first.T
            similarity[torch.arange(len(part), device="cpu"), part] = -torch.inf
            nearest.append(similarity.argmax(dim=1))
        kept.append(nearest[0] == nearest[1])
    known = ~pairs.isnan().any(dim=(1, 2))
    alone = len(first) < 2
    return torch.cat(kept).double().where(known & (not alone), torch.nan).numpy()


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    counts = known.sum(axis=-1)
    sums = np.where(known, values, 0).sum(axis=-1)
    return np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)


def _estimate(values: np.ndarray, units: np.ndarray, compare: str, comparisons: Any = 1) -> list[np.ndarray]:
    """Return the mean over images on (image, ...), its jackknife error, and its 95 % interval.

    The value of an image is the mean of so many `comparisons`, which count as that many images at most: the error tells
    how far they are independent; shares of 0 and 1, which have no error, tell of images alone.
    """
    mean, error, n_units = mean_over_images(values, units)
    if compare == "embedding":
        half = half_width(error, n_units - 1)
        return [mean, error, np.maximum(mean - half, -1), np.minimum(mean + half, 1)]
    n_images = np.isfinite(values).sum(axis=0)
    counts = np.where((mean > 0) & (mean < 1) & (error > 0), n_images * comparisons, n_images)
    low, high = np.empty(mean.shape), np.empty(mean.shape)
    for place in np.ndindex(mean.shape):
        low[place], high[place] = proportion(mean[place], error[place], float(counts[place]))
    # A single image, or one group that shares its draws, tells nothing of how far others differ.
    return [mean, error, *(np.where(np.isfinite(error), end, np.nan) for end in (low, high))]


def _variables(name: str, dims: tuple[str, ...], estimates: Sequence[np.ndarray], what: str) -> dict[str, Any]:
    parts = {
        "": what,
        "_se": f"standard error of the {what} (jackknife over images)",
        "_low": f"lower end of the 95 % interval of the {what}",
        "_high": f"upper end of the 95 % interval of the {what}",
    }
    return {
        f"{name}{part}": (dims, values, _described(text))
        for (part, text), values in zip(parts.items(), estimates, strict=True)
    }


def _described(long_name: str) -> dict[str, str]:
    return {"long_name": long_name, "units": "1"}
