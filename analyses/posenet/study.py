"""How much position information networks encode: PosENet, by gradient descent and in closed form."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torchvision
import xarray as xr
from torch import nn
from tqdm.auto import tqdm

from probe.analyses.data.shown import keep_shown
from probe.analyses.posenet.images import FeatureSource, find_images, resized, sources_to_test
from probe.analyses.posenet.numbers import PUBLISHED
from probe.analyses.posenet.readouts import BlockReader, ClosedForm, Descent
from probe.analyses.posenet.scores import MEASURES, TRAININGS, Scores, Setting, join_scores
from probe.analyses.studies import Study, check_preset, study_result
from probe.analyses.training import fitting_into_memory, training_device
from probe.checks import whole_number
from probe.errors import ArgumentError
from probe.images.rows import Transform
from probe.models.weights import is_weight_file, load_weights
from probe.variants.padding import with_padding

__all__ = ["PRESETS", "STUDY", "Preset", "run"]

STUDY = Study(
    name="posenet",
    title="How much position information do networks encode?",
    question="How well can absolute position be read from the features of a network that was never told of it, where "
    "does it come from, and does fitting the readout by gradient descent find all of it?",
    source="M. A. Islam, S. Jia and N. D. B. Bruce, “How Much Position Information Do Convolutional Neural Networks "
    "Encode?”, ICLR 2020, tables 1 to 4.",
    protocol=(
        "A frozen encoder (VGG-16: the five activations before its max pooling; ResNet-152: its four stages) sees "
        "images of 224×224 pixels in [0, 1], not normalised. Its maps are resized to 28×28 and stacked; “image” reads "
        "the pixels themselves, resized to 28×28, which have no encoder that could know position.",
        "The published readout: a 3×3 convolution without padding to one map, batch normalisation and a sigmoid, "
        "resized to the image. SGD (learning rate 0.1, tenfold lower after two thirds, momentum 0.9, weight decay "
        "10⁻⁴), batches of 32, 15 epochs on DUT-S; the last epoch is tested on PASCAL-S and on black, white and noise "
        "images. Variants: kernel 1, 3 or 7; depth 1, 2 or 3; padding 0, 1 or 2; single blocks; “unpadded”, VGG-16 "
        "with the same weights but without its padding, whose smaller maps are stretched to the same 28×28.",
        "Maps: gradients along columns (H) and rows (V), a Gaussian (G), and stripes that vary along rows (HS) or "
        "columns (VS), 2.5 periods, all from 0 to 1. The score is Spearman's correlation over all pixels of an image "
        "(0 for a constant map), and the mean absolute error; of stripes on the published scale from −1 to 1.",
        "Beside it stands the same readout in closed form: ridge regression (penalty 10⁻³ of each feature's variance) "
        "from the statistics of probe.collect, without a sigmoid, scored by a second reading of the same images.",
        "Every readout is fitted once to natural images and once to the same images rolled circularly by random "
        "offsets, whose content cannot tell position, and tested on both.",
    ),
    departures=(
        "The published encoders were trained on ImageNet. Unless weights= are given, those here have random weights, "
        "drawn anew for each seed: what is read then comes from the architecture alone.",
        "Rolled images, and the closed form, are ours.",
        "Noise images have the mean and variance of each channel of a test image; how the published ones were drawn is "
        "not known.",
        "The published maps are images of 256×256 pixels scaled to reach 0 and 1; ours take the same values at the "
        "centres of cells. The published errors of stripes and the chance level of G do not follow from the released "
        "maps, so compare these by correlation.",
        "The presets tiny and quick read fewer images (quick: 32 to fit, 12 to test, in batches of 4 for 20 epochs), "
        "take ResNet-18 in place of ResNet-152, score maps of 56×56 pixels rather than 224×224, leave out readouts of "
        "depth 2 and 3 but for the image itself. Their descent ends long before it converges: after 160 steps (quick), "
        "where the publication has 4,950.",
        "The closed form is fitted up to a number of features, channels times cells of the kernel, with which its cost "
        "grows: 600 (tiny), 4,608 (quick) or 18,432 (paper), which lets in "
        "every single block with kernel 3 (but for tiny). Beyond it gradient descent stands alone: with kernel 3 for "
        "all blocks together (paper: of ResNet-152 alone), and with kernel 7 for all blocks.",
    ),
    times={"tiny": "4 s", "quick": "8 min on 2 CPU cores", "paper": "a day or two on a GPU with 24 GB (not run)"},
)

_VGG_BLOCKS = {f"f{number}": layer for number, layer in enumerate(("3", "8", "15", "22", "29"), start=1)}
_RESNET_BLOCKS = {f"f{number}": f"layer{number}" for number in range(1, 5)}
_PIXELS = (None, {"image": "input"})
_WEIGHTED = ("vgg16", "resnet")
_SHOWN = 2  # images


@dataclass(frozen=True)
class Preset:
    """How much is read, how the readouts are fitted and scored, and with which encoders."""

    encoders: Sequence[str]
    resnet: str
    size: int
    grid: int
    scored: int
    n_training: int
    n_test: int
    batch_size: int
    epochs: int
    seeds: int
    kernels: Sequence[int]
    deep: Sequence[str]
    most_features: int


PRESETS = {
    "tiny": Preset(
        encoders=("image", "resnet"), resnet="resnet18", size=64, grid=8, scored=16, n_training=8, n_test=4,
        batch_size=4, epochs=2, seeds=2, kernels=(1, 3), deep=("image",), most_features=600,
    ),
    "quick": Preset(
        encoders=("image", "vgg16", "vgg16 unpadded", "resnet"), resnet="resnet18", size=224, grid=28, scored=56,
        n_training=32, n_test=12, batch_size=4, epochs=20, seeds=3, kernels=(1, 3, 7), deep=("image",),
        most_features=4608,
    ),
    "paper": Preset(
        encoders=("image", "vgg16", "vgg16 unpadded", "resnet"), resnet="resnet152", size=224, grid=28, scored=224,
        n_training=10_533, n_test=850, batch_size=32, epochs=15, seeds=3, kernels=(1, 3, 7), deep=("image", "vgg16"),
        most_features=18_432,
    ),
}  # fmt: skip


def run(
    *,
    preset: str = "quick",
    seeds: int | None = None,
    model: nn.Module | None = None,
    layers: Sequence[str] = (),
    weights: Mapping[str, str] | None = None,
    images: Any = None,
    transform: Transform | None = None,
    max_images: int | None = None,
    num_workers: int = 0,
    device: str | torch.device = "auto",
    progress: bool = True,
    command: str = "",
) -> xr.Dataset:
    """Read maps of position from the features of networks, as PosENet does and in closed form.

    Parameters
    ----------
    preset
        ``"tiny"``, ``"quick"`` or ``"paper"``.
    seeds
        Number of repetitions, each with its own random encoders, readouts and draws; by default that of the preset.
    model
        A model of your own, in place of VGG-16 and ResNet.
    layers
        Its layers to read; each is a block.
    weights
        For ``"vgg16"`` and ``"resnet"``, as far as the preset reads them: the name of weights of torchvision, such as
        ``"IMAGENET1K_V1"``, or a file with a state dict, ``FILE:PART`` where several parts of it fit. Random weights by
        default.
    images
        A folder that holds ``DUTS-TR/DUTS-TR-Image`` and ``PASCAL-S``; or images as in `probe.collect`, of which every
        third is for testing. By default crops of two photographs; the preset ``"paper"`` needs images.
    transform
        Applied to each file; by default it is resized to the size of the preset, with values in [0, 1].
    max_images
        Number of images to fit and to test, together; by default those of the preset.
    num_workers
        For reading files.
    device
        ``"auto"`` is a GPU where there is one.
    progress
        Show a progress bar on a terminal or in a notebook.
    command
        The command that was given, for the record.

    Returns
    -------
    xarray.Dataset
        See `probe.analyses.studies.study_result`; ``here`` on (setting, target, training, images, readout, measure),
        NaN where a readout is not fitted. ``images_se``: its standard error over test images, mean over seeds.
        ``seconds`` on (setting, training, readout): what fitting took, without the encoder. ``mean_map`` on
        (encoder, target, images, readout, row, column): the mean over test images of what was read from all blocks
        with kernel 3, fitted to natural images, first seed; ``true_map`` on (target, row, column).

    Raises
    ------
    ArgumentError, ImagesError
        If the preset is unknown, a model comes without layers or layers without a model, `weights` are of a network
        that is not read or there is no such file, or images are missing.
    ModelError
        If weights cannot be read, or do not fit their network.

    Examples
    --------
    >>> result = run(preset="tiny", seeds=1, progress=False)
    >>> result.here.dims
    ('setting', 'target', 'training', 'images', 'readout', 'measure')
    """
    started = time.monotonic()
    check_preset(preset)
    plan = PRESETS[preset]
    count = plan.seeds if seeds is None else whole_number("seeds", seeds, 1)
    if (model is None) != (not layers):
        raise ArgumentError("model, layers: pass a model of your own together with the layers to read, or neither.")
    if model is not None and weights:
        raise ArgumentError("weights: these are for VGG-16 and ResNet. Load those of your own model into it.")
    _check_weights(weights or {}, preset)
    place = training_device(device)
    transform = transform or resized(plan.size)
    fitted, tested = find_images(
        images, n_training=plan.n_training, n_test=plan.n_test, max_images=max_images, may_be_made=preset != "paper"
    )
    results = []
    with tqdm(total=count * len(TRAININGS), desc="posenet", disable=None if progress else True) as bar:
        for seed in range(count):
            encoders = _given(model, layers) if model is not None else _published(plan, seed, weights or {})
            readers = {
                name: BlockReader(encoder, blocks, grid=plan.grid, device=place)
                for name, (encoder, blocks) in encoders.items()
            }
            tests = sources_to_test(tested, transform, readers, seed, plan.batch_size, num_workers)
            if not seed:
                shown = keep_shown({name: test.shown(_SHOWN) for name, test in tests.items()})
            for training in TRAININGS:
                source = FeatureSource(fitted, transform, readers, training, seed, plan.batch_size, num_workers)
                with fitting_into_memory(f"a batch of {plan.batch_size} images with its features", place):
                    results.append(_fit_and_test(source, tests, readers, plan, seed, training))
                bar.update()
    here, others = join_scores(results, _settings(plan, readers))
    return study_result(
        STUDY,
        _published_numbers(here),
        here,
        preset=preset,
        settings={
            **asdict(plan), "n_training": len(fitted), "n_test": len(tested), "seeds": count, "device": str(place),
            "weights": {name: str(value) for name, value in (weights or {}).items()},
        },
        started=started,
        others=others | {"shown_image": shown},
        warnings=_warnings(model, weights or {}, images, plan),
        command=command,
    )  # fmt: skip


def _check_weights(weights: Mapping[str, str], preset: str) -> None:
    plan = PRESETS[preset]
    read = [name for name in _WEIGHTED if name in plan.encoders]
    for name, given in weights.items():
        if name not in read:
            raise ArgumentError(
                f"weights: the preset {preset!r} reads no network {name!r}; expected some of {', '.join(read)}."
            )
        network = plan.resnet if name == "resnet" else name
        choices = torchvision.models.get_model_weights(network).__members__
        if not is_weight_file(given) and str(given).rpartition(".")[2] not in choices:
            raise ArgumentError(
                f"weights: {name}={str(given)!r}: there is no such file. Pass a file with a state dict of {network}, "
                f"or the name of weights that torchvision downloads: {', '.join(choices)}."
            )


def _given(model: nn.Module, layers: Sequence[str]) -> dict[str, tuple[nn.Module | None, dict[str, str]]]:
    return {"image": _PIXELS, type(model).__name__: (model, {layer: layer for layer in layers})}


def _published(
    plan: Preset, seed: int, weights: Mapping[str, str]
) -> dict[str, tuple[nn.Module | None, dict[str, str]]]:
    """Build the encoders, each with the layers of its blocks."""
    encoders: dict[str, tuple[nn.Module | None, dict[str, str]]] = {"image": _PIXELS}
    if "vgg16" in plan.encoders:
        vgg = _build("vgg16", seed, weights.get("vgg16")).features
        encoders["vgg16"] = vgg, _VGG_BLOCKS
        encoders["vgg16 unpadded"] = with_padding(vgg, "valid"), _VGG_BLOCKS
    encoders["resnet"] = _build(plan.resnet, seed, weights.get("resnet")), _RESNET_BLOCKS
    return encoders


def _build(name: str, seed: int, weights: str | None) -> Any:
    is_file = weights is not None and is_weight_file(weights)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = torchvision.models.get_model(name, weights=None if is_file else weights)
    if is_file:
        load_weights(model, str(weights), name)
    return model


def _settings(plan: Preset, readers: Mapping[str, BlockReader]) -> list[Setting]:
    """List the readouts of all tables: forms of the stack of all blocks, then single blocks."""
    settings = []
    for encoder, reader in readers.items():
        if encoder == "vgg16 unpadded":
            settings.append(Setting(encoder))
            continue
        settings += [Setting(encoder, kernel=kernel) for kernel in plan.kernels]
        if encoder in plan.deep:
            settings += [Setting(encoder, depth=depth) for depth in (2, 3)]
        if encoder == "image":
            settings += [Setting(encoder, padding=padding) for padding in (1, 2)]
        elif len(reader.blocks) > 1:
            settings += [Setting(encoder, block, kernel) for kernel in (1, 3) for block in reader.blocks]
    return settings


def _fit_and_test(
    source: FeatureSource,
    tests: Mapping[str, FeatureSource],
    readers: Mapping[str, BlockReader],
    plan: Preset,
    seed: int,
    training: str,
) -> Scores:
    next(source.batches())  # the readers learn how many channels their blocks have
    readouts = _make_readouts(plan, readers, plan.epochs * len(source), seed, source.device)
    order = torch.Generator().manual_seed(seed)
    for epoch in range(plan.epochs):
        for features in source.batches(torch.randperm(len(source.images), generator=order).tolist()):
            for (setting, _), readout in readouts.items():
                if epoch == 0 or isinstance(readout, Descent):
                    readout.update(features[setting.encoder][:, _channels(setting, readers)])
    scores = Scores(seed, training)
    for name, test in tests.items():
        for features in test.batches():
            for (setting, kind), readout in readouts.items():
                read = readout.predict(features[setting.encoder][:, _channels(setting, readers)])
                scores.add(setting, kind, name, read)
    scores.seconds = {(setting.name, kind): readout.seconds for (setting, kind), readout in readouts.items()}
    return scores


def _make_readouts(
    plan: Preset, readers: Mapping[str, BlockReader], n_steps: int, seed: int, device: torch.device
) -> dict[tuple[Setting, str], Descent | ClosedForm]:
    readouts: dict[tuple[Setting, str], Descent | ClosedForm] = {}
    for setting in _settings(plan, readers):
        channels = _channels(setting, readers)
        n_channels = channels.stop - channels.start
        form: dict[str, Any] = {"kernel": setting.kernel, "padding": setting.padding}
        form |= {"targets": setting.targets, "size": plan.scored}
        readouts[setting, "descent"] = Descent(
            n_channels, depth=setting.depth, n_steps=n_steps, seed=seed, device=device, **form
        )
        if setting.depth == 1 and n_channels * setting.kernel**2 <= plan.most_features:
            readouts[setting, "closed form"] = ClosedForm(**form)
    return readouts


def _channels(setting: Setting, readers: Mapping[str, BlockReader]) -> slice:
    channels = readers[setting.encoder].channels
    return slice(0, max(part.stop for part in channels.values())) if setting.block == "all" else channels[setting.block]


def _published_numbers(here: xr.DataArray) -> xr.DataArray:
    published = xr.full_like(here.isel(seed=0, drop=True), np.nan)
    for (setting, target, images), scores in PUBLISHED.items():
        if setting in published.setting:
            key = {"setting": setting, "target": target, "images": images}
            published.loc[{**key, "training": "natural", "readout": "descent", "measure": list(MEASURES)}] = np.array(
                scores
            )
    return published


def _warnings(model: nn.Module | None, weights: Mapping[str, str], images: Any, plan: Preset) -> list[str]:
    found = []
    random = [name for name in plan.encoders if name != "image" and name.split()[0] not in weights]
    if model is None and random:
        found.append(
            f"{', '.join(random)}: random weights. The published encoders were trained on ImageNet; pass weights=."
        )
    if model is None and plan.resnet != "resnet152":
        found.append(f"resnet is {plan.resnet} here, and ResNet-152 in the publication.")
    if images is None:
        found.append("The images are crops of two photographs: pass images= for natural ones that vary.")
    return found
