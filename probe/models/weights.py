"""Weights of models: state dicts, and the files that hold them, none of which can run code."""

import hashlib
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from probe.errors import ArgumentError, ModelError, ProbeWarning
from probe.models.layouts import tensors_in
from probe.models.modules import module_names

__all__ = ["is_weight_file", "load_weights", "modules_digest", "weights_digest"]

_PLAIN = (int, float, str, tuple, list, dict)
_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")

# What everyone wraps a state dict in; taking it off chooses nothing.
_NESTING = {"state_dict", "model", "model_state_dict"}
_WRAPPERS = {"module", "_orig_mod"}

_COUNTERS = "num_batches_tracked"  # files of older versions lack them, and load all the same
_EXTRA = "_extra_state"  # what a module keeps besides tensors

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
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        # Quantised layers keep weight and bias as a pair.
        for _, tensor in tensors_in(value):
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def modules_digest(model: nn.Module) -> str:
    """Return a digest of a model's modules and their settings: copies under two paddings share all weights.

    Only torch's own classes, and those derived from them without a text of their own, tell their settings: what others
    print may differ from process to process.

    Examples
    --------
    >>> modules_digest(nn.Conv2d(1, 1, 3)) == modules_digest(nn.Conv2d(1, 1, 3))
    True
    >>> modules_digest(nn.Conv2d(1, 1, 3)) == modules_digest(nn.Conv2d(1, 1, 3, padding=1))
    False
    """
    digest = hashlib.sha256()
    for module, name in {model: "", **module_names(model)}.items():
        tells = str(getattr(type(module).extra_repr, "__module__", "")).partition(".")[0] in ("torch", "probe")
        told = [name, type(module).__qualname__, module.extra_repr() if tells else ""]
        if type(module).__module__.startswith("probe."):  # layers with another border: torch prints not all of it
            own = {key: value for key, value in vars(module).items() if key[0] != "_" and key != "training"}
            told += [f"{key}={value}" for key, value in own.items() if isinstance(value, _PLAIN)]
        digest.update(repr(told).encode())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class _Part:
    """Those of the tensors of a file whose names begin alike.

    Attributes
    ----------
    nesting : tuple of str
        Keys of the mappings that they lie in.
    prefix : str
        What their names begin with, with its dot; often empty.
    added : str
        What the names of the model begin with besides.
    state : dict
        The tensors, as the model names them.
    n_others : int
        Number of further tensors in the file.
    """

    nesting: tuple[str, ...]
    prefix: str
    added: str
    state: dict[str, Any]
    n_others: int

    @property
    def start(self) -> str:
        """What the full names of the tensors begin with."""
        return "".join(f"{key}." for key in self.nesting) + self.prefix

    @property
    def label(self) -> str:
        """The name by which a user may choose this part."""
        return self.start.removesuffix(".")

    def __str__(self) -> str:
        under = f"weights under {'.'.join(self.nesting)!r}" if self.nesting else "weights"
        begin = f", prefix {self.prefix!r}" if self.prefix else ""
        added = f", put under {self.added!r}" if self.added else ""
        others = f"; {self.n_others} other tensor{'s' * (self.n_others > 1)} left out" if self.n_others else ""
        return under + begin + added + others

    @property
    def is_choice(self) -> bool:
        """Whether another reader of the file might have taken something else."""
        wrappers = set(self.nesting) <= _NESTING and set(filter(None, self.prefix.split("."))) <= _WRAPPERS
        return bool(self.added) or not wrappers


