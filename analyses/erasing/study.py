"""Position erased from a layer by each method, beside random directions and zeroed channels."""

import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn
from torch.utils.data import Subset, TensorDataset
from tqdm.auto import tqdm

from probe.ablation.hooks import ablate
from probe.ablation.performance import resolve_scores
from probe.analyses.data.digits import digit_batches, load_digits, place_digits
from probe.analyses.data.photographs import rows_of
from probe.analyses.data.shown import shown_images
from probe.analyses.erasing.edits import read_edits
from probe.analyses.erasing.matching import matched_shares
from probe.analyses.nets import small_net
from probe.analyses.studies import Study, choose_preset, study_result
from probe.analyses.training import train
from probe.erasing.curve import erasure_curve
from probe.erasing.proof import erasure_proof
from probe.erasing.stronger import stronger_readouts
from probe.errors import ArgumentError, ProbeWarning
from probe.images.rows import Transform
from probe.measures.matching import neighbours
from probe.measures.probing import collect
from probe.reading.options import Options
from probe.readouts.fitted_erasers import fit_eraser
from probe.results import Facts
from probe.sums.statistics import Statistics

__all__ = ["PRESETS", "STUDY", "Preset", "run"]

STUDY = Study(
    name="erasing",
    title="Position taken out of the features",
    question="How much of position can be taken out of a layer's features, what does the network lose, and what do "
    "matching and stronger readouts make of it?",
    source="Methods: N. Belrose et al., “LEACE: Perfect linear concept erasure in closed form”, NeurIPS 2023; "
    "S. Venkataramanan et al., “Franca”, arXiv 2507.14137 (RASA, iterated readouts); INSID3, CVPR 2026 (singular "
    "vectors of a mean map). Their published scores are of models and data that are not measured here.",
    protocol=(
        "An eraser of each method is fitted to the sums of one layer, on rolled and on natural images, and applied at "
        "every cell alike. All follow in closed form from the same sums.",
        "What is left: R² of row and column of a ridge readout that is fitted anew after erasing, in folds of images "
        "that the eraser has not seen.",
        "What it costs: the share of the features' variance that is removed, and the score of the network (of those "
        "trained here, on other images), beside 20 random subspaces of the same rank (2 in the preset tiny) and zeroed "
        "channels (those that correlate most with position, at 2, 4, 8, … of them).",
        "What matching makes of it: how often the most similar cell of another image lies at the same place, and how "
        "often a cell finds itself again in the same image under a random homography, within one cell.",
        "What stronger readouts find: linear of 3×3 cells, and a perceptron. Two ways beyond one linear map of a cell "
        "are tried: LEACE of 3×3 cells, and one mean and variance at every position.",
    ),
    departures=(
        "RASA learns its readouts by gradient descent with a sigmoid, on features of natural crops; here each is the "
        "least squares solution.",
        "INSID3 takes the features of one blank image, normalised; here the mean map over images.",
    ),
    times={"tiny": "10 s", "quick": "2 min on 2 CPU cores", "paper": "15 min on 2 CPU cores"},
)

_QUANTITIES = ("r2_rolled", "r2_natural", "cost", "score", "same_place_rolled", "same_place_natural", "matched")
_LAYER = "relu3"


@dataclass(frozen=True)
class Preset:
    """How many networks are trained, and how much is measured of each.

    Attributes
    ----------
    seeds
        Number of networks.
    steps
        Of training.
    n_images
        Images to which erasers are fitted, and as many to score.
    ranks
        Directions that are erased.
    draws
        Random subspaces.
    samples
        Cells that perceptrons are shown.
    """

    seeds: int
    steps: int
    n_images: int
    ranks: tuple[int, ...]
    draws: int
    samples: int


PRESETS = {
    "tiny": Preset(seeds=1, steps=10, n_images=40, ranks=(2,), draws=2, samples=400),
    "quick": Preset(seeds=2, steps=500, n_images=400, ranks=(2, 8), draws=20, samples=10_000),
    "paper": Preset(seeds=5, steps=2000, n_images=1000, ranks=(2, 4, 8, 16), draws=20, samples=40_000),
}


