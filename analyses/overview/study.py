"""All that can be told of one model, part by part; a part that fails leaves its reason, and the others stand."""

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
import xarray as xr
from torch import nn
from tqdm.auto import tqdm

from probe.ablation.curves import asked_scores
from probe.analyses.data.shown import shown_images
from probe.analyses.overview.parts import PARTS, NotApplicableError, Parts
from probe.analyses.overview.settings import FULL, QUICK
from probe.bundles import bundle
from probe.errors import ArgumentError, IllConditionedError, ImagesError, ProbeError, ProbeWarning, told_once, warn
from probe.images.batches import check_reread
from probe.reading.options import Options
from probe.results import Facts, finish

__all__ = ["run"]

_SHOWN = 3  # images of each kind


def run(
    model: nn.Module,
    images: Any,
    *,
    labelled: Any = None,
    score: Any = None,
    untrained: nn.Module | None = None,
    layer: str | None = None,
    quick: bool = False,
    parts: Iterable[str] = tuple(PARTS),
    max_images: int | None = None,
    transform: Callable[[Any], Any] | None = None,
    batch_size: int = 32,
    device: str | torch.device = "auto",
    seed: int = 0,
    command: str = "",
    progress: bool = True,
) -> xr.Dataset:
    """Measure all that can be told of one model.

    Parameters
    ----------
    model
        A trained model.
    images
        As in `probe.collect`; they are read many times, so no generator.
    labelled
        Images with labels, as the score needs them; by default `images`.
    score
        As in `probe.ablation_curve`; by default ``"accuracy"`` with labels, also where `images` is a folder of as many
        folders as the model has outputs, which are then the classes; else ``"agreement"``, and of a model whose
        ``num_classes`` is 0, as timm's without their head, ``cosine``, the mean similarity of the embeddings of an
        image and of the same after a circular shift.
    untrained
        The same architecture before training, to compare with.
    layer
        Where channels are ranked and directions erased; by default the last that is read and whose output can be put
        back.
    quick
        Measure on at most 200 images, with fewer draws and variants.
    parts
        Of `PARTS`, those to measure.
    max_images, transform, batch_size, device, seed
        As in `probe.collect`.
    command
        The command that was given, for the record.
    progress
        Show one progress bar over all parts.

    Returns
    -------
    xarray.Dataset
        The results of all parts, as `probe.bundles.bundle` joins them; each is that of a function of probe. The
        attribute ``failed`` tells why a part failed, ``absent`` why one does not apply to this model.

    Raises
    ------
    ArgumentError
        If `images` is a generator, or a part or score is unknown.
    ProbeError
        If the first part, on which all others build, fails.
    """
    started = time.monotonic()
    check_reread(images, "each part reads them anew")
    chosen = list(dict.fromkeys(["where", *parts]))
    if unknown := [part for part in chosen if part not in PARTS]:
        raise ArgumentError(f"parts: {unknown[0]!r} is none of {', '.join(PARTS)}.")
    if score is not None:
        asked_scores(score)
    settings = QUICK if quick else FULL
    settings = replace(settings, max_images=max_images or settings.max_images)
    reading: dict[str, Any] = {
        "batch_size": batch_size, "device": device, "transform": transform, "seed": seed,
        "max_images": settings.max_images, "progress": False,
    }  # fmt: skip
    work = Parts(model, images, untrained, layer, settings, reading)
    work.settle_score(labelled, score)
    found: dict[str, xr.Dataset] = {}
    reasons: dict[str, dict[str, str]] = {"failed": {}, "absent": {}}
    said: list[tuple[str, str]] = []
    bar = tqdm(chosen, unit="part", disable=None if progress else True)
    for part in bar:
        bar.set_description(PARTS[part])
        try:
            with warnings.catch_warnings(record=True) as given:
                warnings.simplefilter("always", ProbeWarning)
                found[part] = work.measure(part)
        except NotApplicableError as error:
            reasons["absent"][part] = str(error)
        except IllConditionedError as error:
            few = "too few images for channels that depend on each other."
            if part == "where":
                raise ImagesError(f"images: {few} Pass more images.") from error
            reasons["absent"][part] = few
        except Exception as error:
            if part == "where":
                raise
            reasons["failed"][part] = _reason(error)
        said += [(part, str(one.message)) for one in given if issubclass(one.category, ProbeWarning)]
    warned = told_once(said)
    where = found["where"]
    for part, why in reasons["failed"].items():
        warn(f"{part} failed: {why}", warned)
    whole = bundle(found)
    whole.update(shown_images(images, Options(**{**reading, "max_images": None}), count=_SHOWN))
    facts = replace(Facts.of(where), duration_s=round(time.monotonic() - started, 1))
    return finish(
        whole,
        kind="overview",
        facts=facts.warned(warned),
        settings={
            "quick": quick, "draws": settings.draws, "ranks": settings.ranks, "samples": settings.samples, "seed": seed,
            "score": work.score if isinstance(work.score, str) else list(work.score), "labelled": work.is_labelled,
        },
        command=command,
        layer=work.layer,
        parts=whole.attrs["parts"],
        **reasons,
    )  # fmt: skip


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if isinstance(error, ProbeError) else f"{type(error).__name__}: {text}"
