"""Which images this process reads of all: its share, as a shard or as a rank of a group of processes."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Share"]


@dataclass(frozen=True)
class Share:
    """Every `of`-th image, from the one at place `place` on.

    Examples
    --------
    >>> [number for number in range(100, 110) if Share(2, 4).has(number, first_image=100)]
    [102, 106]
    >>> str(Share(2, 4))
    '3/4'
    """

    place: int = 0
    of: int = 1

    def __str__(self) -> str:
        return f"{self.place + 1}/{self.of}"

    def has(self, number: int, first_image: int) -> bool:
        """Tell whether an image is in it."""
        return (number - first_image) % self.of == self.place

    def beside(self, path: Path) -> Path:
        """Return the name of this share's own file, where there are several."""
        return path if self.of == 1 else path.with_name(f"{path.name}.{self.place + 1}-of-{self.of}")