@dataclass(frozen=True)
class _Subject:
    """A network, the images that erasers are fitted to, and those that it is scored and matched on."""

    model: nn.Module
    fitting: Any
    scored: Any
    layer: str
    score: Any


def run(
    model: nn.Module | None = None,
    images: Any = None,
    *,
    scored: Any = None,
    layers: str | Sequence[str] | None = None,
    score: Any = None,
    preset: str = "quick",
    seeds: int | None = None,
    ranks: Sequence[int] | None = None,
    max_images: int | None = None,
    transform: Transform | None = None,
    batch_size: int = 32,
    device: str | torch.device = "auto",
    progress: bool = True,
    command: str = "",
) -> xr.Dataset:
    """Erase position from a layer by each method, and measure what is left and what it costs.

    Parameters
    ----------
    model
        A trained model. By default small networks that are trained on digits, one a seed.
    images
        For a given model, as in `probe.collect`; read many times. Every second one is kept from what is tried beyond
        single cells, to be read.
    scored
        What the model is scored and matched on; by default `images`. With labels, where the score needs them.
    layers
        For a given model, the layer; one alone.
    score
        For a given model, one as in `probe.erasure_curve`; None for none.
    preset
        ``"tiny"``, ``"quick"`` or ``"paper"``.
    seeds
        Number of networks; by default that of the preset. For a given model one.
    ranks
        Directions to erase; by default those of the preset.
    max_images, transform, batch_size, device, progress
        As in `probe.collect`.
    command
        The command that was given, for the record.

    Returns
    -------
    xarray.Dataset
        See `probe.analyses.studies.study_result`: ``here``, on (eraser, quantity). ``eraser`` is ``intact``, or names
        method, rank and what it was fitted to; the quantities are R² of row and column left on rolled and natural
        images, the cost in variance, the score, how often the nearest cell lies at the same place on rolled and
        natural images, and the share of cells that is matched right under a homography. Beside it, by seed: their
        standard errors over images ``error``; ``random_score`` and ``random_r2`` of the draws; ``readers_r2`` of
        stronger readouts, ``edits_r2`` of what is tried beyond single cells.

    Raises
    ------
    ArgumentError
        If the preset is unknown, a model comes without images and one layer or with several scores, or an argument
        would have no effect.
    """
    started = time.monotonic()
    if model is not None and seeds is not None:
        raise ArgumentError(f"seeds={seeds!r}: a given model is not trained, so it would have no effect. Leave it out.")
    chosen = choose_preset(PRESETS, preset, 1 if model is not None else seeds)
    if ranks is not None:
        chosen = replace(chosen, ranks=tuple(ranks))
    named = [layers] if isinstance(layers, str) else list(layers or [])
    if (model is None) != (images is None) or (model is not None) != (len(named) == 1) or len(named) > 1:
        raise ArgumentError(
            "model, images, layers: give all three, of layers one, or none of them for small networks of digits."
        )
    if model is None and (score is not None or scored is not None):
        raise ArgumentError("score, scored: without a model they would have no effect. Pass a model as well.")
    if score is not None and len(names := resolve_scores(score)) > 1:
        raise ArgumentError(f"score: {', '.join(names)} given, and the study records one. Run it for each.")
    reading: dict[str, Any] = {
        "transform": transform, "batch_size": batch_size, "device": device, "max_images": max_images, "progress": False,
    }  # fmt: skip
    if model is None:
        subjects = _of_digits(chosen)
    else:
        images = rows_of(images)
        subjects = [_Subject(model, images, images if scored is None else scored, named[0], score)]
    measured = []
    for seed, subject in enumerate(tqdm(subjects, unit="network", desc="erasing", disable=None if progress else True)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ProbeWarning)
            measured.append(_measure(subject, chosen, {**reading, "seed": seed}))
    whole = xr.concat([values for values, _ in measured], xr.Variable("seed", np.arange(len(measured))))
    here = whole.value.transpose("seed", "eraser", "quantity")
    here.attrs = {"long_name": "R², score or share", "units": "1"}
    others = {str(name): whole[name] for name in whole.data_vars if name != "value"}
    shown = shown_images(subjects[0].fitting, Options(**{**reading, "layers": subjects[0].layer}))
    return study_result(
        STUDY,
        xr.full_like(here.isel(seed=0, drop=True), np.nan),
        here,
        preset=preset,
        settings={**asdict(chosen), "layer": subjects[0].layer, "score": str(subjects[0].score)},
        started=started,
        others=others | {"shown_image": shown.shown_image},
        facts=measured[0][1] if model is not None else None,
        command=command,
    )


