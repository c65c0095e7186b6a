"""Which padding puts position into a network: the same architecture, trained or run under each of them."""

import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn
from tqdm.auto import tqdm

from probe.analyses.data.digits import CANVAS, Digits, digit_batches, load_digits, place_digits
from probe.analyses.data.shown import shown_images
from probe.analyses.nets import small_net
from probe.analyses.padding_comparison.joining import MeasuredNetwork, join_networks, warnings_of
from probe.analyses.predictions import Predictions, predict, rolled_agreement
from probe.analyses.studies import Study, beside_published, check_paddings, choose_preset
from probe.analyses.training import LEARNING_RATE, side_by_side, train
from probe.errors import ArgumentError, PaddingError, ProbeWarning, warn
from probe.images.batches import check_reread
from probe.measures.probing import channelwise, collect, layerwise
from probe.reading.options import Options
from probe.variants.padding import PADDINGS, with_padding

__all__ = ["PRESETS", "STUDY", "Preset", "run"]

STUDY = Study(
    name="padding_comparison",
    title="Which padding tells a network where things are?",
    question="Which padding puts position into a network, and how much of what it seems to know is content?",
    source="",
    protocol=(
        "Small networks are trained on handwritten digits under each padding, those of one seed from the same weights "
        "and on the same images in the same order.",
        "Position is read from each layer of each, trained and untrained, on natural and on rolled images.",
    ),
    departures=("It is our own: there are no published numbers.",),
    times={"tiny": "2 s", "quick": "1 min on 2 CPU cores", "paper": "12 min on 2 CPU cores"},
)

_TARGETS = ("row", "column")
_STIMULI = ("natural", "rolled")
_AGREEMENT_IMAGES = 1000
_PLACEMENT_SEED = 1_000_000  # far from the seeds of the training images


@dataclass(frozen=True)
class Preset:
    """How many networks are trained for each padding, how long, and on how many held-out images they are measured."""

    seeds: int
    steps: int
    batch_size: int
    n_images: int


PRESETS = {
    "tiny": Preset(seeds=1, steps=4, batch_size=16, n_images=60),
    "quick": Preset(seeds=3, steps=220, batch_size=64, n_images=450),
    "paper": Preset(seeds=10, steps=880, batch_size=64, n_images=450),
}
"""One for tests, which teaches the networks nothing; the one of the report; and a longer one."""


