"""Weights of models: state dicts, and the files that hold them, none of which can run code."""

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from probe.errors import ArgumentError, ModelError

__all__ = ["load_weights", "weights_digest"]

_NESTING = ("state_dict", "model", "model_state_dict")
_WRAPPER_PREFIXES = ("module.", "_orig_mod.")

# torchvision renames these, too, when it downloads them.
_RELEASED_NAME = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))")


def _renamed_as_today(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict of a DenseNet as torchvision released it with the names that its modules have today.

    Examples
    --------
    >>> list(_renamed_as_today({"features.denseblock1.denselayer2.norm.1.weight": 0, "classifier.weight": 0}))
    ['features.denseblock1.denselayer2.norm1.weight', 'classifier.weight']
    """
    return {_RELEASED_NAME.sub(r"\1\2", key): value for key, value in state.items()}


def weights_digest(model: nn.Module) -> str:
    """Return a digest of a model's parameters and buffers: the same for the same values.

    Examples
    --------
    >>> weights_digest(nn.Identity()) == weights_digest(nn.ReLU()), len(weights_digest(nn.Linear(1, 1)))
    (True, 16)
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        if isinstance(tensor, Tensor):
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def load_weights(model: nn.Module, weights: Mapping[str, Any] | str | Path, name: str, *, without: str = "") -> None:
    """Load weights into a model.

    Parameters
    ----------
    model
        Is changed.
    weights
        A state dict, or a file of one. A file may hold it inside the dictionaries that training scripts wrap it in,
        and with the prefixes of wrapped models.
    name
        Of the model, for messages.
    without
        Names that begin so are left out; none by default.

    Raises
    ------
    ArgumentError
        If there is no such file.
    ModelError
        If it cannot be read, holds more than tensors, or does not fit the model.

    Examples
    --------
    >>> layer = nn.Linear(1, 1)
    >>> load_weights(layer, {"weight": torch.ones(1, 1), "bias": torch.zeros(1)}, "layer")
    >>> layer.weight.item()
    1.0
    """
    state = _renamed_as_today(_read_state(Path(weights)) if isinstance(weights, str | Path) else weights)
    if without:
        state = {key: value for key, value in state.items() if not key.startswith(without)}
    try:
        model.load_state_dict(state)
    except RuntimeError:
        which = f"weights {weights}" if isinstance(weights, str | Path) else "weights"
        raise ModelError(
            f"{which}: do not fit {name}: {_differences(model.state_dict(), state)}. "
            "Pass weights of this architecture and number of classes, or as model a function of yours that makes "
            "another: module:function."
        ) from None


def _read_state(path: Path) -> dict[str, Any]:
    """Read a state dict, taken out of the dictionaries and prefixes that training scripts wrap it in."""
    if not path.is_file():
        raise ArgumentError(f"weights {str(path)!r}: there is no such file.")
    try:
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)|global (\S+)", str(error))
        objects = f"Python objects ({found[1] or found[2]})" if found else "something else than tensors"
        raise ModelError(
            f"weights {path}: refused, and nothing in it was run: it is damaged, or holds {objects}, which could run "
            "code. Save the tensors alone: torch.save(model.state_dict(), path)."
        ) from None
    except (RuntimeError, EOFError, OSError) as error:
        raise ModelError(f"weights {path}: cannot be read: {str(error).partition('. ')[0]}.") from error
    for key in _NESTING:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        found_keys = f" with the keys {', '.join(map(str, list(content)[:5]))}" if isinstance(content, Mapping) else ""
        raise ModelError(
            f"weights {path}: expected a state dict (names and tensors), found a {type(content).__name__}{found_keys}."
        )
    state = {str(key): value for key, value in content.items()}
    for prefix in _WRAPPER_PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _differences(own: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    order = {key: place for place, key in enumerate(own)}
    shapes = [
        f"{key} ({_shape(given[key])} instead of {_shape(own[key])})"
        for key in own
        if key in given and _shape(own[key]) != _shape(given[key])
    ]
    parts = {
        # Counters come last: files of older versions lack them, and load all the same.
        "missing": sorted(set(own) - set(given), key=lambda key: (key.endswith("num_batches_tracked"), order[key])),
        "not in the model": [key for key in given if key not in own],
        "of another shape": shapes,
    }
    return "; ".join(f"{len(keys)} {what}: {_first(keys)}" for what, keys in parts.items() if keys)


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(getattr(tensor, "shape", ()))


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
