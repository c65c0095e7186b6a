"""Where models by name come from: torchvision, timm, Hugging Face folders, and functions of the user's own."""

import importlib
import importlib.util
import inspect
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.transforms import Grayscale, Resize

from probe.command.names import near_names
from probe.command.preprocessing import (
    IMAGENET,
    Normalisation,
    OfFrames,
    Transform,
    Watched,
    shown_grey,
    standard,
    told_of,
)
from probe.errors import ArgumentError, ModelError
from probe.models.weights import is_weight_file

__all__ = ["FOLDERS", "TIMM", "Made", "from_folder", "from_function", "from_timm", "from_torchvision"]

TIMM, FOLDERS = "timm", "hf"
"""What stands before the colon of names that are no functions, and the extras that install what these need."""

_MOST_NAMED = 3

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Made:
    """A model as its library makes it.

    Attributes
    ----------
    model : nn.Module
        On the CPU.
    weights : str
        Where its weights come from, and whether they are random.
    prepare : callable
        (size, list for warnings, normalisation) -> the transform of images, and what it does; see `open_model`.
    normalisation : tuple
        Mean and standard deviation of each channel, as the library has them.
    """

    model: nn.Module
    weights: str
    prepare: Callable[[int | None, list[str], Normalisation], tuple[Transform, str]]
    normalisation: Normalisation = IMAGENET


def from_torchvision(name: str, weights: str | None, arguments: Arguments, seed: int) -> Made:
    """Make a model of torchvision; weights by name are downloaded."""
    known = torchvision.models.list_models()
    if name.lower() not in known:
        raise ArgumentError(
            f"model {name!r}: torchvision has no such model.{near_names(name.lower(), known)}{_meant(name)} A model of "
            "timm is timm:NAME, a folder of Hugging Face hf:FOLDER, and your own module:function, such as "
            "nets:make_net for make_net() in nets.py."
        )
    choice = None if weights is None else _named_weights(name, weights)
    options: dict[str, Any] = {"weights": choice}
    if "weights_backbone" in inspect.signature(torchvision.models.get_model_builder(name)).parameters:
        # Else weights=None would download those of the backbone.
        options["weights_backbone"] = None
    try:
        # Some builders announce here that their random weights will change one day.
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            model = torchvision.models.get_model(name, **(options | dict(arguments)))
    except (TypeError, ValueError) as error:
        if not arguments:
            raise
        raise ArgumentError(f"model-args: {name} does not take {_phrase(arguments)}: {error}.") from error
    except (OSError, RuntimeError) as error:
        if choice is None:
            raise
        raise _failed_download(str(choice), choice.url, error) from error
    if choice is None:
        return Made(model, f"random (seed {seed})", standard)
    return Made(model, str(choice), lambda size, warned, _: _as_evaluated(choice, size, warned))


def _meant(name: str) -> str:
    """Return what a name that is a file, or a module, may be meant as."""
    path = Path(name)
    if path.suffix == ".nc":
        return f" `probe show {name}` shows a result."
    if path.suffix != ".py" and is_weight_file(name):
        return f" A file of weights goes to --weights, beside the model that they are of: MODEL --weights {name}."
    if path.suffix == ".py" or path.with_suffix(".py").is_file():
        return f" Name the function that makes the model: {'.'.join(path.with_suffix('').parts)}:FUNCTION."
    return ""


def _named_weights(name: str, weights: str) -> Any:
    """Return the member of the model's enumeration of weights."""
    choices = torchvision.models.get_model_weights(name)
    class_name, _, short = weights.rpartition(".")
    if class_name not in ("", choices.__name__) or short not in choices.__members__:
        raise ArgumentError(
            f"weights {weights!r}: there is no such file, and {name} has the weights "
            f"{', '.join(choices.__members__) or '(none)'}."
        )
    return choices[short]


