"""Networks that end in global average pooling, with the order of their channels kept or lost."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

__all__ = ["NETS", "PooledNet", "resnet18_body"]

NETS = ("GAPNet", "PermuteNet", "PermuteNet, by image", "unpermuted")
"""The two published networks, PermuteNet with a permutation for each image, and PermuteNet without any."""

_PERMUTED = {"PermuteNet": "batch", "PermuteNet, by image": "image"}


def resnet18_body(width: int = 64) -> nn.Sequential:
    """Make the convolutions of a ResNet-18 for small images: 7×7 with stride 2, no max-pool, four stages.

    Parameters
    ----------
    width
        Channels of the first stage; each later one has twice as many.

    Returns
    -------
    torch.nn.Sequential
        Takes images of shape (image, 3, row, column), gives maps of 8 · `width` channels and a 16th of the size.

    References
    ----------
    Islam, Kowal, Jia, Derpanis, Bruce: Global Pooling, More than Meets the Eye. ICCV 2021.

    Examples
    --------
    >>> resnet18_body(width=4)(torch.zeros(2, 3, 96, 96)).shape
    torch.Size([2, 32, 6, 6])
    """
    from torchvision.models.resnet import BasicBlock  # only this net needs torchvision, which takes a second to load

    modules: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False), bn1=nn.BatchNorm2d(width), relu=nn.ReLU()
    )
    n_inputs = width
    for number, n_outputs in enumerate((width, 2 * width, 4 * width, 8 * width), start=1):
        stride = n_outputs // n_inputs
        shortcut = None
        if stride > 1:
            projection = nn.Conv2d(n_inputs, n_outputs, 1, stride=stride, bias=False)
            shortcut = nn.Sequential(projection, nn.BatchNorm2d(n_outputs))
        first = BasicBlock(n_inputs, n_outputs, stride, shortcut)
        modules[f"layer{number}"] = nn.Sequential(first, BasicBlock(n_outputs, n_outputs))
        n_inputs = n_outputs
    return nn.Sequential(modules)


class PooledNet(nn.Module):
    """A ResNet-18 that ends in global average pooling.

    Parameters
    ----------
    name
        One of `NETS`.
    n_classes
        Number of classes.
    width
        Channels of the first stage; the last has eight times as many.
    seed
        Of the weights and of the permutations. The random state of torch stays as it was.

    Examples
    --------
    >>> PooledNet("PermuteNet", n_classes=9, width=2)(torch.zeros(4, 3, 48, 48)).shape
    torch.Size([4, 9])
    """

    def __init__(self, name: str, *, n_classes: int, width: int = 64, seed: int = 0) -> None:
        super().__init__()
        self.permuted = _PERMUTED.get(name)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.body = resnet18_body(width)
            self.head = (
                nn.Conv2d(8 * width, n_classes, 3, padding=1) if name == "GAPNet" else nn.Linear(8 * width, n_classes)
            )
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores of images, shape (image, class)."""
        maps = self.body(images)
        if isinstance(self.head, nn.Conv2d):
            return self.head(maps).mean(dim=(2, 3))
        return self.head(self._permute(maps.mean(dim=(2, 3))))

    def _permute(self, vectors: Tensor) -> Tensor:
        if self.permuted is None:
            return vectors
        n_orders = 1 if self.permuted == "batch" else len(vectors)
        order = torch.rand(n_orders, vectors.shape[1], generator=self._generator).argsort(dim=1)
        return vectors.gather(1, order.to(vectors.device).expand_as(vectors))