def _of_digits(chosen: Preset) -> list[_Subject]:
    training, held_out = load_digits()
    subjects = []
    for seed in range(chosen.seeds):
        net = small_net(seed=seed)
        train(net, digit_batches(training, steps=chosen.steps, batch_size=64, seed=seed), steps=chosen.steps)
        generator = torch.Generator().manual_seed(1000 + seed)
        fitting = torch.randint(len(training), (chosen.n_images,), generator=generator)
        scored = torch.randint(len(held_out), (chosen.n_images,), generator=generator)
        subjects.append(
            _Subject(
                net,
                place_digits(training.strokes[fitting], generator),
                TensorDataset(place_digits(held_out.strokes[scored], generator), held_out.labels[scored]),
                _LAYER,
                "accuracy",
            )
        )
    return subjects


def _measure(subject: _Subject, chosen: Preset, reading: dict[str, Any]) -> tuple[xr.Dataset, Facts]:
    statistics = collect(subject.model, subject.fitting, layers=subject.layer, **reading)
    n_channels = statistics.layers[0].n_channels
    powers = [2**power for power in range(1, n_channels.bit_length()) if 2**power < n_channels]
    settings = {"fit_stimuli": ("rolled", "natural"), "draws": chosen.draws}
    curves = [
        _curve(subject, statistics, ("leace", "cells", "iterated", "mean_map"), chosen.ranks, settings, reading),
        _curve(subject, statistics, ("channels",), powers, {**settings, "fit_stimuli": "rolled"}, reading),
    ]
    rows = {"intact": _intact(curves[0])}
    for curve in curves:
        for number in range(curve.sizes["eraser"]):
            one = curve.isel(eraser=number)
            rows[f"{one.method.item()} {int(one.n_directions)}, {one.fitted_to.item()}"] = _of_eraser(one)
    _add_matching(rows, subject, statistics, chosen, reading)
    found = xr.Dataset(
        {
            "value": (("eraser", "quantity"), [[row[name][0] for name in _QUANTITIES] for row in rows.values()]),
            "error": (
                ("eraser", "quantity"),
                [[row[name][1] for name in _QUANTITIES] for row in rows.values()],
                {"long_name": "standard error over images", "units": "1"},
            ),
        },
        coords={"eraser": list(rows), "quantity": list(_QUANTITIES)},
    )
    found["random_r2"] = curves[0].r2_random.sel(target=["row", "column"]).mean("target")
    if "random" in curves[0]:
        found["random_score"] = curves[0]["random"].isel(score=0, drop=True)
    return found.merge(_read(subject, chosen, reading)), statistics.facts


def _curve(
    subject: _Subject,
    statistics: Statistics,
    methods: Sequence[str],
    ranks: Sequence[int],
    settings: dict[str, Any],
    reading: dict[str, Any],
) -> xr.Dataset:
    if subject.score is None:
        return erasure_proof(statistics, subject.layer, methods=methods, ranks=ranks, **settings)
    return erasure_curve(
        subject.model, subject.scored, subject.layer, score=subject.score, statistics=statistics, methods=methods,
        ranks=ranks, **settings, **reading,
    )  # fmt: skip


def _mean_r2(one: xr.Dataset, name: str, stimulus: str) -> tuple[float, float]:
    """Return R², mean of row and column, and an error that is not below that of either."""
    read = one.sel(stimulus=stimulus, target=["row", "column"])
    return float(read[name].mean("target")), float(read[f"{name}_se"].max("target"))


