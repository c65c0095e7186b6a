"""What kind of module this is: a linear layer, a convolution, a patch embedding, a transformer block."""

import re
from collections.abc import Iterator
from typing import Protocol, TypeGuard

from torch import nn

__all__ = ["Convolution", "Linear", "is_convolution", "is_default_layer", "is_linear", "plain_convolutions"]

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_PATCH_EMBEDDING = re.compile("patch_?(embed|merg)", re.IGNORECASE)
_ATTENTION = re.compile("attn|attention", re.IGNORECASE)


class Linear(Protocol):
    """What is known of every linear layer, whatever its class."""

    in_features: int
    out_features: int


class Convolution(Protocol):
    """What is known of every convolution, whatever its class."""

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]


def is_linear(module: nn.Module) -> TypeGuard[Linear]:
    """Tell a linear layer, also one that is none of torch's class, as those of quantised models are.

    Examples
    --------
    >>> is_linear(nn.Linear(2, 3)), is_linear(nn.Bilinear(2, 2, 3))
    (True, False)
    """
    return isinstance(module, nn.Linear) or (
        _has_widths(module, "in_features", "out_features") and not any(map(is_linear, _parts(module)))
    )


def is_convolution(module: nn.Module) -> TypeGuard[Convolution]:
    """Tell a convolution of maps, also one that is none of torch's classes, as those of quantised models are.

    Examples
    --------
    >>> is_convolution(nn.ConvTranspose2d(2, 3, 3)), is_convolution(nn.Conv1d(2, 3, 3))
    (True, False)
    """
    if isinstance(module, _CONVOLUTIONS):
        return True
    kernel = vars(module).get("kernel_size")
    return (
        isinstance(kernel, tuple)
        and len(kernel) in (2, 3)
        and not isinstance(module, nn.Conv1d | nn.ConvTranspose1d)
        and _has_widths(module, "in_channels", "out_channels")
        and not any(map(is_convolution, _parts(module)))
    )


def _has_widths(module: nn.Module, *names: str) -> bool:
    """Tell a module that keeps these numbers itself; properties are the user's code, which is not run."""
    return all(isinstance(vars(module).get(name), int) for name in names)


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    return (part for part in module.modules() if part is not module)


def plain_convolutions(model: nn.Module) -> Iterator[Convolution]:
    """Yield the convolutions among a model's modules; transposed ones aside.

    Examples
    --------
    >>> list(plain_convolutions(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(2, 1, 3))))
    [Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))]
    """
    for module in model.modules():
        if is_convolution(module) and not getattr(module, "transposed", False):
            yield module


def is_default_layer(module: nn.Module) -> bool:
    """Tell whether ``layers="auto"`` reads this module: a convolution, patch embedding or transformer block."""
    return is_convolution(module) or _is_patch_embedding(module) or _is_transformer_block(module)


def _is_patch_embedding(module: nn.Module) -> bool:
    return bool(_PATCH_EMBEDDING.search(type(module).__name__)) and not list(plain_convolutions(module))


def _is_transformer_block(module: nn.Module) -> bool:
    """Tell a block by its parts: attention, and beside it a perceptron, at least two linear layers without any.

    The tokens of a decoder are queries, which lie on no grid.
    """
    if "decoder" in type(module).__name__.lower():
        return False
    parts = dict(module.named_children())
    attention = {name for name, part in parts.items() if _is_attention(name, part)}
    beside = [part for name, part in parts.items() if name not in attention and not _holds_attention(part)]
    return bool(attention) and sum(map(_count_linear, beside)) >= 2


def _is_attention(name: str, module: nn.Module) -> bool:
    is_named_so = _ATTENTION.search(name) or _ATTENTION.search(type(module).__name__)
    return bool(is_named_so) and any(map(_count_linear, module.children()))


def _holds_attention(module: nn.Module) -> bool:
    return any(_is_attention(name.rpartition(".")[2], part) for name, part in module.named_modules())


def _count_linear(module: nn.Module) -> int:
    return sum(map(is_linear, module.modules()))
