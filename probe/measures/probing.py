"""The measurements: where a model knows position, by layer and by channel."""

import os
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import nn

from probe.errors import ArgumentError
from probe.images.rows import Transform
from probe.measures.scoring import channelwise_result, check_alpha, layerwise_result
from probe.models.layers import Layer, LayerSelection, select_layers
from probe.models.loan import Forward
from probe.models.modules import module_names, unwrap
from probe.models.survey import LayoutOption
from probe.reading.collecting import collect_statistics, find_layers, statistics_bytes
from probe.reading.options import AUTO, Options, TargetSelection
from probe.reading.ranks import check_ranks, in_turn
from probe.sums.statistics import Statistics

__all__ = ["channelwise", "collect", "layerwise", "list_layers"]


def list_layers(
    model: nn.Module,
    images: Any,
    *,
    layers: LayerSelection = "all",
    device: str | torch.device = "auto",
    transform: Transform | None = None,
    input_key: str | int | None = None,
    layout: LayoutOption = None,
    forward: Forward | None = None,
) -> pd.DataFrame:
    """List the layers of a model, from one forward pass of the first image.

    The commonest uses::

        probe.list_layers(model, images)
        probe.list_layers(model, images, layers="auto")
        probe.list_layers(model, "photos/", transform=transform, layout={"blocks.*": "NLC[1:]"})

    Parameters
    ----------
    model, images, layers, device, transform, input_key, layout, forward
        As in `collect`; every module is listed with ``layers="all"``.

    Returns
    -------
    pandas.DataFrame
        A row a call of a module, in order of execution, indexed by name: ``type``, ``shape`` (channel, row, column), of
        clips and volumes (channel, frame, row, column), ``call``, ``calls`` (of this module; 0: never called), ``auto``
        (whether ``layers="auto"`` reads it), ``MB`` (what `layerwise` with default arguments keeps for it), and
        ``note`` (why it cannot be read).

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> probe.list_layers(padded_net("zeros"), noise_images(1)).loc["conv1", ["type", "shape", "auto"]].tolist()
    ['Conv2d', (16, 24, 24), np.True_]
    """
    options = Options(
        layers=layers, device=device, transform=transform, input_key=input_key, layout=layout, forward=forward
    )
    found = find_layers(model, images, options)
    calls = pd.Series([layer.module for layer in found]).value_counts()
    wanted = found
    if not isinstance(layers, str) or layers != "all":
        wanted = select_layers(layers, found, module_names(unwrap(model)))[0]
    options = options.on(found)
    rows = [_row_of(layer, int(calls[layer.module]), options) for layer in wanted]
    if wanted is found:
        for module, name in module_names(unwrap(model)).items():
            if name not in calls:
                rows.append(
                    {"name": name, "type": type(module).__name__, "shape": None, "calls": 0, "note": "never called"}
                )
    table = pd.DataFrame(rows, columns=["name", "type", "shape", "call", "calls", "auto", "MB", "note"])
    return table.astype({"call": "Int64", "auto": "boolean"}).fillna({"note": "", "auto": False}).set_index("name")


def _row_of(layer: Layer, calls: int, options: Options) -> dict[str, Any]:
    note = layer.problem or ("a single cell: no position to read" if layer.is_single_cell else "")
    return {
        "name": layer.name,
        "type": layer.module_type,
        "shape": None if layer.problem else (layer.n_channels, *layer.size),
        "call": layer.call,
        "calls": calls,
        "auto": layer.default and not note,
        "MB": np.nan if note else round(statistics_bytes([layer], options, grams=True, moments=[]) / 1e6, 3),
        "note": note,
    }


