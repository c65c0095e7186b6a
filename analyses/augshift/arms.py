"""What is trained in each arm: the network, what it sees of each image, and its loss."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from probe.analyses.data.crops import crop_batches
from probe.analyses.data.splits import SmallImages, Split
from probe.analyses.nets import AugShift, cifar_resnet, residual_net, seeded
from probe.analyses.training import classification_loss
from probe.errors import ProbeWarning
from probe.variants.padding import with_padding
from probe.variants.sampling import with_sampling

__all__ = ["ARMS", "LARGE_NET", "SMALL_NET", "Arm", "Views", "make_net", "named_weight"]

SMALL_NET, LARGE_NET = "ResNet-8", "ResNet-18"


@dataclass(frozen=True)
class Arm:
    """How a network is made and trained.

    Attributes
    ----------
    sampling
        ``""``: strides; ``"blur"``: BlurPool; ``"polyphase"``: polyphase sampling and circular padding.
    crops
        Whether it is trained on windows at places drawn anew, else on the middle ones.
    weight
        Of the distance of the latents of two views; None for one view of each image.
    longer
        How many times as many steps.
    """

    sampling: str = ""
    crops: bool = True
    weight: float | None = None
    longer: int = 1

    @property
    def n_views(self) -> int:
        """Views of each image in a step."""
        return 1 if self.weight is None else 2

    @property
    def loss(self) -> Callable[..., Tensor]:
        """Of an `AugShift` network and a batch."""
        return classification_loss if self.weight is None else self._of_two_views

    def _of_two_views(self, model: AugShift, first: Tensor, second: Tensor, labels: Tensor) -> Tensor:
        assert self.weight is not None
        return model.loss(first, second, labels, weight=self.weight).total


def named_weight(weight: float) -> str:
    """Return the name of AugShift at a weight."""
    return f"AugShift, weight {weight:g}"


ARMS = {
    "plain, no crops": Arm(crops=False),
    "plain": Arm(),
    "plain, twice the steps": Arm(longer=2),
    "BlurPool": Arm("blur"),
    "polyphase": Arm("polyphase"),
    "two views, weight 0": Arm(weight=0.0),
    **{named_weight(weight): Arm(weight=weight) for weight in (0.1, 1.0, 10.0)},
}
"""By name; all but the first are trained on crops."""


@dataclass(frozen=True)
class Views:
    """Images of which networks see windows.

    Attributes
    ----------
    training, test
        Images that are larger than windows by `room`.
    window, room
        Rows and columns that networks see, and by how much windows can be moved.
    flipped
        Whether mirrored images are of the same class.
    """

    training: Split
    test: Split
    window: int
    room: int
    flipped: bool

    @classmethod
    def of(cls, images: SmallImages, *, window: int, border: int) -> "Views":
        """Put a border of zeros, after normalisation the mean colour, around images."""
        training, test = (
            Split(functional.pad(part.images, (border,) * 4), part.labels) for part in (images.training, images.test)
        )
        return cls(training, test, window, training.images.shape[2] - window, images.flipped)

    @property
    def middle(self) -> Split:
        """The windows in the middle of the test images."""
        return self._middle_of(self.test)

    def _middle_of(self, split: Split) -> Split:
        start = self.room // 2
        middle = slice(start, start + self.window)
        return Split(split.images[:, :, middle, middle], split.labels)

    def batches(self, arm: Arm, *, steps: int, batch_size: int, seed: int) -> Iterator[tuple[Tensor, ...]]:
        """Yield what an arm is trained on; the order of images is that of the seed alone."""
        return crop_batches(
            self.training if arm.crops else self._middle_of(self.training), self.window, steps=arm.longer * steps,
            batch_size=batch_size, seed=seed, flipped=self.flipped, views=arm.n_views,
        )  # fmt: skip


def make_net(net: str, arm: Arm, *, n_classes: int, seed: int, width: int | None = None) -> AugShift:
    """Make an untrained network; all arms of a seed begin with the same weights.

    Parameters
    ----------
    net
        ``"ResNet-8"``, of He et al. for CIFAR, or ``"ResNet-18"`` that begins with 3×3 and stride 1, without pooling.
    arm
        What it is to be.
    n_classes, seed
        Number of classes, and seed of the weights.
    width
        Channels of the first stage.

    Examples
    --------
    >>> make_net("ResNet-8", ARMS["BlurPool"], n_classes=3, seed=0, width=4)(torch.zeros(1, 3, 24, 24)).shape
    torch.Size([1, 3])
    """
    given: dict[str, Any] = {"n_classes": n_classes, "blur": 3 if arm.sampling == "blur" else 0}
    if width is not None:
        given["width"] = width

    def make() -> nn.Module:
        return cifar_resnet(8, **given) if net == SMALL_NET else residual_net(18, small_images=True, **given)

    model = seeded(make, seed)
    if arm.sampling == "polyphase":
        with warnings.catch_warnings(action="ignore", category=ProbeWarning):
            tried = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
            model = with_padding(with_sampling(model, "polyphase"), "circular", images=tried)
    return AugShift(model)