def load_weights(model: nn.Module, weights: Mapping[str, Any] | str | Path, name: str, *, without: str = "") -> str:
    """Load weights into a model.

    A file may hold them among other things, inside mappings and behind prefixes: training scripts keep a teacher and a
    student, an average of the weights, wrapped models. The place is found by looking where all names and shapes of
    the model are, and a warning names it. No file can run code.

    Parameters
    ----------
    model
        Is changed.
    weights
        A state dict, or a file of one, also of the format safetensors where this package is installed. Where several
        parts of a file fit, ``FILE:PART`` chooses, for example ``dino.pth:teacher``.
    name
        Of the model, for messages.
    without
        Names of the model that begin so are left out; none by default.

    Returns
    -------
    str
        What was taken of a file or mapping that holds more than this model's state dict; else empty.

    Raises
    ------
    ArgumentError
        If there is no such file, or several parts of it fit.
    ModelError
        If it cannot be read, holds more than tensors, or does not fit the model.

    Warns
    -----
    ProbeWarning
        Tells what was taken, where that was a choice.

    Examples
    --------
    >>> layer = nn.Linear(1, 1)
    >>> load_weights(layer, {"weight": torch.ones(1, 1), "bias": torch.zeros(1)}, "layer")
    ''
    >>> layer.weight.item()
    1.0
    """
    if isinstance(weights, str | Path):
        path, wanted = _split_part(weights)
        content, source = _read(path), f"weights {path}"
    else:
        content, wanted, source = weights, "", "weights"
    tensors, nestings = _flattened(content)
    if not tensors:
        found_keys = f" with the keys {', '.join(map(str, list(content)[:5]))}" if isinstance(content, Mapping) else ""
        raise ModelError(
            f"{source}: expected a state dict (names and tensors), found a {type(content).__name__}{found_keys}."
        )
    part = _chosen(tensors, nestings, model.state_dict(), wanted, without, source, name)
    model.load_state_dict(part.state)
    if not part.is_choice:
        return ""
    warnings.warn(f"{source}: took {part}.", ProbeWarning, stacklevel=2)
    return str(part)


def is_weight_file(weights: str | Path) -> bool:
    """Return whether weights are ``FILE`` or ``FILE:PART``, there or not; else they are weights by name.

    Examples
    --------
    >>> is_weight_file("absent.pt"), is_weight_file("absent.pt:teacher"), is_weight_file("IMAGENET1K_V1")
    (True, True, False)
    """
    names = (str(weights), str(weights).rpartition(":")[0])
    return _split_part(weights)[0].is_file() or any(Path(name).suffix in _SUFFIXES for name in names)


def _split_part(weights: str | Path) -> tuple[Path, str]:
    """Return the file and the part of it, or an empty text, that ``FILE:PART`` names.

    Examples
    --------
    >>> _split_part("net.pt")[1]
    ''
    """
    path, (file, colon, part) = Path(weights), str(weights).rpartition(":")
    return (Path(file), part) if colon and not path.is_file() and Path(file).is_file() else (path, "")


def _read(path: Path) -> Any:
    """Read what a file holds, without running anything in it."""
    if not path.is_file():
        raise ArgumentError(f"weights {str(path)!r}: there is no such file.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)|global (\S+)", str(error))
        objects = f"Python objects ({found[1] or found[2]})" if found else "something else than tensors"
        raise ModelError(
            f"weights {path}: refused, and nothing in it was run: it is damaged, or holds {objects}, which could run "
            "code. Save the tensors alone: torch.save(model.state_dict(), path)."
        ) from None
    except (RuntimeError, EOFError, OSError) as error:
        raise ModelError(f"weights {path}: cannot be read: {str(error).partition('. ')[0]}.") from error
    except Exception as error:  # the reader of older files raises many kinds for what is none
        raise ModelError(
            f"weights {path}: cannot be read: it is damaged, or no file that torch.save wrote "
            f"({type(error).__name__}: {error})."
        ) from error


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError:
        raise ModelError(
            f"weights {path}: need the package safetensors, which is absent. Install it: pip install safetensors."
        ) from None
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"weights {path}: cannot be read: {error}.") from error


