"""Actions told from clips by networks of three axes, with truncated, full and circular convolution in space and time."""