def collect(
    model: nn.Module,
    images: Any,
    *,
    layers: LayerSelection = "auto",
    targets: TargetSelection = AUTO,
    stimuli: str | Sequence[str] = ("natural", "rolled"),
    folds: int = 5,
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
    first_image: int = 0,
    shard: tuple[int, int] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Statistics:
    """Run a model on images and keep the sums from which `layerwise` and `channelwise` compute every score.

    The commonest uses::

        probe.collect(model, images)
        probe.collect(model, images[:500]).merge(probe.collect(model, images[500:], first_image=500))
        probe.collect(model, "photos/", layers="layer*", transform=transform).save("sums.pt")

    Each batch is read once and run once a stimulus; nothing that grows with the number of images is kept. The model
    is left as it was: hooks, modes, weights, device, random state.

    Parameters
    ----------
    model
        Any eager vision model; wrappers of compilation and of several devices are taken off.
    images
        A tensor or array of shape (image, channel, row, column); a Dataset or list whose rows are images, tuples that
        begin with one, or mappings; a DataLoader; an iterable of such rows or of batches, read once; or a folder of
        image files, searched recursively, links followed, in sorted order. Images of rows are tensors or arrays of
        shape (channel, row, column), or PIL images. PIL images and files become RGB in [0, 1], or grey where the
        model's first convolution takes one channel. White in greys of more than 8 bits is the least of 1, 255, 1,023,
        4,095 and 65,535 that a folder's images do not exceed, with a warning where that is a guess; of a single PIL
        image such a guess is an error. Labels are ignored. A clip or a volume is an image with frames before its rows:
        tensors of five axes, and rows of a Dataset of four, (channel, frame, row, column); arrays of integers with
        channels behind, (frame, row, column, channel), become floats in [0, 1]; folders of frames are read by
        `probe.Clips`. What has four axes in a list or an iterable is a batch of images.
    layers
        ``"auto"``: ``input`` (the pixels) and every convolution, patch embedding and transformer block with a map
        larger than 1×1; ``"all"``; a name, a glob such as ``"layer*.conv1"``, a module type, a module, or several.
        Second and later calls of a module have names such as ``layer1.0.relu_1``.
    targets
        Names from ``probe.TARGETS``, or a mapping {name: function (``*size``) -> map}, size of (rows, columns) or
        (frames, rows, columns). ``"auto"`` for the coordinates that the maps have: row and column, and frame where one
        of the layers has frames. One that a layer's map lacks is constant there, and NaN.
    stimuli
        Names from ``probe.STIMULI``. Natural images tell position by their content; rolled ones do not. Of clips
        ``"rolled"`` rolls rows, columns and frames; ``"rolled_space"`` rows and columns alone, for what the order of
        frames tells; ``"rolled_time"`` frames alone.
    folds
        Number of cross-validation folds of images: fold = image number modulo folds.
    groups
        One label an image of the data set; images of one label share a fold, as frames of one video must. The image
        at place i has label i + `first_image`: a second run is given the labels of the first one's images as well.
    positions
        Cells of each image that enter a readout: ``"auto"`` for 10 samples a channel, and at least 20,000 (of a
        layer that makes at least three times as many channels at each cell as it is given, a channel that it is
        given); a number; or None for all.
    batch_size, num_workers
        For tensors, and rows of any origin. Each of several workers goes along the whole of a stream, which must give
        the same images in the same order each time: one that shuffles, or draws anything at random, without a fixed
        seed is an error with two workers or more. It is found by the digests of the first 16 images and of 8 in each
        doubling of their number.
    device
        ``"auto"`` is where the model is; on another one the model is brought back afterwards.
    autocast
        ``"bfloat16"`` or ``"float16"`` to run the model in mixed precision.
    transform
        Applied to the image of each row or file, for example ``weights.transforms()``.
    input_key
        Where the image is: a key of rows that are mappings, or a place in rows that are tuples.
    layout
        For outputs that are not understood, a mapping from names or globs to layouts, or one layout for all outputs
        with as many axes: ``"NCHW"``, ``"NHWC"``, ``"NLC"`` or ``"LNC"`` (N images, C channels, H rows, W columns, L
        tokens), of clips ``"NCDHW"`` or ``"NDHWC"`` (D frames). Which tokens are patches, row by row, and which are
        none (class, registers, prompts), is found by changing spots of the first image; a layer where the patches are
        dropped, or in another order, is not understood. Which they are can be said as a slice, ``"NLC[5:201]"``, with
        their grid where it is not that of the patch embedding, ``"NLC[5:201](14, 14)"``, of clips ``"NLC[1:](8, 14,
        14)"``; what is said is not tried. Of named layers it can also be a function (output) -> maps of shape (image,
        channel, row, column), or with frames before the rows. Of an output of several tensors the first one is read;
        a function of a layer that is named itself, by no glob, is given them all and can choose another:
        ``{"head": lambda output: output["features"]}``.
    forward
        How the model is run on images: a function (model, images) -> output, for models that need further inputs or
        take the images elsewhere, such as ``lambda model, images: model(pixel_values=images)``; by default
        ``model(images)``.
    max_images
        Read so many images: evenly spaced over a data set or list, the first of an iterable.
    first_image
        Number of the first image: continue the numbering in a second run, and merge.
    shard
        (k, n): read the k-th of n shares, every n-th image from the k-th on, with its number in the whole, and merge.
        `Statistics.missing` tells what the other shards hold. Shards are warned of where they are merged, and ranks
        refused, if they were given different images, as far as their number and a few digests tell: of the first image
        and four others, or of a stream of the first 16 and of 8 in each doubling of their number. An iterable is to
        give the same rows in the same order each time; a share of it, or that of a rank, goes past the rows of the
        others: what `transform` does it is spared, and what decoding streams of Hugging Face takes, but not what the
        iterable does by itself.
    checkpoint
        A file to which the sums are written every so often, atomically. A run that was killed goes on from there when
        the same call is made again, and gives the same result. A file of another run is an error, and so are images
        that changed, as far as digests tell: of up to 16 images, or of a stream of the first 16 that were read and of
        8 in each doubling of their number. SIGTERM writes a last one, and the process exits with 143. The file stays in
        the end, and takes as much as the sums.
    checkpoint_every
        Number of images after which it is written; by default about every two minutes, and, once it is known how long
        writing takes, so seldom that it takes no more than a hundredth of the time. The first one, which tells, does
        not wait for that, nor does the last one, in the end or at SIGTERM.
    seed
        Seed of rolls, noise, cells and shuffles, which are drawn for each image from (seed, image number).
    progress
        Show a progress bar on a terminal or in a notebook.

    Returns
    -------
    Statistics
        With `merge`, `save` and `load`.

    Raises
    ------
    ArgumentError, ImagesError, LayerNotFoundError, LayerNotCalledError, LayoutError, ModelError, TooLargeError
        Each names the argument, layer or file, what was found, and the cure.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> net, images = padded_net("zeros"), noise_images(40)
    >>> first = probe.collect(net, images[:20], positions=100, progress=False)
    >>> second = probe.collect(net, images[20:], positions=100, first_image=20, progress=False)
    >>> first.merge(second)
    <Statistics of 40 images: 5 layers, stimuli natural, rolled, targets row, column>
    """
    options = Options(
        layers=layers, targets=targets, stimuli=stimuli, folds=folds, groups=groups, positions=positions,
        batch_size=batch_size, num_workers=num_workers, device=device, autocast=autocast, transform=transform,
        input_key=input_key, layout=layout, forward=forward, max_images=max_images, first_image=first_image,
        shard=shard, checkpoint=checkpoint, checkpoint_every=checkpoint_every, seed=seed, progress=progress,
        task="collect",
    )  # fmt: skip
    return collect_statistics(model, images, options, grams=True, moments=True)[0]


def layerwise(
    model: nn.Module | Statistics,
    images: Any = None,
    *,
    layers: LayerSelection = "auto",
    targets: TargetSelection = AUTO,
    stimuli: str | Sequence[str] = ("natural", "rolled"),
    folds: int = 5,
    groups: Sequence[Any] | np.ndarray | None = None,
    alpha: float = 1e-3,
    positions: str | int | None = "auto",
    maps: LayerSelection = (),
    batch_size: int = 32,
    num_workers: int = 0,
    device: str | torch.device = "auto",
    autocast: str | torch.dtype | None = None,
    transform: Transform | None = None,
    input_key: str | int | None = None,
    layout: LayoutOption = None,
    forward: Forward | None = None,
    max_images: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Measure how well absolute position can be read from each layer.

    The commonest uses::

        probe.layerwise(model, images)
        probe.layerwise(model, "photos/", layers="layer*", transform=transform, maps="layer4*")
        probe.layerwise(statistics, alpha=1e-2)

    A linear readout (ridge regression on standardised channels, cross-validated over images) predicts each target at
    each cell of a layer's map from the channels at that cell.

    Parameters
    ----------
    model
        A model, or statistics from `collect`, beside which only `alpha` and `maps` are accepted.
    images, layers, targets, stimuli, folds, groups, positions, batch_size, num_workers, device, autocast, transform, \
input_key, layout, forward, max_images, checkpoint, checkpoint_every, seed, progress
        As in `collect`.
    alpha
        Ridge penalty, relative to the variance of each channel.
    maps
        Layers whose mean and decoded maps to add, as in `layers`.

    Returns
    -------
    xarray.Dataset
        On (layer, stimulus, target): ``r2`` (1: position can be read exactly; 0: not at all; below 0: by chance),
        ``r2_fold``, ``r2_se`` (jackknife over folds), ``r2_null`` (positions shuffled in every image: 0 up to noise),
        ``r2_control`` (any fixed permutation of the target), ``bits`` (row, column and frame only).
        Intervals are r2 ± t(folds − 1)·r2_se; they describe this one network. NaN where r2_se would be above 1: images
        so few that nothing can be told. On (layer, stimulus): ``valid``,
        ``n_dead``. For layers in `maps`: ``mean_map_i``, ``decoded_map_i``; see `probe.results.layer_map`.

    Raises
    ------
    ArgumentError, ImagesError, LayerNotFoundError, LayerNotCalledError, LayoutError, ModelError, TooLargeError
        Each names the argument, layer or file, what was found, and the cure.

    See Also
    --------
    sklearn.linear_model.Ridge : the same readout, on stored activations.

    References
    ----------
    Islam, Jia, Bruce: How much position information do convolutional neural networks encode? ICLR 2020.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import noise_images, padded_net
    >>> images = noise_images(100)
    >>> for padding in ("zeros", "circular"):
    ...     result = probe.layerwise(padded_net(padding), images, stimuli="rolled", progress=False)
    ...     print(padding, result.r2.sel(layer="conv4").mean().item() > 0.1)
    zeros True
    circular False
    """
    options = Options(
        layers=layers, targets=targets, stimuli=stimuli, folds=folds, groups=groups, positions=positions,
        batch_size=batch_size, num_workers=num_workers, device=device, autocast=autocast, transform=transform,
        input_key=input_key, layout=layout, forward=forward, max_images=max_images, checkpoint=checkpoint,
        checkpoint_every=checkpoint_every, seed=seed, progress=progress, task="layerwise",
    )  # fmt: skip
    if isinstance(model, Statistics):
        _check_unused(images, options)
        return layerwise_result(model, alpha, maps)
    check_alpha(alpha)
    check_ranks({"alpha": alpha, "maps": repr(maps)})
    statistics, maps = collect_statistics(model, _given(images), options, grams=True, moments=False, maps=maps)
    return layerwise_result(statistics, alpha, maps, each=in_turn)


def channelwise(
    model: nn.Module | Statistics,
    images: Any = None,
    *,
    layers: LayerSelection = "auto",
    targets: TargetSelection = AUTO,
    stimuli: str | Sequence[str] = ("natural", "rolled"),
    folds: int = 5,
    groups: Sequence[Any] | np.ndarray | None = None,
    maps: LayerSelection = (),
    batch_size: int = 32,
    num_workers: int = 0,
    device: str | torch.device = "auto",
    autocast: str | torch.dtype | None = None,
    transform: Transform | None = None,
    input_key: str | int | None = None,
    layout: LayoutOption = None,
    forward: Forward | None = None,
    max_images: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Measure how much each single channel depends on position, exactly, from every cell.

    The commonest uses::

        probe.channelwise(model, images)
        probe.channelwise(model, "photos/", layers="layer4*", transform=transform)
        probe.channelwise(statistics, maps="layer4")

    Parameters
    ----------
    model
        A model, or statistics from `collect`, beside which only `maps` is accepted.
    images, layers, targets, stimuli, folds, groups, batch_size, num_workers, device, autocast, transform, \
input_key, layout, forward, max_images, checkpoint, checkpoint_every, seed, progress
        As in `collect`.
    maps
        Layers whose mean maps to add, as in `layers`.

    Returns
    -------
    xarray.Dataset
        In long form on ``channel``, with coordinates ``layer`` and ``index``: ``r2`` and ``r2_se`` on (channel,
        stimulus, target), the squared correlation of the channel with the target; ``omega2`` and ``omega2_se`` on
        (channel, stimulus), the share of the channel's variance that position explains, linearly or not (0 in
        expectation when position plays no part; needs images of one size). NaN for channels that do not vary.

    Raises
    ------
    ArgumentError, ImagesError, LayerNotFoundError, LayerNotCalledError, LayoutError, ModelError, TooLargeError
        Each names the argument, layer or file, what was found, and the cure.

    Examples
    --------
    >>> import probe
    >>> from probe.testing import CoordinateNet, noise_images
    >>> result = probe.channelwise(CoordinateNet(), noise_images(10), stimuli="rolled", progress=False)
    >>> result.omega2.sel(stimulus="rolled").values[-2:].round(3)
    array([1., 1.])
    """
    options = Options(
        layers=layers, targets=targets, stimuli=stimuli, folds=folds, groups=groups,
        batch_size=batch_size, num_workers=num_workers, device=device, autocast=autocast, transform=transform,
        input_key=input_key, layout=layout, forward=forward, max_images=max_images, checkpoint=checkpoint,
        checkpoint_every=checkpoint_every, seed=seed, progress=progress, task="channelwise",
    )  # fmt: skip
    if isinstance(model, Statistics):
        _check_unused(images, options)
        statistics = model
    else:
        statistics, maps = collect_statistics(model, _given(images), options, grams=False, moments=True, maps=maps)
    return channelwise_result(statistics, maps)


def _check_unused(images: Any, options: Options) -> None:
    """Refuse arguments of a reading where statistics, which have been read, are given."""
    unused = [] if images is None else ["images"]
    for argument in fields(Options):
        shows_progress = argument.name in ("progress", "task")  # which changes nothing
        if argument.init and not shows_progress and getattr(options, argument.name) != argument.default:
            unused.append(argument.name)
    if unused:
        raise ArgumentError(
            f"{', '.join(unused)}: given with statistics, which were collected before, so it would change nothing. "
            "Pass it to probe.collect, or leave it out."
        )


def _given(images: Any) -> Any:
    if images is None:
        raise ArgumentError("images: none given. Pass a tensor, Dataset, DataLoader, iterable of batches or folder.")
    return images