def _flattened(content: Any) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Return all tensors of nested mappings by their full names, and where there are some, the most of them first."""
    tensors: dict[str, Any] = {}
    counts: dict[tuple[str, ...], int] = {}

    def walk(mapping: Mapping[Any, Any], keys: tuple[str, ...]) -> None:
        own = {
            str(key): value for key, value in mapping.items() if isinstance(value, Tensor) or f"{key}".endswith(_EXTRA)
        }
        if own:
            counts[keys] = len(own)
            tensors.update({".".join([*keys, key]): value for key, value in own.items()})
        for key, value in mapping.items():
            if isinstance(value, Mapping) and str(key) not in own:
                walk(value, (*keys, str(key)))

    if isinstance(content, Mapping):
        walk(content, ())
    return _renamed_as_today(tensors), sorted(counts, key=lambda keys: -counts[keys])


def _chosen(
    tensors: Mapping[str, Any],
    nestings: Sequence[tuple[str, ...]],
    own: Mapping[str, Any],
    wanted: str,
    without: str,
    source: str,
    name: str,
) -> _Part:
    """Return the one part whose names and shapes are those of the model."""
    parts = []
    for added in _common_starts(own):
        known = {key.removeprefix(added): value for key, value in own.items()}
        for start in _starts(tensors, known) or [_joined(nestings[0])]:
            taken = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
            state = {added + key: value for key, value in taken.items() if not (without and key.startswith(without))}
            nesting = max((keys for keys in nestings if start.startswith(_joined(keys))), key=len, default=())
            prefix = start.removeprefix(_joined(nesting))
            parts.append(_Part(nesting, prefix, added, state, len(tensors) - len(taken)))
    named = [part for part in parts if f".{wanted}." in f".{part.label}."] if wanted else parts
    if not named:
        labels = ", ".join(repr(part.label) for part in parts if part.label)
        raise ArgumentError(f"{source}: has no part {wanted!r} that resembles {name}; it has {labels or 'none'}.")
    fitting = [part for part in named if not _differences(own, part.state)]
    if not fitting:
        part = named[0]
        raise ModelError(
            f"{source}: do not fit {name}: {_differences(own, part.state)}"
            f"{f' (compared with {part})' if part.is_choice else ''}. Pass weights of this architecture and number of "
            "classes, or as model a function of yours that makes another: module:function."
        )
    # The same values in two places are no choice.
    distinct = [fitting[0], *(part for part in fitting[1:] if not _equal(part.state, fitting[0].state))]
    if len(distinct) > 1:
        labels = ", ".join(part.label or "the file itself" for part in distinct)
        example = next(part.label for part in distinct if part.label)
        raise ArgumentError(
            f"{source}: {len(distinct)} parts fit {name}: {labels}. Choose one behind a colon, such as "
            f"{source.removeprefix('weights').strip() or 'FILE'}:{example}."
        )
    return distinct[0]


def _joined(keys: Iterable[str]) -> str:
    return "".join(f"{key}." for key in keys)


def _common_starts(own: Mapping[str, Any]) -> list[str]:
    """Return what all names of a model begin with, up to some dot: nothing, and the names of modules around all."""
    starts, first = [""], next(iter(own), "")
    for place in (found.end() for found in re.finditer(r"\.", first)):
        if all(key.startswith(first[:place]) for key in own):
            starts.append(first[:place])
    return starts


def _starts(tensors: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Return what names of the file have in front of names of the model, the one for most of them first."""
    fits: Counter[str] = Counter()
    for key, value in tensors.items():
        for place in (0, *(found.end() for found in re.finditer(r"\.", key))):
            if key[place:] in own:
                fits[key[:place]] += 1 + (_shape(value) == _shape(own[key[place:]]))
    found: list[str] = []
    for start in sorted(fits, key=lambda start: (-fits[start], len(start))):
        # What lies inside of a part that fits better is one of its layers.
        if not any(start.startswith(better) and fits[start] < fits[better] for better in found):
            found.append(start)
    return found


def _equal(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first if isinstance(first[key], Tensor)
    )


def _differences(own: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    order = {key: place for place, key in enumerate(own)}
    missing = set(own) - set(given)
    shapes = [
        f"{key} ({_shape(given[key])} instead of {_shape(own[key])})"
        for key in own
        if key in given and _shape(own[key]) != _shape(given[key])
    ]
    parts = {
        "missing": sorted(missing, key=lambda key: (key.endswith(_COUNTERS), order[key])),
        "not in the model": [key for key in given if key not in own],
        "of another shape": shapes,
    }
    if all(key.endswith(_COUNTERS) for key in missing) and not parts["not in the model"] and not shapes:
        return ""
    return "; ".join(f"{len(keys)} {what}: {_first(keys)}" for what, keys in parts.items() if keys)


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(getattr(tensor, "shape", ()))


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
