"""What global pooling leaves of position.

After Islam et al. (2021): networks that tell the place of an image from pooled channels, in their order and permuted.
"""
