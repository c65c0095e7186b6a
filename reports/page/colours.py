"""The colours of pages. Blue and orange mean natural and rolled images, and nothing else."""

__all__ = ["COLOURS"]

COLOURS = ("#029e73", "#cc78bc", "#5b3a8e", "#a0793d", "#1a1a1a", "#8a8a8a", "#c9b900")
"""Green, pink, purple, brown, black, grey, yellow: for all else, told apart by colour-blind readers by lightness."""
