"""Models by name, as the command line gives them: the model, its weights and its preprocessing."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from probe.command.model_libraries import FOLDERS, TIMM, Made, from_folder, from_function, from_timm, from_torchvision
from probe.command.preprocessing import Transform, of_grey, plain
from probe.errors import ArgumentError
from probe.models.first_layers import takes_grey
from probe.models.weights import is_weight_file, load_weights
from probe.variants.embeddings import with_position_embedding
from probe.variants.padding import with_padding
from probe.variants.sampling import with_sampling

__all__ = ["ModelSource", "open_model", "varied"]


@dataclass(frozen=True)
class ModelSource:
    """A model with what a measurement of it must record.

    Attributes
    ----------
    model : nn.Module
        On the CPU.
    transform : callable
        Takes a PIL image to what the model expects, a tensor of shape (channel, row, column).
    weights : str
        Where the weights come from, and whether they are random.
    preprocessing : str
        What `transform` does, in one line.
    warned : list of str
        What `transform` warned of, or the making of a variant.
    """

    model: nn.Module
    transform: Transform
    weights: str
    preprocessing: str
    warned: list[str] = field(default_factory=list)


def open_model(
    name: str,
    weights: str | None = None,
    *,
    size: int | str | None = None,
    seed: int = 0,
    arguments: Mapping[str, Any] | None = None,
) -> ModelSource:
    """Make the model that a name stands for.

    Parameters
    ----------
    name
        A torchvision model; ``timm:NAME``; ``hf:FOLDER``, a local folder of a Hugging Face model; or
        ``module:function``: the function is called and returns the model.
    weights
        A file with a state dict, ``FILE:PART`` where several parts of it fit, or the name of weights of torchvision or
        timm, which are downloaded. None keeps the weights that the model is made with.
    size
        The shorter side becomes so many pixels, and the centre is cropped to as many squared; weights by name are
        magnified before the crop, as they were evaluated. ``"own"`` takes images as large as they are; None is the
        weights' own preprocessing, or the evaluation on ImageNet.
    seed
        Seed of random weights.
    arguments
        Of the function that makes the model.

    Raises
    ------
    ArgumentError
        If there is no such model, or there are no such weights.
    ModelError
        If the weights cannot be downloaded, are no plain state dict, or do not fit; the function returns no module; or
        a package is absent.

    Examples
    --------
    >>> source = open_model("resnet18", size=64)
    >>> source.weights, source.preprocessing
    ('random (seed 0)', 'resize 64, crop 64, ImageNet mean and standard deviation')
    """
    is_file = weights is not None and is_weight_file(weights)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        made = _make(name, None if is_file else weights, arguments or {}, seed, is_told=not is_file)
    origin = made.weights
    if weights is not None and is_file:
        taken = load_weights(made.model, weights, name)
        origin = f"{weights} ({taken})" if taken else weights
    warned: list[str] = []
    is_grey = takes_grey(made.model, square=not isinstance(size, str))
    normalisation = of_grey(made.normalisation) if is_grey else made.normalisation
    transform, preprocessing = (
        plain(normalisation) if isinstance(size, str) else made.prepare(size, warned, normalisation)
    )
    return ModelSource(made.model, transform, origin, preprocessing, warned)


def varied(
    source: ModelSource,
    *,
    padding: str | None = None,
    position_embedding: str | None = None,
    sampling: str | None = None,
    seed: int = 0,
) -> ModelSource:
    """Return a model's variants that are asked for, in one; what was changed is told behind its weights.

    Parameters
    ----------
    source
        The model as it is.
    padding, position_embedding, sampling
        As of the functions of these names; None changes nothing.
    seed
        Of shuffled tables.

    Examples
    --------
    >>> varied(open_model("resnet18", size=64), padding="circular", sampling="polyphase").weights
    'random (seed 0), sampling polyphase, padding circular'
    """
    model, weights = source.model, source.weights
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if position_embedding is not None:
            drawn = {"seed": seed} if position_embedding == "shuffled" else {}
            model = with_position_embedding(model, position_embedding, **drawn)
            weights += f", position embedding {position_embedding}"
        if sampling is not None:
            model = with_sampling(model, sampling)
            weights += f", sampling {sampling}"
        # Last, since it is tried whether what it gives moves with the images.
        if padding is not None:
            model = with_padding(model, padding)
            weights += f", padding {padding}"
    for warning in caught:
        source.warned.append(str(warning.message))
        warnings.warn(warning.message, stacklevel=2)
    return replace(source, model=model, weights=weights)


def _make(name: str, weights: str | None, arguments: Mapping[str, Any], seed: int, *, is_told: bool) -> Made:
    library, colon, rest = name.partition(":")
    if not colon:
        return from_torchvision(name, weights, arguments, seed)
    if library == TIMM:
        return from_timm(rest, weights, arguments, seed)
    if weights is not None:
        raise ArgumentError(
            f"weights {weights!r}: there is no such file, and {name} has no named weights. "
            "Pass a file with a state dict."
        )
    if library == FOLDERS:
        return from_folder(rest, arguments, seed)
    return from_function(name, arguments, seed, is_told=is_told)
