"""Maps of three axes as a row of frames."""

import numpy as np

__all__ = ["MOST_FRAMES", "shown_frames", "strip_of", "strip_width"]

MOST_FRAMES = 8
_GAP = 0.06  # between frames, of the width of one


def strip_of(values: np.ndarray, most: int = MOST_FRAMES) -> tuple[np.ndarray, list[float], list[int]]:
    """Lay frames side by side, evenly spaced ones if there are more than fit, the first and the last among them.

    Parameters
    ----------
    values
        Shape (frame, row, column).
    most
        Frames that fit.

    Returns
    -------
    image : numpy.ndarray
        Shape (row, column), NaN between the frames.
    middles : list of float
        Column in the middle of each frame.
    numbers : list of int
        Which frames they are, from 0.

    Examples
    --------
    >>> image, middles, numbers = strip_of(np.zeros((20, 4, 10)), most=3)
    >>> image.shape, middles, numbers
    ((4, 32), [4.5, 15.5, 26.5], [0, 10, 19])
    """
    n_frames, height, width = values.shape
    numbers = shown_frames(n_frames, most)
    gap = max(round(_GAP * width), 1)
    between = np.full((height, gap), np.nan)
    parts = [part for number in numbers for part in (values[number].astype(float), between)][:-1]
    middles = [place * (width + gap) + (width - 1) / 2 for place in range(len(numbers))]
    return np.concatenate(parts, axis=1), middles, numbers


def shown_frames(n_frames: int, most: int = MOST_FRAMES) -> list[int]:
    """Return which of the frames are drawn: all that fit, evenly spaced, the first and the last among them.

    Examples
    --------
    >>> shown_frames(3), shown_frames(20, most=3)
    ([0, 1, 2], [0, 10, 19])
    """
    return np.linspace(0, n_frames - 1, min(n_frames, most)).round().astype(int).tolist()


def strip_width(size: tuple[int, ...], most: int = MOST_FRAMES) -> float:
    """Return how many times wider than high a map is drawn: a strip if it has frames.

    Examples
    --------
    >>> strip_width((8, 16)), round(strip_width((4, 8, 8)), 2)
    (2.0, 4.38)
    """
    height, width = size[-2:]
    if len(size) == 2:
        return width / height
    n_frames = min(size[0], most)
    return (n_frames * width + (n_frames - 1) * max(round(_GAP * width), 1)) / height