def _as_evaluated(choice: Any, size: int | None, warned: list[str]) -> tuple[Transform, str]:
    """Return the preprocessing that weights of torchvision were evaluated with, at their size or at another."""
    preset, zoom = choice.transforms(), ""
    if size is not None:
        if not hasattr(preset, "crop_size"):
            return standard(size, warned)
        own_resize, own_crop = preset.resize_size[0], preset.crop_size[0]
        sides = {"crop_size": preset.crop_size, "resize_size": preset.resize_size}
        scaled = {name: tuple(round(size * side / own_crop) for side in own) for name, own in sides.items()}
        preset = choice.transforms(**{name: own[0] if len(own) == 1 else own for name, own in scaled.items()})
        zoom = f", resized by {own_resize}/{own_crop} before the crop, as these weights were evaluated"
    resize = getattr(preset, "resize_size", None)
    of_pictures = OfFrames(preset) if type(preset).__name__ == "VideoClassification" else preset
    transform = of_pictures if not resize else Watched(of_pictures, resize[0], warned)
    return transform, told_of(preset) + zoom


def from_timm(name: str, weights: str | None, arguments: Arguments, seed: int) -> Made:
    """Make a model of timm; weights by their tag, or ``DEFAULT``, are downloaded."""
    timm = _package("timm", TIMM, f"{TIMM}:{name}")
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ArgumentError(
            f"model '{TIMM}:{name}': timm {timm.__version__} has no such model."
            f"{near_names(architecture, timm.list_models())}"
        )
    tags = [found.partition(".")[2] for found in timm.list_pretrained(f"{architecture}.*")]
    wanted = tag if weights in (None, "DEFAULT") else weights
    if wanted and wanted not in tags:
        raise ArgumentError(
            f"weights {wanted!r}: there is no such file, and {TIMM}:{architecture} has the weights "
            f"{', '.join(['DEFAULT', *tags]) if tags else '(none)'}."
        )
    full = f"{architecture}.{wanted}" if wanted else architecture
    try:
        model = timm.create_model(full, pretrained=weights is not None, **arguments)
    except TypeError as error:
        raise ArgumentError(f"model-args: {name} does not take {_phrase(arguments)}: {error}.") from error
    except Exception as error:
        if weights is None:
            raise
        raise _failed_download(full, "huggingface.co", error) from error
    about = timm.data.resolve_model_data_config(model)

    def prepare(size: int | None, warned: list[str], normalisation: Normalisation) -> tuple[Transform, str]:
        if size is not None and weights is None:
            return standard(size, warned, normalisation)
        given = {**about, "mean": normalisation[0], "std": normalisation[1]}
        if size is not None:
            given["input_size"] = (about["input_size"][0], size, size)
        transform = timm.data.create_transform(**given, is_training=False)
        if shown_grey(normalisation):
            transform.transforms.insert(0, Grayscale())
        sides = [step.size for step in transform.transforms if isinstance(step, Resize)]
        side = min(sides[0]) if sides and isinstance(sides[0], list | tuple) else (sides or [0])[0]
        return Watched(transform, side, warned), told_of(transform)

    origin = f"random (seed {seed})" if weights is None else full
    return Made(model, origin, prepare, (about["mean"], about["std"]))


def from_folder(folder: str, arguments: Arguments, seed: int) -> Made:
    """Make a model of a local folder of Hugging Face; nothing is downloaded, and no code in it is run."""
    name = f"{FOLDERS}:{folder}"
    transformers = _package("transformers", FOLDERS, name)
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise ArgumentError(f"model {name!r}: expected a folder with config.json, as save_pretrained writes it.")
    if arguments:
        raise ArgumentError(f"model-args: {name} takes none; its config.json holds them.")
    config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
    kinds = list(config.architectures or ["AutoModel"])
    kind = getattr(transformers, kinds[0], None)
    if kind is None:
        raise ModelError(
            f"model {name!r}: transformers {transformers.__version__} has no class {kinds[0]}, and code in the folder "
            "is not run. Make the model in a function of yours: module:function."
        )
    if any(path.glob("*.safetensors")) or any(path.glob("*.bin")):
        model, found = kind.from_pretrained(path, local_files_only=True, output_loading_info=True)
        missing = sorted(found["missing_keys"])
        weights = f"{folder}, but random (seed {seed}): {_first(missing)}" if missing else folder
    else:
        model = kind(config) if kind is not transformers.AutoModel else kind.from_config(config)
        weights = f"random (seed {seed})"
    if not (path / "preprocessor_config.json").is_file():
        return Made(model, weights, standard)
    about = json.loads((path / "preprocessor_config.json").read_text(encoding="utf-8"))
    own = _per_channel(about.get("image_mean", IMAGENET[0])), _per_channel(about.get("image_std", IMAGENET[1]))

    def prepare(size: int | None, warned: list[str], normalisation: Normalisation) -> tuple[Transform, str]:
        if size is not None:
            return standard(size, warned, normalisation)
        processor = transformers.AutoImageProcessor.from_pretrained(path, local_files_only=True)
        sides = [side for side in dict(processor.size).values() if isinstance(side, int)]
        mean, deviation = map(list, normalisation)
        grey = {"image_mean": mean, "image_std": deviation, "do_convert_rgb": False}

        def process(image: Any) -> Tensor:
            if shown_grey(normalisation):
                return processor(images=image.convert("L"), return_tensors="pt", **grey)["pixel_values"][0]
            return processor(images=image, return_tensors="pt")["pixel_values"][0]

        text = f"{type(processor).__name__} of {folder}: size {dict(processor.size)}"
        return Watched(process, min(sides, default=0), warned), text

    return Made(model, weights, prepare, own)


