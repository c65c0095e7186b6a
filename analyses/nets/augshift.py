"""AugShift: a classifier that is trained on two shifted views of each image."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from probe.errors import ModelError
from probe.models.copies import copied
from probe.models.modules import unwrap

__all__ = ["AugShift", "AugShiftLoss"]


@dataclass(frozen=True)
class AugShiftLoss:
    """The terms of the loss of `AugShift`: of two views, the mean cross-entropy, and the distance of their latents."""

    total: Tensor
    classes: Tensor
    distance: Tensor


class AugShift(nn.Module):
    """A classifier that is trained on two shifted views of each image, whose pooled features are pulled together.

    The commonest uses::

        net = AugShift(cifar_resnet(20))
        net.loss(first_crops, second_crops, labels).total.backward()
        net.loss(first_crops, second_crops, labels, weight=0.1).total.backward()

    Loss = ½ · (cross-entropy of the first view + that of the second) + weight · mean over images and channels of
    (latent of the first view − latent of the second)². The latent is what the last linear layer is given, the map
    after global pooling. Both views go through the network in one batch, so that batch normalisation sees them
    together. Weight, latent and mean are ours: the source tells the two terms, and has published no code.

    Parameters
    ----------
    model : nn.Module
        A classifier whose output is that of its last linear layer. It stays as it was; a copy is trained.

    Attributes
    ----------
    encoder : nn.Module
        The copy, with the identity in the place of its last linear layer: images in, latents out.
    head : nn.Linear
        That layer.

    Raises
    ------
    ModelError
        If the model has no linear layer.

    References
    ----------
    Islam, Kowal, Jia, Derpanis, Bruce: Global Pooling, More than Meets the Eye. ICCV 2021.

    Examples
    --------
    >>> from probe.analyses.nets.small import small_net
    >>> net = AugShift(small_net())
    >>> images, labels = torch.zeros(4, 1, 16, 16), torch.zeros(4, dtype=torch.long)
    >>> net(images).shape, net.loss(images, images, labels).distance.item()
    (torch.Size([4, 10]), 0.0)
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.encoder = copied(unwrap(model))
        names = [name for name, module in self.encoder.named_modules() if isinstance(module, nn.Linear)]
        if not names or not names[-1]:
            raise ModelError(
                f"model: {type(model).__name__} has no linear layer behind others, so it has no latent. Pass a "
                "classifier that ends in one."
            )
        self.head = self.encoder.get_submodule(names[-1])
        self.encoder.set_submodule(names[-1], nn.Identity())

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores of images, shape (image, class)."""
        return self.head(self.encoder(images))

    def loss(self, first: Tensor, second: Tensor, labels: Tensor, *, weight: float = 1.0) -> AugShiftLoss:
        """Return the loss of two views of the same images.

        Parameters
        ----------
        first, second
            Shape (image, channel, row, column).
        labels
            Shape (image,).
        weight
            Of the distance of the latents.
        """
        latents = self.encoder(torch.cat([first, second]))
        classes = functional.cross_entropy(self.head(latents), torch.cat([labels, labels]))
        distance = functional.mse_loss(*latents.chunk(2))
        return AugShiftLoss(classes + weight * distance, classes, distance)