def _intact(curve: xr.Dataset) -> dict[str, tuple[float, float]]:
    row = {f"r2_{name}": _mean_r2(curve, "r2_before", name) for name in ("rolled", "natural")}
    row["cost"] = (0.0, 0.0)
    row["score"] = _of_score(curve, "intact")
    return row


def _of_eraser(one: xr.Dataset) -> dict[str, tuple[float, float]]:
    row = {f"r2_{name}": _mean_r2(one, "r2", name) for name in ("rolled", "natural")}
    row["cost"] = (float(one.cost.sel(stimulus=str(one.fitted_to.item()))), np.nan)
    row["score"] = _of_score(one, "erased")
    return row


def _of_score(one: xr.Dataset, name: str) -> tuple[float, float]:
    if name not in one:
        return np.nan, np.nan
    return float(one[name].isel(score=0)), float(one[f"{name}_se"].isel(score=0))


def _add_matching(
    rows: dict[str, dict[str, tuple[float, float]]],
    subject: _Subject,
    statistics: Statistics,
    chosen: Preset,
    reading: dict[str, Any],
) -> None:
    """Add how cells are matched; NaN for zeroed channels."""
    options = Options(**{**reading, "layers": subject.layer})
    for name, row in rows.items():
        row |= {quantity: (np.nan, np.nan) for quantity in _QUANTITIES if quantity not in row}
        method, rank, fitted = _parts(name)
        if method == "channels":
            continue
        context: Any = nullcontext()
        if method != "intact":
            given: dict[str, Any] = {"method": "leace", "targets": "cells"} if method == "cells" else {"method": method}
            eraser = fit_eraser(statistics, subject.layer, stimulus=fitted, rank=rank, **given)
            context = ablate(subject.model, {subject.layer: eraser})
        with context:
            places = neighbours(subject.model, subject.scored, subject.layer, **reading).isel(layer=0)
            shares = matched_shares(subject.model, subject.scored, options)
        for stimulus in ("rolled", "natural"):
            at = places.sel(stimulus=stimulus)
            row[f"same_place_{stimulus}"] = (float(at.same_place), float(at.same_place_se))
        row["matched"] = (float(shares.mean()), float(shares.std(ddof=1) / len(shares) ** 0.5))


def _parts(name: str) -> tuple[str, int, str]:
    if name == "intact":
        return name, 0, ""
    method, rank, fitted = name.replace(",", "").split(" ")
    return method, int(rank), fitted


def _read(subject: _Subject, chosen: Preset, reading: dict[str, Any]) -> xr.Dataset:
    """Return what stronger readouts find after erasing, and after what is tried beyond single cells."""
    readers: dict[str, Any] = {"samples": chosen.samples, "seeds": 2}
    read = stronger_readouts(
        subject.model,
        subject.fitting,
        subject.layer,
        methods=("leace", "cells"),
        ranks=chosen.ranks,
        **readers,
        **reading,
    )
    names = [
        "intact" if str(method) == "intact" else f"{method} {int(rank)}, rolled"
        for method, rank in zip(read.method.values, read.n_directions.values, strict=True)
    ]
    by_reader = read[["r2", "r2_se"]].assign_coords(eraser=names).rename(eraser="read_eraser")
    found = by_reader.drop_vars(["method", "n_directions"]).rename(r2="readers_r2", r2_se="readers_r2_se")
    first, second = (_every_second(subject.fitting, start) for start in (0, 1))
    with_edits = read_edits(
        subject.model, first, second, subject.layer, stimulus="rolled", options=reading, **readers
    ).isel(stimulus=0, drop=True)
    return found.merge(with_edits.rename(r2="edits_r2", r2_se="edits_r2_se"))


def _every_second(images: Any, start: int) -> Any:
    if isinstance(images, torch.Tensor | np.ndarray):
        return images[start::2]
    return Subset(images, range(start, len(images), 2))
