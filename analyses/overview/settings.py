"""How much of a model is measured."""

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Settings"]


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes
    ----------
    max_images : int or None
        Images that are read; None for all.
    draws : int
        Random subspaces and random choices of channels.
    ranks : tuple of int
        Directions that are erased.
    samples : int
        Cells that perceptrons are shown.
    paddings : tuple of str
        That are swapped in.
    widest : int
        Channels of a layer whose 3×3 neighbourhoods are read.
    erased : int
        Layers that are erased in turn, the last ones.
    traced : int
        Layers whose change towards the border is measured, from the first to the last.
    diagonal : bool
        Whether predictions are compared at every offset along the diagonal.
    """

    max_images: int | None = None
    draws: int = 20
    ranks: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    samples: int = 20_000
    paddings: tuple[str, ...] = ("reflect", "replicate", "circular", "valid")
    widest: int = 512
    erased: int = 6
    traced: int = 6
    diagonal: bool = True


QUICK = Settings(
    max_images=200,
    draws=5,
    ranks=(2, 8),
    samples=4_000,
    paddings=("circular",),
    widest=128,
    erased=3,
    traced=4,
    diagonal=False,
)
"""Under five minutes on two cores for a ResNet-18."""

FULL = Settings()