def run(
    model: nn.Module | None = None,
    images: Any = None,
    *,
    untrained: nn.Module | None = None,
    paddings: Sequence[str] = PADDINGS,
    seeds: int | None = None,
    preset: str = "quick",
    labels: Sequence[int] | None = None,
    alpha: float = 1e-3,
    command: str = "",
    progress: bool = True,
    **options: Any,
) -> xr.Dataset:
    """Compare paddings: how well position can be read, layer by layer, on natural and on rolled images.

    Without a model, small networks are trained on handwritten digits, for each padding one a seed. Networks of one
    seed start from the same weights and see the same images in the same order; they differ in padding alone. With a
    model, the same trained weights are run under each padding.

    Parameters
    ----------
    model
        A trained model. Its weights belong to the padding that it was trained with; what another padding would have
        taught it cannot be seen so.
    images
        For a given model, as in `probe.collect`; they are read once for each padding, so no generator.
    untrained
        For a given model, the same architecture before training.
    paddings
        Names from ``probe.PADDINGS``. One under which a given model cannot run is left out and recorded in the
        attribute ``failed``.
    seeds
        Number of networks to train for each padding; by default as many as the preset says.
    preset
        ``"tiny"``, ``"quick"`` or ``"paper"``: size of training and measurement.
    labels
        For a given classifier, the class of each image. By default those of a folder with as many folders in it as
        the model has outputs, in sorted order, or of a Dataset with ``targets``; else accuracy is not known.
    alpha
        Ridge penalty, as in `probe.layerwise`.
    command
        The command that was given, for the record.
    progress
        Show a progress bar on a terminal or in a notebook.
    **options
        As in `probe.collect`.

    Returns
    -------
    xarray.Dataset
        On (padding, seed, training, layer, stimulus, target): the scores of `probe.layerwise`; on (padding, seed,
        training, channel, stimulus): ``omega2`` and ``omega2_se``, with the coordinates ``channel_layer`` and
        ``channel_index``; on (padding, seed), of classifiers: ``accuracy`` where labels are known, ``agreement`` of
        the predictions at two shifts, and of a given model ``agreement_with_own``, the share of predictions that are
        as under its own padding, and ``commonest_share``, that of the most frequent prediction. The attributes
        ``intact`` and ``chance`` hold the same shares of the model as it is, and of a constant answer. Maps of the
        last layer of trained networks: of the padding number i, ``decoded_map_i``, and ``mean_map_i`` for the
        channels ``strongest_channel``. ``height`` and ``width`` of the layers are on (padding, layer). As in every
        study, ``here`` is the mean over seeds of the R² of position, the mean of row and column, with ``here_sd`` and
        ``here_by_seed``; ``published`` is NaN.

    Raises
    ------
    ArgumentError
        If a padding or preset is unknown, `seeds` is below 1, or a model comes without images or with a generator.
    PaddingError
        If the model runs under none of the paddings.

    Examples
    --------
    >>> result = run(paddings=["zeros", "circular"], seeds=1, preset="tiny", progress=False)
    >>> dict(result.r2.sizes)
    {'padding': 2, 'seed': 1, 'training': 2, 'layer': 5, 'stimulus': 2, 'target': 2}
    """
    start = time.monotonic()
    chosen = choose_preset(PRESETS, preset, seeds)
    _check(model, images, labels, paddings)
    measure = _Measure(alpha, {"targets": _TARGETS, "stimuli": _STIMULI, **options})
    failed: dict[str, str] = {}
    warned: list[str] = []
    own = None
    if model is None:
        images, _, _ = _shown_digits(load_digits()[1], chosen.n_images, seed=0)
        networks = list(_digit_networks(measure, paddings, chosen, progress))
    else:
        own = Predictions.of(model, images, Options(**measure.options), labels)
        networks = list(_given_networks(measure, model, untrained, images, own, paddings, progress, failed, warned))
    if not networks:
        reasons = "; ".join(f"{padding}: {reason}" for padding, reason in failed.items())
        raise PaddingError(f"paddings: the model runs under none of them. {reasons}")
    shown = shown_images(images, Options(**measure.options))
    result = join_networks(
        networks,
        warnings=warned + warnings_of(networks),
        settings=_settings(networks[0], paddings, None if model is not None else chosen),
        analysis=STUDY.name,
        preset=preset if model is None else "",
        networks="digits" if model is None else "given",
        own_padding="" if model is None else _own_padding(model),
        intact={} if own is None else own.intact,
        chance={} if own is None else own.chance,
        failed=failed,
        seeds=sorted({network.key[1] for network in networks}),
        command=command,
    ).assign(shown)
    here = result.r2.mean("target", skipna=False).assign_attrs(long_name="R² of position", units="1")
    result.update(beside_published(here.mean("seed") * np.nan, here))
    result.attrs["duration_s"] = round(time.monotonic() - start, 1)
    return result


def _check(model: nn.Module | None, images: Any, labels: Any, paddings: Sequence[str]) -> None:
    check_paddings(paddings)
    if model is None and labels is not None:
        raise ArgumentError("labels: given without a model; the embedded networks have their own.")
    if model is None and images is not None:
        raise ArgumentError("images: given without a model; the embedded networks see digits. Pass a model as well.")
    if model is not None and images is None:
        raise ArgumentError("images: none given beside a model. Pass a tensor, Dataset, DataLoader or folder.")
    if model is not None:
        check_reread(images, "each padding reads them anew")


@dataclass(frozen=True)
class _Measure:
    """How every network is measured."""

    alpha: float
    options: dict[str, Any]

    def __call__(
        self,
        model: nn.Module,
        images: Any,
        key: tuple[str, int, str],
        *,
        progress: bool = False,
        **shares: float,
    ) -> MeasuredNetwork:
        """Measure the network that is `which` (padding, seed, training), in one reading of the images."""
        # Rolls of their own for each seed, so that its error over seeds holds what rolls contribute.
        statistics = collect(model, images, progress=progress, **{"seed": key[1], **self.options})
        last = statistics.layers[-1].name
        layers, channels = layerwise(statistics, alpha=self.alpha, maps=last), channelwise(statistics)
        return MeasuredNetwork(key, layers, channels, shares)


