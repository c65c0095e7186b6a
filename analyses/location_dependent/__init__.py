"""Tasks that need absolute position, after Islam et al. (2021), learned under each padding and canvas."""
