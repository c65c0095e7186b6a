"""Models by name, as the command line gives them: the model, its weights and its preprocessing."""

import difflib
import importlib
import inspect
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision import transforms

from probe.errors import ArgumentError, ModelError
from probe.models.weights import load_weights

__all__ = ["ModelSource", "open_model"]

_CROP = 224
_RESIZE_TO_CROP = 256 / 224
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
_WEIGHT_FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


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
        Where the weights come from.
    preprocessing : str
        What `transform` does, in one line.
    """

    model: nn.Module
    transform: Callable[[Any], Tensor]
    weights: str
    preprocessing: str


def open_model(name: str, weights: str | None = None, *, size: int | str | None = None, seed: int = 0) -> ModelSource:
    """Make the model that a name stands for.

    Parameters
    ----------
    name
        A torchvision model, or ``module:function``: the function is called without arguments and returns the model.
    weights
        A file with a state dict, or the name of weights of torchvision, which are downloaded. None keeps the weights
        that the model is made with.
    size
        Crop images to so many pixels, after resizing them in proportion; ``"own"`` takes them as large as they are;
        None is the weights' own preprocessing, or 224.
    seed
        Seed of random weights.

    Raises
    ------
    ArgumentError
        If there is no such model, or there are no such weights.
    ModelError
        If the weights cannot be downloaded, are no plain state dict, or do not fit; or the function returns no module.

    Examples
    --------
    >>> source = open_model("resnet18", size=64)
    >>> source.weights, source.preprocessing
    ('random (seed 0)', 'resize 73, crop 64, ImageNet mean and standard deviation')
    """
    is_file = weights is not None and (Path(weights).is_file() or Path(weights).suffix in _WEIGHT_FILES)
    named = None if weights is None or is_file else _find_weights(name, weights)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = _call_function(name) if ":" in name else _build(name, named)
    if weights is not None and is_file:
        load_weights(model, weights, name)
    transform, preprocessing = _preprocessing(named, size)
    if weights is None:
        origin = f"as {name} gives them (seed {seed})" if ":" in name else f"random (seed {seed})"
    else:
        origin = weights if named is None else str(named)
    return ModelSource(model, transform, origin, preprocessing)


def _call_function(name: str) -> nn.Module:
    module_name, _, function_name = name.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ArgumentError(
            f"model {name!r}: no module {error.name!r} in the current folder or among the installed packages."
        ) from None
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ArgumentError(
            f"model {name!r}: no function {function_name!r} in {module_name}.{_offer(function_name, names)}"
        )
    model = function()
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"model {name!r}: {function_name}() returned a {type(model).__name__}; expected a torch.nn.Module."
        )
    return model


def _build(name: str, weights: Any) -> nn.Module:
    _check_known(name)
    options: dict[str, Any] = {"weights": weights}
    if "weights_backbone" in inspect.signature(torchvision.models.get_model_builder(name)).parameters:
        # Else weights=None would download those of the backbone.
        options["weights_backbone"] = None
    try:
        # Some builders announce here that their random weights will change one day.
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            return torchvision.models.get_model(name, **options)
    except (OSError, RuntimeError) as error:
        if weights is None:
            raise
        raise ModelError(
            f"weights {weights}: the download of {weights.url} failed: {error}. "
            "Fetch this file where there is a network, and pass its path as --weights."
        ) from error


def _check_known(name: str) -> None:
    known = torchvision.models.list_models()
    if name.lower() not in known:
        raise ArgumentError(
            f"model {name!r}: torchvision has no such model.{_offer(name.lower(), known)} "
            "Your own model is module:function, for example nets:make_net for make_net() in nets.py."
        )


def _find_weights(model_name: str, weights: str) -> Any:
    """Return the member of the model's enumeration of weights."""
    missing = f"weights {weights!r}: there is no such file"
    if ":" in model_name:
        raise ArgumentError(f"{missing}, and {model_name} has no named weights. Pass a file with a state dict.")
    _check_known(model_name)
    choices = torchvision.models.get_model_weights(model_name)
    class_name, _, short = weights.rpartition(".")
    if class_name not in ("", choices.__name__) or short not in choices.__members__:
        raise ArgumentError(
            f"{missing}, and {model_name} has the weights {', '.join(choices.__members__) or '(none)'}."
        )
    return choices[short]


def _offer(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f" Did you mean {', '.join(near)}?" if near else ""


def _preprocessing(weights: Any, size: int | str | None) -> tuple[Callable[[Any], Tensor], str]:
    to_tensor = [transforms.ToTensor(), transforms.Normalize(_IMAGENET_MEAN, _IMAGENET_DEVIATION)]
    if isinstance(size, str):
        return transforms.Compose(to_tensor), "own size, ImageNet mean and standard deviation"
    if weights is not None:
        preset = weights.transforms()
        if size is not None and hasattr(preset, "crop_size"):
            resize = round(size * preset.resize_size[0] / preset.crop_size[0])
            preset = weights.transforms(crop_size=size, resize_size=resize)
        if size is None or hasattr(preset, "crop_size"):
            return preset, " ".join(repr(preset).split())
    crop = _CROP if size is None else size
    resize = round(crop * _RESIZE_TO_CROP)
    standard = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(crop), *to_tensor])
    return standard, f"resize {resize}, crop {crop}, ImageNet mean and standard deviation"