def _digit_networks(
    measure: _Measure, paddings: Sequence[str], preset: Preset, progress: bool
) -> Iterator[MeasuredNetwork]:
    """Train and measure a network for each padding and seed, and measure its untrained twin."""
    training, held_out = load_digits()
    shown = {seed: _shown_digits(held_out, preset.n_images, seed) for seed in range(preset.seeds)}
    key = [(padding, seed) for padding in paddings for seed in range(preset.seeds)]
    # Made here, since the random state is shared by all threads.
    models = [with_padding(small_net(seed=seed), padding) for padding, seed in key]
    twins = [with_padding(small_net(seed=seed), padding) for padding, seed in key]
    with (
        side_by_side() as pool,
        tqdm(total=len(key), unit="network", desc="digits", disable=None if progress else True) as bar,
    ):
        trained = []
        for (_, seed), model in zip(key, models, strict=True):
            batches = digit_batches(training, steps=preset.steps, batch_size=preset.batch_size, seed=seed)
            trained.append(pool.submit(train, model, batches, steps=preset.steps))
        for (padding, seed), model, twin, done in zip(key, models, twins, trained, strict=True):
            images, placed_anew, labels = shown[seed]
            yield measure(twin, images, (padding, seed, "untrained"))
            done.result()
            predicted = predict(model, images)
            yield measure(
                model,
                images,
                (padding, seed, "trained"),
                accuracy=float((predicted == labels).float().mean()),
                agreement=float((predicted == predict(model, placed_anew)).float().mean()),
            )
            bar.update()


def _shown_digits(held_out: Digits, n_images: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the digits that the networks of a seed are measured on, at two independent placements, and their labels.

    Each seed has digits, placements and rolls of its own: an error over seeds that share them would leave out what
    the images contribute. Networks of one seed share them, so that paddings are compared on the same images.
    """
    generator = torch.Generator().manual_seed(_PLACEMENT_SEED + seed)
    chosen = torch.randperm(len(held_out.labels), generator=generator)[:n_images]
    strokes = held_out.strokes[chosen]
    return place_digits(strokes, generator), place_digits(strokes, generator), held_out.labels[chosen]


def _given_networks(
    measure: _Measure,
    model: nn.Module,
    untrained: nn.Module | None,
    images: Any,
    own: Predictions,
    paddings: Sequence[str],
    progress: bool,
    failed: dict[str, str],
    warned: list[str],
) -> Iterator[MeasuredNetwork]:
    """Measure the given weights under each padding; note where they cannot run, and of what conversion warned."""
    options = Options(**measure.options)
    limit = min(options.max_images or _AGREEMENT_IMAGES, _AGREEMENT_IMAGES)
    for padding in tqdm(paddings, unit="padding", desc="paddings", disable=None if progress else True):
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ProbeWarning)
                swapped = with_padding(model, padding)
            for warning in caught:
                warn(str(warning.message), warned)
            shares = own.compare(swapped, images, options)
            shares["agreement"] = rolled_agreement(swapped, images, replace(options, max_images=limit))
            yield measure(swapped, images, (padding, options.seed, "trained"), progress=progress, **shares)
            if untrained is not None:
                with warnings.catch_warnings(action="ignore", category=ProbeWarning):  # the same as before
                    twin = with_padding(untrained, padding)
                yield measure(twin, images, (padding, options.seed, "untrained"), progress=progress)
        except PaddingError as error:
            failed[padding] = str(error)


def _own_padding(model: nn.Module) -> str:
    """Return the padding modes of the model as it was given."""
    modes: set[str] = {
        module.padding_mode
        for module in model.modules()
        if isinstance(module, nn.Conv2d) and module.padding not in ("valid", 0, (0, 0))
    }
    modes |= {_PADDING_LAYERS[type(module)] for module in model.modules() if type(module) in _PADDING_LAYERS}
    return ", ".join(sorted(modes)) or "none"


_PADDING_LAYERS: dict[type[nn.Module], str] = {
    nn.ZeroPad2d: "zeros",
    nn.ReflectionPad2d: "reflect",
    nn.ReplicationPad2d: "replicate",
    nn.CircularPad2d: "circular",
}


def _settings(network: MeasuredNetwork, paddings: Sequence[str], preset: Preset | None) -> dict[str, Any]:
    probing = json.loads(network.layers.attrs["settings"])
    shared = {name: value for name, value in probing.items() if name not in ("model", "weights_digest")}
    training = {} if preset is None else {**asdict(preset), "learning_rate": LEARNING_RATE, "canvas": CANVAS}
    return {"paddings": list(paddings), "probing": shared, **({"training": training} if training else {})}
