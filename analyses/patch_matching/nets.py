"""HardNet with the convolution of the original, with full convolution, and with either one's length of descriptor."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NETS", "HardNet", "Layout", "normalised"]

_CHANNELS = (32, 32, 64, 64, 128, 128)
_STRIDES = (1, 1, 2, 1, 2, 1)
_DESCRIPTOR = 128
_SIDE = 32  # pixels of a patch
_GAIN = 0.6
_DROPOUT = 0.3


@dataclass(frozen=True)
class Layout:
    """What tells one HardNet from another.

    Attributes
    ----------
    padding
        Of the 3×3 convolutions.
    window
        Rows and columns of the last convolution.
    last_padding
        Of the last convolution.
    is_pooled
        Whether the last map is averaged.
    """

    padding: int
    window: int = 8
    last_padding: int = 0
    is_pooled: bool = False


NETS = {
    "S-Conv": Layout(padding=1),
    "F-Conv": Layout(padding=2),
    "F-Conv, last window 14×14": Layout(padding=2, window=14),
    "F-Conv, averaged": Layout(padding=2, is_pooled=True),
    "S-Conv, 7×7 outputs": Layout(padding=1, last_padding=3),
}
"""The two that were published, and those that differ from one of them in the length of the descriptor alone."""


class HardNet(nn.Module):
    """The descriptor network of Mishchuk et al. 2017, for patches of 32×32 pixels.

    Six 3×3 convolutions, two of them with stride 2, each with batch normalisation and ReLU; dropout; a convolution
    over the whole map; the result has unit length. Each patch is first brought to mean 0 and deviation 1.

    Parameters
    ----------
    layout
        One of `NETS`.
    width
        Factor to all numbers of channels but that of the descriptor.
    seed
        Of the weights and of dropout. The random state of torch stays as it was.

    References
    ----------
    Mishchuk, Mishkin, Radenovic, Matas: Working hard to know your neighbor's margins. NeurIPS 2017.

    Examples
    --------
    >>> patches = torch.rand(2, 1, 32, 32)
    >>> {name: HardNet(NETS[name]).eval()(patches).shape[1] for name in ("S-Conv", "F-Conv")}
    {'S-Conv': 128, 'F-Conv': 6272}
    """

    def __init__(self, layout: Layout, *, width: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            modules: list[nn.Module] = []
            n_inputs = 1
            for channels, stride in zip(_CHANNELS, _STRIDES, strict=True):
                n_outputs = max(1, round(width * channels))
                modules += [
                    nn.Conv2d(n_inputs, n_outputs, 3, stride, layout.padding, bias=False),
                    nn.BatchNorm2d(n_outputs, affine=False),
                    nn.ReLU(),
                ]
                n_inputs = n_outputs
            self.features = nn.Sequential(
                *modules,
                _Dropout(seed),
                nn.Conv2d(n_inputs, _DESCRIPTOR, layout.window, padding=layout.last_padding, bias=False),
                nn.BatchNorm2d(_DESCRIPTOR, affine=False),
            )
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.orthogonal_(module.weight, gain=_GAIN)
        self.is_pooled = layout.is_pooled

    def forward(self, patches: Tensor) -> Tensor:
        """Return descriptors of patches of shape (patch, 1, 32, 32), shape (patch, number)."""
        maps = self.features(normalised(patches))
        if self.is_pooled:
            maps = maps.mean(dim=(2, 3))
        return functional.normalize(maps.flatten(1), eps=1e-5)

    def cost(self) -> tuple[int, int]:
        """Return how many numbers a descriptor has, and the products that one patch takes.

        Examples
        --------
        >>> HardNet(NETS["S-Conv"]).cost(), HardNet(NETS["F-Conv"]).cost()
        ((128, 39092224), (6272, 126086272))
        """
        side, products = _SIDE, 0
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                window, stride, padding = module.kernel_size[0], module.stride[0], int(module.padding[0])
                side = (side + 2 * padding - window) // stride + 1
                products += side**2 * module.weight.numel()
        return _DESCRIPTOR * (1 if self.is_pooled else side**2), products


class _Dropout(nn.Module):
    """Dropout with draws of its own, so that networks trained side by side do not share a random state."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, maps: Tensor) -> Tensor:
        if not self.training:
            return maps
        kept = torch.rand(maps.shape, generator=self.generator) >= _DROPOUT
        return maps * kept.to(maps.device) / (1 - _DROPOUT)


def normalised(patches: Tensor) -> Tensor:
    """Bring each patch to mean 0 and deviation 1; a patch of one grey becomes 0."""
    deviation, mean = torch.std_mean(patches, dim=(1, 2, 3), keepdim=True)
    return (patches - mean) / (deviation + 1e-7)