def _per_channel(value: Any) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,) * len(IMAGENET[0])


def from_function(name: str, arguments: Arguments, seed: int, *, is_told: bool) -> Made:
    """Call ``module:function``, and tell whether it gives random weights unless others take their place.

    A second call under another seed shows it.
    """
    function = _function(name)
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise ArgumentError(
            f"model {name!r}: cannot be called with {_phrase(arguments)}: {error}. It takes "
            f"{inspect.signature(function)}; pass --model-args NAME=VALUE,..."
        ) from None
    except ValueError:
        pass  # a function without a signature, such as one written in C
    model = _called(function, name, arguments)
    if not is_told:
        return Made(model, "", standard)
    return Made(model, _noted(name, model, lambda: _called(function, name, arguments), seed), standard)


def _called(function: Callable[..., Any], name: str, arguments: Arguments) -> nn.Module:
    model = function(**arguments)
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"model {name!r}: {name.partition(':')[2]}() returned a {type(model).__name__}; expected a torch.nn.Module."
        )
    return model


def _noted(name: str, model: nn.Module, make: Callable[[], nn.Module], seed: int) -> str:
    try:
        torch.manual_seed(seed + 1)
        other = make().state_dict()
        own = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
        random = [key for key, value in own.items() if key not in other or not torch.equal(value, other[key])]
    except Exception:
        return f"as {name} gives them (seed {seed})"  # what works once need not work twice
    if not random:
        return f"as {name} gives them (seed {seed})"
    # Biases and the like often start from the same number.
    matrices = {key for key, value in own.items() if value.ndim > 1}
    if matrices <= set(random):
        return f"random (seed {seed}), as {name} gives them"
    return f"as {name} gives them, but random (seed {seed}): {_first(random)}"


def _function(name: str) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    _refuse_old_spelling(module_name, function_name)
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
            f"model {name!r}: no function {function_name!r} in {module_name}.{near_names(function_name, names)}"
        )
    return function


def _refuse_old_spelling(module_name: str, function_name: str) -> None:
    """Studies were once imported as `analyses`, which is a part of probe now; a package of the user's may be too."""
    if not module_name.startswith("analyses."):
        return
    ours, theirs = _origin(f"probe.{module_name}"), _origin(module_name)
    if ours is not None and theirs in (None, ours):
        raise ArgumentError(
            f"model '{module_name}:{function_name}': studies are a part of probe now. "
            f"Write probe.{module_name}:{function_name}."
        )


def _origin(module_name: str) -> Path | None:
    try:
        found = importlib.util.find_spec(module_name)
    except ModuleNotFoundError:
        return None
    return None if found is None or found.origin is None else Path(found.origin).resolve()


def _package(package: str, extra: str, name: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ModelError(
            f"model {name!r}: needs the package {package}, which is absent. Install it: "
            f'pip install "position-probe[{extra}]".'
        ) from None


def _failed_download(weights: str, place: str, error: Exception) -> ModelError:
    return ModelError(
        f"weights {weights}: the download of {place} failed: {error}. "
        "Fetch this file where there is a network, and pass its path as --weights."
    )


def _phrase(arguments: Arguments) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items()) or "no arguments"


def _first(names: list[str]) -> str:
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + rest
